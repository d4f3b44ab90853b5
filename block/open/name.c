/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a file name says: which protocol, and where.
 *
 *      disk.img  file:disk.img  /dev/sdb      a path, of a file or of a block device
 *      nbd://host/export                      a server (nbd-uri.c)
 *      null-co://                             nothing
 *      blkdebug:rules.conf:NAME               the filter, with its rules, above what NAME says
 *      json:{...}                             options already (loose.c)
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include "aio/thread-pool.h"
#include "block/open/internal.h"
#include "util/cutils.h"
#include "util/osdep.h"

typedef struct StatCall {
    const char *path;
    bool is_device;
} StatCall;

static int stat_in_worker(void *opaque)
{
    StatCall *call = opaque;
    struct stat st;

    call->is_device = stat(call->path, &st) == 0 && S_ISBLK(st.st_mode);
    return 0;
}

bool bdrv_name_is_nested(const char *filename)
{
    return strstart(filename, "json:", NULL) || strstart(filename, "blkdebug:", NULL);
}

static void set_string(json_t *o, const char *key, const char *value)
{
    json_object_set_new(o, key, json_string(value));
}

static int fill_nbd(json_t *o, const char *filename, Error **errp)
{
    g_autofree char *export = NULL;
    json_t *server = bdrv_nbd_uri_server(filename, &export, errp);

    if (!server) {
        return -EINVAL;
    }
    set_string(o, "driver", "nbd");
    json_object_set_new(o, "server", server);
    set_string(o, "export", export);
    return 0;
}

/* @rest: "CONFIG:NAME", and either may be empty. */
static int fill_blkdebug(json_t *o, const char *rest, Error **errp)
{
    const char *name = strchr(rest, ':');
    json_t *image = json_object_get(o, "image");

    if (!name) {
        error_setg(errp, "blkdebug requires both config file and image path");
        return -EINVAL;
    }
    if (name > rest) {
        json_object_set_new(o, "config", json_stringn(rest, (size_t)(name - rest)));
    }
    set_string(o, "driver", "blkdebug");
    if (!image) {
        image = json_object();
        json_object_set_new(o, "image", image);
    }
    if (!json_is_object(image) || json_object_get(image, "filename")) {
        error_setg(errp, "The image of '%s' is named twice", rest);
        return -EINVAL;
    }
    set_string(image, "filename", name + 1);
    return 0;
}

static int coroutine_fn fill_path(json_t *o, const BdrvOpenFileArgs *args, Error **errp)
{
    StatCall call = {.path = args->filename};

    strstart(args->filename, "file:", &call.path);
    if (!*call.path) {
        error_setg(errp, "The 'file' block driver requires a file name");
        return -EINVAL;
    }
    thread_pool_submit_co(stat_in_worker, &call);
    set_string(o, "driver", call.is_device ? "host_device" : "file");
    set_string(o, "filename", call.path);
    if (args->has_aio && !json_object_get(o, "aio")) {
        set_string(o, "aio", BlockdevAioOptions_str(args->aio));
    }
    return 0;
}

int coroutine_fn bdrv_fill_protocol(json_t *o, const BdrvOpenFileArgs *args, Error **errp)
{
    const char *rest;

    if (bdrv_is_nbd_uri(args->filename)) {
        return fill_nbd(o, args->filename, errp);
    }
    if (!strcmp(args->filename, "null-co://")) {
        set_string(o, "driver", "null-co");
        return 0;
    }
    if (strstart(args->filename, "blkdebug:", &rest)) {
        return fill_blkdebug(o, rest, errp);
    }
    return fill_path(o, args, errp);
}
