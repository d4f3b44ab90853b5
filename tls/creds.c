/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * creds.c - credentials: the objects, and the files that they are read from
 *
 *      x509    ca-cert.pem [ca-crl.pem] server-cert.pem server-key.pem     a server
 *              ca-cert.pem [ca-crl.pem] [client-cert.pem client-key.pem]   a client
 *      psk     keys.psk      lines "name:key in hexadecimal"
 *
 * The files are read in a worker thread, once.
 */
#include "tls/creds.h"

#include <errno.h>
#include <gnutls/x509.h>
#include <string.h>
#include <unistd.h>

#include "aio/thread-pool.h"
#include "object/object.h"
#include "object/secret.h"
#include "tls/session.h"
#include "util/osdep.h"

#define X509_QOM_TYPE    "tls-creds-x509"
#define PSK_QOM_TYPE     "tls-creds-psk"
#define USERNAME_DEFAULT "qemu"
/* A file of keys, a line for each user; what is longer is the wrong file. */
#define KEYS_BYTES_MAX   (1 << 20)

typedef struct Load {
    TlsCreds *creds;
    const Secret *password; /* of the private key; NULL: none */
    bool sanity_check;
    Error *err;
} Load;

static void creds_free(TlsCreds *creds)
{
    if (creds->x509) {
        gnutls_certificate_free_credentials(creds->x509);
    }
    if (creds->psk_server) {
        gnutls_psk_free_server_credentials(creds->psk_server);
    }
    if (creds->psk_client) {
        gnutls_psk_free_client_credentials(creds->psk_client);
    }
    g_free(creds->dir);
    g_free(creds->priority);
    g_free(creds->username);
    g_free(creds);
}

static void creds_finalise(UserObject *object)
{
    creds_free(object_instance(object));
}

static const UserObjectOps creds_ops = {.finalise = creds_finalise};

/* The path of a file of @l; NULL: it is not there, which is an Error if it is @needed. */
static char *find_file(Load *l, const char *name, bool needed)
{
    g_autofree char *path = g_build_filename(l->creds->dir, name, NULL);

    if (access(path, R_OK) < 0) {
        int err = errno;

        if (needed || err != ENOENT) {
            error_setg_errno(&l->err, err, "Unable to access credentials %s", path);
        }
        return NULL;
    }
    return g_steal_pointer(&path);
}

/* -------------------------------------------------------------------------------------------- x509 */

static int load_ca(Load *l)
{
    g_autofree char *ca = find_file(l, "ca-cert.pem", true), *crl = NULL;
    int r;

    if (!ca) {
        return -EINVAL;
    }
    r = gnutls_certificate_set_x509_trust_file(l->creds->x509, ca, GNUTLS_X509_FMT_PEM);
    if (r < 0) {
        error_setg(&l->err, "Cannot load CA certificate '%s': %s", ca, gnutls_strerror(r));
        return -EINVAL;
    }
    crl = find_file(l, "ca-crl.pem", false);
    if (crl) {
        r = gnutls_certificate_set_x509_crl_file(l->creds->x509, crl, GNUTLS_X509_FMT_PEM);
        if (r < 0) {
            error_setg(&l->err, "Cannot load CRL '%s': %s", crl, gnutls_strerror(r));
        }
    }
    return l->err ? -EINVAL : 0;
}

static int load_own(Load *l, bool *ret_there)
{
    const char *who = l->creds->server ? "server" : "client";
    g_autofree char *cert_name = g_strdup_printf("%s-cert.pem", who);
    g_autofree char *key_name = g_strdup_printf("%s-key.pem", who);
    g_autofree char *cert = find_file(l, cert_name, l->creds->server), *key = NULL;
    g_autofree char *password = NULL;
    int r;

    *ret_there = cert != NULL;
    if (!cert) {
        return l->err ? -EINVAL : 0;
    }
    key = find_file(l, key_name, true);
    if (!key) {
        return -EINVAL;
    }
    if (l->password) {
        password = g_strndup((const char *)l->password->data, l->password->bytes);
    }
    r = gnutls_certificate_set_x509_key_file2(l->creds->x509, cert, key, GNUTLS_X509_FMT_PEM,
                                              password, 0);
    if (password) {
        gnutls_memset(password, 0, strlen(password));
    }
    if (r < 0) {
        error_setg(&l->err, "Cannot load certificate '%s' & key '%s': %s", cert, key,
                   gnutls_strerror(r));
        return -EINVAL;
    }
    return 0;
}

