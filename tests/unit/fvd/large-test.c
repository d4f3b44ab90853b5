/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image of 4 TiB after a crash, its journal full to the last byte: how long it takes to open, and what memory.
 *
 * The journal is the worst there can be: each sector as many changes as it holds, of one chunk and one block each, all
 * over the disk.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "block/drivers/drivers.h"
#include "block/drivers/fvd/layout/jrecord.h"
#include "block/open/open.h"
#include "tests/lib/block-test.h"
#include "tests/lib/fvd-image.h"
#include "tests/unit/fvd/journal.h"
#include "util/osdep.h"

#define DISK         (4 * TiB)
/* What a user waits at most for a machine that comes up again. */
#define OPEN_SECONDS 2
/*
 * Table 16 MiB, bitmap 8 MiB, and once more where both have been changed and are to be written; the journal 16 MiB and
 * 16 bytes for each of its sectors.
 */
#define MEMORY_MAX   (96 * MiB)

/* The most memory since forget_high_water(). */
static int64_t high_water(void)
{
    g_autofree char *text = NULL;
    const char *at;

    g_assert_true(g_file_get_contents("/proc/self/status", &text, NULL, NULL));
    at = strstr(text, "VmHWM:");
    g_assert_nonnull(at);
    return strtoll(at + strlen("VmHWM:"), NULL, 10) * KiB;
}

/* So that what was needed to make the image does not hide what is needed to open it. */
static void forget_high_water(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);

    g_assert_cmpint(write(fd, "5", 1), ==, 1);
    close(fd);
}

/* Changes that are a chunk of the disk and one of its blocks, until the journal is full; how many. */
static uint32_t fill_journal(uint8_t *journal, const FvdHeader *h)
{
    uint32_t n_sectors = (uint32_t)(h->journal_size / FVD_JSECTOR_SIZE), n = 0;
    uint32_t chunks = (uint32_t)fvd_header_chunks(h);
    FvdJGeometry g;

    fvd_jgeometry_init(&g, h);
    for (uint32_t i = 0; i < n_sectors; i++) {
        FvdJSector sector;

        fvd_jsector_start(&sector, journal + (size_t)i * FVD_JSECTOR_SIZE);
        for (;; n++) {
            /* An odd number times n: another chunk each time. */
            uint32_t chunk = n * 2654435761u % chunks, entry = cpu_to_le32(n);
            FvdJChange change = {
                .epoch = h->stable_journal_epoch,
                .entries = &entry,
                .first_chunk = chunk,
                .n_chunks = 1,
                .first_sector = chunk * (uint64_t)(h->chunk_size / FVD_SECTOR_BYTES),
                .n_sectors = (uint32_t)(h->block_size / FVD_SECTOR_BYTES),
            };

            if (!fvd_jsector_put(&sector, &change, &g)) {
                break;
            }
        }
        fvd_jsector_finish(&sector, h->stable_journal_epoch, i + 1);
    }
    return n;
}

static void write_all(int fd, const void *buf, size_t bytes, int64_t offset)
{
    g_assert_cmpint(pwrite(fd, buf, bytes, offset), ==, (ssize_t)bytes);
}

static const FvdImageSpec spec = {
    .size = DISK,
    .base_size = DISK,
    .base_img = "base",
    .incompatible = FVD_INCOMPATIBLE_KNOWN,
};

static uint32_t make_image(const char *path)
{
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    g_autofree uint8_t *journal = NULL;
    uint8_t sector[FVD_SECTOR_BYTES];
    uint32_t n;
    int fd;

    fvd_image_make_file(path, &spec);
    fvd_image_header(&spec, h);
    g_assert_cmpint(h->journal_size, ==, FVD_JOURNAL_SIZE_DEFAULT);
    h->clean_shutdown = 0;
    journal = g_malloc0(h->journal_size);
    n = fill_journal(journal, h);
    fd = open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    write_all(fd, journal, h->journal_size, h->journal_offset);
    fvd_header_encode_sector(h, FVD_SECTOR_STATE, sector);
    write_all(fd, sector, sizeof(sector), FVD_SECTOR_STATE * FVD_SECTOR_BYTES);
    close(fd);
    return n;
}

