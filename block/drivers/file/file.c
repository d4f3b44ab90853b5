/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "file", "host_device" and "host_cdrom": an image that is a regular file or a device of this host.
 *
 *      io room                      this room                         outside
 *   ------------   co_preadv      +-----------+   aio_file_*()    +----------------+
 *   aligned,   ------------------>|  data.c   |------------------>| ring / libaio  |
 *   in bounds    co_pwrite_zeroes |           |   fallocate(2)    | worker threads |
 *                                 |           |                   |                |
 *                co_block_status  | status.c  |   SEEK_DATA/HOLE  |                |
 *              ------------------>|  known .. |------------------>| worker         |
 *                co_truncate      | resize.c  |   ftruncate(2)    |                |
 *              ------------------>|           |------------------>| worker         |
 *                check_perm       | life.c    |   F_OFD_SETLK     |                |
 *   graph room ------------------>|  lock_fd  |------------------>| the kernel     |
 *                                 +-----------+                   +----------------+
 *
 * F1  No system call that can wait on storage is made in the thread of an AioContext.  (Locks are
 *     taken there: the kernel answers from memory, and permissions change without yielding.)
 * F2  Through the page cache a failed fdatasync is final.  The kernel may have marked the pages clean
 *     that it could not write, and the next call would succeed over lost data: so every flush after
 *     the first failure fails with -EIO, until the node is closed (H1, H4).
 * F3  A range is reported as a hole from memory only if no write has ended since the kernel said so,
 *     and no other process may write.  A stale "data" costs time, a stale "hole" costs data.
 * F4  An aio engine that was asked for is used or refused with the reason, never replaced.
 * F5  The locks hang on the first descriptor (lock_fd) for the life of the node, so a reopen neither
 *     drops them nor meets its own.
 * F6  While anybody uses the node, no other process may write or resize the file (H3): two writers mix
 *     their disks, and image tools empty a file before they write it.  What the users share among
 *     themselves ends at this process.  force-share=on shares all, locking=off asks nobody.
 */
#include "block/drivers/drivers.h"
#include "block/drivers/file/file-int.h"

static BlockDriver bdrv_file = {
    .format_name = "file",
    .is_protocol = true,
    .instance_size = sizeof(FileState),
    .life = &file_life,
    .data = &file_data,
    .image = &file_image,
};

static BlockDriver bdrv_host_device = {
    .format_name = "host_device",
    .is_protocol = true,
    .instance_size = sizeof(FileState),
    .life = &file_life,
    .data = &file_data,
    .image = &file_image,
};

/* A disc is a device like any, as long as nobody takes it out. */
static BlockDriver bdrv_host_cdrom = {
    .format_name = "host_cdrom",
    .is_protocol = true,
    .instance_size = sizeof(FileState),
    .life = &file_life,
    .data = &file_data,
    .image = &file_image,
};

void bdrv_file_register(void)
{
    bdrv_register(&bdrv_file);
    bdrv_register(&bdrv_host_device);
    bdrv_register(&bdrv_host_cdrom);
}
