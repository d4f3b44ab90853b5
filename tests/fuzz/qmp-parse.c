/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qmp-parse - bytes from a QMP client: the parser, and the converters behind it
 *
 * Each value is tried as the arguments of the commands with the richest types.  What converts must
 * come out as JSON, convert again, and be the same.
 */
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

#include "qapi/json-parser.h"
#include "qapi/qapi-types-backup-access.h"
#include "qapi/qapi-types-block-core.h"
#include "qapi/qapi-types-block-export.h"
#include "qapi/qapi-types-block-job.h"
#include "qapi/qapi-types-qom.h"
#include "qapi/qapi-types-transaction.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void try_type(const QapiType *type, json_t *json)
{
    void *value = qapi_from_json(type, json, NULL);
    void *again;
    json_t *out, *out_again;

    if (!value) {
        return;
    }
    out = qapi_to_json(type, value);
    again = qapi_from_json(type, out, &error_abort);
    out_again = qapi_to_json(type, again);
    g_assert_true(json_equal(out, out_again));
    json_decref(out);
    json_decref(out_again);
    qapi_free(type, value);
    qapi_free(type, again);
}

static void take_message(void *opaque, json_t *message, Error *err)
{
    json_t *args = json_object_get(message, "arguments");

    g_assert_true(!message != !err);
    if (args) {
        try_type(&qapi_type_BlockdevOptions, args);
        try_type(&qapi_type_DriveBackup, args);
        try_type(&qapi_type_BackupStage, args);
        try_type(&qapi_type_DriveMirror, args);
        try_type(&qapi_type_BlockdevMirror, args);
        try_type(&qapi_type_BlockJobChangeOptions, args);
        try_type(&qapi_type_BackupAccessDiskList, json_object_get(args, "disks") ?: args);
        try_type(&qapi_type_BlockExportOptions, args);
        try_type(&qapi_type_NbdServerOptionsLegacy, args);
        try_type(&qapi_type_ObjectOptions, args);
        try_type(&qapi_type_TransactionActionList, json_object_get(args, "actions") ?: args);
    }
    json_decref(message);
    error_free(err);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    JSONMessageParser parser;
    size_t half = n / 2;

    json_message_parser_init(&parser, take_message, NULL);
    json_message_parser_feed(&parser, (const char *)bytes, half);
    json_message_parser_feed(&parser, (const char *)bytes + half, n - half);
    json_message_parser_flush(&parser);
    json_message_parser_destroy(&parser);
    return 0;
}
