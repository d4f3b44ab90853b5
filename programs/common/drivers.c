/* SPDX-License-Identifier: GPL-2.0-or-later */
/* drivers.c - every driver and filter there is, for each program that opens images */
#include "programs/common/drivers.h"

#include "block/backend/backend.h"
#include "block/drivers/drivers.h"
#include "block/filters/filters.h"

void register_drivers(void)
{
    blk_init();
    bdrv_file_register();
    bdrv_raw_register();
    bdrv_fvd_register();
    bdrv_qcow2_register();
    bdrv_luks_register();
    bdrv_nbd_register();
    bdrv_null_register();
    bdrv_example_register();
    bdrv_throttle_register();
    bdrv_blkdebug_register();
    bdrv_copy_on_read_register();
}
