/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * H1, H4: what a flush has covered survives a power cut, with writers of every alignment (through
 * read-modify-write) and FUA.  Each byte after the cut is the last one that was flushed, or one written
 * since.  The disk here flushes in no time, so flushes do not overlap: rule F1 is tested in
 * tests/unit/io/flush-test.c.
 */
#include "aio/timer.h"
#include "coro/sleep.h"
#include "tests/lib/block-test.h"
#include "tests/lib/test-cut.h"
#include "util/osdep.h"

#define DISK_BYTES (64 * KiB)
#define TASKS      4

/* What a byte may be after the cut: one bit for each value of a small alphabet. */
typedef uint16_t Allowed;

typedef struct Scene {
    BlockDriverState *bs;
    BdrvChild *user;
    GRand *rand;
    Allowed allowed[DISK_BYTES];
    uint8_t latest[DISK_BYTES]; /* acknowledged last */
    uint32_t version[DISK_BYTES];
    uint32_t clock;
    int running;
} Scene;

/* A task owns a quarter of the disk: what was acknowledged last is then known. */
typedef struct Task {
    Scene *s;
    int64_t start;
} Task;

static int coroutine_fn one_write(Scene *s, int64_t start)
{
    int64_t room = DISK_BYTES / TASKS;
    int64_t bytes = g_rand_int_range(s->rand, 1, 3000);
    int64_t offset = start + g_rand_int_range(s->rand, 0, room - bytes);
    uint8_t value = g_rand_int_range(s->rand, 1, 16);
    bool fua = g_rand_int_range(s->rand, 0, 5) == 0;
    uint8_t buf[3000];
    int ret;

    memset(buf, value, bytes);
    for (int64_t i = offset; i < offset + bytes; i++) {
        s->allowed[i] |= 1 << value; /* from now on it may be there */
    }
    ret = bdrv_co_pwrite(s->user, offset, bytes, buf, fua ? BDRV_REQ_FUA : 0);
    for (int64_t i = offset; i < offset + bytes && ret == 0; i++) {
        s->latest[i] = value;
        s->version[i] = ++s->clock;
        if (fua) {
            s->allowed[i] = 1 << value;
        }
    }
    return ret;
}

/* Covers what was acknowledged before it was asked, on the whole disk. */
static int coroutine_fn one_flush(Scene *s)
{
    uint32_t asked = s->clock;
    g_autofree Allowed *before = g_memdup2(s->allowed, sizeof(s->allowed));
    g_autofree uint8_t *latest = g_memdup2(s->latest, sizeof(s->latest));
    int ret = bdrv_co_flush(s->bs);

    for (int i = 0; i < DISK_BYTES && ret == 0; i++) {
        /* A byte that nobody wrote or sent since must be what it was. */
        if (s->version[i] <= asked && s->allowed[i] == before[i]) {
            s->allowed[i] = 1 << latest[i];
        }
    }
    return ret;
}

static void coroutine_fn task_entry(void *opaque)
{
    Task *t = opaque;
    Scene *s = t->s;
    int ret = 0;

    while (ret == 0) {
        ret = g_rand_int_range(s->rand, 0, 6) ? one_write(s, t->start) : one_flush(s);
        qemu_co_sleep_ns(g_rand_int_range(s->rand, 0, 3));
    }
    s->running--;
}

static void coroutine_fn story(uint32_t seed)
{
    Scene *s = g_new0(Scene, 1);
    TestCutFate fate = {.seed = seed, .tear_bytes = 512, .reorder = true};
    Task tasks[TASKS];
    g_autofree uint8_t *after = g_malloc(DISK_BYTES);

    s->rand = g_rand_new_with_seed(seed);
    s->bs = test_cut_new("disk", DISK_BYTES);
    s->user = block_test_user(s->bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
    for (int i = 0; i < DISK_BYTES; i++) {
        s->allowed[i] = 1;
    }
    test_cut_arm(s->bs, g_rand_int_range(s->rand, 1, 200));
    for (int i = 0; i < TASKS; i++) {
        tasks[i] = (Task){.s = s, .start = (int64_t)i * (DISK_BYTES / TASKS)};
        s->running++;
        aio_co_enter(qemu_get_aio_context(), qemu_coroutine_create(task_entry, &tasks[i]));
    }
    while (s->running > 0) {
        qemu_co_sleep_ns(100);
    }
    g_assert_true(test_cut_is_off(s->bs));
    test_cut_power_on(s->bs, &fate);
    test_cut_peek_stable(s->bs, 0, after, DISK_BYTES);
    for (int i = 0; i < DISK_BYTES; i++) {
        if (after[i] > 15 || !(s->allowed[i] & (1 << after[i]))) {
            g_test_message("seed %u: byte %d is %u, allowed 0x%x", seed, i, after[i],
                           s->allowed[i]);
            g_test_fail();
            break;
        }
    }
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->bs);
    g_rand_free(s->rand);
    g_free(s);
}

static void coroutine_fn test_what_a_flush_covered_survives_the_power(void)
{
    uint32_t first = block_test_seed();
    const char *seeds = g_getenv("SEEDS");
    unsigned n = seeds ? g_ascii_strtoull(seeds, NULL, 10) : 300;

    for (unsigned i = 0; i < n; i++) {
        story(first + i);
    }
}

static void add_tests(void)
{
    qemu_clock_set_virtual(true);
    block_test_add("/crash/flush/what a flush covered survives the power",
                   test_what_a_flush_covered_survives_the_power);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
