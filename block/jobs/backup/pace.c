/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pace: the sweep takes what guests leave of the disk.
 *
 *     guests' requests --> window --> p99, median --> over the limit?  a few levels down
 *                                                     well below it?   one level up
 *
 *     level   0      1      ..   8     |  9    10    11    12    13    14    ..  the last
 *     gap     1 s    0.5 s  ..   4 ms  |  0    0     0     0     0     0         0
 *     bytes   64K    64K    ..   64K   |  64K  128K  192K  256K  512K  1M    ..  as while idle
 *             only with a target (P6)  |  all (with one: .. 256K  512K  768K ..)
 *
 * P1  While guests are busy a level says how much may be in flight.  Up by one level, down by at least half
 *     of what is too much: a sweep that is too fast hurts guests at once, one that is too slow only itself.
 *     While no guest is busy the level does not count.  A piece is half of what may be in flight, at most
 *     PACE_PIECE_BYTES; with a target all of it, at most PACE_START_BYTES.
 * P2  The limit is, with a target, a little less than it, for a little more than 99 of 100.  Without one:
 *     PACE_TAIL_FACTOR times the p99 and PACE_MEDIAN_PERCENT of the median that guests have without the sweep.
 *     The p99 is for guests that must answer in time, the median for those that do one request after the other.
 * P3  A window holds only requests that began under its level, after what was in flight above it had ended.
 *     Else a step down would be blamed for what the step before it did, and be followed by more.
 * P4  What guests have without the sweep is seen when the sweep stands still for a while: by itself, or for
 *     a probe.  The lowest of what was seen beside the sweep would not do: where it never stands still, its
 *     own weight would become the measure, and then twice that.
 * P5  A level that was too much is avoided, the longer the more often it failed: between a level that is too
 *     slow and one that is too fast there is nothing, and to change between them would miss the target in
 *     a part of all windows.
 * P6  The slowest level is one small piece a second: the sweep always ends.
 * P8  More in flight than at the start is kept only where the sweep is the faster for it, and guests do not lose
 *     more by it in all: what they lose in a second, as the part of their time that goes into waiting for the
 *     sweep, over the bytes of the sweep in that second.  A sweep that is twice as fast may cost them twice as much
 *     while it runs; what waits for a slow target stands in front of them for nothing.
 * P7  The cost of a target compares rates of times in which the sweep was at work or held back by its pace;
 *     a user's pause or a limit of the speed is in neither.
 */
#include "block/jobs/backup/pace.h"

#include <stdlib.h>
#include <string.h>

#define NO_LEVEL INT_MAX

/* The levels */

static int64_t floor_bytes(const BackupPace *pace)
{
    return MAX(pace->config.cluster_bytes, 1);
}

/* Levels with one piece in flight; the last of them holds PACE_START_BYTES, or a cluster. */
static int single_levels(const BackupPace *pace)
{
    int64_t most = MIN(PACE_START_BYTES, pace->config.idle_bytes);

    return (int)MAX(most / floor_bytes(pace), 1);
}

static int64_t single_most(const BackupPace *pace)
{
    return single_levels(pace) * floor_bytes(pace);
}

static bool doubles(const BackupPace *pace)
{
    return pace->config.target_ns ==
           0; /* to be there soon; with a target small steps meet it better */
}

static int last_level(const BackupPace *pace)
{
    int64_t times = MAX(pace->config.idle_bytes / single_most(pace), 1);
    int more = doubles(pace) ? 63 - __builtin_clzll(times) : (int)MIN(times - 1, INT_MAX / 2);

    return PACE_GAPS + single_levels(pace) - 1 + more;
}

static int first_level(const BackupPace *pace)
{
    return pace->config.target_ns ? 0 : PACE_GAPS;
}

static int start_level(const BackupPace *pace)
{
    return PACE_GAPS + single_levels(pace) - 1;
}

static int64_t level_bytes(const BackupPace *pace, int level)
{
    int singles = single_levels(pace);
    int n = level - PACE_GAPS + 1;

    if (n <= singles) {
        return MAX(n, 1) * floor_bytes(pace);
    }
    return doubles(pace) ? single_most(pace) << (n - singles)
                         : (n - singles + 1) * single_most(pace);
}

