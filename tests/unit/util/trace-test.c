/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Events, switched on and off, and the lines they write. */
#include "trace-util-test.h"
#include "util/osdep.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <unistd.h>

/* What was written since the last call; the file is emptied. */
static char *take_lines(const char *path)
{
    char *text;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpint(truncate(path, 0), ==, 0);
    return text;
}

static void on(const char *patterns)
{
    g_assert_cmpint(trace_enable_events(patterns, &error_abort), ==, 0);
}

static void test_lines(void)
{
    g_autofree char *directory = g_dir_make_tmp("trace-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(directory, "lines", NULL);
    g_autofree char *nothing = NULL;
    g_autofree char *text = NULL;
    g_autofree char *pattern = NULL;

    g_assert_cmpint(trace_set_file(path, &error_abort), ==, 0);
    trace_trace_test_void();
    nothing = take_lines(path);
    g_assert_cmpstr(nothing, ==, "");

    on("trace_test_*");
    errno = EAGAIN;
    trace_trace_test_void();
    g_assert_cmpint(errno, ==, EAGAIN);
    trace_trace_test_numbers(-5, 0xff, true, 7);
    trace_trace_test_text("disk0", NULL, 50);
    trace_trace_test_empty();
    trace_other_test_many(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12);
    text = take_lines(path);
    pattern =
        g_strdup_printf("^%1$d@\\d+\\.\\d{6}:trace_test_void nothing to say\n"
                        "%1$d@\\d+\\.\\d{6}:trace_test_numbers offset -5 flags 0xff on 1 size 7\n"
                        "%1$d@\\d+\\.\\d{6}:trace_test_text node disk0 opaque \\(nil\\) at 50%%\n"
                        "%1$d@\\d+\\.\\d{6}:trace_test_empty\n$",
                        (int)getpid());
    g_test_message("%s", text);
    g_assert_true(g_regex_match_simple(pattern, text, 0, 0));
    on("-*");
    g_assert_cmpint(trace_set_file(NULL, &error_abort), ==, 0);
    g_unlink(path);
    g_rmdir(directory);
}

static void test_patterns(void)
{
    Error *err = NULL;

    on("trace_test_*,-trace_test_te*");
    g_assert_true(trace_event_find("trace_test_void")->enabled);
    g_assert_false(trace_event_find("trace_test_text")->enabled);
    g_assert_false(trace_event_find("other_test_many")->enabled);

    g_assert_cmpint(trace_enable_events("-trace_test_void,no_such_*", &err), ==, -EINVAL);
    g_assert_cmpstr(error_get_pretty(err), ==, "No trace event matches 'no_such_*'");
    error_free_or_abort(&err);
    g_assert_true(trace_event_find("trace_test_void")->enabled);
    g_assert_cmpint(trace_enable_events("", &err), ==, -EINVAL);
    error_free_or_abort(&err);
    g_assert_cmpint(trace_enable_events("trace_test_void,", &err), ==, -EINVAL);
    error_free_or_abort(&err);
    on("-*");
    g_assert_false(trace_event_find("trace_test_void")->enabled);
    g_assert_null(trace_event_find("trace_test"));
}

static void test_list(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    trace_list_events(out);
    fclose(out);
    g_assert_cmpstr(text, ==,
                    "other_test_many\ntrace_test_empty\ntrace_test_numbers\ntrace_test_text\n"
                    "trace_test_void\n");
    free(text);
}

static void test_file_that_cannot_be_opened(void)
{
    Error *err = NULL;

    g_assert_cmpint(trace_set_file("/no/such/directory/file", &err), ==, -ENOENT);
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "Could not open '/no/such/directory/file': No such file or directory");
    error_free(err);
}

#define THREADS          4
#define LINES_PER_THREAD 500

static gpointer write_many(gpointer data)
{
    for (int i = 0; i < LINES_PER_THREAD; i++) {
        trace_trace_test_text("a-name-of-some-length", NULL, 7);
    }
    return NULL;
}

static void test_threads(void)
{
    g_autofree char *directory = g_dir_make_tmp("trace-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(directory, "lines", NULL);
    GThread *thread[THREADS];
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    int count = 0;

    g_assert_cmpint(trace_set_file(path, &error_abort), ==, 0);
    on("trace_test_text");
    for (int i = 0; i < THREADS; i++) {
        thread[i] = g_thread_new("writer", write_many, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        g_thread_join(thread[i]);
    }
    text = take_lines(path);
    lines = g_strsplit(text, "\n", -1);
    for (; lines[count] && *lines[count]; count++) {
        g_assert_true(g_str_has_suffix(
            lines[count], ":trace_test_text node a-name-of-some-length opaque (nil) at 7%"));
    }
    g_assert_cmpint(count, ==, THREADS * LINES_PER_THREAD);
    on("-*");
    g_assert_cmpint(trace_set_file(NULL, &error_abort), ==, 0);
    g_unlink(path);
    g_rmdir(directory);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/util/trace/an event that is on writes a line", test_lines);
    g_test_add_func("/util/trace/patterns are obeyed in order and all or none", test_patterns);
    g_test_add_func("/util/trace/the list is in alphabetical order", test_list);
    g_test_add_func("/util/trace/a file that cannot be opened is named",
                    test_file_that_cannot_be_opened);
    g_test_add_func("/util/trace/lines of many threads stay whole", test_threads);
    return g_test_run();
}
