/* SPDX-License-Identifier: GPL-2.0-or-later */
/* error.c - errors, and the one place through which words reach the user */
#include "util/error.h"
#include "util/log.h"
#include "util/osdep.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct Error {
    char *message;
    GString *hint; /* NULL while there is none */
    ErrorClass error_class;
    const char *file; /* where it was set, for &error_abort */
    const char *func;
    int line;
};

Error *error_abort;
Error *error_fatal;

const char *error_class_str(ErrorClass error_class)
{
    static const char *const names[ERROR_CLASS__MAX] = {
        [ERROR_CLASS_GENERIC_ERROR] = "GenericError",
        [ERROR_CLASS_COMMAND_NOT_FOUND] = "CommandNotFound",
        [ERROR_CLASS_DEVICE_NOT_ACTIVE] = "DeviceNotActive",
        [ERROR_CLASS_DEVICE_NOT_FOUND] = "DeviceNotFound",
        [ERROR_CLASS_KVM_MISSING_CAP] = "KVMMissingCap",
    };

    assert(error_class < ERROR_CLASS__MAX);
    return names[error_class];
}

/* The two callers who do not want an error back.  Takes @err when it returns true. */
static void error_end_program_if_asked(Error **errp, Error *err)
{
    if (errp == &error_abort) {
        fprintf(stderr, "Unexpected error in %s() at %s:%d:\n", err->func, err->file, err->line);
        error_report("%s", err->message);
        abort();
    }
    if (errp == &error_fatal) {
        error_report_err(err);
        exit(1);
    }
}

void error_set_internal(Error **errp, const char *file, int line, const char *func,
                        ErrorClass error_class, int os_errno, const char *fmt, ...)
{
    int saved_errno = errno;
    Error *err;
    va_list ap;

    if (!errp) {
        return;
    }
    assert(*errp == NULL); /* E2 */

    err = g_new0(Error, 1);
    va_start(ap, fmt);
    err->message = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (os_errno) {
        char *phrase = err->message;

        err->message = g_strconcat(phrase, ": ", g_strerror(os_errno), NULL);
        g_free(phrase);
    }
    err->error_class = error_class;
    err->file = file;
    err->line = line;
    err->func = func;

    error_end_program_if_asked(errp, err);
    *errp = err;
    errno = saved_errno;
}

void error_propagate(Error **errp, Error *local_err)
{
    if (!local_err) {
        return;
    }
    error_end_program_if_asked(errp, local_err);
    if (errp && !*errp) {
        *errp = local_err;
    } else {
        error_free(local_err);
    }
}

void error_vprepend(Error *const *errp, const char *fmt, va_list ap)
{
    char *front;
    char *message;

    if (!errp || !*errp) {
        return;
    }
    front = g_strdup_vprintf(fmt, ap);
    message = g_strconcat(front, (*errp)->message, NULL);
    g_free(front);
    g_free((*errp)->message);
    (*errp)->message = message;
}

void error_prepend(Error *const *errp, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vprepend(errp, fmt, ap);
    va_end(ap);
}

void error_propagate_prepend(Error **errp, Error *local_err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vprepend(&local_err, fmt, ap);
    va_end(ap);
    error_propagate(errp, local_err);
}

void error_append_hint(Error *const *errp, const char *fmt, ...)
{
    va_list ap;

    if (!errp || !*errp) {
        return;
    }
    if (!(*errp)->hint) {
        (*errp)->hint = g_string_new(NULL);
    }
    va_start(ap, fmt);
    g_string_append_vprintf((*errp)->hint, fmt, ap);
    va_end(ap);
}

const char *error_get_pretty(const Error *err)
{
    return err->message;
}

const char *error_get_hint(const Error *err)
{
    return err->hint ? err->hint->str : NULL;
}

ErrorClass error_get_class(const Error *err)
{
    return err->error_class;
}

Error *error_copy(const Error *err)
{
    Error *copy = g_new0(Error, 1);

    *copy = *err;
    copy->message = g_strdup(err->message);
    copy->hint = err->hint ? g_string_new(err->hint->str) : NULL;
    return copy;
}

