/* SPDX-License-Identifier: GPL-2.0-or-later */
/* session.h - one connection's encryption, without its bytes' way.  session.c */
#ifndef TLS_SESSION_H
#define TLS_SESSION_H

#include <gnutls/gnutls.h>
#include "tls/channel.h"

typedef enum TlsKind { TLS_X509, TLS_PSK } TlsKind;

/* Fixed once they are loaded. */
struct TlsCreds {
    TlsKind kind;
    bool server, verify_peer;
    char *dir, *priority; /* the latter NULL: as gnutls thinks best */
    char *username;       /* of a client with PSK */
    gnutls_certificate_credentials_t x509;
    gnutls_psk_server_credentials_t psk_server;
    gnutls_psk_client_credentials_t psk_client;
    struct UserObject *object; /* whose instance it is */
};

/* A session that knows its credentials, not yet how to send.  0, or -EINVAL with @errp. */
int tls_session_init(gnutls_session_t *ret_session, const TlsPeer *peer, Error **errp);

/* After the handshake: is the other end who it should be?  0, or -EACCES with @errp. */
int tls_session_check_peer(gnutls_session_t session, const TlsPeer *peer, Error **errp);

#endif
