/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * secret.h - passphrases and keys that users give by id
 *
 * What is in a secret is in memory of its own (util/keymem.h), and nothing here, and nobody who uses it, prints it:
 * messages and traces name secrets by their ids.
 *
 * Main thread; the bytes of a secret that one has a reference on may be read from any thread.
 */
#ifndef OBJECT_SECRET_H
#define OBJECT_SECRET_H

#include <stdint.h>
#include "object/object.h"

#define SECRET_QOM_TYPE "secret"

/* Passphrases and keys are short: what is longer is the wrong file, or one without an end. */
#define SECRET_BYTES_MAX (1 << 20)

typedef struct Secret {
    const uint8_t *data;
    size_t bytes;
    unsigned references;
} Secret;

/* A copy of @bytes at @data, with one reference. */
Secret *secret_new(const uint8_t *data, size_t bytes);
void secret_unref(Secret *secret); /* NULL is fine */

/* secret_register() - give a secret its id; takes the caller's reference, also when it fails.  0, -errno with @errp. */
int secret_register(const char *id, Secret *secret, Error **errp);

/**
 * secret_ref_by_id() - the secret called @id, which stays when its object is deleted meanwhile
 *
 * Return: a reference; NULL with @errp.
 */
Secret *secret_ref_by_id(const char *id, Error **errp);

#endif
