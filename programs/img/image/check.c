/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check.c - qblk-img check: is an image in order?
 *
 *      0   nothing is wrong, or not any more        3   space is taken in vain
 *      1   it could not be checked                 63   the format has no check
 *      2   data are, or may be, lost
 *
 * What a check finds is told line by line, on stderr; what it comes to is told at the end.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "programs/img/commands.h"
#include "qapi/qapi-types-block-create.h"

enum {
    STATUS_GOOD = 0,
    STATUS_FAILED = 1,
    STATUS_CORRUPT = 2,
    STATUS_LEAKS = 3,
    STATUS_NO_CHECK = 63
};

typedef struct Check {
    ImgImage image;
    ImgOutput output;
    unsigned fix;
    bool quiet, journal;
    BdrvProgress progress;
} Check;

enum { OPT_JOURNAL = IMG_OPT_FIRST_OWN };

static const ImgOption options[] = {
    IMG_OPTION_QUIET,
    IMG_OPTION_FORMAT,
    IMG_OPTION_IMAGE_OPTS,
    IMG_OPTION_CACHE('T'),
    IMG_OPTION_FORCE_SHARE,
    IMG_OPTION_OUTPUT,
    {'r', "repair", "leaks|all", "repair what takes space in vain, or all that can be repaired"},
    {OPT_JOURNAL, "journal", NULL, "print the records of the image's journal, and check nothing"},
    {0},
};

static void tell_finding(void *opaque, const char *line)
{
    fprintf(stderr, "%s\n", line);
}

/* One check; 0, or negative errno, which was told. */
static int coroutine_fn check_once(Check *check, BlockBackend *blk, unsigned fix,
                                   BdrvCheckResult *ret)
{
    BlockDriverState *bs = blk_bs(blk);
    Error *err = NULL;
    int r;

    *ret = (BdrvCheckResult){.message = tell_finding, .progress = &check->progress};
    r = bs->drv->image->co_check(bs, ret, fix, &err);
    if (r < 0 && img_interrupted()) {
        error_free(err);
    } else if (r < 0) {
        error_reportf_err(err, "Check failed: ");
    }
    return r;
}

static void print_human(const BdrvCheckResult *r)
{
    if (!r->corruptions && !r->leaks && !r->check_errors) {
        printf("No errors were found on the image.\n");
    }
    if (r->corruptions) {
        printf("\n%" PRId64 " errors were found on the image.\n"
               "Data may be corrupted, or further writes to the image may corrupt it.\n",
               r->corruptions);
    }
    if (r->leaks) {
        printf("\n%" PRId64 " leaked clusters were found on the image.\n"
               "This means waste of disk space, but no harm to data.\n",
               r->leaks);
    }
    if (r->check_errors) {
        printf("\n%" PRId64 " internal errors have occurred during the check.\n", r->check_errors);
    }
    if (r->total_clusters && r->allocated_clusters) {
        printf("%" PRId64 "/%" PRId64 " = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% "
               "compressed clusters\n",
               r->allocated_clusters, r->total_clusters,
               (double)r->allocated_clusters * 100.0 / (double)r->total_clusters,
               (double)r->fragmented_clusters * 100.0 / (double)r->allocated_clusters,
               (double)r->compressed_clusters * 100.0 / (double)r->allocated_clusters);
    }
    if (r->image_end_offset) {
        printf("Image end offset: %" PRId64 "\n", r->image_end_offset);
    }
}

static void print_json(const Check *check, const char *format, const BdrvCheckResult *r)
{
    const ImageCheck c = {
        .filename = (char *)check->image.filename,
        .format = (char *)format,
        .check_errors = r->check_errors,
        .has_image_end_offset = r->image_end_offset,
        .image_end_offset = r->image_end_offset,
        .has_corruptions = r->corruptions,
        .corruptions = r->corruptions,
        .has_leaks = r->leaks,
        .leaks = r->leaks,
        .has_corruptions_fixed = r->corruptions_fixed,
        .corruptions_fixed = r->corruptions_fixed,
        .has_leaks_fixed = r->leaks_fixed,
        .leaks_fixed = r->leaks_fixed,
        .has_total_clusters = r->total_clusters,
        .total_clusters = r->total_clusters,
        .has_allocated_clusters = r->allocated_clusters,
        .allocated_clusters = r->allocated_clusters,
        .has_fragmented_clusters = r->fragmented_clusters,
        .fragmented_clusters = r->fragmented_clusters,
        .has_compressed_clusters = r->compressed_clusters,
        .compressed_clusters = r->compressed_clusters,
    };
    json_auto_t *json = qapi_ImageCheck_to_json(&c);

    img_print_json(json);
}

static void print_record(void *opaque, const char *line)
{
    printf("%s\n", line);
}

