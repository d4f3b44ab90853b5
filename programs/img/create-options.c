/* SPDX-License-Identifier: GPL-2.0-or-later */
/* create-options.c - -o of the commands that make images */
#include "programs/img/create-options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "qapi/keyval.h"
#include "qapi/type.h"
#include "util/cutils.h"

/* Options that every format has, and those of formats with backing files. */
static const BdrvCreateOption common_options[] = {
    {"size", "size", "Virtual disk size"},
    {0},
};
static const BdrvCreateOption backing_options[] = {
    {"backing_file", "str", "File name of a base image"},
    {"backing_fmt", "str", "Image format of the base image"},
    {0},
};

bool img_options_join(char **text, const char *more)
{
    size_t length = strlen(more), commas = 0;
    char *joined;

    while (commas < length && more[length - 1 - commas] == ',') {
        commas++;
    }
    /* Commas at the end would double with the one between, and become part of a value. */
    if (length == 0 || *more == ',' || commas % 2 != 0) {
        error_report("Invalid option list: %s", more);
        return false;
    }
    joined = *text ? g_strconcat(*text, ",", more, NULL) : g_strdup(more);
    g_free(*text);
    *text = joined;
    return true;
}

bool img_options_ask_help(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text ? text : "", ",", -1);

    return g_strv_contains((const char *const *)parts, "help") ||
           g_strv_contains((const char *const *)parts, "?");
}

const BlockDriver *img_create_driver(const char *format, Error **errp)
{
    const BlockDriver *drv = bdrv_find_format(format);

    if (!drv) {
        error_setg(errp, "Unknown file format '%s'", format);
        return NULL;
    }
    if (!drv->image || !drv->image->co_create) {
        error_setg(errp, "Format driver '%s' does not support image creation", format);
        return NULL;
    }
    return drv;
}

void img_print_option_help(const char *name, const char *type, const char *help)
{
    g_autofree char *left = g_strdup_printf("%s=<%s>", name, type);

    printf("  %-22s - %s\n", left, help);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const BdrvCreateOption *const *)a)->name,
                  (*(const BdrvCreateOption *const *)b)->name);
}

static const BdrvCreateOption *find_in(const BdrvCreateOption *options, const char *name)
{
    for (; options && options->name; options++) {
        if (!strcmp(options->name, name)) {
            return options;
        }
    }
    return NULL;
}

/* The tables that hold for an image of @drv; the protocol's last. */
static void option_tables(const BlockDriver *drv, const BdrvCreateOption *ret[4])
{
    const BlockDriver *file = bdrv_find_format("file");

    ret[0] = common_options;
    ret[1] = drv->supports_backing ? backing_options : NULL;
    ret[2] = drv->image->create_options;
    ret[3] = drv->is_protocol ? NULL : file->image->create_options;
}

int img_create_options_help(const char *format, const char *filename)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    const BdrvCreateOption *tables[4];
    Error *err = NULL;
    const BlockDriver *drv = img_create_driver(format, &err);

    if (!drv) {
        error_report_err(err);
        return EXIT_FAILURE;
    }
    option_tables(drv, tables);
    for (size_t i = 0; i < (filename ? 4 : 3); i++) {
        for (const BdrvCreateOption *o = tables[i]; o && o->name; o++) {
            if (i < 3 || !find_in(tables[2], o->name)) {
                g_ptr_array_add(all, (void *)o);
            }
        }
    }
    g_ptr_array_sort(all, by_name);
    printf("Supported %s%soptions:\n", filename ? "" : format, filename ? "" : " ");
    for (guint i = 0; i < all->len; i++) {
        const BdrvCreateOption *o = g_ptr_array_index(all, i);

        img_print_option_help(o->name, o->type, o->help);
    }
    if (!filename) {
        printf("\nThe protocol level may support further options.\n"
               "Specify the target filename to include those options.\n");
    }
    return EXIT_SUCCESS;
}

/* A new string for @value, in bytes; NULL with @errp. */
static json_t *size_value(const char *name, const char *value, Error **errp)
{
    g_autofree char *text = NULL;
    uint64_t bytes;
    int r = qemu_strtosz(value, NULL, &bytes);

    if (r == -ERANGE) {
        error_setg(errp, "Value '%s' is out of range for parameter '%s'", value, name);
    } else if (r < 0) {
        error_setg(errp, "Parameter '%s' expects a non-negative number below 2^64", name);
        error_append_hint(errp, "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, "
                                "tera-, peta-\nand exabytes, respectively.\n");
    }
    text = g_strdup_printf("%" PRIu64, bytes);
    return r < 0 ? NULL : json_string(text);
}

static json_t *checked_value(const BdrvCreateOption *option, json_t *value, Error **errp)
{
    const char *text = json_string_value(value);
    bool on;

    if (!text) {
        error_setg(errp, "Invalid parameter '%s'", option->name);
        return NULL;
    }
    if (!strcmp(option->type, "size")) {
        return size_value(option->name, text, errp);
    }
    if (g_str_has_prefix(option->type, "bool") && !qapi_bool_parse(option->name, text, &on, errp)) {
        return NULL;
    }
    return json_incref(value);
}

/* What @text says, as far as one of the four @tables knows it. */
static json_t *parse_by(const BdrvCreateOption *const tables[4], const char *text, Error **errp)
{
    json_auto_t *given = text ? keyval_parse(text, NULL, NULL, errp) : json_object();
    json_auto_t *result = json_object();
    const char *name;
    json_t *value;

    if (!given) {
        return NULL;
    }
    json_object_foreach(given, name, value)
    {
        const BdrvCreateOption *option = NULL;
        json_t *checked;

        for (size_t i = 0; i < 4 && !option; i++) {
            option = find_in(tables[i], name);
        }
        if (!option) {
            error_setg(errp, "Invalid parameter '%s'", name);
            return NULL;
        }
        checked = checked_value(option, value, errp);
        if (!checked) {
            return NULL;
        }
        json_object_set_new(result, name, checked);
    }
    return json_incref(result);
}

json_t *img_create_options_parse(const char *format, const char *text, Error **errp)
{
    const BlockDriver *drv = img_create_driver(format, errp);
    const BdrvCreateOption *tables[4];

    if (!drv) {
        return NULL;
    }
    option_tables(drv, tables);
    return parse_by(tables, text, errp);
}

json_t *img_amend_options_parse(const BlockDriver *drv, const char *text, Error **errp)
{
    const BdrvCreateOption *tables[4] = {drv->image->amend_options};

    return parse_by(tables, text, errp);
}
