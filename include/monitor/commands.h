/* SPDX-License-Identifier: GPL-2.0-or-later */
/* commands.h - the QMP commands, for a program that has a monitor.  Main thread. */
#ifndef MONITOR_COMMANDS_H
#define MONITOR_COMMANDS_H

#include "aio/aio.h"
#include "qapi/qapi-types-qom.h"
#include "util/error.h"

/* What QEMU's NBD server takes when nothing is said: a client that does not finish negotiating is cut off. */
#define NBD_SERVER_HANDSHAKE_SECONDS_DEFAULT 10
/* Enough for multi-conn clients, few enough to bound memory. */
#define NBD_SERVER_CONNECTIONS_DEFAULT       100

/* Enter them into the monitor, once, before the first session. */
void monitor_commands_init(void);

/* The engine of iothreads made from now on; AUTO at first. */
void user_object_set_aio_engine(AioEngine engine);
/* object-add, also for options of a program; may yield.  0, or -errno with @errp. */
int coroutine_fn user_object_add(const ObjectOptions *opts, Error **errp);

#endif
