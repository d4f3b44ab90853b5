/* SPDX-License-Identifier: GPL-2.0-or-later */
/* open.c - open, close, reopen */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "block/open/open.h"
#include "programs/io/commands/commands.h"
#include "qapi/keyval.h"
#include "qapi/type.h"

/* One more "key=value,..." behind those of @options. */
static void add_options(GString *options, const char *more)
{
    g_string_append_printf(options, "%s%s", options->len ? "," : "", more);
}

static int coroutine_fn open_run(IoSession *io, int argc, char **argv)
{
    g_autoptr(GString) options = g_string_new(NULL);
    IoOpen how = {.image = {.writable = true, .image_opts = io->image_opts}};
    int c;

    optind = 0;
    while ((c = getopt(argc, argv, "rsCnkUi:t:d:o:")) != -1) {
        if (c == '?') {
            return io_usage_error(argv);
        }
        if (c != 'o') {
            if (!io_open_option(&how, c, optarg)) {
                return -EINVAL;
            }
        } else if (io->image_opts) {
            printf("--image-opts and 'open -o' are mutually exclusive\n");
            return -EINVAL;
        } else {
            add_options(options, optarg);
        }
    }
    if (optind < argc - 1 || (optind == argc && !options->len)) {
        return io_usage_error(argv);
    }
    how.image.options = options->len ? options->str : NULL;
    how.image.filename = optind < argc ? argv[optind] : NULL;
    return io_co_open(io, &how);
}

const IoCommand io_open = {
    .name = "open",
    .alias = "o",
    .args = "[-rsCnkU] [-i aio] [-t cache] [-d discard] [-o options] [path]",
    .summary = "opens an image",
    .help = " Opens the image that the other commands are for.\n"
            "\n"
            " Example:\n"
            " 'open -n -o driver=raw /tmp/data' - opens raw data, to be read and written, past\n"
            " the host's cache\n"
            "\n"
            " -r -- only to be read\n"
            " -s -- what is written goes to a scratch file that is forgotten\n"
            " -C -- what is read from a backing file is kept in the image\n"
            " -n -- the same as -t none\n"
            " -U -- also while another program writes it\n"
            " -k -- the same as -i native\n"
            " -i -- threads, native or io_uring\n"
            " -t -- none, writeback, unsafe, writethrough or directsync\n"
            " -d -- unmap: a discard gives the space back; ignore: it has no effect\n"
            " -o -- options of the node, as driver=raw,offset=512\n",
    .min_args = 1,
    .max_args = -1,
    .without_image = true,
    .run = open_run,
};

static int coroutine_fn close_run(IoSession *io, int argc, char **argv)
{
    io_co_close(io);
    return 0;
}

const IoCommand io_close = {
    .name = "close",
    .alias = "c",
    .summary = "closes the image",
    .run = close_run,
};

typedef struct Reopen {
    bool has_mode, writable;
    bool has_cache;
    ImgCache cache;
    json_t *options; /* NULL: none */
} Reopen;

static void set_text(json_t *o, const char *key, bool value)
{
    json_object_set_new(o, key, json_string(value ? "on" : "off"));
}

/* What @r says of each node, into the options @o of one. */
static void set_flags(const Reopen *r, json_t *o)
{
    if (r->has_mode) {
        set_text(o, "read-only", !r->writable);
    }
    if (r->has_cache) {
        json_t *cache = json_object_get(o, "cache");

        if (!cache) {
            cache = json_object();
            json_object_set_new(o, "cache", cache);
        }
        set_text(cache, "direct", r->cache.direct);
        set_text(cache, "no-flush", r->cache.no_flush);
    }
}

/* Adds @bs with what @changes (NULL: nothing) say, and then what is below it. */
static bool add_node(const Reopen *r, BlockDriverState *bs, json_t *changes,
                     BlockdevOptionsList ***tail, Error **errp)
{
    json_auto_t *json = qapi_BlockdevOptions_to_json(bs->options);
    json_auto_t *o = keyval_from_json(json);
    json_auto_t *own = changes ? json_deep_copy(changes) : json_object();
    json_t *below = json_object_get(own, "file");
    json_auto_t *of_file = json_is_object(below) ? json_incref(below) : NULL;
    BlockdevOptions *opts;

    if (of_file) {
        json_object_del(own, "file");
    }
    json_object_set_new(o, "node-name", json_string(bs->node_name));
    set_flags(r, o);
    keyval_merge(o, own, true);
    opts = qapi_from_typed(&qapi_type_BlockdevOptions, o, errp);
    if (!opts) {
        return false;
    }
    **tail = g_new0(BlockdevOptionsList, 1);
    (**tail)->value = opts;
    *tail = &(**tail)->next;
    return !bs->file || add_node(r, bs->file->bs, of_file, tail, errp);
}

