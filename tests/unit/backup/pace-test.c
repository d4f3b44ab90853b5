/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pace beside a model of a disk: one queue, first come first served.
 *
 *      guests: one request after the other, a pause between --+
 *                                                             +--> queue --> base_ns, or bytes / speed
 *      sweep: pieces as the pace allows ----------------------+--> target, TARGET_NS later
 *
 * A guest's request waits for the bytes of the sweep that are in front of it.
 */
#include "block/jobs/backup/pace.h"

#include <inttypes.h>

#include "tests/unit/util/seed.h"

#define SECOND     NANOSECONDS_PER_SECOND
#define TICK_NS    (20 * SCALE_US)
#define PIECES_MAX 512
#define TARGET_NS  SCALE_MS

typedef struct Model {
    /* What may be changed on the way. */
    int64_t base_ns;    /* a guest's request on an idle disk, half of it to one and a half */
    int64_t think_ns;   /* a guest's pause between requests */
    int64_t per_second; /* bytes of the sweep */
    bool guest_is_away;
    int64_t target_per_second; /* what the target takes; 0: everything, TARGET_NS later */

    BackupPace pace;
    GRand *rand;
    int64_t now_ns, wake_ns;
    int64_t request_begin_ns, request_end_ns; /* end 0: the guest thinks, until begin */
    int64_t piece_bytes[PIECES_MAX], piece_end_ns[PIECES_MAX]; /* read, not yet written */
    int64_t piece_taken_ns[PIECES_MAX], taken_ns;              /* by the target */
    unsigned first, last;                                      /* pieces in flight, in a ring */

    /* Since model_forget(). */
    Histogram latency;
    int64_t start_ns, swept, requests;
    int64_t depth_min, depth_max, depth_last;
    unsigned depth_changes;
    unsigned seconds_over; /* seconds with a p99 above the target */
    Histogram second;
    int64_t second_start_ns;
} Model;

static Model *model_new(int64_t base_ns, int64_t think_ns, int64_t per_second, int64_t target_ns)
{
    Model *m = g_new0(Model, 1);
    BackupPaceConfig config = {
        .cluster_bytes = 64 * KiB,
        .piece_bytes = 1 * MiB,
        .idle_bytes = 2 * MiB,
        .target_ns = target_ns,
    };

    m->base_ns = base_ns;
    m->think_ns = think_ns;
    m->per_second = per_second;
    m->rand = test_rand();
    m->now_ns = m->request_begin_ns = 1000 * SECOND;
    m->start_ns = m->second_start_ns = m->now_ns;
    backup_pace_init(&m->pace, &config, m->now_ns);
    return m;
}

static void model_free(Model *m)
{
    g_rand_free(m->rand);
    g_free(m);
}

static void model_forget(Model *m)
{
    histogram_reset(&m->latency);
    histogram_reset(&m->second);
    m->start_ns = m->second_start_ns = m->now_ns;
    m->swept = m->requests = 0;
    m->depth_min = INT64_MAX;
    m->depth_max = 0;
    m->depth_changes = 0;
    m->seconds_over = 0;
}

static int64_t queue_end(const Model *m)
{
    return m->first == m->last ? m->now_ns
                               : MAX(m->now_ns, m->piece_end_ns[(m->last - 1) % PIECES_MAX]);
}

