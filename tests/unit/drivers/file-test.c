/* SPDX-License-Identifier: GPL-2.0-or-later */
/* block/drivers/file: the contract by each engine, errors, locks, holes, resize, reopen, create. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "aio/file.h"
#include "block/drivers/drivers.h"
#include "block/io/io.h"
#include "block/open/image-lock.h"
#include "block/open/open.h"
#include "tests/lib/block-test.h"
#include "tests/lib/driver-contract.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

enum { RW = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE };

static char *image; /* the file of most tests */

static void make_image(int64_t size)
{
    int fd = open(image, O_RDWR | O_CREAT | O_TRUNC, 0644);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, size), ==, 0);
    close(fd);
}

static void make_contract_image(void)
{
    make_image(300 * KiB);
}

static BlockDriverState *coroutine_fn open_image(const char *more)
{
    return block_test_co_open(
        "{\"driver\":\"file\",\"node-name\":\"f\",\"filename\":\"%s\",\"discard\":\"unmap\"%s}",
        image, more);
}

static void coroutine_fn what_is_no_file_is_refused_by_name(void)
{
    g_autofree char *dir = g_path_get_dirname(image);
    g_autofree char *fifo = block_test_path("fifo");

    block_test_co_open_fails("Could not open '/nofile': No such file or directory",
                             "{\"driver\":\"file\",\"filename\":\"/nofile\"}");
    block_test_co_open_fails("Is a directory", "{\"driver\":\"file\",\"filename\":\"%s\"}", dir);
    block_test_co_open_fails("to be a regular file",
                             "{\"driver\":\"file\",\"read-only\":true,\"filename\":\"%s\"}", dir);
    block_test_co_open_fails("'file' driver requires '/dev/null' to be a regular file",
                             "{\"driver\":\"file\",\"filename\":\"/dev/null\"}");
    make_image(512);
    block_test_co_open_fails("to be either a character or block device",
                             "{\"driver\":\"host_device\",\"filename\":\"%s\"}", image);
    /* Nobody writes into it: an open that waits would hang here. */
    g_assert_cmpint(mkfifo(fifo, 0644), ==, 0);
    block_test_co_open_fails("to be a regular file",
                             "{\"driver\":\"file\",\"read-only\":true,\"filename\":\"%s\"}", fifo);
    block_test_co_open_fails("requires cache.direct=on",
                             "{\"driver\":\"file\",\"filename\":\"%s\",\"aio\":\"native\"}", image);
    block_test_co_open_fails(
        "aio-max-batch", "{\"driver\":\"file\",\"filename\":\"%s\",\"aio-max-batch\":4}", image);
}

/* A second node on the file stands for another process: its locks are of another open description. */
static void coroutine_fn expect_no_lock(BdrvChild *user, uint64_t perm, const char *message)
{
    Error *err = NULL;

    g_assert_cmpint(bdrv_child_try_set_perm(user, perm, BLK_PERM_ALL, &err), <, 0);
    g_assert_cmpstr(error_get_pretty(err), ==, message);
    g_assert_nonnull(strstr(error_get_hint(err), "Is another process using the image ["));
    error_free(err);
}