static int64_t level_gap_ns(int level)
{
    return level < PACE_GAPS ? PACE_GAP_MAX_NS >> level : 0;
}

/* The limit (P2) */

static int64_t limit_p99_ns(const BackupPace *pace)
{
    if (pace->config.target_ns) {
        return pace->config.target_ns / 100 * PACE_TARGET_PERCENT;
    }
    return pace->base_p99_ns ? pace->base_p99_ns * PACE_TAIL_FACTOR : INT64_MAX;
}

static int64_t limit_p50_ns(const BackupPace *pace)
{
    if (pace->config.target_ns || !pace->base_p50_ns) {
        return INT64_MAX;
    }
    return pace->base_p50_ns * PACE_MEDIAN_PERCENT / 100;
}

/* The window, as a part of the limit: above 1 is too much. */
static double strain(const BackupPace *pace)
{
    double part = pace->config.target_ns ? PACE_TARGET_PART : 0.99;
    double p99 = (double)histogram_percentile(&pace->window, part);
    double p50 = (double)histogram_percentile(&pace->window, 0.5);

    return MAX(p99 / (double)limit_p99_ns(pace), p50 / (double)limit_p50_ns(pace));
}

static int room_percent(const BackupPace *pace)
{
    return pace->config.target_ns ? PACE_ROOM_PERCENT : PACE_PLAIN_ROOM_PERCENT;
}

static bool limit_is_known(const BackupPace *pace)
{
    return pace->config.target_ns || pace->base_p99_ns;
}

/* Steps */

static void window_restart(BackupPace *pace, int64_t now_ns)
{
    histogram_reset(&pace->window);
    pace->window_start_ns = now_ns;
    pace->window_over = 0;
    pace->window_pieces = 0;
    pace->level_used = false;
    pace->settling = pace->in_flight > level_bytes(pace, pace->level);
}

/* P5: the level has failed; one beside it that failed before was the same thing. */
static void avoid(BackupPace *pace, int level, int64_t now_ns)
{
    pace->avoid_ns =
        level == pace->avoid_level ? MIN(pace->avoid_ns * 2, PACE_AVOID_MAX_NS) : PACE_AVOID_NS;
    pace->avoid_level = level;
    pace->avoid_until_ns = now_ns + pace->avoid_ns;
}

/* P5: the level has passed; what failed once was perhaps another's fault. */
static void stop_avoiding(BackupPace *pace)
{
    pace->avoid_ns /= 2;
    if (pace->avoid_ns < PACE_AVOID_NS) {
        pace->avoid_level = NO_LEVEL;
        pace->avoid_ns = 0;
    }
}

/* P8 */
static void level_entered(BackupPace *pace, double below_cost, double below_rate, int64_t now_ns)
{
    pace->level_start_ns = now_ns;
    pace->level_done = 0;
    pace->level_guests = 0;
    pace->level_guests_ns = 0;
    pace->below_cost = below_cost;
    pace->below_rate = below_rate;
}

/* P8: the part of guests' time that they wait for the sweep. */
static double guests_loss(const BackupPace *pace)
{
    double mean;

    if (pace->base_mean_ns <= 0 || pace->level_guests == 0) {
        return 1;
    }
    mean = (double)pace->level_guests_ns / (double)pace->level_guests;
    return MAX(1 - (double)pace->base_mean_ns / mean, 0);
}

/* Bytes of the sweep in a ns on this level; -1: not known yet. */
static double level_rate(const BackupPace *pace, int64_t least_ns, int64_t now_ns)
{
    int64_t ns = now_ns - pace->level_start_ns;

    return ns < least_ns ? -1 : (double)pace->level_done / (double)ns;
}

/* P8: what guests lose on this level by a byte of the sweep, @more or less; -1: not known yet. */
static double level_cost(const BackupPace *pace, double more, int64_t now_ns)
{
    double rate = level_rate(pace, PACE_TRIAL_NS, now_ns);

    return rate <= 0 ? -1 : MAX(guests_loss(pace) + more, 0) / rate;
}

