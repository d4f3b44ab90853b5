/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Storage that the operator's program makes larger, and what an image cannot have run. */
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>
#include "aio/timer.h"
#include "block/drivers/drivers.h"
#include "block/open/open.h"
#include "coro/sleep.h"
#include "tests/lib/block-test.h"
#include "tests/lib/fvd-image.h"
#include "tests/lib/test-ram.h"
#include "util/osdep.h"

#define CHUNK    (64 * KiB)
/* $0 is the file, $1 the bytes wanted, $2 those needed.  What is new is not zeros, as on a device that was in use. */
#define LENGTHEN "head -c $(($1 - $(stat -c %s \"$0\"))) /dev/zero | tr '\\\\0' '\\\\377' >> \"$0\""
/* One line for each run, before anything else. */
#define COUNT    "echo \"$1 $2\" >> \"$0.runs\"; "

static const FvdImageSpec spec = {
    .size = 16 * MiB,
    .chunk_size = CHUNK,
    .journal_size = 64 * KiB,
    .incompatible = FVD_INCOMPATIBLE_REMAP,
    .grow_unit = 4 * CHUNK,
};

typedef struct Scene {
    char *path, *runs;
    BlockDriverState *bs;
    BdrvChild *user;
} Scene;

static void coroutine_fn scene_open(Scene *s, const char *script)
{
    s->bs = block_test_co_open("{\"driver\": \"fvd\", \"node-name\": \"image\", \"backing\": null, "
                               "\"file\": {\"driver\": \"file\", \"filename\": \"%s\"}, "
                               "\"storage-grow-command\": [\"/bin/sh\", \"-c\", \"%s\"]}",
                               s->path, script);
    s->user = block_test_user(s->bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE);
}

/* @script: with '"' as '\"', for it is put into JSON. */
static void coroutine_fn scene_begin(Scene *s, const char *script)
{
    g_auto(GStrv) parts = g_strsplit(script, "\"", -1);
    g_autofree char *quoted = g_strjoinv("\\\"", parts);

    s->path = block_test_path("grow.fvd");
    s->runs = g_strdup_printf("%s.runs", s->path);
    unlink(s->runs);
    fvd_image_make_file(s->path, &spec);
    scene_open(s, quoted);
}

static void coroutine_fn scene_close(Scene *s)
{
    block_test_co_user_free(s->user);
    bdrv_co_unref(s->bs);
}

static void coroutine_fn scene_end(Scene *s)
{
    scene_close(s);
    unlink(s->runs);
    g_free(s->path);
    g_free(s->runs);
}

static int runs(const Scene *s)
{
    g_autofree char *text = NULL;
    int n = 0;

    if (g_file_get_contents(s->runs, &text, NULL, NULL)) {
        for (const char *c = text; (c = strchr(c, '\n')); c++) {
            n++;
        }
    }
    return n;
}

static int64_t file_length(const Scene *s)
{
    struct stat st;

    g_assert_cmpint(stat(s->path, &st), ==, 0);
    return st.st_size;
}

static int coroutine_fn write_at(Scene *s, int64_t offset)
{
    uint8_t buf[512] = {[0 ... 511] = 0x77};

    return bdrv_co_pwrite(s->user, offset, sizeof(buf), buf, 0);
}

