/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Header and extensions: from bytes, and back. */
#include <errno.h>
#include <inttypes.h>
#include "block/drivers/qcow2/layout/header.h"

/* Places of fields, as the specification has them. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_BACKING_OFFSET = 8,
    AT_BACKING_BYTES = 16,
    AT_CLUSTER_BITS = 20,
    AT_SIZE = 24,
    AT_CRYPT_METHOD = 32,
    AT_L1_SIZE = 36,
    AT_L1_OFFSET = 40,
    AT_REFTABLE_OFFSET = 48,
    AT_REFTABLE_CLUSTERS = 56,
    AT_NB_SNAPSHOTS = 60,
    AT_SNAPSHOTS_OFFSET = 64,
    AT_INCOMPATIBLE = 72,
    AT_COMPATIBLE = 80,
    AT_AUTOCLEAR = 88,
    AT_REFCOUNT_ORDER = 96,
    AT_HEADER_LENGTH = 100,
    AT_COMPRESSION_TYPE = 104,
};

enum {
    EXT_END = 0,
    EXT_BACKING_FORMAT = 0xe2792aca,
    EXT_FEATURE_NAMES = 0x6803f857,
    EXT_BITMAPS = 0x23852875,
    EXT_CRYPTO = 0x0537be77,
    EXT_DATA_FILE = 0x44415441,
};
#define EXT_HEAD_BYTES    8
#define EXT_BITMAPS_BYTES 24
#define EXT_CRYPTO_BYTES  16

#define FEATURE_BYTES      48
#define FEATURE_NAME_BYTES 46
/* What a file that tells of its features can say: 64 bits of each of three kinds. */
#define FEATURE_BITS       64

static const struct {
    uint8_t type, bit;
    const char *name;
} feature_names[] = {
    {0, 0, "dirty bit"},        {0, 1, "corrupt bit"},         {0, 2, "external data file"},
    {0, 3, "compression type"}, {0, 4, "extended L2 entries"}, {1, 0, "lazy refcounts"},
    {2, 0, "bitmaps"},          {2, 1, "raw external data"},
};

int qcow2_header_probe(const uint8_t *buf, size_t len)
{
    uint32_t version;

    if (len < QCOW2_V2_HEADER_BYTES || ldl_be_p(buf) != QCOW2_MAGIC) {
        return 0;
    }
    version = ldl_be_p(buf + AT_VERSION);
    return version >= 2 ? 100 : 0; /* version 1 is another format */
}

int qcow2_header_peek(const uint8_t *buf, size_t len, int64_t *ret_cluster_size, Error **errp)
{
    uint32_t version, bits;

    if (len < QCOW2_V2_HEADER_BYTES || ldl_be_p(buf) != QCOW2_MAGIC) {
        error_setg(errp, "Image is not in qcow2 format");
        return -EINVAL;
    }
    version = ldl_be_p(buf + AT_VERSION);
    if (version < 2 || version > 3) {
        error_setg(errp, "Unsupported qcow2 version %" PRIu32, version);
        return -ENOTSUP;
    }
    bits = ldl_be_p(buf + AT_CLUSTER_BITS);
    if (bits < QCOW2_CLUSTER_BITS_MIN || bits > QCOW2_CLUSTER_BITS_MAX) {
        error_setg(errp, "Unsupported cluster size: 2^%" PRIu32, bits);
        return -ENOTSUP;
    }
    *ret_cluster_size = INT64_C(1) << bits;
    return 0;
}

/* ------------------------------------------------------------------------------------------- extensions */

static char *take_string(const uint8_t *data, uint32_t length)
{
    return g_strndup((const char *)data, length);
}