static void model_sweep(Model *m)
{
    while (m->first != m->last && m->piece_taken_ns[m->first % PIECES_MAX] <= m->now_ns) {
        int64_t bytes = m->piece_bytes[m->first++ % PIECES_MAX];

        backup_pace_sweep_done(&m->pace, bytes, m->now_ns);
        m->swept += bytes;
    }
    while (m->now_ns >= m->wake_ns && !backup_pace_is_full(&m->pace, m->now_ns)) {
        int64_t delay_ns = backup_pace_delay_ns(&m->pace, m->now_ns);
        int64_t bytes = backup_pace_piece_bytes(&m->pace, m->now_ns);
        int64_t end_ns;

        if (delay_ns > 0) {
            m->wake_ns = m->now_ns + delay_ns;
            return;
        }
        g_assert_cmpint(bytes, >=, 64 * KiB);
        g_assert_cmpint(m->last - m->first, <, PIECES_MAX);
        end_ns = queue_end(m) + bytes * SECOND / m->per_second;
        backup_pace_sweep_begin(&m->pace, bytes, m->now_ns);
        m->taken_ns = MAX(m->taken_ns, end_ns + TARGET_NS) +
                      (m->target_per_second ? bytes * SECOND / m->target_per_second : 0);
        m->piece_taken_ns[m->last % PIECES_MAX] =
            m->target_per_second ? m->taken_ns : end_ns + TARGET_NS;
        m->piece_bytes[m->last % PIECES_MAX] = bytes;
        m->piece_end_ns[m->last++ % PIECES_MAX] = end_ns;
    }
}

static void model_second(Model *m)
{
    int64_t target_ns = m->pace.config.target_ns;

    if (m->now_ns - m->second_start_ns < SECOND) {
        return;
    }
    m->seconds_over += target_ns && histogram_percentile(&m->second, 0.99) > target_ns;
    histogram_reset(&m->second);
    m->second_start_ns = m->now_ns;
}

static void model_guest(Model *m)
{
    if (m->request_end_ns && m->now_ns >= m->request_end_ns) {
        int64_t latency_ns = m->now_ns - m->request_begin_ns;

        backup_pace_guest_done(&m->pace, latency_ns, m->now_ns);
        histogram_add(&m->latency, latency_ns);
        histogram_add(&m->second, latency_ns);
        m->requests++;
        m->request_end_ns = 0;
        m->request_begin_ns = m->now_ns + m->think_ns;
    }
    if (!m->request_end_ns && m->now_ns >= m->request_begin_ns && !m->guest_is_away) {
        int64_t service_ns = (int64_t)((double)m->base_ns * (0.5 + g_rand_double(m->rand)));

        backup_pace_guest_begin(&m->pace, m->now_ns);
        m->request_begin_ns = m->now_ns;
        m->request_end_ns = queue_end(m) + service_ns;
    }
}

static void model_run(Model *m, double seconds)
{
    int64_t end_ns = m->now_ns + (int64_t)(seconds * SECOND);

    for (; m->now_ns < end_ns; m->now_ns += TICK_NS) {
        int64_t depth;

        model_guest(m);
        model_sweep(m);
        model_second(m);
        depth = backup_pace_in_flight_bytes(&m->pace, m->now_ns);
        g_assert_cmpint(depth, >=, 64 * KiB);
        m->depth_changes += depth != m->depth_last;
        m->depth_last = depth;
        m->depth_min = MIN(m->depth_min, depth);
        m->depth_max = MAX(m->depth_max, depth);
    }
}

static double model_rate(const Model *m)
{
    return (double)m->swept * SECOND / (double)(m->now_ns - m->start_ns);
}

static BlockJobInfoBackup model_query(const Model *m)
{
    BlockJobInfoBackup info = {0};

    backup_pace_query(&m->pace, m->now_ns, &info);
    return info;
}

static void model_show(const Model *m, const char *what)
{
    g_test_message("%s: p50 %" PRId64 " us, p99 %" PRId64 " us, max %" PRId64
                   " us, %.1f MiB/s, depth %" PRId64 " to %" PRId64
                   " KiB, %u changes, %u seconds over",
                   what, histogram_percentile(&m->latency, 0.5) / 1000,
                   histogram_percentile(&m->latency, 0.99) / 1000,
                   histogram_max(&m->latency) / 1000, model_rate(m) / MiB, m->depth_min / KiB,
                   m->depth_max / KiB, m->depth_changes, m->seconds_over);
}

