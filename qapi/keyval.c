/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * keyval.c - options of the command line as a tree
 *
 *      options  =  [ value | key=value | help ] { "," (key=value | help) } [ "," ]
 *      key      =  part { "." part }
 *      part     =  letter { letter | digit | "-" | "_" }   name of a member
 *               |  digit { digit }                         index of a list; not the first part
 *
 * All parts make objects first; in the end those whose members are all numbers become lists.  A key
 * cannot have a value and parts below it at once: "used inconsistently".
 */
#include "qapi/keyval.h"

#include <glib.h>
#include <string.h>

static bool is_index(const char *part)
{
    return *part && strspn(part, "0123456789") == strlen(part);
}

static bool is_name(const char *part)
{
    if (!g_ascii_isalpha(*part)) {
        return false;
    }
    for (; *part; part++) {
        if (!g_ascii_isalnum(*part) && *part != '-' && *part != '_') {
            return false;
        }
    }
    return true;
}

/* Indices that differ in leading zeros only are one: 01 is 1. */
static const char *part_key(const char *part)
{
    if (is_index(part)) {
        part += strspn(part, "0");
        return *part ? part : "0";
    }
    return part;
}

static bool check_key(const char *key, char **parts, Error **errp)
{
    if (g_strv_length(parts) > KEYVAL_PARTS_MAX) {
        error_setg(errp, "Parameter '%.40s...' has too many parts", key);
        return false;
    }
    for (size_t i = 0; parts[i] || i == 0; i++) {
        if (!parts[i] || !(is_name(parts[i]) || (i > 0 && is_index(parts[i])))) {
            error_setg(errp, "Invalid parameter '%s'", key);
            return false;
        }
        if (strlen(parts[i]) > KEYVAL_PART_MAX) {
            error_setg(errp, "Parameter '%s' is too long", parts[i]);
            return false;
        }
    }
    return true;
}

static bool inconsistent(char **parts, size_t n, Error **errp)
{
    g_autofree char *name = NULL;
    char *cut = parts[n];

    parts[n] = NULL;
    name = g_strjoinv(".", parts);
    parts[n] = cut;
    error_setg(errp, "Parameters '%s.*' used inconsistently", name);
    return false;
}

static bool put(json_t *root, const char *key, const char *value, Error **errp)
{
    g_auto(GStrv) parts = g_strsplit(key, ".", -1);
    json_t *at = root, *old;
    size_t last = 0;

    if (!check_key(key, parts, errp)) {
        return false;
    }
    if (!g_utf8_validate(value, -1, NULL)) {
        error_setg(errp, "Parameter '%s' is not valid UTF-8", key);
        return false;
    }
    for (; parts[last + 1]; last++) {
        json_t *next = json_object_get(at, part_key(parts[last]));

        if (!next) {
            next = json_object();
            json_object_set_new(at, part_key(parts[last]), next);
        } else if (!json_is_object(next)) {
            return inconsistent(parts, last + 1, errp);
        }
        at = next;
    }
    old = json_object_get(at, part_key(parts[last]));
    if (json_is_object(old)) {
        return inconsistent(parts, last + 1, errp);
    }
    json_object_set_new(at, part_key(parts[last]), json_string(value));
    return true;
}

/* The value at *text up to a single comma; *text then stands behind that, or at the end. */
static char *take_value(const char **text)
{
    GString *value = g_string_new(NULL);
    const char *p = *text;

    for (; *p; p++) {
        if (*p == ',') {
            if (p[1] != ',') {
                break;
            }
            p++;
        }
        g_string_append_c(value, *p);
    }
    *text = *p ? p + 1 : p;
    return g_string_free(value, FALSE);
}

static bool is_help(const char *text, size_t n)
{
    return (n == 1 && *text == '?') || (n == 4 && !strncmp(text, "help", 4));
}

