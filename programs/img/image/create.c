/* SPDX-License-Identifier: GPL-2.0-or-later */
/* create.c - qblk-img create: a new image */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "block/open/open.h"
#include "programs/img/commands.h"
#include "programs/img/create-options.h"
#include "qapi/type.h"
#include "util/osdep.h"

typedef struct Create {
    BlockCreateArgs args;
    const char *format;
    char *options;  /* of all -o; NULL: none */
    json_t *parsed; /* the same; @args borrows from it */
    json_t *others; /* without what is in @args */
    bool quiet;
    BdrvProgress progress;
} Create;

static const ImgOption options[] = {
    IMG_OPTION_QUIET,
    {'f', "format", "FMT", "format of the new image (raw)"},
    {'o', "options", "OPTIONS", "options of the format, key=value,...; '-o help' lists them"},
    {'b', "backing", "FILE", "the image that it is based on; its name is relative to FILENAME"},
    {'F', "backing-format", "FMT", "format of that image"},
    {'u', "backing-unsafe", NULL, "that image need not be there"},
    {0},
};

/* What -o says about what has an option of its own, too. */
static int take_common(Create *create, const char *size, Error **errp)
{
    static const char *const common[] = {"size", "backing_file", "backing_fmt"};
    BlockCreateArgs *args = &create->args;
    json_t *text = json_object_get(create->parsed, "size");

    if (text && size) {
        error_setg(errp, "The image size must be specified only once");
        return -1;
    }
    if (text) {
        args->size = g_ascii_strtoll(json_string_value(text), NULL, 10);
    }
    if (!args->backing_file) {
        args->backing_file = json_string_value(json_object_get(create->parsed, "backing_file"));
    }
    if (!args->backing_format) {
        args->backing_format = json_string_value(json_object_get(create->parsed, "backing_fmt"));
    }
    create->others = json_copy(create->parsed);
    for (size_t i = 0; i < G_N_ELEMENTS(common); i++) {
        json_object_del(create->others, common[i]);
    }
    return 0;
}

static int check_backing(const Create *create, Error **errp)
{
    const BlockCreateArgs *args = &create->args;
    const BlockDriver *drv = bdrv_find_format(create->format);

    if ((args->backing_file || args->backing_format) && !drv->supports_backing) {
        error_setg(errp, "Backing file%s not supported for file format '%s'",
                   args->backing_file ? "" : " format", create->format);
        return -1;
    }
    if (args->backing_file && !strcmp(args->backing_file, args->filename)) {
        error_setg(errp, "Error: Trying to create an image with the same filename as the backing "
                         "file");
        return -1;
    }
    if (args->backing_format && !args->backing_file) {
        error_setg(errp, "Backing format cannot be used without backing file");
        return -1;
    }
    return 0;
}

/* Look at the base image: it is there, it says how large, and of what format it is. */
static int coroutine_fn ask_backing(BlockCreateArgs *args, Error **errp)
{
    g_autofree char *path = bdrv_path_beside(args->filename, args->backing_file);
    BdrvOpenFileArgs open = {.filename = path, .format = args->backing_format, .read_only = true};
    BlockDriverState *bs = bdrv_co_open_file(&open, errp);
    int ret = 0;

    if (!bs) {
        error_append_hint(errp, "Could not open backing image.\n");
        return -1;
    }
    if (!args->backing_format) {
        error_setg(errp, "Backing file specified without backing format");
        error_append_hint(errp, "Detected format of %s.\n", bs->drv->format_name);
        ret = -1;
    } else if (bdrv_getlength(bs) < 0) {
        error_setg_errno(errp, (int)-bdrv_getlength(bs), "Could not get size of '%s'", path);
        ret = -1;
    } else {
        args->has_backing_size = true;
        args->backing_size = bdrv_getlength(bs);
        args->size = args->size < 0 ? args->backing_size : args->size;
    }
    bdrv_co_unref(bs);
    return ret;
}

/* A header alone has no size. */
static bool is_header_only(const Create *create)
{
    const BlockDriver *drv = bdrv_find_format(create->format);
    const char *text = json_string_value(json_object_get(create->others, "detached-header"));
    bool on;

    return drv->image->has_detached_header && text &&
           qapi_bool_parse("detached-header", text, &on, NULL) && on;
}