/* P8: after a window the sweep must be faster, after the trial guests must not lose more. */
static bool has_failed_trial(const BackupPace *pace, int64_t now_ns)
{
    double rate = level_rate(pace, PACE_WINDOW_NS, now_ns);

    return pace->below_rate > 0 &&
           ((rate >= 0 && rate * 100 < pace->below_rate * PACE_GAIN_PERCENT) ||
            level_cost(pace, -PACE_LOSS_CHANCE, now_ns) > pace->below_cost);
}

static void step_down(BackupPace *pace, double strained, int64_t now_ns)
{
    int64_t bytes = level_bytes(pace, pace->level);
    int64_t wanted = (int64_t)((double)bytes / MIN(strained, 2.0));
    int level = pace->level;

    if (level == first_level(pace)) {
        /* Is it the sweep at all?  P4 may know better than what was seen before. */
        pace->next_probe_ns = MIN(pace->next_probe_ns, pace->probe_start_ns + PACE_PROBE_AGAIN_NS);
        return;
    }
    avoid(pace, level, now_ns);
    do {
        level--; /* below the floor of bytes each level is half of the one above it */
    } while (level > PACE_GAPS && level_bytes(pace, level) > wanted);
    pace->level = MAX(level, first_level(pace));
    level_entered(pace, 0, 0, now_ns);
}

/* P8.  True: the level is too new to know, or was left. */
static bool is_on_trial(BackupPace *pace, int64_t now_ns)
{
    if (pace->level < start_level(pace)) {
        return false;
    }
    if (has_failed_trial(pace, now_ns)) {
        avoid(pace, pace->level, now_ns);
        pace->level--;
        pace->avoid_ns = PACE_AVOID_MAX_NS;
        pace->avoid_until_ns = now_ns + pace->avoid_ns;
        level_entered(pace, 0, 0, now_ns);
        return true;
    }
    if (level_rate(pace, PACE_TRIAL_NS, now_ns) < 0) {
        return true;
    }
    pace->below_rate = 0;
    return false;
}

static void step_up(BackupPace *pace, int64_t now_ns)
{
    double cost, rate;

    if (pace->level >= pace->avoid_level) {
        stop_avoiding(pace);
    }
    if (pace->level == last_level(pace) || !pace->level_used) {
        return; /* what was not asked for has not been tried */
    }
    if (pace->level + 1 >= pace->avoid_level && now_ns < pace->avoid_until_ns) {
        return;
    }
    cost = level_cost(pace, 0, now_ns);
    rate = level_rate(pace, PACE_TRIAL_NS, now_ns);
    pace->level++;
    level_entered(pace, cost, rate, now_ns);
}

static bool window_is_full(const BackupPace *pace, int64_t now_ns)
{
    uint64_t count = histogram_count(&pace->window);
    int64_t elapsed_ns = now_ns - pace->window_start_ns;
    int64_t gap_ns = level_gap_ns(pace->level);

    if (pace->window_over >= PACE_ALARM_SAMPLES && pace->window_over >= count / 4 &&
        elapsed_ns >= MAX(PACE_ALARM_NS, 2 * gap_ns)) {
        return true;
    }
    /* Two pieces at least: what a piece does to guests is to be seen in its part of the time. */
    if (elapsed_ns < MAX(PACE_WINDOW_NS, 2 * gap_ns)) {
        return false;
    }
    return count >= PACE_SAMPLES ||
           (count >= PACE_SAMPLES_FEW && elapsed_ns >= MAX(PACE_WINDOW_LONG_NS, 2 * gap_ns));
}

static void window_close(BackupPace *pace, int64_t now_ns)
{
    double strained;

    /* Without a piece it says nothing about pieces. */
    if (limit_is_known(pace) && pace->window_pieces > 0) {
        strained = strain(pace);
        pace->strained_windows = strained > 1 ? pace->strained_windows + 1 : 0;
        if (strained > 1) {
            if (pace->config.target_ns || pace->strained_windows >= PACE_PLAIN_STRAINED) {
                step_down(pace, strained, now_ns);
                pace->strained_windows = 0;
            }
        } else if (!is_on_trial(pace, now_ns) && strained * 100 < room_percent(pace)) {
            step_up(pace, now_ns);
        }
    }
    window_restart(pace, now_ns);
}

