/* SPDX-License-Identifier: GPL-2.0-or-later */
/* JSON as clients send it: what is accepted, what is refused in which words, and what comes after */
#include "qapi/json-parser.h"

#include <stdlib.h>
#include <string.h>

/* What was emitted: values as JSON, errors as "!words", separated by newlines. */
static void collect(void *opaque, json_t *message, Error *err)
{
    GString *out = opaque;
    char *text;

    g_assert_true(!message != !err);
    if (err) {
        g_string_append_printf(out, "!%s\n", error_get_pretty(err));
        error_free(err);
        return;
    }
    text = json_dumps(message, JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    g_assert_nonnull(text);
    g_string_append_printf(out, "%s\n", text);
    free(text);
    json_decref(message);
}

/* Feeds @n bytes in pieces of @piece bytes. */
static char *feed(const char *bytes, size_t n, size_t piece)
{
    GString *out = g_string_new(NULL);
    JSONMessageParser parser;

    json_message_parser_init(&parser, collect, out);
    for (size_t i = 0; i < n; i += piece) {
        json_message_parser_feed(&parser, bytes + i, MIN(piece, n - i));
    }
    json_message_parser_destroy(&parser);
    return g_string_free(out, FALSE);
}

static void expect_bytes(const char *bytes, size_t n, const char *expected)
{
    for (size_t piece = 1; piece <= n; piece = piece * 2 + 1) {
        g_autofree char *got = feed(bytes, n, piece);

        g_assert_cmpstr(got, ==, expected);
    }
}

static void expect(const char *text, const char *expected)
{
    expect_bytes(text, strlen(text), expected);
}

static void values(void)
{
    expect("{'a': [1, -2, 0, true, false, null, \"x\"]}",
           "{\"a\":[1,-2,0,true,false,null,\"x\"]}\n");
    expect("{}[]{\"a\":{}}", "{}\n[]\n{\"a\":{}}\n");
    expect("1 2\n", "1\n2\n");
    expect("1\"a\"\n", "1\n\"a\"\n");
    expect("9223372036854775807 -9223372036854775808 ",
           "9223372036854775807\n-9223372036854775808\n");
    expect("9223372036854775808 ", "9.2233720368547758e18\n");
    expect("1.5 -0.5e1 1E2 ", "1.5\n-5.0\n100.0\n");
    expect("'\\'\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00'",
           "\"'\\\"\\\\/\\b\\f\\n\\r\\t\\u00E9\\uD83D\\uDE00\"\n");
    expect("'\xc3\xa9\x7f'", "\"\\u00E9\x7f\"\n");
    expect("[1,[2,[3]]]", "[1,[2,[3]]]\n");
}

static void nothing_before_the_end(void)
{
    expect("", "");
    expect(" \r\n\t", "");
    expect("{'a'", "");
    expect("12", "");
    expect("{\"a\":[1}\n{}\n", ""); /* the bracket is still open */
}

static void syntax_errors_and_recovery(void)
{
    expect("garbage\n{}", "!JSON parse error, invalid keyword 'garbage'\n{}\n");
    expect("{\"execute\": }{}", "!JSON parse error, expecting value\n{}\n");
    expect("{'a':1,}{}", "!JSON parse error, expecting value\n{}\n");
    expect("{'a' 'b'}{}", "!JSON parse error, missing : in object pair\n{}\n");
    expect("{1:2}{}", "!JSON parse error, key is not a string in object\n{}\n");
    expect("[1 2]{}", "!JSON parse error, expected separator in list\n{}\n");
    expect("[1,]{}", "!JSON parse error, expecting value\n{}\n");
    expect("}{}", "!JSON parse error, expecting value\n{}\n");
    expect("{\"a\":]}{}",
           "!JSON parse error, expecting value\n!JSON parse error, expecting value\n{}\n");
    expect("{\"a\":1]{}", "!JSON parse error, expected separator in dict\n{}\n");
    expect(
        "{\"a\":[1}]}{}",
        "!JSON parse error, expected separator in list\n!JSON parse error, expecting value\n{}\n");
    expect("{\"a\":1,\"a\":2}{}", "!JSON parse error, duplicate key\n{}\n");
    expect("{\"a\" 1, \"b\":2}{}", "!JSON parse error, missing : in object pair\n{}\n");
    expect("{\"a\":tru}{}", "!JSON parse error, invalid keyword 'tru'\n{}\n");
    expect("0x10\n", "0\n!JSON parse error, invalid keyword 'x'\n10\n");
    expect(",{}", "!JSON parse error, expecting value\n{}\n");
    expect("1e999 {}", "!JSON parse error, number is out of range\n{}\n");
}

static void strings_that_are_none(void)
{
    expect("\"\\q\"{}", "!JSON parse error, invalid escape sequence in string\n{}\n");
    expect("\"\\u12\"{}", "!JSON parse error, \\u12\" is not a valid Unicode character\n{}\n");
    expect("\"\\ud800\"{}", "!JSON parse error, \\ud800 is not a valid Unicode character\n{}\n");
    expect("\"\\ud800\\u0041\"{}",
           "!JSON parse error, \\ud800 is not a valid Unicode character\n{}\n");
    expect("\"\\uffff\"{}", "!JSON parse error, \\uffff is not a valid Unicode character\n{}\n");
    expect("\"\\u0000\"{}", "!JSON parse error, \\u0000 is not a valid Unicode character\n{}\n");
    expect("'\xed\xa0\x80'{}", "!JSON parse error, invalid UTF-8 sequence in string\n{}\n");
    expect("'\xc0\x80'{}", "!JSON parse error, invalid UTF-8 sequence in string\n{}\n");
    expect("'\xc3'{}", "!JSON parse error, invalid UTF-8 sequence in string\n{}\n");
    expect("{'\xc3':1}{}", "!JSON parse error, invalid UTF-8 sequence in string\n{}\n");
}

static void stray_bytes(void)
{
    expect("@#$\n{}", "!JSON parse error, stray '@'\n{}\n");
    expect("\"abc\ndef\"\n{}", "!JSON parse error, stray '\"abc\n'\n{}\n");
    expect("{\"a\":\"x\ny\"}\n{}", "!JSON parse error, stray '\"x\n'\n"
                                   "!JSON parse error, expecting value\n{}\n");
    expect("@\n@\n{}", "!JSON parse error, stray '@'\n!JSON parse error, stray '@'\n{}\n");
    expect("\xc3\xa9\n{}", "!JSON parse error, stray '\xef\xbf\xbd'\n{}\n");
    expect("{@}\n{}", "!JSON parse error, stray '@'\n!JSON parse error, expecting value\n{}\n");
    expect("01\n{}", "!JSON parse error, stray '01'\n{}\n");
    expect("-a\n{}", "!JSON parse error, stray '-a'\n{}\n");
    expect("1.5.5\n{}", "1.5\n!JSON parse error, stray '.'\n{}\n");
    expect("1e\n{}", "!JSON parse error, stray '1e\n'\n{}\n");
    expect_bytes("\0\n{}", 4, "!JSON parse error, stray '\xef\xbf\xbd'\n{}\n");
}

static void byte_ff_forgets_the_message(void)
{
    expect("{\"a\":[{\xff\n{}", "!JSON parse error, stray '\xef\xbf\xbd'\n{}\n");
    expect("\"abc\xff\n{}", "!JSON parse error, stray '\"abc\xef\xbf\xbd'\n{}\n");
}

static void too_deep(void)
{
    GString *in = g_string_new(NULL);
    g_autofree char *fits = NULL, *refused = NULL;

    for (int i = 0; i < JSON_NESTING_MAX; i++) {
        g_string_prepend_c(in, '[');
        g_string_append_c(in, ']');
    }
    fits = feed(in->str, in->len, 4096);
    g_assert_cmpint(fits[0], ==, '[');
    g_string_prepend_c(in, '[');
    g_string_append(in, "]\n{}");
    refused = feed(in->str, in->len, 4096);
    g_assert_cmpstr(refused, ==, "!JSON nesting depth limit exceeded\n{}\n");
    g_string_free(in, TRUE);
}

static void too_many_tokens(void)
{
    GString *in = g_string_new("[");
    g_autofree char *got = NULL;

    for (int i = 0; i < JSON_MESSAGE_TOKENS_MAX; i++) {
        g_string_append(in, "1,");
    }
    g_string_append(in, "1]\n{}");
    got = feed(in->str, in->len, 65536);
    g_assert_cmpstr(got, ==, "!JSON token count limit exceeded\n{}\n");
    g_string_free(in, TRUE);
}

static void too_long(void)
{
    size_t n = JSON_MESSAGE_BYTES_MAX + 2;
    GString *in = g_string_sized_new(n + 8);
    g_autofree char *got = NULL;

    g_string_set_size(in, n);
    memset(in->str, 'x', n);
    in->str[0] = '"';
    g_string_append(in, "\"\n{}");
    got = feed(in->str, in->len, 65536);
    g_assert_cmpstr(got, ==, "!JSON token size limit exceeded\n{}\n");
    g_string_free(in, TRUE);
}

static void expect_string(const char *text, const char *expected)
{
    Error *err = NULL;
    json_t *json = json_parse_string(text, &err);

    if (json) {
        char *got = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);

        g_assert_cmpstr(got, ==, expected);
        free(got);
        json_decref(json);
    } else {
        g_assert_cmpstr(error_get_pretty(err), ==, expected);
        error_free(err);
    }
}

