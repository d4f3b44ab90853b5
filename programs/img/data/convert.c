/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * convert.c - qblk-img convert: copies images into another
 *
 *      check the options ─▶ open the sources ─▶ make the target ─▶ open it ─▶ copy ─▶ close
 *                                                    └── fails or is interrupted: it is removed again, if made here
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "programs/img/commands.h"
#include "programs/img/create-options.h"
#include "block/image/bitmaps.h"
#include "programs/img/data/data.h"

enum {
    OPT_SOURCE_IMAGE_OPTS = IMG_OPT_IMAGE_OPTS,
    OPT_TARGET_IMAGE_OPTS = IMG_OPT_FIRST_OWN,
    OPT_TARGET_IS_ZERO,
    OPT_SALVAGE,
    OPT_BITMAPS,
    OPT_SKIP_BROKEN,
};

typedef struct Convert {
    ImgImage source;         /* all have the same options */
    const char *const *name; /* of the sources */
    size_t n_sources;
    ImgImage target_image;
    ImgTarget target;
    bool no_create, target_is_zero, out_of_order, salvage, quiet, progress, compress, bitmaps,
        skip_broken, copy_range, has_sparse, has_options;
    int64_t sparse_bytes, requests, rate;
    const char *snapshot;
} Convert;

static const ImgOption options[] = {
    {'f', "source-format", "FMT", "format of the sources (probed)"},
    {OPT_SOURCE_IMAGE_OPTS, "source-image-opts", NULL,
     "source names are options, as driver=raw,file.filename=disk.img"},
    {OPT_SOURCE_IMAGE_OPTS, "image-opts", NULL, "the same"},
    {'T', "source-cache", "CACHE", "cache mode of the sources (writeback)"},
    IMG_OPTION_FORCE_SHARE,
    {'O', "target-format", "FMT", "format of the target (raw)"},
    {OPT_TARGET_IMAGE_OPTS, "target-image-opts", NULL, "the target's name is options; needs -n"},
    {'o', "target-options", "OPTIONS", "options of the new image; 'help' lists them"},
    {'t', "target-cache", "CACHE", "cache mode of the target (unsafe)"},
    {'B', "backing", "FILENAME",
     "the new image has this backing file, which shows what that of\nthe source shows: only the "
     "rest is copied"},
    {'F', "backing-format", "FMT", "format of the backing file"},
    {'n', "no-create", NULL, "write into a target that is there"},
    {OPT_TARGET_IS_ZERO, "target-is-zero", NULL,
     "the target that is there reads as zeros: those of the source\nare left out; needs -n"},
    {'S', "sparse-size", "SIZE",
     "zeros are left out where they are this long (4k); 0: nothing\nis left out, and all is "
     "allocated"},
    {'m', "parallel", "NUMBER", "so many pieces at once, 1 to 16 (8)"},
    {'W', "oob-writes", NULL, "write them in any order"},
    {'r', "rate", "RATE", "no more bytes a second than this"},
    {OPT_SALVAGE, "salvage", NULL,
     "go on where the source cannot be read; zeros are written there"},
    {'c', "compress", NULL, "compress what is written (qcow2)"},
    {'C', "copy-range-offloading", NULL, "let the system copy, where it can"},
    {'l', "source-snapshot", "SNAPSHOT", "refused: there is no format with internal snapshots"},
    {OPT_BITMAPS, "bitmaps", NULL, "copy persistent dirty bitmaps, too"},
    {OPT_SKIP_BROKEN, "skip-broken-bitmaps", NULL, "but inconsistent ones; with --bitmaps"},
    IMG_OPTION_QUIET,
    IMG_OPTION_PROGRESS,
    {0},
};

static void tell_lost(void *opaque, int64_t offset, int64_t bytes, int error)
{
    warn_report("error while reading offset %" PRId64 ": %s", offset, g_strerror(error));
}

static void tell_status_lost(void *opaque, int64_t offset, int error)
{
    warn_report("error while reading block status at offset %" PRId64 ": %s", offset,
                g_strerror(error));
}

static void tell_skipped(const char *name)
{
    warn_report("Skipping inconsistent bitmap '%s'", name);
}