static int coroutine_fn print_journal(BlockBackend *blk)
{
    const BlockDriver *drv = blk_bs(blk)->drv;
    Error *err = NULL;

    if (!drv->image || !drv->image->co_print_journal) {
        error_report("This image format has no journal");
        return STATUS_NO_CHECK;
    }
    if (drv->image->co_print_journal(blk_bs(blk), print_record, NULL, &err) < 0) {
        error_report_err(err);
        return STATUS_FAILED;
    }
    return STATUS_GOOD;
}

/* After a repair the image is looked at again: what counts is what it is now. */
static int coroutine_fn check_again(Check *check, BlockBackend *blk, BdrvCheckResult *result)
{
    const BdrvCheckResult repaired = *result;
    int r;

    if (!check->quiet && check->output == IMG_OUTPUT_HUMAN) {
        printf("The following inconsistencies were found and repaired:\n\n"
               "    %" PRId64 " leaked clusters\n"
               "    %" PRId64 " corruptions\n\n"
               "Double checking the fixed image now...\n",
               repaired.leaks_fixed, repaired.corruptions_fixed);
        fflush(stdout);
    }
    r = check_once(check, blk, 0, result);
    result->leaks_fixed = repaired.leaks_fixed;
    result->corruptions_fixed = repaired.corruptions_fixed;
    return r;
}

static int coroutine_fn check_image(Check *check, BlockBackend *blk)
{
    const BlockDriver *drv = blk_bs(blk)->drv;
    BdrvCheckResult result;

    if (!drv->image || !drv->image->co_check) {
        error_report("This image format does not support checks");
        return STATUS_NO_CHECK;
    }
    if (check_once(check, blk, check->fix, &result) < 0) {
        return STATUS_FAILED;
    }
    if ((result.corruptions_fixed || result.leaks_fixed) && check_again(check, blk, &result) < 0) {
        return STATUS_FAILED;
    }
    if (!check->quiet && check->output == IMG_OUTPUT_JSON) {
        print_json(check, drv->format_name, &result);
    } else if (!check->quiet) {
        print_human(&result);
    }
    return result.check_errors  ? STATUS_FAILED
           : result.corruptions ? STATUS_CORRUPT
           : result.leaks       ? STATUS_LEAKS
                                : STATUS_GOOD;
}

static void cancel(void *opaque)
{
    Check *check = opaque;

    __atomic_store_n(&check->progress.cancelled, true, __ATOMIC_RELAXED);
}

static int coroutine_fn check_co(void *opaque)
{
    Check *check = opaque;
    Error *err = NULL;
    BlockBackend *blk = img_co_open(&check->image, &err);
    int status, r = 0;

    if (!blk) {
        error_report_err(err);
        return STATUS_FAILED;
    }
    img_set_interrupt_hook(cancel, check);
    status = check->journal ? print_journal(blk) : check_image(check, blk);
    img_set_interrupt_hook(NULL, NULL);
    if (check->fix) {
        r = blk_co_flush(blk);
    }
    img_co_close(blk);
    if (r < 0) {
        error_report("What was repaired could not be flushed: %s", g_strerror(-r));
        return STATUS_FAILED;
    }
    return status;
}

static bool parse_repair(ImgArgs *args, Check *check, const char *word)
{
    if (!strcmp(word, "leaks")) {
        check->fix = BDRV_FIX_LEAKS;
    } else if (!strcmp(word, "all")) {
        check->fix = BDRV_FIX_LEAKS | BDRV_FIX_ERRORS;
    } else {
        img_args_error(args, "--repair (-r) expects 'leaks' or 'all' not '%s'", word);
        return false;
    }
    check->image.writable = true;
    return true;
}

static int check_run(ImgArgs *args)
{
    Check check = {.image = {.check = true}};
    const char *value;
    int c;

    while ((c = img_args_next(args, &value)) != IMG_ARGS_END) {
        if (c < 0) {
            return img_args_status(c);
        } else if (img_image_option(&check.image, c, value)) {
            continue;
        } else if (c == 'q') {
            check.quiet = true;
        } else if (c == OPT_JOURNAL) {
            check.journal = true;
        } else if (c == 'T') {
            check.image.cache = value;
        } else if ((c == 'r' && !parse_repair(args, &check, value)) ||
                   (c == IMG_OPT_OUTPUT && !img_parse_output(args, value, &check.output))) {
            return STATUS_FAILED;
        }
    }
    if (img_args_operand_count(args) != 1) {
        return img_args_error(args, "Expecting one image file name");
    }
    check.image.filename = img_args_operand(args, 0);
    if (check.image.cache && !img_cache_is_known(check.image.cache)) {
        error_report("Invalid source cache option: %s", check.image.cache);
        return STATUS_FAILED;
    }
    if (check.journal && (check.fix || check.output == IMG_OUTPUT_JSON)) {
        error_report("--journal cannot be used together with %s",
                     check.fix ? "--repair" : "--output=json");
        return STATUS_FAILED;
    }
    return img_image_check(&check.image) ? img_run(check_co, &check) : STATUS_FAILED;
}

const ImgCommand img_check = {
    .name = "check",
    .summary = "Check, and repair, an image",
    .operands = "FILENAME",
    .options = options,
    .run = check_run,
};
