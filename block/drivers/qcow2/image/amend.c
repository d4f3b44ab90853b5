/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What creation has set, changed later, as far as it is said in the header alone: one write of it (Q7).  Another size is
 * resize.c's.  All options are looked at before anything is changed.
 */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/qcow2/image/image.h"
#include "qapi/type.h"
#include "util/osdep.h"

static void replace(char **to, const char *text)
{
    g_free(*to);
    *to = g_strdup(text && text[0] ? text : NULL);
}

/* --------------------------------------------------------------------------------------- backing file */

typedef struct Backing {
    const char *file, *format; /* NULL: none */
} Backing;

static void set_backing(Qcow2Header *next, const void *opaque)
{
    const Backing *b = opaque;

    replace(&next->backing_file, b->file);
    replace(&next->backing_format, b->file ? b->format : NULL);
}

static int check_backing(const Qcow2State *s, const char *file, Error **errp)
{
    if (file && strlen(file) > QCOW2_BACKING_FILE_MAX) {
        error_setg(errp, "The name of a backing file must not exceed %d bytes",
                   QCOW2_BACKING_FILE_MAX);
        return -EINVAL;
    }
    if (file && file[0] && qcow2_header_has_raw_data_file(&s->header)) {
        error_setg(errp, "Cannot set backing file on an image with a raw data file");
        return -EINVAL;
    }
    return 0;
}

static int coroutine_fn change(Qcow2State *s, Qcow2HeaderChange *how, const void *opaque,
                               Error **errp)
{
    int ret = s->writable ? qcow2_co_change_header(s, how, opaque) : -EACCES;

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the qcow2 header");
    }
    return ret;
}

int coroutine_fn qcow2_co_change_backing_file(BlockDriverState *bs, const char *file,
                                              const char *format, Error **errp)
{
    Qcow2State *s = bs->opaque;
    int ret = check_backing(s, file, errp);

    if (ret == 0) {
        ret = change(s, set_backing, &(Backing){file, format}, errp);
    }
    if (ret == 0) {
        replace(&bs->backing_file, s->header.backing_file);
        replace(&bs->backing_format, s->header.backing_format);
    }
    return ret;
}

/* ---------------------------------------------------------------------------------------------- amend */

typedef struct Amendment {
    uint32_t version;
    bool lazy, raw;
    bool has_size;
    uint64_t size;
} Amendment;

static void set_amendment(Qcow2Header *next, const void *opaque)
{
    const Amendment *a = opaque;

    next->version = a->version;
    next->compatible &= ~(uint64_t)QCOW2_COMPATIBLE_LAZY_REFCOUNTS;
    next->compatible |= a->lazy ? QCOW2_COMPATIBLE_LAZY_REFCOUNTS : 0;
    next->autoclear &= ~(uint64_t)QCOW2_AUTOCLEAR_DATA_FILE_RAW;
    next->autoclear |= a->raw ? QCOW2_AUTOCLEAR_DATA_FILE_RAW : 0;
}

static int amend_version(const Qcow2State *s, Amendment *a, const char *text, Error **errp)
{
    const Qcow2Header *h = &s->header;

    if (!strcmp(text, "1.1") || !strcmp(text, "v3")) {
        if (h->version < 3 && h->nb_snapshots) {
            error_setg(errp, "An image with snapshots cannot be made one of compat=1.1");
            return -ENOTSUP;
        }
        a->version = 3;
        return 0;
    }
    if (strcmp(text, "0.10") != 0 && strcmp(text, "v2") != 0) {
        error_setg(errp, "Unknown compatibility level %s", text);
        return -EINVAL;
    }
    if (h->version >= 3) {
        error_setg(errp, "An image of compat=1.1 cannot be made one of compat=0.10");
        return -ENOTSUP;
    }
    return 0;
}

static int amend_refcount_bits(const Qcow2State *s, const char *text, Error **errp)
{
    char *end;
    uint64_t bits = g_ascii_strtoull(text, &end, 10);

    if (*end || bits < 1 || bits > 64 || !is_power_of_2(bits)) {
        error_setg(errp, "Refcount width must be a power of two and may not exceed 64 bits");
        return -EINVAL;
    }
    if (bits != UINT64_C(1) << s->header.refcount_order) {
        error_setg(errp, "The width of refcounts cannot be changed");
        return -ENOTSUP;
    }
    return 0;
}

