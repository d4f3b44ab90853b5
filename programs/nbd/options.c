/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * options.c - the command line, into an NbdOptions
 *
 * Its words, and those of its mistakes, are qemu-nbd's.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "programs/common/object-option.h"
#include "programs/common/trace-option.h"
#include "programs/nbd/nbd.h"
#include "qapi/keyval.h"
#include "qapi/type.h"
#include "util/cutils.h"

/* The protocol's limit of a name, and of a text about one. */
#define STRING_BYTES_MAX    4096
#define HANDSHAKE_SECONDS   10
#define CLIENTS_MAX_DEFAULT 1

/* Values of getopt_long() for options without a letter. */
enum {
    OPT_AIO = 256,
    OPT_CACHE,
    OPT_DETECT_ZEROES,
    OPT_DISCARD,
    OPT_FORK,
    OPT_HANDSHAKE_LIMIT,
    OPT_IMAGE_OPTS,
    OPT_OBJECT,
    OPT_PID_FILE,
    OPT_SELINUX_LABEL,
    OPT_TLS_AUTHZ,
    OPT_TLS_CREDS,
    OPT_TLS_HOSTNAME,
};

static const struct option long_options[] = {
    {"aio", required_argument, NULL, OPT_AIO},
    {"allocation-depth", no_argument, NULL, 'A'},
    {"bind", required_argument, NULL, 'b'},
    {"bitmap", required_argument, NULL, 'B'},
    {"cache", required_argument, NULL, OPT_CACHE},
    {"connect", required_argument, NULL, 'c'},
    {"description", required_argument, NULL, 'D'},
    {"detect-zeroes", required_argument, NULL, OPT_DETECT_ZEROES},
    {"discard", required_argument, NULL, OPT_DISCARD},
    {"disconnect", no_argument, NULL, 'd'},
    {"export-name", required_argument, NULL, 'x'},
    {"fork", no_argument, NULL, OPT_FORK},
    {"format", required_argument, NULL, 'f'},
    {"handshake-limit", required_argument, NULL, OPT_HANDSHAKE_LIMIT},
    {"help", no_argument, NULL, 'h'},
    {"image-opts", no_argument, NULL, OPT_IMAGE_OPTS},
    {"list", no_argument, NULL, 'L'},
    {"load-snapshot", required_argument, NULL, 'l'},
    {"nocache", no_argument, NULL, 'n'},
    {"object", required_argument, NULL, OPT_OBJECT},
    {"offset", required_argument, NULL, 'o'},
    {"persistent", no_argument, NULL, 't'},
    {"pid-file", required_argument, NULL, OPT_PID_FILE},
    {"port", required_argument, NULL, 'p'},
    {"read-only", no_argument, NULL, 'r'},
    {"selinux-label", required_argument, NULL, OPT_SELINUX_LABEL},
    {"shared", required_argument, NULL, 'e'},
    {"snapshot", no_argument, NULL, 's'},
    {"socket", required_argument, NULL, 'k'},
    {"tls-authz", required_argument, NULL, OPT_TLS_AUTHZ},
    {"tls-creds", required_argument, NULL, OPT_TLS_CREDS},
    {"tls-hostname", required_argument, NULL, OPT_TLS_HOSTNAME},
    {"trace", required_argument, NULL, 'T'},
    {"verbose", no_argument, NULL, 'v'},
    {"version", no_argument, NULL, 'V'},
    {0},
};

/* Options that list mode does not go with. */
static bool is_per_device(int c)
{
    switch (c) {
    case 'A':
    case 'B':
    case 'c':
    case 'D':
    case 'f':
    case 'l':
    case 'n':
    case 'o':
    case 'x':
    case OPT_AIO:
    case OPT_CACHE:
    case OPT_DISCARD:
        return true;
    default:
        return false;
    }
}

static bool parse_u32(const char *what, const char *text, uint32_t *ret)
{
    uint64_t value;

    if (qemu_strtou64(text, NULL, 0, &value) < 0 || value > INT32_MAX) {
        error_report("Invalid %s '%s'", what, text);
        return false;
    }
    *ret = (uint32_t)value;
    return true;
}

static bool parse_offset(NbdOptions *o, const char *text)
{
    uint64_t value;

    if (qemu_strtou64(text, NULL, 0, &value) < 0 || value > INT64_MAX) {
        error_report("Invalid offset '%s'", text);
        return false;
    }
    o->offset = (int64_t)value;
    return true;
}

