/* SPDX-License-Identifier: GPL-2.0-or-later */
/* block/filters/throttle: rates, bursts, turns, drain, new limits - on a virtual clock. */
#include <errno.h>
#include "aio/timer.h"
#include "block/filters/filters.h"
#include "block/filters/throttle-group.h"
#include "block/open/open.h"
#include "object/object.h"
#include "tests/lib/block-test.h"
#include "tests/lib/driver-contract.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

enum { RW = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE };

typedef struct Disk {
    BlockDriverState *ram, *bs;
    BdrvChild *user;
} Disk;

static Disk coroutine_fn disk(const char *name)
{
    g_autofree char *ram = g_strdup_printf("%s-ram", name);
    Disk d = {.ram = test_ram_new(ram, 64 * MiB)};

    d.bs =
        block_test_co_open("{\"driver\":\"throttle\",\"node-name\":\"%s\",\"throttle-group\":\"g\","
                           "\"file\":\"%s\"}",
                           name, ram);
    d.user = block_test_user(d.bs, RW);
    return d;
}

static void coroutine_fn undisk(Disk *d)
{
    block_test_co_user_free(d->user);
    bdrv_co_unref(d->bs);
    bdrv_co_unref(d->ram);
}

static void group(ThrottleLimits limits)
{
    ThrottleGroupProperties props = {.limits = &limits};

    throttle_group_object_add("g", &props, &error_abort);
}

static void ungroup(void)
{
    g_assert_cmpint(object_unref_by_id("g", &error_abort), ==, 0);
}

static double now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME) / 1e9;
}

/* Seconds that @n reads or writes of @bytes take one after the other. */
static double coroutine_fn seconds_for(Disk *d, BlockTestOp op, int n, int64_t bytes)
{
    double start = now();

    for (int i = 0; i < n; i++) {
        g_assert_cmpint(block_test_co_join(block_test_co_start(d->user, op, 0, bytes, 1)), ==, 0);
    }
    return now() - start;
}

#define ASSERT_ABOUT(value, wanted)                                     \
    do {                                                                \
        double about_value = (value), about_wanted = (wanted);          \
        g_assert_cmpfloat(about_value, >=, about_wanted * 0.95 - 0.01); \
        g_assert_cmpfloat(about_value, <=, about_wanted * 1.05 + 0.01); \
    } while (0)

static void coroutine_fn a_rate_is_kept_after_the_first_tenth(void)
{
    Disk d;

    group((ThrottleLimits){.has_iops_total = true, .iops_total = 100});
    d = disk("d");
    /* A tenth of a second's worth at once, then one each 10 ms. */
    ASSERT_ABOUT(seconds_for(&d, BLOCK_TEST_READ, 11, 512), 0);
    ASSERT_ABOUT(seconds_for(&d, BLOCK_TEST_READ, 100, 512), 1);
    ASSERT_ABOUT(seconds_for(&d, BLOCK_TEST_WRITE, 100, 512), 1);
    undisk(&d);
    ungroup();
}

static void coroutine_fn bytes_count_by_direction(void)
{
    Disk d;

    group((ThrottleLimits){.has_bps_write = true, .bps_write = 1 * MiB});
    d = disk("d");
    ASSERT_ABOUT(seconds_for(&d, BLOCK_TEST_READ, 100, 1 * MiB), 0);
    seconds_for(&d, BLOCK_TEST_WRITE, 1, 1 * MiB); /* passes, and is paid by the next */
    ASSERT_ABOUT(seconds_for(&d, BLOCK_TEST_WRITE, 4, 1 * MiB), 3.9);
    /* Flushes are not slowed; zeroes are writes. */
    ASSERT_ABOUT(seconds_for(&d, BLOCK_TEST_FLUSH, 10, 0), 0);
    ASSERT_ABOUT(seconds_for(&d, BLOCK_TEST_WRITE_ZEROES, 2, 1 * MiB), 2);
    undisk(&d);
    ungroup();
}

static void coroutine_fn a_burst_lasts_its_length(void)
{
    Disk d;

    group((ThrottleLimits){.has_iops_total = true,
                           .iops_total = 10,
                           .has_iops_total_max = true,
                           .iops_total_max = 100,
                           .has_iops_total_max_length = true,
                           .iops_total_max_length = 3});
    d = disk("d");
    /* 100 a second for as long as 300 last, less what leaked meanwhile; then 10 a second. */
    ASSERT_ABOUT(seconds_for(&d, BLOCK_TEST_READ, 300, 512), 2.9);
    seconds_for(&d, BLOCK_TEST_READ, 40, 512);
    ASSERT_ABOUT(seconds_for(&d, BLOCK_TEST_READ, 20, 512), 2);
    undisk(&d);
    ungroup();
}

