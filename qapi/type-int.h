/* SPDX-License-Identifier: GPL-2.0-or-later */
/* type-int.h - how values lie in memory, for the files of this room */
#ifndef QAPI_TYPE_INT_H
#define QAPI_TYPE_INT_H

#include "qapi/type.h"

/* Structs, unions and alternates: their slot is a pointer, but for branches, which lie in place. */
bool qapi_is_boxed(const QapiType *type);

/* Bytes of a slot. */
size_t qapi_slot_size(const QapiType *type);

/* The branch that a union or an alternate has taken; NULL for a struct, or where there is none. */
const QapiType *qapi_branch(const QapiType *type, const void *value);

#endif
