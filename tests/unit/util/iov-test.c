/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Vectors against one flat buffer. */
#include "util/iov.h"
#include "util/osdep.h"
#include "tests/unit/util/seed.h"

/* @size bytes cut in random elements, some of them empty. */
static void random_vector(GRand *rand, QEMUIOVector *qiov, unsigned char *memory, size_t size)
{
    size_t offset = 0;

    qemu_iovec_init(qiov, g_rand_int_range(rand, 0, 4));
    while (offset < size) {
        size_t len = MIN(test_rand_below(rand, 50), size - offset);

        qemu_iovec_add(qiov, memory + offset, len);
        offset += len;
    }
    g_assert_cmpuint(qiov->size, ==, size);
}

static void check_slices(QEMUIOVector *qiov, unsigned char *memory, size_t offset, size_t len)
{
    unsigned char copy[1000];
    QEMUIOVector slice;
    struct iovec parts[1000];
    size_t within;

    g_assert_cmpuint(qemu_iovec_to_buf(qiov, offset, copy, len), ==, len);
    g_assert_cmpmem(copy, len, memory + offset, len);

    qemu_iovec_init_slice(&slice, qiov, offset, len);
    g_assert_cmpuint(slice.size, ==, len);
    g_assert_cmpint(slice.niov, ==, qemu_iovec_subvec_niov(qiov, offset, len));
    g_assert_cmpint(slice.niov, ==, iov_copy(parts, 1000, qiov->iov, qiov->niov, offset, len));
    g_assert_cmpuint(iov_size(parts, slice.niov), ==, len);
    g_assert_cmpint(qemu_iovec_is_zero(qiov, offset, len), ==,
                    buffer_is_zero(memory + offset, len));

    within = qemu_iovec_bytes_within(qiov, offset, len, 3);
    g_assert_cmpuint(within, ==, iov_size(parts, MIN(slice.niov, 3)));
    if (len > 0) {
        qemu_iovec_discard_back(&slice, len / 2);
        g_assert_cmpuint(slice.size, ==, len - len / 2);
        g_assert_cmpuint(iov_size(slice.iov, slice.niov), ==, slice.size);
    }
    qemu_iovec_destroy(&slice);
}

static void test_random(void)
{
    GRand *rand = test_rand();

    for (int round = 0; round < 300; round++) {
        unsigned char a[1000] = {0};
        unsigned char b[1000];
        size_t size = 1 + test_rand_below(rand, sizeof(a));
        QEMUIOVector va;
        QEMUIOVector vb;
        size_t offset = test_rand_below(rand, size);
        size_t len = test_rand_below(rand, size - offset + 1);

        random_vector(rand, &va, a, size);
        random_vector(rand, &vb, b, size);
        g_assert_true(qemu_iovec_is_zero(&va, 0, size));
        qemu_iovec_memset(&va, offset, 0x5a, len);
        check_slices(&va, a, offset, len);
        check_slices(&va, a, 0, offset);

        g_assert_cmpuint(qemu_iovec_copy(&vb, 0, &va, 0, size), ==, size);
        g_assert_cmpmem(a, size, b, size);
        g_assert_cmpint(qemu_iovec_compare(&va, &vb), ==, -1);
        b[offset] ^= 1;
        g_assert_cmpint(qemu_iovec_compare(&va, &vb), ==, offset);
        g_assert_cmpuint(qemu_iovec_from_buf(&va, offset, b + offset, size), ==, size - offset);
        g_assert_cmpmem(a, size, b, size);
        qemu_iovec_destroy(&va);
        qemu_iovec_destroy(&vb);
    }
    g_rand_free(rand);
}

static void test_extended(void)
{
    char head[3] = "abc";
    char middle[10] = "0123456789";
    char tail[2] = "yz";
    char flat[10];
    QEMUIOVector mid = QEMU_IOVEC_INIT_BUF(mid, middle, sizeof(middle));
    QEMUIOVector all;

    qemu_iovec_init_extended(&all, head, 3, &mid, 4, 5, tail, 2);
    g_assert_cmpint(all.niov, ==, 3);
    g_assert_cmpuint(qemu_iovec_to_buf(&all, 0, flat, sizeof(flat)), ==, 10);
    g_assert_cmpmem(flat, 10, "abc45678yz", 10);
    qemu_iovec_destroy(&all);

    qemu_iovec_init_extended(&all, NULL, 0, NULL, 0, 0, tail, 2);
    g_assert_cmpint(all.niov, ==, 1);
    g_assert_true(all.iov == &all.local_iov);
    qemu_iovec_destroy(&all);
}

static void test_beyond_the_end(void)
{
    char buf[8] = "abcdefgh";
    char out[8];
    QEMUIOVector qiov;
    struct iovec iov[2] = {{buf, 4}, {buf + 4, 4}};
    struct iovec *rest = iov;
    unsigned int count = 2;

    qemu_iovec_init_external(&qiov, iov, 2);
    g_assert_cmpuint(qemu_iovec_to_buf(&qiov, 6, out, 8), ==, 2);
    g_assert_cmpuint(qemu_iovec_to_buf(&qiov, 8, out, 8), ==, 0);
    g_assert_cmpuint(qemu_iovec_to_buf(&qiov, 100, out, 8), ==, 0);
    qemu_iovec_destroy(&qiov);

    g_assert_cmpuint(iov_discard_front(&rest, &count, 5), ==, 5);
    g_assert_cmpuint(count, ==, 1);
    g_assert_true(rest->iov_base == buf + 5);
    g_assert_cmpuint(iov_discard_front(&rest, &count, 5), ==, 3);
    g_assert_cmpuint(count, ==, 0);
}

static void test_alignment(void)
{
    unsigned char *memory = qemu_memalign(4096, 8192);
    QEMUIOVector qiov;

    qemu_iovec_init(&qiov, 0);
    qemu_iovec_add(&qiov, memory, 512);
    qemu_iovec_add(&qiov, memory + 4096, 1024);
    g_assert_true(qemu_iovec_is_aligned(&qiov, 512));
    g_assert_false(qemu_iovec_is_aligned(&qiov, 1024));
    qemu_iovec_reset(&qiov);
    qemu_iovec_add(&qiov, memory + 8, 512);
    g_assert_false(qemu_iovec_is_aligned(&qiov, 512));
    qemu_iovec_destroy(&qiov);
    qemu_vfree(memory);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/util/iov/slices and copies agree with flat memory", test_random);
    g_test_add_func("/util/iov/a padded vector is head, middle and tail", test_extended);
    g_test_add_func("/util/iov/nothing is touched beyond the end", test_beyond_the_end);
    g_test_add_func("/util/iov/alignment is of every base and length", test_alignment);
    return g_test_run();
}
