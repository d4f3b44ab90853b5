/* SPDX-License-Identifier: GPL-2.0-or-later */
/* seed.h - random numbers of a test that can be had again: SEED=number in the environment */
#ifndef TESTS_UNIT_UTIL_SEED_H
#define TESTS_UNIT_UTIL_SEED_H

#include <stdlib.h>
#include <glib.h>

/* Free with g_rand_free(). */
static inline GRand *test_rand(void)
{
    const char *text = g_getenv("SEED");
    guint32 seed = text ? (guint32)strtoul(text, NULL, 0) : g_random_int();

    g_test_message("SEED=%u", seed);
    return g_rand_new_with_seed(seed);
}

/* 0 <= result < bound, also above 32 bits. */
static inline guint64 test_rand_below(GRand *rand, guint64 bound)
{
    guint64 high = g_rand_int(rand);

    return (high << 32 | g_rand_int(rand)) % bound;
}

#endif
