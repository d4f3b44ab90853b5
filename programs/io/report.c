/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * report.c - what a request has done, in the form in which programs look for it
 *
 *      read 1024/1024 bytes at offset 0
 *      1 KiB, 1 ops; 00.00 sec (12.252 MiB/sec and 12545.6347 ops/sec)
 *
 *      1024,1,0:00:00.00,10942626.017,10686.158        with -C
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

#include "aio/timer.h"
#include "programs/io/io.h"
#include "util/osdep.h"

#define DUMP_COLUMNS 16
#define MINUTE_SECS  60
#define HOUR_SECS    3600

/* "00.01 sec", and "0:01:02.06" where that does not do, or @fixed. */
static char *time_text(int64_t ns, bool fixed)
{
    int64_t hundredths = ns / (NANOSECONDS_PER_SECOND / 100);
    int64_t secs = hundredths / 100;
    int rest = (int)(hundredths % 100);

    if (fixed || secs >= MINUTE_SECS) {
        return g_strdup_printf("%" PRId64 ":%02d:%02d.%02d", secs / HOUR_SECS,
                               (int)(secs % HOUR_SECS / MINUTE_SECS), (int)(secs % MINUTE_SECS),
                               rest);
    }
    return g_strdup_printf("%02d.%02d sec", (int)secs, rest);
}

void io_print_report(const IoReport *r)
{
    int64_t ns = MAX(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - r->begin_ns, 1);
    double secs = (double)ns / NANOSECONDS_PER_SECOND;
    g_autofree char *size = io_size_text((double)r->bytes);
    g_autofree char *rate = io_size_text((double)r->bytes / secs);
    g_autofree char *time = time_text(ns, r->terse);

    if (r->terse) {
        printf("%" PRId64 ",1,%s,%.3f,%.3f\n", r->bytes, time, (double)r->bytes / secs, 1 / secs);
        return;
    }
    printf("%s %" PRId64 "/%" PRId64 " bytes at offset %" PRId64 "\n", r->verb, r->bytes, r->bytes,
           r->offset);
    printf("%s, 1 ops; %s (%s/sec and %.4f ops/sec)\n", size, time, rate, 1 / secs);
}

void io_dump(const uint8_t *buf, int64_t offset, int64_t bytes)
{
    for (int64_t line = 0; line < bytes; line += DUMP_COLUMNS) {
        int64_t count = MIN(bytes - line, DUMP_COLUMNS);

        printf("%08" PRIx64 ": ", offset + line);
        for (int64_t i = 0; i < count; i++) {
            printf(" %02x", buf[line + i]);
        }
        printf("  ");
        for (int64_t i = 0; i < count; i++) {
            printf("%c", isalnum(buf[line + i]) ? buf[line + i] : '.');
        }
        printf("\n");
    }
}
