/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From options to a graph.
 *
 *   { driver: raw, node-name: disk,            [disk raw]      made first, so that its children
 *     read-only: true,                              |          find their parent
 *     file: { driver: file, filename: x } }   [#block1 file]   opened by the driver of the parent
 *
 * The driver's co_open opens its children with bdrv_open_child(): a definition becomes a new node, a
 * name one that exists.  A definition takes over from its parent what it does not say: read-only,
 * cache, force-share, discard.
 *
 * O1  A node that cannot be opened leaves nothing behind: its children are dropped with it.
 * O2  What the options say is obeyed or refused, never replaced.
 */
#include <errno.h>
#include "block/io/io.h"
#include "block/open/internal.h"
#include "util/osdep.h"

static int generic_flags(const BlockdevOptions *opts, const OpenParent *parent)
{
    int inherited = parent->bs ? parent->bs->open_flags : 0;
    int flags = inherited & BDRV_O_NAMED;

    if (opts->cache && opts->cache->has_direct) {
        flags |= opts->cache->direct ? BDRV_O_NOCACHE : 0;
    } else {
        flags |= inherited & BDRV_O_NOCACHE;
    }
    if (opts->cache && opts->cache->has_no_flush) {
        flags |= opts->cache->no_flush ? BDRV_O_NO_FLUSH : 0;
    } else {
        flags |= inherited & BDRV_O_NO_FLUSH;
    }
    if (opts->has_discard) {
        flags |= opts->discard == BLOCKDEV_DISCARD_OPTIONS_UNMAP ? BDRV_O_UNMAP : 0;
    } else if (parent->bs && !parent->is_backing) {
        flags |= BDRV_O_UNMAP; /* the parent decides; below it nothing stands in the way */
    }
    return flags;
}

int bdrv_apply_generic_options(BlockDriverState *bs, const BlockdevOptions *opts,
                               const OpenParent *parent, Error **errp)
{
    bool parent_read_only = parent->bs && (parent->is_backing || parent->bs->read_only);

    bs->read_only = opts->has_read_only ? opts->read_only : parent_read_only;
    bs->auto_read_only =
        opts->has_auto_read_only ? opts->auto_read_only : parent->bs && parent->bs->auto_read_only;
    bs->force_share =
        opts->has_force_share ? opts->force_share : parent->bs && parent->bs->force_share;
    bs->detect_zeroes =
        opts->has_detect_zeroes ? opts->detect_zeroes : BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF;
    bs->open_flags = generic_flags(opts, parent) | parent->flags;
    if (!bs->read_only) {
        bs->open_flags |= BDRV_O_RDWR;
    }
    if (bs->force_share && !bs->read_only) {
        error_setg(errp, "force-share=on can only be used with read-only images");
        return -EINVAL;
    }
    if (bs->detect_zeroes == BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP &&
        !(bs->open_flags & BDRV_O_UNMAP)) {
        error_setg(errp, "setting detect-zeroes to unmap is not allowed without setting discard "
                         "operation to unmap");
        return -EINVAL;
    }
    return 0;
}

/* O1 */
static void coroutine_fn give_up(BlockDriverState *bs)
{
    bs->drv = NULL; /* its co_open failed: there is nothing to close */
    bdrv_co_unref(bs);
}

static int coroutine_fn learn_about(BlockDriverState *bs, Error **errp)
{
    AioContext *home = bs->aio_context, *here = qemu_get_current_aio_context();
    int ret;

    bdrv_refresh_limits(bs);
    if (bs->drv->data->co_getlength && home != here) {
        aio_co_reschedule_self(home);
        bs->total_bytes = bs->drv->data->co_getlength(bs);
        aio_co_reschedule_self(here);
        ret = bs->total_bytes < 0 ? bs->total_bytes : 0;
    } else {
        ret = bdrv_co_refresh_total(bs);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not refresh total sector count");
    }
    return ret;
}

BlockDriverState *coroutine_fn bdrv_open_node(const BlockdevOptions *opts, const OpenParent *parent,
                                              Error **errp)
{
    const char *name = BlockdevDriver_str(opts->driver);
    BlockDriver *drv = bdrv_find_format(name);
    BlockDriverState *bs;

    if (!drv) {
        error_setg(errp, "Unknown driver '%s'", name);
        return NULL;
    }
    bs = bdrv_new(drv, opts->node_name, errp);
    if (!bs) {
        return NULL;
    }
    if (bdrv_apply_generic_options(bs, opts, parent, errp) < 0 ||
        drv->life->co_open(bs, opts, errp) < 0) {
        give_up(bs);
        return NULL;
    }
    bs->options = QAPI_CLONE(BlockdevOptions, opts);
    if (learn_about(bs, errp) < 0 || (drv->bitmaps && drv->bitmaps->co_load(bs, errp) < 0) ||
        bdrv_refresh_perms(bs, errp) < 0) {
        bdrv_co_unref(bs);
        return NULL;
    }
    return bs;
}

BlockDriverState *coroutine_fn bdrv_co_open(const BlockdevOptions *opts, Error **errp)
{
    OpenParent none = {0};

    return bdrv_open_node(opts, &none, errp);
}

/* Attach; a child of another iothread comes along with all that is connected to it, or names who stays. */
static BdrvChild *coroutine_fn attach(BlockDriverState *bs, BlockDriverState *child_bs,
                                      const char *name, BdrvChildRole role, Error **errp)
{
    bool is_fresh =
        QLIST_EMPTY(&bs->parents) && QLIST_EMPTY(&bs->children); /* it follows its child */

    if (!is_fresh && child_bs->aio_context != bs->aio_context &&
        bdrv_co_try_change_aio_context(child_bs, bs->aio_context, errp) < 0) {
        return NULL;
    }
    return bdrv_attach_child(bs, child_bs, name, role, errp);
}

BlockDriverState *coroutine_fn bdrv_co_open_ref(const BlockdevRef *ref, Error **errp)
{
    BlockDriverState *bs;

    if (ref->type != QTYPE_QSTRING) {
        return bdrv_co_open(&ref->u.definition, errp);
    }
    bs = bdrv_lookup_bs(ref->u.reference, ref->u.reference, errp);
    if (bs) {
        bdrv_ref(bs);
    }
    return bs;
}

BdrvChild *coroutine_fn bdrv_open_child(BlockDriverState *bs, const BlockdevRef *ref,
                                        const char *name, BdrvChildRole role, Error **errp)
{
    OpenParent parent = {.bs = bs, .is_backing = role & BDRV_CHILD_COW};
    BlockDriverState *child_bs;
    BdrvChild *child;

    if (!ref) {
        error_setg(errp, "A block device must be specified for \"%s\"", name);
        return NULL;
    }
    if (ref->type == QTYPE_QSTRING) {
        child_bs = bdrv_lookup_bs(ref->u.reference, ref->u.reference, errp);
        if (!child_bs) {
            return NULL;
        }
        bdrv_ref(child_bs);
    } else {
        child_bs = bdrv_open_node(&ref->u.definition, &parent, errp);
        if (!child_bs) {
            return NULL;
        }
    }
    child = attach(bs, child_bs, name, role, errp);
    if (child && !(role & BDRV_CHILD_COW) && child_bs->filename[0] && !bs->filename[0]) {
        g_free(bs->filename);
        bs->filename = g_strdup(child_bs->filename);
    }
    bdrv_co_unref(child_bs); /* the edge holds its own */
    return child;
}

char *bdrv_path_beside(const char *image, const char *name)
{
    g_autofree char *dir = NULL;

    if (g_path_is_absolute(name) || strchr(name, ':') || !image[0]) {
        return g_strdup(name);
    }
    dir = g_path_get_dirname(image);
    return strcmp(dir, ".") == 0 ? g_strdup(name) : g_build_filename(dir, name, NULL);
}

/* Main thread: of all that are being opened now. */
static unsigned named_depth;

BlockDriverState *coroutine_fn bdrv_co_open_named_file(const BdrvOpenFileArgs *args, Error **errp)
{
    BdrvOpenFileArgs named = *args;
    BlockDriverState *bs;

    if (named_depth >= BDRV_NAMED_DEPTH_MAX) {
        error_setg(errp, "'%s' is named by an image that is named by an image, %d times",
                   args->filename, BDRV_NAMED_DEPTH_MAX);
        return NULL;
    }
    named_depth++;
    named.named = true;
    bs = bdrv_co_open_file(&named, errp);
    named_depth--;
    return bs;
}

int coroutine_fn bdrv_open_backing(BlockDriverState *bs, const BlockdevRefOrNull *ref, Error **errp)
{
    BlockDriverState *backing = NULL;
    BdrvChild *child;

    if (ref && ref->type == QTYPE_QNULL) {
        return 0;
    }
    if (ref) {
        BlockdevRef plain = {.type = ref->type};

        if (ref->type == QTYPE_QSTRING) {
            plain.u.reference = ref->u.reference;
        } else {
            plain.u.definition = ref->u.definition;
        }
        return bdrv_open_child(bs, &plain, "backing", BDRV_CHILD_COW, errp) ? 0 : -EINVAL;
    }
    if (!bs->backing_file || (bs->open_flags & BDRV_O_NO_BACKING)) {
        return 0;
    }
    g_autofree char *path = bdrv_path_beside(bs->filename, bs->backing_file);
    BdrvOpenFileArgs args = {
        .filename = path,
        .format = bs->backing_format,
        .read_only = true,
        .cache_direct = bs->open_flags & BDRV_O_NOCACHE,
        .cache_no_flush = bs->open_flags & BDRV_O_NO_FLUSH,
        .force_share = bs->force_share,
    };
    backing = bdrv_co_open_named_file(&args, errp);
    if (!backing) {
        error_prepend(errp, "Could not open backing file: ");
        return -EINVAL;
    }
    child = attach(bs, backing, "backing", BDRV_CHILD_COW, errp);
    bdrv_co_unref(backing);
    return child ? 0 : -EPERM;
}
