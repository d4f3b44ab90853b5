/* SPDX-License-Identifier: GPL-2.0-or-later */
/* block/drivers/nbd/window.c, on links that are made of arithmetic: W1 to W3. */
#include "tests/unit/drivers/nbd-story.h"

/* A server behind a link: each answer takes the trip, and its bytes go one after another. */
typedef struct Link {
    int64_t rate; /* bytes a second */
    int64_t trip_ns;
    int64_t free_ns;
} Link;

#define MODEL_REQUESTS_MAX 4096

typedef struct Flight {
    int64_t sent_ns, done_ns, bytes;
    bool alone;
} Flight;

/* Clients that always want to send the next request of @bytes. */
typedef struct Model {
    NbdWindow window;
    Link link;
    int64_t now, bytes;
    unsigned clients;

    Flight flights[MODEL_REQUESTS_MAX]; /* in order of their ends: the link keeps it */
    unsigned first, count;
    int64_t in_flight, most, delivered;
} Model;

static void model_send(Model *m)
{
    Flight *f = &m->flights[(m->first + m->count++) % MODEL_REQUESTS_MAX];

    nbd_window_sent(&m->window, m->now, m->in_flight);
    m->link.free_ns = MAX(m->link.free_ns, m->now + m->link.trip_ns) +
                      m->bytes * NANOSECONDS_PER_SECOND / m->link.rate;
    *f = (Flight){.sent_ns = m->now,
                  .done_ns = m->link.free_ns,
                  .bytes = m->bytes,
                  .alone = m->in_flight == 0};
    m->in_flight += m->bytes;
    m->most = MAX(m->most, m->in_flight);
}

static void model_run(Model *m, int64_t ns)
{
    int64_t end = m->now + ns;

    m->most = m->delivered = 0;
    while (m->now < end) {
        Flight *f;

        while (m->count < m->clients &&
               nbd_window_has_room(&m->window, m->now, m->in_flight, m->bytes)) {
            model_send(m);
        }
        f = &m->flights[m->first];
        m->now = f->done_ns;
        m->first = (m->first + 1) % MODEL_REQUESTS_MAX;
        m->count--;
        nbd_window_answered(&m->window, m->now, f->bytes, f->alone, m->now - f->sent_ns);
        m->in_flight -= f->bytes;
        m->delivered += f->bytes;
        g_assert_cmpint(m->in_flight, <=, MAX(NBD_IN_FLIGHT_BYTES, m->bytes));
    }
}

static Model *model_new(int64_t rate, int64_t trip_ns, int64_t bytes, unsigned clients)
{
    Model *m = g_new0(Model, 1);

    *m = (Model){.link = {.rate = rate, .trip_ns = trip_ns},
                 .now = NANOSECONDS_PER_SECOND,
                 .bytes = bytes,
                 .clients = clients};
    return m;
}

static double speed(const Model *m, double seconds)
{
    return m->delivered / seconds / m->link.rate;
}

static void a_slow_link_has_little_queued_on_it(void)
{
    static const int64_t rates[] = {MiB, 10 * MiB, 40 * MiB, 100 * MiB};
    static const int64_t sizes[] = {4 * KiB, 64 * KiB, 256 * KiB, MiB};

    for (size_t r = 0; r < ARRAY_SIZE(rates); r++) {
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
            g_autofree Model *m = model_new(rates[r], SCALE_MS, sizes[i], 1024);

            model_run(m, 5 * NANOSECONDS_PER_SECOND);
            model_run(m, 100 * NANOSECONDS_PER_SECOND);
            g_assert_cmpint(m->most, <=, MAX(NBD_WINDOW_MIN, 2 * sizes[i]));
            g_assert_cmpfloat(speed(m, 100), >, 0.97);
        }
    }
}

