/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Image locks: how processes that know nothing of each other keep off one image (H3).
 *
 *   byte      0 ... 100 101 102 103 ... 200 201 202 203 ...        permission n = bit n of BLK_PERM_*
 *                   '---- used ---'     '- not shared -'
 *
 * Every holder takes *shared* (read) locks only, so that any number of processes can say the same
 * thing.  Whether somebody else objects is asked by testing for an exclusive lock, without taking it.
 *
 * L1  First lock what we will do, then ask the others.  Two processes that start at once then both
 *     see each other and at least one gives up; asked first, both could pass.
 * L2  A lock is given up only after the permission it stands for is no longer used.
 * L3  The locks hang on an open file description (OFD): two opens of one file in one process exclude
 *     each other as two processes do, and no close() of another descriptor drops them.
 */
#include <errno.h>
#include <fcntl.h>
#include "block/graph/graph.h"
#include "block/open/image-lock.h"

static int lock_range(int fd, short type, off_t start)
{
    struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = 1};
    int r;

    do {
        r = fcntl(fd, F_OFD_SETLK, &fl);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

/* 0: nobody else holds a lock on the byte; -EAGAIN: somebody does. */
static int test_byte(int fd, off_t start)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = 1};

    if (fcntl(fd, F_OFD_GETLK, &fl) < 0) {
        return -errno;
    }
    return fl.l_type == F_UNLCK ? 0 : -EAGAIN;
}

bool image_lock_supported(int fd)
{
    /* Byte 0 has no meaning.  Take it for real: some file systems answer tests and refuse locks. */
    int r = lock_range(fd, F_RDLCK, 0);

    if (r < 0) {
        return r == -EAGAIN || r == -EACCES;
    }
    lock_range(fd, F_UNLCK, 0);
    return true;
}

static int take(int fd, off_t byte, Error **errp)
{
    int r = lock_range(fd, F_RDLCK, byte);

    if (r < 0) {
        error_setg_errno(errp, -r, "Failed to lock byte %lld", (long long)byte);
    }
    return r;
}

int image_lock_acquire(int fd, uint64_t perm, uint64_t shared, Error **errp)
{
    for (int i = 0; (UINT64_C(1) << i) <= BLK_PERM_ALL; i++) {
        uint64_t bit = UINT64_C(1) << i;
        int r = 0;

        if (perm & bit) {
            r = take(fd, RAW_LOCK_PERM_BASE + i, errp);
        }
        if (r == 0 && !(shared & bit)) {
            r = take(fd, RAW_LOCK_SHARED_BASE + i, errp);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int ask(int fd, off_t byte, uint64_t bit, const char *kind, const char *filename,
               Error **errp)
{
    ERRP_GUARD();
    int r = test_byte(fd, byte);

    if (r < 0) {
        g_autofree char *name = bdrv_perm_names(bit);

        error_setg(errp, "Failed to get %s\"%s\" lock", kind, name);
        error_append_hint(errp, "Is another process using the image [%s]?\n", filename);
    }
    return r;
}

int image_lock_check(int fd, uint64_t perm, uint64_t shared, const char *filename, Error **errp)
{
    for (int i = 0; (UINT64_C(1) << i) <= BLK_PERM_ALL; i++) {
        uint64_t bit = UINT64_C(1) << i;
        int r = 0;

        if (perm & bit) {
            r = ask(fd, RAW_LOCK_SHARED_BASE + i, bit, "", filename, errp);
        }
        if (r == 0 && !(shared & bit)) {
            r = ask(fd, RAW_LOCK_PERM_BASE + i, bit, "shared ", filename, errp);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int image_lock_reduce(int fd, uint64_t perm, uint64_t shared, Error **errp)
{
    int ret = 0;

    for (int i = 0; (UINT64_C(1) << i) <= BLK_PERM_ALL; i++) {
        uint64_t bit = UINT64_C(1) << i;
        int r = 0;

        if (!(perm & bit)) {
            r = lock_range(fd, F_UNLCK, RAW_LOCK_PERM_BASE + i);
        }
        if (r == 0 && (shared & bit)) {
            r = lock_range(fd, F_UNLCK, RAW_LOCK_SHARED_BASE + i);
        }
        if (r < 0 && ret == 0) {
            error_setg_errno(errp, -r, "Failed to unlock permission %d", i);
            ret = r;
        }
    }
    return ret;
}
