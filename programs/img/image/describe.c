/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * describe.c - a node and those below it, in words and in JSON
 *
 * Members and lines are those of qemu-img, in its order; format-specific data are printed as they are, so that
 * a format needs no words of its own here.
 */
#include "programs/img/image/describe.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "programs/common/specific.h"
#include "util/cutils.h"

/* Columns that a level is further to the right. */
#define INDENT 4

static ImgDescription *coroutine_fn describe(BlockDriverState *bs, const char *name,
                                             const char *parent_path)
{
    ImgDescription *d = g_new0(ImgDescription, 1);
    BdrvChild *c;

    d->name = g_strdup(name);
    d->path = name ? g_strconcat(parent_path ? parent_path : "", "/", name, NULL) : NULL;
    d->is_protocol = bs->drv->is_protocol;
    d->info = image_co_info(bs, true);
    d->children = g_ptr_array_new_with_free_func((GDestroyNotify)img_description_free);
    /* In the order in which they were opened: the file first. */
    QLIST_FOREACH (c, &bs->children, next) {
        g_ptr_array_insert(d->children, 0, describe(c->bs, c->name, d->path));
    }
    return d;
}

ImgDescription *coroutine_fn img_co_describe(BlockDriverState *bs)
{
    return describe(bs, NULL, NULL);
}

void img_description_free(ImgDescription *d)
{
    g_free(d->name);
    g_free(d->path);
    qapi_free_ImageInfo(d->info);
    g_ptr_array_free(d->children, TRUE);
    g_free(d);
}

json_t *img_description_to_json(const ImgDescription *d)
{
    static const char *const order[] = {
        "backing-filename-format",
        "virtual-size",
        "filename",
        "cluster-size",
        "format",
        "actual-size",
        "compressed",
        "format-specific",
        "full-backing-filename",
        "encrypted",
        "backing-filename",
        "dirty-flag",
    };
    json_auto_t *info = qapi_ImageInfo_to_json(d->info);
    json_t *o = json_object(), *children = json_array();

    for (guint i = 0; i < d->children->len; i++) {
        const ImgDescription *child = g_ptr_array_index(d->children, i);

        json_array_append_new(children, json_pack("{s:s, s:o}", "name", child->name, "info",
                                                  img_description_to_json(child)));
    }
    json_object_set_new(o, "children", children);
    for (size_t i = 0; i < G_N_ELEMENTS(order); i++) {
        json_t *value = json_object_get(info, order[i]);

        if (value) {
            json_object_set(o, order[i], value);
        }
    }
    return o;
}

static void print_backing(const ImageInfo *info, const char *indent)
{
    if (!info->backing_filename) {
        return;
    }
    printf("%sbacking file: %s", indent, info->backing_filename);
    if (info->full_backing_filename &&
        strcmp(info->full_backing_filename, info->backing_filename) != 0) {
        printf(" (actual path: %s)", info->full_backing_filename);
    }
    printf("\n");
    if (info->backing_filename_format) {
        printf("%sbacking file format: %s\n", indent, info->backing_filename_format);
    }
}

static void print_node(const ImgDescription *d, int level)
{
    const ImageInfo *info = d->info;
    const bool is_protocol = d->path && d->is_protocol;
    g_autofree char *indent = g_strnfill((gsize)(level * INDENT), ' ');
    g_autofree char *size = img_size_text(info->virtual_size);
    g_autofree char *actual =
        info->has_actual_size ? size_to_str((uint64_t)info->actual_size) : g_strdup("unavailable");

    printf("%s%s: %s\n", indent, d->path ? "filename" : "image", info->filename);
    printf("%s%s: %s\n", indent, is_protocol ? "protocol type" : "file format", info->format);
    printf("%s%s: %s\n", indent, is_protocol ? "file length" : "virtual size", size);
    printf("%sdisk size: %s\n", indent, actual);
    if (info->has_encrypted && info->encrypted) {
        printf("%sencrypted: yes\n", indent);
    }
    if (info->has_cluster_size) {
        printf("%scluster_size: %" PRId64 "\n", indent, info->cluster_size);
    }
    if (info->has_dirty_flag && info->dirty_flag) {
        printf("%scleanly shut down: no\n", indent);
    }
    print_backing(info, indent);
    img_print_specific(info, indent, level);
    for (guint i = 0; i < d->children->len; i++) {
        const ImgDescription *child = g_ptr_array_index(d->children, i);

        printf("%sChild node '%s':\n", indent, child->path);
        print_node(child, level + 1);
    }
}

void img_description_print(const ImgDescription *d)
{
    print_node(d, 0);
}
