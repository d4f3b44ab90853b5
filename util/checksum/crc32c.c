/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * crc32c.c - CRC-32C by the processor's instruction, or by tables
 *
 * The polynomial is reflected: bit 0 of a byte is the highest power.  A checksum is inverted at the
 * beginning and at the end, so that zeros in front count, and that going on from a finished one undoes
 * the last inversion with the first.
 *
 * Tables: table[0][b] is what the byte b leaves behind; table[k][b] the same with k zero bytes after it.
 * The checksum is linear, so eight bytes are eight look-ups that do not wait for each other.
 *
 * Both the tables and the choice are made before main(), and only read afterwards.
 */
#include "util/crc32c.h"
#include "util/osdep.h"

/* The Castagnoli polynomial, bit-reversed. */
#define POLYNOMIAL 0x82f63b78
/* Bytes taken at once: the width of a load. */
#define SLICES     8

typedef uint32_t Crc32cFunc(uint32_t crc, const uint8_t *p, size_t len);

static uint32_t table[SLICES][256];

static uint32_t one_byte(uint32_t crc, uint8_t byte)
{
    return table[0][(crc ^ byte) & 0xff] ^ crc >> 8;
}

static uint32_t by_tables(uint32_t crc, const uint8_t *p, size_t len)
{
    for (; len >= SLICES; p += SLICES, len -= SLICES) {
        uint64_t word = ldq_le_p(p) ^ crc;

        crc = 0;
        for (int i = 0; i < SLICES; i++) {
            crc ^= table[SLICES - 1 - i][word >> 8 * i & 0xff];
        }
    }
    for (; len > 0; p++, len--) {
        crc = one_byte(crc, *p);
    }
    return crc;
}

static Crc32cFunc *best = by_tables;

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t by_sse42(uint32_t crc, const uint8_t *p,
                                                           size_t len)
{
    uint64_t wide = crc;

    for (; len >= 8; p += 8, len -= 8) {
        wide = __builtin_ia32_crc32di(wide, ldq_le_p(p));
    }
    crc = (uint32_t)wide;
    for (; len > 0; p++, len--) {
        crc = __builtin_ia32_crc32qi(crc, *p);
    }
    return crc;
}
#endif

__attribute__((constructor)) static void crc32c_init(void)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;

        for (int bit = 0; bit < 8; bit++) {
            crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        }
        table[0][byte] = crc;
    }
    for (int slice = 1; slice < SLICES; slice++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            table[slice][byte] = one_byte(table[slice - 1][byte], 0);
        }
    }
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse4.2")) {
        best = by_sse42;
    }
#endif
}

uint32_t crc32c(uint32_t crc, const void *buf, size_t len)
{
    return ~best(~crc, buf, len);
}

uint32_t crc32c_portable(uint32_t crc, const void *buf, size_t len)
{
    return ~by_tables(~crc, buf, len);
}

bool crc32c_is_accelerated(void)
{
    return best != by_tables;
}
