/* SPDX-License-Identifier: GPL-2.0-or-later */
/* keyval - options of a command line: the parser, and the converters behind it */
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

#include "qapi/keyval.h"
#include "qapi/qapi-types-block-core.h"
#include "qapi/qapi-types-block-export.h"
#include "qapi/qapi-types-qom.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void try_type(const QapiType *type, json_t *tree)
{
    void *value = qapi_from_keyval(type, tree, NULL);
    void *again;
    json_t *out;

    if (!value) {
        return;
    }
    /* What is beyond jansson's integers comes out as a double, which does not go in again. */
    out = qapi_to_json(type, value);
    again = qapi_from_json(type, out, NULL);
    json_decref(out);
    qapi_free(type, value);
    qapi_free(type, again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    g_autofree char *text = g_strndup((const char *)bytes, n);
    bool help;
    json_t *tree = keyval_parse(text, "driver", &help, NULL);

    if (tree) {
        try_type(&qapi_type_BlockdevOptions, tree);
        try_type(&qapi_type_ObjectOptions, tree);
        try_type(&qapi_type_BlockExportOptions, tree);
        try_type(&qapi_type_NbdServerOptions, tree);
        json_decref(tree);
    }
    return 0;
}
