/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * F1 to F10: guests write to an FVD image, and power is cut at every write and every flush that the driver makes, while
 * it is used, opened, closed and recovered.  What was not flushed is dropped, torn, reordered.
 *
 *      a life of the image    open --- guests --- close, or power --- open --- guests ...
 *                              |  |     | | | |     |
 *      moments                 v  v     v v v v     v       an image of the disks, and what may be in it
 *                              +--+--+--+-+-+-+-----+
 *                                    |
 *      states                some fates of each moment:
 *                              S1  it opens for reading only, which writes nothing; each sector is one that may be
 *                              S2  it opens for writing, and shows the same
 *                              S3  then the bytes of the image say the same, without a journal
 *                              S4  power that goes while it is opened, at any moment, and whatever its fate: the same
 *                              S5  guests go on, and nothing but what they write changes
 *                              S6  power goes again while they do: as S1 to S3
 *                              S7  a check finds nothing, and changes nothing; a repair cuts off what is behind the
 *                                  last chunk, and the disk is the same, also when power goes meanwhile
 *                              S8  the process was killed, and with its writes in memory still it is opened and used:
 *                                  as S1 to S3, and when power goes then each sector is one that may be
 *                              S9  a disk failed, and the image was closed with that: as S1 and S7, and once a flush
 *                                  has failed, each write and flush of that life has
 *                              BM1  a dirty bitmap that is believed has a bit for each sector that is not as it was
 *                                  when it was made; one that was removed is not there, others are by their names
 *
 * fvd-scene.c tells the stories, fvd-state.c looks at states.  SEED and SEEDS in the environment say which stories are
 * told; what fails names its seed, moment and fate.
 */
#include "aio/timer.h"
#include "block/drivers/drivers.h"
#include "tests/crash/fvd-scene.h"
#include "tests/lib/block-test.h"
#include "util/log.h"
#include "util/osdep.h"

/* Stories of each kind, where the environment does not say it: in a second or two, some thousand states. */
#define SEEDS_DEFAULT           4
#define SEEDS_DEFAULT_SANITIZED 1

/* Whatever goes together; of each, some. */
static unsigned anything(uint32_t seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    unsigned wants = g_rand_int(rand) & g_rand_int(rand) & FVD_STORY_ALL;

    wants &= ~(g_rand_boolean(rand) ? FVD_STORY_BASE : FVD_STORY_NO_BASE);
    if (wants & FVD_STORY_OLD) {
        wants &= ~(FVD_STORY_SUMS | FVD_STORY_BITMAPS);
    }
    if (wants & FVD_STORY_BITMAPS) {
        wants &= ~FVD_STORY_RESIZE;
    }
    return wants;
}

/* @wants: 0: anything */
static void coroutine_fn tell_some(unsigned wants)
{
    uint32_t first = block_test_seed();
    const char *seeds = g_getenv("SEEDS");
    unsigned n = seeds                    ? g_ascii_strtoull(seeds, NULL, 10)
                 : block_test_sanitized() ? SEEDS_DEFAULT_SANITIZED
                                          : SEEDS_DEFAULT;
    unsigned states = 0;

    for (unsigned i = 0; i < n; i++) {
        states += scene_co_tell(first + i, wants ? wants : anything(first + i));
    }
    g_test_message("%u states", states);
}

static void coroutine_fn test_writes(void)
{
    tell_some(FVD_STORY_NO_BASE);
}

static void coroutine_fn test_base(void)
{
    tell_some(FVD_STORY_BASE);
}

static void coroutine_fn test_tiny_journal(void)
{
    tell_some(FVD_STORY_TINY_JOURNAL);
}

static void coroutine_fn test_device(void)
{
    tell_some(FVD_STORY_DEVICE | FVD_STORY_GIVE_BACK);
}

static void coroutine_fn test_data_file(void)
{
    tell_some(FVD_STORY_DATA_FILE);
}

static void coroutine_fn test_old(void)
{
    tell_some(FVD_STORY_OLD);
}

static void coroutine_fn test_give_back(void)
{
    tell_some(FVD_STORY_GIVE_BACK | FVD_STORY_TINY_JOURNAL);
}

static void coroutine_fn test_flush_storm(void)
{
    tell_some(FVD_STORY_FLUSH_STORM | FVD_STORY_BASE);
}

static void coroutine_fn test_no_flush(void)
{
    tell_some(FVD_STORY_NO_FLUSH | FVD_STORY_NO_BASE);
}

static void coroutine_fn test_sums(void)
{
    tell_some(FVD_STORY_SUMS | FVD_STORY_BASE);
}

/* Their data is durable by a flush of another file, which ends first, or last, or not at all. */
static void coroutine_fn test_sums_data_file(void)
{
    tell_some(FVD_STORY_SUMS | FVD_STORY_BASE | FVD_STORY_DATA_FILE | FVD_STORY_TINY_JOURNAL);
}

static void coroutine_fn test_sums_given_back(void)
{
    tell_some(FVD_STORY_SUMS | FVD_STORY_BASE | FVD_STORY_GIVE_BACK);
}

static void coroutine_fn test_copy_on_read(void)
{
    tell_some(FVD_STORY_COPY_ON_READ | FVD_STORY_BASE);
}

static void coroutine_fn test_prefetch(void)
{
    tell_some(FVD_STORY_PREFETCH | FVD_STORY_BASE);
}

static void coroutine_fn test_prefetch_and_all(void)
{
    tell_some(FVD_STORY_PREFETCH | FVD_STORY_COPY_ON_READ | FVD_STORY_BASE | FVD_STORY_GIVE_BACK);
}

