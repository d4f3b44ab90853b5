/* SPDX-License-Identifier: GPL-2.0-or-later */
/* specific.c - what a format says of its images, printed as it is, so that it needs no words of its own here */
#include "programs/common/specific.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

/* Columns that a level is further to the right. */
#define INDENT 4

static void print_value(const json_t *value, int level);

/* A member or an element; what has parts has them below. */
static void print_member(const char *name, const json_t *value, int level)
{
    bool has_parts = json_is_object(value) || json_is_array(value);

    printf("%*s%s:%s", level * INDENT, "", name, has_parts ? "\n" : " ");
    print_value(value, level + 1);
}

static void print_value(const json_t *value, int level)
{
    const char *key;
    json_t *part;
    size_t index;

    if (json_is_object(value)) {
        json_object_foreach((json_t *)value, key, part)
        {
            g_autofree char *name = g_strdelimit(g_strdup(key), "-", ' ');

            print_member(name, part, level);
        }
    } else if (json_is_array(value)) {
        json_array_foreach(value, index, part)
        {
            g_autofree char *name = g_strdup_printf("[%zu]", index);

            print_member(name, part, level);
        }
    } else if (json_is_string(value)) {
        printf("%s\n", json_string_value(value));
    } else {
        char *text = json_dumps(value, JSON_ENCODE_ANY);

        printf("%s\n", text);
        free(text);
    }
}

void img_print_specific(const ImageInfo *info, const char *indent, int level)
{
    json_auto_t *all = NULL;
    const json_t *data;

    if (!info->format_specific) {
        return;
    }
    all = qapi_ImageInfoSpecific_to_json(info->format_specific);
    data = json_object_get(all, "data");
    if (json_object_size(data) > 0) {
        printf("%sFormat specific information:\n", indent);
        print_value(data, level + 1);
    }
}
