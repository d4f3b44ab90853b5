/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The arithmetic of bucket.h, and which limits make sense. */
#include <errno.h>
#include <math.h>
#include "block/filters/throttle/bucket.h"
#include "util/osdep.h"

/* Largest rate: products with a burst length in seconds stay exact enough in a double. */
#define THROTTLE_VALUE_MAX INT64_C(1000000000000000)
#define BURST_LENGTH_MAX   UINT32_MAX

typedef struct GivenLimit {
    bool has_avg, has_max, has_length;
    int64_t avg, max, length;
} GivenLimit;

#define GIVEN(l, name)                                                                   \
    {                                                                                    \
        (l)->has_##name, (l)->has_##name##_max, (l)->has_##name##_max_length, (l)->name, \
            (l)->name##_max, (l)->name##_max_length                                      \
    }

static int parse_bucket(LeakyBucket *b, const GivenLimit *g, Error **errp)
{
    int64_t avg = g->has_avg ? g->avg : 0;
    int64_t max = g->has_max ? g->max : 0;
    int64_t length = g->has_length ? g->length : 1;

    if (avg < 0 || max < 0 || length < 0) {
        error_setg(errp, "Property values cannot be negative");
        return -EINVAL;
    }
    if (avg > THROTTLE_VALUE_MAX || max > THROTTLE_VALUE_MAX) {
        error_setg(errp, "bps/iops/max values must be within [0, %" G_GINT64_FORMAT "]",
                   THROTTLE_VALUE_MAX);
        return -EINVAL;
    }
    if (length == 0) {
        error_setg(errp, "the burst length cannot be 0");
        return -EINVAL;
    }
    if (length > (int64_t)BURST_LENGTH_MAX) {
        error_setg(errp, "the burst length must be within [1, %u]", BURST_LENGTH_MAX);
        return -EINVAL;
    }
    if (length > 1 && !max) {
        error_setg(errp, "burst length set without burst rate");
        return -EINVAL;
    }
    if (max && length > THROTTLE_VALUE_MAX / max) {
        error_setg(errp, "burst length too high for this burst rate");
        return -EINVAL;
    }
    if (max && !avg) {
        error_setg(errp, "bps_max/iops_max require corresponding bps/iops values");
        return -EINVAL;
    }
    if (max && max < avg) {
        error_setg(errp, "bps_max/iops_max cannot be lower than bps/iops");
        return -EINVAL;
    }
    *b = (LeakyBucket){.avg = avg, .max = max, .length = length};
    return 0;
}

static bool total_and_parts(const LeakyBucket *total, const LeakyBucket *r, const LeakyBucket *w)
{
    return (total->avg != 0 && (r->avg != 0 || w->avg != 0)) ||
           (total->max != 0 && (r->max != 0 || w->max != 0));
}

int throttle_parse(Throttle *t, const ThrottleLimits *limits, Error **errp)
{
    static const ThrottleLimits none;
    const ThrottleLimits *l = limits ? limits : &none;
    const GivenLimit given[BUCKETS_COUNT] = {
        [BUCKET_BPS_TOTAL] = GIVEN(l, bps_total), [BUCKET_BPS_READ] = GIVEN(l, bps_read),
        [BUCKET_BPS_WRITE] = GIVEN(l, bps_write), [BUCKET_OPS_TOTAL] = GIVEN(l, iops_total),
        [BUCKET_OPS_READ] = GIVEN(l, iops_read),  [BUCKET_OPS_WRITE] = GIVEN(l, iops_write),
    };
    LeakyBucket *b = t->buckets;
    int64_t op_size = l->has_iops_size ? l->iops_size : 0;

    *t = (Throttle){0};
    for (int i = 0; i < BUCKETS_COUNT; i++) {
        int ret = parse_bucket(&b[i], &given[i], errp);

        if (ret < 0) {
            return ret;
        }
    }
    if (total_and_parts(&b[BUCKET_BPS_TOTAL], &b[BUCKET_BPS_READ], &b[BUCKET_BPS_WRITE]) ||
        total_and_parts(&b[BUCKET_OPS_TOTAL], &b[BUCKET_OPS_READ], &b[BUCKET_OPS_WRITE])) {
        error_setg(errp, "bps/iops/max total values and read/write values cannot be used at the "
                         "same time");
        return -EINVAL;
    }
    if (op_size < 0 || op_size > THROTTLE_VALUE_MAX) {
        error_setg(errp, "iops size must be within [0, %" G_GINT64_FORMAT "]", THROTTLE_VALUE_MAX);
        return -EINVAL;
    }
    if (op_size && b[BUCKET_OPS_TOTAL].avg == 0 && b[BUCKET_OPS_READ].avg == 0 &&
        b[BUCKET_OPS_WRITE].avg == 0) {
        error_setg(errp, "iops size requires an iops value to be set");
        return -EINVAL;
    }
    t->op_size = op_size;
    return 0;
}

