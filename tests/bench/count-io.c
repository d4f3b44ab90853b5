/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * count-io: what a program asks of its files, counted: a library for LD_PRELOAD.
 *
 *     QBLK_COUNT_IO=/path/of/64/bytes LD_PRELOAD=libcount-io.so qemu-storage-daemon ... aio=threads ...
 *
 * The file is mapped, so that whoever started the program reads the counts while it runs.  Seen are calls of the C
 * library on regular files and block devices; not seen is what goes through io_uring or libaio, so files are to be
 * opened with aio=threads.  Not built on anything of the project: it goes into other people's programs, too.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* As the reader finds them: eight numbers of this machine's byte order. */
typedef struct Counts {
    uint64_t writes, bytes; /* of data that was written, zeros that were spelled out included */
    uint64_t syncs;         /* fsync, fdatasync, and writes that are durable at return */
    uint64_t allocations;   /* fallocate() of any mode, and ftruncate() */
    uint64_t unused[4];
} Counts;

static Counts nowhere;
static Counts *counts = &nowhere;

static __attribute__((constructor)) void map_counts(void)
{
    const char *path = getenv("QBLK_COUNT_IO");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *at;

    if (fd < 0) {
        return;
    }
    at = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) {
        counts = at;
    }
    close(fd);
}

static int is_storage(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
}

static void add(uint64_t *count, uint64_t n)
{
    __atomic_fetch_add(count, n, __ATOMIC_RELAXED);
}

static ssize_t wrote(int fd, ssize_t ret, int durable)
{
    if (ret >= 0 && is_storage(fd)) {
        add(&counts->writes, 1);
        add(&counts->bytes, ret);
        add(&counts->syncs, durable);
    }
    return ret;
}

static int called(int fd, int ret, uint64_t *count)
{
    if (ret == 0 && is_storage(fd)) {
        add(count, 1);
    }
    return ret;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *buf, size_t n)
{
    return wrote(fd, REAL(write)(fd, buf, n), 0);
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t offset)
{
    return wrote(fd, REAL(pwrite)(fd, buf, n, offset), 0);
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t offset)
{
    return wrote(fd, REAL(pwrite64)(fd, buf, n, offset), 0);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
    return wrote(fd, REAL(pwritev)(fd, iov, n, offset), 0);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int n, off64_t offset)
{
    return wrote(fd, REAL(pwritev64)(fd, iov, n, offset), 0);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    return wrote(fd, REAL(pwritev2)(fd, iov, n, offset, flags), (flags & RWF_DSYNC) != 0);
}

ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off64_t offset, int flags)
{
    return wrote(fd, REAL(pwritev64v2)(fd, iov, n, offset, flags), (flags & RWF_DSYNC) != 0);
}

int fsync(int fd)
{
    return called(fd, REAL(fsync)(fd), &counts->syncs);
}

int fdatasync(int fd)
{
    return called(fd, REAL(fdatasync)(fd), &counts->syncs);
}

int fallocate(int fd, int mode, off_t offset, off_t n)
{
    return called(fd, REAL(fallocate)(fd, mode, offset, n), &counts->allocations);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t n)
{
    return called(fd, REAL(fallocate64)(fd, mode, offset, n), &counts->allocations);
}

int ftruncate(int fd, off_t length)
{
    return called(fd, REAL(ftruncate)(fd, length), &counts->allocations);
}

int ftruncate64(int fd, off64_t length)
{
    return called(fd, REAL(ftruncate64)(fd, length), &counts->allocations);
}
