/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A new qcow2 image.
 *
 *      | header | refcount table | refcount blocks | L1 table |
 *
 *      step                                          power fails after it: the file holds
 *  c1  | the file is empty                           nothing
 *  c2  table, blocks, L1 (zeros)                     nothing: no header says where they are
 *  c3  | flushed                                     nothing
 *  c4  | the header                                  the image, or nothing, or (clusters above 512 bytes) a header whose
 *                                                    backing file's name is torn: who made it was not told that it is one
 */
#include <errno.h>
#include <inttypes.h>
#include "block/backend/backend.h"
#include "block/drivers/qcow2/image/image.h"
#include "block/open/open.h"
#include "util/osdep.h"

#define CLUSTER_SIZE_DEFAULT  (64 * KiB)
#define REFCOUNT_BITS_DEFAULT 16
#define TABLE_WRITE_BYTES     (1 * MiB)

typedef struct Creation {
    const BlockdevCreateOptionsQcow2 *o;
    BdrvProgress *progress;
    Qcow2Header header;
    Qcow2Geometry g;
    BlockDriverState *file_bs, *data_bs;
    BlockBackend *file, *data; /* data: NULL without a data file */
    /* Clusters. */
    uint64_t table, blocks, l1;
} Creation;

/* ------------------------------------------------------------------------------------------ options */

static int needs_version_3(const Creation *c, Error **errp)
{
    const BlockdevCreateOptionsQcow2 *o = c->o;
    const char *what =
        o->has_refcount_bits && o->refcount_bits != REFCOUNT_BITS_DEFAULT
            ? "Different refcount widths than 16 bits require compatibility level 1.1 or above"
        : o->has_lazy_refcounts && o->lazy_refcounts
            ? "Lazy refcounts only supported with compatibility level 1.1 and above"
        : o->data_file
            ? "External data files are only supported with compatibility level 1.1 and above"
        : o->has_extended_l2 && o->extended_l2
            ? "Extended L2 entries are only supported with compatibility level 1.1 and above"
        : o->has_compression_type && o->compression_type != QCOW2_COMPRESSION_TYPE_ZLIB
            ? "Non-zlib compression type is only supported with compatibility level 1.1 and above"
            : NULL;

    if (c->header.version < 3 && what) {
        error_setg(errp, "%s (use version=v3 or greater)", what);
        return -EINVAL;
    }
    return 0;
}

static int set_cluster_size(Creation *c, Error **errp)
{
    uint64_t size = c->o->has_cluster_size ? c->o->cluster_size : (uint64_t)CLUSTER_SIZE_DEFAULT;

    if (!is_power_of_2(size) || size < UINT64_C(1) << QCOW2_CLUSTER_BITS_MIN ||
        size > UINT64_C(1) << QCOW2_CLUSTER_BITS_MAX) {
        error_setg(errp, "Cluster size must be a power of two between %d and %dk",
                   1 << QCOW2_CLUSTER_BITS_MIN, 1 << (QCOW2_CLUSTER_BITS_MAX - 10));
        return -EINVAL;
    }
    c->header.cluster_bits = (uint32_t)ctz64(size);
    if (c->o->has_extended_l2 && c->o->extended_l2 &&
        c->header.cluster_bits < QCOW2_EXTENDED_CLUSTER_BITS_MIN) {
        error_setg(errp,
                   "Extended L2 entries are only supported with cluster sizes of at least %d bytes",
                   1 << QCOW2_EXTENDED_CLUSTER_BITS_MIN);
        return -EINVAL;
    }
    return 0;
}

static int set_refcount_bits(Creation *c, Error **errp)
{
    int64_t bits = c->o->has_refcount_bits ? c->o->refcount_bits : REFCOUNT_BITS_DEFAULT;

    if (bits < 1 || bits > 64 || !is_power_of_2((uint64_t)bits)) {
        error_setg(errp, "Refcount width must be a power of two and may not exceed 64 bits");
        return -EINVAL;
    }
    c->header.refcount_order = (uint32_t)ctz64((uint64_t)bits);
    return 0;
}

