/* SPDX-License-Identifier: GPL-2.0-or-later */
/* command.h - the operator's program that makes the storage larger; the chapter is at the head of command.c */
#ifndef BLOCK_DRIVERS_FVD_STORAGE_COMMAND_H
#define BLOCK_DRIVERS_FVD_STORAGE_COMMAND_H

#include "block/graph/graph.h"

typedef struct FvdGrowCommand FvdGrowCommand;

/*
 * fvd_local_path() - where the host has the data of a node, absolute; NULL: it is no file or device of this host, or only
 * a part of one
 *
 * Caller frees.  Called when the node is opened: the program may go to another directory.
 */
char *fvd_local_path(BlockDriverState *data);

/**
 * fvd_grow_command_new() - from the node's options
 * @argv: a program and its first arguments; NULL: none
 * @path: fvd_local_path() of the data
 *
 * Context: main thread.
 *
 * Return: 0 and *ret_command, NULL for none; -EINVAL with an Error.
 */
int fvd_grow_command_new(BlockDriverState *bs, const strList *argv, const char *path,
                         FvdGrowCommand **ret_command, Error **errp);
/* fvd_grow_command_free() - NULL is fine; nothing runs */
void fvd_grow_command_free(FvdGrowCommand *c);

/**
 * fvd_co_grow_command_run() - have the storage made larger
 * @data:   the node of the data, whose length is looked at again
 * @needed: bytes it must have
 * @wanted: bytes it had better have, so that it need not grow again soon
 *
 * Context: coroutine, home AioContext of @data; one at a time.  Yields.
 * Cancel:  fvd_grow_command_cancel().
 *
 * Return: 0; -ENOSPC, whatever the reason is.
 */
int coroutine_fn fvd_co_grow_command_run(FvdGrowCommand *c, BlockDriverState *data, int64_t needed,
                                         int64_t wanted);

/* fvd_grow_command_cancel() - what runs ends soon; NULL is fine; main thread */
void fvd_grow_command_cancel(FvdGrowCommand *c);

#endif