/* One option at *text.  @implied: key of a value without one; NULL where that is not allowed. */
static bool take_option(json_t *root, const char **text, const char *implied, bool *ret_help,
                        Error **errp)
{
    const char *p = *text;
    size_t n = strcspn(p, "=,");
    g_autofree char *key = g_strndup(p, n);
    g_autofree char *value = NULL;

    if (p[n] != '=') {
        if (is_help(p, n) && !(p[n] == ',' && p[n + 1] == ',')) {
            if (!ret_help) {
                error_setg(errp, "Help is not available for this option");
                return false;
            }
            *ret_help = true;
            *text = p[n] ? p + n + 1 : p + n;
            return true;
        }
        if (!implied || n == 0) {
            error_setg(errp, n ? "Expected '=' after parameter '%s'" : "Invalid parameter '%s'",
                       key);
            return false;
        }
        value = take_value(text);
        return put(root, implied, value, errp);
    }
    *text = p + n + 1;
    value = take_value(text);
    return put(root, key, value, errp);
}

static json_t *to_list(json_t *object, const char *path, Error **errp)
{
    size_t n = json_object_size(object);
    json_t *array = json_array();

    for (size_t i = 0; i < n; i++) {
        g_autofree char *index = g_strdup_printf("%zu", i);
        json_t *element = json_object_get(object, index);

        if (!element) {
            error_setg(errp, "Parameter '%s.%zu' missing", path, i);
            json_decref(array);
            return NULL;
        }
        json_array_append(array, element);
    }
    return array;
}

/* How many members of @object are indices. */
static size_t count_indices(json_t *object)
{
    const char *key;
    json_t *value;
    size_t n = 0;

    json_object_foreach(object, key, value)
    {
        n += is_index(key);
    }
    return n;
}

/*
 * The objects of the tree, lists turned into arrays.  The depth of recursion is bounded by
 * KEYVAL_PARTS_MAX.  Return: a new reference; NULL and *errp set.
 */
static json_t *listify(json_t *object, const char *path, Error **errp)
{
    size_t indices = count_indices(object);
    const char *key;
    json_t *value;
    void *tmp;

    if (indices && indices != json_object_size(object)) {
        error_setg(errp, "Parameters '%s.*' used inconsistently", path);
        return NULL;
    }
    if (indices > KEYVAL_LIST_MAX) {
        error_setg(errp, "Parameter '%s' has too many elements", path);
        return NULL;
    }
    json_object_foreach_safe(object, tmp, key, value)
    {
        if (json_is_object(value)) {
            g_autofree char *sub = g_strdup_printf("%s%s%s", path, *path ? "." : "", key);
            json_t *made = listify(value, sub, errp);

            if (!made) {
                return NULL;
            }
            json_object_set_new(object, key, made);
        }
    }
    return indices ? to_list(object, path, errp) : json_incref(object);
}

json_t *keyval_parse(const char *text, const char *implied_key, bool *ret_help, Error **errp)
{
    json_t *root = json_object(), *result = NULL;
    const char *implied = implied_key;
    bool ok = true;

    if (ret_help) {
        *ret_help = false;
    }
    while (ok && *text) {
        ok = take_option(root, &text, implied, ret_help, errp);
        implied = NULL;
    }
    if (ok) {
        result = listify(root, "", errp);
    }
    json_decref(root);
    return result;
}

json_t *keyval_from_json(const json_t *value)
{
    const char *key;
    json_t *copy, *part;
    size_t index;

    switch (json_typeof(value)) {
    case JSON_OBJECT:
        copy = json_object();
        json_object_foreach((json_t *)value, key, part)
        {
            json_object_set_new(copy, key, keyval_from_json(part));
        }
        return copy;
    case JSON_ARRAY:
        copy = json_array();
        json_array_foreach(value, index, part)
        {
            json_array_append_new(copy, keyval_from_json(part));
        }
        return copy;
    case JSON_TRUE:
    case JSON_FALSE:
        return json_string(json_is_true(value) ? "on" : "off");
    case JSON_INTEGER:
    case JSON_REAL: {
        char *text = json_dumps(value, JSON_ENCODE_ANY);

        copy = json_string(text);
        free(text);
        return copy;
    }
    default:
        return json_copy((json_t *)value);
    }
}

void keyval_merge(json_t *tree, json_t *more, bool replace)
{
    const char *key;
    json_t *value, *there;

    json_object_foreach(more, key, value)
    {
        there = json_object_get(tree, key);
        if (json_is_object(there) && json_is_object(value)) {
            keyval_merge(there, value, replace);
        } else if (!there || replace) {
            json_object_set(tree, key, value);
        }
    }
}
