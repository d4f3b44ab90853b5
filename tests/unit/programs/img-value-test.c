/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers and sizes as users write them, and as qblk-img prints them. */
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "programs/img/create-options.h"
#include "programs/img/img.h"
#include "util/log.h"

static GString *told;

static void hear(LogLevel level, const char *message, void *opaque)
{
    g_string_append_printf(told, "%s;", message);
}

static void expect_told(const char *message)
{
    g_assert_cmpstr(told->str, ==, message);
    g_string_truncate(told, 0);
}

static void sizes_are_parsed(void)
{
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {{"0", 0}, {"512", 512}, {"1b", 1}, {"1.5k", 1536}, {"64M", 67108864}, {"0x10", 16}};
    int64_t bytes;

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_true(img_parse_size("size", good[i].text, 0, INT64_MAX, &bytes));
        g_assert_cmpint(bytes, ==, good[i].bytes);
    }
    expect_told("");
    g_assert_false(img_parse_size("size", "1X", 0, INT64_MAX, &bytes));
    expect_told("Invalid size specified: '1X'.;");
    g_assert_false(img_parse_size("size", "", 0, INT64_MAX, &bytes));
    expect_told("Invalid size specified: ''.;");
    g_assert_false(img_parse_size("size", "8E", 0, INT64_MAX, &bytes));
    expect_told("Invalid size specified. Must be between 0 and 9223372036854775807.;");
    g_assert_false(img_parse_size("size", "-1", 0, INT64_MAX, &bytes));
    expect_told("Invalid size specified. Must be between 0 and 9223372036854775807.;");
    g_assert_false(img_parse_size("size", "2k", 0, 1024, &bytes));
    expect_told("Invalid size specified. Must be between 0 and 1024.;");
}

static void numbers_are_parsed(void)
{
    int64_t n;

    g_assert_true(img_parse_int("count", "7", 1, 10, &n));
    g_assert_cmpint(n, ==, 7);
    g_assert_true(img_parse_int("count", "0x5a", 0, 255, &n));
    g_assert_cmpint(n, ==, 0x5a);
    expect_told("");
    g_assert_false(img_parse_int("count", "7k", 1, 10, &n));
    expect_told("Invalid count specified: '7k'.;");
    g_assert_false(img_parse_int("count", "99999999999999999999", 1, 10, &n));
    expect_told("Invalid count specified. Must be between 1 and 10.;");
}

static void sizes_are_printed(void)
{
    static const struct {
        int64_t bytes;
        const char *text;
    } sizes[] = {
        {0, "0 B (0 bytes)"},
        {1023, "0.999 KiB (1023 bytes)"},
        {1500160, "1.43 MiB (1500160 bytes)"},
        {67108864, "64 MiB (67108864 bytes)"},
        {INT64_MAX, "8 EiB (9223372036854775807 bytes)"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree char *text = img_size_text(sizes[i].bytes);

        g_assert_cmpstr(text, ==, sizes[i].text);
    }
}

static void option_lists_are_joined(void)
{
    char *text = NULL;

    g_assert_true(img_options_join(&text, "a=1"));
    g_assert_true(img_options_join(&text, "b=x,,y"));
    g_assert_true(img_options_join(&text, "c=ends with a comma,,"));
    g_assert_cmpstr(text, ==, "a=1,b=x,,y,c=ends with a comma,,");
    g_assert_false(img_options_ask_help(text));
    expect_told("");
    g_assert_false(img_options_join(&text, ""));
    g_assert_false(img_options_join(&text, ",a=1"));
    g_assert_false(img_options_join(&text, "a=1,"));
    expect_told("Invalid option list: ;Invalid option list: ,a=1;Invalid option list: a=1,;");
    g_assert_true(img_options_join(&text, "help"));
    g_assert_true(img_options_ask_help(text));
    g_free(text);
    g_assert_false(img_options_ask_help(NULL));
    g_assert_false(img_options_ask_help("a=help"));
    g_assert_true(img_options_ask_help("?"));
}

int main(int argc, char **argv)
{
    int status;

    g_test_init(&argc, &argv, NULL);
    told = g_string_new(NULL);
    log_set_sink(hear, NULL);
    g_test_add_func("/img/value/sizes are parsed, and refused in words", sizes_are_parsed);
    g_test_add_func("/img/value/numbers are parsed, and refused in words", numbers_are_parsed);
    g_test_add_func("/img/value/sizes are printed for people and for programs", sizes_are_printed);
    g_test_add_func("/img/value/lists of options are joined where they can be",
                    option_lists_are_joined);
    status = g_test_run();
    g_string_free(told, TRUE);
    return status;
}
