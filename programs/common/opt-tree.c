/* SPDX-License-Identifier: GPL-2.0-or-later */
/* opt-tree.c - reading an option of a few flat members, such as --chardev, without a schema */
#include "programs/common/opt-tree.h"

#include <string.h>

#include "qapi/type.h"

void opt_tree_init(OptTree *t, json_t *tree)
{
    t->tree = tree;
    t->taken = g_ptr_array_new();
}

static json_t *opt_tree_take(OptTree *t, const char *key)
{
    json_t *value = json_object_get(t->tree, key);

    if (value) {
        g_ptr_array_add(t->taken, value);
    }
    return value;
}

bool opt_tree_str(OptTree *t, const char *key, const char **ret, Error **errp)
{
    json_t *value = opt_tree_take(t, key);

    if (!value) {
        return true;
    }
    if (!json_is_string(value)) {
        error_setg(errp, "Invalid parameter type for '%s', expected: string", key);
        return false;
    }
    *ret = json_string_value(value);
    return true;
}

bool opt_tree_bool(OptTree *t, const char *key, bool *ret, Error **errp)
{
    json_t *value = opt_tree_take(t, key);

    if (!value) {
        return true;
    }
    if (json_is_boolean(value)) {
        *ret = json_is_true(value);
        return true;
    }
    if (!json_is_string(value)) {
        error_setg(errp, "Invalid parameter type for '%s', expected: boolean", key);
        return false;
    }
    return qapi_bool_parse(key, json_string_value(value), ret, errp);
}

bool opt_tree_finish(OptTree *t, Error **errp)
{
    const char *key;
    json_t *value;

    json_object_foreach(t->tree, key, value)
    {
        if (!g_ptr_array_find(t->taken, value, NULL)) {
            error_setg(errp, "Invalid parameter '%s'", key);
            return false;
        }
    }
    return true;
}

void opt_tree_clear(OptTree *t)
{
    g_clear_pointer(&t->taken, g_ptr_array_unref);
}
