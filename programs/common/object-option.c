/* SPDX-License-Identifier: GPL-2.0-or-later */
/* object-option.c - --object of the tools */
#include "programs/common/object-option.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/encrypt/secret-object.h"
#include "block/filters/throttle-group.h"
#include "object/object.h"
#include "qapi/json-parser.h"
#include "qapi/keyval.h"
#include "qapi/qapi-types-qom.h"
#include "qapi/type.h"
#include "tls/authz.h"
#include "tls/creds.h"

static GPtrArray *taken; /* of ObjectOptions; NULL: none */

static bool is_offered(ObjectType type)
{
    return type != OBJECT_TYPE_IOTHREAD; /* a tool has but its main thread */
}

static int print_help(void)
{
    printf("List of user creatable objects:\n");
    for (int i = 0; i < OBJECT_TYPE__MAX; i++) {
        if (is_offered((ObjectType)i)) {
            printf("  %s\n", ObjectType_str((ObjectType)i));
        }
    }
    return 1;
}

static void free_options(void *value)
{
    qapi_free_ObjectOptions(value);
}

int object_option_parse(const char *text, Error **errp)
{
    bool is_json = *text == '{';
    json_t *tree;
    ObjectOptions *value;

    if (!strcmp(text, "help") || !strcmp(text, "?")) {
        return print_help();
    }
    tree = is_json ? json_parse_string(text, errp) : keyval_parse(text, "qom-type", NULL, errp);
    if (!tree) {
        return -EINVAL;
    }
    value = is_json ? qapi_from_json(&qapi_type_ObjectOptions, tree, errp)
                    : qapi_from_keyval(&qapi_type_ObjectOptions, tree, errp);
    json_decref(tree);
    if (!value) {
        return -EINVAL;
    }
    if (!is_offered(value->qom_type)) {
        error_setg(errp, "invalid object type: %s", ObjectType_str(value->qom_type));
        qapi_free_ObjectOptions(value);
        return -EINVAL;
    }
    if (!taken) {
        taken = g_ptr_array_new_with_free_func(free_options);
    }
    g_ptr_array_add(taken, value);
    return 0;
}

static int coroutine_fn co_make(const ObjectOptions *o, Error **errp)
{
    switch (o->qom_type) {
    case OBJECT_TYPE_AUTHZ_LIST:
        return authz_list_add(o->id, &o->u.authz_list, errp);
    case OBJECT_TYPE_AUTHZ_SIMPLE:
        return authz_simple_add(o->id, &o->u.authz_simple, errp);
    case OBJECT_TYPE_SECRET:
        return secret_object_co_add(o->id, &o->u.secret, errp);
    case OBJECT_TYPE_THROTTLE_GROUP:
        return throttle_group_object_add(o->id, &o->u.throttle_group, errp);
    case OBJECT_TYPE_TLS_CREDS_PSK:
        return tls_creds_psk_co_add(o->id, &o->u.tls_creds_psk, errp);
    case OBJECT_TYPE_TLS_CREDS_X509:
        return tls_creds_x509_co_add(o->id, &o->u.tls_creds_x509, errp);
    default:
        g_assert_not_reached(); /* is_offered() */
    }
}

int coroutine_fn object_options_co_make(Error **errp)
{
    int ret = 0;

    for (guint i = 0; taken && ret == 0 && i < taken->len; i++) {
        const ObjectOptions *o = g_ptr_array_index(taken, i);

        ret = co_make(o, errp);
    }
    return ret;
}

void object_options_clear(void)
{
    object_cleanup();
    if (taken) {
        g_ptr_array_free(taken, TRUE);
        taken = NULL;
    }
}
