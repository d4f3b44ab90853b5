/* SPDX-License-Identifier: GPL-2.0-or-later */
/* object.c - the registry of the user's objects; the rules are in object/object.h */
#include "object/object.h"
#include "util/cutils.h"
#include "util/osdep.h"
#include "util/queue.h"

#include <errno.h>

struct UserObject {
    char *id;
    char *type;
    void *instance;
    const UserObjectOps *ops;
    unsigned int references; /* users, and the registry while `node` is on its list */
    QTAILQ_ENTRY(UserObject) node;
};

/* In the order of their making: there are few, so a walk is the search. */
static QTAILQ_HEAD(, UserObject) registry = QTAILQ_HEAD_INITIALIZER(registry);

UserObject *object_lookup(const char *id)
{
    UserObject *object;

    QTAILQ_FOREACH (object, &registry, node) {
        if (strcmp(object->id, id) == 0) {
            return object;
        }
    }
    return NULL;
}

UserObject *object_register_instance(const char *id, const char *type, void *instance,
                                     const UserObjectOps *ops, Error **errp)
{
    ERRP_GUARD();
    UserObject *object;

    if (!id_wellformed(id)) {
        error_setg(errp, "Parameter 'id' expects an identifier");
        error_append_hint(errp, "Identifiers consist of letters, digits, '-', '.', '_', "
                                "starting with a letter.\n");
        return NULL;
    }
    if (object_lookup(id)) {
        error_setg(errp, "attempt to add duplicate property '%s' to object (type 'container')", id);
        return NULL;
    }

    object = g_new0(UserObject, 1);
    object->id = g_strdup(id);
    object->type = g_strdup(type);
    object->instance = instance;
    object->ops = ops;
    object->references = 1;
    QTAILQ_INSERT_TAIL(&registry, object, node);
    return object;
}

void *object_find(const char *id, const char *type)
{
    UserObject *object = object_lookup(id);

    return object && strcmp(object->type, type) == 0 ? object->instance : NULL;
}

UserObject *object_ref_by_id(const char *id, const char *type, Error **errp)
{
    UserObject *object = object_lookup(id);

    if (!object) {
        error_setg(errp, "object '%s' not found", id);
        return NULL;
    }
    if (strcmp(object->type, type) != 0) {
        error_setg(errp, "object '%s' is of type '%s', not '%s'", id, object->type, type);
        return NULL;
    }
    object_ref(object);
    return object;
}

void object_ref(UserObject *object)
{
    assert(object->references > 0);
    object->references++;
}

void object_unref(UserObject *object)
{
    if (!object) {
        return;
    }
    assert(object->references > 0);
    if (--object->references > 0) {
        return;
    }

    /* O2 */
    assert(!QTAILQ_IN_USE(object, node));
    if (object->ops->finalise) {
        object->ops->finalise(object);
    }
    g_free(object->id);
    g_free(object->type);
    g_free(object);
}

const char *object_id(const UserObject *object)
{
    return object->id;
}

const char *object_type(const UserObject *object)
{
    return object->type;
}

void *object_instance(const UserObject *object)
{
    return object->instance;
}

unsigned int object_users(const UserObject *object)
{
    return object->references - (QTAILQ_IN_USE(object, node) ? 1 : 0);
}

/* The registry's own reference goes, and with it the name. */
static void object_forget(UserObject *object)
{
    QTAILQ_REMOVE(&registry, object, node);
    object_unref(object);
}

int object_unref_by_id(const char *id, Error **errp)
{
    UserObject *object = object_lookup(id);

    if (!object) {
        error_setg(errp, "object '%s' not found", id);
        return -ENOENT;
    }
    if (object_users(object) > 0 ||
        (object->ops->can_be_deleted && !object->ops->can_be_deleted(object))) {
        error_setg(errp, "object '%s' is in use, can not be deleted", id); /* O1 */
        return -EBUSY;
    }
    object_forget(object);
    return 0;
}

int object_iterate(int (*fn)(UserObject *object, void *opaque), void *opaque)
{
    UserObject *object;
    UserObject *next;

    QTAILQ_FOREACH_SAFE (object, &registry, node, next) {
        int r = fn(object, opaque);

        if (r != 0) {
            return r;
        }
    }
    return 0;
}

void object_cleanup(void)
{
    UserObject *object;

    while ((object = QTAILQ_LAST(&registry)) != NULL) {
        object_forget(object); /* O3 */
    }
}
