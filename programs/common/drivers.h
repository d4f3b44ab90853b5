/* SPDX-License-Identifier: GPL-2.0-or-later */
/* drivers.h - every driver and filter there is */
#ifndef COMMON_DRIVERS_H
#define COMMON_DRIVERS_H

/* Once, before the first node.  Main thread. */
void register_drivers(void);

#endif
