/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * monitor.h - QMP sessions on character devices
 *
 * Main thread.  The chapter comment is in monitor/monitor.c.
 */
#ifndef MONITOR_MONITOR_H
#define MONITOR_MONITOR_H

#include <jansson.h>
#include <stdbool.h>
#include "coro/coroutine.h"
#include "monitor/chardev.h"
#include "qapi/qapi-types-control.h"
#include "qapi/qapi-types-run-state.h"
#include "util/error.h"

/* One command, as the generator makes them known (qapi/qapi-init-commands.h). */
typedef struct QmpCommand {
    const char *name;
    /*
     * @args: borrowed object.  *ret: new reference, or left NULL for an empty object.  Coroutine of the
     * main AioContext.
     */
    void coroutine_fn (*fn)(json_t *args, json_t **ret, Error **errp);
    bool yields; /* changes the graph or touches storage: one at a time over all sessions (DI2) */
} QmpCommand;

/* Enter @n commands; borrowed for ever.  Before the first session. */
void monitor_set_commands(const QmpCommand *table, size_t n);
const QmpCommand *monitor_find_command(const char *name);

/**
 * monitor_new() - serve QMP on @chr
 * @pretty: replies over several lines, indented
 *
 * Return: 0; -EBUSY with @errp when @chr has a user already.
 */
int monitor_new(Chardev *chr, bool pretty, Error **errp);

/* {"qemu": {...}, "package": "qblk ..."}; new reference. */
json_t *monitor_version(void);

/* The program is told to stop.  No session runs a further command.  The first call emits SHUTDOWN. */
void monitor_request_shutdown(ShutdownCause cause);
bool monitor_shutdown_requested(void);
/* Called once, by the first monitor_request_shutdown(). */
void monitor_set_shutdown_hook(void (*hook)(void));

/*
 * Until the commands that yield and were called before monitor_request_shutdown() have ended: none follows,
 * the graph is the caller's.
 */
void coroutine_fn monitor_co_wait_commands(void);

/*
 * For qmp_capabilities: the session that called it may now run all commands, and has what it asked for.
 * Before the first yield of the command.  Return: false, something is not on offer and nothing changed.
 */
bool monitor_negotiate(const QMPCapabilityList *enable, Error **errp);

/* The hook of generated events; takes over when monitor_init() is called. */
void monitor_init(void);

/**
 * monitor_co_cleanup() - end all sessions
 *
 * What is queued for clients that read is sent first, for at most MONITOR_FLUSH_NS altogether.
 */
void coroutine_fn monitor_co_cleanup(void);

/* "12 bytes queued, negotiated, running job-cancel", one line a session.  Any state. */
struct TextBuf;
void monitor_to_text(struct TextBuf *out);

#endif
