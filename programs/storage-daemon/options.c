/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * options.c - the command line, into a DaemonOptions
 *
 * Everything is parsed before anything is made: a mistake in the last option leaves no trace of the first.
 * What the options make is made later, in their order.
 */
#include "daemon.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "programs/common/trace-option.h"
#include "qapi/json-parser.h"
#include "qapi/keyval.h"
#include "qapi/type.h"

/* Values of getopt_long() for options without a letter. */
enum {
    OPT_AIO = 256,
    OPT_DAEMONIZE,
    OPT_PIDFILE,
    OPT_MAKE, /* + DaemonOptionKind */
};

static const struct {
    const char *name;
    const char *implied_key; /* the key of a first word without '='; NULL: none */
} make_options[DAEMON_OPT__MAX] = {
    [DAEMON_OPT_BLOCKDEV] = {"--blockdev", "driver"},
    [DAEMON_OPT_CHARDEV] = {"--chardev", "backend"},
    [DAEMON_OPT_DRIVE] = {"--drive", NULL},
    [DAEMON_OPT_EXPORT] = {"--export", "type"},
    [DAEMON_OPT_MONITOR] = {"--monitor", "chardev"},
    [DAEMON_OPT_NBD_SERVER] = {"--nbd-server", NULL},
    [DAEMON_OPT_OBJECT] = {"--object", "qom-type"},
};

static const struct option long_options[] = {
    {"aio", required_argument, NULL, OPT_AIO},
    {"blockdev", required_argument, NULL, OPT_MAKE + DAEMON_OPT_BLOCKDEV},
    {"chardev", required_argument, NULL, OPT_MAKE + DAEMON_OPT_CHARDEV},
    {"daemonize", no_argument, NULL, OPT_DAEMONIZE},
    {"drive", required_argument, NULL, OPT_MAKE + DAEMON_OPT_DRIVE},
    {"export", required_argument, NULL, OPT_MAKE + DAEMON_OPT_EXPORT},
    {"help", no_argument, NULL, 'h'},
    {"monitor", required_argument, NULL, OPT_MAKE + DAEMON_OPT_MONITOR},
    {"nbd-server", required_argument, NULL, OPT_MAKE + DAEMON_OPT_NBD_SERVER},
    {"object", required_argument, NULL, OPT_MAKE + DAEMON_OPT_OBJECT},
    {"pidfile", required_argument, NULL, OPT_PIDFILE},
    {"trace", required_argument, NULL, 'T'},
    {"version", no_argument, NULL, 'V'},
    {0},
};

/* What follows "help" or precedes ",help"; NULL: @text does not ask for help. */
static bool option_asks_for_help(const char *text, char **ret_what)
{
    if (!strcmp(text, "help") || !strcmp(text, "?")) {
        *ret_what = NULL;
        return true;
    }
    if (g_str_has_suffix(text, ",help") && *text != '{') {
        *ret_what = g_strndup(text, strcspn(text, ","));
        return true;
    }
    return false;
}

/* Objects are shown by type and name: what else was written may be a passphrase. */
void daemon_prepend_option(const DaemonOption *opt, Error **errp)
{
    const char *type = json_string_value(json_object_get(opt->tree, "qom-type"));
    const char *id = json_string_value(json_object_get(opt->tree, "id"));

    if (opt->kind != DAEMON_OPT_OBJECT) {
        error_prepend(errp, "%s %s: ", opt->name, opt->text);
    } else if (type && id) {
        error_prepend(errp, "%s %s,id=%s: ", opt->name, type, id);
    } else {
        error_prepend(errp, "%s %s: ", opt->name, type ? type : "...");
    }
}

