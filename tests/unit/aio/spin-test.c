/* SPDX-License-Identifier: GPL-2.0-or-later */
/* spin-test.c - when a context looks at the ring rather than sleep (P1 to P3 in aio/spin.c) */
#include <glib.h>
#include "aio/spin.h"

enum { DEEP = 32 };

static bool seen_after(void *opaque)
{
    int *looks = opaque;

    return (*looks)-- == 0;
}

static void a_lone_request_is_never_spun_for(void)
{
    AioSpin spin = {0};

    g_assert_false(aio_spin_wanted(&spin, 0));
    g_assert_false(aio_spin_wanted(&spin, 1));
    g_assert_true(aio_spin_wanted(&spin, DEEP)); /* P1; and the refusals began no burst */
}

static void what_is_here_already_is_seen_at_the_first_look(void)
{
    AioSpin spin = {0};
    int looks = 0;

    g_assert_true(aio_spin_wanted(&spin, DEEP));
    g_assert_true(aio_spin(&spin, 0, seen_after, &looks));
    g_assert_cmpint(looks, ==, -1);
}

static void a_device_that_is_slow_ends_the_burst(void)
{
    AioSpin spin = {0};
    int64_t start = g_get_monotonic_time();
    int looks = -1; /* never */

    g_assert_true(aio_spin_wanted(&spin, DEEP));
    g_assert_false(aio_spin(&spin, -1, seen_after, &looks));
    /* P3: long not wanted; unless this process has been off the processor for so long. */
    g_assert_true(!aio_spin_wanted(&spin, DEEP) || g_get_monotonic_time() - start > 20000);
}

static void a_pause_follows_each_burst(void)
{
    AioSpin spin = {0};
    int64_t burst_end;

    g_assert_true(aio_spin_wanted(&spin, DEEP));
    burst_end = spin.burst_end;
    g_assert_cmpint(spin.next, >, burst_end);
    while (g_get_monotonic_time() * 1000 < burst_end) {
        /* its time goes by */
    }
    /* P2: not wanted until spin.next; whoever comes after that begins another burst. */
    while (g_get_monotonic_time() * 1000 < spin.next) {
        bool wanted = aio_spin_wanted(&spin, DEEP);

        g_assert_true(!wanted || spin.burst_end > burst_end);
        if (wanted) {
            return;
        }
    }
    g_assert_true(aio_spin_wanted(&spin, DEEP));
    g_assert_cmpint(spin.burst_end, >, burst_end);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/spin/a lone request is never spun for", a_lone_request_is_never_spun_for);
    g_test_add_func("/spin/what is here already is seen at the first look",
                    what_is_here_already_is_seen_at_the_first_look);
    g_test_add_func("/spin/a device that is slow ends the burst",
                    a_device_that_is_slow_ends_the_burst);
    g_test_add_func("/spin/a pause follows each burst", a_pause_follows_each_burst);
    return g_test_run();
}
