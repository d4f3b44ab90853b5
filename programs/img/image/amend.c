/* SPDX-License-Identifier: GPL-2.0-or-later */
/* amend.c - qblk-img amend: change what was chosen when an image was made */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "aio/timer.h"
#include "programs/img/commands.h"
#include "programs/img/create-options.h"
#include "util/osdep.h"

/* How often the progress of a driver is looked at. */
#define LOOK_NS (INT64_C(100) * SCALE_MS)

typedef struct Amend {
    ImgImage image;
    char *text;    /* of all -o */
    json_t *given; /* NULL until the driver is known */
    bool quiet, show_progress, force;
    BdrvProgress progress;
    QEMUTimer *timer;
} Amend;

enum { OPT_FORCE = IMG_OPT_FIRST_OWN };

static const ImgOption options[] = {
    IMG_OPTION_QUIET,
    IMG_OPTION_PROGRESS,
    IMG_OPTION_FORMAT,
    IMG_OPTION_IMAGE_OPTS,
    IMG_OPTION_CACHE('t'),
    {OPT_FORCE, "force", NULL, "also what may lose data: the last key, a key that is in use"},
    {'o', "options", "OPTIONS", "what to change, key=value,...; '-o help' lists what there is"},
    {0},
};

static bool can_amend(const BlockDriver *drv)
{
    if (!drv->image || !drv->image->co_amend) {
        error_report("Format driver '%s' does not support option amendment", drv->format_name);
        return false;
    }
    return true;
}

static int print_help(const BlockDriver *drv)
{
    if (!can_amend(drv)) {
        return EXIT_FAILURE;
    }
    printf("Amend options for '%s':\n", drv->format_name);
    for (const BdrvCreateOption *o = drv->image->amend_options; o && o->name; o++) {
        img_print_option_help(o->name, o->type, o->help);
    }
    return EXIT_SUCCESS;
}

/* What the driver says of its progress, and its cancelling, by looking now and then. */
static void look(void *opaque)
{
    Amend *amend = opaque;
    int64_t total = __atomic_load_n(&amend->progress.total, __ATOMIC_RELAXED);
    int64_t done = __atomic_load_n(&amend->progress.done, __ATOMIC_RELAXED);

    if (total > 0) {
        img_progress_set(100.0 * (double)done / (double)total);
    }
    timer_mod_ns(amend->timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + LOOK_NS);
}

static void cancel(void *opaque)
{
    Amend *amend = opaque;

    __atomic_store_n(&amend->progress.cancelled, true, __ATOMIC_RELAXED);
}

static int coroutine_fn amend_node(Amend *amend, BlockDriverState *bs, Error **errp)
{
    int r;

    img_progress_begin(amend->show_progress && !amend->quiet);
    img_set_interrupt_hook(cancel, amend);
    amend->timer = aio_timer_new(qemu_get_aio_context(), look, amend);
    look(amend);
    r = bs->drv->image->co_amend(bs, amend->given, amend->force, &amend->progress, errp);
    timer_free(amend->timer);
    img_set_interrupt_hook(NULL, NULL);
    if (r == 0) {
        img_progress_set(100);
    }
    img_progress_end();
    return r;
}

static int coroutine_fn amend_image(Amend *amend, BlockBackend *blk)
{
    BlockDriverState *bs = blk_bs(blk);
    Error *err = NULL;
    int r;

    if (img_options_ask_help(amend->text)) {
        return print_help(bs->drv);
    }
    if (!can_amend(bs->drv)) {
        return EXIT_FAILURE;
    }
    amend->given = img_amend_options_parse(bs->drv, amend->text, &err);
    r = amend->given ? amend_node(amend, bs, &err) : -EINVAL;
    if (r == 0) {
        r = blk_co_flush(blk);
        if (r < 0) {
            error_setg_errno(&err, -r, "The changes could not be flushed");
        }
    }
    if (r < 0 && img_interrupted()) {
        error_free(err);
    } else if (r < 0) {
        error_report_err(err);
    }
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int coroutine_fn amend_co(void *opaque)
{
    Amend *amend = opaque;
    Error *err = NULL;
    BlockBackend *blk = img_co_open(&amend->image, &err);
    int status;

    if (!blk) {
        error_report_err(err);
        return EXIT_FAILURE;
    }
    status = amend_image(amend, blk);
    img_co_close(blk);
    return status;
}

static bool amend_option(Amend *amend, int c, const char *value)
{
    switch (c) {
    case 'q':
        amend->quiet = true;
        return true;
    case 'p':
        amend->show_progress = true;
        return true;
    case 't':
        amend->image.cache = value;
        return true;
    case OPT_FORCE:
        amend->force = true;
        return true;
    case 'o':
        return img_options_join(&amend->text, value);
    default:
        return img_image_option(&amend->image, c, value);
    }
}

static int amend_operands(Amend *amend, ImgArgs *args)
{
    if (!amend->text) {
        return img_args_error(args, "Must specify options (-o)");
    }
    amend->image.filename = img_args_operand(args, 0);
    if (amend->image.format && img_options_ask_help(amend->text)) {
        const BlockDriver *drv = bdrv_find_format(amend->image.format);

        if (!drv) {
            error_report("Unknown file format '%s'", amend->image.format);
        }
        return drv ? print_help(drv) : EXIT_FAILURE;
    }
    if (img_args_operand_count(args) != 1) {
        error_report("Expecting one image file name");
        return EXIT_FAILURE;
    }
    if (amend->image.cache && !img_cache_is_known(amend->image.cache)) {
        error_report("Invalid cache option: %s", amend->image.cache);
        return EXIT_FAILURE;
    }
    return img_image_check(&amend->image) ? img_run(amend_co, amend) : EXIT_FAILURE;
}

static int amend_run(ImgArgs *args)
{
    Amend amend = {.image = {.writable = true, .resizable = true}};
    const char *value;
    int c, status = EXIT_FAILURE;

    while ((c = img_args_next(args, &value)) >= 0) {
        if (!amend_option(&amend, c, value)) {
            break;
        }
    }
    if (c == IMG_ARGS_END) {
        status = amend_operands(&amend, args);
    } else if (c < 0) {
        status = img_args_status(c);
    }
    g_free(amend.text);
    json_decref(amend.given);
    return status;
}

const ImgCommand img_amend = {
    .name = "amend",
    .summary = "Change what was chosen when an image was made",
    .operands = "FILENAME",
    .options = options,
    .run = amend_run,
};