void error_free(Error *err)
{
    if (!err) {
        return;
    }
    g_free(err->message);
    if (err->hint) {
        g_string_free(err->hint, TRUE);
    }
    g_free(err);
}

void error_free_or_abort(Error **errp)
{
    assert(errp && *errp);
    error_free(*errp);
    *errp = NULL;
}

void error_guard_end(ErrorGuard *guard)
{
    error_propagate(guard->outer, guard->local);
}

/* Reports */

static const char *progname;

void error_set_progname(const char *argv0)
{
    const char *slash = strrchr(argv0, '/');

    progname = slash ? slash + 1 : argv0;
}

const char *error_get_progname(void)
{
    return progname;
}

/* One message to the sink; @hint may be NULL. */
static void report(LogLevel level, const char *message, const char *hint)
{
    size_t hint_length = hint ? strlen(hint) : 0;

    /* A sink's message has no newline at its end. */
    if (hint_length && hint[hint_length - 1] == '\n') {
        hint_length--;
    }
    log_message(level, "%s%s%.*s", message, hint_length ? "\n" : "", (int)hint_length,
                hint ? hint : "");
}

void error_report_err(Error *err)
{
    report(LOG_LEVEL_ERROR, err->message, error_get_hint(err));
    error_free(err);
}

void warn_report_err(Error *err)
{
    report(LOG_LEVEL_WARNING, err->message, error_get_hint(err));
    error_free(err);
}

void error_reportf_err(Error *err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vprepend(&err, fmt, ap);
    va_end(ap);
    error_report_err(err);
}

static void vreport(LogLevel level, const char *fmt, va_list ap) G_GNUC_PRINTF(2, 0);

static void vreport(LogLevel level, const char *fmt, va_list ap)
{
    g_autofree char *message = g_strdup_vprintf(fmt, ap);

    report(level, message, NULL);
}

void error_vreport(const char *fmt, va_list ap)
{
    vreport(LOG_LEVEL_ERROR, fmt, ap);
}

#define REPORT_FUNCTION(name, level) \
    void name(const char *fmt, ...)  \
    {                                \
        va_list ap;                  \
        va_start(ap, fmt);           \
        vreport(level, fmt, ap);     \
        va_end(ap);                  \
    }

REPORT_FUNCTION(error_report, LOG_LEVEL_ERROR)
REPORT_FUNCTION(warn_report, LOG_LEVEL_WARNING)
REPORT_FUNCTION(info_report, LOG_LEVEL_INFO)

/* The sink */

const char *log_level_str(LogLevel level)
{
    static const char *const names[] = {
        [LOG_LEVEL_ERROR] = "error",
        [LOG_LEVEL_WARNING] = "warning",
        [LOG_LEVEL_INFO] = "info",
        [LOG_LEVEL_DEBUG] = "debug",
    };

    assert(level < ARRAY_SIZE(names));
    return names[level];
}

/* "PROGNAME: message", and "PROGNAME: warning: message" for what is not an error. */
static void log_to_stderr(LogLevel level, const char *message, void *opaque)
{
    g_autofree char *line = g_strconcat(progname ? progname : "", progname ? ": " : "",
                                        level == LOG_LEVEL_ERROR ? "" : log_level_str(level),
                                        level == LOG_LEVEL_ERROR ? "" : ": ", message, "\n", NULL);

    fputs(line, stderr); /* one call, so that threads do not mix inside a line */
}

static struct {
    LogSink *sink;
    void *opaque;
    LogLevel level;
} log_state = {.sink = log_to_stderr, .level = LOG_LEVEL_INFO};

void log_set_sink(LogSink *sink, void *opaque)
{
    log_state.sink = sink ? sink : log_to_stderr;
    log_state.opaque = opaque;
}

void log_set_level(LogLevel level)
{
    log_state.level = level;
}

void log_message(LogLevel level, const char *fmt, ...)
{
    g_autofree char *message = NULL;
    va_list ap;

    if (level > log_state.level) {
        return;
    }
    va_start(ap, fmt);
    message = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    log_state.sink(level, message, log_state.opaque);
}