/* Guests without the sweep (P4) */

static void base_update(BackupPace *pace, int64_t now_ns)
{
    int64_t p99 = MAX(histogram_percentile(&pace->quiet, 0.99), 1);
    int64_t p50 = MAX(histogram_percentile(&pace->quiet, 0.5), 1);
    int64_t mean = MAX(pace->quiet_ns / (int64_t)histogram_count(&pace->quiet), 1);

    pace->base_p99_ns = pace->base_p99_ns ? (pace->base_p99_ns + p99) / 2 : p99;
    pace->base_p50_ns = pace->base_p50_ns ? (pace->base_p50_ns + p50) / 2 : p50;
    pace->base_mean_ns = pace->base_mean_ns ? (pace->base_mean_ns + mean) / 2 : mean;
    histogram_reset(&pace->quiet);
    pace->quiet_ns = 0;
    pace->next_probe_ns = now_ns + PACE_PROBE_EVERY_NS;
}

static void probe_end(BackupPace *pace, int64_t next_ns, int64_t now_ns)
{
    pace->probing = false;
    pace->next_probe_ns = next_ns;
    window_restart(pace, now_ns);
    level_entered(pace, pace->below_cost, pace->below_rate, now_ns); /* it stood still */
}

/* Return: whether the sweep has to stand still for the probe. */
static bool probe(BackupPace *pace, int64_t now_ns)
{
    uint64_t count = histogram_count(&pace->quiet);
    int64_t still_ns = pace->still_since_ns < 0 ? 0 : now_ns - pace->still_since_ns;

    if (pace->config.target_ns) {
        return false; /* the limit is known */
    }
    if (!pace->probing) {
        if (now_ns < pace->next_probe_ns) {
            return false;
        }
        pace->probing = true;
        pace->probe_start_ns = now_ns;
        /* Should guests go before it has seen enough, it is not begun again at once. */
        pace->next_probe_ns = now_ns + PACE_PROBE_AGAIN_NS;
        return true;
    }
    if (still_ns >= PACE_PROBE_STEP_NS && count >= PACE_SAMPLES) {
        base_update(pace, now_ns);
        probe_end(pace, pace->next_probe_ns, now_ns);
        return false;
    }
    if (still_ns >= PACE_PROBE_NS) {
        if (count >= PACE_PROBE_SAMPLES_FEW) {
            base_update(pace, now_ns);
        }
        /* Too few are kept for the next. */
        probe_end(pace, MAX(pace->next_probe_ns, now_ns + PACE_PROBE_AGAIN_NS), now_ns);
        return false;
    }
    return true;
}

/* Rates (P7) */

static bool rate_sample(PaceRate *rate, int64_t least_ns)
{
    int64_t per_second;

    if (rate->ns < least_ns) {
        return false;
    }
    per_second = (int64_t)((double)rate->bytes * NANOSECONDS_PER_SECOND / (double)rate->ns);
    rate->per_second = rate->per_second < 0 ? per_second : (rate->per_second + per_second) / 2;
    rate->bytes = 0;
    rate->ns = 0;
    return true;
}

static void cost_update(BackupPace *pace)
{
    int64_t best =
        pace->idle_rate.per_second >= 0 ? pace->idle_rate.per_second : pace->best_busy_rate;
    int64_t percent = -1;

    if (pace->config.target_ns && pace->busy_rate.per_second >= 0 && best > 0) {
        percent = 100 - (int64_t)((double)pace->busy_rate.per_second * 100 / (double)best);
        percent = MAX(percent, 0);
    }
    __atomic_store_n(&pace->cost_percent, percent, __ATOMIC_RELAXED);
}

/* The time since the last event, before it changes anything. */
static void account(BackupPace *pace, int64_t now_ns)
{
    int64_t end_ns = pace->in_flight > 0 ? now_ns : MIN(now_ns, pace->held_until_ns);
    int64_t busy_end_ns = MIN(end_ns, pace->busy_until_ns);
    int64_t gap_ns = level_gap_ns(pace->level);
    bool news;

    pace->busy_rate.ns += MAX(busy_end_ns - pace->mark_ns, 0);
    pace->idle_rate.ns += MAX(end_ns - MAX(pace->mark_ns, busy_end_ns), 0);
    pace->mark_ns = now_ns;
    news = rate_sample(&pace->busy_rate, PACE_RATE_NS + 4 * gap_ns);
    news = rate_sample(&pace->idle_rate, PACE_RATE_NS) || news;
    if (news) {
        pace->best_busy_rate = MAX(pace->best_busy_rate, pace->busy_rate.per_second);
        cost_update(pace);
    }
}