static void coroutine_fn test_grows(void)
{
    int64_t first = fvd_image_data_offset(&spec);
    g_autofree char *text = NULL, *expected = NULL;
    Scene s = {0};

    scene_begin(&s, COUNT LENGTHEN);
    g_assert_cmpint(write_at(&s, 5 * CHUNK + 512), ==, 0);
    g_assert_true(g_file_get_contents(s.runs, &text, NULL, NULL));
    expected = g_strdup_printf("%" PRId64 " %" PRId64 "\n", first + spec.grow_unit, first + CHUNK);
    g_assert_cmpstr(text, ==, expected);
    g_assert_cmpint(file_length(&s), ==, first + spec.grow_unit);
    for (int i = 0; i < 4; i++) {
        g_assert_cmpint(write_at(&s, i * CHUNK), ==, 0);
    }
    g_assert_cmpint(runs(&s), ==, 2); /* a unit at a time */
    g_assert_cmpint(bdrv_co_flush(s.bs), ==, 0);
    block_test_co_expect(s.user, 5 * CHUNK, 512, 0);
    block_test_co_expect(s.user, 5 * CHUNK + 512, 512, 0x77);
    block_test_co_expect(s.user, 5 * CHUNK + KiB, CHUNK - KiB, 0);
    scene_close(&s);
    scene_open(&s, "exit 1");
    block_test_co_expect(s.user, 0, 512, 0x77);
    block_test_co_expect(s.user, 512, CHUNK - 512, 0);
    g_assert_cmpint(file_length(&s), ==, first + 2 * spec.grow_unit);
    g_assert_cmpint(write_at(&s, 7 * CHUNK), ==,
                    0); /* there is room, and it was not cut off (GC4) */
    block_test_co_expect(s.user, 7 * CHUNK + 512, CHUNK - 512, 0);
    g_assert_cmpint(file_length(&s), ==, first + 2 * spec.grow_unit);
    scene_end(&s);
}

/* GC3 */
static void coroutine_fn test_shared_failure(void)
{
    BlockTestRequest *reqs[8];
    Scene s = {0};

    scene_begin(&s, COUNT "exit 3");
    for (int i = 0; i < 8; i++) {
        reqs[i] = block_test_co_start(s.user, BLOCK_TEST_WRITE, i * CHUNK, 512, 1);
    }
    for (int i = 0; i < 8; i++) {
        g_assert_cmpint(block_test_co_join(reqs[i]), ==, -ENOSPC);
    }
    g_assert_cmpint(write_at(&s, 0), ==, -ENOSPC);
    g_assert_cmpint(runs(&s), ==, 1);
    block_test_co_expect(s.user, 0, CHUNK, 0);
    g_assert_cmpint(bdrv_co_flush(s.bs), ==, 0); /* nothing is lost */
    /* Somebody makes room by hand. */
    g_assert_cmpint(truncate(s.path, fvd_image_data_offset(&spec) + CHUNK), ==, 0);
    g_assert_cmpint(write_at(&s, 0), ==, 0);
    g_assert_cmpint(runs(&s), ==, 1);
    qemu_co_sleep_ns(INT64_C(1100) * SCALE_MS);
    g_assert_cmpint(write_at(&s, CHUNK), ==, -ENOSPC);
    g_assert_cmpint(runs(&s), ==, 2);
    scene_end(&s);
}

/* GC2 */
static void coroutine_fn test_not_believed(void)
{
    Scene s = {0};

    scene_begin(&s, "truncate -s $(($2 - 1)) \"$0\"");
    g_assert_cmpint(write_at(&s, 0), ==, -ENOSPC);
    scene_end(&s);
    scene_begin(&s, "truncate -s $1 \"$0\"; exit 1");
    g_assert_cmpint(write_at(&s, 0), ==, -ENOSPC);
    g_assert_cmpint(write_at(&s, 0), ==, 0); /* it is there all the same */
    scene_end(&s);
}

static void coroutine_fn test_cancel(void)
{
    BlockTestRequest *req;
    int64_t begun = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    Scene s = {0};

    scene_begin(&s, COUNT "sleep 60");
    req = block_test_co_start(s.user, BLOCK_TEST_WRITE, 0, 512, 1);
    while (!runs(&s)) {
        qemu_co_sleep_ns(5 * SCALE_MS);
    }
    block_test_co_expect(s.user, CHUNK, CHUNK, 0); /* others do not wait for it */
    bdrv_cancel_in_flight(s.bs);
    g_assert_cmpint(block_test_co_join(req), ==, -ENOSPC);
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - begun, <, 15 * NANOSECONDS_PER_SECOND);
    scene_end(&s);
}