static int coroutine_fn find_size(Create *create, Error **errp)
{
    BlockCreateArgs *args = &create->args;

    if (args->backing_file && args->backing_unsafe && !args->backing_format) {
        error_setg(errp, "Backing file specified without backing format");
        return -1;
    }
    if (args->backing_file && !args->backing_unsafe && ask_backing(args, errp) < 0) {
        return -1;
    }
    if (args->size < 0 && is_header_only(create)) {
        args->size = 0;
    }
    if (args->size < 0) {
        error_setg(errp, "Image creation needs a size parameter");
        return -1;
    }
    return 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void tell_plan(const Create *create)
{
    const BlockCreateArgs *args = &create->args;
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *name;
    json_t *value;

    printf("Formatting '%s', fmt=%s size=%" PRId64, args->filename, create->format, args->size);
    if (args->backing_file) {
        printf(" backing_file=%s backing_fmt=%s", args->backing_file, args->backing_format);
    }
    json_object_foreach(create->others, name, value)
    {
        g_ptr_array_add(names, (void *)name);
    }
    g_ptr_array_sort(names, by_text);
    for (guint i = 0; i < names->len; i++) {
        name = g_ptr_array_index(names, i);
        printf(" %s=%s", name, json_string_value(json_object_get(create->others, name)));
    }
    printf("\n");
    fflush(stdout);
}

static void cancel(void *opaque)
{
    Create *create = opaque;

    __atomic_store_n(&create->progress.cancelled, true, __ATOMIC_RELAXED);
}

static int coroutine_fn create_co(void *opaque)
{
    Create *create = opaque;
    BlockCreateArgs *args = &create->args;
    Error *err = NULL;
    int ret = find_size(create, &err);

    if (ret == 0) {
        if (!create->quiet) {
            tell_plan(create);
        }
        /* Disks are made of whole sectors. */
        args->size = ROUND_UP(MIN(args->size, INT64_MAX - BDRV_SECTOR_SIZE), BDRV_SECTOR_SIZE);
        img_set_interrupt_hook(cancel, create);
        args->options = create->others;
        args->progress = &create->progress;
        ret = bdrv_co_create_image(create->format, args, &err);
        img_set_interrupt_hook(NULL, NULL);
    }
    if (ret < 0 && img_interrupted()) {
        error_free(err);
    } else if (ret < 0) {
        error_reportf_err(err, "%s: ", args->filename);
    }
    return ret < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static bool parse(Create *create, const char *size)
{
    Error *err = NULL;

    create->parsed = img_create_options_parse(create->format, create->options, &err);
    if (create->parsed && take_common(create, size, &err) == 0 &&
        check_backing(create, &err) == 0) {
        return true;
    }
    error_reportf_err(err, "%s: ", create->args.filename);
    return false;
}

static bool create_option(Create *create, int c, const char *value)
{
    switch (c) {
    case 'q':
        create->quiet = true;
        return true;
    case 'f':
        create->format = value;
        return true;
    case 'o':
        return img_options_join(&create->options, value);
    case 'b':
        create->args.backing_file = value;
        return true;
    case 'F':
        create->args.backing_format = value;
        return true;
    case 'u':
        create->args.backing_unsafe = true;
        return true;
    default:
        return true;
    }
}

static int create_operands(Create *create, ImgArgs *args)
{
    const char *size = img_args_operand(args, 1);

    create->args.filename = img_args_operand(args, 0);
    if (img_options_ask_help(create->options)) {
        return img_create_options_help(create->format, create->args.filename);
    }
    if (!create->args.filename) {
        return img_args_error(args, "Expecting image file name");
    }
    if (size && !img_parse_size("image size", size, 0, INT64_MAX, &create->args.size)) {
        return EXIT_FAILURE;
    }
    if (img_args_operand_count(args) > 2) {
        return img_args_error(args, "Unexpected argument: %s", img_args_operand(args, 2));
    }
    return parse(create, size) ? img_run(create_co, create) : EXIT_FAILURE;
}

static int create_run(ImgArgs *args)
{
    Create create = {.format = "raw", .args = {.size = -1, .use_served = true}};
    const char *value;
    int c, status = EXIT_FAILURE;

    while ((c = img_args_next(args, &value)) >= 0) {
        if (!create_option(&create, c, value)) {
            break;
        }
    }
    if (c == IMG_ARGS_END) {
        status = create_operands(&create, args);
    } else if (c < 0) {
        status = img_args_status(c);
    }
    g_free(create.options);
    json_decref(create.parsed);
    json_decref(create.others);
    return status;
}

const ImgCommand img_create = {
    .name = "create",
    .summary = "Make a new image",
    .operands = "FILENAME [SIZE]",
    .options = options,
    .run = create_run,
};
