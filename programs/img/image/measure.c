/* SPDX-License-Identifier: GPL-2.0-or-later */
/* measure.c - qblk-img measure: how large the file of a new image would be */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "block/open/open.h"
#include "programs/img/commands.h"
#include "programs/img/create-options.h"
#include "qapi/keyval.h"
#include "util/cutils.h"
#include "util/osdep.h"

enum { OPT_SIZE = IMG_OPT_FIRST_OWN };

typedef struct Measure {
    ImgImage source;
    const char *format;
    char *option_text; /* owned; all -o */
    BlockCreateArgs args;
    BdrvProgress progress;
    ImgOutput output;
    const char *snapshot; /* NULL: the disk as it is */
    bool has_size;
} Measure;

static const ImgOption options[] = {
    {'O', "target-format", "FMT", "format of the new image (raw)"},
    {'o', "target-options", "OPTIONS", "options of the new image, as for create"},
    {OPT_SIZE, "size", "SIZE", "of its disk, where nothing is copied into it"},
    IMG_OPTION_FORMAT,
    IMG_OPTION_IMAGE_OPTS,
    {'l', "snapshot", "SNAPSHOT", "what is copied is this internal snapshot"},
    IMG_OPTION_OUTPUT,
    IMG_OPTION_FORCE_SHARE,
    {0},
};

static void print_info(const Measure *measure, const BlockMeasureInfo *info)
{
    if (measure->output == IMG_OUTPUT_JSON) {
        json_auto_t *tree = json_pack("{s:I, s:I}", "required", (json_int_t)info->required,
                                      "fully-allocated", (json_int_t)info->fully_allocated);

        if (info->has_bitmaps) {
            json_object_set_new(tree, "bitmaps", json_integer(info->bitmaps));
        }
        img_print_json(tree);
        return;
    }
    printf("required size: %" PRId64 "\n"
           "fully allocated size: %" PRId64 "\n",
           info->required, info->fully_allocated);
    if (info->has_bitmaps) {
        printf("bitmaps size: %" PRId64 "\n", info->bitmaps);
    }
}

/* What is copied; NULL with @errp. */
static BlockBackend *coroutine_fn open_source(Measure *measure, Error **errp)
{
    BlockBackend *blk = img_co_open(&measure->source, errp);
    int64_t length;

    if (!blk) {
        return NULL;
    }
    length = blk_getlength(blk);
    if (length < 0) {
        error_setg_errno(errp, (int)-length, "Failed to get size for '%s'",
                         measure->source.filename);
    } else if (measure->snapshot) {
        error_setg(errp,
                   "Failed to load snapshot: Block format '%s' used by device '' does not support "
                   "temporarily loading internal snapshots",
                   blk_bs(blk)->drv->format_name);
    } else {
        measure->args.size = length;
        return blk;
    }
    img_co_close(blk);
    return NULL;
}

static void cancel(void *opaque)
{
    Measure *measure = opaque;

    __atomic_store_n(&measure->progress.cancelled, true, __ATOMIC_RELAXED);
}

static int coroutine_fn measure_co(void *opaque)
{
    Measure *measure = opaque;
    BlockBackend *source = NULL;
    BlockMeasureInfo *info = NULL;
    Error *err = NULL;

    if (!measure->has_size) {
        source = open_source(measure, &err);
    }
    if (measure->has_size || source) {
        /* Disks are made of whole sectors. */
        measure->args.size =
            ROUND_UP(MIN(measure->args.size, INT64_MAX - BDRV_SECTOR_SIZE), BDRV_SECTOR_SIZE);
        measure->args.progress = &measure->progress;
        img_set_interrupt_hook(cancel, measure);
        info = bdrv_co_measure_image(measure->format, &measure->args,
                                     source ? blk_bs(source) : NULL, &err);
        img_set_interrupt_hook(NULL, NULL);
    }
    img_co_close(source);
    if (!info) {
        (img_interrupted() ? error_free : error_report_err)(err);
        return EXIT_FAILURE;
    }
    print_info(measure, info);
    qapi_free_BlockMeasureInfo(info);
    return EXIT_SUCCESS;
}

