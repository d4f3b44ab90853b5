/* SPDX-License-Identifier: GPL-2.0-or-later */
/* authz.h - who may come: lists of names, by id.  Main thread. */
#ifndef TLS_AUTHZ_H
#define TLS_AUTHZ_H

#include "qapi/qapi-types-crypto.h"
#include "util/error.h"

/* Make the list @id.  0; -errno with @errp. */
int authz_simple_add(const char *id, const AuthZSimpleProperties *props, Error **errp);
int authz_list_add(const char *id, const AuthZListProperties *props, Error **errp);

/* Does the list called @id let @identity in?  False, with @errp, too when there is no such list. */
bool authz_is_allowed(const char *id, const char *identity, Error **errp);

#endif
