/* SPDX-License-Identifier: GPL-2.0-or-later */
/* info.c - qblk-img info: what an image is */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "block/image/info.h"
#include "programs/img/commands.h"
#include "programs/img/image/describe.h"

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

/* The description of one image; *ret_next becomes the image that it is based on.  NULL: told. */
static ImgDescription *coroutine_fn describe(const ImgImage *image, char **ret_next,
                                             char **ret_next_format)
{
    Error *err = NULL;
    BlockBackend *blk = img_co_open(image, &err);
    ImgDescription *d;

    if (!blk) {
        error_report_err(err);
        return NULL;
    }
    d = img_co_describe(blk_bs(blk));
    *ret_next = g_strdup(d->info->full_backing_filename);
    *ret_next_format = g_strdup(d->info->backing_filename_format);
    img_co_close(blk);
    return d;
}

/* Of ImgDescription; NULL: told. */
static GPtrArray *coroutine_fn describe_all(Info *info)
{
    g_autoptr(GPtrArray) list =
        g_ptr_array_new_with_free_func((GDestroyNotify)img_description_free);
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autofree char *name = g_strdup(info->image.filename), *format = g_strdup(info->image.format);

    while (name && !img_interrupted()) {
        ImgImage image = info->image;
        ImgDescription *d;
        char *next, *next_format;

        if (!g_hash_table_add(seen, g_strdup(name))) {
            error_report("Backing file '%s' creates an infinite loop.", name);
            return NULL;
        }
        image.filename = name;
        image.format = format;
        image.image_opts = info->image.image_opts && list->len == 0;
        d = describe(&image, &next, &next_format);
        if (!d) {
            return NULL;
        }
        g_ptr_array_add(list, d);
        g_free(name);
        g_free(format);
        name = next;
        format = next_format;
        if (!info->backing_chain) {
            break;
        }
    }
    return g_steal_pointer(&list);
}

static void print_json(const Info *info, const GPtrArray *list)
{
    json_auto_t *chain = json_array();

    for (guint i = 0; i < list->len; i++) {
        json_array_append_new(chain, img_description_to_json(g_ptr_array_index(list, i)));
    }
    img_print_json(info->backing_chain ? chain : json_array_get(chain, 0));
}

static int coroutine_fn info_co(void *opaque)
{
    Info *info = opaque;
    g_autoptr(GPtrArray) list = describe_all(info);

    if (!list) {
        return EXIT_FAILURE;
    }
    if (info->output == IMG_OUTPUT_JSON) {
        print_json(info, list);
        return EXIT_SUCCESS;
    }
    for (guint i = 0; i < list->len; i++) {
        printf("%s", i > 0 ? "\n" : "");
        img_description_print(g_ptr_array_index(list, i));
    }
    return EXIT_SUCCESS;
}

static int info_run(ImgArgs *args)
{
    /* Nothing is read but what says what the image is: others may write the disk meanwhile. */
    Info info = {.image = {.no_backing = true, .no_io = true, .shared = BLK_PERM_ALL}};
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
