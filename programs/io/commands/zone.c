/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * zone.c - zone_*: requests to the zones of a zoned device
 *
 * No image here has zones, so that each of these is refused, in words, as it is of an image without zones.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "programs/io/commands/commands.h"

static int coroutine_fn zone_run(IoSession *io, int argc, char **argv)
{
    g_autofree char *name = g_strdelimit(g_strdup(argv[0]), "_", ' ');

    for (int i = 1; i < argc; i++) {
        if (io_parse_size(argv[i]) < 0) {
            return -EINVAL;
        }
    }
    printf("%s failed: %s\n", name, g_strerror(ENOTSUP));
    return -ENOTSUP;
}

const IoCommand io_zone_append = {
    .name = "zone_append",
    .args = "offset len [len..]",
    .summary = "appends bytes to the zone at an offset",
    .min_args = 2,
    .max_args = -1,
    .run = zone_run,
};

const IoCommand io_zone_close = {
    .name = "zone_close",
    .args = "offset len",
    .summary = "closes the zones of a range",
    .min_args = 2,
    .max_args = 2,
    .run = zone_run,
};

const IoCommand io_zone_finish = {
    .name = "zone_finish",
    .args = "offset len",
    .summary = "makes the zones of a range full",
    .min_args = 2,
    .max_args = 2,
    .run = zone_run,
};

const IoCommand io_zone_open = {
    .name = "zone_open",
    .args = "offset len",
    .summary = "opens the zones of a range",
    .min_args = 2,
    .max_args = 2,
    .run = zone_run,
};

const IoCommand io_zone_report = {
    .name = "zone_report",
    .args = "offset number",
    .summary = "tells of the zones from an offset on",
    .min_args = 2,
    .max_args = 2,
    .run = zone_run,
};

const IoCommand io_zone_reset = {
    .name = "zone_reset",
    .args = "offset len",
    .summary = "makes the zones of a range empty",
    .min_args = 2,
    .max_args = 2,
    .run = zone_run,
};
