/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Read guards: who is held, until when (ST1, ST2 of block/io/status.c, WA1, WA2 of block/io/watch.c). */
#include <errno.h>
#include "tests/lib/block-test.h"
#include "tests/lib/test-cow.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define CLUSTER (64 * KiB)
#define DISK    (4 * CLUSTER)
#define RW      (BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE)

/* A door: closed, nobody comes in. */
typedef struct Door {
    BdrvReadGuard guard;
    int error;            /* what reads fail with; 0: nothing */
    bool closed, nothing; /* nothing: there is nothing to hold, no token */
    CoQueue waiting;
    CoQueue emptied;
    unsigned begun, inside;
    int64_t offset, bytes; /* of the last begin() */
} Door;

typedef struct Guest {
    BdrvReadToken token;
    Door *door;
} Guest;

static void door_leave(BdrvReadToken *token)
{
    Guest *guest = container_of(token, Guest, token);

    g_assert_cmpuint(guest->door->inside, >, 0);
    if (--guest->door->inside == 0) {
        qemu_co_queue_restart_all(&guest->door->emptied);
    }
    g_free(guest);
}

static BdrvReadToken *coroutine_fn door_enter(BdrvReadGuard *guard, int64_t offset, int64_t bytes)
{
    Door *door = container_of(guard, Door, guard);
    Guest *guest;

    door->begun++;
    door->offset = offset;
    door->bytes = bytes;
    while (door->closed) {
        qemu_co_queue_wait(&door->waiting, NULL);
    }
    if (door->nothing) {
        return NULL;
    }
    door->inside++;
    guest = g_new0(Guest, 1);
    guest->token = (BdrvReadToken){.end = door_leave, .error = door->error};
    guest->door = door;
    return &guest->token;
}

static void door_open(Door *door)
{
    door->closed = false;
    qemu_co_queue_restart_all(&door->waiting);
}

/* The source of a backup, its target above it with a guard, and a reader of the target. */
typedef struct Fleece {
    BlockDriverState *source, *target;
    BdrvChild *reader, *owner, *guest;
    Door door;
} Fleece;

static Fleece *fleece_new(void)
{
    Fleece *f = g_new0(Fleece, 1);

    f->source = test_ram_new("source", DISK);
    test_ram_poke_pattern(f->source, 0, DISK, 1);
    f->target = test_cow_new("target", DISK, CLUSTER, f->source);
    f->reader = block_test_user(f->target, BLK_PERM_CONSISTENT_READ);
    f->owner = block_test_user(f->target, RW);
    f->guest = block_test_user(f->source, RW);
    f->door.guard.begin = door_enter;
    qemu_co_queue_init(&f->door.waiting);
    qemu_co_queue_init(&f->door.emptied);
    bdrv_set_read_guard(f->target, &f->door.guard);
    return f;
}

static void coroutine_fn fleece_free(Fleece *f)
{
    g_assert_cmpuint(f->door.inside, ==, 0);
    g_assert_cmpuint(f->target->in_flight, ==, 0);
    bdrv_set_read_guard(f->target, NULL);
    qemu_co_queue_destroy(&f->door.waiting);
    qemu_co_queue_destroy(&f->door.emptied);
    block_test_co_user_free(f->reader);
    block_test_co_user_free(f->owner);
    block_test_co_user_free(f->guest);
    bdrv_co_unref(f->target);
    bdrv_co_unref(f->source);
    g_free(f);
}

/* A question about the target's chain in the background. */
typedef struct Question {
    BlockDriverState *bs;
    int64_t offset, bytes, pnum;
    bool done, zero_fast;
    int ret;
    CoQueue waiters;
} Question;

static void coroutine_fn question_entry(void *opaque)
{
    Question *q = opaque;

    q->ret = q->zero_fast ? bdrv_co_is_zero_fast(q->bs, q->offset, q->bytes)
                          : bdrv_co_block_status_above(q->bs, NULL, q->offset, q->bytes, &q->pnum,
                                                       NULL, NULL);
    q->done = true;
    qemu_co_queue_restart_all(&q->waiters);
}