/*
 * The session does not write to what becomes read-only, and, meanwhile, does not hold the image to its size: another
 * part of a file is another disk.
 */
static int coroutine_fn reopen_nodes(IoSession *io, const Reopen *r, Error **errp)
{
    const uint64_t shared = blk_root(io->blk)->shared_perm, old = blk_root(io->blk)->perm;
    const uint64_t perm = r->has_mode && !r->writable ? BLK_PERM_CONSISTENT_READ : old;
    BlockdevOptionsList *list = NULL, **tail = &list;
    int ret = 0;

    if (!add_node(r, bdrv_skip_filters(blk_bs(io->blk)), r->options, &tail, errp)) {
        ret = -EINVAL;
    }
    if (ret == 0) {
        ret = blk_set_perm(io->blk, perm, shared | BLK_PERM_RESIZE, errp);
    }
    if (ret == 0) {
        ret = bdrv_co_reopen_multiple(list, errp);
        blk_set_perm(io->blk, ret < 0 ? old : perm, shared, NULL);
    }
    qapi_free_BlockdevOptionsList(list);
    return ret;
}

static bool check_reopen(const Reopen *r)
{
    if (r->has_mode && json_object_get(r->options, "read-only")) {
        error_report("Cannot set both -r/-w and 'read-only'");
        return false;
    }
    if (r->has_cache && json_object_get(r->options, "cache")) {
        error_report("Cannot set both -c and the cache options");
        return false;
    }
    return true;
}

static int coroutine_fn reopen(IoSession *io, const Reopen *r)
{
    Error *err = NULL;

    if (!check_reopen(r)) {
        return -EINVAL;
    }
    if (reopen_nodes(io, r, &err) < 0) {
        error_report_err(err);
        return -EINVAL;
    }
    if (r->has_cache) {
        blk_set_enable_write_cache(io->blk, !r->cache.writethrough);
    }
    return 0;
}

/* 0; negative: told. */
static int reopen_option(Reopen *r, int c, const char *value, GString *options)
{
    switch (c) {
    case 'r':
    case 'w':
        if (r->has_mode) {
            error_report("Only one -r/-w option may be given");
            return -EINVAL;
        }
        r->has_mode = true;
        r->writable = c == 'w';
        return 0;
    case 'c':
        r->has_cache = true;
        if (!img_cache_parse(value, &r->cache)) {
            error_report("Invalid cache option: %s", value);
            return -EINVAL;
        }
        return 0;
    default:
        add_options(options, value);
        return 0;
    }
}

static int coroutine_fn reopen_run(IoSession *io, int argc, char **argv)
{
    g_autoptr(GString) options = g_string_new(NULL);
    Reopen r = {0};
    Error *err = NULL;
    int c, ret;

    optind = 0;
    while ((c = getopt(argc, argv, "rwc:o:")) != -1) {
        if (c == '?') {
            return io_usage_error(argv);
        }
        if (reopen_option(&r, c, optarg, options) < 0) {
            return -EINVAL;
        }
    }
    if (optind != argc) {
        return io_usage_error(argv);
    }
    if (options->len) {
        r.options = keyval_parse(options->str, NULL, NULL, &err);
        if (!r.options) {
            error_report_err(err);
            return -EINVAL;
        }
    }
    ret = reopen(io, &r);
    json_decref(r.options);
    return ret;
}

const IoCommand io_reopen = {
    .name = "reopen",
    .args = "[(-r|-w)] [-c cache] [-o options]",
    .summary = "gives the image that is open other options",
    .help = " What is not said stays.\n"
            "\n"
            " Example:\n"
            " 'reopen -o driver=raw,offset=512' - the disk begins at byte 512 of the file\n"
            "\n"
            " -r -- only to be read\n"
            " -w -- to be read and written\n"
            " -c -- the cache mode\n"
            " -o -- options of the node\n",
    .max_args = -1,
    .run = reopen_run,
};