/* A name, or an id, or snapshot.name=... and snapshot.id=...  False: told. */
static bool parse_snapshot(Measure *measure, const char *value)
{
    json_auto_t *tree = NULL;
    Error *err = NULL;
    const char *key;
    json_t *ignored;

    measure->snapshot = value;
    if (!strstart(value, "snapshot.", NULL)) {
        return true;
    }
    tree = keyval_parse(value, NULL, NULL, &err);
    json_object_foreach(json_object_get(tree, "snapshot"), key, ignored)
    {
        if (!err && strcmp(key, "id") != 0 && strcmp(key, "name") != 0) {
            error_setg(&err, "Invalid parameter 'snapshot.%s'", key);
        }
    }
    if (err) {
        error_report_err(err);
        error_report("Failed in parsing snapshot param '%s'", value);
        return false;
    }
    return true;
}

static bool take_option(Measure *measure, const ImgArgs *args, int c, const char *value)
{
    switch (c) {
    case 'O':
        measure->format = value;
        return true;
    case 'o':
        return img_options_join(&measure->option_text, value);
    case OPT_SIZE:
        measure->has_size = true;
        return img_parse_size("image size", value, 0, INT64_MAX, &measure->args.size);
    case 'l':
        return parse_snapshot(measure, value);
    case IMG_OPT_OUTPUT:
        return img_parse_output(args, value, &measure->output);
    default:
        return img_image_option(&measure->source, c, value);
    }
}

/* What is measured is one of two things. */
static const char *why_not(const Measure *measure, const ImgArgs *args)
{
    int n = img_args_operand_count(args);
    bool about_file = measure->source.image_opts || measure->source.format || measure->snapshot;

    if (n > 1) {
        return "At most one filename argument is allowed.";
    }
    if (n == 0 && about_file) {
        return "--image-opts, -f, and -l require a filename argument.";
    }
    if (n == 0 && !measure->has_size) {
        return "Either --size N or one filename must be specified.";
    }
    if (n == 1 && measure->has_size) {
        return "--size N cannot be used together with a filename.";
    }
    return NULL;
}

/* What -o says is for the arguments of a creation that does not take place. */
static int run_with_options(Measure *measure)
{
    Error *err = NULL;
    json_auto_t *parsed =
        img_create_driver(measure->format, &err)
            ? img_create_options_parse(measure->format, measure->option_text, &err)
            : NULL;
    json_auto_t *others = parsed ? json_copy(parsed) : NULL;
    BlockCreateArgs *args = &measure->args;

    if (!parsed) {
        error_report_err(err);
        if (bdrv_find_format(measure->format) && measure->option_text) {
            error_report("Invalid options for file format '%s'", measure->format);
        }
        return EXIT_FAILURE;
    }
    args->backing_file = json_string_value(json_object_get(parsed, "backing_file"));
    args->backing_format = json_string_value(json_object_get(parsed, "backing_fmt"));
    json_object_del(others, "size"); /* that of the disk is known */
    json_object_del(others, "backing_file");
    json_object_del(others, "backing_fmt");
    args->options = others;
    return img_run(measure_co, measure);
}

static int measure_run(ImgArgs *args)
{
    Measure measure = {.format = "raw"};
    const char *value, *why;
    int c, status = EXIT_FAILURE;

    while ((c = img_args_next(args, &value)) >= 0) {
        if (!take_option(&measure, args, c, value)) {
            break;
        }
    }
    why = c == IMG_ARGS_END ? why_not(&measure, args) : NULL;
    measure.source.filename = img_args_operand(args, 0);
    if (why) {
        error_report("%s", why);
    } else if (c == IMG_ARGS_END && img_image_check(&measure.source)) {
        status = run_with_options(&measure);
    } else if (c == IMG_ARGS_HELP || c == IMG_ARGS_FAILED) {
        status = img_args_status(c);
    }
    g_free(measure.option_text);
    return status;
}

const ImgCommand img_measure = {
    .name = "measure",
    .summary = "Calculate how large the file of a new image would be",
    .operands = "--size SIZE | FILENAME",
    .options = options,
    .run = measure_run,
};