static void one_value_in_a_string(void)
{
    expect_string("{'a':1}", "{\"a\":1}");
    expect_string("12", "12");
    expect_string("nul", "JSON parse error, invalid keyword 'nul'");
    expect_string("", "Expecting a JSON value");
    expect_string("{\"driver\":", "JSON parse error, premature EOI");
    expect_string("\"abc", "JSON parse error, premature EOI");
    expect_string("{} {}", "Expecting at most one JSON value");
    expect_string("{}x", "Expecting at most one JSON value");
}

static void random_bytes_are_survived(void)
{
    static const char likely[] = "{}[]:,'\"\\u0123e-.tf \n\xff\xc3\xa9";
    const char *env = g_getenv("SEED");
    guint32 seed = env ? strtoul(env, NULL, 0) : g_random_int();
    GRand *rand = g_rand_new_with_seed(seed);
    char bytes[512];

    g_test_message("SEED=%u", seed);
    for (int round = 0; round < 2000; round++) {
        size_t n = g_rand_int_range(rand, 1, sizeof(bytes));

        for (size_t i = 0; i < n; i++) {
            bytes[i] = likely[g_rand_int_range(rand, 0, sizeof(likely) - 1)];
        }
        g_autofree char *whole = feed(bytes, n, n);
        g_autofree char *pieces = feed(bytes, n, g_rand_int_range(rand, 1, 16));

        g_assert_cmpstr(whole, ==, pieces);
    }
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/json/values of every kind are read", values);
    g_test_add_func("/json/nothing is emitted before a value ends", nothing_before_the_end);
    g_test_add_func("/json/a syntax error is told once and the next value is read",
                    syntax_errors_and_recovery);
    g_test_add_func("/json/strings with bad escapes or bytes are refused", strings_that_are_none);
    g_test_add_func("/json/bytes outside of JSON are told and skipped", stray_bytes);
    g_test_add_func("/json/the byte 0xFF forgets the message so far", byte_ff_forgets_the_message);
    g_test_add_func("/json/a message nested too deeply is refused", too_deep);
    g_test_add_func("/json/a message of too many tokens is refused", too_many_tokens);
    g_test_add_func("/json/a message of too many bytes is refused", too_long);
    g_test_add_func("/json/a string holds exactly one value", one_value_in_a_string);
    g_test_add_func("/json/random bytes give the same in any pieces", random_bytes_are_survived);
    return g_test_run();
}