static bool parse_cache(NbdOptions *o, const char *word)
{
    ImgCache cache;

    if (o->image.cache) {
        error_report("-n and --cache can only be specified once");
        return false;
    }
    if (!img_cache_parse(word, &cache)) {
        error_report("Invalid cache mode `%s'", word);
        return false;
    }
    o->image.cache = word;
    o->writethrough = cache.writethrough;
    return true;
}

static bool parse_aio(NbdOptions *o, const char *word)
{
    int aio = qapi_enum_parse(&BlockdevAioOptions_lookup, word, -1, NULL);

    if (o->image.has_aio) {
        error_report("--aio can only be specified once");
        return false;
    }
    if (aio < 0) {
        error_report("Invalid aio mode '%s'", word);
        return false;
    }
    o->image.has_aio = true;
    o->image.aio = (BlockdevAioOptions)aio;
    return true;
}

static bool parse_discard(NbdOptions *o, const char *word, bool *seen)
{
    bool unmap = !strcmp(word, "unmap") || !strcmp(word, "on");

    if (*seen) {
        error_report("--discard can only be specified once");
        return false;
    }
    if (!unmap && strcmp(word, "ignore") && strcmp(word, "off")) {
        error_report("Invalid discard mode `%s'", word);
        return false;
    }
    *seen = true;
    o->image.keep_discarded = !unmap;
    return true;
}

static bool parse_detect_zeroes(NbdOptions *o, const char *word)
{
    int mode = qapi_enum_parse(&BlockdevDetectZeroesOptions_lookup, word, -1, NULL);

    if (mode < 0) {
        error_report("Failed to parse detect_zeroes mode: invalid parameter value: %s", word);
        return false;
    }
    o->detect_zeroes = (BlockdevDetectZeroesOptions)mode;
    return true;
}

/* A name, or an id, or snapshot.name=... and snapshot.id=... */
static bool parse_load_snapshot(NbdOptions *o, const char *text)
{
    json_auto_t *tree = NULL;
    Error *err = NULL;
    const char *key;
    json_t *ignored;

    o->load_snapshot = text;
    o->image.writable = false;
    if (!strstart(text, "snapshot.", NULL)) {
        return true;
    }
    tree = keyval_parse(text, NULL, NULL, &err);
    json_object_foreach(json_object_get(tree, "snapshot"), key, ignored)
    {
        if (!err && strcmp(key, "id") != 0 && strcmp(key, "name") != 0) {
            error_setg(&err, "Invalid parameter 'snapshot.%s'", key);
        }
    }
    if (err) {
        error_report_err(err);
        error_report("Failed in parsing snapshot param `%s'", text);
        return false;
    }
    return true;
}

static bool parse_text(const char *what, const char *text, const char **ret)
{
    if (strlen(text) > STRING_BYTES_MAX) {
        error_report("export %s '%s' too long", what, text);
        return false;
    }
    *ret = text;
    return true;
}

static bool parse_socket(NbdOptions *o, const char *path)
{
    if (*path != '/') {
        error_report("socket path must be absolute");
        return false;
    }
    o->socket = path;
    return true;
}

/* Options with a value that may be wrong. */
static bool take_checked(NbdOptions *o, int c, const char *value, bool *seen_discard)
{
    switch (c) {
    case 'e':
        return parse_u32("shared device number", value, &o->clients_max);
    case 'k':
        return parse_socket(o, value);
    case 'l':
        return parse_load_snapshot(o, value);
    case 'n':
        return parse_cache(o, "none");
    case 'o':
        return parse_offset(o, value);
    case 'D':
        return parse_text("description", value, &o->description);
    case 'x':
        return parse_text("name", value, &o->export_name);
    case OPT_AIO:
        return parse_aio(o, value);
    case OPT_CACHE:
        return parse_cache(o, value);
    case OPT_DETECT_ZEROES:
        return parse_detect_zeroes(o, value);
    case OPT_DISCARD:
        return parse_discard(o, value, seen_discard);
    case OPT_HANDSHAKE_LIMIT:
        return parse_u32("handshake limit", value, &o->handshake_seconds);
    case OPT_SELINUX_LABEL:
        error_report("SELinux labels of sockets are not supported");
        return false;
    default:
        return true;
    }
}

static void take_flag(NbdOptions *o, int c)
{
    switch (c) {
    case 'A':
        o->allocation_depth = true;
        break;
    case 'd':
        o->disconnect = true;
        break;
    case 'L':
        o->list = true;
        break;
    case 'r':
        o->image.writable = false;
        break;
    case 's':
        o->snapshot = true;
        break;
    case 't':
        o->persistent = true;
        break;
    case 'v':
        o->verbose = true;
        break;
    case OPT_FORK:
        o->fork = true;
        break;
    case OPT_IMAGE_OPTS:
        o->image.image_opts = true;
        break;
    }
}