static int check_files(const BlockdevCreateOptionsQcow2 *o, Error **errp)
{
    PreallocMode prealloc = o->has_preallocation ? o->preallocation : PREALLOC_MODE_OFF;

    if (o->has_data_file_raw && o->data_file_raw && !o->data_file) {
        error_setg(errp, "data-file-raw requires data-file");
        return -EINVAL;
    }
    if (o->data_file_name && !o->data_file) {
        error_setg(errp, "Parameter 'data-file-name' needs 'data-file'");
        return -EINVAL;
    }
    if (o->backing_file && o->has_data_file_raw && o->data_file_raw) {
        error_setg(errp, "Backing file and data-file-raw cannot be used at the same time");
        return -EINVAL;
    }
    if (o->backing_fmt && !o->backing_file) {
        error_setg(errp, "Backing format cannot be used without backing file");
        return -EINVAL;
    }
    if (o->backing_file && prealloc != PREALLOC_MODE_OFF &&
        !(o->has_extended_l2 && o->extended_l2)) {
        error_setg(errp, "Backing file and preallocation can only be used at the same time if "
                         "extended_l2 is on");
        return -EINVAL;
    }
    if (o->backing_file &&
        (!o->backing_file[0] || strlen(o->backing_file) > QCOW2_BACKING_FILE_MAX)) {
        error_setg(errp, "Parameter 'backing-file' must have from 1 to %d bytes",
                   QCOW2_BACKING_FILE_MAX);
        return -EINVAL;
    }
    return 0;
}

static char *data_file_name(const BlockDriverState *bs)
{
    return strchr(bs->filename, ':') ? g_strdup(bs->filename)
                                     : g_canonicalize_filename(bs->filename, NULL);
}

static void set_features(Creation *c)
{
    const BlockdevCreateOptionsQcow2 *o = c->o;
    Qcow2Header *h = &c->header;

    if (o->has_lazy_refcounts && o->lazy_refcounts) {
        h->compatible |= QCOW2_COMPATIBLE_LAZY_REFCOUNTS;
    }
    if (o->has_extended_l2 && o->extended_l2) {
        h->incompatible |= QCOW2_INCOMPATIBLE_EXTENDED_L2;
    }
    if (o->has_compression_type && o->compression_type == QCOW2_COMPRESSION_TYPE_ZSTD) {
        h->incompatible |= QCOW2_INCOMPATIBLE_COMPRESSION;
        h->compression_type = 1;
    }
    if (o->data_file) {
        h->incompatible |= QCOW2_INCOMPATIBLE_DATA_FILE;
        h->data_file = o->data_file_name ? g_strdup(o->data_file_name) : data_file_name(c->data_bs);
        if (o->has_data_file_raw && o->data_file_raw) {
            h->autoclear |= QCOW2_AUTOCLEAR_DATA_FILE_RAW;
        }
    }
    h->backing_file = g_strdup(o->backing_file);
    h->backing_format = g_strdup(o->backing_fmt);
}

/* A file that is always the disk as it is has a cluster for each of the disk's. */
static PreallocMode prealloc_mode(const BlockdevCreateOptionsQcow2 *o)
{
    PreallocMode mode = o->has_preallocation ? o->preallocation : PREALLOC_MODE_OFF;

    return mode == PREALLOC_MODE_OFF && o->has_data_file_raw && o->data_file_raw
               ? PREALLOC_MODE_METADATA
               : mode;
}