static int amend_raw(const Qcow2State *s, Amendment *a, const char *text, Error **errp)
{
    bool on;

    if (!qapi_bool_parse("data_file_raw", text, &on, errp)) {
        return -EINVAL;
    }
    if (on && !qcow2_header_has_raw_data_file(&s->header)) {
        error_setg(errp, "data-file-raw cannot be set on existing images");
        return -EINVAL;
    }
    a->raw = on;
    return 0;
}

/* It can be said again, not changed. */
static int amend_backing(const char *now, const char *text, const char *what, Error **errp)
{
    if (strcmp(now ? now : "", text) == 0) {
        return 0;
    }
    error_setg(errp, "Cannot amend the backing %s", what);
    error_append_hint(errp, "You can use 'qblk-img rebase' instead.\n");
    return -EINVAL;
}

static int amend_option(const Qcow2State *s, Amendment *a, const char *name, const char *text,
                        Error **errp)
{
    if (!strcmp(name, "compat")) {
        return amend_version(s, a, text, errp);
    }
    if (!strcmp(name, "refcount_bits")) {
        return amend_refcount_bits(s, text, errp);
    }
    if (!strcmp(name, "data_file_raw")) {
        return amend_raw(s, a, text, errp);
    }
    if (!strcmp(name, "lazy_refcounts")) {
        return qapi_bool_parse("lazy_refcounts", text, &a->lazy, errp) ? 0 : -EINVAL;
    }
    if (!strcmp(name, "backing_file")) {
        return amend_backing(s->header.backing_file, text, "file", errp);
    }
    if (!strcmp(name, "backing_fmt")) {
        return amend_backing(s->header.backing_format, text, "format", errp);
    }
    a->has_size = true;
    a->size = g_ascii_strtoull(text, NULL, 10);
    if (a->size > INT64_MAX) {
        error_setg(errp, "The size is too large");
        return -EFBIG;
    }
    return 0;
}

static int plan(const Qcow2State *s, json_t *options, Amendment *a, Error **errp)
{
    const Qcow2Header *h = &s->header;
    const char *name;
    json_t *value;

    *a = (Amendment){
        .version = h->version,
        .lazy = h->compatible & QCOW2_COMPATIBLE_LAZY_REFCOUNTS,
        .raw = h->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW,
    };
    json_object_foreach(options, name, value)
    {
        int ret = amend_option(s, a, name, json_string_value(value), errp);

        if (ret < 0) {
            return ret;
        }
    }
    if (a->lazy && a->version < 3) {
        error_setg(errp, "Lazy refcounts only supported with compatibility level 1.1 and above "
                         "(use compat=1.1 or greater)");
        return -EINVAL;
    }
    return 0;
}

int coroutine_fn qcow2_co_amend(BlockDriverState *bs, json_t *options, bool force,
                                BdrvProgress *progress, Error **errp)
{
    Qcow2State *s = bs->opaque;
    Amendment a;
    int ret = plan(s, options, &a, errp);

    if (ret == 0) {
        ret = change(s, set_amendment, &a, errp);
    }
    if (ret < 0) {
        return ret;
    }
    s->g.version = s->header.version;
    return a.has_size ? qcow2_co_truncate(bs, (int64_t)a.size, false, PREALLOC_MODE_OFF, 0, errp)
                      : 0;
}

const BdrvCreateOption qcow2_amend_options[] = {
    {"backing_file", "str", "File name of a base image"},
    {"backing_fmt", "str", "Image format of the base image"},
    {"compat", "str", "Compatibility level (v2 [0.10] or v3 [1.1])"},
    {"data_file_raw", "bool (on/off)", "The external data file must stay valid as a raw image"},
    {"lazy_refcounts", "bool (on/off)", "Postpone refcount updates"},
    {"refcount_bits", "num", "Width of a reference count entry in bits"},
    {"size", "size", "Virtual disk size"},
    {NULL, NULL, NULL},
};
