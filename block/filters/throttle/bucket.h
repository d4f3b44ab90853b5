/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Leaky buckets: how much may pass now, and how long to wait if none.
 *
 *      requests pour in their units
 *            |
 *        |   v   |  -- capacity: a burst that passes at once
 *        |=======|  -- level
 *        +--\ /--+
 *            | avg units a second leak out
 *
 * A request may pass while the level is not above the capacity; it then pours in all of its units, so
 * a large one overflows the bucket and those after it wait for the excess to leak.
 *
 *   without max       capacity is a tenth of a second's worth of avg
 *   with max          capacity is max * length seconds: so long may the rate be max
 *   length > 1        a second bucket leaks at max, or the burst would pass in an instant
 *
 * Plain arithmetic; the caller locks and brings the time.
 */
#ifndef BLOCK_FILTERS_THROTTLE_BUCKET_H
#define BLOCK_FILTERS_THROTTLE_BUCKET_H

#include "qapi/qapi-types-block-core.h"
#include "util/error.h"

typedef enum BucketType {
    BUCKET_BPS_TOTAL,
    BUCKET_BPS_READ,
    BUCKET_BPS_WRITE,
    BUCKET_OPS_TOTAL,
    BUCKET_OPS_READ,
    BUCKET_OPS_WRITE,
    BUCKETS_COUNT,
} BucketType;

typedef struct LeakyBucket {
    /* The limit. */
    double avg;    /* units a second; 0: none */
    double max;    /* units a second while bursting; 0: none */
    double length; /* seconds a burst may last, >= 1 */
    /* The state. */
    double level;
    double burst_level;
} LeakyBucket;

typedef struct Throttle {
    LeakyBucket buckets[BUCKETS_COUNT];
    double op_size; /* bytes that count as one operation; 0: any number does */
    int64_t leaked_at_ns;
} Throttle;

/* 0, or -EINVAL with @errp: the limits make no sense.  Sets limits only. */
int throttle_parse(Throttle *t, const ThrottleLimits *limits, Error **errp);
/* Take over the limits of @from; levels stay, as far as they fit. */
void throttle_take_limits(Throttle *t, const Throttle *from);
bool throttle_enabled(const Throttle *t);
/* Nanoseconds until a request may pass; 0: now.  Lets leak first. */
int64_t throttle_wait_ns(Throttle *t, bool is_write, int64_t now_ns);
void throttle_charge(Throttle *t, bool is_write, int64_t bytes);

#endif
