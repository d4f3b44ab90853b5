/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Errors and the sink of reports. */
#include "util/error.h"
#include "util/log.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static void test_message(void)
{
    Error *err = NULL;
    g_autoptr(Error) copy = NULL;

    errno = ENOSPC;
    error_setg(&err, "Cannot do %d things", 3);
    g_assert_cmpint(errno, ==, ENOSPC);
    g_assert_cmpstr(error_get_pretty(err), ==, "Cannot do 3 things");
    g_assert_cmpint(error_get_class(err), ==, ERROR_CLASS_GENERIC_ERROR);
    g_assert_null(error_get_hint(err));
    error_append_hint(&err, "Try %s.\n", "two");
    error_append_hint(&err, "Or one.\n");
    error_prepend(&err, "node '%s': ", "disk0");
    copy = error_copy(err);
    error_free_or_abort(&err);
    g_assert_null(err);
    g_assert_cmpstr(error_get_pretty(copy), ==, "node 'disk0': Cannot do 3 things");
    g_assert_cmpstr(error_get_hint(copy), ==, "Try two.\nOr one.\n");
}

static void test_errno(void)
{
    Error *err = NULL;

    error_setg_errno(&err, ENOENT, "Cannot look");
    g_assert_cmpstr(error_get_pretty(err), ==, "Cannot look: No such file or directory");
    error_free_or_abort(&err);
    error_setg_errno(&err, 0, "Cannot look");
    g_assert_cmpstr(error_get_pretty(err), ==, "Cannot look");
    error_free_or_abort(&err);
    error_setg_file_open(&err, EACCES, "/x");
    g_assert_cmpstr(error_get_pretty(err), ==, "Could not open '/x': Permission denied");
    error_free_or_abort(&err);
}

static void test_class(void)
{
    Error *err = NULL;

    error_set(&err, ERROR_CLASS_DEVICE_NOT_FOUND, "Device '%s' not found", "x");
    g_assert_cmpstr(error_class_str(error_get_class(err)), ==, "DeviceNotFound");
    error_free(err);
}

static void test_nobody_wants_it(void)
{
    error_setg(NULL, "unheard");
    error_prepend(NULL, "unheard");
    error_append_hint(NULL, "unheard");
    error_propagate(NULL, NULL);
    error_free(NULL);
}

static void test_the_first_error_stays(void)
{
    Error *first = NULL;
    Error *second = NULL;
    Error *third = NULL;

    error_setg(&first, "first");
    error_setg(&second, "second");
    error_propagate(&first, second);
    g_assert_cmpstr(error_get_pretty(first), ==, "first");
    error_propagate_prepend(&third, first, "in front of the ");
    g_assert_cmpstr(error_get_pretty(third), ==, "in front of the first");
    error_free(third);
}

static bool guarded(Error **errp)
{
    ERRP_GUARD();

    error_setg(errp, "inner");
    error_prepend(errp, "outer ");
    return *errp != NULL;
}

static void test_guard(void)
{
    Error *err = NULL;

    g_assert_true(guarded(NULL));
    g_assert_true(guarded(&err));
    g_assert_cmpstr(error_get_pretty(err), ==, "outer inner");
    error_free(err);
}

static void test_abort(void)
{
    if (g_test_subprocess()) {
        error_setg(&error_abort, "a bug");
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*Unexpected error in test_abort()*a bug*");
}

static void test_fatal(void)
{
    if (g_test_subprocess()) {
        error_set_progname("/usr/bin/qblk-thing");
        guarded(&error_fatal);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*qblk-thing: outer inner\n*");
}

static void collect(LogLevel level, const char *message, void *opaque)
{
    g_string_append_printf(opaque, "[%s] %s|", log_level_str(level), message);
}

static void test_sink(void)
{
    GString *seen = g_string_new(NULL);
    Error *err = NULL;

    log_set_sink(collect, seen);
    error_setg(&err, "bad");
    error_append_hint(&err, "Use good.\n");
    error_reportf_err(err, "very ");
    warn_report("%d%%", 5);
    info_report("fine");
    log_message(LOG_LEVEL_DEBUG, "dropped");
    log_set_level(LOG_LEVEL_DEBUG);
    log_message(LOG_LEVEL_DEBUG, "kept");
    log_set_level(LOG_LEVEL_INFO);
    log_set_sink(NULL, NULL);
    g_assert_cmpstr(seen->str, ==,
                    "[error] very bad\nUse good.|[warning] 5%|[info] fine|[debug] kept|");
    g_string_free(seen, TRUE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/util/error/a message takes hints, words in front and copies", test_message);
    g_test_add_func("/util/error/an errno is put behind the message", test_errno);
    g_test_add_func("/util/error/a class has QMP's name", test_class);
    g_test_add_func("/util/error/NULL wants no words", test_nobody_wants_it);
    g_test_add_func("/util/error/the first error stays", test_the_first_error_stays);
    g_test_add_func("/util/error/a guarded function can look at its error", test_guard);
    g_test_add_func("/util/error/error_abort-names-the-place", test_abort);
    g_test_add_func("/util/error/error_fatal-ends-the-program", test_fatal);
    g_test_add_func("/util/error/reports go to the sink", test_sink);
    return g_test_run();
}