/* Events */

void backup_pace_init(BackupPace *pace, const BackupPaceConfig *config, int64_t now_ns)
{
    memset(pace, 0, sizeof(*pace));
    pace->config = *config;
    pace->busy_until_ns = now_ns;
    pace->last_done_ns = now_ns - PACE_GAP_MAX_NS;
    pace->window_start_ns = now_ns;
    pace->still_since_ns = now_ns;
    pace->next_probe_ns = now_ns;
    pace->avoid_level = NO_LEVEL;
    pace->mark_ns = now_ns;
    pace->held_until_ns = now_ns;
    pace->busy_rate.per_second = -1;
    pace->idle_rate.per_second = -1;
    pace->recent_start_ns = now_ns;
    pace->cost_percent = -1;
    pace->level = start_level(pace);
}

/* Requests that take longer than that need a longer memory: a slow disk's guest is busy all the time. */
static int64_t busy_ns(const BackupPace *pace)
{
    if (pace->config.target_ns) {
        return PACE_BUSY_TARGET_NS;
    }
    return CLAMP(2 * pace->recent_p99_ns, PACE_BUSY_NS, NANOSECONDS_PER_SECOND);
}

static void guest_is_here(BackupPace *pace, int64_t now_ns)
{
    bool was_busy = backup_pace_guest_is_busy(pace, now_ns);

    account(pace, now_ns);
    pace->busy_until_ns = MAX(pace->busy_until_ns, now_ns + busy_ns(pace));
    if (!was_busy) {
        pace->probing = false;
        window_restart(pace, now_ns);
        level_entered(pace, 0, 0, now_ns);
    }
}

void backup_pace_guest_begin(BackupPace *pace, int64_t now_ns)
{
    guest_is_here(pace, now_ns);
}

static void recent_add(BackupPace *pace, int64_t latency_ns, int64_t now_ns)
{
    histogram_add(&pace->recent, latency_ns);
    if (now_ns - pace->recent_start_ns < BACKUP_RATE_NS) {
        return;
    }
    __atomic_store_n(&pace->recent_p99_ns, histogram_percentile(&pace->recent, 0.99),
                     __ATOMIC_RELAXED);
    __atomic_store_n(&pace->recent_at_ns, now_ns, __ATOMIC_RELAXED);
    histogram_reset(&pace->recent);
    pace->recent_start_ns = now_ns;
}

void backup_pace_guest_done(BackupPace *pace, int64_t latency_ns, int64_t now_ns)
{
    int64_t begin_ns = now_ns - MAX(latency_ns, 0);

    guest_is_here(pace, now_ns);
    recent_add(pace, latency_ns, now_ns);
    if (pace->still_since_ns >= 0 && begin_ns >= pace->still_since_ns &&
        (pace->probing || now_ns - pace->still_since_ns >= PACE_PROBE_STEP_NS)) {
        /* Only of a long stillness: of a short one the requests that fit in it would be the short ones. */
        histogram_add(&pace->quiet, latency_ns);
        pace->quiet_ns += MAX(latency_ns, 0);
        if (!pace->probing && histogram_count(&pace->quiet) >= PACE_QUIET_SAMPLES) {
            base_update(pace, now_ns);
        }
    }
    if (pace->probing || pace->settling || begin_ns < pace->window_start_ns) { /* P3 */
        return;
    }
    histogram_add(&pace->window, latency_ns);
    pace->level_guests++;
    pace->level_guests_ns += MAX(latency_ns, 0);
    pace->window_over += latency_ns > limit_p99_ns(pace);
    if (window_is_full(pace, now_ns)) {
        window_close(pace, now_ns);
    }
}

