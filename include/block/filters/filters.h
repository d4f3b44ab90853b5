/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The filters: nodes that show another node's data.  As block/drivers/drivers.h says of the drivers. */
#ifndef BLOCK_FILTERS_FILTERS_H
#define BLOCK_FILTERS_FILTERS_H

void bdrv_throttle_register(void); /* "throttle"; groups: block/filters/throttle-group.h */
void bdrv_copy_on_read_register(void);
void bdrv_blkdebug_register(void); /* "blkdebug"; suspending requests: block/filters/blkdebug.h */

#endif
