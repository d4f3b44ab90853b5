/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a backup tells of its stage: rates, an event for little room, members of query-block-jobs. */
#include "block/jobs/backup/report.h"

#include <string.h>

#include "aio/aio.h"
#include "qapi/event.h"

#define SECOND NANOSECONDS_PER_SECOND

static void test_rates(void)
{
    BackupRate rate = {0};
    int64_t now_ns = 5 * SECOND;

    g_assert_cmpint(backup_rate_get(&rate, now_ns), ==, 0);
    for (int i = 0; i < 30; i++, now_ns += SECOND / 10) {
        backup_rate_add(&rate, 1000, now_ns);
    }
    g_assert_cmpint(backup_rate_get(&rate, now_ns), ==, 10000);
    g_assert_cmpint(backup_rate_get(&rate, now_ns + 6 * SECOND), ==, 0);
    now_ns += 100 * SECOND;
    for (int i = 0; i < 30; i++, now_ns += SECOND / 10) {
        backup_rate_add(&rate, 1000, now_ns);
    }
    g_assert_cmpint(backup_rate_get(&rate, now_ns), ==, 10000);
}

static unsigned events;
static int64_t last_percent, last_staged;

static void count_event(unsigned kind, json_t *message)
{
    const json_t *data = json_object_get(message, "data");

    g_assert_cmpstr(json_string_value(json_object_get(message, "event")), ==, "BACKUP_STAGING");
    g_assert_cmpstr(json_string_value(json_object_get(data, "device")), ==, "j");
    g_assert_cmpint(json_integer_value(json_object_get(data, "limit")), ==, 1000);
    last_percent = json_integer_value(json_object_get(data, "percent"));
    last_staged = json_integer_value(json_object_get(data, "staged"));
    events++;
}

static void test_event(void)
{
    static const struct {
        int64_t staged;
        unsigned events; /* so far */
    } steps[] = {
        {0, 0},   {800, 0}, {815, 1}, {1000, 1}, {790, 1},  {900, 1}, {600, 1},
        {850, 1}, {599, 1}, {805, 1}, {810, 2},  {1000, 2}, {0, 2},   {1000, 3},
    };
    BackupStagingAlarm alarm = {0};
    BlockJob *job = g_new0(BlockJob, 1);

    job->job.id = (char *)"j";
    g_mutex_init(&job->job.mail_lock);
    qapi_event_set_emit(count_event);
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        backup_watch_staging(job, &alarm, steps[i].staged, 1000);
        g_assert_cmpuint(events, ==, steps[i].events);
        if (i == 2) {
            g_assert_cmpint(last_percent, ==, 81);
            g_assert_cmpint(last_staged, ==, 815);
        }
    }
    /* no room at all is no alarm, and a job without an id tells nobody */
    alarm.raised = false;
    backup_watch_staging(job, &alarm, 0, 0);
    g_assert_false(alarm.raised);
    job->job.id = NULL;
    backup_watch_staging(job, &alarm, 900, 1000);
    g_assert_cmpuint(events, ==, 3);
    qapi_event_set_emit(NULL);
    g_mutex_clear(&job->job.mail_lock);
    g_free(job);
}

static void test_query(void)
{
    StageStats stats = {
        .ram_bytes = 1,
        .ram_limit = 2,
        .scratch_bytes = 3,
        .scratch_limit = 4,
        .captured_bytes = 5,
    };
    Histogram *waits = g_new0(Histogram, 1);
    BackupRate stored = {.per_second = 77, .at_ns = 9 * SECOND};
    BlockJobInfoBackup info = {0};

    for (int i = 0; i < 100; i++) {
        histogram_add(waits, 2 * SCALE_MS);
    }
    histogram_add(waits, 9 * SCALE_MS + 1);
    backup_report_query(&stats, waits, &stored, 10 * SECOND, &info);
    g_assert_cmpint(info.staged_ram, ==, 1);
    g_assert_cmpint(info.staged_ram_limit, ==, 2);
    g_assert_cmpint(info.staged_scratch, ==, 3);
    g_assert_cmpint(info.staged_scratch_limit, ==, 4);
    g_assert_cmpint(info.captured, ==, 5);
    g_assert_cmpint(info.guest_wait_max_us, ==, 9001);
    g_assert_cmpint(info.guest_wait_p99_us, >=, 2000);
    g_assert_cmpint(info.guest_wait_p99_us, <=, 2125);
    g_assert_cmpint(info.store_rate, ==, 77);
    g_free(waits);
}

int main(int argc, char **argv)
{
    int r;

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/backup/report/a rate is of the last seconds", test_rates);
    g_test_add_func("/backup/report/little room is told once", test_event);
    g_test_add_func("/backup/report/a query has what was counted", test_query);
    aio_init(AIO_ENGINE_AUTO, &error_abort);
    r = g_test_run();
    aio_cleanup();
    return r;
}