/* The first clusters; counting them takes blocks that are to be counted, too. */
static int plan(Creation *c, Error **errp)
{
    Qcow2Header *h = &c->header;
    uint64_t cluster = (uint64_t)qcow2_cluster_size(&c->g), before;
    uint64_t entries = qcow2_l1_entries(&c->g, c->o->size);

    if (c->o->size > (uint64_t)(INT64_MAX - qcow2_l2_span(&c->g)) ||
        entries > QCOW2_L1_BYTES_MAX / sizeof(uint64_t)) {
        error_setg(errp, "The image size is too large for file format 'qcow2' (try using a larger "
                         "cluster size)");
        return -EFBIG;
    }
    h->size = c->o->size;
    if (prealloc_mode(c->o) != PREALLOC_MODE_OFF) {
        h->size = entries = 0; /* it grows later */
    }
    c->l1 = DIV_ROUND_UP(entries * sizeof(uint64_t), cluster);
    c->table = c->blocks = 1;
    do {
        before = c->table + c->blocks;
        c->blocks = DIV_ROUND_UP(1 + before + c->l1, UINT64_C(1) << c->g.refblock_bits);
        c->table = DIV_ROUND_UP(c->blocks * sizeof(uint64_t), cluster);
    } while (c->table + c->blocks != before);
    h->reftable_offset = cluster;
    h->reftable_clusters = (uint32_t)c->table;
    h->l1_size = (uint32_t)entries;
    h->l1_offset = (1 + c->table + c->blocks) * cluster;
    return 0;
}

/* What does not need the files. */
static int set_format(Creation *c, Error **errp)
{
    const BlockdevCreateOptionsQcow2 *o = c->o;
    int ret;

    c->header.version = o->has_version && o->version == BLOCKDEV_QCOW2_VERSION_V2 ? 2 : 3;
    ret = set_cluster_size(c, errp);
    if (ret == 0) {
        ret = set_refcount_bits(c, errp);
    }
    if (ret == 0) {
        ret = needs_version_3(c, errp);
    }
    return ret == 0 ? check_files(o, errp) : ret;
}

int qcow2_create_geometry(const BlockdevCreateOptionsQcow2 *o, Qcow2Geometry *ret, Error **errp)
{
    g_autofree Creation *c = g_new0(Creation, 1);
    int r;

    c->o = o;
    r = set_format(c, errp);
    if (r == 0) {
        qcow2_geometry_init(ret, c->header.version, c->header.cluster_bits,
                            o->has_extended_l2 && o->extended_l2, c->header.refcount_order,
                            o->data_file != NULL);
    }
    return r;
}

static int set_header(Creation *c, Error **errp)
{
    const BlockdevCreateOptionsQcow2 *o = c->o;
    Qcow2Header *h = &c->header;
    int ret = set_format(c, errp);

    if (ret < 0) {
        return ret;
    }
    if (o->size % BDRV_SECTOR_SIZE) {
        error_setg(errp, "Image size must be a multiple of %" PRId64 " bytes", BDRV_SECTOR_SIZE);
        return -EINVAL;
    }
    set_features(c);
    qcow2_header_geometry(h, &c->g);
    return plan(c, errp);
}

/* ---------------------------------------------------------------------------------------- storage */

/* What was there goes; a device, or what a server has, keeps its length, and is zeroed where tables come. */
static int coroutine_fn empty_file(Creation *c, int64_t length, Error **errp)
{
    int ret = blk_co_truncate(c->file, 0, false, PREALLOC_MODE_OFF, 0, NULL);

    if (ret == -ENOTSUP && blk_getlength(c->file) >= length) {
        ret = blk_co_pwrite_zeroes(c->file, 0, ROUND_UP(length, qcow2_cluster_size(&c->g)), 0);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not empty '%s'", c->file_bs->filename);
        }
        return ret;
    }
    return blk_co_truncate(c->file, length, false, PREALLOC_MODE_OFF, 0, errp);
}

static int coroutine_fn write_table(Creation *c)
{
    int64_t bytes = (int64_t)c->table << c->g.cluster_bits;
    uint8_t *buf = qemu_try_blockalign(c->file_bs, bytes);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    memset(buf, 0, bytes);
    for (uint64_t i = 0; i < c->blocks; i++) {
        stq_be_p(buf + i * sizeof(uint64_t), (1 + c->table + i) << c->g.cluster_bits);
    }
    ret = blk_co_pwrite(c->file, (int64_t)c->header.reftable_offset, bytes, buf, 0);
    qemu_vfree(buf);
    return ret;
}