static void take_word(NbdOptions *o, int c, const char *value)
{
    switch (c) {
    case 'b':
        o->bind = value;
        break;
    case 'B':
        g_ptr_array_add(o->bitmaps, (char *)value);
        break;
    case 'c':
        o->device = value;
        break;
    case 'f':
        o->image.format = value;
        break;
    case 'p':
        o->port = value;
        break;
    case OPT_PID_FILE:
        o->pid_file = value;
        break;
    case OPT_TLS_AUTHZ:
        o->tls_authz = value;
        break;
    case OPT_TLS_CREDS:
        o->tls_creds = value;
        break;
    case OPT_TLS_HOSTNAME:
        o->tls_hostname = value;
        break;
    }
}

/* --trace and --object, which have help of their own. */
static int take_shared(int (*parse)(const char *text, Error **errp), const char *text)
{
    Error *err = NULL;
    int r = parse(text, &err);

    if (r < 0) {
        error_report_err(err);
    }
    return r == 0 ? NBD_OPTIONS_OK : r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int take_option(NbdOptions *o, int c, const char *value, bool *seen_discard)
{
    switch (c) {
    case 'h':
        nbd_print_help();
        return EXIT_SUCCESS;
    case 'V':
        nbd_print_version();
        return EXIT_SUCCESS;
    case 'T':
        return take_shared(trace_option_parse, value);
    case OPT_OBJECT:
        return take_shared(object_option_parse, value);
    case '?':
        error_report("Try `%s --help' for more information.", error_get_progname());
        return EXIT_FAILURE;
    default:
        o->per_device |= is_per_device(c);
        take_flag(o, c);
        take_word(o, c, value);
        return take_checked(o, c, value, seen_discard) ? NBD_OPTIONS_OK : EXIT_FAILURE;
    }
}

/* What does not go together; NULL: all is well. */
static const char *why_not(const NbdOptions *o, int n_operands)
{
    if (o->detect_zeroes == BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP && o->image.keep_discarded) {
        return "setting detect-zeroes to unmap is not allowed without setting discard operation to "
               "unmap";
    }
    if (o->list && n_operands > 0) {
        return "List mode is incompatible with a file name";
    }
    if (o->list && (o->per_device || o->disconnect)) {
        return "List mode is incompatible with per-device settings";
    }
    if (o->list && o->fork) {
        return "List mode is incompatible with forking";
    }
    if (o->tls_authz && !o->tls_creds) {
        return "--tls-authz is not permitted without --tls-creds";
    }
    if (o->tls_hostname && !o->tls_creds) {
        return "--tls-hostname is not permitted without --tls-creds";
    }
    if (o->tls_hostname && !o->list) {
        return "TLS hostname is only supported with list mode";
    }
    if (o->tls_authz && o->list) {
        return "TLS authorization is incompatible with export list";
    }
    if (o->image.image_opts && o->image.format) {
        return "--image-opts and -f are mutually exclusive";
    }
    return NULL;
}

static int check(NbdOptions *o, int n_operands)
{
    const char *why = why_not(o, n_operands);

    if (why) {
        error_report("%s", why);
        return EXIT_FAILURE;
    }
    if (!o->list && n_operands != 1) {
        error_report("Invalid number of arguments");
        fprintf(stderr, "Try `%s --help' for more information.\n", error_get_progname());
        return EXIT_FAILURE;
    }
    return NBD_OPTIONS_OK;
}

int nbd_options_parse(int argc, char **argv, NbdOptions *o)
{
    bool seen_discard = false;
    int c, status = NBD_OPTIONS_OK;

    *o = (NbdOptions){
        .image = {.writable = true, .keep_discarded = true},
        .export_name = "",
        .clients_max = CLIENTS_MAX_DEFAULT,
        .handshake_seconds = HANDSHAKE_SECONDS,
        .bitmaps = g_ptr_array_new(),
    };
    while (status == NBD_OPTIONS_OK &&
           (c = getopt_long(argc, argv, "hVb:o:p:rsnc:dvk:e:f:tl:x:T:D:AB:L", long_options,
                            NULL)) != -1) {
        status = take_option(o, c, optarg, &seen_discard);
    }
    if (status == NBD_OPTIONS_OK) {
        status = check(o, argc - optind);
    }
    o->image.filename = argv[optind];
    return status;
}

void nbd_options_clear(NbdOptions *o)
{
    g_ptr_array_free(o->bitmaps, TRUE);
    object_options_clear();
}
