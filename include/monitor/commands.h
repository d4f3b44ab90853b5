/* SPDX-License-Identifier: GPL-2.0-or-later */
/* commands.h - the QMP commands, for a program that has a monitor.  Main thread. */
#ifndef MONITOR_COMMANDS_H
#define MONITOR_COMMANDS_H

#include "coro/coroutine.h"
#include "qapi/qapi-types-qom.h"
#include "util/error.h"

/* Enter them into the monitor, once, before the first session. */
void monitor_commands_init(void);

/* object-add, also for options of a program.  0, or -errno with @errp. */
int user_object_add(const ObjectOptions *opts, Error **errp);

#endif
