/* SPDX-License-Identifier: GPL-2.0-or-later */
/* map.c - qblk-img map: where an image has what */
#include <inttypes.h>
#include <stdio.h>

#include "programs/img/commands.h"
#include "programs/img/data/data.h"

enum {
    OPT_START_OFFSET = IMG_OPT_FIRST_OWN,
    OPT_MAX_LENGTH,
};

typedef struct Map {
    ImgImage image;
    ImgOutput output;
    int64_t start, length;
    bool began, hides_data;
} Map;

static const ImgOption options[] = {
    IMG_OPTION_FORMAT,
    IMG_OPTION_IMAGE_OPTS,
    {OPT_START_OFFSET, "start-offset", "OFFSET", "begin there (0)"},
    {OPT_MAX_LENGTH, "max-length", "LENGTH", "no more than this (to the end)"},
    IMG_OPTION_OUTPUT,
    IMG_OPTION_FORCE_SHARE,
    {0},
};

static const char *json_bool(bool value)
{
    return value ? "true" : "false";
}

static void print_json_entry(Map *map, const ImageMapEntry *e)
{
    printf("%s{ \"start\": %" PRId64 ", \"length\": %" PRId64 ", \"depth\": %u, \"present\": %s, "
           "\"zero\": %s, \"data\": %s, \"compressed\": %s",
           map->began ? ",\n" : "[", e->start, e->length, e->depth, json_bool(e->present),
           json_bool(e->zero), json_bool(e->data), json_bool(e->compressed));
    if (e->has_offset) {
        printf(", \"offset\": %" PRId64, e->offset);
    }
    printf("}");
    map->began = true;
}

/* What is stored where somebody with the file in his hands can find it. */
static void print_human_entry(Map *map, const ImageMapEntry *e)
{
    if (!e->data || e->zero) {
        return;
    }
    if (!e->has_offset) {
        map->hides_data = true;
        return;
    }
    printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", (uint64_t)e->start,
           (uint64_t)e->length, (uint64_t)e->offset, e->filename);
}

static void print_entry(void *opaque, const ImageMapEntry *entry)
{
    Map *map = opaque;

    if (map->output == IMG_OUTPUT_JSON) {
        print_json_entry(map, entry);
    } else if (!map->hides_data) {
        print_human_entry(map, entry);
    }
}

static int coroutine_fn map_opened(Map *map, BlockBackend *blk)
{
    ImageMapArgs args = {.image = blk,
                         .start = map->start,
                         .length = map->length,
                         .emit = print_entry,
                         .opaque = map,
                         .watch = {.is_cancelled = img_image_watch().is_cancelled}};
    Error *err = NULL;

    if (map->output == IMG_OUTPUT_HUMAN) {
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    }
    if (image_co_map(&args, &err) < 0) {
        error_report_err(err);
        return EXIT_FAILURE;
    }
    if (map->output == IMG_OUTPUT_JSON) {
        printf("]\n");
    } else if (map->hides_data) {
        error_report("File contains external, encrypted or compressed clusters.");
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

static int coroutine_fn map_co(void *opaque)
{
    Map *map = opaque;
    Error *err = NULL;
    BlockBackend *blk = img_co_open(&map->image, &err);
    int status;

    if (!blk) {
        error_report_err(err);
        return EXIT_FAILURE;
    }
    status = map_opened(map, blk);
    img_co_close(blk);
    return status;
}

static bool take_option(Map *map, const ImgArgs *args, int c, const char *value)
{
    switch (c) {
    case OPT_START_OFFSET:
        return img_parse_size("start offset", value, 0, INT64_MAX, &map->start);
    case OPT_MAX_LENGTH:
        return img_parse_size("max length", value, 0, INT64_MAX, &map->length);
    case IMG_OPT_OUTPUT:
        return img_parse_output(args, value, &map->output);
    default:
        return img_image_option(&map->image, c, value);
    }
}

static int map_run(ImgArgs *args)
{
    Map map = {.length = INT64_MAX};
    const char *value;
    int c;

    while ((c = img_args_next(args, &value)) != IMG_ARGS_END) {
        if (c < 0) {
            return img_args_status(c);
        }
        if (!take_option(&map, args, c, value)) {
            return EXIT_FAILURE;
        }
    }
    if (img_args_operand_count(args) != 1) {
        return img_args_error(args, "Expecting one image file name");
    }
    map.image.filename = img_args_operand(args, 0);
    return img_image_check(&map.image) ? img_run(map_co, &map) : EXIT_FAILURE;
}

const ImgCommand img_map = {
    .name = "map",
    .summary = "Show where an image has what",
    .operands = "FILENAME",
    .options = options,
    .run = map_run,
};