static void coroutine_fn ask(Question *q)
{
    q->done = false;
    qemu_co_queue_init(&q->waiters);
    qemu_coroutine_enter(qemu_coroutine_create(question_entry, q));
}

static int coroutine_fn answer(Question *q)
{
    while (!q->done) {
        qemu_co_queue_wait(&q->waiters, NULL);
    }
    qemu_co_queue_destroy(&q->waiters);
    return q->ret;
}

static void coroutine_fn several_reads_wait_at_once(void)
{
    Fleece *f = fleece_new();
    uint8_t old[100], got[100];
    BlockTestRequest *a, *b;

    test_ram_peek(f->source, 1000, old, sizeof(old));
    f->door.closed = true;
    a = block_test_co_start(f->reader, BLOCK_TEST_READ, 1000, 100, 0);
    g_assert_cmpint(f->door.offset, ==, 1000);
    g_assert_cmpint(f->door.bytes, ==, 100);
    b = block_test_co_start(f->reader, BLOCK_TEST_READ, 0, CLUSTER, 0);
    block_test_co_settle();
    g_assert_false(block_test_done(a) || block_test_done(b));
    g_assert_cmpuint(test_ram_counts(f->source)->reads, ==, 0);
    g_assert_cmpuint(f->target->in_flight, ==, 2); /* WA1 */
    test_ram_hold(f->source, TEST_RAM_READ, 0, DISK);
    door_open(&f->door);
    test_ram_co_wait_held(f->source, 2);
    g_assert_cmpuint(f->door.inside, ==, 2); /* until the read is over */
    test_ram_release(f->source);
    g_assert_cmpint(block_test_co_join_read(a, got, sizeof(got)), ==, 0);
    g_assert_cmpint(block_test_co_join(b), ==, 0);
    g_assert_cmpmem(got, sizeof(got), old, sizeof(old));
    g_assert_cmpuint(f->door.begun, ==, 2);
    fleece_free(f);
}

static void coroutine_fn reads_of_every_kind_are_held(void)
{
    Fleece *f = fleece_new();
    uint8_t buf[512];

    g_assert_cmpint(bdrv_co_preadv(f->reader, 0, CLUSTER, NULL, BDRV_REQ_PREFETCH), ==, 0);
    g_assert_cmpuint(f->door.begun, ==, 1);
    test_ram_set_error(f->source, TEST_RAM_READ, 0, DISK, EIO, 1);
    g_assert_cmpint(bdrv_co_pread(f->reader, 0, 512, buf, 0), ==, -EIO);
    g_assert_cmpuint(f->door.begun, ==, 2);
    g_assert_cmpuint(f->door.inside, ==, 0);
    f->door.nothing = true;
    g_assert_cmpint(bdrv_co_pread(f->reader, 0, 512, buf, 0), ==, 0);
    g_assert_cmpuint(f->door.begun, ==, 3);
    g_assert_cmpint(bdrv_co_pread(f->reader, 0, 0, buf, 0), ==, 0);  /* nothing is read */
    g_assert_cmpint(bdrv_co_pread(f->guest, 0, 512, buf, 0), ==, 0); /* of another node */
    g_assert_cmpuint(f->door.begun, ==, 3);
    fleece_free(f);
}

static void coroutine_fn owner_reads_and_writes_past_the_guard(void)
{
    Fleece *f = fleece_new();
    uint8_t buf[512] = {7};
    QEMUIOVector qiov;

    f->door.closed = true;
    g_assert_cmpint(bdrv_co_pwrite(f->owner, 100, 512, buf, 0), ==, 0); /* reads what is around */
    g_assert_cmpint(bdrv_co_pread(f->owner, 0, 512, buf, BDRV_REQ_NO_SERIALISING), ==, 0);
    qemu_iovec_init_buf(&qiov, buf, sizeof(buf));
    g_assert_cmpint(bdrv_co_readv_no_serialising(f->owner, 0, 1, &qiov), ==, 0);
    g_assert_cmpuint(f->door.begun, ==, 0);
    f->door.closed = false;
    fleece_free(f);
}

