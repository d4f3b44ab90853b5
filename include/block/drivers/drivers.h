/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The drivers: images and where they are kept.  Each call enters one into the table that
 * bdrv_find_format() searches; a program makes those calls for what it wants to offer.
 *
 * Main thread, before the first node is opened.  Once per driver; a second call changes nothing.
 */
#ifndef BLOCK_DRIVERS_DRIVERS_H
#define BLOCK_DRIVERS_DRIVERS_H

void bdrv_file_register(void);    /* "file", "host_device", "host_cdrom" */
void bdrv_raw_register(void);     /* "raw" */
void bdrv_fvd_register(void);     /* "fvd" */
void bdrv_qcow2_register(void);   /* "qcow2" */
void bdrv_luks_register(void);    /* "luks" */
void bdrv_nbd_register(void);     /* "nbd" */
void bdrv_null_register(void);    /* "null-co" */
void bdrv_example_register(void); /* "example" */

#endif
