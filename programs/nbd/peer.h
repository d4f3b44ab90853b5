/* SPDX-License-Identifier: GPL-2.0-or-later */
/* peer.h - the handshake with a server, as its client.  Coroutines of the main context; connecting blocks. */
#ifndef PROGRAM_NBD_PEER_H
#define PROGRAM_NBD_PEER_H

#include "aio/channel.h"
#include "block/export/nbd/nbd-format.h"
#include "programs/nbd/nbd.h"

typedef struct NbdPeer {
    AioChannel *ch;
} NbdPeer;

/* An answer to an option. */
typedef struct NbdAnswer {
    uint32_t type;   /* NBD_REP_* */
    uint32_t length; /* of data */
    uint8_t *data;   /* owned, a zero behind it; NULL: none was read yet */
} NbdAnswer;

/* Connects to where @o says, up to the point where options are asked.  0, or negative errno with @errp. */
int coroutine_fn nbd_peer_co_connect(NbdPeer *peer, const NbdOptions *o, Error **errp);
/* Says good-bye. */
void coroutine_fn nbd_peer_co_close(NbdPeer *peer);
int coroutine_fn nbd_peer_co_ask(NbdPeer *peer, uint32_t option, const void *data, size_t length,
                                 Error **errp);
/*
 * Frees what @answer held, and reads the next one to @option.  An error of the server's is no error here; its
 * words are in data.
 */
int coroutine_fn nbd_peer_co_answer(NbdPeer *peer, uint32_t option, NbdAnswer *answer,
                                    Error **errp);
void nbd_answer_clear(NbdAnswer *answer);

#endif