/* T5 lets it pass serialising requests of the target, not what is on its way to it. */
static void coroutine_fn overlay_of_the_target_is_held(void)
{
    Fleece *f = fleece_new();
    BlockDriverState *top = test_cow_new("top", DISK, CLUSTER, f->target);
    BdrvChild *user = block_test_user(top, RW);
    BlockTestRequest *read;
    Question q = {.bs = top, .bytes = CLUSTER};

    f->door.closed = true;
    read = block_test_co_start(user, BLOCK_TEST_READ, 0, 512, 0);
    ask(&q);
    block_test_co_settle();
    g_assert_false(block_test_done(read) || q.done);
    door_open(&f->door);
    g_assert_cmpint(block_test_co_join(read), ==, 0);
    g_assert_cmpint(answer(&q) & BDRV_BLOCK_DATA, ==, BDRV_BLOCK_DATA);
    g_assert_cmpuint(f->door.begun, ==, 2);
    block_test_co_user_free(user);
    bdrv_co_unref(top);
    fleece_free(f);
}

static void coroutine_fn status_waits(void)
{
    Fleece *f = fleece_new();
    Question a = {.bs = f->target, .offset = CLUSTER + 1, .bytes = 100};
    Question b = {.bs = f->target, .bytes = DISK, .zero_fast = true};

    f->door.closed = true;
    ask(&a);
    g_assert_cmpint(f->door.offset, ==, CLUSTER + 1);
    g_assert_cmpint(f->door.bytes, ==, 100);
    ask(&b);
    block_test_co_settle();
    g_assert_false(a.done || b.done);
    g_assert_cmpuint(test_ram_counts(f->source)->statuses, ==, 0);
    g_assert_cmpuint(f->target->in_flight, ==, 2);
    door_open(&f->door);
    g_assert_cmpint(answer(&a) & BDRV_BLOCK_DATA, ==, BDRV_BLOCK_DATA);
    g_assert_cmpint(a.pnum, ==, 100);
    g_assert_cmpint(answer(&b), ==, 0);
    g_assert_cmpuint(f->door.begun, ==, 2);
    fleece_free(f);
}

static void coroutine_fn failed_and_refused_questions_leave(void)
{
    Fleece *f = fleece_new();
    int64_t pnum;

    g_assert_cmpint(bdrv_co_block_status_above(f->target, NULL, -1, 1, &pnum, NULL, NULL), ==,
                    -EIO);
    g_assert_cmpuint(f->door.begun, ==, 0);
    test_ram_set_error(f->source, TEST_RAM_STATUS, 0, DISK, EIO, 1);
    g_assert_cmpint(bdrv_co_block_status_above(f->target, NULL, 0, 1, &pnum, NULL, NULL), ==, -EIO);
    g_assert_cmpuint(f->door.begun, ==, 1);
    fleece_free(f);
}

/* ST2: a job asks about its own target and source while it stores. */
static void coroutine_fn question_about_one_node_is_not_held(void)
{
    Fleece *f = fleece_new();
    int64_t pnum;

    f->door.closed = true;
    g_assert_cmpint(bdrv_co_is_allocated(f->target, 0, DISK, &pnum), ==, 0);
    g_assert_cmpint(bdrv_co_block_status(f->target, 0, DISK, &pnum, NULL, NULL), ==,
                    BDRV_BLOCK_EOF);
    g_assert_cmpuint(f->door.begun, ==, 0);
    f->door.closed = false;
    fleece_free(f);
}

/* What a backup does for a guest's write: old data to the target, when no reader is inside. */
typedef struct Overwrite {
    Fleece *f;
    bool done;
    CoQueue waiters;
} Overwrite;

