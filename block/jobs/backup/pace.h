/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pace: how much of the sweep may be in front of guests' requests.  The chapter comment is in pace.c.
 *
 * Fed with guests' requests on the source and with the sweep's pieces; asked by the sweep's planner.  All
 * times are nanoseconds of one steady clock, given by the caller and never going back.
 * Context: the job's AioContext; backup_pace_query(): any thread.  Nothing here yields or allocates.
 */
#ifndef BLOCK_JOBS_BACKUP_PACE_H
#define BLOCK_JOBS_BACKUP_PACE_H

#include "block/jobs/backup/report.h"
#include "util/histogram.h"

/*
 * For so long after a request guests count as busy: a guest that waits for each of its requests comes
 * back sooner; what does not come back in this time can wait for a piece once.
 */
#define PACE_BUSY_NS        (20 * SCALE_MS)
/* With a latency target also a guest that asks for something only now and then has a right to it. */
#define PACE_BUSY_TARGET_NS NANOSECONDS_PER_SECOND

/* In flight at first, while guests are busy: a good value on disks it was tried on. */
#define PACE_START_BYTES (256 * KiB)
/* P1.  The longest piece beside guests: longer ones are hardly faster, and each stands in front of somebody. */
#define PACE_PIECE_BYTES (512 * KiB)

/*
 * P2.  Without a target: what no guest should be made to bear, whatever the sweep gains by it.  Below that P8
 * decides.  A sweep that is slow is not kinder: it takes so much longer that the guest gets less done in all
 * (measured with a guest that waits for each request, over the same five seconds: 256 KiB in flight, a backup of
 * 3.4 s and 0.56 of the requests made without it; 1 MiB in flight, 2.05 s and 0.67).
 */
#define PACE_TAIL_FACTOR        8
#define PACE_MEDIAN_PERCENT     600
#define PACE_PLAIN_ROOM_PERCENT 80
/* Windows in a row over the limit: disks stall now and then all by themselves. */
#define PACE_PLAIN_STRAINED     2
/*
 * P2.  With one: slow down before it is reached, not after.  Where a few requests meet a piece and most do
 * not, how many is chance: half of the one in a hundred is left for that.
 */
#define PACE_TARGET_PART        0.995
#define PACE_TARGET_PERCENT     90
/* What is below this much of the limit has room for more; between the two nothing changes. */
#define PACE_ROOM_PERCENT       80

/* A window: short enough to answer a change of load, long enough for a p99 that is more than chance. */
#define PACE_WINDOW_NS      (100 * SCALE_MS)
#define PACE_WINDOW_LONG_NS NANOSECONDS_PER_SECOND
#define PACE_SAMPLES        32
#define PACE_SAMPLES_FEW    4
/* So many that are over the limit, and a quarter of all, end a window at once. */
#define PACE_ALARM_SAMPLES  8
#define PACE_ALARM_NS       (10 * SCALE_MS)

/*
 * P4.  To see guests without it, the sweep stands still for 2% of the time at the most; for 10% while they ask
 * for too little to be known.
 */
#define PACE_PROBE_NS          (100 * SCALE_MS)
#define PACE_PROBE_STEP_NS     (20 * SCALE_MS)
#define PACE_PROBE_SAMPLES_FEW 8
/* Where the sweep stands still by itself, what was seen of so many is taken over. */
#define PACE_QUIET_SAMPLES     256
#define PACE_PROBE_EVERY_NS    (5 * NANOSECONDS_PER_SECOND)
#define PACE_PROBE_AGAIN_NS    NANOSECONDS_PER_SECOND

/* P5.  How long a step that was too much is not tried again: at first, and after it has failed often. */
#define PACE_AVOID_NS     NANOSECONDS_PER_SECOND
#define PACE_AVOID_MAX_NS (16 * NANOSECONDS_PER_SECOND)

/* P8.  So long a level is tried, and so much faster than the one below it must be. */
#define PACE_TRIAL_NS     (300 * SCALE_MS)
#define PACE_GAIN_PERCENT 108
/* And so much more of guests' time lost may be chance: of some dozen requests the mean is not known better. */
#define PACE_LOSS_CHANCE  0.1

/* P6.  Pauses between single pieces, each half of the one before; the longest leaves the job some progress. */
#define PACE_GAPS       9
#define PACE_GAP_MAX_NS NANOSECONDS_PER_SECOND