static void a_long_link_is_filled(void)
{
    static const struct {
        int64_t rate, trip_ns;
    } links[] = {
        {125 * MiB, 100 * SCALE_MS}, {1024 * MiB, 10 * SCALE_MS}, {40 * MiB, 100 * SCALE_MS}};
    static const int64_t sizes[] = {64 * KiB, 256 * KiB, MiB, 4 * MiB};

    for (size_t l = 0; l < ARRAY_SIZE(links); l++) {
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
            g_autofree Model *m = model_new(links[l].rate, links[l].trip_ns, sizes[i], 1024);
            int64_t product = m->link.rate * m->link.trip_ns / NANOSECONDS_PER_SECOND;

            model_run(m, 3 * NANOSECONDS_PER_SECOND); /* it grows as fast as that */
            model_run(m, 300 * NANOSECONDS_PER_SECOND);
            g_assert_cmpint(m->most, <=, 3 * MAX(product, NBD_WINDOW_MIN) + 2 * sizes[i]);
            g_assert_cmpfloat(speed(m, 300), >, 0.90);
        }
    }
}

/* W1: what is queued does not make the round trip longer, and the queue longer, and so on. */
static void the_window_does_not_feed_on_itself(void)
{
    g_autofree Model *m = model_new(40 * MiB, 20 * SCALE_MS, 64 * KiB, 1024);
    int64_t early;

    model_run(m, 5 * NANOSECONDS_PER_SECOND);
    early = nbd_window_bytes(&m->window);
    model_run(m, 3600 * NANOSECONDS_PER_SECOND);
    g_assert_cmpint(m->most, <=, 2 * early);
    g_assert_cmpfloat(speed(m, 3600), >, 0.97);
}

/* W1, W2: within half a minute. */
static void a_link_that_changes_is_learnt_anew(void)
{
    g_autofree Model *m = model_new(1024 * MiB, 5 * SCALE_MS, 64 * KiB, 1024);

    model_run(m, 10 * NANOSECONDS_PER_SECOND);
    g_assert_cmpint(nbd_window_bytes(&m->window), >, 8 * MiB);
    m->link.rate = 10 * MiB;
    model_run(m, 45 * NANOSECONDS_PER_SECOND);
    model_run(m, 60 * NANOSECONDS_PER_SECOND);
    g_assert_cmpint(m->most, <=, NBD_WINDOW_MIN);
    m->link.rate = 100 * MiB;
    m->link.trip_ns = 50 * SCALE_MS;
    model_run(m, 45 * NANOSECONDS_PER_SECOND);
    model_run(m, 60 * NANOSECONDS_PER_SECOND);
    g_assert_cmpfloat(speed(m, 60), >, 0.95);
}

/* W2: a client that sends one small request after another does not lower what the link can do. */
static void a_quiet_hour_does_not_close_the_window(void)
{
    g_autofree Model *m = model_new(125 * MiB, 100 * SCALE_MS, 64 * KiB, 1024);
    int64_t open;

    model_run(m, 10 * NANOSECONDS_PER_SECOND);
    open = nbd_window_bytes(&m->window);
    g_assert_cmpint(open, >, 12 * MiB);
    m->clients = 1;
    m->bytes = 4 * KiB;
    model_run(m, 3600 * NANOSECONDS_PER_SECOND);
    g_assert_cmpint(nbd_window_bytes(&m->window), >=, open / 2);
}

void nbd_window_tests(void)
{
    g_test_add_func("/nbd/window/a slow link has little queued on it",
                    a_slow_link_has_little_queued_on_it);
    g_test_add_func("/nbd/window/a long link is filled", a_long_link_is_filled);
    g_test_add_func("/nbd/window/the window does not feed on itself",
                    the_window_does_not_feed_on_itself);
    g_test_add_func("/nbd/window/a link that changes is learnt anew",
                    a_link_that_changes_is_learnt_anew);
    g_test_add_func("/nbd/window/a quiet hour does not close the window",
                    a_quiet_hour_does_not_close_the_window);
}
