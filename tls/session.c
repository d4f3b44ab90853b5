/* SPDX-License-Identifier: GPL-2.0-or-later */
/* session.c - what a session is asked to do, and who is at its other end */
#include "tls/session.h"

#include <errno.h>
#include <gnutls/x509.h>

#include "tls/authz.h"
#include "util/osdep.h"

#define PRIORITY_DEFAULT "NORMAL"
#define PRIORITY_PSK     ":+ECDHE-PSK:+DHE-PSK:+PSK"
/* A name in a certificate; no directory's are longer. */
#define NAME_BYTES_MAX   4096

static int set_credentials(gnutls_session_t session, const TlsCreds *c)
{
    if (c->kind == TLS_X509) {
        if (c->server) {
            gnutls_certificate_server_set_request(session, c->verify_peer ? GNUTLS_CERT_REQUEST
                                                                          : GNUTLS_CERT_IGNORE);
        }
        return gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, c->x509);
    }
    return gnutls_credentials_set(session, GNUTLS_CRD_PSK,
                                  c->server ? (void *)c->psk_server : (void *)c->psk_client);
}

int tls_session_init(gnutls_session_t *ret_session, const TlsPeer *peer, Error **errp)
{
    const TlsCreds *c = peer->creds;
    g_autofree char *priority = g_strconcat(c->priority ? c->priority : PRIORITY_DEFAULT,
                                            c->kind == TLS_PSK ? PRIORITY_PSK : "", NULL);
    gnutls_session_t session = NULL;
    int r;

    if (!c->server && c->kind == TLS_X509 && c->verify_peer && !peer->hostname) {
        error_setg(errp, "No hostname for certificate validation");
        return -EINVAL;
    }
    r = gnutls_init(&session, (c->server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK);
    if (r == 0) {
        r = gnutls_priority_set_direct(session, priority, NULL);
    }
    if (r == 0) {
        r = set_credentials(session, c);
    }
    if (r == 0 && !c->server && peer->hostname) {
        gnutls_server_name_set(session, GNUTLS_NAME_DNS, peer->hostname, strlen(peer->hostname));
    }
    if (r < 0) {
        error_setg(errp, "Cannot begin a TLS session: %s", gnutls_strerror(r));
        if (session) {
            gnutls_deinit(session);
        }
        return -EINVAL;
    }
    *ret_session = session;
    return 0;
}

/* The certificate that the peer has shown; NULL with @errp. */
static gnutls_x509_crt_t peer_certificate(gnutls_session_t session, Error **errp)
{
    unsigned count = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    gnutls_x509_crt_t crt = NULL;
    int r = chain && count > 0 ? gnutls_x509_crt_init(&crt) : GNUTLS_E_NO_CERTIFICATE_FOUND;

    if (r == 0) {
        r = gnutls_x509_crt_import(crt, &chain[0], GNUTLS_X509_FMT_DER);
    }
    if (r < 0) {
        error_setg(errp, "Verify failed: %s", gnutls_strerror(r));
        if (crt) {
            gnutls_x509_crt_deinit(crt);
        }
        return NULL;
    }
    return crt;
}

static int check_name(gnutls_x509_crt_t crt, const TlsPeer *peer, Error **errp)
{
    char name[NAME_BYTES_MAX];
    size_t size = sizeof(name);
    Error *err = NULL;
    int r;

    if (!peer->creds->server) {
        if (gnutls_x509_crt_check_hostname(crt, peer->hostname)) {
            return 0;
        }
        error_setg(errp, "Certificate does not match the hostname %s", peer->hostname);
        return -EACCES;
    }
    if (!peer->authz) {
        return 0;
    }
    r = gnutls_x509_crt_get_dn(crt, name, &size);
    if (r < 0) {
        error_setg(errp, "Cannot get client distinguished name: %s", gnutls_strerror(r));
        return -EACCES;
    }
    if (authz_is_allowed(peer->authz, name, &err)) {
        return 0;
    }
    if (err) {
        error_propagate(errp, err);
    } else {
        error_setg(errp, "TLS x509 authz check for %s is denied", name);
    }
    return -EACCES;
}

static int check_chain(gnutls_session_t session, Error **errp)
{
    unsigned status = 0;
    int r = gnutls_certificate_verify_peers2(session, &status);
    const char *why = NULL;

    if (r < 0) {
        error_setg(errp, "Verify failed: %s", gnutls_strerror(r));
        return -EACCES;
    }
    if (status == 0) {
        return 0;
    }
    why = status & GNUTLS_CERT_REVOKED              ? "The certificate has been revoked"
          : status & GNUTLS_CERT_SIGNER_NOT_FOUND   ? "The certificate hasn't got a known issuer"
          : status & GNUTLS_CERT_INSECURE_ALGORITHM ? "The certificate uses an insecure algorithm"
          : status & GNUTLS_CERT_EXPIRED            ? "The certificate has expired"
          : status & GNUTLS_CERT_NOT_ACTIVATED      ? "The certificate is not yet activated"
                                                    : "The certificate is not trusted";
    error_setg(errp, "%s", why);
    return -EACCES;
}

int tls_session_check_peer(gnutls_session_t session, const TlsPeer *peer, Error **errp)
{
    gnutls_x509_crt_t crt;
    int r;

    /* A key that both have is the proof by itself. */
    if (peer->creds->kind == TLS_PSK || !peer->creds->verify_peer) {
        return 0;
    }
    r = check_chain(session, errp);
    if (r < 0) {
        return r;
    }
    crt = peer_certificate(session, errp);
    if (!crt) {
        return -EACCES;
    }
    r = check_name(crt, peer, errp);
    gnutls_x509_crt_deinit(crt);
    return r;
}
