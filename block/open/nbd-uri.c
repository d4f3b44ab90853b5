/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NBD URIs, turned into options of the nbd driver.
 *
 *   nbd://host[:port]/[export]                     TCP; port 10809 when none is named; also nbd+tcp://
 *   nbd+unix:///[export]?socket=path               a unix socket
 *   nbd+vsock://cid[:port]/[export]                AF_VSOCK
 *   nbd:host:port[:exportname=export]              what QEMU's names were before there were URIs
 *   nbd:unix:path[:exportname=export]
 *
 * Escapes (%2F) are undone.  What is not understood is refused (O2): nbds: asks for encryption, and a
 * URI that is taken without it would send in clear what was to be hidden.
 */
#include "block/open/internal.h"
#include "util/cutils.h"

/* The port that IANA gave NBD. */
#define NBD_PORT 10809

bool bdrv_is_nbd_uri(const char *filename)
{
    static const char *const schemes[] = {"nbd:",         "nbd+tcp://",   "nbd+unix://",
                                          "nbd+vsock://", "nbds://",      "nbds+tcp://",
                                          "nbds+unix://", "nbds+vsock://"};

    for (size_t i = 0; i < G_N_ELEMENTS(schemes); i++) {
        if (g_ascii_strncasecmp(filename, schemes[i], strlen(schemes[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* The one parameter there may be, for unix sockets; NULL with an error if it is not as it should be. */
static char *socket_parameter(GUri *uri, Error **errp)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GHashTable) params = NULL;
    const char *query = g_uri_get_query(uri), *path;

    params = g_uri_parse_params(query ? query : "", -1, "&", G_URI_PARAMS_NONE, &error);
    if (!params) {
        error_setg(errp, "NBD URI: %s", error->message);
        return NULL;
    }
    path = g_hash_table_lookup(params, "socket");
    if (!path || g_hash_table_size(params) != 1) {
        error_setg(errp, "An NBD URI with +unix needs the parameter 'socket' and no other");
        return NULL;
    }
    return g_strdup(path);
}

static json_t *unix_server(GUri *uri, Error **errp)
{
    g_autofree char *path = NULL;

    if (g_uri_get_host(uri) && *g_uri_get_host(uri)) {
        error_setg(errp, "An NBD URI with +unix has no host: nbd+unix:///export?socket=path");
        return NULL;
    }
    path = socket_parameter(uri, errp);
    return path ? json_pack("{s:s, s:s}", "type", "unix", "path", path) : NULL;
}

static json_t *host_server(GUri *uri, bool vsock, Error **errp)
{
    g_autofree char *port =
        g_strdup_printf("%d", g_uri_get_port(uri) > 0 ? g_uri_get_port(uri) : NBD_PORT);

    if (!g_uri_get_host(uri) || !*g_uri_get_host(uri) || g_uri_get_query(uri)) {
        error_setg(errp, "An NBD URI has a host and no parameters: nbd://host:port/export");
        return NULL;
    }
    return json_pack("{s:s, s:s, s:s}", "type", vsock ? "vsock" : "inet", vsock ? "cid" : "host",
                     g_uri_get_host(uri), "port", port);
}

/* The end of a host, which may be an IPv6 address in brackets. */
static const char *host_end(const char *text)
{
    return *text == '[' && strchr(text, ']') ? strchr(text, ']') + 1 : strchr(text, ':');
}

/* @text: what is behind "nbd:". */
static json_t *old_name_server(const char *text, char **ret_export, Error **errp)
{
    static const char mark[] = ":exportname=";
    const char *export = strstr(text, mark), *path, *end, *host;
    g_autofree char *address = export ? g_strndup(text, (gsize)(export - text)) : g_strdup(text);
    g_autofree char *name = NULL;

    *ret_export = g_strdup(export ? export + strlen(mark) : "");
    if (strstart(address, "unix:", &path)) {
        return json_pack("{s:s, s:s}", "type", "unix", "path", path);
    }
    end = host_end(address);
    if (!end || *end != ':' || end == address || !end[1]) {
        error_setg(errp, "'nbd:%s' is no address of an NBD server: nbd:host:port, nbd:unix:path",
                   text);
        g_clear_pointer(ret_export, g_free);
        return NULL;
    }
    host = *address == '[' ? address + 1 : address;
    name = g_strndup(host, (gsize)(end - host) - (*address == '[' ? 1 : 0));
    return json_pack("{s:s, s:s, s:s}", "type", "inet", "host", name, "port", end + 1);
}

json_t *bdrv_nbd_uri_server(const char *filename, char **ret_export, Error **errp)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GUri) uri = g_uri_parse(filename, G_URI_FLAGS_ENCODED_QUERY, &error);
    const char *scheme, *path, *old;
    json_t *server;

    if (strstart(filename, "nbd:", &old) && !g_str_has_prefix(old, "//")) {
        return old_name_server(old, ret_export, errp);
    }
    if (!uri) {
        error_setg(errp, "NBD URI '%s': %s", filename, error->message);
        return NULL;
    }
    scheme = g_uri_get_scheme(uri);
    if (strstart(scheme, "nbds", NULL)) {
        error_setg(errp, "NBD URI '%s': TLS is not supported", filename);
        return NULL;
    }
    if (g_uri_get_userinfo(uri) || g_uri_get_fragment(uri)) {
        error_setg(errp, "NBD URI '%s': a user and a fragment have no meaning", filename);
        return NULL;
    }
    server = g_str_has_suffix(scheme, "+unix")
                 ? unix_server(uri, errp)
                 : host_server(uri, g_str_has_suffix(scheme, "+vsock"), errp);
    if (server) {
        path = g_uri_get_path(uri);
        *ret_export = g_strdup(*path == '/' ? path + 1 : path);
    }
    return server;
}