/* P8: a target of 40 MiB a second is as fast with one piece in flight as with eight. */
static void test_slow_target(void)
{
    Model *m = model_new(100 * SCALE_US, 0, 2000 * MiB, 0);

    m->target_per_second = 40 * MiB;
    model_run(m, 5);
    model_forget(m);
    model_run(m, 20);
    model_show(m, "slow target");
    g_assert_cmpfloat(model_rate(m), >, 0.9 * 40 * MiB);
    g_assert_cmpint(m->depth_max, <=, 768 * KiB); /* now and then it is tried */
    g_assert_cmpint(m->depth_changes, <=, 10);
    model_free(m);
}

/* P2: a disk that stands still for some milliseconds once in a while does so without the sweep, too. */
static void test_stalls(void)
{
    Model *m = model_new(100 * SCALE_US, 0, 20000 * MiB, 0);

    model_run(m, 5);
    model_forget(m);
    for (int i = 0; i < 10; i++) {
        m->base_ns = 4 * SCALE_MS;
        model_run(m, 0.02);
        m->base_ns = 100 * SCALE_US;
        model_run(m, 1);
    }
    model_show(m, "stalls");
    g_assert_cmpint(m->depth_min, >=, 1 * MiB);
    model_free(m);
}

static void test_idle(void)
{
    Model *m = model_new(100 * SCALE_US, 0, 200 * MiB, 0);

    m->guest_is_away = true;
    model_forget(m);
    model_run(m, 2);
    g_assert_cmpint(m->depth_min, ==, 2 * MiB);
    g_assert_cmpfloat(model_rate(m), >, 0.98 * 200 * MiB);
    g_assert_cmpint(model_query(m).sweep_rate, >, 195 * MiB);
    g_assert_cmpint(model_query(m).guest_latency_p99_us, ==, 0);
    model_free(m);
}

/* P4: 256 KiB take 20 us; nothing is to be gained for guests by less than all. */
static void test_fast_disk(void)
{
    Model *m = model_new(2 * SCALE_MS, 0, 12 * (int64_t)GiB, 0);

    model_run(m, 15);
    model_forget(m);
    model_run(m, 15);
    model_show(m, "fast");
    g_assert_cmpint(m->depth_min, ==, 2 * MiB);
    g_assert_cmpfloat(model_rate(m), >, 1.5 * GiB);
    model_free(m);
}

/* A piece takes as long as ten of the guest's requests: the least that can be in flight, but never nothing. */
static void test_slow_disk(void)
{
    Model *m = model_new(100 * SCALE_US, 0, 60 * MiB, 0);

    model_run(m, 15);
    model_forget(m);
    model_run(m, 30);
    model_show(m, "slow");
    g_assert_cmpint(m->depth_max, ==, 64 * KiB);
    g_assert_cmpfloat(model_rate(m), >, 10 * MiB);
    model_free(m);
}

/* 2 ms, and 128 KiB a ms: some pieces fit in. */
static void test_depth_follows_latency(void)
{
    Model *m = model_new(2 * SCALE_MS, 0, 125 * MiB, 0);

    model_run(m, 15);
    model_forget(m);
    model_run(m, 60);
    model_show(m, "between");
    g_assert_cmpint(m->depth_min, >=, 64 * KiB);
    g_assert_cmpint(m->depth_max, <=, 512 * KiB);
    g_assert_cmpuint(m->depth_changes, <=, 90);
    g_assert_cmpint(histogram_percentile(&m->latency, 0.99), <=,
                    PACE_TAIL_FACTOR * 3 * SCALE_MS); /* 3 ms without the sweep */
    g_assert_cmpint(histogram_percentile(&m->latency, 0.5), <=,
                    PACE_MEDIAN_PERCENT * 2 * SCALE_MS / 100 * 11 / 10);
    g_assert_cmpfloat(model_rate(m), >, 15 * MiB);
    model_free(m);
}

