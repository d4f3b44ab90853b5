/* SPDX-License-Identifier: GPL-2.0-or-later */
/* file-test.c - file I/O by all three engines, in both kinds of context */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "aio/file.h"
#include "engines.h"
#include "util/osdep.h"

#define BLOCK 4096

/* A file without a name; -1 where the file system refuses O_DIRECT, as some in memory do. */
static int file_open(int flags)
{
    g_autofree char *name = g_strdup("aio-file-test-XXXXXX");
    int fd = mkostemp(name, flags | O_CLOEXEC);

    if (fd < 0) {
        g_assert_cmpint(errno, ==, EINVAL);
        g_assert_true(flags & O_DIRECT);
        g_test_message("this file system refuses O_DIRECT");
        return -1;
    }
    unlink(name);
    return fd;
}

typedef struct FileTest {
    AioFileEngine e;
    int fd;
    void coroutine_fn (*func)(struct FileTest *t);
} FileTest;

static void coroutine_fn file_test_entry(void *opaque)
{
    FileTest *t = opaque;

    t->func(t);
}

static void coroutine_fn write_bytes(FileTest *t, int64_t offset, size_t bytes, int fill)
{
    void *buf = qemu_memalign(BLOCK, bytes);
    QEMUIOVector qiov;

    memset(buf, fill, bytes);
    qemu_iovec_init_buf(&qiov, buf, bytes);
    g_assert_cmpint(aio_file_pwritev(t->e, t->fd, offset, &qiov, false), ==, 0);
    qemu_vfree(buf);
}

/* Read, and expect @filled bytes of @fill, then zeros. */
static void coroutine_fn expect_bytes(FileTest *t, int64_t offset, size_t bytes, int fill,
                                      size_t filled)
{
    unsigned char *buf = qemu_memalign(BLOCK, bytes);
    QEMUIOVector qiov;

    memset(buf, 0xee, bytes);
    qemu_iovec_init_buf(&qiov, buf, bytes);
    g_assert_cmpint(aio_file_preadv(t->e, t->fd, offset, &qiov), ==, 0);
    for (size_t i = 0; i < bytes; i++) {
        g_assert_cmpint(buf[i], ==, i < filled ? fill : 0);
    }
    qemu_vfree(buf);
}

static void coroutine_fn read_past_the_end(FileTest *t)
{
    bool direct = fcntl(t->fd, F_GETFL) & O_DIRECT;

    write_bytes(t, 0, 2 * BLOCK, 0x5a);
    expect_bytes(t, 0, 4 * BLOCK, 0x5a, 2 * BLOCK);
    expect_bytes(t, 8 * BLOCK, BLOCK, 0, 0);
    /* An odd end: O_DIRECT stops there and cannot go on. */
    g_assert_cmpint(ftruncate(t->fd, BLOCK + 100), ==, 0);
    expect_bytes(t, 0, 4 * BLOCK, 0x5a, BLOCK + 100);
    expect_bytes(t, BLOCK, BLOCK, 0x5a, 100);
    if (!direct) {
        expect_bytes(t, BLOCK + 99, 2, 0x5a, 1);
    }
}

static void coroutine_fn vectors_longer_than_a_call_takes(FileTest *t)
{
    enum { PARTS = 3000 };
    unsigned char *buf = qemu_memalign(BLOCK, PARTS * 512);
    QEMUIOVector qiov;

    qemu_iovec_init(&qiov, PARTS);
    for (int i = 0; i < PARTS; i++) {
        memset(buf + i * 512, i % 251, 512);
        qemu_iovec_add(&qiov, buf + i * 512, 512);
    }
    g_assert_cmpint(aio_file_pwritev(t->e, t->fd, 0, &qiov, false), ==, 0);
    memset(buf, 0xee, PARTS * 512);
    g_assert_cmpint(aio_file_preadv(t->e, t->fd, 0, &qiov), ==, 0);
    for (int i = 0; i < PARTS * 512; i++) {
        g_assert_cmpint(buf[i], ==, i / 512 % 251);
    }
    qemu_iovec_destroy(&qiov);
    qemu_vfree(buf);
}

