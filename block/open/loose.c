/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options with gaps: what people type, and what images name as their backing file.
 *
 *      file.filename=disk.img              json:{"driver":"raw","file.filename":"disk.img"}
 *
 *      { file: { filename: disk.img } }                                       keys with dots taken apart
 *      { file: { driver: file, filename: disk.img } }                         the protocol, from the name
 *      { driver: raw, file: #block1 }                                         the format, by probing
 *
 * L1  What is said is obeyed; only what is not said is filled in.  Options beside a name win over it.  Where it is
 *     said does not matter: a number in JSON may be a string, as on a command line.
 * L2  What had to be opened to be looked at is used, not opened a second time.
 */
#include <errno.h>
#include <string.h>
#include "block/open/internal.h"
#include "qapi/json-parser.h"
#include "qapi/keyval.h"
#include "qapi/type.h"
#include "util/cutils.h"
#include "util/osdep.h"

typedef struct Loose {
    const BdrvOpenFileArgs *args;
    GPtrArray *nodes; /* of BlockDriverState, counted (L2) */
} Loose;

/* Children that are completed, and whether they are protocols where nothing else is said. */
static const char *const child_names[] = {"file", "image", "backing", "header"};

static bool is_protocol_child(const char *name, const BlockDriver *parent)
{
    if (!strcmp(name, "backing")) {
        return false;
    }
    return !parent || !parent->is_filter || !strcmp(name, "image");
}

static void set_bool(json_t *o, const char *key, bool value)
{
    if (!json_object_get(o, key)) {
        json_object_set_new(o, key, json_string(value ? "on" : "off"));
    }
}

/* L1 */
static void set_generic(const Loose *l, json_t *o)
{
    json_t *cache = json_object_get(o, "cache");

    if (!cache) {
        cache = json_object();
        json_object_set_new(o, "cache", cache);
    }
    if (json_is_object(cache)) {
        set_bool(cache, "direct", l->args->cache_direct);
        set_bool(cache, "no-flush", l->args->cache_no_flush);
    }
    set_bool(o, "read-only", l->args->read_only);
    set_bool(o, "force-share", l->args->force_share);
    if (!json_object_get(o, "discard")) {
        json_object_set_new(o, "discard", json_string(l->args->discard_unmap ? "unmap" : "ignore"));
    }
}

/* "file.filename": x  becomes  "file": { "filename": x } */
static int take_apart(json_t *o, int depth, Error **errp)
{
    const char *key;
    json_t *value;
    void *next;

    if (depth > QAPI_NESTING_MAX) {
        error_setg(errp, "Options are nested too deeply");
        return -EINVAL;
    }
    json_object_foreach_safe(o, next, key, value)
    {
        const char *dot = strchr(key, '.');
        g_autofree char *outer = dot ? g_strndup(key, (gsize)(dot - key)) : NULL;
        json_t *inner = outer ? json_object_get(o, outer) : NULL;

        if (!dot) {
            continue;
        }
        if (!inner) {
            inner = json_object();
            json_object_set_new(o, outer, inner);
        } else if (!json_is_object(inner)) {
            error_setg(errp, "Parameters '%s.*' used inconsistently", outer);
            return -EINVAL;
        }
        json_object_set(inner, dot + 1, value);
        json_object_del(o, key);
    }
    json_object_foreach(o, key, value)
    {
        if (json_is_object(value) && take_apart(value, depth + 1, errp) < 0) {
            return -EINVAL;
        }
    }
    return 0;
}

static BlockDriverState *coroutine_fn open_complete(json_t *o, int flags, Error **errp)
{
    const OpenParent none = {.flags = flags};
    g_autoptr(BlockdevOptions) opts = qapi_from_typed(&qapi_type_BlockdevOptions, o, errp);

    return opts ? bdrv_open_node(opts, &none, errp) : NULL;
}

/* Which child a file name is of, where @drv (NULL: a format, to be probed) does not have it itself. */
static const char *named_child(const BlockDriver *drv)
{
    return drv && !strcmp(drv->format_name, "blkdebug") ? "image" : "file";
}

static int coroutine_fn fill_protocol(const Loose *l, json_t *o, Error **errp)
{
    g_autofree char *filename = g_strdup(json_string_value(json_object_get(o, "filename")));
    BdrvOpenFileArgs args = {
        .filename = filename, .has_aio = l->args->has_aio, .aio = l->args->aio};

    if (!filename) {
        error_setg(errp, "Must specify either driver or file");
        return -EINVAL;
    }
    json_object_del(o, "filename");
    return bdrv_fill_protocol(o, &args, errp);
}

/* The file name goes down to the child that it is of. */
static int hand_down_filename(json_t *o, const BlockDriver *drv, Error **errp)
{
    const char *child_name = named_child(drv);
    json_t *filename = json_object_get(o, "filename");
    json_t *child = json_object_get(o, child_name);

    if (!filename) {
        return 0;
    }
    if (!child) {
        child = json_object();
        json_object_set_new(o, child_name, child);
    }
    if (!json_is_object(child) || json_object_get(child, "filename")) {
        error_setg(errp, "Can't specify 'file' and 'filename' options at the same time");
        return -EINVAL;
    }
    json_object_set(child, "filename", filename);
    json_object_del(o, "filename");
    return 0;
}

/* L2: the driver of @o by looking at its file. */
static int coroutine_fn probe(const Loose *l, json_t *o, Error **errp)
{
    json_t *file = json_object_get(o, "file");
    BlockDriverState *bs;
    BlockDriver *drv;

    if (json_is_object(file)) {
        set_generic(l, file);
        bs = open_complete(file, l->args->named ? BDRV_O_NAMED : 0, errp);
        if (bs) {
            g_ptr_array_add(l->nodes, bs);
        }
    } else if (json_is_string(file)) {
        bs = bdrv_lookup_bs(json_string_value(file), json_string_value(file), errp);
    } else {
        error_setg(errp, "Must specify either driver or file");
        return -EINVAL;
    }
    drv = bs ? bdrv_probe_node(bs, bs->filename, errp) : NULL;
    if (!drv) {
        return -EINVAL;
    }
    json_object_set_new(o, "driver", json_string(drv->format_name));
    json_object_set_new(o, "file", json_string(bs->node_name));
    return 0;
}

static int coroutine_fn complete(const Loose *l, json_t *o, bool is_protocol, Error **errp)
{
    const char *name = json_string_value(json_object_get(o, "driver"));
    const BlockDriver *drv = name ? bdrv_find_format(name) : NULL;

    if (name && !drv) {
        error_setg(errp, "Unknown driver '%s'", name);
        return -EINVAL;
    }
    if (!drv && is_protocol) {
        if (fill_protocol(l, o, errp) < 0) {
            return -EINVAL;
        }
        drv = bdrv_find_format(json_string_value(json_object_get(o, "driver")));
        assert(drv);
    }
    if (drv && drv->is_protocol) {
        return 0;
    }
    if (hand_down_filename(o, drv, errp) < 0) {
        return -EINVAL;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(child_names); i++) {
        json_t *child = json_object_get(o, child_names[i]);

        if (json_is_object(child) &&
            complete(l, child, is_protocol_child(child_names[i], drv), errp) < 0) {
            return -EINVAL;
        }
    }
    return drv ? 0 : probe(l, o, errp);
}

static BlockDriverState *coroutine_fn open_tree(const Loose *l, json_t *o, Error **errp)
{
    const BdrvOpenFileArgs *args = l->args;
    BlockDriverState *bs;
    bool guessed;
    int flags = 0;

    if (args->format && !json_object_get(o, "driver")) {
        json_object_set_new(o, "driver", json_string(args->format));
    }
    guessed = !json_object_get(o, "driver");
    if (args->node_name && !json_object_get(o, "node-name")) {
        json_object_set_new(o, "node-name", json_string(args->node_name));
    }
    if (args->backing) {
        json_object_set_new(o, "backing", json_string(args->backing->node_name));
    }
    if (complete(l, o, false, errp) < 0) {
        return NULL;
    }
    set_generic(l, o);
    flags |= args->check ? BDRV_O_CHECK : 0;
    flags |= args->no_io ? BDRV_O_NO_IO : 0;
    flags |= args->no_backing ? BDRV_O_NO_BACKING : 0;
    flags |= args->named ? BDRV_O_NAMED : 0;
    bs = open_complete(o, flags, errp);
    if (bs && guessed) {
        bdrv_note_guess(bs);
    }
    return bs;
}

static json_t *parse_json_name(const char *text, Error **errp)
{
    ERRP_GUARD();
    json_t *o = json_parse_string(text, errp);

    if (o && !json_is_object(o)) {
        json_decref(o);
        o = NULL;
        error_setg(errp, "Invalid JSON object given");
    } else if (!o) {
        error_prepend(errp, "Could not parse the JSON options: ");
    }
    return o;
}

/* The options in a "json:" name, values as somebody would type them, or the name itself. */
static json_t *parse_name(const char *filename, Error **errp)
{
    json_auto_t *json = NULL;
    const char *text;
    json_t *o;

    if (!strstart(filename, "json:", &text)) {
        return json_pack("{s:s}", "filename", filename);
    }
    json = parse_json_name(text, errp);
    o = json ? keyval_from_json(json) : NULL;
    if (o && take_apart(o, 0, errp) < 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static json_t *parse_options(const char *text, const char *implied_key, Error **errp)
{
    json_t *o = keyval_parse(text, implied_key, NULL, errp);

    if (o && take_apart(o, 0, errp) < 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static json_t *parse(const BdrvOpenFileArgs *args, Error **errp)
{
    json_auto_t *options = NULL;
    json_t *name;

    if (args->is_options) {
        return parse_options(args->filename, "file", errp);
    }
    if (args->options) {
        options = parse_options(args->options, NULL, errp);
        if (!options) {
            return NULL;
        }
    }
    if (!args->filename) {
        return g_steal_pointer(&options);
    }
    name = parse_name(args->filename, errp);
    if (!name || !options) {
        return name;
    }
    if (json_object_get(options, "filename") && json_object_get(name, "filename")) {
        error_setg(errp, "Can't specify 'file' and 'filename' options at the same time");
        json_decref(name);
        return NULL;
    }
    keyval_merge(options, name, false);
    json_decref(name);
    return g_steal_pointer(&options);
}

BlockDriverState *coroutine_fn bdrv_open_loose(const BdrvOpenFileArgs *args, Error **errp)
{
    Loose l = {.args = args};
    BlockDriverState *bs = NULL;
    json_t *o = parse(args, errp);

    if (!o) {
        return NULL;
    }
    l.nodes = g_ptr_array_new();
    bs = open_tree(&l, o, errp);
    for (guint i = 0; i < l.nodes->len; i++) {
        bdrv_co_unref(g_ptr_array_index(l.nodes, i));
    }
    g_ptr_array_free(l.nodes, TRUE);
    json_decref(o);
    return bs;
}
