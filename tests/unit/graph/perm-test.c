/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Permissions: rules P1 to P3 of block/graph/perm.c. */
#include <errno.h>
#include "tests/unit/graph/toy.h"
#include "util/osdep.h"

#define CR     BLK_PERM_CONSISTENT_READ
#define WR     BLK_PERM_WRITE
#define RESIZE BLK_PERM_RESIZE
#define ALL    BLK_PERM_ALL

static void p1(BdrvChild *c)
{
    g_assert_cmpuint(c->perm, ==, c->new_perm);
    g_assert_cmpuint(c->shared_perm, ==, c->new_shared);
}

static void coroutine_fn second_writer_is_refused(void)
{
    BlockDriverState *bs = toy_new("disk");
    BdrvChild *a = toy_user(bs, CR | WR, ALL & ~WR, &error_abort);
    Error *err = NULL;

    g_assert_null(toy_user(bs, WR, ALL, &err)); /* P2 */
    toy_expect_error(&err, "Permission conflict on node 'disk': permissions 'write' are both");
    p1(a);
    g_assert_cmpint(bs->refcnt, ==, 2);
    g_assert_cmpuint(toy_of(bs)->perm, ==, CR | WR);
    toy_co_user_free(a);
    bdrv_co_unref(bs);
}

static void coroutine_fn conflict_deep_below_is_found(void)
{
    BlockDriverState *top = toy_filter_new("top"), *other = toy_filter_new("other");
    BlockDriverState *disk = toy_new("disk");
    BdrvChild *a, *b;
    Error *err = NULL;

    bdrv_attach_child(top, disk, "file", BDRV_CHILD_FILTERED, &error_abort);
    bdrv_attach_child(other, disk, "file", BDRV_CHILD_FILTERED, &error_abort);
    a = toy_user(top, WR, ALL & ~WR, &error_abort);
    b = toy_user(other, CR, ALL, &error_abort);
    g_assert_cmpint(bdrv_child_try_set_perm(b, CR | WR, ALL, &err), ==, -EPERM); /* P2 */
    toy_expect_error(&err, "node 'other'");
    g_assert_cmpuint(b->perm, ==, CR);
    p1(a);
    p1(b);
    p1(top->file);
    p1(other->file);
    g_assert_cmpuint(other->file->perm, ==, CR);
    toy_co_user_free(a);
    g_assert_cmpint(bdrv_child_try_set_perm(b, CR | WR, ALL, &error_abort), ==, 0);
    g_assert_cmpuint(other->file->perm, ==, CR | WR);
    toy_co_user_free(b);
    bdrv_co_unref(top);
    bdrv_co_unref(other);
    bdrv_co_unref(disk);
}

/* A diamond: the node at the bottom is computed after both its parents. */
static void coroutine_fn permissions_of_a_diamond_add_up(void)
{
    BlockDriverState *top = toy_new("top"), *left = toy_filter_new("left");
    BlockDriverState *right = toy_filter_new("right"), *disk = toy_new("disk");
    BdrvChild *user;

    bdrv_attach_child(left, disk, "file", BDRV_CHILD_FILTERED, &error_abort);
    bdrv_attach_child(right, disk, "file", BDRV_CHILD_FILTERED, &error_abort);
    bdrv_attach_child(top, left, "file", BDRV_CHILD_FILTERED, &error_abort);
    bdrv_attach_child(top, right, "mirror", BDRV_CHILD_FILTERED, &error_abort);
    user = toy_user(top, CR | WR, ALL & ~RESIZE, &error_abort);
    g_assert_cmpuint(toy_of(disk)->perm, ==, CR | WR);
    g_assert_cmpuint(toy_of(disk)->shared, ==, ALL & ~RESIZE);
    g_assert_cmpuint(toy_of(left)->perm, ==, CR | WR);
    toy_co_user_free(user);
    g_assert_cmpuint(toy_of(disk)->perm, ==, 0);
    bdrv_co_unref(top);
    bdrv_co_unref(left);
    bdrv_co_unref(right);
    bdrv_co_unref(disk);
}

static void coroutine_fn every_check_is_set_or_aborted(void)
{
    BlockDriverState *top = toy_filter_new("top"), *disk = toy_new("disk");
    unsigned top_sets, disk_sets;
    BdrvChild *user;
    Error *err = NULL;

    bdrv_attach_child(top, disk, "file", BDRV_CHILD_FILTERED, &error_abort);
    top_sets = toy_of(top)->sets;
    disk_sets = toy_of(disk)->sets;
    toy_of(disk)->refuse = true;
    g_assert_null(toy_user(top, WR, ALL, &err)); /* P3: top agreed, disk did not */
    toy_expect_error(&err, "toy 'disk' refuses");
    g_assert_cmpuint(toy_of(top)->aborts, ==, 1);
    g_assert_cmpuint(toy_of(top)->sets, ==, top_sets);
    g_assert_cmpuint(toy_of(disk)->aborts, ==, 0); /* it refused: nothing to take back */
    g_assert_cmpuint(toy_of(disk)->sets, ==, disk_sets);
    g_assert_cmpuint(top->file->perm, ==, 0);
    p1(top->file);

    toy_of(disk)->refuse = false;
    user = toy_user(top, WR, ALL, &error_abort);
    g_assert_cmpuint(toy_of(top)->sets + toy_of(top)->aborts, ==, toy_of(top)->checks);
    g_assert_cmpuint(top->file->perm, ==, WR);
    toy_co_user_free(user);
    bdrv_co_unref(top);
    bdrv_co_unref(disk);
}

