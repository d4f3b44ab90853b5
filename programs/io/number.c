/* SPDX-License-Identifier: GPL-2.0-or-later */
/* number.c - numbers and sizes as users write them, and as they are printed */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "programs/io/io.h"
#include "util/cutils.h"

int64_t io_parse_size(const char *text)
{
    uint64_t bytes;
    int ret = *text == '-' ? -ERANGE : qemu_strtosz(text, NULL, &bytes);

    if (ret == 0 && bytes <= INT64_MAX) {
        return (int64_t)bytes;
    }
    if (ret == 0 || ret == -ERANGE) {
        printf("Parsing error: argument too large -- %s\n", text);
        return -ERANGE;
    }
    printf("Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- %s\n", text);
    return -EINVAL;
}

int64_t io_parse_length(const char *text)
{
    int64_t bytes = io_parse_size(text);

    if (bytes > IO_LENGTH_MAX) {
        printf("Argument '%s' exceeds maximum size %" PRId64 "\n", text, IO_LENGTH_MAX);
        return -EINVAL;
    }
    return bytes;
}

int io_check_sectors(int64_t offset, int64_t count)
{
    const bool offset_fits = QEMU_IS_ALIGNED(offset, BDRV_SECTOR_SIZE);

    if (offset_fits && QEMU_IS_ALIGNED(count, BDRV_SECTOR_SIZE)) {
        return 0;
    }
    printf("%" PRId64 " is not a sector-aligned value for '%s'\n", offset_fits ? count : offset,
           offset_fits ? "count" : "offset");
    return -EINVAL;
}

int io_parse_pattern(const char *text)
{
    int64_t value;

    if (qemu_strtoi64(text, NULL, 0, &value) < 0 || value < 0 || value > UINT8_MAX) {
        printf("%s is not a valid pattern byte\n", text);
        return -EINVAL;
    }
    return (int)value;
}

char *io_size_text(double bytes)
{
    static const char units[] = "KMGTPE";
    g_autofree char *number = NULL;
    double value = bytes;
    int unit = -1;

    while (value >= 1024 && unit < (int)strlen(units) - 1) {
        value /= 1024;
        unit++;
    }
    number = g_strdup_printf(unit < 0 ? "%f" : "%.3f", value);
    if (strspn(strchr(number, '.') ? strchr(number, '.') + 1 : "x", "0") ==
        (unit < 0 ? strlen("000000") : strlen("000"))) {
        *strchr(number, '.') = '\0';
    }
    return unit < 0 ? g_strdup_printf("%s bytes", number)
                    : g_strdup_printf("%s %ciB", number, units[unit]);
}