static void coroutine_fn test_reopen(void)
{
    g_autoptr(BlockdevOptions) opts = NULL;
    BlockdevOptionsList list = {0};
    Error *err = NULL;
    Scene s = {0};

    scene_begin(&s, "exit 1");
    g_assert_cmpint(write_at(&s, 0), ==, -ENOSPC);
    opts = block_test_options("{\"driver\": \"fvd\", \"node-name\": \"image\", \"backing\": null, "
                              "\"file\": {\"driver\": \"file\", \"filename\": \"%s\"}, "
                              "\"storage-grow-command\": [\"sh\"]}",
                              s.path);
    list.value = opts;
    g_assert_cmpint(bdrv_co_reopen_multiple(&list, &err), ==, -EINVAL);
    g_assert_nonnull(strstr(error_get_pretty(err), "absolute path"));
    error_free(err);
    qapi_free_BlockdevOptions(opts);
    opts = block_test_options("{\"driver\": \"fvd\", \"node-name\": \"image\", \"backing\": null, "
                              "\"file\": {\"driver\": \"file\", \"filename\": \"%s\"}}",
                              s.path);
    list.value = opts;
    g_assert_cmpint(bdrv_co_reopen_multiple(&list, &error_abort), ==, 0);
    g_assert_cmpint(write_at(&s, 0), ==, 0); /* grows by itself */
    scene_end(&s);
}

/* GC1 */
static void coroutine_fn test_names(void)
{
    const char *const names[] = {
        "json:{\"driver\": \"fvd\", \"file\": {\"driver\": \"file\", \"filename\": \"%s\"}, "
        "\"storage-grow-command\": [\"/bin/true\"]}",
        "json:{\"file\": {\"driver\": \"file\", \"filename\": \"%s\"}, "
        "\"storage-grow-command\": [\"/bin/true\"]}",
        "json:{\"driver\": \"fvd\", \"file\": {\"driver\": \"file\", \"filename\": \"%s\"}, "
        "\"backing\": {\"driver\": \"fvd\", \"file\": {\"driver\": \"file\", \"filename\": "
        "\"%s\"}, \"storage-grow-command\": [\"/bin/true\"]}}",
        "json:{\"file\": {\"driver\": \"fvd\", \"storage-grow-command\": [\"/bin/true\"], "
        "\"file\": {\"driver\": \"file\", \"filename\": \"%s\"}}}",
    };
    g_autofree char *base = block_test_path("base.fvd"), *top = block_test_path("top.fvd");
    FvdImageSpec over = spec;

    over.base_size = over.size;
    over.base_img = "/nonexistent/base";
    fvd_image_make_file(base, &over);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_auto(GStrv) parts = g_strsplit(names[i], "%s", -1);
        g_autofree char *name = g_strjoinv(base, parts);

        over.base_img = name;
        fvd_image_make_file(top, &over);
        block_test_co_open_fails("'storage-grow-command' cannot come from the name",
                                 "{\"driver\": \"fvd\", \"file\": {\"driver\": \"file\", "
                                 "\"filename\": \"%s\"}}",
                                 top);
    }
}

static void coroutine_fn test_refused(void)
{
    g_autofree char *path = block_test_path("refused.fvd");
    BlockDriverState *ram = test_ram_new("ram", 0);

    fvd_image_co_make(ram, &spec);
    block_test_co_open_fails("in a file or a device of this host",
                             "{\"driver\": \"fvd\", \"backing\": null, \"file\": \"ram\", "
                             "\"storage-grow-command\": [\"/bin/true\"]}");
    bdrv_co_unref(ram);
    fvd_image_make_file(path, &spec);
    block_test_co_open_fails("needs the absolute path of a program, not 'true'",
                             "{\"driver\": \"fvd\", \"backing\": null, "
                             "\"storage-grow-command\": [\"true\"], "
                             "\"file\": {\"driver\": \"file\", \"filename\": \"%s\"}}",
                             path);
}

static void add(void)
{
    block_test_add("/fvd/grow/storage becomes larger by the operator's program", test_grows);
    block_test_add("/fvd/grow/a program that fails is the answer for all who wait",
                   test_shared_failure);
    block_test_add("/fvd/grow/what a program says is not believed", test_not_believed);
    block_test_add("/fvd/grow/a program ends when nobody waits for the write any more",
                   test_cancel);
    block_test_add("/fvd/grow/a reopen changes the program or leaves it out", test_reopen);
    block_test_add("/fvd/grow/the name that an image has for another names no program", test_names);
    block_test_add("/fvd/grow/only a file or a device of this host is made larger", test_refused);
}

int main(int argc, char **argv)
{
    bdrv_file_register();
    bdrv_fvd_register();
    return block_test_main(argc, argv, add);
}
