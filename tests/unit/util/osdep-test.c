/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rounding, bits, byte order, memory. */
#include "util/osdep.h"
#include "tests/unit/util/seed.h"

static void test_rounding(void)
{
    g_assert_cmpuint(ROUND_UP(INT64_C(5) * GiB + 1, 4096), ==, 5 * GiB + 4096);
    g_assert_cmpuint(ROUND_DOWN(INT64_C(5) * GiB + 4097, 4096), ==, 5 * GiB + 4096);
    g_assert_cmpuint(ROUND_UP((uint64_t)5 * GiB + 1, 4096u), ==, 5 * GiB + 4096);
    g_assert_cmpint(QEMU_ALIGN_UP(10, 3), ==, 12);
    g_assert_cmpint(QEMU_ALIGN_DOWN(10, 3), ==, 9);
    g_assert_true(QEMU_IS_ALIGNED(9, 3));
    g_assert_cmpint(DIV_ROUND_UP(10, 4), ==, 3);
    g_assert_true(is_power_of_2(1));
    g_assert_false(is_power_of_2(0));
    g_assert_false(is_power_of_2(3));
    g_assert_cmpuint(pow2ceil(0), ==, 1);
    g_assert_cmpuint(pow2ceil(5), ==, 8);
    g_assert_cmpuint(pow2ceil(8), ==, 8);
    g_assert_cmpuint(pow2ceil((UINT64_C(1) << 63) + 1), ==, 0);
    g_assert_cmpuint(pow2floor(9), ==, 8);
    g_assert_cmpuint(pow2floor(0), ==, 0);
    g_assert_cmpint(ctz64(0), ==, 64);
    g_assert_cmpint(clz64(1), ==, 63);
    g_assert_cmpint(ctz32(8), ==, 3);
    g_assert_cmpint(clz32(0), ==, 32);
}

static void test_byte_order(void)
{
    unsigned char bytes[9] = {0};

    stq_be_p(bytes + 1, UINT64_C(0x0102030405060708));
    g_assert_cmpuint(bytes[1], ==, 1);
    g_assert_cmpuint(bytes[8], ==, 8);
    g_assert_cmpuint(ldl_be_p(bytes + 1), ==, 0x01020304);
    g_assert_cmpuint(ldl_le_p(bytes + 1), ==, 0x04030201);
    g_assert_cmpuint(lduw_be_p(bytes + 1), ==, 0x0102);
    g_assert_cmpuint(ldq_le_p(bytes + 1), ==, UINT64_C(0x0807060504030201));
    stw_le_p(bytes, 0xaabb);
    g_assert_cmpuint(bytes[0], ==, 0xbb);
    g_assert_cmpuint(be32_to_cpu(cpu_to_be32(7)), ==, 7);
    stl_be_p(bytes, 0xfffffffe);
    g_assert_cmpuint(ldl_be_p(bytes), ==, 0xfffffffe);
}

static void test_zero(void)
{
    GRand *rand = test_rand();
    unsigned char *memory = g_malloc0(4096);

    g_assert_true(buffer_is_zero(memory, 0));
    for (int round = 0; round < 20000; round++) {
        size_t start = g_rand_int_range(rand, 0, 300);
        size_t size = g_rand_int_range(rand, 1, round % 4 ? 400 : 3700);
        size_t at = start + g_rand_int_range(rand, 0, (gint32)size);

        g_assert_true(buffer_is_zero(memory + start, size));
        memory[at] = 1 << g_rand_int_range(rand, 0, 8);
        g_assert_false(buffer_is_zero(memory + start, size));
        g_assert_true(buffer_is_zero(memory + start, at - start));
        g_assert_true(buffer_is_zero(memory + at + 1, start + size - at - 1));
        memory[at] = 0;
    }
    g_free(memory);
    g_rand_free(rand);
}

static void test_zero_speed(void)
{
    enum { SIZE = 64 * 1024, ROUNDS = 20000 };
    unsigned char *memory = qemu_memalign(4096, SIZE);
    int zero = 0;

    memset(memory, 0, SIZE);
    g_test_timer_start();
    for (int i = 0; i < ROUNDS; i++) {
        zero += buffer_is_zero(memory, SIZE);
    }
    g_test_maximized_result((double)SIZE * ROUNDS / g_test_timer_elapsed() / (double)GiB,
                            "buffer_is_zero: GiB/s of zeroes");
    g_assert_cmpint(zero, ==, ROUNDS);
    qemu_vfree(memory);
}

static void test_memory(void)
{
    for (size_t alignment = 1; alignment <= 65536; alignment *= 2) {
        void *memory = qemu_memalign(alignment, 100);

        g_assert_true(QEMU_PTR_IS_ALIGNED(memory, alignment));
        memset(memory, 1, 100);
        qemu_vfree(memory);
    }
    qemu_vfree(qemu_memalign(512, 0));
    qemu_vfree(NULL);
#ifndef CONFIG_ASAN /* which ends the program instead */
    g_assert_null(qemu_try_memalign(4096, PTRDIFF_MAX));
#endif
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/util/osdep/rounding and bits", test_rounding);
    g_test_add_func("/util/osdep/byte order is of the memory, at any alignment", test_byte_order);
    g_test_add_func("/util/osdep/one bit anywhere is not zero", test_zero);
    g_test_add_func("/util/osdep/memory is aligned", test_memory);
    if (g_test_perf()) {
        g_test_add_func("/util/osdep/speed of looking for zeroes", test_zero_speed);
    }
    return g_test_run();
}