static void test_load_goes(void)
{
    Model *m = model_new(100 * SCALE_US, 0, 60 * MiB, 0);

    model_run(m, 10);
    g_assert_cmpint(backup_pace_in_flight_bytes(&m->pace, m->now_ns), ==, 64 * KiB);
    m->guest_is_away = true;
    model_run(m, 0.1);
    model_forget(m);
    model_run(m, 1);
    g_assert_cmpint(m->depth_min, ==, 2 * MiB);
    g_assert_cmpfloat(model_rate(m), >, 0.98 * 60 * MiB);
    m->guest_is_away = false;
    model_run(m, 2);
    model_forget(m);
    model_run(m, 1);
    g_assert_cmpint(m->depth_max, <=, 128 * KiB);
    model_free(m);
}

/* P4: guests' requests have become longer by themselves, and the sweep is not to blame. */
static void test_another_load(void)
{
    Model *m = model_new(200 * SCALE_US, 0, 4 * (int64_t)GiB, 0);

    model_run(m, 15);
    m->base_ns = 10 * SCALE_MS;
    model_run(m, 30);
    model_forget(m);
    model_run(m, 10);
    model_show(m, "another load");
    g_assert_cmpint(m->depth_min, >=, 1 * MiB);
    model_free(m);
}

static void test_target(void)
{
    Model *m = model_new(1 * SCALE_MS, 0, 125 * MiB, 5 * SCALE_MS);
    BlockJobInfoBackup info;

    model_run(m, 30);
    model_forget(m);
    model_run(m, 60);
    model_show(m, "target 5 ms");
    info = model_query(m);
    g_assert_cmpint(histogram_percentile(&m->latency, 0.99), <=, 5 * SCALE_MS);
    g_assert_cmpuint(m->seconds_over, <=, 6);
    g_assert_cmpfloat(model_rate(m), >, 40 * MiB);
    g_assert_cmpint(m->depth_min, >=, 128 * KiB);
    g_assert_true(info.has_latency_target && info.latency_target == 5000);
    g_assert_cmpint(info.guest_latency_p99_us, <=, 5300);
    g_assert_cmpint(info.guest_latency_p99_us, >=, 1000);
    model_free(m);
}

/* One piece alone is above the target: only pauses between them help (P6). */
static void test_target_by_pauses(void)
{
    Model *m = model_new(200 * SCALE_US, 200 * SCALE_US, 20 * MiB, 2 * SCALE_MS);

    model_run(m, 60);
    model_forget(m);
    model_run(m, 120);
    model_show(m, "target 2 ms");
    g_assert_cmpuint(m->seconds_over, <=, 12);
    g_assert_cmpint(histogram_percentile(&m->latency, 0.99), <=, 2 * SCALE_MS);
    g_assert_cmpfloat(model_rate(m), >, 400 * KiB);
    model_free(m);
}

/* The guest is above the target by itself: as slow as can be, and still to its end (P6). */
static void test_target_out_of_reach(void)
{
    Model *m = model_new(5 * SCALE_MS, 0, 200 * MiB, 1 * SCALE_MS);

    model_run(m, 60);
    model_forget(m);
    model_run(m, 20);
    model_show(m, "out of reach");
    g_assert_cmpfloat(model_rate(m), >, 60 * KiB);
    g_assert_cmpfloat(model_rate(m), <, 200 * KiB);
    g_assert_cmpint(model_query(m).sweep_rate, >, 30 * KiB);
    model_free(m);
}

static void test_cost(void)
{
    Model *m = model_new(1 * SCALE_MS, 0, 125 * MiB, 2500 * SCALE_US);
    BlockJobInfoBackup info;
    double rate;

    g_assert_false(model_query(m).has_latency_cost_percent);
    m->guest_is_away = true;
    model_run(m, 3);
    m->guest_is_away = false;
    model_run(m, 30);
    model_forget(m);
    model_run(m, 10);
    rate = model_rate(m);
    info = model_query(m);
    g_test_message("cost %" PRId64 "%%, %.1f MiB/s", info.latency_cost_percent, rate / MiB);
    g_assert_true(info.has_latency_cost_percent);
    g_assert_cmpint(info.latency_cost_percent, >, 40);
    g_assert_cmpfloat((double)info.latency_cost_percent, >=, 100 - rate * 100 / (125 * MiB) - 12);
    g_assert_cmpfloat((double)info.latency_cost_percent, <=, 100 - rate * 100 / (125 * MiB) + 12);
    model_free(m);
}

