/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this room share. */
#ifndef BLOCK_OPEN_INTERNAL_H
#define BLOCK_OPEN_INTERNAL_H

#include "block/open/open.h"

/* What a child's definition takes over from its parent where it says nothing. */
typedef struct OpenParent {
    const BlockDriverState *bs; /* NULL: a root node */
    bool is_backing;            /* a backing file is only read */
    int flags; /* BDRV_O_* besides those that the options say; for this node alone */
} OpenParent;

/* nbd-uri.c: is it "nbd://..." or a kin of it?  Then: the "server" of the nbd driver, and the export. */
bool bdrv_is_nbd_uri(const char *filename);
json_t *bdrv_nbd_uri_server(const char *filename, char **ret_export, Error **errp);

/* name.c */
/* Does it say more than one node, so that it is options with gaps? */
bool bdrv_name_is_nested(const char *filename);
/*
 * The driver, and what it needs, for the file name of @args, into the options @o; aio too.  What is not a protocol
 * (a filter) has a child with a "filename", to be completed.
 */
int coroutine_fn bdrv_fill_protocol(json_t *o, const BdrvOpenFileArgs *args, Error **errp);

/* file.c */
/* The lowest node for a file name; format, backing and node name are left alone. */
BlockDriverState *coroutine_fn bdrv_open_protocol_file(const BdrvOpenFileArgs *args, Error **errp);
/* The format of @bs was not said. */
void bdrv_note_guess(BlockDriverState *bs);
/* As bdrv_co_probe(). */
BlockDriver *coroutine_fn bdrv_probe_node(BlockDriverState *bs, const char *filename, Error **errp);

/* loose.c: options, given as such or by a name that is nested, in which much may be left out. */
BlockDriverState *coroutine_fn bdrv_open_loose(const BdrvOpenFileArgs *args, Error **errp);

/* open.c */
BlockDriverState *coroutine_fn bdrv_open_node(const BlockdevOptions *opts, const OpenParent *parent,
                                              Error **errp);
/* Set flags and the generic options of @bs from @opts. */
int bdrv_apply_generic_options(BlockDriverState *bs, const BlockdevOptions *opts,
                               const OpenParent *parent, Error **errp);

#endif