static void coroutine_fn flush_and_allocate(FileTest *t)
{
    struct stat st;
    QEMUIOVector qiov;
    void *buf = qemu_memalign(BLOCK, BLOCK);
    int ret;

    memset(buf, 7, BLOCK);
    qemu_iovec_init_buf(&qiov, buf, BLOCK);
    g_assert_cmpint(aio_file_pwritev(t->e, t->fd, 0, &qiov, true), ==, 0);
    qemu_vfree(buf);
    g_assert_cmpint(aio_file_fdatasync(t->e, t->fd), ==, 0);
    ret = aio_file_fallocate(t->e, t->fd, 0, BLOCK, 3 * BLOCK);
    if (ret == -EOPNOTSUPP) {
        g_test_message("this file system cannot fallocate");
        return;
    }
    g_assert_cmpint(ret, ==, 0);
    g_assert_cmpint(fstat(t->fd, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, 4 * BLOCK);
    g_assert_cmpint(
        aio_file_fallocate(t->e, t->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, BLOCK), ==,
        0);
    expect_bytes(t, 0, BLOCK, 0, 0);
    g_assert_cmpint(aio_file_fallocate(t->e, t->fd, 0, -1, BLOCK), ==, -EINVAL);
}

static void coroutine_fn errors_come_back(FileTest *t)
{
    char buf[512] = {0};
    QEMUIOVector qiov;

    qemu_iovec_init_buf(&qiov, buf, sizeof(buf));
    g_assert_cmpint(aio_file_preadv(t->e, -1, 0, &qiov), ==, -EBADF);
    g_assert_cmpint(aio_file_pwritev(t->e, -1, 0, &qiov, true), ==, -EBADF);
    g_assert_cmpint(aio_file_fdatasync(t->e, -1), ==, -EBADF);
}

static void run_with_each_engine(void coroutine_fn (*func)(FileTest *t))
{
    AioContext *ctx = qemu_get_aio_context();

    for (AioFileEngine e = AIO_FILE_IO_URING; e <= AIO_FILE_THREADS; e++) {
        for (int direct = 0; direct <= 1; direct++) {
            FileTest t = {.e = e, .func = func};
            g_autoptr(Error) err = NULL;

            if (e == AIO_FILE_NATIVE && !direct) {
                continue;
            }
            if (aio_file_engine_check(ctx, e, &err) < 0) {
                g_test_message("engine %d: %s", e, error_get_pretty(err));
                continue;
            }
            t.fd = file_open(direct ? O_DIRECT : 0);
            if (t.fd >= 0) {
                aio_run_co(file_test_entry, &t);
                close(t.fd);
            }
        }
    }
}

static void test_a_read_past_the_end_gives_zeros(void)
{
    run_with_each_engine(read_past_the_end);
}

static void test_long_vectors_are_done_in_parts(void)
{
    run_with_each_engine(vectors_longer_than_a_call_takes);
}

static void test_flush_and_allocate(void)
{
    run_with_each_engine(flush_and_allocate);
}

static void test_errors_come_back_as_errno(void)
{
    run_with_each_engine(errors_come_back);
}

static void test_io_uring_is_refused_without_a_ring(void)
{
    AioContext *ctx = qemu_get_aio_context();
    Error *err = NULL;

    if (g_str_equal(aio_context_engine_name(ctx), "epoll")) {
        g_assert_cmpint(aio_file_engine_check(ctx, AIO_FILE_IO_URING, &err), ==, -ENOTSUP);
        error_free_or_abort(&err);
        g_assert_cmpint(aio_file_engine_default(ctx), ==, AIO_FILE_THREADS);
    } else {
        g_assert_cmpint(aio_file_engine_check(ctx, AIO_FILE_IO_URING, NULL), ==, 0);
        g_assert_cmpint(aio_file_engine_default(ctx), ==, AIO_FILE_IO_URING);
    }
}

/*
 * Random reads and writes, each coroutine in a region of its own, more of them than any ring or queue
 * takes at once.
 */
enum { STRESS_COROUTINES = 1500, STRESS_OPS = 4, STRESS_SECTORS = 16 };

typedef struct Stress {
    AioFileEngine e;
    int fd;
    int index;
    uint32_t seed;
    int *left;
} Stress;

static void coroutine_fn stress_entry(void *opaque)
{
    Stress *s = opaque;
    GRand *rand = g_rand_new_with_seed(s->seed + s->index);
    unsigned char *buf = qemu_memalign(BLOCK, STRESS_SECTORS * 512);
    unsigned char model[STRESS_SECTORS] = {0};
    int64_t base = (int64_t)s->index * STRESS_SECTORS * 512;

    for (int i = 0; i < STRESS_OPS; i++) {
        int first = g_rand_int_range(rand, 0, STRESS_SECTORS);
        int count = g_rand_int_range(rand, 1, STRESS_SECTORS - first + 1);
        QEMUIOVector qiov;

        qemu_iovec_init_buf(&qiov, buf, count * 512);
        if (g_rand_boolean(rand)) {
            int fill = g_rand_int_range(rand, 0, 256);

            memset(buf, fill, count * 512);
            memset(model + first, fill, count);
            g_assert_cmpint(aio_file_pwritev(s->e, s->fd, base + first * 512, &qiov, false), ==, 0);
        } else {
            g_assert_cmpint(aio_file_preadv(s->e, s->fd, base + first * 512, &qiov), ==, 0);
            for (int j = 0; j < count * 512; j++) {
                g_assert_cmpint(buf[j], ==, model[first + j / 512]);
            }
        }
    }
    qemu_vfree(buf);
    g_rand_free(rand);
    --*s->left;
}

static void stress(AioFileEngine e, bool direct, uint32_t seed)
{
    AioContext *ctx = qemu_get_aio_context();
    Stress *all = g_new0(Stress, STRESS_COROUTINES);
    int fd = file_open(direct ? O_DIRECT : 0);
    int left = STRESS_COROUTINES;

    if (fd < 0) {
        g_free(all);
        return;
    }
    for (int i = 0; i < STRESS_COROUTINES; i++) {
        all[i] = (Stress){.e = e, .fd = fd, .index = i, .seed = seed, .left = &left};
        aio_co_enter(ctx, qemu_coroutine_create(stress_entry, &all[i]));
    }
    poll_until(left == 0);
    close(fd);
    g_free(all);
}

static void test_more_requests_than_the_queues_take(void)
{
    const char *text = g_getenv("SEED");
    uint32_t seed = text ? strtoul(text, NULL, 0) : g_random_int();
    AioContext *ctx = qemu_get_aio_context();

    g_test_message("SEED=%u", seed);
    for (AioFileEngine e = AIO_FILE_IO_URING; e <= AIO_FILE_THREADS; e++) {
        if (aio_file_engine_check(ctx, e, NULL) == 0) {
            stress(e, e == AIO_FILE_NATIVE, seed);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    engine_test_add("a read past the end gives zeros", test_a_read_past_the_end_gives_zeros);
    engine_test_add("long vectors are done in parts", test_long_vectors_are_done_in_parts);
    engine_test_add("flush and allocate", test_flush_and_allocate);
    engine_test_add("errors come back as errno", test_errors_come_back_as_errno);
    engine_test_add("io_uring is refused without a ring", test_io_uring_is_refused_without_a_ring);
    engine_test_add("more requests than the queues take", test_more_requests_than_the_queues_take);
    return g_test_run();
}
