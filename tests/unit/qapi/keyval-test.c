/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options of the command line: the tree they make, and the words for mistakes */
#include "qapi/keyval.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>

static void expect_full(const char *text, const char *implied, bool want_help, const char *expected)
{
    Error *err = NULL;
    bool help = false;
    json_t *json = keyval_parse(text, implied, want_help ? &help : NULL, &err);

    if (!json) {
        g_assert_cmpstr(error_get_pretty(err), ==, expected);
        error_free(err);
        return;
    }
    char *got = json_dumps(json, JSON_COMPACT);
    g_autofree char *all = g_strdup_printf("%s%s", got, help ? " help" : "");

    g_assert_null(err);
    g_assert_cmpstr(all, ==, expected);
    free(got);
    json_decref(json);
}

static void expect(const char *text, const char *expected)
{
    expect_full(text, "driver", false, expected);
}

static void trees(void)
{
    expect("", "{}");
    expect("file", "{\"driver\":\"file\"}");
    expect("driver=file,node-name=x,cache.direct=on,addr.type=unix",
           "{\"driver\":\"file\",\"node-name\":\"x\",\"cache\":{\"direct\":\"on\"},"
           "\"addr\":{\"type\":\"unix\"}}");
    expect("a=1,", "{\"a\":\"1\"}");
    expect("a=", "{\"a\":\"\"}");
    expect("a=x,,y,b=z=1", "{\"a\":\"x,y\",\"b\":\"z=1\"}");
    expect("a=1,a=2", "{\"a\":\"2\"}");
    expect("a_b=1,C9=2", "{\"a_b\":\"1\",\"C9\":\"2\"}");
}

static void lists(void)
{
    expect("a.0=x,a.1=y", "{\"a\":[\"x\",\"y\"]}");
    expect("a.1=y,a.0=x", "{\"a\":[\"x\",\"y\"]}");
    expect("a.0.b=x,a.1.b.0=y", "{\"a\":[{\"b\":\"x\"},{\"b\":[\"y\"]}]}");
    expect("x.1=1", "Parameter 'x.0' missing");
    expect("x.01=1", "Parameter 'x.0' missing");
    expect("i.0.e=1,i.2.e=1", "Parameter 'i.1' missing");
    expect("x.99999999999=1", "Parameter 'x.0' missing");
    expect("x.1=1,x.0=3,x.a=3", "Parameters 'x.*' used inconsistently");
}

static void mistakes(void)
{
    expect("null-co,size", "Expected '=' after parameter 'size'");
    expect("a=1,.x=1", "Invalid parameter '.x'");
    expect("a=1,x.=1", "Invalid parameter 'x.'");
    expect("a=1,x..y=1", "Invalid parameter 'x..y'");
    expect("a=1,=1", "Invalid parameter ''");
    expect(",a=1", "Invalid parameter ''");
    expect("1=1", "Invalid parameter '1'");
    expect("a b=1", "Invalid parameter 'a b'");
    expect("-x=1", "Invalid parameter '-x'");
    expect("c.d=on,c=on", "Parameters 'c.*' used inconsistently");
    expect("c=on,c.d=on", "Parameters 'c.*' used inconsistently");
    expect("c.d=on,c.d.e=on", "Parameters 'c.d.*' used inconsistently");
    expect("a=\xff", "Parameter 'a' is not valid UTF-8");
}

static void key_limits(void)
{
    g_autofree char *part = g_strnfill(KEYVAL_PART_MAX, 'x');
    g_autofree char *fits = g_strdup_printf("%s=1", part);
    g_autofree char *long_key = g_strdup_printf("%sx=1", part);
    g_autofree char *tree = g_strdup_printf("{\"%s\":\"1\"}", part);
    g_autofree char *error = g_strdup_printf("Parameter '%sx' is too long", part);
    GString *deep = g_string_new("x");

    expect(fits, tree);
    expect(long_key, error);
    for (int i = 0; i < KEYVAL_PARTS_MAX; i++) {
        g_string_append(deep, ".x");
    }
    g_string_append(deep, "=1");
    expect(deep->str, "Parameter 'x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x.x....' has too many parts");
    g_string_free(deep, TRUE);
}

static void help(void)
{
    expect("help", "Help is not available for this option");
    expect("null-co,?", "Help is not available for this option");
    expect_full("help", "driver", true, "{} help");
    expect_full("null-co,help", "driver", true, "{\"driver\":\"null-co\"} help");
    expect_full("null-co,help,a=1", "driver", true, "{\"driver\":\"null-co\",\"a\":\"1\"} help");
    expect_full("?", NULL, true, "{} help");
    expect_full("a=help", NULL, true, "{\"a\":\"help\"}");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/keyval/keys with dots make a tree", trees);
    g_test_add_func("/keyval/numbers in keys make lists without gaps", lists);
    g_test_add_func("/keyval/mistakes are told with the key's name", mistakes);
    g_test_add_func("/keyval/keys that are too long or too deep are refused", key_limits);
    g_test_add_func("/keyval/help is told apart from options", help);
    return g_test_run();
}