static void coroutine_fn overwrite_entry(void *opaque)
{
    Overwrite *o = opaque;
    Fleece *f = o->f;
    g_autofree uint8_t *old = g_malloc(CLUSTER);

    f->door.closed = true;
    while (f->door.inside) {
        qemu_co_queue_wait(&f->door.emptied, NULL);
    }
    g_assert_cmpint(bdrv_co_pwrite_zeroes(f->guest, 0, CLUSTER, BDRV_REQ_MAY_UNMAP), ==, 0);
    block_test_co_settle(); /* in the stage; and then: */
    memset(old, 7, CLUSTER);
    g_assert_cmpint(bdrv_co_pwrite(f->owner, 0, CLUSTER, old, 0), ==, 0);
    door_open(&f->door);
    o->done = true;
    qemu_co_queue_restart_all(&o->waiters);
}

/* ST1.  Unheld, the walk would say zeros: not in the target before, a hole in the source after. */
static void coroutine_fn target_and_backing_answer_of_one_moment(void)
{
    Fleece *f = fleece_new();
    Question q = {.bs = f->target, .bytes = CLUSTER};
    Overwrite o = {.f = f};

    f->source->open_flags |= BDRV_O_UNMAP;
    qemu_co_queue_init(&o.waiters);
    test_ram_hold(f->source, TEST_RAM_STATUS, 0, DISK);
    ask(&q);
    test_ram_co_wait_held(f->source, 1); /* the target has answered */
    qemu_coroutine_enter(qemu_coroutine_create(overwrite_entry, &o));
    block_test_co_settle();
    g_assert_false(o.done);
    g_assert_cmpuint(test_ram_counts(f->source)->zeroes, ==, 0);
    test_ram_release(f->source);
    g_assert_cmpint(answer(&q) & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO), ==, BDRV_BLOCK_DATA);
    /* And one that comes in between waits for the store. */
    ask(&q);
    g_assert_cmpint(answer(&q) & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO), ==, BDRV_BLOCK_DATA);
    g_assert_true(o.done);
    g_assert_true(test_cow_is_allocated(f->target, 0));
    qemu_co_queue_destroy(&o.waiters);
    fleece_free(f);
}

static const BlockDriverLife plain_life = {0};
static const BlockDriverData plain_data = {0};
static const BlockDriver filter = {
    .format_name = "pass", .is_filter = true, .life = &plain_life, .data = &plain_data};

/* WA2: the filter points at the target, and then the walk comes to the target itself. */
static void coroutine_fn walk_by_a_filter_begins_once(void)
{
    Fleece *f = fleece_new();
    BlockDriverState *top = bdrv_new(&filter, "top", &error_abort);
    int64_t pnum;

    top->total_bytes = DISK;
    top->read_only = true;
    bdrv_attach_child(top, f->target, "file", BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY,
                      &error_abort);
    bdrv_refresh_limits(top);
    g_assert_cmpint(bdrv_co_block_status_above(top, NULL, 0, CLUSTER, &pnum, NULL, NULL) &
                        BDRV_BLOCK_DATA,
                    ==, BDRV_BLOCK_DATA);
    g_assert_cmpuint(f->door.begun, ==, 1);
    bdrv_co_unref(top);
    fleece_free(f);
}

