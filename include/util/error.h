/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * error.h - words for the user about what went wrong
 *
 * The control path returns a negative errno and fills an Error.  A function that takes
 * `Error **errp` obeys:
 *
 *   E1  errp may be NULL (the caller does not want words), &error_abort (a failure is a bug)
 *       or &error_fatal (a failure ends the program); otherwise *errp is NULL at entry.
 *   E2  An error is set once, by who knows the user's name for the thing.  Whoever passes it
 *       up may put words in front (error_prepend) but not replace it.
 *   E3  On success *errp is left alone.
 *
 * Any thread; one Error belongs to one thread at a time.
 */
#ifndef UTIL_ERROR_H
#define UTIL_ERROR_H

#include <stdarg.h>
#include <glib.h>

typedef struct Error Error;

/* QMP's error classes. */
typedef enum ErrorClass {
    ERROR_CLASS_GENERIC_ERROR,
    ERROR_CLASS_COMMAND_NOT_FOUND,
    ERROR_CLASS_DEVICE_NOT_ACTIVE,
    ERROR_CLASS_DEVICE_NOT_FOUND,
    ERROR_CLASS_KVM_MISSING_CAP,
    ERROR_CLASS__MAX,
} ErrorClass;

/* error_class_str() - the class as QMP spells it ("GenericError") */
const char *error_class_str(ErrorClass error_class);

/* Pass &error_abort or &error_fatal as errp.  Never read, never assigned. */
extern Error *error_abort;
extern Error *error_fatal;

/**
 * error_setg() - set an error of class GenericError
 * error_setg_errno() - the same; a nonzero @os_errno (positive) appends ": strerror"
 * error_setg_file_open() - "Could not open 'FILE': strerror"
 * error_set() - with a class of its own
 *
 * The message is a phrase without a newline or a final full stop.  errno is preserved.
 */
#define error_setg(errp, ...)                                                              \
    error_set_internal((errp), __FILE__, __LINE__, __func__, ERROR_CLASS_GENERIC_ERROR, 0, \
                       __VA_ARGS__)
#define error_setg_errno(errp, os_errno, ...)                                           \
    error_set_internal((errp), __FILE__, __LINE__, __func__, ERROR_CLASS_GENERIC_ERROR, \
                       (os_errno), __VA_ARGS__)
#define error_setg_file_open(errp, os_errno, filename) \
    error_setg_errno((errp), (os_errno), "Could not open '%s'", (filename))
#define error_set(errp, error_class, ...) \
    error_set_internal((errp), __FILE__, __LINE__, __func__, (error_class), 0, __VA_ARGS__)

void error_set_internal(Error **errp, const char *file, int line, const char *func,
                        ErrorClass error_class, int os_errno, const char *fmt, ...)
    G_GNUC_PRINTF(7, 8);

/**
 * error_propagate() - hand @local_err (or NULL) to @errp
 *
 * Takes @local_err.  When @errp already holds an error the first one stays and @local_err is freed.
 */
void error_propagate(Error **errp, Error *local_err);

/* error_propagate_prepend() - the same with words in front; does nothing when @local_err is NULL */
void error_propagate_prepend(Error **errp, Error *local_err, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

/*
 * error_prepend() - put words in front of the message; needs ERRP_GUARD() in a function whose
 * caller may pass &error_fatal.  No effect where there is no error.
 */
void error_prepend(Error *const *errp, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
void error_vprepend(Error *const *errp, const char *fmt, va_list ap) G_GNUC_PRINTF(2, 0);

/* error_append_hint() - advice for a person, printed after the message; ends with a newline */
void error_append_hint(Error *const *errp, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* The message; borrowed from @err. */
const char *error_get_pretty(const Error *err);
/* The hints, newline terminated, or NULL; borrowed from @err. */
const char *error_get_hint(const Error *err);
ErrorClass error_get_class(const Error *err);

/* error_copy() - an Error of its own, to be freed */
Error *error_copy(const Error *err) G_GNUC_WARN_UNUSED_RESULT;
/* error_free() - NULL is fine */
void error_free(Error *err);
/* error_free_or_abort() - free the error that must be there, and leave *errp NULL; for tests */
void error_free_or_abort(Error **errp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Error, error_free)

/*
 * ERRP_GUARD() - at the head of a function that looks at *errp, or that adds words to it:
 * afterwards errp is never NULL nor &error_fatal, until the function returns.
 */
typedef struct ErrorGuard {
    Error *local;
    Error **outer;
} ErrorGuard;

void error_guard_end(ErrorGuard *guard);

#define ERRP_GUARD()                                                                   \
    __attribute__((cleanup(error_guard_end))) ErrorGuard errp_guard = {.outer = errp}; \
    do {                                                                               \
        if (!errp || errp == &error_fatal) {                                           \
            errp = &errp_guard.local;                                                  \
        }                                                                              \
    } while (0)

/*
 * Telling the user, for programs and the monitor only: "PROGNAME: message" to the log sink
 * (util/log.h), which is stderr unless a program changes it.  error_report_err() frees @err and
 * prints its hints too.
 */
void error_report_err(Error *err);
void warn_report_err(Error *err);
void error_reportf_err(Error *err, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
void error_report(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
void error_vreport(const char *fmt, va_list ap) G_GNUC_PRINTF(1, 0);
void warn_report(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
void info_report(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/* error_set_progname() - the last part of @argv0 is the name put in front; borrowed for ever */
void error_set_progname(const char *argv0);
const char *error_get_progname(void);

#endif