static int read_bitmaps(Qcow2Header *h, const uint8_t *data, uint32_t length, Error **errp)
{
    if (length != EXT_BITMAPS_BYTES) {
        error_setg(errp, "bitmaps_ext: Invalid extension length");
        return -EINVAL;
    }
    h->has_bitmaps = true;
    h->nb_bitmaps = ldl_be_p(data);
    h->bitmap_dir_bytes = ldq_be_p(data + 8);
    h->bitmap_dir_offset = ldq_be_p(data + 16);
    if (ldl_be_p(data + 4)) {
        error_setg(errp, "bitmaps_ext: Reserved field is not zero");
        return -EINVAL;
    }
    if (!h->nb_bitmaps) {
        error_setg(errp, "found bitmaps extension with zero bitmaps");
        return -EINVAL;
    }
    if (h->nb_bitmaps > QCOW2_BITMAPS_MAX) {
        error_setg(errp,
                   "bitmaps_ext: image has %" PRIu32 " bitmaps, exceeding the supported maximum "
                   "of %d",
                   h->nb_bitmaps, QCOW2_BITMAPS_MAX);
        return -EINVAL;
    }
    if (h->bitmap_dir_offset & ((UINT64_C(1) << h->cluster_bits) - 1) || !h->bitmap_dir_offset ||
        h->bitmap_dir_offset >= (uint64_t)QCOW2_HOST_END) {
        error_setg(errp, "bitmaps_ext: invalid bitmap directory offset");
        return -EINVAL;
    }
    if (!h->bitmap_dir_bytes || h->bitmap_dir_bytes > (uint64_t)QCOW2_BITMAP_DIR_BYTES_MAX) {
        error_setg(errp,
                   "bitmaps_ext: bitmap directory size (%" PRIu64 ") exceeds the maximum supported "
                   "size (%" PRId64 ")",
                   h->bitmap_dir_bytes, (int64_t)QCOW2_BITMAP_DIR_BYTES_MAX);
        return -EINVAL;
    }
    return 0;
}

static int read_crypto(Qcow2Header *h, const uint8_t *data, uint32_t length, Error **errp)
{
    if (length != EXT_CRYPTO_BYTES) {
        error_setg(errp, "CRYPTO header extension size %" PRIu32 ", but expected size %d", length,
                   EXT_CRYPTO_BYTES);
        return -EINVAL;
    }
    h->has_crypto = true;
    h->crypto_offset = ldq_be_p(data);
    h->crypto_bytes = ldq_be_p(data + 8);
    if (h->crypto_offset & ((UINT64_C(1) << h->cluster_bits) - 1) ||
        h->crypto_offset >= (uint64_t)QCOW2_HOST_END ||
        h->crypto_bytes > (uint64_t)QCOW2_HOST_END) {
        error_setg(errp, "Encryption header offset '%" PRIu64 "' is not a multiple of cluster size",
                   h->crypto_offset);
        return -EINVAL;
    }
    return 0;
}

static void keep_extension(Qcow2Header *h, uint32_t type, const uint8_t *data, uint32_t length)
{
    Qcow2Extension e = {.type = type, .length = length, .data = g_memdup2(data, length)};

    if (!h->extensions) {
        h->extensions = g_array_new(false, false, sizeof(Qcow2Extension));
    }
    g_array_append_val(h->extensions, e);
}

static int read_extension(Qcow2Header *h, uint32_t type, const uint8_t *data, uint32_t length,
                          Error **errp)
{
    switch (type) {
    case EXT_BACKING_FORMAT:
        if (length > QCOW2_BACKING_FILE_MAX) {
            error_setg(errp, "ERROR: ext_backing_format: len=%" PRIu32 " too large", length);
            return -EINVAL;
        }
        g_free(h->backing_format);
        h->backing_format = take_string(data, length);
        return 0;
    case EXT_DATA_FILE:
        g_free(h->data_file);
        h->data_file = take_string(data, length);
        return 0;
    case EXT_BITMAPS:
        return read_bitmaps(h, data, length, errp);
    case EXT_CRYPTO:
        return read_crypto(h, data, length, errp);
    case EXT_FEATURE_NAMES:
        return 0; /* written anew; and looked at where a feature is not known */
    default:
        keep_extension(h, type, data, length);
        return 0;
    }
}

