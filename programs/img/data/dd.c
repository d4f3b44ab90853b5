/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dd.c - qblk-img dd: copies a piece of an image into a new one
 *
 *      source   |----skip----|=====count=====|-----|        in blocks of bs bytes
 *                            :               :
 *      target                |===============|              of whole sectors
 *
 * A block is a unit of the two numbers and nothing else: what is read and written at once does not depend on it.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "programs/img/commands.h"
#include "programs/img/data/data.h"
#include "util/cutils.h"

#define BLOCK_SIZE_DEFAULT 512

typedef struct Dd {
    ImgImage source;
    ImgTarget target;
    int64_t block_bytes, skip, count;
    bool has_count;
} Dd;

static const ImgOption options[] = {
    {'f', "format", "FMT", "format of the input (probed)"},
    IMG_OPTION_IMAGE_OPTS,
    {'O', "output-format", "FMT", "format of the output (raw)"},
    IMG_OPTION_FORCE_SHARE,
    {0},
};

/* What is to be copied of a source of @length bytes.  A disk ends with a whole sector. */
static void find_piece(const Dd *dd, int64_t length, int64_t *ret_offset, int64_t *ret_bytes)
{
    int64_t most;

    length = ROUND_UP(length, BDRV_SECTOR_SIZE);
    if (__builtin_mul_overflow(dd->skip, dd->block_bytes, ret_offset) || *ret_offset > length) {
        error_report("%s: cannot skip to specified offset", dd->source.filename);
        *ret_offset = length;
    }
    *ret_bytes = length - *ret_offset;
    if (dd->has_count && !__builtin_mul_overflow(dd->count, dd->block_bytes, &most)) {
        *ret_bytes = MIN(*ret_bytes, most);
    }
}

static int coroutine_fn copy_step(BlockBackend *source, BlockBackend *target, int64_t from,
                                  int64_t to, int64_t bytes, void *buf, Error **errp)
{
    int ret = img_interrupted() ? -ECANCELED : blk_co_pread(source, from, bytes, buf, 0);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "error while reading from input image file");
        return ret;
    }
    ret = blk_co_pwrite(target, to, bytes, buf, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "error while writing to output image file");
    }
    return ret;
}

static int coroutine_fn copy(BlockBackend *source, BlockBackend *target, int64_t offset,
                             int64_t bytes, Error **errp)
{
    void *buf = qemu_blockalign(blk_bs(source), IMAGE_CHUNK_BYTES);
    int64_t done = 0, n;
    int ret = 0;

    for (; ret == 0 && done < bytes; done += n) {
        n = MIN(bytes - done, IMAGE_CHUNK_BYTES);
        ret = copy_step(source, target, offset + done, done, n, buf, errp);
    }
    qemu_vfree(buf);
    if (ret == 0) {
        ret = blk_co_flush(target);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "error while flushing the output image file");
        }
    }
    return ret;
}

/* Would making the target empty the source? */
static bool is_onto_itself(BlockBackend *source, const char *target)
{
    struct stat from, to;

    strstart(target, "file:", &target);
    for (BlockDriverState *bs = blk_bs(source); bs; bs = bs->file ? bs->file->bs : NULL) {
        if (!bs->file && stat(bs->filename, &from) == 0 && stat(target, &to) == 0) {
            return from.st_dev == to.st_dev && from.st_ino == to.st_ino;
        }
    }
    return false;
}

