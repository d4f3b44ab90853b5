/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of drivers.  A program enters the ones it has before it opens the first node. */
#include <string.h>
#include "block/graph/driver.h"

static QLIST_HEAD(, BlockDriver) drivers = QLIST_HEAD_INITIALIZER(drivers);

void bdrv_register(BlockDriver *drv)
{
    if (bdrv_find_format(drv->format_name)) {
        return;
    }
    QLIST_INSERT_HEAD(&drivers, drv, list);
}

BlockDriver *bdrv_find_format(const char *format_name)
{
    BlockDriver *drv;

    QLIST_FOREACH (drv, &drivers, list) {
        if (strcmp(drv->format_name, format_name) == 0) {
            return drv;
        }
    }
    return NULL;
}

BlockDriver *bdrv_next_driver(BlockDriver *drv)
{
    return drv ? QLIST_NEXT(drv, list) : QLIST_FIRST(&drivers);
}