/* What no peer would take is better told now: our own certificate, by our own CA. */
static int check_own(Load *l)
{
    gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID};
    gnutls_x509_trust_list_t trust;
    gnutls_x509_crt_t *chain = NULL;
    unsigned length = 0, status = 0;
    gnutls_datum_t words;
    int r;

    purpose.data =
        (unsigned char *)(l->creds->server ? GNUTLS_KP_TLS_WWW_SERVER : GNUTLS_KP_TLS_WWW_CLIENT);
    gnutls_certificate_get_trust_list(l->creds->x509, &trust);
    r = gnutls_certificate_get_x509_crt(l->creds->x509, 0, &chain, &length);
    if (r == 0) {
        r = gnutls_x509_trust_list_verify_crt2(trust, chain, length, &purpose, 1, 0, &status, NULL);
    }
    for (unsigned i = 0; i < length; i++) {
        gnutls_x509_crt_deinit(chain[i]);
    }
    gnutls_free(chain);
    if (r < 0) {
        error_setg(&l->err, "Unable to check our own certificate: %s", gnutls_strerror(r));
        return -EINVAL;
    }
    if (status == 0) {
        return 0;
    }
    r = gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &words, 0);
    error_setg(&l->err, "Our own certificate in '%s' fails validation: %s", l->creds->dir,
               r == 0 ? (const char *)words.data : "unknown reason");
    if (r == 0) {
        gnutls_free(words.data);
    }
    return -EINVAL;
}

static int load_x509_blocking(void *opaque)
{
    Load *l = opaque;
    bool has_own = false;
    int r;

    gnutls_certificate_allocate_credentials(&l->creds->x509);
    r = load_ca(l);
    if (r == 0) {
        r = load_own(l, &has_own);
    }
    if (r == 0 && has_own && l->sanity_check) {
        r = check_own(l);
    }
    if (r == 0 && l->creds->server) {
        gnutls_certificate_set_known_dh_params(l->creds->x509, GNUTLS_SEC_PARAM_MEDIUM);
    }
    return r;
}

/* --------------------------------------------------------------------------------------------- psk */

static char *find_key(const char *text, const char *username)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autofree char *prefix = g_strdup_printf("%s:", username);
    char *key = NULL;

    for (char **line = lines; *line && !key; line++) {
        g_strchomp(*line);
        if (g_str_has_prefix(*line, prefix)) {
            key = g_strdup(*line + strlen(prefix));
        }
        gnutls_memset(*line, 0, strlen(*line));
    }
    return key;
}

static int set_client_key(Load *l, const char *path)
{
    g_autofree char *text = NULL, *key = NULL;
    g_autoptr(GError) gerr = NULL;
    gsize length = 0;
    gnutls_datum_t datum;
    int r;

    if (!g_file_get_contents(path, &text, &length, &gerr) || length > KEYS_BYTES_MAX) {
        error_setg(&l->err, "Cannot read '%s': %s", path, gerr ? gerr->message : "too long");
        return -EINVAL;
    }
    key = find_key(text, l->creds->username);
    gnutls_memset(text, 0, length);
    if (!key) {
        error_setg(&l->err, "Username %s not found in '%s'", l->creds->username, path);
        return -EINVAL;
    }
    datum = (gnutls_datum_t){.data = (unsigned char *)key, .size = (unsigned)strlen(key)};
    r = gnutls_psk_set_client_credentials(l->creds->psk_client, l->creds->username, &datum,
                                          GNUTLS_PSK_KEY_HEX);
    gnutls_memset(key, 0, strlen(key));
    if (r < 0) {
        error_setg(&l->err, "Cannot use the key of '%s' in '%s': %s", l->creds->username, path,
                   gnutls_strerror(r));
        return -EINVAL;
    }
    return 0;
}