void backup_pace_sweep_begin(BackupPace *pace, int64_t bytes, int64_t now_ns)
{
    account(pace, now_ns);
    pace->in_flight += bytes;
    pace->still_since_ns = -1;
    if (level_gap_ns(pace->level) > 0) {
        pace->level_used = true; /* it allows one at a time */
    }
}

void backup_pace_sweep_done(BackupPace *pace, int64_t bytes, int64_t now_ns)
{
    bool busy = backup_pace_guest_is_busy(pace, now_ns);

    assert(pace->in_flight >= bytes);
    account(pace, now_ns);
    pace->in_flight -= bytes;
    pace->last_done_ns = now_ns;
    pace->window_pieces++;
    pace->level_done += bytes;
    (busy ? &pace->busy_rate : &pace->idle_rate)->bytes += bytes;
    backup_rate_add(&pace->sweep_rate, bytes, now_ns);
    if (pace->in_flight == 0) {
        pace->still_since_ns = now_ns;
    }
    if (pace->settling && pace->in_flight <= level_bytes(pace, pace->level)) {
        window_restart(pace, now_ns); /* P3 */
    }
}

/* Answers */

bool backup_pace_guest_is_busy(const BackupPace *pace, int64_t now_ns)
{
    return now_ns < pace->busy_until_ns;
}

int64_t backup_pace_in_flight_bytes(const BackupPace *pace, int64_t now_ns)
{
    if (!backup_pace_guest_is_busy(pace, now_ns)) {
        return MAX(pace->config.idle_bytes, floor_bytes(pace));
    }
    return level_bytes(pace, pace->level);
}

int64_t backup_pace_piece_bytes(const BackupPace *pace, int64_t now_ns)
{
    int64_t most = MAX(pace->config.piece_bytes, floor_bytes(pace)), bytes;

    if (!backup_pace_guest_is_busy(pace, now_ns)) {
        return most;
    }
    bytes = level_bytes(pace, pace->level);
    /* P1: two at once, one being read while the other is written; one where each is weighed (P2). */
    bytes =
        pace->config.target_ns ? MIN(bytes, single_most(pace)) : MIN(bytes / 2, PACE_PIECE_BYTES);
    return MIN(most, QEMU_ALIGN_UP(bytes, floor_bytes(pace)));
}

bool backup_pace_is_full(BackupPace *pace, int64_t now_ns)
{
    bool full = pace->in_flight > 0 && pace->in_flight + backup_pace_piece_bytes(pace, now_ns) >
                                           backup_pace_in_flight_bytes(pace, now_ns);

    pace->level_used |= full;
    return full;
}

int64_t backup_pace_delay_ns(BackupPace *pace, int64_t now_ns)
{
    int64_t delay_ns = 0;

    account(pace, now_ns);
    if (!backup_pace_guest_is_busy(pace, now_ns)) {
        pace->probing = false;
    } else if (probe(pace, now_ns)) {
        delay_ns = PACE_PROBE_STEP_NS;
    } else {
        delay_ns = MAX(pace->last_done_ns + level_gap_ns(pace->level) - now_ns, 0);
    }
    pace->held_until_ns = now_ns + delay_ns;
    return delay_ns;
}

void backup_pace_query(const BackupPace *pace, int64_t now_ns, BlockJobInfoBackup *info)
{
    int64_t at_ns = __atomic_load_n(&pace->recent_at_ns, __ATOMIC_RELAXED);
    int64_t p99_ns = __atomic_load_n(&pace->recent_p99_ns, __ATOMIC_RELAXED);
    int64_t cost = __atomic_load_n(&pace->cost_percent, __ATOMIC_RELAXED);

    if (at_ns > 0 && now_ns - at_ns <= BACKUP_RATE_STALE_NS) {
        info->guest_latency_p99_us = DIV_ROUND_UP(p99_ns, SCALE_US);
    }
    info->sweep_rate = backup_rate_get(&pace->sweep_rate, now_ns);
    if (pace->config.target_ns) {
        info->has_latency_target = true;
        info->latency_target = (uint32_t)(pace->config.target_ns / SCALE_US);
        info->has_latency_cost_percent = cost >= 0;
        info->latency_cost_percent = MAX(cost, 0);
    }
}
