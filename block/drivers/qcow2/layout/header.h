/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * header.h - the first cluster of an image: header, extensions, the name of the backing file
 *
 *      | header, 72 bytes (version 2) or header_length | extension | extension ... | end | backing file's name |   |
 *      0                                                                                                 cluster size
 *
 * Pure: bytes in memory, and what they say.  What is not known is kept, and written again.
 */
#ifndef BLOCK_DRIVERS_QCOW2_LAYOUT_HEADER_H
#define BLOCK_DRIVERS_QCOW2_LAYOUT_HEADER_H

#include "block/drivers/qcow2/layout/geometry.h"
#include "util/error.h"

#define QCOW2_MAGIC              UINT32_C(0x514649fb) /* "QFI\xfb" */
#define QCOW2_V2_HEADER_BYTES    72
#define QCOW2_V3_HEADER_BYTES    104
/* What this version knows of, rounded up to 8. */
#define QCOW2_KNOWN_HEADER_BYTES 112

enum {
    QCOW2_INCOMPATIBLE_DIRTY = 1 << 0,
    QCOW2_INCOMPATIBLE_CORRUPT = 1 << 1,
    QCOW2_INCOMPATIBLE_DATA_FILE = 1 << 2,
    QCOW2_INCOMPATIBLE_COMPRESSION = 1 << 3,
    QCOW2_INCOMPATIBLE_EXTENDED_L2 = 1 << 4,
    QCOW2_INCOMPATIBLE_KNOWN = 0x1f,

    QCOW2_COMPATIBLE_LAZY_REFCOUNTS = 1 << 0,

    QCOW2_AUTOCLEAR_BITMAPS = 1 << 0,
    QCOW2_AUTOCLEAR_DATA_FILE_RAW = 1 << 1,
    QCOW2_AUTOCLEAR_KNOWN = 0x3,
};

enum {
    QCOW2_CRYPT_NONE = 0,
    QCOW2_CRYPT_AES = 1,
    QCOW2_CRYPT_LUKS = 2,
};

/* The format says so. */
#define QCOW2_BACKING_FILE_MAX     1023
/* A snapshot in memory has some hundred bytes: a table of more is an attack, or a mistake. */
#define QCOW2_SNAPSHOTS_MAX        65536
#define QCOW2_SNAPSHOTS_BYTES_MAX  (64 * MiB)
#define QCOW2_BITMAPS_MAX          65535
#define QCOW2_BITMAP_DIR_BYTES_MAX (64 * MiB)

/* An extension that is not known, or the feature name table. */
typedef struct Qcow2Extension {
    uint32_t type, length;
    uint8_t *data;
} Qcow2Extension;

typedef struct Qcow2Header {
    uint32_t version;
    uint32_t cluster_bits;
    uint64_t size;
    uint32_t crypt_method;
    uint32_t l1_size;
    uint64_t l1_offset;
    uint64_t reftable_offset;
    uint32_t reftable_clusters;
    uint32_t nb_snapshots;
    uint64_t snapshots_offset;
    uint64_t incompatible, compatible, autoclear;
    uint32_t refcount_order;
    uint8_t compression_type; /* as enum Qcow2CompressionType: 0 zlib, 1 zstd */
    uint8_t *more;            /* fields behind those that are known; owned */
    uint32_t more_bytes;

    char *backing_file, *backing_format, *data_file; /* owned; NULL: none */
    bool has_crypto, has_bitmaps;
    uint64_t crypto_offset, crypto_bytes;
    uint32_t nb_bitmaps;
    uint64_t bitmap_dir_bytes, bitmap_dir_offset;
    GArray *extensions; /* of Qcow2Extension, which are not known; owned; NULL: none */
} Qcow2Header;

/* How sure (0, 100) these first bytes are of an image of version 2 or 3. */
int qcow2_header_probe(const uint8_t *buf, size_t len);

/*
 * qcow2_header_peek() - the size of the cluster that has the header
 * @len: at least QCOW2_V2_HEADER_BYTES are needed
 *
 * Return: 0; -EINVAL, no such image; -ENOTSUP, of a version or with clusters that are not known.
 */
int qcow2_header_peek(const uint8_t *buf, size_t len, int64_t *ret_cluster_size, Error **errp);

/**
 * qcow2_header_decode() - what the first cluster says
 * @buf: @len bytes of it: all of it, or all that the file has
 *
 * Limits, alignments and overflows are checked, also of what is said of tables; what is in those is not known here.
 *
 * Return: 0, *ret is for qcow2_header_clear(); or as qcow2_header_peek(), with -EFBIG for tables that are too large.
 */
int qcow2_header_decode(const uint8_t *buf, size_t len, Qcow2Header *ret, Error **errp);
/* The same for who repairs it: there may be no refcount table. */
int qcow2_header_decode_damaged(const uint8_t *buf, size_t len, Qcow2Header *ret, Error **errp);
void qcow2_header_clear(Qcow2Header *h);
void qcow2_header_copy(const Qcow2Header *from, Qcow2Header *to);

/*
 * qcow2_header_encode() - the first cluster of an image of this header
 * @buf: a cluster; what is not used becomes zeros
 *
 * Return: 0; -ENOSPC, names and extensions do not fit.
 */
int qcow2_header_encode(const Qcow2Header *h, uint8_t *buf, Error **errp);

void qcow2_header_geometry(const Qcow2Header *h, Qcow2Geometry *ret);
/* Bytes of the header itself, without extensions. */
uint32_t qcow2_header_bytes(const Qcow2Header *h);
static inline bool qcow2_header_has_data_file(const Qcow2Header *h)
{
    return h->incompatible & QCOW2_INCOMPATIBLE_DATA_FILE;
}
static inline bool qcow2_header_has_raw_data_file(const Qcow2Header *h)
{
    return qcow2_header_has_data_file(h) && (h->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW);
}

#endif