static void coroutine_fn a_large_request_counts_as_several(void)
{
    Disk d;

    group((ThrottleLimits){
        .has_iops_total = true, .iops_total = 10, .has_iops_size = true, .iops_size = 4096});
    d = disk("d");
    seconds_for(&d, BLOCK_TEST_READ, 1, 4096 * 10);
    ASSERT_ABOUT(seconds_for(&d, BLOCK_TEST_READ, 3, 4096 * 10), 2.9);
    undisk(&d);
    ungroup();
}

enum { MANY = 60 };

static void coroutine_fn members_take_turns(void)
{
    BlockTestRequest *a[MANY], *b[MANY / 6];
    int done = 0;
    Disk d, e;

    group((ThrottleLimits){.has_iops_total = true, .iops_total = 100});
    d = disk("d");
    e = disk("e");
    for (int i = 0; i < MANY; i++) {
        a[i] = block_test_co_start(d.user, BLOCK_TEST_WRITE, 0, 512, 1);
    }
    for (int i = 0; i < MANY / 6; i++) {
        b[i] = block_test_co_start(e.user, BLOCK_TEST_WRITE, 0, 512, 1);
    }
    /* e's few are done when about as many of d's are (and the first tenth). */
    for (int i = 0; i < MANY / 6; i++) {
        g_assert_cmpint(block_test_co_join(b[i]), ==, 0);
    }
    for (int i = 0; i < MANY; i++) {
        done += block_test_done(a[i]);
    }
    g_assert_cmpint(done, >=, 15);
    g_assert_cmpint(done, <=, 25);
    for (int i = 0; i < MANY; i++) {
        g_assert_cmpint(block_test_co_join(a[i]), ==, 0);
    }
    undisk(&d);
    undisk(&e);
    ungroup();
}

static void coroutine_fn a_drain_lets_everything_go_at_once(void)
{
    BlockTestRequest *req[MANY];
    double start = now();
    Disk d;

    group((ThrottleLimits){.has_iops_total = true, .iops_total = 1});
    d = disk("d");
    for (int i = 0; i < MANY; i++) {
        req[i] = block_test_co_start(d.user, i % 2 ? BLOCK_TEST_WRITE : BLOCK_TEST_READ, 0, 512, 1);
    }
    g_assert_false(block_test_done(req[MANY - 1]));
    bdrv_co_drained_begin(d.bs);
    ASSERT_ABOUT(now() - start, 0);
    for (int i = 0; i < MANY; i++) {
        g_assert_true(block_test_done(req[i]));
        g_assert_cmpint(block_test_co_join(req[i]), ==, 0);
    }
    bdrv_co_drained_end(d.bs);
    /* They were charged: the next one pays for them. */
    g_assert_cmpfloat(seconds_for(&d, BLOCK_TEST_READ, 1, 512), >=, 50);
    undisk(&d);
    ungroup();
}

/* T5 */
static void coroutine_fn what_nobody_wants_ends_and_is_not_charged(void)
{
    BlockTestRequest *req[MANY], *other;
    double start = now();
    Disk d, e;

    group((ThrottleLimits){.has_iops_total = true, .iops_total = 1});
    d = disk("d");
    e = disk("e");
    for (int i = 0; i < MANY; i++) {
        req[i] = block_test_co_start(d.user, i % 2 ? BLOCK_TEST_WRITE : BLOCK_TEST_READ, 0, 512, 1);
    }
    other = block_test_co_start(e.user, BLOCK_TEST_WRITE, 0, 512, 1);
    bdrv_cancel_in_flight(d.bs);
    for (int i = 0; i < MANY; i++) {
        int ret = block_test_co_join(req[i]);

        g_assert_cmpint(ret, ==, i == 0 ? 0 : -ECANCELED); /* the first was through */
    }
    ASSERT_ABOUT(now() - start, 0);
    g_assert_cmpint(block_test_co_join(other), ==, 0);
    g_assert_cmpfloat(now() - start, <=, 1.05);
    g_assert_cmpfloat(seconds_for(&d, BLOCK_TEST_WRITE, 2, 512), <=, 2.05);
    undisk(&d);
    undisk(&e);
    ungroup();
}

static void coroutine_fn new_limits_hold_for_those_who_wait(void)
{
    BlockTestRequest *req[3];
    double start = now();
    Disk d;

    group((ThrottleLimits){.has_bps_total = true, .bps_total = 512});
    d = disk("d");
    for (int i = 0; i < 3; i++) {
        req[i] = block_test_co_start(d.user, BLOCK_TEST_READ, 0, 1 * MiB, 1);
    }
    block_test_co_settle();
    g_assert_false(block_test_done(req[1]));
    g_assert_cmpint(
        throttle_group_set_limits(throttle_group_find("g", &error_abort),
                                  &(ThrottleLimits){.has_bps_total = true, .bps_total = 1 * MiB},
                                  &error_abort),
        ==, 0);
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(block_test_co_join(req[i]), ==, 0);
    }
    g_assert_cmpfloat(now() - start, <=, 2.5);
    undisk(&d);
    ungroup();
}

