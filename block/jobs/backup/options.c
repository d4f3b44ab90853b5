/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The options of the stage.  An option that would have no effect is refused: who gives it believes
 * something that is not so.
 */
#include "block/jobs/backup/options.h"

#include <errno.h>
#include <glib.h>
#include <inttypes.h>
#include <sys/statvfs.h>

/* Without @stage all is default, as with one that says nothing. */
static const BackupStage nothing_said;

static int check_ram(const BackupStage *stage, int64_t *ret_bytes, Error **errp)
{
    uint64_t ram = stage->has_ram ? stage->ram : BACKUP_STAGE_RAM_DEFAULT;

    if (ram < BACKUP_STAGE_RAM_MIN) {
        error_setg(errp, "ram must be at least %lld: one cluster has to fit in it",
                   (long long)BACKUP_STAGE_RAM_MIN);
        return -EINVAL;
    }
    if (ram > (uint64_t)BACKUP_STAGE_RAM_MAX) {
        error_setg(errp, "ram must be at most %lld: that much is for a scratch",
                   (long long)BACKUP_STAGE_RAM_MAX);
        return -EINVAL;
    }
    *ret_bytes = (int64_t)ram;
    return 0;
}

static int check_scratch(const BackupStage *stage, int64_t *ret_bytes, Error **errp)
{
    if (stage->scratch_folder && stage->scratch_node) {
        error_setg(errp, "scratch-folder and scratch-node cannot be given together");
        return -EINVAL;
    }
    if (stage->scratch_folder && !stage->scratch_folder[0]) {
        error_setg(errp, "scratch-folder must not be empty");
        return -EINVAL;
    }
    if (stage->has_scratch && stage->scratch == 0 &&
        (stage->scratch_folder || stage->scratch_node)) {
        error_setg(errp, "%s has no effect when scratch is 0, which means no scratch",
                   stage->scratch_folder ? "scratch-folder" : "scratch-node");
        return -EINVAL;
    }
    if (stage->has_scratch && stage->scratch > INT64_MAX) {
        error_setg(errp, "scratch must be at most %" PRId64, INT64_MAX);
        return -EINVAL;
    }
    *ret_bytes = stage->has_scratch ? (int64_t)stage->scratch : -1;
    return 0;
}

static int check_timeout(const BackupStage *stage, int64_t *ret_ns, Error **errp)
{
    bool blocks = stage->has_when_full && stage->when_full == BACKUP_WHEN_FULL_BLOCK;
    uint32_t seconds = stage->has_cow_timeout ? stage->cow_timeout : BACKUP_COW_TIMEOUT_DEFAULT_S;

    if (blocks && stage->has_cow_timeout && seconds > 0) {
        error_setg(errp, "cow-timeout has no effect when when-full is 'block'");
        return -EINVAL;
    }
    if (!blocks && seconds == 0) {
        error_setg(errp, "cow-timeout must be at least 1, or when-full be 'block'");
        return -EINVAL;
    }
    *ret_ns = blocks ? 0 : seconds * NANOSECONDS_PER_SECOND;
    return 0;
}

static char *default_folder(void)
{
    const char *folder = g_getenv("TMPDIR");

    return g_strdup(folder && folder[0] ? folder : BACKUP_SCRATCH_FOLDER);
}

int backup_stage_check(const BackupStage *stage, BackupStageArgs *ret, Error **errp)
{
    BackupStageArgs args = {0};

    stage = stage ? stage : &nothing_said;
    if (check_ram(stage, &args.ram_bytes, errp) < 0 ||
        check_scratch(stage, &args.scratch_bytes, errp) < 0 ||
        check_timeout(stage, &args.cow_timeout_ns, errp) < 0) {
        return -EINVAL;
    }
    if (stage->scratch_node) {
        args.scratch_node = g_strdup(stage->scratch_node);
    } else if (args.scratch_bytes != 0) {
        args.scratch_folder =
            stage->scratch_folder ? g_strdup(stage->scratch_folder) : default_folder();
    }
    *ret = args;
    return 0;
}

void backup_stage_args_clear(BackupStageArgs *args)
{
    g_free(args->scratch_folder);
    g_free(args->scratch_node);
    *args = (BackupStageArgs){0};
}

int64_t backup_scratch_share(uint64_t total_bytes, uint64_t free_bytes)
{
    uint64_t reserve = MAX((uint64_t)BACKUP_SCRATCH_RESERVE_BYTES,
                           total_bytes / 100 * BACKUP_SCRATCH_RESERVE_PERCENT);

    return free_bytes > reserve ? (int64_t)MIN(free_bytes - reserve, (uint64_t)INT64_MAX) : 0;
}

/* A file system that reports nonsense has at the most this. */
static uint64_t blocks_to_bytes(uint64_t blocks, uint64_t block_bytes)
{
    return block_bytes && blocks > INT64_MAX / block_bytes ? INT64_MAX : blocks * block_bytes;
}

int backup_scratch_limit(const char *folder, int64_t wanted, int64_t *ret_bytes, Error **errp)
{
    struct statvfs fs;
    int r;

    if (wanted >= 0) {
        *ret_bytes = wanted;
        return 0;
    }
    do {
        r = statvfs(folder, &fs) < 0 ? -errno : 0;
    } while (r == -EINTR);
    if (r < 0) {
        error_setg_errno(errp, -r, "Cannot tell the free space of the scratch folder '%s'", folder);
        return r;
    }
    *ret_bytes = backup_scratch_share(blocks_to_bytes(fs.f_blocks, fs.f_frsize),
                                      blocks_to_bytes(fs.f_bavail, fs.f_frsize));
    return 0;
}
