/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Checksums against published ones, against a bit at a time, and the two ways against each other. */
#include "util/crc32c.h"
#include "util/osdep.h"
#include "tests/unit/util/seed.h"

/* The definition: one bit after the other. */
static uint32_t bit_by_bit(const uint8_t *p, size_t len)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < len * 8; i++) {
        uint32_t low = (crc ^ p[i / 8] >> i % 8) & 1;

        crc = crc >> 1 ^ (low ? 0x82f63b78 : 0);
    }
    return ~crc;
}

static void expect(const void *buf, size_t len, uint32_t crc)
{
    g_assert_cmphex(crc32c(0, buf, len), ==, crc);
    g_assert_cmphex(crc32c_portable(0, buf, len), ==, crc);
}

/* RFC 3720, B.4, which prints the bytes in the order of the wire. */
static void test_published(void)
{
    static const uint8_t read_10[48] = {
        0x01, 0xc0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18, [32] = 0x28, [40] = 0x02,
    };
    uint8_t bytes[32];

    memset(bytes, 0, sizeof(bytes));
    expect(bytes, sizeof(bytes), 0x8a9136aa);
    memset(bytes, 0xff, sizeof(bytes));
    expect(bytes, sizeof(bytes), 0x62a8ab43);
    for (int i = 0; i < 32; i++) {
        bytes[i] = i;
    }
    expect(bytes, sizeof(bytes), 0x46dd794e);
    for (int i = 0; i < 32; i++) {
        bytes[i] = 31 - i;
    }
    expect(bytes, sizeof(bytes), 0x113fdb5c);
    expect(read_10, sizeof(read_10), 0xd9963a56);
    expect("123456789", 9, 0xe3069283);
}

static void test_nothing(void)
{
    expect(NULL, 0, 0);
    g_assert_cmphex(crc32c(0xe3069283, NULL, 0), ==, 0xe3069283);
    g_assert_cmphex(crc32c_portable(0xe3069283, NULL, 0), ==, 0xe3069283);
}

static void test_ways_agree(void)
{
    GRand *rand = test_rand();
    g_autofree uint8_t *bytes = g_malloc(9000);

    g_test_message("%s", crc32c_is_accelerated() ? "with the instruction" : "tables only");
    for (int i = 0; i < 9000; i++) {
        bytes[i] = g_rand_int(rand);
    }
    for (int round = 0; round < 400; round++) {
        size_t at = test_rand_below(rand, 64);
        size_t len = test_rand_below(rand, round % 2 ? 8900 : 80);
        size_t first = test_rand_below(rand, len + 1);
        uint32_t crc = bit_by_bit(bytes + at, len);

        expect(bytes + at, len, crc);
        g_assert_cmphex(crc32c(crc32c(0, bytes + at, first), bytes + at + first, len - first), ==,
                        crc);
        g_assert_cmphex(
            crc32c_portable(crc32c(0, bytes + at, first), bytes + at + first, len - first), ==,
            crc);
    }
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/crc32c/published-checksums-come-out", test_published);
    g_test_add_func("/crc32c/no-bytes-change-nothing", test_nothing);
    g_test_add_func("/crc32c/all-ways-and-all-cuts-give-one-checksum", test_ways_agree);
    return g_test_run();
}