static int load_psk_blocking(void *opaque)
{
    Load *l = opaque;
    g_autofree char *path = find_file(l, "keys.psk", true);
    int r;

    if (!path) {
        return -EINVAL;
    }
    if (!l->creds->server) {
        gnutls_psk_allocate_client_credentials(&l->creds->psk_client);
        return set_client_key(l, path);
    }
    gnutls_psk_allocate_server_credentials(&l->creds->psk_server);
    r = gnutls_psk_set_server_credentials_file(l->creds->psk_server, path);
    if (r < 0) {
        error_setg(&l->err, "Cannot set PSK server credentials: %s", gnutls_strerror(r));
        return -EINVAL;
    }
    gnutls_psk_set_server_known_dh_params(l->creds->psk_server, GNUTLS_SEC_PARAM_MEDIUM);
    return 0;
}

/* ----------------------------------------------------------------------------------------- objects */

static TlsCreds *creds_new(TlsKind kind, bool has_endpoint, QCryptoTLSCredsEndpoint endpoint,
                           const char *dir, const char *priority, Error **errp)
{
    TlsCreds *creds;

    if (!dir) {
        error_setg(errp, "Missing 'dir' property value");
        return NULL;
    }
    creds = g_new0(TlsCreds, 1);
    creds->kind = kind;
    creds->server = has_endpoint && endpoint == QCRYPTO_TLS_CREDS_ENDPOINT_SERVER;
    creds->dir = g_strdup(dir);
    creds->priority = g_strdup(priority);
    return creds;
}

/* Takes @creds. */
static int coroutine_fn creds_co_add(const char *id, const char *type, TlsCreds *creds,
                                     int (*load)(void *opaque), Load *l, Error **errp)
{
    int r;

    l->creds = creds;
    r = thread_pool_submit_co(load, l);
    if (r < 0) {
        error_propagate(errp, l->err);
    } else {
        creds->object = object_register_instance(id, type, creds, &creds_ops, errp);
        r = creds->object ? 0 : -EINVAL;
    }
    if (r < 0) {
        creds_free(creds);
    }
    return r;
}

int coroutine_fn tls_creds_x509_co_add(const char *id, const TlsCredsX509Properties *props,
                                       Error **errp)
{
    Load l = {.sanity_check = !props->has_sanity_check || props->sanity_check};
    Secret *password = NULL;
    TlsCreds *creds = creds_new(TLS_X509, props->has_endpoint, props->endpoint, props->dir,
                                props->priority, errp);
    int r;

    if (!creds) {
        return -EINVAL;
    }
    creds->verify_peer = !props->has_verify_peer || props->verify_peer;
    if (props->passwordid) {
        password = secret_ref_by_id(props->passwordid, errp);
        if (!password) {
            creds_free(creds);
            return -EINVAL;
        }
    }
    l.password = password;
    r = creds_co_add(id, X509_QOM_TYPE, creds, load_x509_blocking, &l, errp);
    secret_unref(password);
    return r;
}

int coroutine_fn tls_creds_psk_co_add(const char *id, const TlsCredsPskProperties *props,
                                      Error **errp)
{
    Load l = {0};
    TlsCreds *creds =
        creds_new(TLS_PSK, props->has_endpoint, props->endpoint, props->dir, props->priority, errp);

    if (!creds) {
        return -EINVAL;
    }
    if (creds->server && props->username) {
        error_setg(errp, "username should not be set when endpoint is server");
        creds_free(creds);
        return -EINVAL;
    }
    creds->username = g_strdup(props->username ? props->username : USERNAME_DEFAULT);
    return creds_co_add(id, PSK_QOM_TYPE, creds, load_psk_blocking, &l, errp);
}

TlsCreds *tls_creds_ref_by_id(const char *id, bool server, Error **errp)
{
    UserObject *object = object_lookup(id);
    TlsCreds *creds;

    if (!object) {
        error_setg(errp, "No TLS credentials with id '%s'", id);
        return NULL;
    }
    if (strcmp(object_type(object), X509_QOM_TYPE) != 0 &&
        strcmp(object_type(object), PSK_QOM_TYPE) != 0) {
        error_setg(errp, "Object with id '%s' is not TLS credentials", id);
        return NULL;
    }
    creds = object_instance(object);
    if (creds->server != server) {
        error_setg(errp, "Expecting TLS credentials with a %s endpoint",
                   server ? "server" : "client");
        return NULL;
    }
    tls_creds_ref(creds);
    return creds;
}

void tls_creds_ref(TlsCreds *creds)
{
    object_ref(creds->object);
}

void tls_creds_unref(TlsCreds *creds)
{
    if (creds) {
        object_unref(creds->object);
    }
}
