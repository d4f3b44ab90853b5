/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a user says of the stage: defaults, limits, and what excludes what. */
#include "block/jobs/backup/options.h"

#include <errno.h>
#include <glib.h>

static void test_defaults(void)
{
    BackupStageArgs args;
    BackupStage empty = {0};

    g_setenv("TMPDIR", "/some/where", true);
    g_assert_cmpint(backup_stage_check(NULL, &args, &error_abort), ==, 0);
    g_assert_cmpint(args.ram_bytes, ==, 32 * MiB);
    g_assert_cmpint(args.scratch_bytes, ==, -1);
    g_assert_cmpstr(args.scratch_folder, ==, "/some/where");
    g_assert_null(args.scratch_node);
    g_assert_cmpint(args.cow_timeout_ns, ==, 45 * NANOSECONDS_PER_SECOND);
    backup_stage_args_clear(&args);
    g_assert_null(args.scratch_folder);

    g_unsetenv("TMPDIR");
    g_assert_cmpint(backup_stage_check(&empty, &args, &error_abort), ==, 0);
    g_assert_cmpstr(args.scratch_folder, ==, "/var/tmp");
    backup_stage_args_clear(&args);
    g_setenv("TMPDIR", "", true);
    g_assert_cmpint(backup_stage_check(&empty, &args, &error_abort), ==, 0);
    g_assert_cmpstr(args.scratch_folder, ==, "/var/tmp");
    backup_stage_args_clear(&args);
}

static void test_what_is_given(void)
{
    BackupStageArgs args;
    BackupStage stage = {
        .has_ram = true,
        .ram = 64 * KiB,
        .has_scratch = true,
        .scratch = 5 * GiB,
        .scratch_folder = (char *)"/there",
        .has_cow_timeout = true,
        .cow_timeout = UINT32_MAX,
    };

    g_assert_cmpint(backup_stage_check(&stage, &args, &error_abort), ==, 0);
    g_assert_cmpint(args.ram_bytes, ==, 64 * KiB);
    g_assert_cmpint(args.scratch_bytes, ==, 5 * GiB);
    g_assert_cmpstr(args.scratch_folder, ==, "/there");
    g_assert_cmpint(args.cow_timeout_ns, ==, UINT32_MAX * NANOSECONDS_PER_SECOND);
    backup_stage_args_clear(&args);

    stage = (BackupStage){.has_scratch = true,
                          .has_cow_timeout = true,
                          .has_when_full = true,
                          .when_full = BACKUP_WHEN_FULL_BLOCK};
    g_assert_cmpint(backup_stage_check(&stage, &args, &error_abort), ==, 0);
    g_assert_cmpint(args.scratch_bytes, ==, 0);
    g_assert_null(args.scratch_folder);
    g_assert_cmpint(args.cow_timeout_ns, ==, 0);
    backup_stage_args_clear(&args);

    stage = (BackupStage){.scratch_node = (char *)"n0"};
    g_assert_cmpint(backup_stage_check(&stage, &args, &error_abort), ==, 0);
    g_assert_cmpstr(args.scratch_node, ==, "n0");
    g_assert_null(args.scratch_folder);
    g_assert_cmpint(args.scratch_bytes, ==, -1);
    backup_stage_args_clear(&args);
}

static void test_refused(void)
{
    const struct {
        BackupStage stage;
        const char *why;
    } cases[] = {
        {{.has_ram = true, .ram = 64 * KiB - 1},
         "ram must be at least 65536: one cluster has to fit in it"},
        {{.has_ram = true, .ram = UINT64_MAX},
         "ram must be at most 68719476736: that much is for a scratch"},
        {{.has_scratch = true, .scratch = 1048575},
         "scratch must be at least 1048576, the piece in which it is taken, or 0"},
        {{.has_scratch = true, .scratch = UINT64_MAX},
         "scratch must be at most 9223372036854775807"},
        {{.scratch_folder = (char *)"/f", .scratch_node = (char *)"n"},
         "scratch-folder and scratch-node cannot be given together"},
        {{.scratch_folder = (char *)""}, "scratch-folder must not be empty"},
        {{.has_scratch = true, .scratch_folder = (char *)"/f"},
         "scratch-folder has no effect when scratch is 0, which means no scratch"},
        {{.has_scratch = true, .scratch_node = (char *)"n"},
         "scratch-node has no effect when scratch is 0, which means no scratch"},
        {{.has_cow_timeout = true}, "cow-timeout must be at least 1, or when-full be 'block'"},
        {{.has_cow_timeout = true,
          .cow_timeout = 3,
          .has_when_full = true,
          .when_full = BACKUP_WHEN_FULL_BLOCK},
         "cow-timeout has no effect when when-full is 'block'"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        BackupStageArgs args = {.ram_bytes = 17};
        g_autoptr(Error) err = NULL;

        g_assert_cmpint(backup_stage_check(&cases[i].stage, &args, &err), ==, -EINVAL);
        g_assert_cmpstr(error_get_pretty(err), ==, cases[i].why);
        g_assert_cmpint(args.ram_bytes, ==, 17);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/backup/options/nothing said is the defaults", test_defaults);
    g_test_add_func("/backup/options/what is given is taken", test_what_is_given);
    g_test_add_func("/backup/options/what is wrong or has no effect is refused", test_refused);
    return g_test_run();
}