static int parse_make_option(DaemonOptions *opts, DaemonOptionKind kind, const char *text,
                             Error **errp)
{
    DaemonOption opt = {.kind = kind, .name = make_options[kind].name, .text = text};
    g_autofree char *what = NULL;

    if (option_asks_for_help(text, &what)) {
        if (daemon_option_help(kind, what, errp)) {
            return 1;
        }
        daemon_prepend_option(&opt, errp);
        return -EINVAL;
    }
    opt.is_json = *text == '{';
    opt.tree = opt.is_json ? json_parse_string(text, errp)
                           : keyval_parse(text, make_options[kind].implied_key, NULL, errp);
    if (!opt.tree) {
        daemon_prepend_option(&opt, errp);
        return -EINVAL;
    }
    g_array_append_val(opts->make, opt);
    return 0;
}

static int parse_aio(DaemonOptions *opts, const char *text, Error **errp)
{
    static const char *const words[] = {[AIO_ENGINE_AUTO] = "auto",
                                        [AIO_ENGINE_IO_URING] = "io_uring",
                                        [AIO_ENGINE_EPOLL] = "epoll"};

    if (!strcmp(text, "help")) {
        printf("Engines:\n  auto      io_uring if a request through it works, else epoll\n"
               "  io_uring\n  epoll     with libaio or threads for files\n");
        return 1;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        if (!strcmp(words[i], text)) {
            opts->engine = (AioEngine)i;
            return 0;
        }
    }
    error_setg(errp, "--aio %s: the engines are auto, io_uring and epoll", text);
    return -EINVAL;
}

static int parse_one(DaemonOptions *opts, int c, const char *progname, Error **errp)
{
    switch (c) {
    case 'h':
        daemon_help(progname);
        return 1;
    case 'V':
        daemon_version(progname);
        return 1;
    case 'T':
        return trace_option_parse(optarg, errp);
    case OPT_AIO:
        return parse_aio(opts, optarg, errp);
    case OPT_DAEMONIZE:
        opts->daemonize = true;
        return 0;
    case OPT_PIDFILE:
        opts->pidfile = optarg;
        return 0;
    default:
        return parse_make_option(opts, (DaemonOptionKind)(c - OPT_MAKE), optarg, errp);
    }
}

/* getopt says '?' or ':'; the words are ours. */
static int parse_failed(int c, char **argv, Error **errp)
{
    const char *arg = argv[optind - 1];

    if (c == ':') {
        error_setg(errp, "option '%s' requires an argument", arg);
    } else if (g_str_has_prefix(arg, "--") && optopt && strchr(arg, '=')) {
        error_setg(errp, "option '%.*s' doesn't allow an argument", (int)strcspn(arg, "="), arg);
    } else if (optopt && optopt < OPT_AIO) {
        /* Not always @arg: in "-xh" getopt has not gone on to the next word yet. */
        error_setg(errp, "unrecognized option '-%c'", optopt);
    } else {
        error_setg(errp, "unrecognized option '%s'", arg);
    }
    return -EINVAL;
}

int daemon_options_parse(int argc, char **argv, DaemonOptions *opts, Error **errp)
{
    int c, r;

    opts->make = g_array_new(FALSE, TRUE, sizeof(DaemonOption));
    opterr = 0;
    while ((c = getopt_long(argc, argv, "-:hT:V", long_options, NULL)) != -1) {
        if (c == 1) {
            error_setg(errp, "%s: Unexpected argument", optarg);
            return -EINVAL;
        }
        r = c == '?' || c == ':' ? parse_failed(c, argv, errp)
                                 : parse_one(opts, c, error_get_progname(), errp);
        if (r != 0) {
            return r;
        }
    }
    if (optind < argc) {
        error_setg(errp, "%s: Unexpected argument", argv[optind]);
        return -EINVAL;
    }
    return 0;
}

void daemon_options_clear(DaemonOptions *opts)
{
    for (guint i = 0; opts->make && i < opts->make->len; i++) {
        json_decref(g_array_index(opts->make, DaemonOption, i).tree);
    }
    if (opts->make) {
        g_array_free(opts->make, TRUE);
        opts->make = NULL;
    }
}
