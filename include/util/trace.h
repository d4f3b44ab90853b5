/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * trace.h - events that can be switched on in a running program
 *
 *     block/io/trace-events --scripts/tracetool--> trace-io.h  static inline trace_NAME(...)
 *                                                  trace-io.c  one TraceEvent each, registration
 *
 * A call to trace_NAME() that is off costs one load and one predicted branch.  On, it writes a line
 * "PID@SECONDS.MICROSECONDS:NAME text" to stderr or to the file that was set.  Where the build has
 * sys/sdt.h there is also a USDT probe qblk:NAME, a nop until a tracer attaches.
 *
 * The flags of a group live in one object with its constructor, and the inline functions name the
 * flags: a linker that takes in a user of an event takes in the registration too.
 */
#ifndef UTIL_TRACE_H
#define UTIL_TRACE_H

#include <stdbool.h>
#include <stdio.h>
#include "util/error.h"

typedef struct TraceEvent {
    const char *name;
    const char *group;
    bool enabled; /* read without a lock by the event; written by trace_enable_events() */
} TraceEvent;

/* A generated table; on a list by its constructor, before main(). */
typedef struct TraceGroup TraceGroup;
struct TraceGroup {
    const char *name;
    TraceEvent *const *events; /* NULL terminated */
    TraceGroup *next;
};

void trace_group_register(TraceGroup *group);

/* Called by the generated functions, from any thread. */
void trace_write(const TraceEvent *event, const char *fmt, ...)
    __attribute__((format(printf, 2, 3), cold));

static inline bool trace_event_enabled(const TraceEvent *event)
{
    return __builtin_expect(__atomic_load_n(&event->enabled, __ATOMIC_RELAXED), 0);
}

/**
 * trace_enable_events() - switch events on and, with '-' in front, off
 * @patterns: shell patterns separated by commas, obeyed in order: "backup_*,-backup_do_cow_skip"
 *
 * Any thread, but one at a time.
 *
 * Return: 0; -EINVAL with @errp when a pattern is empty or matches no event, and nothing changed.
 */
int trace_enable_events(const char *patterns, Error **errp);

/* trace_set_file() - write to the end of @path (NULL: stderr); 0, or -errno with @errp */
int trace_set_file(const char *path, Error **errp);

/* trace_list_events() - one name a line, in alphabetical order: "--trace help" */
void trace_list_events(FILE *out);

/* trace_event_iterate() - what follows @event (NULL: first) and matches @pattern (NULL: any) */
TraceEvent *trace_event_iterate(const TraceEvent *event, const char *pattern);
TraceEvent *trace_event_find(const char *name);

#endif
