/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * drive.c - --drive: a disk in one word
 *
 *      --drive id=disk0,file=disk.img,format=raw
 *
 *      BlockBackend "disk0" ──root──▶ node ──file──▶ node
 *
 * The name is that of a device: drive-backup device=disk0 finds it, events and query-block show it.
 */
#include "daemon.h"

#include <errno.h>

#include "block/backend/backend.h"
#include "block/open/open.h"

/* What the user wrote; strings borrowed from the tree. */
typedef struct DriveOptions {
    const char *id, *file, *format, *node_name, *cache, *aio, *discard;
    bool read_only;
} DriveOptions;

/*
 * The words of cache=, and what they mean for the cache options of a node.  The two words that ask for
 * stable writes are not here: nobody does I/O through the device itself, so they would promise what the
 * disk's users do not keep.  An export has an option for it.
 */
static const struct {
    const char *word;
    bool direct, no_flush;
} cache_modes[] = {
    {"none", true, false},
    {"writeback", false, false},
    {"unsafe", false, true},
};

static GSList *drives; /* of BlockBackend */

static int drive_read(OptTree *t, DriveOptions *d, Error **errp)
{
    if (!opt_tree_str(t, "id", &d->id, errp) || !opt_tree_str(t, "file", &d->file, errp) ||
        !opt_tree_str(t, "format", &d->format, errp) ||
        !opt_tree_str(t, "node-name", &d->node_name, errp) ||
        !opt_tree_str(t, "cache", &d->cache, errp) || !opt_tree_str(t, "aio", &d->aio, errp) ||
        !opt_tree_str(t, "discard", &d->discard, errp) ||
        !opt_tree_bool(t, "readonly", &d->read_only, errp) ||
        !opt_tree_bool(t, "read-only", &d->read_only, errp) || !opt_tree_finish(t, errp)) {
        return -EINVAL;
    }
    if (!d->id || !d->file) {
        error_setg(errp, "Parameter '%s' is missing", d->id ? "file" : "id");
        return -EINVAL;
    }
    return 0;
}

/* Words to arguments of the opening. */
static int drive_open_args(const DriveOptions *d, BdrvOpenFileArgs *args, Error **errp)
{
    const char *cache = d->cache ? d->cache : "writeback";
    size_t i = 0;

    while (i < G_N_ELEMENTS(cache_modes) && strcmp(cache_modes[i].word, cache) != 0) {
        i++;
    }
    if (strcmp(cache, "writethrough") == 0 || strcmp(cache, "directsync") == 0) {
        error_setg(errp,
                   "Parameter 'cache' does not accept value '%s': stable writes are an option of "
                   "the disk's users (writethrough=on of --export)",
                   cache);
        return -EINVAL;
    }
    if (i == G_N_ELEMENTS(cache_modes)) {
        error_setg(errp, "Parameter 'cache' does not accept value '%s'", cache);
        return -EINVAL;
    }
    args->filename = d->file;
    args->format = d->format;
    args->node_name = d->node_name;
    args->read_only = d->read_only;
    args->cache_direct = cache_modes[i].direct;
    args->cache_no_flush = cache_modes[i].no_flush;
    if (d->discard) {
        int discard =
            qapi_enum_parse_named("discard", &BlockdevDiscardOptions_lookup, d->discard, -1, errp);

        if (discard < 0) {
            return -EINVAL;
        }
        args->discard_unmap = discard == BLOCKDEV_DISCARD_OPTIONS_UNMAP;
    }
    if (d->aio) {
        int aio = qapi_enum_parse_named("aio", &BlockdevAioOptions_lookup, d->aio, -1, errp);

        if (aio < 0) {
            return -EINVAL;
        }
        args->has_aio = true;
        args->aio = aio;
    }
    return 0;
}

static int coroutine_fn drive_make_backend(BlockDriverState *bs, const DriveOptions *d,
                                           Error **errp)
{
    BlockBackend *blk = blk_new(0, BLK_PERM_ALL);
    g_autofree char *desc = g_strdup_printf("block device '%s'", d->id);

    blk_set_desc(blk, desc);
    if (!blk_set_name(blk, d->id, errp) || blk_insert_bs(blk, bs, errp) < 0) {
        blk_co_unref(blk);
        return -EINVAL;
    }
    drives = g_slist_prepend(drives, blk);
    return 0;
}

int coroutine_fn daemon_co_make_drive(json_t *tree, Error **errp)
{
    g_auto(OptTree) t;
    DriveOptions d = {0};
    BdrvOpenFileArgs args = {0};
    BlockDriverState *bs;
    int r;

    opt_tree_init(&t, tree);
    r = drive_read(&t, &d, errp);
    if (r == 0) {
        r = drive_open_args(&d, &args, errp);
    }
    if (r < 0) {
        return r;
    }
    bs = bdrv_co_open_file(&args, errp);
    if (!bs) {
        return -EINVAL;
    }
    r = drive_make_backend(bs, &d, errp);
    bdrv_co_unref(bs);
    return r;
}

void coroutine_fn daemon_co_drop_drives(void)
{
    for (GSList *l = drives; l; l = l->next) {
        blk_co_remove_bs(l->data);
        blk_co_unref(l->data);
    }
    g_slist_free(drives);
    drives = NULL;
}
