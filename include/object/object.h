/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * object.h - things the user makes by name: iothread, throttle-group, secret, tls-creds-*
 *
 *      object-add ──▶ maker of the type (a higher floor) ──▶ object_register_instance()
 *                                                              │ owns one reference
 *      -drive ...throttle-group=x ──▶ object_ref_by_id("x") ◀──┤
 *                                     ... object_unref()       │
 *      object-del ──▶ object_unref_by_id("x") ─────────────────┘
 *
 *   O1  An object with users cannot be deleted; its name stays taken.
 *   O2  finalise runs once, when the registry and the last user have let go.
 *   O3  At exit objects go in the reverse order of their making: a later one may use an earlier.
 *
 * Main thread only; nothing here yields.
 */
#ifndef OBJECT_OBJECT_H
#define OBJECT_OBJECT_H

#include <stdbool.h>
#include "util/error.h"

typedef struct UserObject UserObject;

typedef struct UserObjectOps {
    /* May be NULL.  False: the object is busy for a reason besides its users. */
    bool (*can_be_deleted)(const UserObject *object);
    /* May be NULL.  Frees the instance; the object's id is still there. */
    void (*finalise)(UserObject *object);
} UserObjectOps;

/**
 * object_register_instance() - give an object its name
 * @id:       letters, digits, '-', '.', '_', beginning with a letter; copied
 * @type:     QOM type name ("iothread"); copied
 * @instance: becomes the registry's on success, stays the caller's on failure
 * @ops:      borrowed for ever
 *
 * Return: the object, borrowed; NULL with @errp when the id is malformed or taken.
 */
UserObject *object_register_instance(const char *id, const char *type, void *instance,
                                     const UserObjectOps *ops, Error **errp);

/* object_lookup() - the object called @id, borrowed, or NULL */
UserObject *object_lookup(const char *id);

/* object_find() - the instance called @id if it is of @type, borrowed, or NULL */
void *object_find(const char *id, const char *type);

/* object_ref_by_id() - become a user of the object @id of @type; NULL and @errp if there is none */
UserObject *object_ref_by_id(const char *id, const char *type, Error **errp);

/* Become a user of an object, and stop being one.  object_unref(NULL) does nothing. */
void object_ref(UserObject *object);
void object_unref(UserObject *object);

const char *object_id(const UserObject *object);
const char *object_type(const UserObject *object);
void *object_instance(const UserObject *object);
/* Users besides the registry. */
unsigned int object_users(const UserObject *object);

/**
 * object_unref_by_id() - delete (object-del)
 *
 * Return: 0; -ENOENT, no such object; -EBUSY, it has users (O1).
 */
int object_unref_by_id(const char *id, Error **errp);

/**
 * object_iterate() - call @fn for each object in the order of their making
 *
 * @fn may delete the object it is called with, no other.  Return: the first nonzero result, or 0.
 */
int object_iterate(int (*fn)(UserObject *object, void *opaque), void *opaque);

/* object_cleanup() - the registry lets go of everything (O3); what has users lives on, nameless */
void object_cleanup(void);

#endif
