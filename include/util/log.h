/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log.h - where reports to the user end up
 *
 * One sink for the program.  Programs and the monitor report through error_report() and friends;
 * rooms of the library return errors and do not print.
 */
#ifndef UTIL_LOG_H
#define UTIL_LOG_H

typedef enum LogLevel {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG,
} LogLevel;

/* "error", "warning", "info", "debug" */
const char *log_level_str(LogLevel level);

/* Called with one message, no final newline, possibly several lines; from any thread. */
typedef void LogSink(LogLevel level, const char *message, void *opaque);

/* log_set_sink() - NULL restores stderr.  Call before threads start. */
void log_set_sink(LogSink *sink, void *opaque);

/* log_set_level() - drop what is less important than @level; LOG_LEVEL_INFO at start */
void log_set_level(LogLevel level);

/* log_message() - hand one message to the sink.  Any thread. */
void log_message(LogLevel level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
