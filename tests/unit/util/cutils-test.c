/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers, sizes, names, and text that grows. */
#include "util/cutils.h"
#include "util/osdep.h"
#include "util/textbuf.h"

#include <errno.h>
#include <limits.h>

static void test_sizes(void)
{
    static const struct {
        const char *text;
        int r;
        uint64_t bytes;
    } cases[] = {
        {"0", 0, 0},
        {"4096", 0, 4096},
        {" 12", 0, 12},
        {"+12", 0, 12},
        {"12B", 0, 12},
        {"1k", 0, 1024},
        {"1K", 0, 1024},
        {"64M", 0, 64 * MiB},
        {"3G", 0, 3 * GiB},
        {"2t", 0, 2 * TiB},
        {"1P", 0, 1 * PiB},
        {"15E", 0, 15 * (uint64_t)EiB},
        {"1.5G", 0, 3 * GiB / 2},
        {"0.5k", 0, 512},
        {".5k", 0, 512},
        {"1.k", 0, 1024},
        {"1.0", 0, 1},
        {"0x1000", 0, 4096},
        {"0X10", 0, 16},
        {"9007199254740993", 0, UINT64_C(9007199254740993)},
        {"18446744073709551615", 0, UINT64_MAX},
        {"15.999999999999999999E", 0, UINT64_C(18446744073709551614)},
        {"-0", 0, 0},
        {"18446744073709551616", -ERANGE, UINT64_MAX},
        {"16E", -ERANGE, UINT64_MAX},
        {"99999999999999999999999", -ERANGE, UINT64_MAX},
        {"0x10000000000000000", -ERANGE, UINT64_MAX},
        {"-1", -ERANGE, 0},
        {"-1k", -ERANGE, 0},
        {"", -EINVAL, 0},
        {" ", -EINVAL, 0},
        {"k", -EINVAL, 0},
        {".", -EINVAL, 0},
        {".k", -EINVAL, 0},
        {"1.5", -EINVAL, 0},
        {"1.5B", -EINVAL, 0},
        {"1kk", -EINVAL, 0},
        {"1x", -EINVAL, 0},
        {"12 ", -EINVAL, 0},
        {"0x", -EINVAL, 0},
        {"0x1k", -EINVAL, 0},
        {"1e3", -EINVAL, 0},
        {"--1", -EINVAL, 0},
        {"inf", -EINVAL, 0},
        {"nan", -EINVAL, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t bytes = 42;

        g_test_message("'%s'", cases[i].text);
        g_assert_cmpint(qemu_strtosz(cases[i].text, NULL, &bytes), ==, cases[i].r);
        g_assert_cmpuint(bytes, ==, cases[i].bytes);
    }
}

static void test_size_ends(void)
{
    const char *end;
    uint64_t bytes;

    g_assert_cmpint(qemu_strtosz("1M,rest", &end, &bytes), ==, 0);
    g_assert_cmpstr(end, ==, ",rest");
    g_assert_cmpuint(bytes, ==, MiB);
    g_assert_cmpint(qemu_strtosz_MiB("3", NULL, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, 3 * MiB);
    g_assert_cmpint(qemu_strtosz_MiB("0.5", NULL, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, MiB / 2);
    g_assert_cmpint(qemu_strtosz("rest", &end, &bytes), ==, -EINVAL);
    g_assert_cmpstr(end, ==, "rest");
}

static void test_numbers(void)
{
    const char *end;
    uint64_t u;
    int64_t i;
    int n;

    g_assert_cmpint(qemu_strtoi64("-9223372036854775808", NULL, 10, &i), ==, 0);
    g_assert_cmpint(i, ==, INT64_MIN);
    g_assert_cmpint(qemu_strtoi64("9223372036854775808", NULL, 10, &i), ==, -ERANGE);
    g_assert_cmpint(i, ==, INT64_MAX);
    g_assert_cmpint(qemu_strtoi64("12x", NULL, 10, &i), ==, -EINVAL);
    g_assert_cmpint(i, ==, 0);
    g_assert_cmpint(qemu_strtoi64("12x", &end, 10, &i), ==, 0);
    g_assert_cmpstr(end, ==, "x");
    g_assert_cmpint(qemu_strtou64("18446744073709551615", NULL, 0, &u), ==, 0);
    g_assert_cmpuint(u, ==, UINT64_MAX);
    g_assert_cmpint(qemu_strtou64("-1", NULL, 0, &u), ==, -ERANGE);
    g_assert_cmpuint(u, ==, 0);
    g_assert_cmpint(qemu_strtou64("-0", NULL, 0, &u), ==, 0);
    g_assert_cmpint(qemu_strtou64("", NULL, 0, &u), ==, -EINVAL);
    g_assert_cmpint(qemu_strtoi("2147483648", NULL, 0, &n), ==, -ERANGE);
    g_assert_cmpint(n, ==, INT_MAX);
    g_assert_cmpint(qemu_strtoi("0x7f", NULL, 0, &n), ==, 0);
    g_assert_cmpint(n, ==, 127);
}

static void check_size_text(uint64_t bytes, const char *expected)
{
    g_autofree char *text = size_to_str(bytes);

    g_assert_cmpstr(text, ==, expected);
}

static void test_size_text(void)
{
    check_size_text(0, "0 B");
    check_size_text(512, "512 B");
    check_size_text(64 * KiB, "64 KiB");
    check_size_text(1000, "0.977 KiB");
    check_size_text(3 * GiB / 2, "1.5 GiB");
    check_size_text(UINT64_MAX, "16 EiB");
}

static void test_names(void)
{
    const char *rest;

    g_assert_true(id_wellformed("disk-0.a_B"));
    g_assert_false(id_wellformed(""));
    g_assert_false(id_wellformed("0disk"));
    g_assert_false(id_wellformed("disk 0"));
    g_assert_false(id_wellformed("disk/0"));
    g_assert_true(strstart("nbd:host", "nbd:", &rest));
    g_assert_cmpstr(rest, ==, "host");
    g_assert_false(strstart("nb", "nbd:", NULL));
}

static void test_textbuf(void)
{
    g_auto(TextBuf) buf = TEXTBUF_INIT;
    g_autofree char *taken = NULL;

    g_assert_cmpstr(textbuf_str(&buf), ==, "");
    for (int i = 0; i < 1000; i++) {
        textbuf_printf(&buf, "%d,", i);
    }
    textbuf_append(&buf, "end");
    g_assert_cmpuint(strlen(textbuf_str(&buf)), ==, buf.length);
    g_assert_cmpuint(buf.length, ==, 10 * 2 + 90 * 3 + 900 * 4 + 3);
    g_assert_true(g_str_has_suffix(textbuf_str(&buf), "998,999,end"));
    taken = textbuf_steal(&buf);
    g_assert_cmpstr(textbuf_str(&buf), ==, "");
    textbuf_append(&buf, "x");
    textbuf_reset(&buf);
    g_assert_cmpstr(textbuf_str(&buf), ==, "");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/util/cutils/sizes are read exactly or refused", test_sizes);
    g_test_add_func("/util/cutils/a size ends where it ends", test_size_ends);
    g_test_add_func("/util/cutils/numbers do not wrap", test_numbers);
    g_test_add_func("/util/cutils/sizes are printed for people", test_size_text);
    g_test_add_func("/util/cutils/names are checked", test_names);
    g_test_add_func("/util/textbuf/text grows as needed", test_textbuf);
    return g_test_run();
}
