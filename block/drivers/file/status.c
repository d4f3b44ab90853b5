/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Block status: what is data and what is a hole, by lseek(2) in a worker, with the last answer kept.
 *
 *   file      |#####data#####|          hole          |##data##|
 *   asked            ^ offset
 *   lseek     |<---- known --->|        start .. end as far as the kernel knows, not only as asked
 *
 * One walk over a disk asks for neighbouring ranges; the kept extent makes it one or two system calls
 * an extent, however small the caller's steps.
 *
 * F3 (file.c): file_status_written() is called when a write has ended, whatever its result.  It raises
 * write_gen; an answer that was under way at that time is used (the write was not acknowledged when
 * it was asked for) but not kept.
 */
#include <errno.h>
#include <unistd.h>
#include "aio/thread-pool.h"
#include "block/drivers/file/file-int.h"
#include "util/osdep.h"
#include "trace-file.h"

typedef struct SeekArgs {
    int fd;
    int64_t offset;
    FileExtent found; /* out; holds offset */
} SeekArgs;

/*
 * Negative errno: the file system cannot tell, or offset is at or behind the end.  The file may change
 * between the calls; then the answer is "data", which is always safe.
 */
static int seek_blocking(void *opaque)
{
    SeekArgs *args = opaque;
    off_t data = lseek(args->fd, args->offset, SEEK_DATA);
    off_t end;

    if (data < 0 && errno == ENXIO) {
        /* No data from here on: a hole up to the end of file. */
        end = lseek(args->fd, 0, SEEK_END);
        if (end <= args->offset) {
            return end < 0 ? -errno : -ENXIO;
        }
        args->found = (FileExtent){args->offset, end, false};
        return 0;
    }
    if (data < 0) {
        return -errno;
    }
    if (data > args->offset) {
        args->found = (FileExtent){args->offset, data, false};
        return 0;
    }
    end = lseek(args->fd, args->offset, SEEK_HOLE);
    if (end <= args->offset) {
        return end < 0 ? -errno : -EAGAIN;
    }
    args->found = (FileExtent){args->offset, end, true};
    return 0;
}

static bool holds(const FileExtent *e, int64_t offset)
{
    return offset >= e->start && offset < e->end;
}

static bool look_up_known(FileState *s, int64_t offset, FileExtent *ret_extent, uint64_t *ret_gen)
{
    bool hit;

    g_mutex_lock(&s->status_lock);
    hit = holds(&s->known, offset);
    if (hit) {
        *ret_extent = s->known;
    }
    *ret_gen = s->write_gen;
    g_mutex_unlock(&s->status_lock);
    return hit;
}

/* Other processes, that is; of our own writes we hear. */
static bool others_may_write(const FileState *s)
{
    return !s->use_locks || (s->shared & BLK_PERM_WRITE);
}

/* F3 */
static void keep_known(FileState *s, const FileExtent *e, uint64_t gen)
{
    g_mutex_lock(&s->status_lock);
    if (s->write_gen == gen && (e->data || !others_may_write(s))) {
        s->known = *e;
    }
    g_mutex_unlock(&s->status_lock);
}

void file_status_written(FileState *s, int64_t offset, int64_t bytes)
{
    g_mutex_lock(&s->status_lock);
    s->write_gen++;
    if (offset < s->known.end && offset + bytes > s->known.start) {
        s->known = (FileExtent){0};
    }
    g_mutex_unlock(&s->status_lock);
}

void file_status_set_shared(FileState *s, uint64_t shared)
{
    g_mutex_lock(&s->status_lock);
    s->shared = shared;
    if (others_may_write(s)) {
        s->known = (FileExtent){0};
        s->write_gen++;
    }
    g_mutex_unlock(&s->status_lock);
}

int coroutine_fn file_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                      int64_t bytes, int64_t *pnum, int64_t *map,
                                      BlockDriverState **file)
{
    FileState *s = bs->opaque;
    SeekArgs args = {.fd = s->h.fd, .offset = offset};
    uint64_t gen;
    int64_t align = s->h.request_alignment;

    *pnum = bytes;
    *map = offset;
    *file = bs;
    if (s->h.is_device || !want_zero) {
        return BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
    }
    if (!look_up_known(s, offset, &args.found, &gen)) {
        int ret = thread_pool_submit_co(seek_blocking, &args);

        trace_file_seek(s->path, offset, args.found.end - offset, args.found.data, ret);
        if (ret < 0) {
            return BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
        }
        keep_known(s, &args.found, gen);
    }
    *pnum = MIN(bytes, args.found.end - offset);
    if (args.found.data || args.found.end >= bs->total_bytes) {
        *pnum = MIN(bytes, ROUND_UP(*pnum, align));
    } else if (*pnum < bytes && !QEMU_IS_ALIGNED(*pnum, align)) {
        /* A block that is partly a hole is data. */
        *pnum = ROUND_DOWN(*pnum, align);
        if (*pnum == 0) {
            *pnum = MIN(bytes, align);
            return BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
        }
    }
    return (args.found.data ? BDRV_BLOCK_DATA : BDRV_BLOCK_ZERO) | BDRV_BLOCK_OFFSET_VALID;
}