/* What the sources are cannot be known before they are open. */
static bool check_sources(const Convert *convert, BlockBackend *const *sources)
{
    const char *format = blk_bs(sources[0])->drv->format_name;
    Error *err = NULL;

    if (convert->snapshot) {
        error_report(
            "Failed to load snapshot: Block format '%s' used by device '' does not support "
            "temporarily loading internal snapshots",
            format);
        return false;
    }
    if (convert->bitmaps && convert->n_sources > 1) {
        error_report("Copying bitmaps only possible with single source");
        return false;
    }
    if (convert->bitmaps &&
        image_check_bitmaps(blk_bs(sources[0]), convert->skip_broken, &err) < 0) {
        error_report_err(err);
        return false;
    }
    if (convert->bitmaps && !convert->no_create &&
        !bdrv_find_format(convert->target.format)->bitmaps) {
        error_report("Format driver '%s' does not support bitmaps", convert->target.format);
        return false;
    }
    return true;
}

static int coroutine_fn make_target(Convert *convert, int64_t length, Error **errp)
{
    if (convert->no_create) {
        return 0;
    }
    ERRP_GUARD();
    int ret = img_target_co_create(&convert->target, ROUND_UP(length, BDRV_SECTOR_SIZE), errp);

    if (ret < 0) {
        error_prepend(errp, "%s: error while converting %s: ", convert->target.filename,
                      convert->target.format);
    }
    return ret;
}

static int coroutine_fn copy(Convert *convert, BlockBackend *const *sources, BlockBackend *target,
                             Error **errp)
{
    ImageConvertArgs args = {
        .source = sources,
        .n_sources = convert->n_sources,
        .target = target,
        .sparse = convert->sparse_bytes > 0,
        .sparse_bytes = convert->sparse_bytes,
        .target_is_zero = convert->no_create ? convert->target_is_zero : convert->target.is_zero,
        .requests = (unsigned)convert->requests,
        .out_of_order = convert->out_of_order,
        .bytes_per_second = (uint64_t)convert->rate,
        .salvage = convert->salvage,
        .lost = convert->quiet ? NULL : tell_lost,
        .status_lost = convert->quiet ? NULL : tell_status_lost,
        .watch = img_image_watch(),
        .count_data = convert->progress || convert->salvage, /* as people know it: told twice */
        .compress = convert->compress,
        .copy_range = convert->copy_range,
    };
    BlockDriverState *below = bdrv_backing_chain_next(blk_bs(target));

    if (below && args.target_is_zero) {
        error_setg(errp,
                   "--target-is-zero is no promise that a target with a backing file can keep");
        return -EINVAL;
    }
    if (convert->target.backing) {
        args.above = bdrv_backing_chain_next(blk_bs(sources[0]));
    }
    return image_co_convert(&args, errp);
}

static int coroutine_fn convert_opened(Convert *convert, BlockBackend *const *sources, Error **errp)
{
    ImageConvertArgs args = {.source = sources, .n_sources = convert->n_sources};
    int64_t length = image_convert_length(&args, errp);
    BlockBackend *target;
    int ret;

    if (length < 0) {
        return (int)length;
    }
    ret = make_target(convert, length, errp);
    if (ret < 0) {
        return ret;
    }
    if (!convert->no_create) {
        convert->target_image.options = convert->target.open_options;
    }
    target = img_co_open(&convert->target_image, errp);
    if (!target) {
        return -EINVAL;
    }
    ret = copy(convert, sources, target, errp);
    if (ret == 0 && convert->bitmaps) {
        ret = image_copy_bitmaps(blk_bs(sources[0]), blk_bs(target), tell_skipped, errp);
    }
    img_co_close(target);
    return ret;
}

