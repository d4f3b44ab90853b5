/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Homes: a tree moves as one, or stays as one. */
#include <errno.h>
#include "aio/iothread.h"
#include "tests/unit/graph/toy.h"
#include "util/osdep.h"

#define CR  BLK_PERM_CONSISTENT_READ
#define ALL BLK_PERM_ALL

typedef struct Tree {
    IOThread *thread;
    AioContext *ctx;
    BlockDriverState *top, *sibling, *disk;
    BdrvChild *user, *other;
} Tree;

static Tree tree_new(void)
{
    Tree t = {.thread = iothread_create("t0", AIO_ENGINE_AUTO, &error_abort)};

    t.ctx = iothread_get_aio_context(t.thread);
    t.top = toy_filter_new("top");
    t.sibling = toy_filter_new("sibling");
    t.disk = toy_new("disk");
    bdrv_attach_child(t.top, t.disk, "file", BDRV_CHILD_FILTERED, &error_abort);
    bdrv_attach_child(t.sibling, t.disk, "file", BDRV_CHILD_FILTERED, &error_abort);
    t.user = toy_user(t.top, CR, ALL, &error_abort);
    t.other = toy_user(t.sibling, CR, ALL, &error_abort);
    return t;
}

static void coroutine_fn tree_free(Tree *t)
{
    toy_co_user_free(t->user);
    toy_co_user_free(t->other);
    bdrv_co_unref(t->top);
    bdrv_co_unref(t->sibling);
    bdrv_co_unref(t->disk);
    iothread_destroy(t->thread);
}

static void coroutine_fn whole_tree_moves(void)
{
    Tree t = tree_new();

    g_assert_cmpint(bdrv_co_try_change_aio_context(t.top, t.ctx, &error_abort), ==, 0);
    g_assert_true(t.top->aio_context == t.ctx && t.sibling->aio_context == t.ctx &&
                  t.disk->aio_context == t.ctx);
    g_assert_true(toy_of(t.disk)->told == t.ctx && toy_of(t.sibling)->told == t.ctx);
    g_assert_true(toy_user_context(t.user) == t.ctx && toy_user_context(t.other) == t.ctx);
    g_assert_cmpint(toy_user_drained(t.other), ==, 0);
    bdrv_co_try_change_aio_context(t.disk, qemu_get_aio_context(), &error_abort);
    g_assert_true(t.top->aio_context == qemu_get_aio_context());
    tree_free(&t);
}

static void coroutine_fn one_that_stays_keeps_the_tree(void)
{
    Tree t = tree_new();
    Error *err = NULL;

    toy_user_stay(t.other, "the other one stays");
    g_assert_cmpint(bdrv_co_try_change_aio_context(t.top, t.ctx, &err), ==, -EPERM);
    toy_expect_error(&err, "the other one stays");
    g_assert_true(t.top->aio_context == qemu_get_aio_context());
    g_assert_null(toy_of(t.top)->told);
    g_assert_null(toy_user_context(t.user));
    tree_free(&t);
}

typedef struct Move {
    Tree *t;
    int ret;
    bool done;
} Move;

static void coroutine_fn move_entry(void *opaque)
{
    Move *m = opaque;

    m->ret = bdrv_co_try_change_aio_context(m->t->top, m->t->ctx, NULL);
    m->done = true;
}

static void coroutine_fn node_that_joins_meanwhile_moves_too(void)
{
    Tree t = tree_new();
    BlockDriverState *late = toy_new("late");
    BdrvChild *late_user;
    Move m = {.t = &t};

    bdrv_inc_in_flight(t.disk);
    qemu_coroutine_enter(qemu_coroutine_create(move_entry, &m));
    g_assert_false(m.done);
    bdrv_attach_child(t.top, late, "late", BDRV_CHILD_DATA, &error_abort);
    late_user = toy_user(late, CR, ALL, &error_abort);
    bdrv_dec_in_flight(t.disk);
    block_test_co_settle();
    g_assert_true(m.done);
    g_assert_cmpint(m.ret, ==, 0);
    g_assert_true(late->aio_context == t.ctx && t.disk->aio_context == t.ctx);
    g_assert_true(toy_user_context(late_user) == t.ctx);
    g_assert_cmpint(late->quiesce_counter, ==, 0);
    bdrv_co_try_change_aio_context(t.top, qemu_get_aio_context(), &error_abort);
    toy_co_user_free(late_user);
    bdrv_co_unref(late);
    tree_free(&t);
}

static void coroutine_fn user_that_joins_meanwhile_may_refuse(void)
{
    Tree t = tree_new();
    Move m = {.t = &t};
    BdrvChild *late;

    bdrv_inc_in_flight(t.disk);
    qemu_coroutine_enter(qemu_coroutine_create(move_entry, &m));
    late = toy_user(t.disk, CR, ALL, &error_abort);
    toy_user_stay(late, "just came");
    bdrv_dec_in_flight(t.disk);
    block_test_co_settle();
    g_assert_true(m.done);
    g_assert_cmpint(m.ret, ==, -EPERM);
    g_assert_true(t.disk->aio_context == qemu_get_aio_context());
    g_assert_cmpint(t.disk->quiesce_counter, ==, 0);
    toy_co_user_free(late);
    tree_free(&t);
}

static void coroutine_fn node_being_opened_follows_its_child(void)
{
    Tree t = tree_new();
    BlockDriverState *fresh = toy_new("fresh"), *lone = toy_new("lone");
    BlockDriverState *user_of_lone = toy_new("above");
    Error *err = NULL;

    bdrv_co_try_change_aio_context(t.top, t.ctx, &error_abort);
    bdrv_attach_child(fresh, t.disk, "file", BDRV_CHILD_DATA, &error_abort);
    g_assert_true(fresh->aio_context == t.ctx);
    bdrv_attach_child(fresh, lone, "backing", BDRV_CHILD_COW, &error_abort);
    g_assert_true(lone->aio_context == t.ctx);
    bdrv_attach_child(user_of_lone, toy_new("child"), "file", BDRV_CHILD_DATA, &error_abort);
    g_assert_null(bdrv_attach_child(user_of_lone, fresh, "backing", BDRV_CHILD_COW, &err));
    toy_expect_error(&err, "Node 'above' and node 'fresh' are in different iothreads");
    bdrv_co_unref(user_of_lone->file->bs); /* the edge has its own */
    bdrv_co_unref(user_of_lone);
    bdrv_co_try_change_aio_context(t.top, qemu_get_aio_context(), &error_abort);
    bdrv_co_unref(fresh);
    bdrv_co_unref(lone);
    tree_free(&t);
}

static void add(void)
{
    block_test_add("/graph/context/a whole tree moves, and all are told", whole_tree_moves);
    block_test_add("/graph/context/one user that stays keeps the tree where it is",
                   one_that_stays_keeps_the_tree);
    block_test_add("/graph/context/a node that joins while the tree is quiesced moves too",
                   node_that_joins_meanwhile_moves_too);
    block_test_add("/graph/context/a user that joins while the tree is quiesced is asked",
                   user_that_joins_meanwhile_may_refuse);
    block_test_add("/graph/context/a node being opened follows its child",
                   node_being_opened_follows_its_child);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
