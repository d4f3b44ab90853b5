/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * target.c - the image that a command makes
 *
 * What was not there before and is not complete must not be taken for an image later: a target that was made here
 * is removed again unless the command keeps it.  One that was there is only overwritten.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/open/open.h"
#include "programs/img/create-options.h"
#include "programs/img/data/data.h"
#include "util/cutils.h"
#include "util/osdep.h"

/* Takes a string out of the options: creation knows it by another way.  NULL: not there. */
static char *take_option(ImgTarget *target, const char *name)
{
    char *value = g_strdup(json_string_value(json_object_get(target->options, name)));

    json_object_del(target->options, name);
    return value;
}

bool img_target_take_options(ImgTarget *target)
{
    g_autofree char *backing = NULL, *format = NULL, *size = NULL;
    Error *err = NULL;

    target->options = img_create_options_parse(target->format, target->option_text, &err);
    if (!target->options) {
        error_report_err(err);
        return false;
    }
    backing = take_option(target, "backing_file");
    format = take_option(target, "backing_fmt");
    size = take_option(target, "size");
    if (!target->backing) {
        target->backing = g_steal_pointer(&backing);
    }
    if (!target->backing_format) {
        target->backing_format = g_steal_pointer(&format);
    }
    return !size || img_parse_size("size", size, 0, INT64_MAX, &target->size);
}

static bool stat_path(const char *filename, struct stat *ret)
{
    strstart(filename, "file:", &filename);
    return stat(filename, ret) == 0;
}

/* What was encrypted with a key is opened with it. */
static char *key_options(const json_t *options)
{
    static const char *const names[] = {"key-secret", "encrypt.key-secret", "encrypt.format"};
    g_autoptr(GString) text = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        const char *value = json_string_value(json_object_get(options, names[i]));
        g_auto(GStrv) parts = g_strsplit(value ? value : "", ",", -1);
        g_autofree char *quoted = g_strjoinv(",,", parts);

        if (value) {
            g_string_append_printf(text, "%s%s=%s", text->len ? "," : "", names[i], quoted);
        }
    }
    return text->len ? g_strdup(text->str) : NULL;
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
        .use_served = true,
    };
    bool was_there = stat_path(target->filename, &st);
    const BlockDriver *drv;
    int ret = bdrv_co_create_image(target->format, &args, errp);

    if (ret < 0) {
        return ret;
    }
    target->created = !was_there;
    target->open_options = key_options(target->options);
    /* A regular file that was just made has holes and zeros only; a device keeps what it had. */
    drv = bdrv_find_format(target->format);
    target->is_zero = !target->backing && !drv->image->new_is_noise &&
                      stat_path(target->filename, &st) && S_ISREG(st.st_mode);
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
    g_free(target->option_text);
    g_free(target->backing);
    g_free(target->backing_format);
    g_free(target->open_options);
}
