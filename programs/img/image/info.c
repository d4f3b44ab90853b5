/* SPDX-License-Identifier: GPL-2.0-or-later */
/* info.c - qblk-img info: what an image is */
#include <stdio.h>

#include "programs/img/commands.h"

typedef struct Info {
    ImgImage image;
    ImgOutput output;
    bool backing_chain;
} Info;

static const ImgOption options[] = {
    IMG_OPTION_FORMAT,
    IMG_OPTION_IMAGE_OPTS,
    {'b', "backing-chain", NULL, "also the backing files, one after the other"},
    IMG_OPTION_FORCE_SHARE,
    IMG_OPTION_OUTPUT,
    {0},
};

static int coroutine_fn info_co(void *opaque)
{
    Info *info = opaque;
    Error *err = NULL;
    BlockBackend *blk = img_co_open(&info->image, &err);
    g_autofree char *size = NULL;

    if (!blk) {
        error_report_err(err);
        return EXIT_FAILURE;
    }
    size = img_size_text(blk_getlength(blk));
    printf("image: %s\nfile format: %s\nvirtual size: %s\n", info->image.filename,
           blk_bs(blk)->drv->format_name, size);
    img_co_close(blk);
    return EXIT_SUCCESS;
}

static int info_run(ImgArgs *args)
{
    Info info = {.image = {.no_backing = true, .shared = BLK_PERM_ALL}};
    const char *value;
    int c;

    while ((c = img_args_next(args, &value)) != IMG_ARGS_END) {
        if (c < 0) {
            return img_args_status(c);
        } else if (img_image_option(&info.image, c, value)) {
            continue;
        } else if (c == 'b') {
            info.backing_chain = true;
        } else if (c == IMG_OPT_OUTPUT && !img_parse_output(args, value, &info.output)) {
            return EXIT_FAILURE;
        }
    }
    if (img_args_operand_count(args) != 1) {
        return img_args_error(args, "Expecting one image file name");
    }
    info.image.filename = img_args_operand(args, 0);
    return img_image_check(&info.image) ? img_run(info_co, &info) : EXIT_FAILURE;
}

const ImgCommand img_info = {
    .name = "info",
    .summary = "Show what an image is",
    .operands = "FILENAME",
    .options = options,
    .run = info_run,
};
