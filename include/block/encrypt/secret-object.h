/* SPDX-License-Identifier: GPL-2.0-or-later */
/* secret-object.h - a secret as a user writes it: object-add of a secret, --object secret,... */
#ifndef BLOCK_ENCRYPT_SECRET_OBJECT_H
#define BLOCK_ENCRYPT_SECRET_OBJECT_H

#include "coro/coroutine.h"
#include "qapi/qapi-types-crypto.h"
#include "util/error.h"

/**
 * secret_object_co_add() - make the secret @id
 *
 * Context: coroutine of the main context; yields while a file is read.
 *
 * Return: 0; -errno with @errp, in which nothing of the secret is.
 */
int coroutine_fn secret_object_co_add(const char *id, const SecretProperties *props, Error **errp);

#endif