static void coroutine_fn writing_a_read_only_node_is_refused(void)
{
    BlockDriverState *bs = toy_new("disk");
    Error *err = NULL;

    bs->read_only = true;
    g_assert_null(toy_user(bs, WR, ALL, &err));
    toy_expect_error(&err, "read-only");
    g_assert_null(toy_user(bs, BLK_PERM_WRITE_UNCHANGED, ALL, &err));
    toy_expect_error(&err, "read-only");
    toy_co_user_free(toy_user(bs, CR, ALL, &error_abort));
    bdrv_co_unref(bs);
}

static void coroutine_fn nobody_writes_a_backing_file_unless_its_readers_bear_it(void)
{
    BlockDriverState *top = toy_new("top"), *base = toy_new("base");
    BdrvChild *user = toy_user(top, CR | WR, ALL & ~WR, &error_abort), *writer;
    Error *err = NULL;

    bdrv_attach_child(top, base, "backing", BDRV_CHILD_COW, &error_abort);
    g_assert_cmpuint(top->backing->perm, ==, CR);
    g_assert_null(toy_user(base, WR, ALL, &err));
    toy_expect_error(&err, "node 'top' (uses node 'base' as 'backing' child)");
    g_assert_cmpint(bdrv_child_try_set_perm(user, CR | WR, ALL, &error_abort), ==, 0);
    writer = toy_user(base, WR, ALL, &error_abort);
    g_assert_cmpint(bdrv_child_try_set_perm(user, CR, ALL & ~WR, &err), ==, -EPERM);
    toy_expect_error(&err, "Permission conflict");
    g_assert_cmpuint(user->perm, ==, CR | WR);
    toy_co_user_free(writer);
    toy_co_user_free(user);
    bdrv_co_unref(top);
    bdrv_co_unref(base);
}

static void coroutine_fn metadata_child_is_written_by_its_parent_alone(void)
{
    BlockDriverState *top = toy_new("top"), *file = toy_new("file");
    Error *err = NULL;

    bdrv_attach_child(top, file, "file", BDRV_CHILD_IMAGE, &error_abort);
    g_assert_cmpuint(top->file->perm, ==, CR | WR | RESIZE);
    g_assert_null(toy_user(file, WR, ALL, &err));
    toy_expect_error(&err, "unshared by node 'top' (uses node 'file' as 'file' child)");
    toy_co_user_free(toy_user(file, CR, ALL & ~0ull, &error_abort));
    bdrv_co_unref(top);
    bdrv_co_unref(file);
}

/* Another process may be asking for the same locks at that moment. */
static void coroutine_fn leaving_succeeds_even_when_the_driver_refuses(void)
{
    BlockDriverState *top = toy_filter_new("top"), *disk = toy_new("disk");
    BdrvChild *user;

    bdrv_attach_child(top, disk, "file", BDRV_CHILD_FILTERED, &error_abort);
    user = toy_user(top, CR | WR, ALL, &error_abort);
    toy_of(disk)->refuse = true;
    toy_co_user_free(user);
    p1(top->file);
    toy_of(disk)->refuse = false;
    /* What could not be given up then is given up with the next change. */
    toy_co_user_free(toy_user(top, CR, ALL, &error_abort));
    g_assert_cmpuint(toy_of(disk)->perm, ==, 0);
    bdrv_co_unref(top);
    bdrv_co_unref(disk);
}

static void add(void)
{
    block_test_add("/graph/perm/a second writer is refused and nothing has changed",
                   second_writer_is_refused);
    block_test_add("/graph/perm/a conflict deep below is found, both users are named",
                   conflict_deep_below_is_found);
    block_test_add("/graph/perm/what two parents do adds up at their common child",
                   permissions_of_a_diamond_add_up);
    block_test_add("/graph/perm/every check of a driver is followed by one set or abort",
                   every_check_is_set_or_aborted);
    block_test_add("/graph/perm/a read-only node is not written",
                   writing_a_read_only_node_is_refused);
    block_test_add("/graph/perm/a backing file is written only if its readers bear it",
                   nobody_writes_a_backing_file_unless_its_readers_bear_it);
    block_test_add("/graph/perm/an image file is written by its format alone",
                   metadata_child_is_written_by_its_parent_alone);
    block_test_add("/graph/perm/a user can leave even when a driver refuses",
                   leaving_succeeds_even_when_the_driver_refuses);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add);
}