static int coroutine_fn write_blocks(Creation *c)
{
    uint64_t used = 1 + c->table + c->blocks + c->l1, per_block = UINT64_C(1) << c->g.refblock_bits;
    int64_t cluster = qcow2_cluster_size(&c->g);
    uint8_t *buf = qemu_try_blockalign(c->file_bs, cluster);
    int ret = buf ? 0 : -ENOMEM;

    for (uint64_t i = 0; i < c->blocks && ret == 0; i++) {
        uint64_t n = MIN(used - i * per_block, per_block);

        memset(buf, 0, cluster);
        for (uint64_t k = 0; k < n; k++) {
            qcow2_refcount_set(c->g.refcount_order, buf, k, 1);
        }
        ret = blk_co_pwrite(c->file, (int64_t)(1 + c->table + i) * cluster, cluster, buf, 0);
    }
    qemu_vfree(buf);
    return ret;
}

static int coroutine_fn write_header(Creation *c, Error **errp)
{
    int64_t cluster = qcow2_cluster_size(&c->g);
    uint8_t *buf = qemu_try_blockalign(c->file_bs, cluster);
    int ret;

    if (!buf) {
        error_setg_errno(errp, ENOMEM, "Could not write qcow2 header");
        return -ENOMEM;
    }
    ret = qcow2_header_encode(&c->header, buf, errp);
    if (ret == 0) {
        ret = blk_co_pwrite(c->file, 0, cluster, buf, 0);
        ret = ret == 0 ? blk_co_flush(c->file) : ret;
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not write qcow2 header");
        }
    }
    qemu_vfree(buf);
    return ret;
}

/* Preallocated, it grows with the image. */
static int coroutine_fn empty_data_file(Creation *c, Error **errp)
{
    int64_t size = (int64_t)c->header.size;
    int ret = blk_co_truncate(c->data, 0, false, PREALLOC_MODE_OFF, 0, NULL);

    if (ret == -ENOTSUP && blk_getlength(c->data) >= (int64_t)c->o->size) {
        ret = blk_co_pwrite_zeroes(c->data, 0, (int64_t)c->o->size, BDRV_REQ_MAY_UNMAP);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not empty '%s'", c->data_bs->filename);
        }
        return ret;
    }
    return blk_co_truncate(c->data, size, false, PREALLOC_MODE_OFF, 0, errp);
}

static int coroutine_fn write_image(Creation *c, Error **errp)
{
    int64_t end = (int64_t)(c->header.l1_offset + c->header.l1_size * sizeof(uint64_t));
    int ret = empty_file(c, end, errp);

    if (ret == 0 && c->data) {
        ret = empty_data_file(c, errp);
    }
    if (ret < 0) {
        return ret;
    }
    ret = write_table(c);
    if (ret == 0) {
        ret = write_blocks(c);
    }
    if (ret == 0) {
        ret = blk_co_flush(c->file);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write '%s'", c->file_bs->filename);
        return ret;
    }
    return write_header(c, errp);
}

/* --------------------------------------------------------------------------------------- creation */

/* Held for us alone but for readers who ask for nothing; in the main thread, where nodes are made. */
static BlockBackend *coroutine_fn take(BlockDriverState *bs, Error **errp)
{
    BlockBackend *blk = blk_new(BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE, 0);

    blk_set_desc(blk, "image creation");
    if (bdrv_co_try_change_aio_context(bs, qemu_get_aio_context(), errp) < 0 ||
        blk_insert_bs(blk, bs, errp) < 0) {
        blk_co_unref(blk);
        return NULL;
    }
    return blk;
}

