/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a user would type to open a node.
 *
 *      raw ── file "disk.img"                              disk.img
 *      raw, offset 1 MiB ── file "disk.img"                json:{"driver": "raw", "offset": 1048576,
 *                                                                "file": {"driver": "file", "filename": "disk.img"}}
 *
 * Options that change what is read are part of a name, those that say how it is reached are not.
 */
#include "block/image/info.h"

#include <inttypes.h>
#include <string.h>

#include "qapi/qapi-types-sockets.h"

/* Options besides children and the name of the file that change what is read; a driver that is not here: none. */
static const struct {
    const char *driver;
    const char *options[8];
} telling[] = {
    {"raw", {"offset", "size"}},
    {"null-co", {"size", "read-zeroes", "latency-ns"}},
    {"example", {"size", "byte"}},
    {"luks", {"key-secret", "header"}},
    {"throttle", {"throttle-group"}},
    {"nbd", {"server", "export"}},
    {"blkdebug",
     {"inject-error", "set-state", "align", "max-transfer", "opt-write-zero", "max-write-zero",
      "opt-discard"}},
};

/* Never NULL. */
static const char *const *options_of(const BlockDriverState *bs)
{
    static const char *const none[] = {NULL};

    for (size_t i = 0; i < G_N_ELEMENTS(telling); i++) {
        if (!strcmp(telling[i].driver, bs->drv->format_name)) {
            return telling[i].options;
        }
    }
    return none;
}

static char *host_and_port(const InetSocketAddress *inet)
{
    const char *brackets = strchr(inet->host, ':') ? "[]" : "";

    return g_strdup_printf("nbd://%.1s%s%s:%s", brackets, inet->host, *brackets ? brackets + 1 : "",
                           inet->port);
}

/* NULL: there is no URI for it. */
static char *nbd_uri(const BlockdevOptionsNbd *o)
{
    g_autofree char *export = g_uri_escape_string(o->export ? o->export : "", "/", FALSE);
    g_autofree char *server = NULL, *path = NULL;

    if (o->server->type == SOCKET_ADDRESS_TYPE_INET) {
        server = host_and_port(&o->server->u.inet);
        return g_strconcat(server, *export ? "/" : "", export, NULL);
    }
    if (o->server->type == SOCKET_ADDRESS_TYPE_UNIX && !o->server->u.q_unix.abstract) {
        path = g_uri_escape_string(o->server->u.q_unix.path, "/", FALSE);
        return g_strconcat("nbd+unix://", *export ? "/" : "", export, "?socket=", path, NULL);
    }
    return NULL;
}

/* The name of the end of a tree, where no JSON is needed; NULL: it is. */
static char *protocol_name(const BlockDriverState *bs)
{
    switch (bs->options->driver) {
    case BLOCKDEV_DRIVER_FILE:
        return g_strdup(bs->options->u.file.filename);
    case BLOCKDEV_DRIVER_HOST_DEVICE:
        return g_strdup(bs->options->u.host_device.filename);
    case BLOCKDEV_DRIVER_HOST_CDROM:
        return g_strdup(bs->options->u.host_cdrom.filename);
    case BLOCKDEV_DRIVER_NBD:
        return nbd_uri(&bs->options->u.nbd);
    default:
        return NULL;
    }
}

static bool is_special(const BlockDriverState *bs, const json_t *all)
{
    for (const char *const *option = options_of(bs); *option; option++) {
        if (json_object_get(all, *option)) {
            return true;
        }
    }
    return false;
}

/* The name of a node that shows, or keeps its image in, a file with a plain name. */
static char *plain_name(BlockDriverState *bs)
{
    json_auto_t *all = NULL;

    if (bs->drv->is_protocol) {
        return protocol_name(bs);
    }
    if (!bs->file || bs->drv->is_filter) {
        return NULL;
    }
    all = qapi_BlockdevOptions_to_json(bs->options);
    return is_special(bs, all) ? NULL : plain_name(bs->file->bs);
}

static json_t *options_json(BlockDriverState *bs)
{
    json_auto_t *all = qapi_BlockdevOptions_to_json(bs->options);
    json_t *o = json_pack("{s:s}", "driver", bs->drv->format_name);
    BdrvChild *c;

    for (const char *const *option = options_of(bs); *option; option++) {
        if (json_object_get(all, *option)) {
            json_object_set(o, *option, json_object_get(all, *option));
        }
    }
    if (bs->drv->is_protocol && json_object_get(all, "filename")) {
        json_object_set(o, "filename", json_object_get(all, "filename"));
    }
    QLIST_FOREACH (c, &bs->children, next) {
        if (c->role & BDRV_CHILD_PRIMARY) {
            json_object_set_new(o, c->name, options_json(c->bs));
        }
    }
    if (json_object_get(o, "key-secret")) { /* behind the children, as others have it */
        json_object_del(o, "key-secret");
        json_object_set(o, "key-secret", json_object_get(all, "key-secret"));
    }
    return o;
}

char *image_name(BlockDriverState *bs)
{
    json_auto_t *o = NULL;
    char *name = NULL, *text;

    if (!bs->options) {
        return g_strdup(bs->filename);
    }
    name = plain_name(bs);
    if (!name) {
        o = options_json(bs);
        text = json_dumps(o, 0);
        name = g_strconcat("json:", text, NULL);
        free(text);
    }
    return name;
}