static void coroutine_fn guard_may_go_while_one_reads(void)
{
    Fleece *f = fleece_new();
    BlockTestRequest *inside, *outside, *after;
    Question q = {.bs = f->target, .bytes = CLUSTER};

    test_ram_hold(f->source, TEST_RAM_READ | TEST_RAM_STATUS, 0, DISK);
    inside = block_test_co_start(f->reader, BLOCK_TEST_READ, 0, 512, 0);
    ask(&q);
    f->door.closed = true;
    outside = block_test_co_start(f->reader, BLOCK_TEST_READ, 0, 512, 0);
    bdrv_set_read_guard(f->target, NULL);
    after = block_test_co_start(f->reader, BLOCK_TEST_READ, 0, 512, 0);
    test_ram_co_wait_held(f->source, 3);
    g_assert_cmpuint(f->door.begun, ==, 3);
    g_assert_cmpuint(f->door.inside, ==, 2);
    test_ram_release(f->source);
    g_assert_cmpint(block_test_co_join(inside), ==, 0);
    g_assert_cmpint(block_test_co_join(after), ==, 0);
    g_assert_cmpint(answer(&q), >=, 0);
    g_assert_cmpuint(f->door.inside, ==, 0);
    g_assert_false(block_test_done(outside));
    door_open(&f->door); /* the owner ends what is in begin() */
    g_assert_cmpint(block_test_co_join(outside), ==, 0);
    fleece_free(f);
}

static void coroutine_fn open_later(void *opaque)
{
    block_test_co_settle();
    door_open(opaque);
}

/* WA1 */
static void coroutine_fn quiesce_waits_for_who_is_held(void)
{
    Fleece *f = fleece_new();
    BlockTestRequest *read;
    Question q = {.bs = f->target, .bytes = CLUSTER};

    f->door.closed = true;
    read = block_test_co_start(f->reader, BLOCK_TEST_READ, 0, 512, 0);
    ask(&q);
    qemu_coroutine_enter(qemu_coroutine_create(open_later, &f->door));
    bdrv_co_drained_begin(f->target);
    g_assert_true(block_test_done(read));
    g_assert_cmpuint(f->door.inside, ==, 0);
    bdrv_co_drained_end(f->target);
    g_assert_cmpint(block_test_co_join(read), ==, 0);
    g_assert_cmpint(answer(&q), >=, 0);
    fleece_free(f);
}

/* The guard's word against a read: neither the read nor the walk is made, and the token is given back. */
static void coroutine_fn test_a_guard_may_fail_a_read(void)
{
    Fleece *f = fleece_new();
    uint8_t buf[512];
    int64_t pnum;

    f->door.error = -EIO;
    test_ram_reset_counts(f->source);
    g_assert_cmpint(bdrv_co_pread(f->reader, 0, sizeof(buf), buf, 0), ==, -EIO);
    g_assert_cmpint(bdrv_co_block_status_above(f->target, NULL, 0, DISK, &pnum, NULL, NULL), ==,
                    -EIO);
    g_assert_cmpuint(test_ram_counts(f->source)->reads, ==, 0);
    g_assert_cmpuint(f->door.begun, ==, 2);
    g_assert_cmpuint(f->door.inside, ==, 0);
    f->door.error = 0;
    g_assert_cmpint(bdrv_co_pread(f->reader, 0, sizeof(buf), buf, 0), ==, 0);
    fleece_free(f);
}

static void add(void)
{
    block_test_add("/io/guard/it may fail a read", test_a_guard_may_fail_a_read);
    block_test_add("/io/guard/several reads wait at once", several_reads_wait_at_once);
    block_test_add("/io/guard/reads of every kind are held", reads_of_every_kind_are_held);
    block_test_add("/io/guard/its owner reads and writes past it",
                   owner_reads_and_writes_past_the_guard);
    block_test_add("/io/guard/an overlay of the node is held", overlay_of_the_target_is_held);
    block_test_add("/io/guard/block status of a chain waits", status_waits);
    block_test_add("/io/guard/failed and refused questions leave",
                   failed_and_refused_questions_leave);
    block_test_add("/io/guard/a question about one node is not held",
                   question_about_one_node_is_not_held);
    block_test_add("/io/guard/target and backing file answer of one moment",
                   target_and_backing_answer_of_one_moment);
    block_test_add("/io/guard/a walk by a filter begins once", walk_by_a_filter_begins_once);
    block_test_add("/io/guard/it may go while one reads", guard_may_go_while_one_reads);
    block_test_add("/io/guard/a quiesce waits for who is held", quiesce_waits_for_who_is_held);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