static void coroutine_fn limits_without_sense_are_refused(void)
{
#define REFUSED(message, ...)                                                       \
    do {                                                                            \
        Error *err = NULL;                                                          \
        ThrottleGroupProperties props = {.limits = &(ThrottleLimits){__VA_ARGS__}}; \
        g_assert_cmpint(throttle_group_object_add("g", &props, &err), ==, -EINVAL); \
        g_assert_nonnull(strstr(error_get_pretty(err), message));                   \
        error_free(err);                                                            \
    } while (0)
    REFUSED("cannot be used at the same time", .has_bps_total = true, .bps_total = 1,
            .has_bps_read = true, .bps_read = 1);
    REFUSED("require corresponding", .has_bps_total_max = true, .bps_total_max = 5);
    REFUSED("cannot be lower", .has_bps_total = true, .bps_total = 5, .has_bps_total_max = true,
            .bps_total_max = 2);
    REFUSED("length cannot be 0", .has_bps_total_max_length = true);
    REFUSED("without burst rate", .has_bps_total = true, .bps_total = 5,
            .has_bps_total_max_length = true, .bps_total_max_length = 2);
    REFUSED("requires an iops value", .has_iops_size = true, .iops_size = 5);
    REFUSED("cannot be negative", .has_iops_read = true, .iops_read = -1);
    REFUSED("must be within", .has_iops_read = true, .iops_read = INT64_MAX);
    block_test_co_open_fails(
        "Throttle group 'nope' does not exist",
        "{\"driver\":\"throttle\",\"throttle-group\":\"nope\",\"file\":\"x\"}");
}

static void coroutine_fn a_group_in_use_stays(void)
{
    ThrottleGroupProperties props = {
        .has_x_iops_total = true, .x_iops_total = 7, .has_x_iops_size = true, .x_iops_size = 9};
    ThrottleLimits *limits;
    Error *err = NULL;
    Disk d;

    throttle_group_object_add("g", &props, &error_abort);
    limits = throttle_group_get_limits(throttle_group_find("g", &error_abort));
    g_assert_cmpint(limits->iops_total, ==, 7);
    g_assert_cmpint(limits->iops_size, ==, 9);
    g_assert_cmpint(limits->iops_total_max_length, ==, 1);
    qapi_free_ThrottleLimits(limits);
    g_assert_cmpint(throttle_group_object_add("g", &props, &err), ==, -EEXIST);
    error_free(err);
    err = NULL;
    d = disk("d");
    g_assert_cmpint(object_unref_by_id("g", &err), ==, -EBUSY);
    error_free(err);
    undisk(&d);
    ungroup();
}

static void coroutine_fn a_node_moves_to_another_group(void)
{
    g_autoptr(BlockdevOptions) opts = NULL;
    BlockdevOptionsList list;
    Disk d;

    group((ThrottleLimits){.has_iops_total = true, .iops_total = 1});
    throttle_group_object_add("h", NULL, &error_abort);
    d = disk("d");
    opts = block_test_options("{\"driver\":\"throttle\",\"node-name\":\"d\","
                              "\"throttle-group\":\"h\",\"file\":\"d-ram\"}");
    list = (BlockdevOptionsList){.value = opts};
    g_assert_cmpint(bdrv_co_reopen_multiple(&list, &error_abort), ==, 0);
    ASSERT_ABOUT(seconds_for(&d, BLOCK_TEST_READ, 100, 512), 0);
    ungroup();
    undisk(&d);
    g_assert_cmpint(object_unref_by_id("h", &error_abort), ==, 0);
}

static void add(void)
{
    qemu_clock_set_virtual(true);
#define ADD(sentence, function) block_test_add("/throttle/" sentence, function)
    ADD("a rate is kept after the first tenth", a_rate_is_kept_after_the_first_tenth);
    ADD("bytes count by direction", bytes_count_by_direction);
    ADD("a burst lasts its length", a_burst_lasts_its_length);
    ADD("a large request counts as several", a_large_request_counts_as_several);
    ADD("members take turns", members_take_turns);
    ADD("a drain lets everything go at once", a_drain_lets_everything_go_at_once);
    ADD("what nobody wants ends and is not charged", what_nobody_wants_ends_and_is_not_charged);
    ADD("new limits hold for those who wait", new_limits_hold_for_those_who_wait);
    ADD("limits without sense are refused", limits_without_sense_are_refused);
    ADD("a group in use stays", a_group_in_use_stays);
    ADD("a node moves to another group", a_node_moves_to_another_group);
}

int main(int argc, char **argv)
{
    bdrv_throttle_register();
    return block_test_main(argc, argv, add);
}
