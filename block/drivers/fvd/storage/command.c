/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command.c - a program that makes the storage larger, as the operator says it
 *
 *      a write needs a chunk behind the end
 *          | is the storage larger than it was?            somebody may have done it by hand
 *          v
 *      PROGRAM [ARGUMENT...] FILE WANTED NEEDED            nothing is read by a shell
 *          | at most RUN_LIMIT_NS
 *          v
 *      how large is the storage?   enough: zeroed, and taken   too small, or the program failed: -ENOSPC
 *
 *   GC1  Only who opens the node by options names a program.  What an image has, add_storage_cmd and the names of other
 *        images, which may be options, names none (BDRV_O_NAMED).
 *   GC2  What the program says is not believed: the storage is looked at.  What it has gained may hold anything.
 *   GC3  One runs at a time, under grow_lock.  One that has failed is the answer for all who wait, and for some time: a
 *        guest that goes on writing does not start one after the other.
 *   GC4  With a program the storage is its affair alone: it is neither cut off nor made larger by us.
 */
#include "block/drivers/fvd/storage/command.h"

#include <errno.h>
#include <inttypes.h>
#include "aio/program.h"
#include "aio/timer.h"
#include "block/io/io.h"
#include "trace-fvd.h"
#include "util/osdep.h"

/* A guest's own patience with a disk is 30 s, as a rule; a program that is told to end may take two more. */
#define RUN_LIMIT_NS (INT64_C(20) * NANOSECONDS_PER_SECOND)
/* GC3: short for a person who has made room and lets the guest go on, long for a machine. */
#define RETRY_NS     (INT64_C(1) * NANOSECONDS_PER_SECOND)
/* File, wanted, needed, and the end. */
#define ADDED_ARGS   4

struct FvdGrowCommand {
    char *node_name, *path;
    char **argv; /* with ADDED_ARGS places, NULL */
    guint n_args;
    AioProgram program;

    /* Home AioContext. */
    int64_t not_before_ns; /* GC3 */
    bool told;             /* of the failure; those that follow it say nothing new */
};

char *fvd_local_path(BlockDriverState *data)
{
    while (!data->drv->is_protocol) {
        BdrvChild *c, *shown = NULL;

        QLIST_FOREACH (c, &data->children, next) {
            if (c->role & BDRV_CHILD_FILTERED) {
                shown = c;
            }
        }
        if (!shown) {
            return NULL;
        }
        data = shown->bs;
    }
    if (strcmp(data->drv->format_name, "file") != 0 &&
        strcmp(data->drv->format_name, "host_device") != 0) {
        return NULL;
    }
    return data->filename[0] ? g_canonicalize_filename(data->filename, NULL) : NULL;
}

int fvd_grow_command_new(BlockDriverState *bs, const strList *argv, const char *path,
                         FvdGrowCommand **ret_command, Error **errp)
{
    g_autoptr(GPtrArray) args = NULL;
    FvdGrowCommand *c;

    *ret_command = NULL;
    if (!argv) {
        return 0;
    }
    if (bs->open_flags & BDRV_O_NAMED) { /* GC1 */
        error_setg(errp, "'storage-grow-command' cannot come from the name that an image has for "
                         "another");
        return -EINVAL;
    }
    if (!g_path_is_absolute(argv->value)) {
        error_setg(errp, "'storage-grow-command' needs the absolute path of a program, not '%s'",
                   argv->value);
        return -EINVAL;
    }
    if (!path) {
        error_setg(errp, "'storage-grow-command' needs an image whose data is in a file or a "
                         "device of this host, and is all of it");
        return -EINVAL;
    }
    args = g_ptr_array_new();
    for (; argv; argv = argv->next) {
        g_ptr_array_add(args, g_strdup(argv->value));
    }
    c = g_new0(FvdGrowCommand, 1);
    c->n_args = args->len;
    for (int i = 0; i < ADDED_ARGS; i++) {
        g_ptr_array_add(args, NULL);
    }
    c->argv = (char **)g_ptr_array_free(g_steal_pointer(&args), FALSE);
    c->node_name = g_strdup(bs->node_name);
    c->path = g_strdup(path);
    aio_program_init(&c->program);
    *ret_command = c;
    return 0;
}

void fvd_grow_command_free(FvdGrowCommand *c)
{
    if (!c) {
        return;
    }
    aio_program_destroy(&c->program);
    g_strfreev(c->argv);
    g_free(c->node_name);
    g_free(c->path);
    g_free(c);
}

void fvd_grow_command_cancel(FvdGrowCommand *c)
{
    if (c) {
        aio_program_cancel(&c->program);
    }
}

/* GC2 */
static int coroutine_fn run_and_look(FvdGrowCommand *c, BlockDriverState *data, int64_t needed,
                                     int64_t wanted, Error **errp)
{
    g_autofree char *wanted_text = g_strdup_printf("%" PRId64, wanted);
    g_autofree char *needed_text = g_strdup_printf("%" PRId64, needed);
    char **added = c->argv + c->n_args;
    int64_t length;
    int ret;

    added[0] = c->path;
    added[1] = wanted_text;
    added[2] = needed_text;
    ret = aio_program_co_run(&c->program, c->argv, RUN_LIMIT_NS, errp);
    memset(added, 0, ADDED_ARGS * sizeof(*added));
    if (ret < 0) {
        return ret;
    }
    ret = bdrv_co_refresh_length(data);
    length = bdrv_getlength(data);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not get the size of '%s'", c->path);
        return ret;
    }
    if (length < needed) {
        error_setg(errp, "'%s' has ended well, but '%s' has %" PRId64 " bytes, not %" PRId64,
                   c->argv[0], c->path, length, needed);
        return -ENOSPC;
    }
    return 0;
}

int coroutine_fn fvd_co_grow_command_run(FvdGrowCommand *c, BlockDriverState *data, int64_t needed,
                                         int64_t wanted)
{
    Error *err = NULL;
    int ret;

    if (qemu_clock_get_ns(QEMU_CLOCK_REALTIME) < c->not_before_ns) {
        return -ENOSPC;
    }
    ret = run_and_look(c, data, needed, wanted, &err);
    trace_fvd_grow_command(c->node_name, c->argv[0], needed, wanted, bdrv_getlength(data), ret);
    if (ret < 0) {
        c->not_before_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + RETRY_NS;
        if (!c->told) {
            warn_report("The storage of node '%s' is full: %s", c->node_name,
                        error_get_pretty(err));
        }
        error_free(err);
    }
    c->told = ret < 0;
    return ret < 0 ? -ENOSPC : 0;
}