static void coroutine_fn test_resize(void)
{
    tell_some(FVD_STORY_RESIZE | FVD_STORY_NO_BASE);
}

static void coroutine_fn test_resize_base(void)
{
    tell_some(FVD_STORY_RESIZE | FVD_STORY_COPY_ON_READ | FVD_STORY_BASE);
}

static void coroutine_fn test_resize_prefetch(void)
{
    tell_some(FVD_STORY_RESIZE | FVD_STORY_PREFETCH | FVD_STORY_BASE | FVD_STORY_GIVE_BACK);
}

static void coroutine_fn test_faults(void)
{
    tell_some(FVD_STORY_FAULTS | FVD_STORY_NO_BASE | FVD_STORY_GIVE_BACK);
}

static void coroutine_fn test_faults_base(void)
{
    tell_some(FVD_STORY_FAULTS | FVD_STORY_BASE | FVD_STORY_SUMS);
}

static void coroutine_fn test_faults_tiny(void)
{
    tell_some(FVD_STORY_FAULTS | FVD_STORY_TINY_JOURNAL | FVD_STORY_FLUSH_STORM);
}

static void coroutine_fn test_faults_data_file(void)
{
    tell_some(FVD_STORY_FAULTS | FVD_STORY_DATA_FILE);
}

static void coroutine_fn test_faults_prefetch(void)
{
    tell_some(FVD_STORY_FAULTS | FVD_STORY_PREFETCH | FVD_STORY_COPY_ON_READ | FVD_STORY_BASE |
              FVD_STORY_GIVE_BACK);
}

static void coroutine_fn test_faults_resize(void)
{
    tell_some(FVD_STORY_FAULTS | FVD_STORY_RESIZE);
}

static void coroutine_fn test_bitmaps(void)
{
    tell_some(FVD_STORY_BITMAPS | FVD_STORY_GIVE_BACK);
}

static void coroutine_fn test_bitmaps_base(void)
{
    tell_some(FVD_STORY_BITMAPS | FVD_STORY_BASE | FVD_STORY_TINY_JOURNAL);
}

static void coroutine_fn test_bitmaps_faults(void)
{
    tell_some(FVD_STORY_BITMAPS | FVD_STORY_FAULTS);
}

static void coroutine_fn test_anything(void)
{
    tell_some(0);
}

static void add_tests(void)
{
    bdrv_fvd_register();
    log_set_level(LOG_LEVEL_ERROR); /* that bitmaps are lost is no news */
    qemu_clock_set_virtual(true);
    block_test_add("/crash/fvd/writes that allocate survive the power", test_writes);
    block_test_add("/crash/fvd/blocks that were in the base survive the power", test_base);
    block_test_add("/crash/fvd/a journal that is filled again survives the power",
                   test_tiny_journal);
    block_test_add("/crash/fvd/a device that held something else survives the power", test_device);
    block_test_add("/crash/fvd/a data file of its own survives the power", test_data_file);
    block_test_add("/crash/fvd/an old program's image survives the power", test_old);
    block_test_add("/crash/fvd/chunks that are given back survive the power", test_give_back);
    block_test_add("/crash/fvd/a storm of flushes survives the power", test_flush_storm);
    block_test_add("/crash/fvd/a disk that nobody flushes survives the power", test_no_flush);
    block_test_add("/crash/fvd/blocks recorded with checksums survive the power", test_sums);
    block_test_add(
        "/crash/fvd/blocks recorded with checksums, their data elsewhere, survive the power",
        test_sums_data_file);
    block_test_add("/crash/fvd/blocks recorded with checksums, and given back, survive the power",
                   test_sums_given_back);
    block_test_add("/crash/fvd/blocks that were kept when they were read survive the power",
                   test_copy_on_read);
    block_test_add("/crash/fvd/a base that is copied into the image survives the power",
                   test_prefetch);
    block_test_add("/crash/fvd/a disk that grows and shrinks survives the power", test_resize);
    block_test_add("/crash/fvd/a disk over a base that grows and shrinks survives the power",
                   test_resize_base);
    block_test_add("/crash/fvd/a disk that is resized while its base is copied survives the power",
                   test_resize_prefetch);
    block_test_add("/crash/fvd/a base that is copied, and chunks given back, survive the power",
                   test_prefetch_and_all);
    block_test_add("/crash/fvd/a disk that fails now and then, and then the power", test_faults);
    block_test_add("/crash/fvd/a disk over a base that fails now and then, and then the power",
                   test_faults_base);
    block_test_add("/crash/fvd/a journal that is filled again on a disk that fails, and the power",
                   test_faults_tiny);
    block_test_add("/crash/fvd/a data file that fails now and then, and then the power",
                   test_faults_data_file);
    block_test_add("/crash/fvd/a base that is copied to a disk that fails, and then the power",
                   test_faults_prefetch);
    block_test_add("/crash/fvd/a disk that is resized on one that fails, and then the power",
                   test_faults_resize);
    block_test_add("/crash/fvd/dirty bitmaps that are stored and removed survive the power",
                   test_bitmaps);
    block_test_add("/crash/fvd/dirty bitmaps of a disk over a base survive the power",
                   test_bitmaps_base);
    block_test_add("/crash/fvd/dirty bitmaps on a disk that fails, and then the power",
                   test_bitmaps_faults);
    block_test_add("/crash/fvd/anything at all survives the power", test_anything);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}