static int coroutine_fn convert_co(void *opaque)
{
    Convert *convert = opaque;
    g_autofree BlockBackend **sources = g_new0(BlockBackend *, convert->n_sources);
    Error *err = NULL;
    bool ok = true;

    img_progress_begin(convert->progress);
    for (size_t i = 0; i < convert->n_sources && ok; i++) {
        convert->source.filename = convert->name[i];
        sources[i] = img_co_open(&convert->source, &err);
        ok = sources[i];
    }
    if (ok && !check_sources(convert, sources)) {
        ok = false;
    } else if (ok) {
        ok = convert_opened(convert, sources, &err) == 0;
    }
    for (size_t i = 0; i < convert->n_sources; i++) {
        img_co_close(sources[i]);
    }
    if (ok) {
        img_progress_complete();
    }
    img_progress_end();
    if (err && !img_interrupted()) {
        error_report_err(err);
    } else {
        error_free(err);
    }
    if (!ok || img_interrupted()) {
        img_target_remove(&convert->target);
    }
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

static bool parse_sparse_size(Convert *convert, const char *value)
{
    convert->has_sparse = true;
    if (!img_parse_size("buffer size for sparse output", value, 0, INT64_MAX,
                        &convert->sparse_bytes)) {
        return false;
    }
    if (convert->sparse_bytes % BDRV_SECTOR_SIZE != 0 || convert->sparse_bytes > IMAGE_SPARSE_MAX) {
        error_report("Invalid buffer size for sparse output specified. Valid sizes are multiples "
                     "of %" PRId64 " up to %" PRId64
                     ". Select 0 to disable sparse detection (fully allocates output).",
                     (int64_t)BDRV_SECTOR_SIZE, (int64_t)IMAGE_SPARSE_MAX);
        return false;
    }
    return true;
}

static void take_switch(Convert *convert, int c)
{
    switch (c) {
    case OPT_TARGET_IMAGE_OPTS:
        convert->target_image.image_opts = true;
        break;
    case 'n':
        convert->no_create = true;
        break;
    case OPT_TARGET_IS_ZERO:
        convert->target_is_zero = true;
        break;
    case 'W':
        convert->out_of_order = true;
        break;
    case OPT_SALVAGE:
        convert->salvage = true;
        break;
    case 'c':
        convert->compress = true;
        break;
    case 'C':
        convert->copy_range = true;
        break;
    case OPT_BITMAPS:
        convert->bitmaps = true;
        break;
    case OPT_SKIP_BROKEN:
        convert->skip_broken = true;
        break;
    case 'q':
        convert->quiet = true;
        break;
    case 'p':
        convert->progress = true;
        break;
    }
}

static bool take_option(Convert *convert, int c, const char *value)
{
    switch (c) {
    case 'T':
        convert->source.cache = value;
        return true;
    case 'O':
        convert->target.format = value;
        return true;
    case 'o':
        convert->has_options = true;
        return img_options_join(&convert->target.option_text, value);
    case 't':
        convert->target_image.cache = value;
        return true;
    case 'B':
        g_free(convert->target.backing);
        convert->target.backing = g_strdup(value);
        return true;
    case 'F':
        g_free(convert->target.backing_format);
        convert->target.backing_format = g_strdup(value);
        return true;
    case 'S':
        return parse_sparse_size(convert, value);
    case 'm':
        return img_parse_int("number of coroutines", value, 1, IMAGE_REQUESTS_MAX,
                             &convert->requests);
    case 'r':
        return img_parse_size("rate limit", value, 0, INT64_MAX, &convert->rate);
    case 'l':
        convert->snapshot = value;
        return true;
    default:
        if (!img_image_option(&convert->source, c, value)) {
            take_switch(convert, c);
        }
        return true;
    }
}

/* What is asked for, and cannot be had: said before anything is opened. */
static const char *why_not_at_all(const Convert *convert)
{
    if (convert->skip_broken && !convert->bitmaps) {
        return "Use of --skip-broken-bitmaps requires --bitmaps";
    }
    if (convert->copy_range && convert->compress) {
        return "Cannot enable copy offloading when -c is used";
    }
    if (convert->copy_range && convert->has_sparse) {
        return "Cannot enable copy offloading when -S is used";
    }
    if (convert->copy_range && convert->salvage) {
        return "Cannot use copy offloading in salvaging mode";
    }
    return NULL;
}

static const char *why_not_together(const Convert *convert)
{
    if (convert->no_create && convert->has_options) {
        return "-o has no effect when skipping image creation";
    }
    if (convert->target_image.image_opts && !convert->no_create) {
        return "--target-image-opts requires use of -n flag";
    }
    if (convert->target_is_zero && !convert->no_create) {
        return "--target-is-zero requires use of -n flag";
    }
    return NULL;
}

/* Of the target's format and its backing file. */
static bool check_target(const Convert *convert)
{
    const ImgTarget *target = &convert->target;
    const BlockDriver *drv = bdrv_find_format(target->format);

    if (!drv && !convert->target_image.image_opts) {
        error_report("Unknown file format '%s'", target->format);
        return false;
    }
    if (convert->compress && drv && !drv->supports_compression) {
        error_report("Compression not supported for this file format");
        return false;
    }
    if (target->backing && !convert->no_create && !drv->supports_backing) {
        error_report("Backing file not supported for file format '%s'", target->format);
        return false;
    }
    if (target->backing_format && !convert->no_create && !drv->supports_backing) {
        error_report("Backing file format not supported for file format '%s'", target->format);
        return false;
    }
    if (target->backing && !convert->no_create && !target->backing_format) {
        error_report("Use of backing file requires explicit backing format");
        return false;
    }
    if (target->backing && convert->n_sources > 1) {
        error_report("Having a backing file for the target makes no sense when concatenating "
                     "multiple input images");
        return false;
    }
    if (target->backing_format && !bdrv_find_format(target->backing_format)) {
        error_report("Unknown backing file format '%s'", target->backing_format);
        return false;
    }
    return true;
}

static bool check_alone(const Convert *convert)
{
    const char *why = why_not_at_all(convert);

    why = why ? why : why_not_together(convert);
    if (why) {
        error_report("%s", why);
        return false;
    }
    return img_image_check(&convert->source);
}

static bool check_caches(const Convert *convert)
{
    if (convert->target_image.cache && !img_cache_is_known(convert->target_image.cache)) {
        error_report("Invalid cache option: %s", convert->target_image.cache);
        return false;
    }
    if (convert->source.cache && !img_cache_is_known(convert->source.cache)) {
        error_report("Invalid source cache option: %s", convert->source.cache);
        return false;
    }
    return true;
}

static int run(Convert *convert, ImgArgs *args)
{
    int n = img_args_operand_count(args);
    ImgTarget *target = &convert->target;
    const char *target_format = target->format;

    target->format = target_format ? target_format : "raw";
    if (img_options_ask_help(target->option_text)) {
        return img_create_options_help(target->format, img_args_operand(args, n - 1));
    }
    if (n < 2) {
        error_report("Must specify image file name");
        return EXIT_FAILURE;
    }
    convert->name = (const char *const *)&args->argv[args->argc - n];
    convert->n_sources = (size_t)n - 1;
    target->filename = convert->name[n - 1];
    convert->target_image.filename = target->filename;
    convert->target_image.format =
        convert->target_image.image_opts ? target_format : target->format;
    convert->target_image.writable = true;
    if (!img_image_check(&convert->target_image) || !check_alone(convert) ||
        (!convert->no_create && !img_target_take_options(target)) || !check_target(convert) ||
        !check_caches(convert)) {
        return EXIT_FAILURE;
    }
    return img_run(convert_co, convert);
}

static int convert_run(ImgArgs *args)
{
    Convert convert = {.requests = IMAGE_REQUESTS_DEFAULT,
                       .sparse_bytes = IMAGE_SPARSE_DEFAULT,
                       .target_image = {.cache = "unsafe"}};
    const char *value;
    int c;

    while ((c = img_args_next(args, &value)) != IMG_ARGS_END) {
        if (c < 0 || !take_option(&convert, c, value)) {
            img_target_clear(&convert.target);
            return c < 0 ? img_args_status(c) : EXIT_FAILURE;
        }
    }
    convert.progress = convert.progress && !convert.quiet;
    c = run(&convert, args);
    img_target_clear(&convert.target);
    return c;
}

const ImgCommand img_convert = {
    .name = "convert",
    .summary = "Copy images into another",
    .operands = "FILENAME [FILENAME2 ...] TARGET",
    .options = options,
    .run = convert_run,
};