/* A request now and then: with a target it has a right to it, too. */
static void test_rare_requests(void)
{
    Model *m = model_new(200 * SCALE_US, 90 * SCALE_MS, 100 * MiB, 5 * SCALE_MS);

    model_run(m, 30);
    model_forget(m);
    model_run(m, 60);
    model_show(m, "rare");
    g_assert_cmpint(histogram_percentile(&m->latency, 0.9), <=, 5 * SCALE_MS);
    g_assert_cmpfloat(model_rate(m), >, 10 * MiB);
    model_free(m);
}

/* A guest that comes and goes before a probe has seen enough of it does not stop the sweep. */
static void test_flickering_guest(void)
{
    Model *m = model_new(200 * SCALE_US, 30 * SCALE_MS, 100 * MiB, 0);

    model_run(m, 5);
    model_forget(m);
    model_run(m, 20);
    model_show(m, "flickering");
    g_assert_cmpfloat(model_rate(m), >, 60 * MiB);
    model_free(m);
}

static void test_any_disk(void)
{
    for (int round = 0; round < 12; round++) {
        GRand *rand = test_rand();
        int64_t base_ns, think_ns, speed, target_ns;
        Model *m;

        for (int i = 0; i < round; i++) { /* one seed, other numbers each round */
            g_rand_set_seed(rand, g_rand_int(rand));
        }
        base_ns = (int64_t)(SCALE_US * 50 * (1 << g_rand_int_range(rand, 0, 8)));
        think_ns = g_rand_int_range(rand, 0, 3) * base_ns;
        speed = (int64_t)MiB * 20 << g_rand_int_range(rand, 0, 8);
        target_ns = base_ns * g_rand_int_range(rand, 3, 20);
        m = model_new(base_ns, think_ns, speed, target_ns);
        model_run(m, 60);
        model_forget(m);
        model_run(m, 60);
        g_test_message("base %" PRId64 " us, think %" PRId64 " us, %" PRId64
                       " MiB/s, target %" PRId64 " us",
                       base_ns / 1000, think_ns / 1000, speed / MiB, target_ns / 1000);
        model_show(m, "any");
        g_assert_cmpuint(m->seconds_over, <=, 9);
        g_assert_cmpuint(m->depth_changes, <=, 60);
        g_assert_cmpfloat(model_rate(m), >=, 60 * KiB);
        model_free(m);
        g_rand_free(rand);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/backup/pace/without guests the sweep has all of the disk", test_idle);
    g_test_add_func("/backup/pace/a disk that stalls by itself does not slow the sweep",
                    test_stalls);
    g_test_add_func("/backup/pace/a slow target has little queued in front of it",
                    test_slow_target);
    g_test_add_func("/backup/pace/on a fast disk nothing is held back", test_fast_disk);
    g_test_add_func("/backup/pace/on a slow disk one small piece is in flight", test_slow_disk);
    g_test_add_func("/backup/pace/the depth follows guests' latency", test_depth_follows_latency);
    g_test_add_func("/backup/pace/when guests go the sweep comes back", test_load_goes);
    g_test_add_func("/backup/pace/longer requests are not the sweep's fault", test_another_load);
    g_test_add_func("/backup/pace/a target is kept", test_target);
    g_test_add_func("/backup/pace/a target is kept by pauses between pieces",
                    test_target_by_pauses);
    g_test_add_func("/backup/pace/a target out of reach does not stop the job",
                    test_target_out_of_reach);
    g_test_add_func("/backup/pace/the cost of a target is what it takes", test_cost);
    g_test_add_func("/backup/pace/a target holds for rare requests", test_rare_requests);
    g_test_add_func("/backup/pace/a guest that comes and goes does not stop the sweep",
                    test_flickering_guest);
    g_test_add_func("/backup/pace/a target is kept on any disk", test_any_disk);
    return g_test_run();
}