/* A rate of the sweep, for the cost of the target, is that of so much of its time. */
#define PACE_RATE_NS (500 * SCALE_MS)

typedef struct BackupPaceConfig {
    int64_t cluster_bytes; /* the smallest piece */
    int64_t piece_bytes;   /* the largest, while no guest is busy; in whole clusters */
    int64_t idle_bytes;    /* in flight, while no guest is busy */
    int64_t target_ns;     /* for the p99 of guests' requests; 0: none */
} BackupPaceConfig;

/* Bytes of the sweep in the time that it was at work, or held back by its pace. */
typedef struct PaceRate {
    int64_t bytes, ns;
    int64_t per_second; /* lately; -1: not known yet */
} PaceRate;

typedef struct BackupPace {
    /* Fixed. */
    BackupPaceConfig config;

    /* Job's AioContext. */
    int64_t in_flight;     /* bytes of the sweep */
    int64_t busy_until_ns; /* guests are, until then */
    int64_t last_done_ns;  /* a piece of the sweep */
    int level;             /* P1 */
    bool level_used;       /* the sweep has asked for all that it allows, in this window */
    bool settling;         /* P3: more is in flight than the level allows */
    Histogram window;      /* P3: guests' requests under this level */
    int64_t window_start_ns;
    unsigned window_over;      /* requests in it over the limit */
    unsigned window_pieces;    /* of the sweep that ended in it */
    unsigned strained_windows; /* in a row, until now */

    Histogram quiet;                  /* P4: guests' requests without the sweep */
    int64_t quiet_ns;                 /* of all of them */
    int64_t base_mean_ns;             /* as the next two */
    int64_t still_since_ns;           /* nothing of the sweep is in flight; -1: something is */
    int64_t base_p99_ns, base_p50_ns; /* P4; 0: not known yet */
    bool probing;
    int64_t probe_start_ns, next_probe_ns;

    int64_t level_start_ns, level_done; /* P8 */
    int64_t level_guests, level_guests_ns;
    double below_cost, below_rate;

    int avoid_level; /* P5 */
    int64_t avoid_until_ns, avoid_ns;

    int64_t mark_ns, held_until_ns; /* P7 */
    PaceRate busy_rate, idle_rate;
    int64_t best_busy_rate;

    Histogram recent; /* all of guests' requests, for who asks */
    int64_t recent_start_ns;

    /* Written in the job's AioContext, read anywhere. */
    BackupRate sweep_rate;
    int64_t recent_p99_ns, recent_at_ns; /* atomic */
    int64_t cost_percent;                /* atomic; -1: not known */
} BackupPace;

void backup_pace_init(BackupPace *pace, const BackupPaceConfig *config, int64_t now_ns);

/* A guest's read or write of the source has begun; a hint, may be left out for some. */
void backup_pace_guest_begin(BackupPace *pace, int64_t now_ns);
/* It has ended, @latency_ns after it began.  Not flushes, whose time is another's. */
void backup_pace_guest_done(BackupPace *pace, int64_t latency_ns, int64_t now_ns);
/* A piece of the sweep begins to read, and has been written (or has failed). */
void backup_pace_sweep_begin(BackupPace *pace, int64_t bytes, int64_t now_ns);
void backup_pace_sweep_done(BackupPace *pace, int64_t bytes, int64_t now_ns);

bool backup_pace_guest_is_busy(const BackupPace *pace, int64_t now_ns);
/* At most so much in flight; at least one cluster. */
int64_t backup_pace_in_flight_bytes(const BackupPace *pace, int64_t now_ns);
/* The next piece, in whole clusters. */
int64_t backup_pace_piece_bytes(const BackupPace *pace, int64_t now_ns);
/* No further piece now: ask again when one has ended. */
bool backup_pace_is_full(BackupPace *pace, int64_t now_ns);
/*
 * How long to wait before the next piece; 0 mostly.  Ask again after it, until it is 0; let what is in
 * flight end meanwhile.
 */
int64_t backup_pace_delay_ns(BackupPace *pace, int64_t now_ns);

/* Fills in guest-latency-p99-us, sweep-rate, latency-target and latency-cost-percent. */
void backup_pace_query(const BackupPace *pace, int64_t now_ns, BlockJobInfoBackup *info);

#endif
