/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * object.c - things that users make by id: object-add, object-del, their properties, query-iothreads
 *
 * A maker for each type: it makes the instance and enters it into the registry (object/object.h), which
 * from then on owns it.
 */
#include "monitor/commands.h"

#include <errno.h>

#include "aio/iothread.h"
#include "block/encrypt/secret-object.h"
#include "block/filters/throttle-group.h"
#include "block/graph/graph.h"
#include "object/object.h"
#include "qapi/qapi-commands-control.h"
#include "qapi/qapi-commands-qom.h"
#include "tls/authz.h"
#include "tls/creds.h"

static AioEngine iothread_engine = AIO_ENGINE_AUTO;

void user_object_set_aio_engine(AioEngine engine)
{
    iothread_engine = engine;
}

static void iothread_object_finalise(UserObject *object)
{
    iothread_destroy(object_instance(object));
}

static BlockDriverState *iothread_first_node(const UserObject *object)
{
    AioContext *ctx = iothread_get_aio_context(object_instance(object));

    for (BlockDriverState *bs = bdrv_next_node(NULL); bs; bs = bdrv_next_node(bs)) {
        if (bdrv_get_aio_context(bs) == ctx) {
            return bs;
        }
    }
    return NULL;
}

/* A thread must not go while nodes live in it. */
static bool iothread_object_can_be_deleted(const UserObject *object)
{
    return !bdrv_context_has_nodes(iothread_get_aio_context(object_instance(object)));
}

static const UserObjectOps iothread_object_ops = {
    .can_be_deleted = iothread_object_can_be_deleted,
    .finalise = iothread_object_finalise,
};

/* Nodes stay where an export had taken them: bring them home, unless somebody needs them there. */
static int coroutine_fn iothread_object_empty(UserObject *object, Error **errp)
{
    BlockDriverState *bs;
    int r = 0;

    while (r == 0 && (bs = iothread_first_node(object)) != NULL) {
        bdrv_ref(bs);
        r = bdrv_co_try_change_aio_context(bs, qemu_get_aio_context(), errp);
        bdrv_co_unref(bs);
    }
    return r;
}

