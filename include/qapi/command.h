/* SPDX-License-Identifier: GPL-2.0-or-later */
/* command.h - the table of commands that scripts/qapi-gen writes into qapi-commands.c */
#ifndef QAPI_COMMAND_H
#define QAPI_COMMAND_H

#include "qapi/type.h"

/**
 * QmpMarshalFunc - check the arguments, run the handler, make JSON of its result
 * @args: the command's "arguments", or NULL when there are none; borrowed
 * @ret:  *ret is NULL at entry; the result, a new reference, or left NULL where the command returns
 *        nothing (QMP's answer is then an empty object)
 *
 * Context: coroutine, main AioContext.  May yield.
 * Errors: *errp set and *ret left NULL.
 */
typedef void QmpMarshalFunc(json_t *args, json_t **ret, Error **errp);

typedef struct QmpCommand {
    const char *name;
    QmpMarshalFunc *marshal;
} QmpCommand;

#endif