static BlockdevRef *new_reference(const char *node_name)
{
    BlockdevRef *ref = g_new0(BlockdevRef, 1);

    ref->type = QTYPE_QSTRING;
    ref->u.reference = g_strdup(node_name);
    return ref;
}

/* The image, made with no size, is opened as any other, without its backing file, and grows. */
static int coroutine_fn preallocate(Creation *c, Error **errp)
{
    BlockdevOptions *opts = g_new0(BlockdevOptions, 1);
    BlockDriverState *bs;
    BlockBackend *blk;
    int ret = -EINVAL;

    opts->driver = BLOCKDEV_DRIVER_QCOW2;
    opts->u.qcow2.file = new_reference(c->file_bs->node_name);
    opts->u.qcow2.data_file = c->data_bs ? new_reference(c->data_bs->node_name) : NULL;
    opts->u.qcow2.backing = g_new0(BlockdevRefOrNull, 1);
    opts->u.qcow2.backing->type = QTYPE_QNULL;
    bs = bdrv_co_open(opts, errp);
    qapi_free_BlockdevOptions(opts);
    if (!bs) {
        return ret;
    }
    blk = take(bs, errp);
    if (blk) {
        ret = blk_co_truncate(blk, (int64_t)c->o->size, true, prealloc_mode(c->o), 0, errp);
        if (ret == 0) {
            ret = blk_co_flush(blk);
            if (ret < 0) {
                error_setg_errno(errp, -ret, "Could not write '%s'", c->file_bs->filename);
            }
        }
        blk_co_unref(blk);
    }
    bdrv_co_unref(bs);
    return ret;
}

static void coroutine_fn let_go(Creation *c)
{
    if (c->data) {
        blk_co_unref(c->data);
    }
    if (c->file) {
        blk_co_unref(c->file);
    }
    c->data = c->file = NULL;
}

static int coroutine_fn open_nodes(Creation *c, Error **errp)
{
    c->file_bs = bdrv_co_open_ref(c->o->file, errp);
    c->file = c->file_bs ? take(c->file_bs, errp) : NULL;
    if (c->file && c->o->data_file) {
        c->data_bs = bdrv_co_open_ref(c->o->data_file, errp);
        c->data = c->data_bs ? take(c->data_bs, errp) : NULL;
    }
    return c->file && (c->data || !c->o->data_file) ? 0 : -EINVAL;
}

int coroutine_fn qcow2_co_create(const BlockdevCreateOptions *opts, BdrvProgress *progress,
                                 Error **errp)
{
    g_autofree Creation *c = g_new0(Creation, 1);
    int ret;

    c->o = &opts->u.qcow2;
    c->progress = progress;
    ret = open_nodes(c, errp);
    if (ret == 0) {
        ret = set_header(c, errp);
    }
    if (ret == 0) {
        ret = write_image(c, errp);
    }
    let_go(c);
    if (ret == 0 && prealloc_mode(c->o) != PREALLOC_MODE_OFF) {
        ret = preallocate(c, errp);
    }
    bdrv_co_unref(c->data_bs);
    bdrv_co_unref(c->file_bs);
    qcow2_header_clear(&c->header);
    return ret;
}

const BdrvCreateOption qcow2_create_options[] = {
    {"cluster_size", "size", "qcow2 cluster size"},
    {"compat", "str", "Compatibility level (v2 [0.10] or v3 [1.1])"},
    {"compression_type", "str", "Compression method used for image cluster compression"},
    {"data_file", "str", "File name of an external data file"},
    {"data_file_raw", "bool (on/off)", "The external data file must stay valid as a raw image"},
    {"extended_l2", "bool (on/off)", "Extended L2 tables"},
    {"lazy_refcounts", "bool (on/off)", "Postpone refcount updates"},
    {"preallocation", "str", "Preallocation mode (allowed values: off, metadata, falloc, full)"},
    {"refcount_bits", "num", "Width of a reference count entry in bits"},
    {NULL, NULL, NULL},
};
