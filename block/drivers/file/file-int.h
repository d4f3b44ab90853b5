/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the "file" room share. */
#ifndef BLOCK_DRIVERS_FILE_INT_H
#define BLOCK_DRIVERS_FILE_INT_H

#include <sys/stat.h>
#include "aio/file.h"
#include "block/graph/graph.h"

/* A run of the file that is all data or all hole. */
typedef struct FileExtent {
    int64_t start, end; /* end == start: none */
    bool data;
} FileExtent;

/* An open file description and what was learned about it.  Made by file_open_fd() in a worker. */
typedef struct FileHandle {
    int fd;
    bool is_device;
    bool writable;
    dev_t dev;
    ino_t ino;
    int64_t length;
    uint32_t request_alignment, mem_alignment;
    uint32_t block_size; /* logical block of a device, else 1 */
} FileHandle;

typedef struct FileState {
    /* Fixed while open; replaced by a reopen, quiesced. */
    FileHandle h;
    char *path;
    bool engine_given;
    AioFileEngine engine;

    /* Main thread.  lock_fd shares its description with the first fd, and outlives reopens. */
    int lock_fd;
    bool use_locks;
    OnOffAuto locking;
    uint64_t perm;
    uint64_t shared; /* written under status_lock */

    /* Home AioContext: calls that the file system has refused. */
    bool no_zero_range, no_punch_hole, no_fallocate;

    /*
     * Under status_lock, which is never held across a yield.  It is needed because a read-only node
     * may be asked from several threads.
     */
    GMutex status_lock;
    FileExtent known;
    uint64_t write_gen; /* raised when a write has ended */

    /* Atomic; 0 or the negative errno of the fdatasync that failed (rule F2 in file.c). */
    int flush_error;
    /* Atomic: discards since the node was opened. */
    uint64_t discards_ok, discards_failed, discarded_bytes;
} FileState;

/* open.c: worker functions and what they report. */
typedef struct FileOpenArgs {
    const char *path;
    const char *driver_name;
    bool want_device;
    bool read_write;
    bool auto_read_only;
    bool direct;
    FileHandle h; /* out */
    Error *err;   /* out */
} FileOpenArgs;
int coroutine_fn file_co_open_fd(FileOpenArgs *args);
void coroutine_fn file_co_close_fd(int fd);

/* life.c */
extern const BlockDriverLife file_life;
AioFileEngine file_engine(const FileState *s);

/* info.c */
BlockStatsSpecific *file_get_specific_stats(BlockDriverState *bs);

/* data.c, status.c, resize.c, create.c */
extern const BlockDriverData file_data;
extern const BlockDriverImage file_image;
int coroutine_fn file_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                                      int64_t bytes, int64_t *pnum, int64_t *map,
                                      BlockDriverState **file);
void file_status_written(FileState *s, int64_t offset, int64_t bytes);
void file_status_set_shared(FileState *s, uint64_t shared);
int64_t coroutine_fn file_co_getlength(BlockDriverState *bs);
int64_t coroutine_fn file_co_get_allocated_file_size(BlockDriverState *bs);
int coroutine_fn file_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                                  PreallocMode prealloc, BdrvRequestFlags flags, Error **errp);
/* info.c */
int coroutine_fn file_co_get_info(BlockDriverState *bs, BlockDriverInfo *ret_info);
ImageInfoSpecific *coroutine_fn file_co_get_specific_info(BlockDriverState *bs, Error **errp);

/* Worker thread: make the file @length long with @prealloc; on failure it has its old length. */
int file_resize_blocking(int fd, int64_t length, PreallocMode prealloc, BdrvProgress *progress,
                         Error **errp);
/* Worker thread: length of a file or device; negative errno. */
int64_t file_length_blocking(int fd, bool is_device);

#endif
