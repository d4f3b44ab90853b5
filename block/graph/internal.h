/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this room share. */
#ifndef BLOCK_GRAPH_INTERNAL_H
#define BLOCK_GRAPH_INTERNAL_H

#include "block/graph/graph.h"

/* child.c: hang @c above @bs, or take it off; permissions are the caller's business. */
void bdrv_link_child(BdrvChild *c, BlockDriverState *bs);
void bdrv_unlink_child(BdrvChild *c);

/* drain.c: an edge whose child is quiesced holds its parent quiesced too. */
void bdrv_parent_drained_begin(BdrvChild *c);
void bdrv_parent_drained_end(BdrvChild *c);

/* drain.c: an edge whose parent is waited for makes its child so too; nothing otherwise. */
void bdrv_child_wait_begin(BdrvChild *c);
void bdrv_child_wait_end(BdrvChild *c);

/*
 * perm.c: compute and check what follows from the new_perm and new_shared of the edges above @roots.
 * On failure they are what they were.
 */
int bdrv_perm_transaction(BlockDriverState **roots, size_t n_roots, Error **errp);

/* node.c */
void bdrv_list_remove(BlockDriverState *bs);

#endif
