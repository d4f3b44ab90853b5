/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See toy.h. */
#include <errno.h>
#include <string.h>
#include "tests/unit/graph/toy.h"
#include "util/osdep.h"

Toy *toy_of(BlockDriverState *bs)
{
    return bs->opaque;
}

static void toy_refresh_limits(BlockDriverState *bs)
{
    if (toy_of(bs)->max_transfer) {
        bs->bl.max_transfer = toy_of(bs)->max_transfer;
    }
}

static int toy_check_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared, Error **errp)
{
    toy_of(bs)->checks++;
    if (toy_of(bs)->refuse) {
        error_setg(errp, "toy '%s' refuses", bdrv_get_node_name(bs));
        return -EACCES;
    }
    return 0;
}

static void toy_set_perm(BlockDriverState *bs, uint64_t perm, uint64_t shared)
{
    toy_of(bs)->sets++;
    toy_of(bs)->perm = perm;
    toy_of(bs)->shared = shared;
}

static void toy_abort_perm(BlockDriverState *bs)
{
    toy_of(bs)->aborts++;
}

static void toy_drain_begin(BlockDriverState *bs)
{
    toy_of(bs)->drained++;
}

static void toy_drain_end(BlockDriverState *bs)
{
    toy_of(bs)->drained--;
}

static void toy_context_changed(BlockDriverState *bs, AioContext *ctx)
{
    toy_of(bs)->told = ctx;
}

static void coroutine_fn toy_co_close(BlockDriverState *bs)
{
    Toy *toy = toy_of(bs);

    g_assert_cmpuint(bs->in_flight, ==, 0); /* G2 */
    while (toy->hold_close) {
        qemu_co_queue_wait(&toy->close_queue, NULL);
    }
    if (toy->ret_closed) {
        (*toy->ret_closed)++;
    }
}

void toy_release_close(BlockDriverState *bs)
{
    toy_of(bs)->hold_close = false;
    qemu_co_queue_restart_all(&toy_of(bs)->close_queue);
}

static const BlockDriverLife toy_life = {
    .co_close = toy_co_close,
    .refresh_limits = toy_refresh_limits,
    .check_perm = toy_check_perm,
    .set_perm = toy_set_perm,
    .abort_perm = toy_abort_perm,
    .drain_begin = toy_drain_begin,
    .drain_end = toy_drain_end,
    .aio_context_changed = toy_context_changed,
};

static const BlockDriverData toy_data = {0};

static const BlockDriver bdrv_toy = {
    .format_name = "toy",
    .supports_backing = true,
    .instance_size = sizeof(Toy),
    .life = &toy_life,
    .data = &toy_data,
};

static const BlockDriver bdrv_toy_filter = {
    .format_name = "toy-filter",
    .is_filter = true,
    .instance_size = sizeof(Toy),
    .life = &toy_life,
    .data = &toy_data,
};

static BlockDriverState *make(const BlockDriver *drv, const char *node_name)
{
    BlockDriverState *bs = bdrv_new(drv, node_name, &error_abort);

    bs->open_flags = BDRV_O_RDWR;
    qemu_co_queue_init(&toy_of(bs)->close_queue);
    return bs;
}

BlockDriverState *toy_new(const char *node_name)
{
    return make(&bdrv_toy, node_name);
}

BlockDriverState *toy_filter_new(const char *node_name)
{
    return make(&bdrv_toy_filter, node_name);
}

/* The user. */
typedef struct ToyUser {
    int drained, resized;
    bool busy;
    AioContext *told;
    const char *stay;
} ToyUser;

static ToyUser *user_of(const BdrvChild *c)
{
    return c->opaque;
}

static char *user_desc(BdrvChild *c)
{
    return g_strdup_printf("user '%s'", c->name);
}

static void user_drained_begin(BdrvChild *c)
{
    user_of(c)->drained++;
}

static bool user_drained_poll(BdrvChild *c)
{
    return user_of(c)->busy;
}

static void user_drained_end(BdrvChild *c)
{
    user_of(c)->drained--;
}