static void coroutine_fn open_and_tell(const char *path, bool read_only)
{
    int64_t before, begun_us, took_us, grown;
    BlockDriverState *bs;

    forget_high_water();
    before = high_water();
    begun_us = g_get_monotonic_time();
    bs = block_test_co_open(
        "{\"driver\": \"fvd\", \"node-name\": \"image\", \"backing\": null, \"read-only\": %s, "
        "\"file\": {\"driver\": \"file\", \"filename\": \"%s\"}}",
        read_only ? "true" : "false", path);
    took_us = g_get_monotonic_time() - begun_us;
    grown = high_water() - before;
    g_test_message("%s: %.2f s, %.1f MiB more than before", read_only ? "to read" : "to write",
                   (double)took_us / 1e6, (double)grown / MiB);
    g_assert_cmpint(bdrv_getlength(bs), ==, DISK);
    if (!block_test_sanitized()) { /* a sanitizer keeps freed memory, and takes its time */
        g_assert_cmpint(took_us, <, OPEN_SECONDS * 1000000);
        g_assert_cmpint(grown, <, MEMORY_MAX);
    }
    bdrv_co_unref(bs);
}

static void coroutine_fn test_opens(void)
{
    g_autofree char *path = block_test_path("large.fvd");
    uint32_t n = make_image(path);

    g_test_message("%" PRIu32 " changes in the journal", n);
    g_assert_cmpuint(n, >, 300000);
    open_and_tell(path, true);
    open_and_tell(path, false);
}

/* A record of @n blocks at most in each sector, which none of them fits; no block comes twice. */
static void put_wrong_sums(const char *path, uint32_t n)
{
    enum { IN_SECTOR = 100 };
    g_autofree FvdHeader *h = g_new(FvdHeader, 1);
    g_autofree uint8_t *journal = NULL;
    uint8_t sector[FVD_SECTOR_BYTES];
    uint32_t n_sectors, block = 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);

    fvd_image_header(&spec, h);
    h->clean_shutdown = 0;
    journal = g_malloc0(h->journal_size);
    n_sectors = (uint32_t)(h->journal_size / FVD_JSECTOR_SIZE);
    for (uint32_t i = 0; i < n_sectors && block < n; i++) {
        uint8_t *to = journal + (size_t)i * FVD_JSECTOR_SIZE;
        uint32_t blocks = MIN(IN_SECTOR, n - block);

        add_sums(to, 0, block, blocks, 1);
        add_trailer(to, h->stable_journal_epoch, i + 1);
        block += blocks;
    }
    write_all(fd, journal, h->journal_size, h->journal_offset);
    fvd_header_encode_sector(h, FVD_SECTOR_STATE, sector);
    write_all(fd, sector, sizeof(sector), FVD_SECTOR_STATE * FVD_SECTOR_BYTES);
    close(fd);
}

/* Return: damage that is there still. */
static int64_t coroutine_fn check(const char *path, unsigned fix)
{
    g_autofree char *name =
        g_strdup_printf("json:{\"driver\": \"fvd\", \"backing\": null, \"read-only\": %s, "
                        "\"file\": {\"driver\": \"file\", \"filename\": \"%s\"}}",
                        fix ? "false" : "true", path);
    BdrvOpenFileArgs args = {.filename = name, .check = true, .read_only = !fix};
    BlockDriverState *bs = bdrv_co_open_file(&args, &error_abort);
    BdrvChild *user = block_test_user(bs, BLK_PERM_CONSISTENT_READ | (fix ? BLK_PERM_WRITE : 0));
    BdrvCheckResult r = {0};

    bs->drv->image->co_check(bs, &r, fix, &error_abort);
    block_test_co_user_free(user);
    bdrv_co_unref(bs);
    g_assert_cmpint(r.check_errors, ==, 0);
    return r.corruptions;
}

static void coroutine_fn test_sums(void)
{
    g_autofree char *path = block_test_path("large-sums.fvd");
    int64_t begun_us, took_us;

    make_image(path);
    put_wrong_sums(path, FVD_SUMS_MAX);
    open_and_tell(path, true);
    put_wrong_sums(path, UINT32_MAX);
    begun_us = g_get_monotonic_time();
    block_test_co_open_fails("More than 4096 blocks",
                             "{\"driver\": \"fvd\", \"backing\": null, \"read-only\": true, "
                             "\"file\": {\"driver\": \"file\", \"filename\": \"%s\"}}",
                             path);
    took_us = g_get_monotonic_time() - begun_us;
    g_test_message("refused after %.2f s", (double)took_us / 1e6);
#ifndef __SANITIZE_ADDRESS__
    g_assert_cmpint(took_us, <, OPEN_SECONDS * 1000000);
#endif
    g_assert_cmpint(check(path, 0), ==, 1);
    g_assert_cmpint(check(path, BDRV_FIX_ERRORS), ==, 0);
    open_and_tell(path, false);
}

static void add_tests(void)
{
    block_test_add("/fvd/large/opens-after-a-crash-within-two-seconds", test_opens);
    block_test_add("/fvd/large/checksums that are verified at open are bounded", test_sums);
}

int main(int argc, char **argv)
{
    bdrv_file_register();
    bdrv_fvd_register();
    return block_test_main(argc, argv, add_tests);
}
