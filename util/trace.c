/* SPDX-License-Identifier: GPL-2.0-or-later */
/* trace.c - the events of all rooms, their switches, and the line they write */
#include "util/trace.h"
#include "util/osdep.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Filled by constructors before main(), fixed afterwards. */
static TraceGroup *groups;

/* Where lines go.  The lock keeps a line whole and the descriptor open. */
static pthread_mutex_t output_lock = PTHREAD_MUTEX_INITIALIZER;
static int output_fd = STDERR_FILENO;

void trace_group_register(TraceGroup *group)
{
    group->next = groups;
    groups = group;
}

/* One write() a line: what was traced before a crash is there.  An error has no one to go to. */
static void output_line(const char *line, size_t length)
{
    pthread_mutex_lock(&output_lock);
    while (length > 0) {
        ssize_t written = write(output_fd, line, length);

        if (written < 0 && errno != EINTR) {
            break;
        }
        if (written > 0) {
            line += written;
            length -= (size_t)written;
        }
    }
    pthread_mutex_unlock(&output_lock);
}

void trace_write(const TraceEvent *event, const char *fmt, ...)
{
    int saved_errno = errno;
    g_autofree char *text = NULL;
    g_autofree char *line = NULL;
    struct timespec now;
    va_list ap;

    clock_gettime(CLOCK_REALTIME, &now);
    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    line = g_strdup_printf("%d@%lld.%06ld:%s%s%s\n", (int)getpid(), (long long)now.tv_sec,
                           now.tv_nsec / SCALE_US, event->name, *text ? " " : "", text);
    output_line(line, strlen(line));
    errno = saved_errno;
}

int trace_set_file(const char *path, Error **errp)
{
    int fd = STDERR_FILENO;
    int old;

    if (path) {
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (fd < 0) {
            int r = -errno;

            error_setg_file_open(errp, -r, path);
            return r;
        }
    }
    pthread_mutex_lock(&output_lock);
    old = output_fd;
    output_fd = fd;
    pthread_mutex_unlock(&output_lock);
    if (old != STDERR_FILENO) {
        close(old);
    }
    return 0;
}

TraceEvent *trace_event_iterate(const TraceEvent *event, const char *pattern)
{
    bool passed = event == NULL;

    for (TraceGroup *group = groups; group; group = group->next) {
        for (TraceEvent *const *next = group->events; *next; next++) {
            if (passed && (!pattern || fnmatch(pattern, (*next)->name, 0) == 0)) {
                return *next;
            }
            passed |= *next == event;
        }
    }
    return NULL;
}

TraceEvent *trace_event_find(const char *name)
{
    TraceEvent *event = NULL;

    while ((event = trace_event_iterate(event, NULL)) != NULL) {
        if (strcmp(event->name, name) == 0) {
            return event;
        }
    }
    return NULL;
}

/* "-name" means off; *ret_pattern is what follows. */
static bool pattern_switches_on(const char *word, const char **ret_pattern)
{
    bool on = word[0] != '-';

    *ret_pattern = on ? word : word + 1;
    return on;
}

int trace_enable_events(const char *patterns, Error **errp)
{
    g_auto(GStrv) words = g_strsplit(patterns, ",", -1);
    const char *pattern;

    if (!words[0]) {
        error_setg(errp, "No trace event is named");
        return -EINVAL;
    }
    /* First look whether all of it can be done. */
    for (char **word = words; *word; word++) {
        g_strstrip(*word);
        pattern_switches_on(*word, &pattern);
        if (!*pattern) {
            error_setg(errp, "Empty pattern in the trace events '%s'", patterns);
            return -EINVAL;
        }
        if (!trace_event_iterate(NULL, pattern)) {
            error_setg(errp, "No trace event matches '%s'", pattern);
            return -EINVAL;
        }
    }
    for (char **word = words; *word; word++) {
        bool on = pattern_switches_on(*word, &pattern);
        TraceEvent *event = NULL;

        while ((event = trace_event_iterate(event, pattern)) != NULL) {
            __atomic_store_n(&event->enabled, on, __ATOMIC_RELAXED);
        }
    }
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    const TraceEvent *const *left = a;
    const TraceEvent *const *right = b;

    return strcmp((*left)->name, (*right)->name);
}

void trace_list_events(FILE *out)
{
    g_autofree TraceEvent **events = NULL;
    TraceEvent *event = NULL;
    size_t count = 0;

    while ((event = trace_event_iterate(event, NULL)) != NULL) {
        events = g_renew(TraceEvent *, events, count + 1);
        events[count++] = event;
    }
    if (count > 0) {
        qsort(events, count, sizeof(*events), compare_names);
    }
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "%s\n", events[i]->name);
    }
}
