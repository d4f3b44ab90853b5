/* SPDX-License-Identifier: GPL-2.0-or-later */
/* channel.h - a channel over a channel, encrypted */
#ifndef TLS_CHANNEL_H
#define TLS_CHANNEL_H

#include "aio/channel.h"
#include "tls/creds.h"

/* What the other end must be. */
typedef struct TlsPeer {
    TlsCreds *creds;   /* ours; borrowed until return */
    const char *authz; /* of a server: the list that lets the client's certificate in; NULL: any */
    const char
        *hostname; /* of a client: the name in the server's certificate; NULL: none is known */
} TlsPeer;

/**
 * tls_channel_co_new() - shake hands over @lower
 *
 * Which end we are the credentials say.  Whoever wants to end it shuts @lower down.
 *
 * Context: coroutine, main context.  Yields.
 *
 * Return: a channel that owns @lower; NULL with @errp, and @lower is the caller's still.
 */
AioChannel *coroutine_fn tls_channel_co_new(AioChannel *lower, const TlsPeer *peer, Error **errp);

#endif