/* F6 */
static void coroutine_fn a_second_writer_is_refused_and_told_of(void)
{
    BlockDriverState *bs, *other;
    BdrvChild *user, *second;

    make_image(1 * MiB);
    bs = open_image("");
    user = block_test_user(bs, RW);
    other = block_test_co_open("{\"driver\":\"file\",\"filename\":\"%s\"}", image);
    second = block_test_user(other, 0);
    expect_no_lock(second, RW, "Failed to get \"write\" lock");
    expect_no_lock(second, BLK_PERM_CONSISTENT_READ, "Failed to get shared \"write\" lock");
    /* The refusals left no lock behind. */
    g_assert_cmpint(bdrv_child_try_set_perm(user, RW | BLK_PERM_RESIZE, BLK_PERM_ALL, &error_abort),
                    ==, 0);
    /* Two readers go together, and neither may begin to write. */
    g_assert_cmpint(
        bdrv_child_try_set_perm(user, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort), ==, 0);
    g_assert_cmpint(
        bdrv_child_try_set_perm(second, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort), ==,
        0);
    expect_no_lock(user, RW, "Failed to get \"write\" lock");
    expect_no_lock(second, BLK_PERM_RESIZE, "Failed to get \"resize\" lock");
    /* Who stops using the file leaves it to the other, after a refusal too. */
    expect_no_lock(user, RW, "Failed to get \"write\" lock");
    g_assert_cmpint(bdrv_child_try_set_perm(user, 0, BLK_PERM_ALL, &error_abort), ==, 0);
    g_assert_cmpint(
        bdrv_child_try_set_perm(second, RW | BLK_PERM_RESIZE, BLK_PERM_ALL, &error_abort), ==, 0);
    block_test_co_user_free(second);
    bdrv_co_unref(other);
    g_assert_cmpint(bdrv_child_try_set_perm(user, RW, BLK_PERM_ALL, &error_abort), ==, 0);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void coroutine_fn force_share_reads_beside_a_writer(void)
{
    BlockDriverState *bs, *other;
    BdrvChild *user, *second;

    make_image(1 * MiB);
    bs = open_image("");
    user = block_test_user(bs, RW);
    other = block_test_co_open("{\"driver\":\"file\",\"filename\":\"%s\",\"read-only\":true,"
                               "\"force-share\":true}",
                               image);
    second = block_test_user(other, BLK_PERM_CONSISTENT_READ);
    block_test_co_fill(user, 0, 512, 5);
    block_test_co_expect(second, 0, 512, 5);
    block_test_co_user_free(second);
    block_test_co_user_free(user);
    bdrv_co_unref(other);
    bdrv_co_unref(bs);
}

static void coroutine_fn locks_off_takes_no_locks(void)
{
    BlockDriverState *bs;
    BdrvChild *user;
    int fd;

    make_image(1 * MiB);
    fd = open(image, O_RDWR);
    bs = open_image(",\"locking\":\"off\"");
    user = block_test_user(bs, RW);
    g_assert_cmpint(image_lock_check(fd, RW, 0, image, NULL), ==, 0);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    bs = open_image(",\"locking\":\"on\"");
    user = block_test_user(bs, RW);
    g_assert_cmpint(image_lock_check(fd, 0, BLK_PERM_CONSISTENT_READ, image, NULL), <, 0);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    close(fd);
}

/* Another program says what it wants before it asks (L1): for a moment it stands in everybody's way. */
static void coroutine_fn giving_up_asks_nobody(void)
{
    BlockDriverState *bs;
    BdrvChild *user;
    int fd;

    make_image(1 * MiB);
    fd = open(image, O_RDWR);
    bs = open_image("");
    user = block_test_user(bs, RW);
    g_assert_cmpint(image_lock_acquire(fd, 0, 0, &error_abort), ==, 0);
    g_assert_cmpint(
        bdrv_child_try_set_perm(user, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort), ==, 0);
    block_test_co_user_free(user);
    g_assert_cmpint(image_lock_check(fd, RW, BLK_PERM_ALL, image, NULL), ==, 0); /* all given up */
    bdrv_co_unref(bs);
    close(fd);
}

static void coroutine_fn zeroes_past_the_end_grow_the_file(void)
{
    BlockDriverState *bs;
    BdrvChild *user;
    struct stat st;

    make_image(64 * KiB);
    bs = open_image(",\"discard\":\"unmap\"");
    user = block_test_user(bs, RW | BLK_PERM_RESIZE);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(user, 64 * KiB, 64 * KiB, BDRV_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(bdrv_getlength(bs), ==, 128 * KiB);
    g_assert_cmpint(stat(image, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, 128 * KiB);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void coroutine_fn locks_outlive_a_reopen(void)
{
    BlockDriverState *bs;
    BdrvChild *user;
    g_autoptr(BlockdevOptions) opts = NULL;
    BlockdevOptionsList list;
    int fd;

    make_image(1 * MiB);
    fd = open(image, O_RDWR);
    bs = open_image("");
    user = block_test_user(bs, RW);
    opts = block_test_options("{\"driver\":\"file\",\"node-name\":\"f\",\"filename\":\"%s\","
                              "\"cache\":{\"direct\":true}}",
                              image);
    list = (BlockdevOptionsList){.value = opts};
    g_assert_cmpint(bdrv_co_reopen_multiple(&list, &error_abort), ==, 0);
    g_assert_cmpint(image_lock_check(fd, 0, BLK_PERM_CONSISTENT_READ, image, NULL), <, 0);
    g_assert_cmpint(bs->bl.request_alignment, >=, 1);
    block_test_co_fill(user, 1, 1000, 7);
    block_test_co_expect(user, 1, 1000, 7);
    block_test_co_expect(user, 0, 1, 0);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    g_assert_cmpint(image_lock_check(fd, 0, BLK_PERM_CONSISTENT_READ, image, NULL), ==, 0);
    close(fd);
}

static void coroutine_fn a_reopen_to_another_file_is_refused(void)
{
    BlockDriverState *bs;
    g_autoptr(BlockdevOptions) opts = NULL;
    BlockdevOptionsList list;
    Error *err = NULL;

    make_image(1 * MiB);
    bs = open_image("");
    opts =
        block_test_options("{\"driver\":\"file\",\"node-name\":\"f\",\"filename\":\"%s\"}", image);
    list = (BlockdevOptionsList){.value = opts};
    g_assert_cmpint(unlink(image), ==, 0);
    g_assert_cmpint(bdrv_co_reopen_multiple(&list, &err), <, 0);
    error_free(err);
    err = NULL;
    make_image(2 * MiB); /* the old inode is held open, so this is another */
    g_assert_cmpint(bdrv_co_reopen_multiple(&list, &err), ==, -ESTALE);
    error_free(err);
    err = NULL;
    g_free(opts->u.file.filename);
    opts->u.file.filename = g_strdup("/elsewhere");
    g_assert_cmpint(bdrv_co_reopen_multiple(&list, &err), ==, -EINVAL);
    g_assert_cmpstr(error_get_pretty(err), ==, "Cannot change the option 'filename'");
    error_free(err);
    bdrv_co_unref(bs);
}

static int64_t allocated(void)
{
    struct stat st;

    g_assert_cmpint(stat(image, &st), ==, 0);
    return (int64_t)st.st_blocks * 512;
}

/* F3: the kept answer follows every write. */
static void coroutine_fn holes_are_seen_and_follow_writes(void)
{
    BlockDriverState *bs;
    BdrvChild *user;
    int64_t pnum;
    int ret;

    make_image(8 * MiB);
    bs = open_image("");
    user = block_test_user(bs, RW);
    g_assert_cmpint(bdrv_co_is_zero_fast(bs, 0, 8 * MiB), ==, 1);
    block_test_co_fill(user, 4 * MiB, 64 * KiB, 1);
    ret = bdrv_co_block_status(bs, 0, 8 * MiB, &pnum, NULL, NULL);
    g_assert_true(ret & BDRV_BLOCK_ZERO);
    g_assert_cmpint(pnum, ==, 4 * MiB);
    /* From the kept extent, at an odd place. */
    ret = bdrv_co_block_status(bs, 12345, 8 * MiB - 12345, &pnum, NULL, NULL);
    g_assert_true(ret & BDRV_BLOCK_ZERO);
    g_assert_cmpint(pnum, ==, 4 * MiB - 12345);
    block_test_co_fill(user, 12345, 1, 1);
    ret = bdrv_co_block_status(bs, 12345, 1, &pnum, NULL, NULL);
    g_assert_true(ret & BDRV_BLOCK_DATA);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(user, 0, 8 * MiB, BDRV_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(bdrv_co_is_zero_fast(bs, 0, 8 * MiB), ==, 1);
    g_assert_cmpint(allocated(), <, 64 * KiB);
    g_assert_cmpint(bdrv_co_get_allocated_file_size(bs), ==, allocated());
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void coroutine_fn zeroes_without_unmap_keep_their_space(void)
{
    BlockDriverState *bs;
    BdrvChild *user;

    make_image(8 * MiB);
    bs = open_image("");
    user = block_test_user(bs, RW);
    g_assert_cmpint(bdrv_co_pwrite_zeroes(user, 0, 4 * MiB, 0), ==, 0);
    g_assert_cmpint(allocated(), >=, 4 * MiB);
    block_test_co_expect(user, 0, 4 * MiB, 0);
    g_assert_cmpint(bdrv_co_pdiscard(user, 0, 4 * MiB), ==, 0);
    g_assert_cmpint(allocated(), <, 64 * KiB);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void coroutine_fn a_resize_takes_the_space_it_is_told_to(void)
{
    BlockDriverState *bs;
    BdrvChild *user;
    Error *err = NULL;

    make_image(1 * MiB);
    bs = open_image("");
    user = block_test_user(bs, RW | BLK_PERM_RESIZE);
    g_assert_cmpint(bdrv_co_truncate(user, 2 * MiB, true, PREALLOC_MODE_OFF, 0, &error_abort), ==,
                    0);
    g_assert_cmpint(bdrv_getlength(bs), ==, 2 * MiB);
    g_assert_cmpint(allocated(), <, 64 * KiB);
    g_assert_cmpint(bdrv_co_truncate(user, 3 * MiB, true, PREALLOC_MODE_FALLOC, 0, &error_abort),
                    ==, 0);
    g_assert_cmpint(allocated(), >=, 1 * MiB);
    g_assert_cmpint(bdrv_co_truncate(user, 5 * MiB, true, PREALLOC_MODE_FULL, 0, &error_abort), ==,
                    0);
    g_assert_cmpint(allocated(), >=, 3 * MiB);
    g_assert_cmpint(bdrv_co_truncate(user, 4 * MiB, true, PREALLOC_MODE_FULL, 0, &err), ==,
                    -EINVAL);
    error_free(err);
    err = NULL;
    g_assert_cmpint(bdrv_co_truncate(user, 6 * MiB, true, PREALLOC_MODE_METADATA, 0, &err), ==,
                    -ENOTSUP);
    error_free(err);
    g_assert_cmpint(bdrv_getlength(bs), ==, 5 * MiB);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
}

static void coroutine_fn an_image_in_use_is_not_emptied_by_create(void)
{
    BlockCreateArgs args = {.filename = image, .size = 2 * MiB};
    BlockDriverState *bs;
    BdrvChild *user;
    Error *err = NULL;

    make_image(1 * MiB);
    bs = open_image("");
    user = block_test_user(bs, RW);
    block_test_co_fill(user, 0, 4096, 9);
    g_assert_cmpint(bdrv_co_create_image("file", &args, &err), <, 0);
    g_assert_cmpstr(error_get_pretty(err), ==, "Failed to get \"write\" lock");
    error_free(err);
    err = NULL;
    block_test_co_expect(user, 0, 4096, 9);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    g_assert_cmpint(bdrv_co_create_image("file", &args, &error_abort), ==, 0);
    bs = open_image("");
    g_assert_cmpint(bdrv_getlength(bs), ==, 2 * MiB);
    g_assert_cmpint(bdrv_co_is_zero_fast(bs, 64 * KiB, 2 * MiB - 64 * KiB), ==, 1);
    bdrv_co_unref(bs);
    /* What could not be finished is removed. */
    g_assert_cmpint(unlink(image), ==, 0);
    args.size = INT64_MAX;
    g_assert_cmpint(bdrv_co_create_image("file", &args, &err), <, 0);
    error_free(err);
    g_assert_cmpint(access(image, F_OK), !=, 0);
}

static void coroutine_fn a_file_that_may_not_be_written_opens_read_only_if_told(void)
{
    BlockDriverState *bs;

    make_image(1 * MiB);
    if (geteuid() == 0) {
        g_test_skip("root may write everything");
        return;
    }
    g_assert_cmpint(chmod(image, 0444), ==, 0);
    block_test_co_open_fails("Permission denied", "{\"driver\":\"file\",\"filename\":\"%s\"}",
                             image);
    bs = open_image(",\"auto-read-only\":true");
    g_assert_true(bdrv_is_read_only(bs));
    bdrv_co_unref(bs);
    g_assert_cmpint(chmod(image, 0644), ==, 0);
}

/* Memory and ranges that O_DIRECT does not take are made to fit. */
static void coroutine_fn direct_io_takes_any_memory(void)
{
    BlockDriverState *bs;
    BdrvChild *user;
    uint8_t *raw = qemu_memalign(4096, 64 * KiB);
    QEMUIOVector qiov;

    make_image(1 * MiB + 100);
    bs = open_image(",\"cache\":{\"direct\":true}");
    user = block_test_user(bs, RW);
    memset(raw, 3, 64 * KiB);
    qemu_iovec_init(&qiov, 3);
    qemu_iovec_add(&qiov, raw + 1, 1000);
    qemu_iovec_add(&qiov, raw + 2048, 8192 - 1000 - 4);
    qemu_iovec_add(&qiov, raw + 32768, 4);
    g_assert_cmpint(bdrv_co_pwritev(user, 4096, 8192, &qiov, 0), ==, 0);
    qemu_iovec_destroy(&qiov);
    block_test_co_expect(user, 4096, 8192, 3);
    block_test_co_fill(user, 1 * MiB + 99, 1, 4);
    block_test_co_expect(user, 1 * MiB + 99, 1, 4);
    g_assert_cmpint(bdrv_getlength(bs), ==, 1 * MiB + 100);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    qemu_vfree(raw);
}

static const DriverContract *contract_of(const char *name, const char *more)
{
    DriverContract *c = g_new0(DriverContract, 1);

    c->name = name;
    c->options = g_strdup_printf("\"filename\": \"%s\"%s", image, more);
    c->prepare = make_contract_image;
    c->writable = true;
    c->keeps_data = true;
    return c;
}

static bool engine_works(AioFileEngine e)
{
    return aio_file_engine_check(qemu_get_aio_context(), e, NULL) == 0;
}

/* Some file systems for temporary files have no direct I/O. */
static bool direct_works(void)
{
    int fd = open(image, O_RDWR | O_CREAT | O_DIRECT, 0644);

    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

static GPtrArray *contracts;

static void add_contract(const char *name, const char *more)
{
    const DriverContract *c = contract_of(name, more);

    g_ptr_array_add(contracts, (void *)c);
    driver_contract_with("file", c);
}

typedef struct Watcher {
    NotifierWithReturn notifier;
    BdrvWriteObserver observer;
    unsigned seen;
    int64_t written_at, written; /* last */
} Watcher;

static void watcher_written(BdrvWriteObserver *obs, int64_t offset, int64_t bytes)
{
    Watcher *w = container_of(obs, Watcher, observer);

    w->written_at = offset;
    w->written = bytes;
}

static int coroutine_fn watcher_notify(NotifierWithReturn *notifier, void *data)
{
    container_of(notifier, Watcher, notifier)->seen++;
    return 0;
}

/* Between two files, marked as a write is; who wants to see old data first has it read and written. */
static void coroutine_fn the_system_copies_from_file_to_file(void)
{
    g_autofree char *from_name = block_test_path("from"), *to_name = block_test_path("to");
    BlockDriverState *from, *to, *ram = test_ram_new("ram", 1 * MiB);
    Watcher watcher = {.notifier = {.notify = watcher_notify},
                       .observer = {.written = watcher_written}};
    BdrvChild *writer, *user, *ram_user = block_test_user(ram, RW);
    int ret;

    g_assert_true(g_file_set_contents(from_name, "", 0, NULL));
    g_assert_true(g_file_set_contents(to_name, "", 0, NULL));
    g_assert_cmpint(truncate(from_name, 1 * MiB) | truncate(to_name, 1 * MiB), ==, 0);
    from = block_test_co_open("{\"driver\": \"file\", \"filename\": \"%s\"}", from_name);
    to = block_test_co_open("{\"driver\": \"file\", \"filename\": \"%s\"}", to_name);
    writer = block_test_user(from, RW);
    user = block_test_user(to, RW);
    block_test_co_fill(writer, 0, 1 * MiB, 7);
    block_test_co_expect(user, 0, 1 * MiB, 0); /* what is known of it is not true any more then */
    bdrv_add_write_observer(to, &watcher.observer);
    ret = bdrv_co_copy_range(from, 64 * KiB, user, 128 * KiB, 64 * KiB);
    if (ret == -ENOTSUP) {
        g_test_skip("the file system cannot");
    } else {
        g_assert_cmpint(ret, ==, 0);
        block_test_co_expect(user, 0, 128 * KiB, 0);
        block_test_co_expect(user, 128 * KiB, 64 * KiB, 7);
        block_test_co_expect(user, 192 * KiB, 64 * KiB, 0);
        g_assert_cmpint(watcher.written_at, ==, 128 * KiB);
        g_assert_cmpint(watcher.written, ==, 64 * KiB);
    }
    g_assert_cmpint(bdrv_co_copy_range(from, 1 * MiB - 512, user, 0, 1024), ==, -ENOTSUP);
    g_assert_cmpint(bdrv_co_copy_range(ram, 0, user, 0, 512), ==, -ENOTSUP);
    g_assert_cmpint(bdrv_co_copy_range(from, 0, ram_user, 0, 512), ==, -ENOTSUP);
    bdrv_add_before_write_notifier(to, &watcher.notifier);
    g_assert_cmpint(bdrv_co_copy_range(from, 0, user, 0, 512), ==, -ENOTSUP);
    notifier_with_return_remove(&watcher.notifier);
    g_assert_cmpuint(watcher.seen, ==, 0);
    bdrv_remove_write_observer(&watcher.observer);
    block_test_co_user_free(writer);
    block_test_co_user_free(user);
    block_test_co_user_free(ram_user);
    bdrv_co_unref(from);
    bdrv_co_unref(to);
    bdrv_co_unref(ram);
}

static void add(void)
{
    image = block_test_path("test.img");
    contracts = g_ptr_array_new();
    add_contract("file", "");
    add_contract("file by threads", ", \"aio\": \"threads\"");
    if (direct_works()) {
        add_contract("file direct", ", \"cache\": {\"direct\": true}");
    }
    if (engine_works(AIO_FILE_IO_URING)) {
        add_contract("file by io_uring", ", \"aio\": \"io_uring\"");
    }
    if (engine_works(AIO_FILE_NATIVE) && direct_works()) {
        add_contract("file by libaio", ", \"aio\": \"native\", \"cache\": {\"direct\": true}");
    }
#define ADD(sentence, function) block_test_add("/file/" sentence, function)
    ADD("the system copies from file to file", the_system_copies_from_file_to_file);
    ADD("what is no file is refused by name", what_is_no_file_is_refused_by_name);
    ADD("a second writer is refused and told of", a_second_writer_is_refused_and_told_of);
    ADD("force-share reads beside a writer", force_share_reads_beside_a_writer);
    ADD("locking=off takes no locks", locks_off_takes_no_locks);
    if (direct_works()) {
        ADD("locks outlive a reopen", locks_outlive_a_reopen);
    }
    ADD("giving up a permission asks nobody", giving_up_asks_nobody);
    ADD("zeroes past the end grow the file", zeroes_past_the_end_grow_the_file);
    ADD("a reopen to another file is refused", a_reopen_to_another_file_is_refused);
    ADD("holes are seen and follow writes", holes_are_seen_and_follow_writes);
    ADD("zeroes without unmap keep their space", zeroes_without_unmap_keep_their_space);
    ADD("a resize takes the space it is told to", a_resize_takes_the_space_it_is_told_to);
    ADD("an image in use is not emptied by create", an_image_in_use_is_not_emptied_by_create);
    ADD("a file that may not be written opens read-only if told",
        a_file_that_may_not_be_written_opens_read_only_if_told);
    if (direct_works()) {
        ADD("direct IO takes any memory", direct_io_takes_any_memory);
    }
}

int main(int argc, char **argv)
{
    int ret;

    bdrv_file_register();
    ret = block_test_main(argc, argv, add);
    for (guint i = 0; i < contracts->len; i++) {
        DriverContract *c = contracts->pdata[i];

        g_free((char *)c->options);
        g_free(c);
    }
    g_ptr_array_free(contracts, TRUE);
    g_free(image);
    return ret;
}