static int coroutine_fn copy_opened(Dd *dd, BlockBackend *source, Error **errp)
{
    ERRP_GUARD();
    ImgImage target_image = {.filename = dd->target.filename,
                             .format = dd->target.format,
                             .writable = true,
                             .resizable = true};
    int64_t length = blk_getlength(source), offset, bytes;
    BlockBackend *target;
    int ret;

    if (length < 0) {
        error_setg_errno(errp, (int)-length, "Failed to get size for '%s'", dd->source.filename);
        return (int)length;
    }
    if (is_onto_itself(source, dd->target.filename)) {
        error_setg(errp, "'%s' and '%s' are the same file", dd->source.filename,
                   dd->target.filename);
        return -EINVAL;
    }
    find_piece(dd, length, &offset, &bytes);
    ret = img_target_co_create(&dd->target, ROUND_UP(bytes, BDRV_SECTOR_SIZE), errp);
    if (ret < 0) {
        error_prepend(errp, "%s: error while creating output image: ", dd->target.filename);
        return ret;
    }
    target_image.options = dd->target.open_options;
    target = img_co_open(&target_image, errp);
    if (!target) {
        return -EINVAL;
    }
    ret = copy(source, target, offset, MIN(bytes, MAX(length - offset, 0)), errp);
    img_co_close(target);
    return ret;
}

static int coroutine_fn dd_co(void *opaque)
{
    Dd *dd = opaque;
    Error *err = NULL;
    BlockBackend *source = img_co_open(&dd->source, &err);
    int ret = source ? 0 : -EINVAL;

    if (source && !bdrv_find_format(dd->target.format)) {
        error_setg(&err, "Unknown file format");
        ret = -EINVAL;
    } else if (source && !img_target_take_options(&dd->target)) {
        ret = -EINVAL;
    } else if (source) {
        ret = copy_opened(dd, source, &err);
    }
    img_co_close(source);
    if (ret < 0) {
        img_target_remove(&dd->target);
    }
    if (err && !img_interrupted()) {
        error_report_err(err);
    } else {
        error_free(err);
    }
    return ret < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* "bs=4k".  False: told. */
static bool take_operand(Dd *dd, const char *operand)
{
    const char *equals = strchr(operand, '=');
    g_autofree char *name = g_strndup(operand, equals ? (size_t)(equals - operand) : 0);
    const char *value = equals ? equals + 1 : operand;

    if (!strcmp(name, "if")) {
        dd->source.filename = value;
    } else if (!strcmp(name, "of")) {
        dd->target.filename = value;
    } else if (!strcmp(name, "bs")) {
        return img_parse_size("bs", value, 1, INT_MAX, &dd->block_bytes);
    } else if (!strcmp(name, "count")) {
        dd->has_count = true;
        return img_parse_size("count", value, 0, INT64_MAX, &dd->count);
    } else if (!strcmp(name, "skip")) {
        return img_parse_size("skip", value, 0, INT64_MAX, &dd->skip);
    } else {
        error_report("unrecognized operand %s", equals ? name : operand);
        return false;
    }
    return true;
}

static int dd_operands(Dd *dd, ImgArgs *args)
{
    int status;

    for (int i = 0; i < img_args_operand_count(args); i++) {
        if (!take_operand(dd, img_args_operand(args, i))) {
            return EXIT_FAILURE;
        }
    }
    if (!dd->source.filename || !dd->target.filename) {
        error_report("Must specify both input and output files");
        return EXIT_FAILURE;
    }
    if (!img_image_check(&dd->source)) {
        return EXIT_FAILURE;
    }
    status = img_run(dd_co, dd);
    img_target_clear(&dd->target);
    return status;
}

static int dd_run(ImgArgs *args)
{
    Dd dd = {.block_bytes = BLOCK_SIZE_DEFAULT, .target = {.format = "raw"}};
    const char *value;
    int c;

    while ((c = img_args_next(args, &value)) != IMG_ARGS_END) {
        if (c < 0) {
            return img_args_status(c);
        }
        if (c == 'O') {
            dd.target.format = value;
        } else {
            img_image_option(&dd.source, c, value);
        }
    }
    return dd_operands(&dd, args);
}

const ImgCommand img_dd = {
    .name = "dd",
    .summary = "Copy a piece of an image into a new one",
    .operands = "[bs=SIZE] [count=BLOCKS] [skip=BLOCKS] if=INPUT of=OUTPUT",
    .options = options,
    .run = dd_run,
};
