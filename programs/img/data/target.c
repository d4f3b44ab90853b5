/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * target.c - the image that a command makes
 *
 * What was not there before and is not complete must not be taken for an image later: a target that was made here
 * is removed again unless the command keeps it.  One that was there is only overwritten.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/open/open.h"
#include "programs/img/data/data.h"
#include "qapi/keyval.h"
#include "util/cutils.h"
#include "util/osdep.h"

static void print_options(const BdrvCreateOption *options)
{
    for (; options && options->name; options++) {
        g_autofree char *left = g_strdup_printf("%s=<%s>", options->name, options->type);

        printf("  %-22s - %s\n", left, options->help);
    }
}

int img_target_print_options(const char *format)
{
    const BlockDriver *drv = bdrv_find_format(format);

    if (!drv) {
        error_report("Unknown file format '%s'", format);
        return EXIT_FAILURE;
    }
    printf("Supported options:\n");
    if (drv->image) {
        print_options(drv->image->create_options);
    }
    if (drv->supports_backing) {
        printf("  %-22s - %s\n", "backing_file=<str>", "Name of the backing file");
        printf("  %-22s - %s\n", "backing_fmt=<str>", "Format of the backing file");
    }
    printf("  %-22s - %s\n", "size=<size>", "Size of the disk");
    return EXIT_SUCCESS;
}

bool img_target_option(ImgTarget *target, const char *value)
{
    Error *err = NULL;
    bool help = false;
    json_t *tree = keyval_parse(value, NULL, &help, &err);

    if (!tree) {
        error_report_err(err);
        return false;
    }
    target->wants_help = target->wants_help || help;
    if (!target->options) {
        target->options = json_object();
    }
    json_object_update(target->options, tree);
    json_decref(tree);
    return true;
}

/* Takes "backing_file" and such out of the options: we know them by another way. */
static char *take_option(ImgTarget *target, const char *name)
{
    g_autofree char *dashes = g_strdelimit(g_strdup(name), "_", '-');
    char *value = NULL;

    for (int i = 0; i < 2; i++) {
        const char *key = i ? dashes : name;
        const char *text = json_string_value(json_object_get(target->options, key));

        if (text) {
            g_free(value);
            value = g_strdup(text);
            json_object_del(target->options, key);
        }
    }
    return value;
}

bool img_target_take_options(ImgTarget *target)
{
    g_autofree char *backing = take_option(target, "backing_file");
    g_autofree char *format = take_option(target, "backing_fmt");
    g_autofree char *size = take_option(target, "size");

    if (backing && !target->backing) {
        target->backing = g_steal_pointer(&backing);
    }
    if (format && !target->backing_format) {
        target->backing_format = g_steal_pointer(&format);
    }
    return !size || img_parse_size("size", size, 0, INT64_MAX, &target->size);
}

static bool stat_path(const char *filename, struct stat *ret)
{
    strstart(filename, "file:", &filename);
    return stat(filename, ret) == 0;
}

int coroutine_fn img_target_co_create(ImgTarget *target, int64_t size, Error **errp)
{
    struct stat st;
    BlockCreateArgs args = {
        .filename = target->filename,
        .size = target->size ? target->size : size,
        .backing_file = target->backing,
        .backing_format = target->backing_format,
        .options = target->options,
    };
    bool was_there = stat_path(target->filename, &st);
    int ret = bdrv_co_create_image(target->format, &args, errp);

    if (ret < 0) {
        return ret;
    }
    target->created = !was_there;
    /* A regular file that was just made has holes and zeros only; a device keeps what it had. */
    target->is_zero = !target->backing && stat_path(target->filename, &st) && S_ISREG(st.st_mode);
    return 0;
}

void img_target_remove(const ImgTarget *target)
{
    const char *path = target->filename;
    const char *data = json_string_value(json_object_get(target->options, "data_file"));
    g_autofree char *data_path = data ? bdrv_path_beside(path, data) : NULL;

    if (!target->created) {
        return;
    }
    strstart(path, "file:", &path);
    unlink(path);
    if (data_path && !strstr(data_path, "://")) {
        unlink(data_path);
    }
}

void img_target_clear(ImgTarget *target)
{
    json_decref(target->options);
    g_free(target->backing);
    g_free(target->backing_format);
}
