/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How much may be under way: as much as the link carries in one round trip, twice.
 *
 *     bytes under way
 *       16 MiB |- - - - - - - - - - - - - - - - - - -  NBD_IN_FLIGHT_BYTES
 *              |            ________        ________
 *              |        ___/        |      /           2 x rate x round trip
 *              |     __/            |     /
 *        1 MiB |- - /- - - - - - - -|- - /- - - - - -  NBD_WINDOW_MIN
 *              |                    |___/
 *              +--------------------------------------> time
 *               at first: doubles   look again
 *               as long as the rate grows
 *
 * What is sent beyond that only queues up, in front of the next request that is in a hurry.
 *
 * W1  The round trip is the mean time of requests that found nothing under way: those that queue say
 *     how long the queue is.  A mean, for behind a server there are disks, whose best time is the
 *     cache's.  When no request has gone alone for NBD_WINDOW_ALONE_NS, the next few have to.
 * W2  The rate is the best of the last 5 to 10 seconds in which requests waited here.  Where none
 *     did, it is the clients' rate, which says nothing about the link: it raises the best and never
 *     lowers it.
 * W3  Twice, so that a rate that is held down by the window itself doubles the window; and at least two
 *     of the request in question, so that one is carried while another is answered.
 *
 * Nothing here knows a clock, a socket or a coroutine.  Times in nanoseconds, rates in bytes a second.
 */
#include "block/drivers/nbd/nbd-int.h"

/* A rate is measured over as much at least: less is the rhythm of the server's threads. */
#define EPOCH_MIN_NS  (50 * SCALE_MS)
/* Nothing was under way for as long: the time until now belongs to no rate. */
#define IDLE_NS       (10 * SCALE_MS)
/* W2 */
#define RATE_TURN_NS  (5 * NANOSECONDS_PER_SECOND)
/* W1: the cost is this many round trips in each NBD_WINDOW_ALONE_NS. */
#define ALONE_SAMPLES 2

static int64_t rate_of(const NbdWindow *w)
{
    return MAX(w->rate[0], w->rate[1]);
}

int64_t nbd_window_bytes(const NbdWindow *w)
{
    double bytes = 2.0 * rate_of(w) * w->trip_ns / NANOSECONDS_PER_SECOND;

    return bytes >= NBD_IN_FLIGHT_BYTES ? NBD_IN_FLIGHT_BYTES : MAX((int64_t)bytes, NBD_WINDOW_MIN);
}

bool nbd_window_has_room(NbdWindow *w, int64_t now, int64_t in_flight, int64_t bytes)
{
    int64_t most = MIN(MAX(nbd_window_bytes(w), 2 * bytes), NBD_IN_FLIGHT_BYTES); /* W3 */

    if (in_flight == 0) {
        return true;
    }
    if (w->alone_left == 0 && now - w->alone_ns >= NBD_WINDOW_ALONE_NS) {
        w->alone_left = ALONE_SAMPLES;
    }
    if (w->alone_left > 0 || in_flight + bytes > most) {
        w->full = true;
        return false;
    }
    return true;
}

void nbd_window_sent(NbdWindow *w, int64_t now, int64_t in_flight)
{
    if (w->epoch_ns == 0 || (in_flight == 0 && now - w->answered_ns > IDLE_NS)) {
        w->epoch_ns = now;
        w->epoch_bytes = 0;
    }
}

/* W1 */
static void learn_trip(NbdWindow *w, int64_t now, int64_t trip_ns)
{
    w->trip_ns = w->trip_ns ? (3 * w->trip_ns + trip_ns) / 4 : trip_ns;
    w->alone_ns = now;
    w->alone_left -= w->alone_left > 0;
}

/* W2 */
static void learn_rate(NbdWindow *w, int64_t now, int64_t rate)
{
    if (w->full && now - w->turn_ns >= RATE_TURN_NS) {
        w->rate[1] = w->rate[0];
        w->rate[0] = rate;
        w->turn_ns = now;
    }
    w->rate[0] = MAX(w->rate[0], rate);
}

bool nbd_window_answered(NbdWindow *w, int64_t now, int64_t bytes, bool alone, int64_t trip_ns)
{
    int64_t epoch = now - w->epoch_ns;

    if (alone) {
        learn_trip(w, now, MAX(trip_ns, 1));
    }
    w->answered_ns = now;
    w->epoch_bytes += bytes;
    if (epoch < MAX(EPOCH_MIN_NS, w->trip_ns)) {
        return false;
    }
    learn_rate(w, now, (double)w->epoch_bytes * NANOSECONDS_PER_SECOND / epoch);
    w->epoch_ns = now;
    w->epoch_bytes = 0;
    w->full = false;
    return true;
}
