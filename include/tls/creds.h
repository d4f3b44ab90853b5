/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * creds.h - what one end of an encrypted connection shows, and what it asks of the other
 *
 *      object-add tls-creds-x509,id=tls0,dir=...  ──▶  files of certificates and keys, read once
 *      object-add tls-creds-psk,id=tls1,dir=...   ──▶  a key that both ends have
 *
 * Main thread, but for what sessions read.
 */
#ifndef TLS_CREDS_H
#define TLS_CREDS_H

#include <stdbool.h>
#include "coro/coroutine.h"
#include "qapi/qapi-types-crypto.h"
#include "util/error.h"

typedef struct TlsCreds TlsCreds;

/**
 * tls_creds_x509_co_add(), tls_creds_psk_co_add() - make the credentials @id
 *
 * Context: coroutine of the main context; yields while files are read.
 *
 * Return: 0; -errno with @errp.
 */
int coroutine_fn tls_creds_x509_co_add(const char *id, const TlsCredsX509Properties *props,
                                       Error **errp);
int coroutine_fn tls_creds_psk_co_add(const char *id, const TlsCredsPskProperties *props,
                                      Error **errp);

/**
 * tls_creds_ref_by_id() - the credentials called @id, for one end of a connection
 *
 * Return: a reference, which keeps the object; NULL with @errp, when they are for the other end, too.
 */
TlsCreds *tls_creds_ref_by_id(const char *id, bool server, Error **errp);
void tls_creds_ref(TlsCreds *creds);
void tls_creds_unref(TlsCreds *creds); /* NULL is fine */

#endif