static double capacity(const LeakyBucket *b)
{
    return b->max > 0 ? b->max * b->length : b->avg / 10;
}

static double burst_capacity(const LeakyBucket *b)
{
    return b->max / 10;
}

static bool has_burst_bucket(const LeakyBucket *b)
{
    return b->max > 0 && b->length > 1;
}

void throttle_take_limits(Throttle *t, const Throttle *from)
{
    for (int i = 0; i < BUCKETS_COUNT; i++) {
        LeakyBucket *b = &t->buckets[i];
        double level = b->level, burst_level = b->burst_level;

        *b = from->buckets[i];
        /* A debt made under other limits is forgiven; a burst already used up is not given again. */
        b->level = MIN(level, capacity(b));
        b->burst_level = MIN(burst_level, burst_capacity(b));
    }
    t->op_size = from->op_size;
}

bool throttle_enabled(const Throttle *t)
{
    for (int i = 0; i < BUCKETS_COUNT; i++) {
        if (t->buckets[i].avg > 0) {
            return true;
        }
    }
    return false;
}

static void leak(Throttle *t, int64_t now_ns)
{
    double seconds = (double)MAX(now_ns - t->leaked_at_ns, 0) / NANOSECONDS_PER_SECOND;

    t->leaked_at_ns = now_ns;
    for (int i = 0; i < BUCKETS_COUNT; i++) {
        LeakyBucket *b = &t->buckets[i];

        b->level = MAX(b->level - b->avg * seconds, 0);
        b->burst_level = MAX(b->burst_level - b->max * seconds, 0);
    }
}

static double excess_seconds(double level, double full, double rate)
{
    return level > full ? (level - full) / rate : 0;
}

static double bucket_wait_seconds(const LeakyBucket *b)
{
    double wait, burst;

    if (b->avg <= 0) {
        return 0;
    }
    wait = excess_seconds(b->level, capacity(b), b->avg);
    if (!has_burst_bucket(b)) {
        return wait;
    }
    burst = excess_seconds(b->burst_level, burst_capacity(b), b->max);
    return MAX(wait, burst);
}

static const BucketType buckets_of[2][4] = {
    {BUCKET_BPS_TOTAL, BUCKET_OPS_TOTAL, BUCKET_BPS_READ, BUCKET_OPS_READ},
    {BUCKET_BPS_TOTAL, BUCKET_OPS_TOTAL, BUCKET_BPS_WRITE, BUCKET_OPS_WRITE},
};

int64_t throttle_wait_ns(Throttle *t, bool is_write, int64_t now_ns)
{
    double wait = 0;

    leak(t, now_ns);
    for (size_t i = 0; i < ARRAY_SIZE(buckets_of[0]); i++) {
        double w = bucket_wait_seconds(&t->buckets[buckets_of[is_write][i]]);

        wait = MAX(wait, w);
    }
    /* Rounded up, or the timer would fire with a crumb still above the brim. */
    return (int64_t)ceil(wait * NANOSECONDS_PER_SECOND);
}

void throttle_charge(Throttle *t, bool is_write, int64_t bytes)
{
    double ops = t->op_size > 0 && bytes > t->op_size ? bytes / t->op_size : 1;

    for (size_t i = 0; i < ARRAY_SIZE(buckets_of[0]); i++) {
        BucketType type = buckets_of[is_write][i];
        double units = type >= BUCKET_OPS_TOTAL ? ops : bytes;

        t->buckets[type].level += units;
        t->buckets[type].burst_level += units;
    }
}
