/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A new image by its file name: what people type, turned into options for creation.
 *
 *     create -f fvd -o chunk_size=64k,nocow=on a.fvd 1G
 *
 *     1. the protocol makes the file             { driver: file, filename: a.fvd, size: 0, nocow: on }
 *     2. it is opened                            [#block7 file]
 *     3. the format writes its image into it     { driver: fvd, file: #block7, size: 1G, chunk-size: 64k }
 *
 * C1  What was made here, because it was not there before, is removed again when a later step fails.
 * C2  An option that nobody knows is refused before anything is made.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>
#include "aio/thread-pool.h"
#include "block/open/internal.h"
#include "qapi/type.h"
#include "util/cutils.h"

/* A creation on its way. */
typedef struct Creation {
    const BlockCreateArgs *args;
    const BlockDriver *drv;
    json_t *format;   /* options for the format, or for the protocol if that is what is asked for */
    json_t *protocol; /* options for the protocol below a format */
    BlockDriverState *file, *data_file;
    const char *data_name;
    bool made_file, made_data;
    bool header_only; /* the file is the header of an image, and its disk is made elsewhere */
    char *data_path;
} Creation;

static int is_missing_blocking(void *path)
{
    return access(path, F_OK) < 0 && errno == ENOENT;
}

static int unlink_blocking(void *path)
{
    return unlink(path) < 0 ? -errno : 0;
}

static const char *plain_path(const char *filename)
{
    strstart(filename, "file:", &filename);
    return filename;
}

static char *option_key(const char *name)
{
    return g_strdelimit(g_strdup(name), "_", '-');
}

static bool is_option(const BdrvCreateOption *options, const char *key)
{
    for (; options && options->name; options++) {
        g_autofree char *name = option_key(options->name);

        if (strcmp(name, key) == 0) {
            return true;
        }
    }
    return false;
}

/* Under the name and with the words that the schema has: of a qcow2 image's version users say "compat", and 0.10 or 1.1. */
static void set_format_option(Creation *c, const char *key, json_t *value)
{
    const char *text = json_string_value(value);

    if (strcmp(key, "compat") != 0) {
        json_object_set(c->format, key, value);
        return;
    }
    json_object_set_new(c->format, "version",
                        !g_strcmp0(text, "0.10")  ? json_string("v2")
                        : !g_strcmp0(text, "1.1") ? json_string("v3")
                                                  : json_incref(value));
}

/* C2: each option to the one who knows it; the format first. */
static int sort_options(Creation *c, Error **errp)
{
    const BlockDriver *protocol = bdrv_find_format("file");
    const char *name;
    json_t *value;

    json_object_foreach(c->args->options, name, value)
    {
        g_autofree char *key = option_key(name);

        if (is_option(c->drv->image->create_options, key)) {
            set_format_option(c, key, value);
        } else if (!c->drv->is_protocol && is_option(protocol->image->create_options, key) &&
                   strcmp(key, "preallocation") != 0) {
            json_object_set(c->protocol, key, value);
        } else {
            error_setg(errp, "Invalid parameter '%s'", name);
            error_append_hint(errp, "Format '%s' does not know it.\n", c->drv->format_name);
            return -EINVAL;
        }
    }
    return 0;
}

/* Who makes a header alone says so by an option that is not the format's own. */
static int take_detached_header(Creation *c, Error **errp)
{
    const char *text = json_string_value(json_object_get(c->format, "detached-header"));
    bool ok = true;

    if (c->drv->image->has_detached_header && text) {
        ok = qapi_bool_parse("detached-header", text, &c->header_only, errp);
        json_object_del(c->format, "detached-header");
    }
    return ok ? 0 : -EINVAL;
}

/* The size that the image gets: as given, or that of the base image. */
static int64_t coroutine_fn image_size(const Creation *c, Error **errp)
{
    const BlockCreateArgs *args = c->args;
    g_autofree char *path = NULL;
    BlockDriverState *backing;
    int64_t size = args->size;

    if (size >= 0) {
        return size;
    }
    if (c->header_only) {
        return 0;
    }
    if (!args->backing_file || args->backing_unsafe) {
        error_setg(errp, "Image creation needs a size parameter");
        return -EINVAL;
    }
    path = bdrv_path_beside(args->filename, args->backing_file);
    BdrvOpenFileArgs open = {.filename = path, .format = args->backing_format, .read_only = true};
    backing = bdrv_co_open_file(&open, errp);
    if (!backing) {
        error_prepend(errp, "Could not open backing image: ");
        return -EINVAL;
    }
    size = bdrv_getlength(backing);
    if (size < 0) {
        error_setg_errno(errp, -size, "Could not get size of '%s'", path);
    }
    bdrv_co_unref(backing);
    return size;
}

static int coroutine_fn run_create(Creation *c, const BlockDriver *drv, json_t *options,
                                   Error **errp)
{
    BlockdevCreateOptions *opts = qapi_from_keyval(&qapi_type_BlockdevCreateOptions, options, errp);
    int ret;

    if (!opts) {
        return -EINVAL;
    }
    ret = drv->image->co_create(opts, c->args->progress, errp);
    qapi_free_BlockdevCreateOptions(opts);
    return ret;
}

static void set_size(json_t *options, int64_t size)
{
    g_autofree char *text = g_strdup_printf("%" PRId64, size);

    json_object_set_new(options, "size", json_string(text));
}

/* What a server has cannot be made, only used as it is; as a device. */
static BlockDriverState *coroutine_fn open_served(const char *filename, Error **errp)
{
    BdrvOpenFileArgs open = {.filename = filename};

    return bdrv_open_protocol_file(&open, errp);
}

/* An empty file at @filename, and a node for it.  The options are those of the protocol; consumed. */
static BlockDriverState *coroutine_fn make_file(Creation *c, const char *filename, json_t *options,
                                                bool *ret_made, Error **errp)
{
    const char *path = plain_path(filename);
    BdrvOpenFileArgs open = {.filename = filename};
    const BlockDriver *protocol = bdrv_find_format("file");
    bool was_missing = thread_pool_submit_co(is_missing_blocking, (void *)path) == 1;
    int ret;

    json_object_set_new(options, "driver", json_string("file"));
    json_object_set_new(options, "filename", json_string(path));
    set_size(options, 0);
    ret = run_create(c, protocol, options, errp);
    json_decref(options);
    *ret_made = ret == 0 && was_missing;
    return ret == 0 ? bdrv_open_protocol_file(&open, errp) : NULL;
}

static int coroutine_fn make_data_file(Creation *c, Error **errp)
{
    c->data_path = bdrv_path_beside(c->args->filename, c->data_name);
    if (bdrv_is_nbd_uri(c->data_path)) {
        c->data_file = open_served(c->data_path, errp);
    } else {
        c->data_file = make_file(c, c->data_path, json_object(), &c->made_data, errp);
    }
    if (!c->data_file) {
        error_prepend(errp, "Could not create the data file: ");
        return -EINVAL;
    }
    json_object_set_new(c->format, "data-file-name", json_string(c->data_name));
    json_object_set_new(c->format, "data-file", json_string(c->data_file->node_name));
    return 0;
}

static void set_backing(Creation *c)
{
    const BlockCreateArgs *args = c->args;

    if (!args->backing_file) {
        return;
    }
    json_object_set_new(c->format, "backing-file", json_string(args->backing_file));
    if (args->backing_format) {
        json_object_set_new(c->format, "backing-fmt", json_string(args->backing_format));
    }
    if (c->drv->image->has_backing_size && (args->has_backing_size || args->backing_unsafe)) {
        g_autofree char *text = g_strdup_printf(
            "%" PRId64, args->has_backing_size ? args->backing_size : MAX(args->size, 0));

        json_object_set_new(c->format, "backing-size", json_string(text));
    }
}

static int coroutine_fn create_format(Creation *c, Error **errp)
{
    const char *data_name = json_string_value(json_object_get(c->format, "data-file"));
    int ret = 0;

    c->file = bdrv_is_nbd_uri(c->args->filename)
                  ? open_served(c->args->filename, errp)
                  : make_file(c, c->args->filename, json_incref(c->protocol), &c->made_file, errp);
    if (!c->file) {
        return -EINVAL;
    }
    json_object_set_new(c->format, c->header_only ? "header" : "file",
                        json_string(c->file->node_name));
    if (c->drv->image->has_data_file && data_name) {
        c->data_name = data_name;
        ret = make_data_file(c, errp);
    }
    if (ret == 0) {
        set_backing(c);
        ret = run_create(c, c->drv, c->format, errp);
    }
    return ret;
}

/* C1 */
static void coroutine_fn remove_made(Creation *c)
{
    if (c->made_file) {
        thread_pool_submit_co(unlink_blocking, (void *)plain_path(c->args->filename));
    }
    if (c->made_data) {
        thread_pool_submit_co(unlink_blocking, (void *)plain_path(c->data_path));
    }
}

static int check_driver(const BlockDriver *drv, const char *format, Error **errp)
{
    if (!drv) {
        error_setg(errp, "Unknown file format '%s'", format);
        return -EINVAL;
    }
    if (!drv->image || !drv->image->co_create) {
        error_setg(errp, "Format driver '%s' does not support image creation", format);
        return -ENOTSUP;
    }
    return 0;
}

static int check_args(const BlockDriver *drv, const char *format, const BlockCreateArgs *args,
                      Error **errp)
{
    int ret = check_driver(drv, format, errp);

    if (ret < 0) {
        return ret;
    }
    if (bdrv_is_nbd_uri(args->filename) && (!args->use_served || drv->is_protocol)) {
        error_setg(errp,
                   "'%s' is served by another program, and cannot be created; it can be used "
                   "as it is, with mode 'existing'",
                   args->filename);
        return -ENOTSUP;
    }
    if (!drv->is_protocol && !bdrv_find_format("file")) {
        error_setg(errp, "Cannot create '%s': driver 'file' is not available", args->filename);
        return -ENOTSUP;
    }
    if (args->backing_file && !drv->supports_backing) {
        error_setg(errp, "Backing file not supported for file format '%s'", format);
        return -ENOTSUP;
    }
    return 0;
}

int coroutine_fn bdrv_co_create_image(const char *format, const BlockCreateArgs *args, Error **errp)
{
    Creation c = {.args = args, .drv = bdrv_find_format(format)};
    int64_t size;
    int ret = check_args(c.drv, format, args, errp);

    if (ret < 0) {
        return ret;
    }
    c.format = json_pack("{s:s}", "driver", format);
    c.protocol = json_object();
    ret = sort_options(&c, errp);
    if (ret == 0) {
        ret = take_detached_header(&c, errp);
    }
    if (ret == 0) {
        size = image_size(&c, errp);
        ret = MIN(size, 0);
    }
    if (ret == 0) {
        set_size(c.format, size);
        if (c.drv->is_protocol) {
            json_object_set_new(c.format, "filename", json_string(plain_path(args->filename)));
            ret = run_create(&c, c.drv, c.format, errp);
        } else {
            ret = create_format(&c, errp);
        }
    }
    bdrv_co_unref(c.file);
    bdrv_co_unref(c.data_file);
    if (ret < 0) {
        remove_made(&c);
    }
    g_free(c.data_path);
    json_decref(c.format);
    json_decref(c.protocol);
    return ret;
}

/* The names of nodes that would be: a driver that measures does not look at them. */
static void set_absent_files(Creation *c)
{
    json_t *data_name = json_object_get(c->format, "data-file");

    if (c->drv->is_protocol) {
        json_object_set_new(c->format, "filename", json_string(""));
        return;
    }
    json_object_set_new(c->format, "file", json_string(""));
    if (c->drv->image->has_data_file && data_name) {
        json_object_set(c->format, "data-file-name", data_name);
    }
}

static BlockMeasureInfo *coroutine_fn measure(Creation *c, BlockDriverState *in, Error **errp)
{
    BlockdevCreateOptions *opts;
    BlockMeasureInfo *info;

    if (sort_options(c, errp) < 0) {
        return NULL;
    }
    set_absent_files(c);
    set_backing(c);
    set_size(c->format, c->args->size);
    opts = qapi_from_keyval(&qapi_type_BlockdevCreateOptions, c->format, errp);
    if (!opts) {
        return NULL;
    }
    info = c->drv->image->co_measure(opts, in, c->args->progress, errp);
    qapi_free_BlockdevCreateOptions(opts);
    return info;
}

BlockMeasureInfo *coroutine_fn bdrv_co_measure_image(const char *format,
                                                     const BlockCreateArgs *args,
                                                     BlockDriverState *in, Error **errp)
{
    Creation c = {.args = args, .drv = bdrv_find_format(format)};
    BlockMeasureInfo *info;

    if (check_driver(c.drv, format, errp) < 0) {
        return NULL;
    }
    if (!c.drv->image->co_measure) {
        error_setg(errp, "Block driver '%s' does not support size measurement", format);
        return NULL;
    }
    c.format = json_pack("{s:s}", "driver", format);
    c.protocol = json_object();
    info = measure(&c, in, errp);
    json_decref(c.format);
    json_decref(c.protocol);
    return info;
}