/* @feature_table: where the names are; NULL: nowhere. */
static int read_extensions(Qcow2Header *h, const uint8_t *buf, uint32_t at, uint32_t end,
                           const uint8_t **feature_table, uint32_t *feature_bytes, Error **errp)
{
    while (at < end) {
        uint32_t type, length;
        int ret;

        if (end - at < EXT_HEAD_BYTES) {
            return 0;
        }
        type = ldl_be_p(buf + at);
        length = ldl_be_p(buf + at + 4);
        at += EXT_HEAD_BYTES;
        if (length > end - at) {
            error_setg(errp, "Header extension too large");
            return -EINVAL;
        }
        if (type == EXT_END) {
            return 0;
        }
        if (type == EXT_FEATURE_NAMES) {
            *feature_table = buf + at;
            *feature_bytes = length;
        }
        ret = read_extension(h, type, buf + at, length, errp);
        if (ret < 0) {
            return ret;
        }
        at += MIN(ROUND_UP(length, 8u), end - at);
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------- features */

/* "this, that, Unknown incompatible feature: c000000000000000" */
static void report_unknown_features(uint64_t mask, const uint8_t *table, uint32_t bytes,
                                    Error **errp)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (uint32_t at = 0; at + FEATURE_BYTES <= bytes; at += FEATURE_BYTES) {
        const uint8_t *f = table + at;

        if (f[0] == 0 && f[1] < FEATURE_BITS && (mask & (UINT64_C(1) << f[1]))) {
            g_autofree char *name = g_strndup((const char *)f + 2, FEATURE_NAME_BYTES);

            g_string_append_printf(text, "%s%s", text->len ? ", " : "", name);
            mask &= ~(UINT64_C(1) << f[1]);
        }
    }
    if (mask) {
        g_string_append_printf(text, "%sUnknown incompatible feature: %" PRIx64,
                               text->len ? ", " : "", mask);
    }
    error_setg(errp, "Unsupported qcow2 feature(s): %s", text->str);
}

static int check_features(const Qcow2Header *h, Error **errp)
{
    bool bit = h->incompatible & QCOW2_INCOMPATIBLE_COMPRESSION;

    if (h->compression_type > 1) {
        error_setg(errp, "qcow2: unknown compression type: %u", h->compression_type);
        return -ENOTSUP;
    }
    if (bit && !h->compression_type) {
        error_setg(errp, "qcow2: Compression type incompatible feature bit must not be set");
        return -EINVAL;
    }
    if (!bit && h->compression_type) {
        error_setg(errp, "qcow2: Compression type incompatible feature bit must be set");
        return -EINVAL;
    }
    if ((h->incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2) &&
        h->cluster_bits < QCOW2_EXTENDED_CLUSTER_BITS_MIN) {
        error_setg(errp,
                   "Extended L2 entries are only supported with cluster sizes of at least %d bytes",
                   1 << QCOW2_EXTENDED_CLUSTER_BITS_MIN);
        return -EINVAL;
    }
    if ((h->autoclear & QCOW2_AUTOCLEAR_BITMAPS) && !h->has_bitmaps) {
        error_setg(errp, "The image has the feature 'bitmaps', and no bitmaps extension");
        return -EINVAL;
    }
    if (h->crypt_method > QCOW2_CRYPT_LUKS) {
        error_setg(errp, "Unsupported encryption method %" PRIu32, h->crypt_method);
        return -EINVAL;
    }
    if (h->crypt_method == QCOW2_CRYPT_LUKS && !h->has_crypto) {
        error_setg(errp, "Missing CRYPTO header for crypt method %" PRIu32, h->crypt_method);
        return -EINVAL;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------- tables */

/* A table of @bytes at @offset can be in a file, and is aligned. */
static bool table_place_is_valid(const Qcow2Header *h, uint64_t offset, uint64_t bytes)
{
    uint64_t cluster = UINT64_C(1) << h->cluster_bits;

    return offset % cluster == 0 && offset < (uint64_t)QCOW2_HOST_END &&
           bytes <= (uint64_t)QCOW2_HOST_END - offset;
}

static int check_reftable(const Qcow2Header *h, bool damaged, Error **errp)
{
    uint64_t bytes = (uint64_t)h->reftable_clusters << h->cluster_bits;

    if (!h->reftable_clusters && !damaged) {
        error_setg(errp, "Image does not contain a reference count table");
        return -EINVAL;
    }
    if (bytes > (uint64_t)QCOW2_REFTABLE_BYTES_MAX) {
        error_setg(errp, "Reference count table too large");
        return -EFBIG;
    }
    if ((!h->reftable_offset && !damaged) || !table_place_is_valid(h, h->reftable_offset, bytes)) {
        error_setg(errp, "Reference count table offset invalid");
        return -EINVAL;
    }
    return 0;
}

static int check_l1(const Qcow2Header *h, Error **errp)
{
    uint64_t bytes = (uint64_t)h->l1_size * sizeof(uint64_t);
    Qcow2Geometry g;

    if (bytes > (uint64_t)QCOW2_L1_BYTES_MAX) {
        error_setg(errp, "Active L1 table too large");
        return -EFBIG;
    }
    if ((bytes && !h->l1_offset) || !table_place_is_valid(h, h->l1_offset, bytes)) {
        error_setg(errp, "Active L1 table offset invalid");
        return -EINVAL;
    }
    qcow2_header_geometry(h, &g);
    if (h->size > INT64_MAX - (uint64_t)qcow2_l2_span(&g) ||
        qcow2_l1_entries(&g, h->size) > QCOW2_L1_BYTES_MAX / sizeof(uint64_t)) {
        error_setg(errp, "Image is too big");
        return -EFBIG;
    }
    if (h->l1_size < qcow2_l1_entries(&g, h->size)) {
        error_setg(errp, "L1 table is too small");
        return -EINVAL;
    }
    return 0;
}

static int check_snapshots(const Qcow2Header *h, Error **errp)
{
    if (h->nb_snapshots > QCOW2_SNAPSHOTS_MAX) {
        error_setg(errp, "Snapshot table too large");
        return -EFBIG;
    }
    if (h->nb_snapshots &&
        (!h->snapshots_offset ||
         !table_place_is_valid(h, h->snapshots_offset, QCOW2_SNAPSHOTS_BYTES_MAX))) {
        error_setg(errp, "Snapshot table offset invalid");
        return -EINVAL;
    }
    return 0;
}

/* -------------------------------------------------------------------------------------------- decoding */

static void read_fixed(Qcow2Header *h, const uint8_t *buf)
{
    h->version = ldl_be_p(buf + AT_VERSION);
    h->cluster_bits = ldl_be_p(buf + AT_CLUSTER_BITS);
    h->size = ldq_be_p(buf + AT_SIZE);
    h->crypt_method = ldl_be_p(buf + AT_CRYPT_METHOD);
    h->l1_size = ldl_be_p(buf + AT_L1_SIZE);
    h->l1_offset = ldq_be_p(buf + AT_L1_OFFSET);
    h->reftable_offset = ldq_be_p(buf + AT_REFTABLE_OFFSET);
    h->reftable_clusters = ldl_be_p(buf + AT_REFTABLE_CLUSTERS);
    h->nb_snapshots = ldl_be_p(buf + AT_NB_SNAPSHOTS);
    h->snapshots_offset = ldq_be_p(buf + AT_SNAPSHOTS_OFFSET);
    h->refcount_order = 4;
}

/* Version 3: the rest; gives where the header ends. */
static int read_features(Qcow2Header *h, const uint8_t *buf, size_t len, uint32_t *ret_end,
                         Error **errp)
{
    uint32_t bytes;

    if (len < QCOW2_V3_HEADER_BYTES) {
        error_setg(errp, "qcow2 header too short");
        return -EINVAL;
    }
    h->incompatible = ldq_be_p(buf + AT_INCOMPATIBLE);
    h->compatible = ldq_be_p(buf + AT_COMPATIBLE);
    h->autoclear = ldq_be_p(buf + AT_AUTOCLEAR);
    h->refcount_order = ldl_be_p(buf + AT_REFCOUNT_ORDER);
    bytes = ldl_be_p(buf + AT_HEADER_LENGTH);
    if (bytes < QCOW2_V3_HEADER_BYTES) {
        error_setg(errp, "qcow2 header too short");
        return -EINVAL;
    }
    if (bytes > UINT64_C(1) << h->cluster_bits || bytes > len) {
        error_setg(errp, "qcow2 header exceeds cluster size");
        return -EINVAL;
    }
    if (h->refcount_order > 6) {
        error_setg(errp, "Reference count entry width too large; may not exceed 64 bits");
        return -EINVAL;
    }
    if (bytes > AT_COMPRESSION_TYPE) {
        h->compression_type = buf[AT_COMPRESSION_TYPE];
    }
    if (bytes > QCOW2_KNOWN_HEADER_BYTES) {
        h->more_bytes = bytes - QCOW2_KNOWN_HEADER_BYTES;
        h->more = g_memdup2(buf + QCOW2_KNOWN_HEADER_BYTES, h->more_bytes);
    }
    *ret_end = bytes;
    return 0;
}

static int read_backing(Qcow2Header *h, const uint8_t *buf, size_t len, Error **errp)
{
    uint64_t offset = ldq_be_p(buf + AT_BACKING_OFFSET);
    uint32_t bytes = ldl_be_p(buf + AT_BACKING_BYTES);

    if (!offset) {
        return 0;
    }
    if (bytes > QCOW2_BACKING_FILE_MAX || offset > len || bytes > len - offset) {
        error_setg(errp, "Backing file name too long");
        return -EINVAL;
    }
    if (bytes && buf[offset]) { /* an empty name is none */
        h->backing_file = take_string(buf + offset, bytes);
    }
    return 0;
}

static int check_tables(const Qcow2Header *h, bool damaged, Error **errp)
{
    int ret = check_reftable(h, damaged, errp);

    if (ret == 0) {
        ret = check_snapshots(h, errp);
    }
    return ret == 0 ? check_l1(h, errp) : ret;
}

static int decode(const uint8_t *buf, size_t len, bool damaged, Qcow2Header *h, Error **errp)
{
    uint32_t header_end = QCOW2_V2_HEADER_BYTES, feature_bytes = 0, extensions_end;
    uint64_t backing_offset = ldq_be_p(buf + AT_BACKING_OFFSET);
    const uint8_t *feature_table = NULL;
    uint64_t unknown;
    int ret = 0;

    read_fixed(h, buf);
    if (h->version >= 3) {
        ret = read_features(h, buf, len, &header_end, errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (backing_offset > (UINT64_C(1) << h->cluster_bits)) {
        error_setg(errp, "Invalid backing file offset");
        return -EINVAL;
    }
    extensions_end = (uint32_t)(backing_offset ? MIN(backing_offset, len) : len);
    ret = read_extensions(h, buf, header_end, extensions_end, &feature_table, &feature_bytes, errp);
    if (ret < 0) {
        return ret;
    }
    unknown = h->incompatible & ~(uint64_t)QCOW2_INCOMPATIBLE_KNOWN;
    if (unknown) {
        report_unknown_features(unknown, feature_table, feature_bytes, errp);
        return -ENOTSUP;
    }
    ret = check_features(h, errp);
    if (ret == 0) {
        ret = check_tables(h, damaged, errp);
    }
    return ret == 0 ? read_backing(h, buf, len, errp) : ret;
}

static int decode_new(const uint8_t *buf, size_t len, bool damaged, Qcow2Header *ret, Error **errp)
{
    Qcow2Header h = {0};
    int64_t cluster_size;
    int r = qcow2_header_peek(buf, len, &cluster_size, errp);

    if (r == 0) {
        r = decode(buf, MIN(len, (uint64_t)cluster_size), damaged, &h, errp);
    }
    if (r < 0) {
        qcow2_header_clear(&h);
        return r;
    }
    *ret = h;
    return 0;
}

int qcow2_header_decode(const uint8_t *buf, size_t len, Qcow2Header *ret, Error **errp)
{
    return decode_new(buf, len, false, ret, errp);
}

int qcow2_header_decode_damaged(const uint8_t *buf, size_t len, Qcow2Header *ret, Error **errp)
{
    return decode_new(buf, len, true, ret, errp);
}

void qcow2_header_clear(Qcow2Header *h)
{
    for (guint i = 0; h->extensions && i < h->extensions->len; i++) {
        g_free(g_array_index(h->extensions, Qcow2Extension, i).data);
    }
    if (h->extensions) {
        g_array_free(h->extensions, true);
    }
    g_free(h->more);
    g_free(h->backing_file);
    g_free(h->backing_format);
    g_free(h->data_file);
    *h = (Qcow2Header){0};
}

void qcow2_header_copy(const Qcow2Header *from, Qcow2Header *to)
{
    *to = *from;
    to->more = g_memdup2(from->more, from->more_bytes);
    to->backing_file = g_strdup(from->backing_file);
    to->backing_format = g_strdup(from->backing_format);
    to->data_file = g_strdup(from->data_file);
    to->extensions = NULL;
    for (guint i = 0; from->extensions && i < from->extensions->len; i++) {
        const Qcow2Extension *e = &g_array_index(from->extensions, Qcow2Extension, i);

        keep_extension(to, e->type, e->data, e->length);
    }
}

void qcow2_header_geometry(const Qcow2Header *h, Qcow2Geometry *ret)
{
    qcow2_geometry_init(ret, h->version, h->cluster_bits,
                        h->incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2, h->refcount_order,
                        qcow2_header_has_data_file(h));
}

uint32_t qcow2_header_bytes(const Qcow2Header *h)
{
    return h->version == 2 ? QCOW2_V2_HEADER_BYTES : QCOW2_KNOWN_HEADER_BYTES + h->more_bytes;
}

/* -------------------------------------------------------------------------------------------- encoding */

/* What is written next into the first cluster. */
typedef struct Cursor {
    uint8_t *buf;
    uint64_t at, end;
    bool full;
} Cursor;

static void put(Cursor *c, const void *data, uint32_t bytes)
{
    if (c->full || bytes > c->end - c->at) {
        c->full = true;
        return;
    }
    if (bytes > 0) { /* an empty extension has no data at all */
        memcpy(c->buf + c->at, data, bytes);
    }
    c->at += bytes;
}

static void put_extension(Cursor *c, uint32_t type, const void *data, uint32_t bytes)
{
    static const uint8_t zeros[EXT_HEAD_BYTES];
    uint8_t head[EXT_HEAD_BYTES];

    stl_be_p(head, type);
    stl_be_p(head + 4, bytes);
    put(c, head, sizeof(head));
    put(c, data, bytes);
    put(c, zeros, ROUND_UP(bytes, 8u) - bytes);
}

static void put_string(Cursor *c, uint32_t type, const char *text)
{
    if (text) {
        put_extension(c, type, text, strlen(text));
    }
}

static void put_feature_names(Cursor *c)
{
    uint8_t table[ARRAY_SIZE(feature_names) * FEATURE_BYTES] = {0};

    for (size_t i = 0; i < ARRAY_SIZE(feature_names); i++) {
        uint8_t *f = table + i * FEATURE_BYTES;

        f[0] = feature_names[i].type;
        f[1] = feature_names[i].bit;
        memcpy(f + 2, feature_names[i].name, strlen(feature_names[i].name));
    }
    put_extension(c, EXT_FEATURE_NAMES, table, sizeof(table));
}

static void put_extensions(Cursor *c, const Qcow2Header *h, bool with_names)
{
    uint8_t raw[EXT_BITMAPS_BYTES] = {0};

    put_string(c, EXT_BACKING_FORMAT, h->backing_format);
    if (qcow2_header_has_data_file(h)) {
        put_string(c, EXT_DATA_FILE, h->data_file);
    }
    if (h->has_crypto) {
        stq_be_p(raw, h->crypto_offset);
        stq_be_p(raw + 8, h->crypto_bytes);
        put_extension(c, EXT_CRYPTO, raw, EXT_CRYPTO_BYTES);
    }
    if (with_names) {
        put_feature_names(c);
    }
    if (h->has_bitmaps) {
        memset(raw, 0, sizeof(raw));
        stl_be_p(raw, h->nb_bitmaps);
        stq_be_p(raw + 8, h->bitmap_dir_bytes);
        stq_be_p(raw + 16, h->bitmap_dir_offset);
        put_extension(c, EXT_BITMAPS, raw, EXT_BITMAPS_BYTES);
    }
    for (guint i = 0; h->extensions && i < h->extensions->len; i++) {
        const Qcow2Extension *e = &g_array_index(h->extensions, Qcow2Extension, i);

        put_extension(c, e->type, e->data, e->length);
    }
    put_extension(c, EXT_END, "", 0);
}

static void write_fixed(const Qcow2Header *h, uint8_t *buf)
{
    stl_be_p(buf + AT_MAGIC, QCOW2_MAGIC);
    stl_be_p(buf + AT_VERSION, h->version);
    stl_be_p(buf + AT_CLUSTER_BITS, h->cluster_bits);
    stq_be_p(buf + AT_SIZE, h->size);
    stl_be_p(buf + AT_CRYPT_METHOD, h->crypt_method);
    stl_be_p(buf + AT_L1_SIZE, h->l1_size);
    stq_be_p(buf + AT_L1_OFFSET, h->l1_offset);
    stq_be_p(buf + AT_REFTABLE_OFFSET, h->reftable_offset);
    stl_be_p(buf + AT_REFTABLE_CLUSTERS, h->reftable_clusters);
    stl_be_p(buf + AT_NB_SNAPSHOTS, h->nb_snapshots);
    stq_be_p(buf + AT_SNAPSHOTS_OFFSET, h->snapshots_offset);
    if (h->version >= 3) {
        stq_be_p(buf + AT_INCOMPATIBLE, h->incompatible);
        stq_be_p(buf + AT_COMPATIBLE, h->compatible);
        stq_be_p(buf + AT_AUTOCLEAR, h->autoclear);
        stl_be_p(buf + AT_REFCOUNT_ORDER, h->refcount_order);
        stl_be_p(buf + AT_HEADER_LENGTH, qcow2_header_bytes(h));
        buf[AT_COMPRESSION_TYPE] = h->compression_type;
    }
}

static bool encode(const Qcow2Header *h, uint8_t *buf, bool with_names)
{
    Cursor c = {.buf = buf, .end = UINT64_C(1) << h->cluster_bits, .at = qcow2_header_bytes(h)};

    memset(buf, 0, c.end);
    if (c.at > c.end) {
        return false;
    }
    write_fixed(h, buf);
    if (h->version >= 3 && h->more_bytes) {
        memcpy(buf + QCOW2_KNOWN_HEADER_BYTES, h->more, h->more_bytes);
    }
    put_extensions(&c, h, with_names);
    if (h->backing_file) {
        uint32_t bytes = strlen(h->backing_file);

        stq_be_p(buf + AT_BACKING_OFFSET, c.at);
        stl_be_p(buf + AT_BACKING_BYTES, bytes);
        put(&c, h->backing_file, bytes);
    }
    return !c.full;
}

int qcow2_header_encode(const Qcow2Header *h, uint8_t *buf, Error **errp)
{
    /* Names of features are for people: the smallest clusters have no room for them beside long names. */
    if ((h->version < 3 || !encode(h, buf, true)) && !encode(h, buf, false)) {
        error_setg(errp,
                   "The names and extensions of the image's header do not fit into a cluster");
        return -ENOSPC;
    }
    return 0;
}
