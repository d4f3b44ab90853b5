/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What tests of the mirror share: two disks, writers that know what they wrote, and a watch on the target. */
#ifndef TESTS_UNIT_MIRROR_SCENE_H
#define TESTS_UNIT_MIRROR_SCENE_H

#include "aio/timer.h"
#include "block/jobs/mirror.h"
#include "coro/sleep.h"
#include "tests/lib/test-cow.h"
#include "tests/unit/backup/story.h"
#include "util/osdep.h"

#define SCENE_WRITERS 3
/* On the virtual clock: more than anything here takes. */
#define LONG_NS       (INT64_C(1000000) * SCALE_MS)

typedef struct SceneRead {
    int64_t offset, bytes;
} SceneRead;

typedef struct Scene {
    BlockDriverState *source, *target;
    BdrvChild *user; /* of the source; of the target after a pivot */
    MirrorJobArgs args;
    BlockJob *job;
    StoryWriter *writers[SCENE_WRITERS];
    unsigned n_writers;
    int64_t len;

    /* M3, seen from the target. */
    BdrvWriteTap watch;
    int64_t chunk;
    QLIST_HEAD(, BdrvTapWrite) at_target;
    unsigned target_writes, target_writes_max;
    GArray *at_source; /* SceneRead; NULL: not watched */
} Scene;

/* Disks of @len bytes, the source with a pattern, the target with another. */
void coroutine_fn scene_set_up(Scene *s, int64_t len);
/* Before the first write: other nodes than ram disks. */
void coroutine_fn scene_use(Scene *s, BlockDriverState *source, BlockDriverState *target);
/* Aborts when two writes touch one chunk of the target at once. */
void scene_watch_target(Scene *s, int64_t chunk);
void scene_unwatch_target(Scene *s);
/* The same of reads of the source, a ram disk from which nobody else reads, and between them and writes. */
void scene_watch_source(Scene *s);
void scene_unwatch_source(Scene *s);
/* Writers on parts of the disk of their own, through scene->user's kind of edges. */
void coroutine_fn scene_start_writers(Scene *s, unsigned n, uint32_t seed);
void coroutine_fn scene_stop_writers(Scene *s);
/* What each writer was told is on @bs. */
void coroutine_fn scene_check_writers(Scene *s, BlockDriverState *bs);
void coroutine_fn scene_tear_down(Scene *s);

void coroutine_fn scene_start(Scene *s);
/* The same for a mirror that must be refused with @message. */
void coroutine_fn scene_refuse(Scene *s, const char *message);
void coroutine_fn scene_wait_status(Scene *s, JobStatus status);
static inline void coroutine_fn scene_wait_ready(Scene *s)
{
    scene_wait_status(s, JOB_STATUS_READY);
}
void scene_complete(Scene *s);
/* Until the job is gone or concluded; what it ended with. */
int coroutine_fn scene_wait_end(Scene *s);
/* Source and target show the same. */
void coroutine_fn scene_expect_equal(Scene *s);

#endif
