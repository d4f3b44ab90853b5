/* SPDX-License-Identifier: GPL-2.0-or-later */
/* crc32c.h - CRC-32C (Castagnoli, RFC 3720), the checksum of what is on disk.  Any thread; nothing yields. */
#ifndef UTIL_CRC32C_H
#define UTIL_CRC32C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * crc32c() - the checksum of some bytes, or of more bytes
 * @crc: 0 to begin; to go on, the checksum of all bytes before these
 * @buf: may be at any alignment, and NULL where @len is 0
 *
 * crc32c(crc32c(0, a, m), b, n) is the checksum of a and b, one behind the other.  Uses the
 * processor's instruction where it has one.
 */
uint32_t crc32c(uint32_t crc, const void *buf, size_t len);

/* crc32c_portable() - the same with tables, on any processor; what a test compares with */
uint32_t crc32c_portable(uint32_t crc, const void *buf, size_t len);

/* crc32c_is_accelerated() - whether crc32c() uses the processor's instruction */
bool crc32c_is_accelerated(void);

#endif