/* Event loops here never poll in a busy loop, and batch as the ring allows: other wishes are refused. */
static int iothread_check(const IothreadProperties *props, Error **errp)
{
    static const char no_polling[] = "busy polling is not done";
    const struct {
        const char *name;
        bool given;
        int64_t value;
        const char *why;
    } checks[] = {
        {"poll-max-ns", props->has_poll_max_ns, props->poll_max_ns, no_polling},
        {"poll-grow", props->has_poll_grow, props->poll_grow, no_polling},
        {"poll-shrink", props->has_poll_shrink, props->poll_shrink, no_polling},
        {"aio-max-batch", props->has_aio_max_batch, props->aio_max_batch,
         "engines batch as they can"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(checks); i++) {
        if (checks[i].given && checks[i].value != 0) {
            error_setg(errp, "iothread: '%s' can only be 0: %s", checks[i].name, checks[i].why);
            return -ENOTSUP;
        }
    }
    return 0;
}

static int iothread_object_add(const char *id, const IothreadProperties *props, Error **errp)
{
    IOThread *iothread;

    if (iothread_check(props, errp) < 0) {
        return -ENOTSUP;
    }
    iothread = iothread_create(id, iothread_engine, errp);
    if (!iothread) {
        return -EINVAL;
    }
    if (!object_register_instance(id, "iothread", iothread, &iothread_object_ops, errp)) {
        iothread_destroy(iothread);
        return -EINVAL;
    }
    return 0;
}

int coroutine_fn user_object_add(const ObjectOptions *opts, Error **errp)
{
    switch (opts->qom_type) {
    case OBJECT_TYPE_AUTHZ_LIST:
        return authz_list_add(opts->id, &opts->u.authz_list, errp);
    case OBJECT_TYPE_AUTHZ_SIMPLE:
        return authz_simple_add(opts->id, &opts->u.authz_simple, errp);
    case OBJECT_TYPE_IOTHREAD:
        return iothread_object_add(opts->id, &opts->u.iothread, errp);
    case OBJECT_TYPE_SECRET:
        return secret_object_co_add(opts->id, &opts->u.secret, errp);
    case OBJECT_TYPE_THROTTLE_GROUP:
        return throttle_group_object_add(opts->id, &opts->u.throttle_group, errp);
    case OBJECT_TYPE_TLS_CREDS_PSK:
        return tls_creds_psk_co_add(opts->id, &opts->u.tls_creds_psk, errp);
    case OBJECT_TYPE_TLS_CREDS_X509:
        return tls_creds_x509_co_add(opts->id, &opts->u.tls_creds_x509, errp);
    default:
        g_assert_not_reached(); /* the schema has no other */
    }
}

void coroutine_fn qmp_object_add(ObjectOptions *arg, Error **errp)
{
    user_object_add(arg, errp);
}

void coroutine_fn qmp_object_del(const char *id, Error **errp)
{
    UserObject *object = object_lookup(id);

    if (object && !strcmp(object_type(object), "iothread") && object_users(object) == 0) {
        object_ref(object); /* nobody else deletes it while we wait */
        if (iothread_object_empty(object, errp) < 0) {
            object_unref(object);
            return;
        }
        object_unref(object);
    }
    object_unref_by_id(id, errp);
}

/* The one property that can be read and changed: a throttle group's limits. */
static ThrottleGroup *find_limits(const char *path, const char *property, Error **errp)
{
    const char *id = g_str_has_prefix(path, "/objects/") ? path + strlen("/objects/") : path;
    UserObject *object = object_lookup(id);

    if (!object) {
        error_set(errp, ERROR_CLASS_DEVICE_NOT_FOUND, "Device '%s' not found", path);
        return NULL;
    }
    if (strcmp(object_type(object), "throttle-group") != 0 || strcmp(property, "limits") != 0) {
        error_setg(errp, "Property '%s.%s' not found", object_type(object), property);
        return NULL;
    }
    return object_instance(object);
}

static json_t *limits_to_json(ThrottleGroup *group)
{
    g_autoptr(ThrottleLimits) limits = throttle_group_get_limits(group);

    return qapi_ThrottleLimits_to_json(limits);
}

json_t *coroutine_fn qmp_qom_get(const char *path, const char *property, Error **errp)
{
    ThrottleGroup *group = find_limits(path, property, errp);

    return group ? limits_to_json(group) : NULL;
}

void coroutine_fn qmp_qom_set(const char *path, const char *property, json_t *value, Error **errp)
{
    ThrottleGroup *group = find_limits(path, property, errp);
    g_autoptr(ThrottleLimits) given = NULL, all = NULL;
    json_t *json;

    if (!group) {
        return;
    }
    given = qapi_ThrottleLimits_from_json(value, errp);
    if (!given) {
        return;
    }
    json = limits_to_json(group);
    json_object_update(json, value); /* what is not given stays */
    all = qapi_ThrottleLimits_from_json(json, errp);
    json_decref(json);
    if (all) {
        throttle_group_set_limits(group, all, errp);
    }
}

static int query_iothread(UserObject *object, void *opaque)
{
    IOThreadInfoList ***tail = opaque;
    IOThreadInfo *info;
    IOThread *iothread;

    if (strcmp(object_type(object), "iothread") != 0) {
        return 0;
    }
    iothread = object_instance(object);
    info = g_new0(IOThreadInfo, 1);
    info->id = g_strdup(object_id(object));
    info->thread_id = iothread_get_thread_id(iothread);
    info->aio_engine = g_strdup(aio_context_engine_name(iothread_get_aio_context(iothread)));
    info->aio_engine_reason =
        g_strdup(aio_context_engine_reason(iothread_get_aio_context(iothread)));
    QAPI_LIST_APPEND(*tail, info);
    return 0;
}

IOThreadInfoList *coroutine_fn qmp_query_iothreads(Error **errp)
{
    IOThreadInfoList *list = NULL, **tail = &list;

    object_iterate(query_iothread, &tail);
    return list;
}