static bool user_can_change(BdrvChild *c, AioContext *ctx, Error **errp)
{
    if (user_of(c)->stay) {
        error_setg(errp, "%s", user_of(c)->stay);
        return false;
    }
    return true;
}

static void user_set_context(BdrvChild *c, AioContext *ctx)
{
    g_assert_cmpint(user_of(c)->drained, >, 0); /* D4 */
    user_of(c)->told = ctx;
}

static void user_resized(BdrvChild *c)
{
    user_of(c)->resized++;
}

static const BdrvChildClass user_class = {
    .get_parent_desc = user_desc,
    .drained_begin = user_drained_begin,
    .drained_poll = user_drained_poll,
    .drained_end = user_drained_end,
    .can_change_aio_context = user_can_change,
    .set_aio_context = user_set_context,
    .resized = user_resized,
};

BdrvChild *toy_user(BlockDriverState *bs, uint64_t perm, uint64_t shared, Error **errp)
{
    ToyUser *user = g_new0(ToyUser, 1);
    BdrvChild *c =
        bdrv_root_attach_child(bs, "root", &user_class, BDRV_CHILD_FILTERED | BDRV_CHILD_PRIMARY,
                               perm, shared, user, errp);

    if (!c) {
        g_assert_cmpint(user->drained, ==, 0); /* D3: a refused edge leaves nothing behind */
        g_free(user);
    }
    return c;
}

void coroutine_fn toy_co_user_free(BdrvChild *c)
{
    ToyUser *user = user_of(c);

    bdrv_co_root_unref_child(c);
    g_assert_cmpint(user->drained, ==, 0); /* D3 */
    g_free(user);
}

int toy_user_drained(const BdrvChild *c)
{
    return user_of(c)->drained;
}

int toy_user_resized(const BdrvChild *c)
{
    return user_of(c)->resized;
}

void toy_user_set_busy(BdrvChild *c, bool busy)
{
    user_of(c)->busy = busy;
    bdrv_drain_kick();
}

AioContext *toy_user_context(const BdrvChild *c)
{
    return user_of(c)->told;
}

void toy_user_stay(BdrvChild *c, const char *reason)
{
    user_of(c)->stay = reason;
}

/* A drained section beside the test. */
struct ToyDrain {
    BlockDriverState **list;
    size_t n;
    bool begun, may_end, ended;
    CoQueue queue;
};

static void coroutine_fn drain_entry(void *opaque)
{
    ToyDrain *d = opaque;

    if (d->n == 1) {
        bdrv_co_drained_begin(d->list[0]);
    } else {
        bdrv_co_drained_begin_list(d->list, d->n);
    }
    d->begun = true;
    while (!d->may_end) {
        qemu_co_queue_wait(&d->queue, NULL);
    }
    if (d->n == 1) {
        bdrv_co_drained_end(d->list[0]);
    } else {
        bdrv_co_drained_end_list(d->list, d->n);
    }
    d->ended = true;
    qemu_co_queue_restart_all(&d->queue);
}

ToyDrain *coroutine_fn toy_co_drain_start(BlockDriverState **list, size_t n)
{
    ToyDrain *d = g_new0(ToyDrain, 1);

    d->list = g_memdup2(list, n * sizeof(*list));
    d->n = n;
    qemu_co_queue_init(&d->queue);
    qemu_coroutine_enter(qemu_coroutine_create(drain_entry, d));
    return d;
}

bool toy_drain_begun(const ToyDrain *d)
{
    return d->begun;
}

void coroutine_fn toy_co_drain_finish(ToyDrain *d)
{
    d->may_end = true;
    qemu_co_queue_restart_all(&d->queue);
    while (!d->ended) {
        qemu_co_queue_wait(&d->queue, NULL);
    }
    qemu_co_queue_destroy(&d->queue);
    g_free(d->list);
    g_free(d);
}

void toy_expect_error(Error **errp, const char *part)
{
    g_assert_nonnull(*errp);
    if (!strstr(error_get_pretty(*errp), part)) {
        g_error("Expected '%s', got '%s'", part, error_get_pretty(*errp));
    }
    error_free(*errp);
    *errp = NULL;
}
