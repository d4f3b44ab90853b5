/* SPDX-License-Identifier: GPL-2.0-or-later */
/* secret.c - secrets in the registry of the user's objects */
#include "object/secret.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "util/keymem.h"

Secret *secret_new(const uint8_t *data, size_t bytes)
{
    Secret *secret = g_new0(Secret, 1);
    uint8_t *mem = keymem_new(bytes);

    if (bytes > 0) {
        memcpy(mem, data, bytes);
    }
    secret->data = mem;
    secret->bytes = bytes;
    secret->references = 1;
    return secret;
}

void secret_unref(Secret *secret)
{
    if (!secret) {
        return;
    }
    assert(secret->references > 0);
    if (--secret->references == 0) {
        keymem_free((uint8_t *)secret->data, secret->bytes);
        g_free(secret);
    }
}

static void secret_finalise(UserObject *object)
{
    secret_unref(object_instance(object));
}

static const UserObjectOps secret_ops = {.finalise = secret_finalise};

int secret_register(const char *id, Secret *secret, Error **errp)
{
    if (!object_register_instance(id, SECRET_QOM_TYPE, secret, &secret_ops, errp)) {
        secret_unref(secret);
        return -EINVAL;
    }
    return 0;
}

Secret *secret_ref_by_id(const char *id, Error **errp)
{
    Secret *secret = object_find(id, SECRET_QOM_TYPE);

    if (secret) {
        secret->references++;
    } else if (object_lookup(id)) {
        error_setg(errp, "Object with id '%s' is not a secret", id);
    } else {
        error_setg(errp, "No secret with id '%s'", id);
    }
    return secret;
}
