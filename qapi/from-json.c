/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * from-json.c - JSON into values of schema types, with every member checked
 *
 * Two flavours of input: JSON proper, and the tree of keyval_parse(), where all scalars are strings.
 * Two flavours of names in errors, as QEMU has them: most messages name a member by its path from the
 * top ("inject-error[0].event"; in key=value input "inject-error.0.event"), those about enums, small
 * integers and alternates by its own name.
 */
#include "type-int.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include "util/cutils.h"

/* Where the reader is: a chain over the stack, from the innermost to the top. */
typedef struct Path {
    const struct Path *parent;
    const char *name; /* NULL: an element of a list */
    size_t index;
    int depth;
} Path;

typedef struct Reader {
    bool keyval;
    bool sizes; /* keyval: where an integer stands, there may be a size */
    Error **errp;
} Reader;

static bool read_slot(Reader *r, const QapiType *type, json_t *json, void *slot, bool in_place,
                      const Path *path);

static void path_append(const Reader *r, const Path *path, GString *out)
{
    if (!path->parent) {
        return; /* the top has no name */
    }
    path_append(r, path->parent, out);
    if (!path->name) {
        g_string_append_printf(out, r->keyval ? ".%zu" : "[%zu]", path->index);
        return;
    }
    if (out->len) {
        g_string_append_c(out, '.');
    }
    g_string_append(out, path->name);
}

static char *path_full(const Reader *r, const Path *path)
{
    GString *out = g_string_new(NULL);

    path_append(r, path, out);
    if (!out->len) {
        g_string_append(out, "input");
    }
    return g_string_free(out, FALSE);
}

/* A member's own name; an element of a list has but its path. */
static char *path_own(const Reader *r, const Path *path)
{
    return path->name ? g_strdup(path->name) : path_full(r, path);
}

static bool fail_type(Reader *r, const Path *path, const char *expected)
{
    g_autofree char *name = path_full(r, path);

    error_setg(r->errp, "Invalid parameter type for '%s', expected: %s", name, expected);
    return false;
}

/* A scalar of key=value input: its string, or NULL and an error. */
static const char *keyval_scalar(Reader *r, json_t *json, const Path *path)
{
    const char *s = json_string_value(json);

    if (!s) {
        g_autofree char *name = path_full(r, path);

        error_setg(r->errp, "Parameters '%s.*' are unexpected", name);
    }
    return s;
}

static bool read_str(Reader *r, json_t *json, char **slot, const Path *path)
{
    const char *s = r->keyval ? keyval_scalar(r, json, path) : json_string_value(json);

    if (!s) {
        return r->keyval ? false : fail_type(r, path, "string");
    }
    if (strlen(s) != json_string_length(json)) {
        g_autofree char *name = path_full(r, path);

        error_setg(r->errp, "Parameter '%s' must not contain a null character", name);
        return false;
    }
    *slot = g_strdup(s);
    return true;
}

static bool fail_range(Reader *r, const QapiType *type, const Path *path)
{
    bool narrow = type->size < sizeof(int64_t);
    g_autofree char *name = narrow ? path_own(r, path) : path_full(r, path);

    error_setg(r->errp, "Parameter '%s' expects %s%s", name, type->is_size ? "uint64" : type->name,
               narrow ? "_t" : "");
    return false;
}

static void store_int(const QapiType *type, void *slot, uint64_t value)
{
    switch (type->size) {
    case 1:
        *(uint8_t *)slot = value;
        break;
    case 2:
        *(uint16_t *)slot = value;
        break;
    case 4:
        *(uint32_t *)slot = value;
        break;
    default:
        *(uint64_t *)slot = value;
        break;
    }
}

static bool store_checked(Reader *r, const QapiType *type, void *slot, int64_t value,
                          const Path *path)
{
    if (value < type->int_min || (value > 0 && (uint64_t)value > type->int_max)) {
        return fail_range(r, type, path);
    }
    store_int(type, slot, value);
    return true;
}

static bool read_int_keyval(Reader *r, const QapiType *type, json_t *json, void *slot,
                            const Path *path)
{
    const char *s = keyval_scalar(r, json, path);
    g_autofree char *name = path_full(r, path);
    uint64_t u = 0;
    int64_t value = 0;

    if (!s) {
        return false;
    }
    if (type->is_size) {
        if (qemu_strtosz(s, NULL, &u) < 0) {
            error_setg(r->errp, "Parameter '%s' expects a non-negative number below 2^64", name);
            return false;
        }
        store_int(type, slot, u);
        return true;
    }
    if (type->int_max == UINT64_MAX && qemu_strtou64(s, NULL, 0, &u) == 0) {
        store_int(type, slot, u);
        return true;
    }
    if (r->sizes && qemu_strtosz(s, NULL, &u) == 0 && u <= INT64_MAX) {
        value = (int64_t)u;
    } else if (qemu_strtoi64(s, NULL, 0, &value) < 0) {
        error_setg(r->errp, "Parameter '%s' expects integer", name);
        return false;
    }
    return store_checked(r, type, slot, value, path);
}

static bool read_int(Reader *r, const QapiType *type, json_t *json, void *slot, const Path *path)
{
    if (r->keyval) {
        return read_int_keyval(r, type, json, slot, path);
    }
    if (json_is_integer(json)) {
        return store_checked(r, type, slot, json_integer_value(json), path);
    }
    return fail_type(r, path, "integer");
}

static bool read_number(Reader *r, json_t *json, double *slot, const Path *path)
{
    const char *s;
    char *end;

    if (!r->keyval) {
        if (!json_is_number(json)) {
            return fail_type(r, path, "number");
        }
        *slot = json_number_value(json);
        return true;
    }
    s = keyval_scalar(r, json, path);
    if (!s) {
        return false;
    }
    errno = 0;
    *slot = g_ascii_strtod(s, &end);
    if (errno || end == s || *end || !isfinite(*slot)) {
        g_autofree char *name = path_full(r, path);

        error_setg(r->errp, "Parameter '%s' expects number", name);
        return false;
    }
    return true;
}

static bool read_bool(Reader *r, json_t *json, bool *slot, const Path *path)
{
    const char *s;
    g_autofree char *name = NULL;

    if (!r->keyval) {
        *slot = json_is_true(json);
        return json_is_boolean(json) ? true : fail_type(r, path, "boolean");
    }
    s = keyval_scalar(r, json, path);
    name = path_full(r, path);
    return s && qapi_bool_parse(name, s, slot, r->errp);
}

static bool read_enum(Reader *r, const QapiType *type, json_t *json, void *slot, const Path *path)
{
    const char *s = r->keyval ? keyval_scalar(r, json, path) : json_string_value(json);
    g_autofree char *name = NULL;
    int value;

    if (!s) {
        return r->keyval ? false : fail_type(r, path, "string");
    }
    value = qapi_enum_parse(type->lookup, s, -1, NULL);
    if (value < 0) {
        name = path_own(r, path);
        error_setg(r->errp, "Parameter '%s' does not accept value '%s'", name, s);
        return false;
    }
    memcpy(slot, &value, sizeof(value));
    return true;
}

static const QapiMember *find_member(const QapiType *type, const char *key)
{
    for (uint32_t i = 0; i < type->n_members; i++) {
        if (!strcmp(type->members[i].name, key)) {
            return &type->members[i];
        }
    }
    return NULL;
}

/* Whether @key is a member of the struct, or of the branch that the union has taken. */
static bool is_known(const QapiType *type, const void *value, const char *key)
{
    const char *base = value;

    while (type) {
        const QapiType *branch = qapi_branch(type, base);

        if (find_member(type, key)) {
            return true;
        }
        base += type->u_offset;
        type = branch;
    }
    return false;
}

static bool check_nothing_else(Reader *r, const QapiType *type, const void *value, json_t *json,
                               const Path *path)
{
    json_t *unused;
    const char *key;

    json_object_foreach(json, key, unused)
    {
        if (!is_known(type, value, key)) {
            Path member = {.parent = path, .name = key};
            g_autofree char *name = path_full(r, &member);
            bool nested = r->keyval && (json_is_object(unused) || json_is_array(unused));

            error_setg(r->errp,
                       nested ? "Parameters '%s.*' are unexpected" : "Parameter '%s' is unexpected",
                       name);
            return false;
        }
    }
    return true;
}

static bool read_members(Reader *r, const QapiType *type, json_t *json, void *value,
                         const Path *path)
{
    const QapiType *branch;
    char *base = value;

    for (uint32_t i = 0; i < type->n_members; i++) {
        const QapiMember *m = &type->members[i];
        json_t *sub = json_object_get(json, m->name);
        Path member = {.parent = path, .name = m->name, .depth = path->depth + 1};

        if (!sub && !m->optional) {
            g_autofree char *name = path_full(r, &member);

            error_setg(r->errp, "Parameter '%s' is missing", name);
            return false;
        }
        if (sub && !read_slot(r, m->type, sub, base + m->offset, false, &member)) {
            return false;
        }
        if (sub && m->has_offset != QAPI_NO_HAS) {
            *(bool *)(base + m->has_offset) = true;
        }
    }
    branch = qapi_branch(type, value);
    return !branch || read_members(r, branch, json, base + type->u_offset, path);
}

static bool read_struct(Reader *r, const QapiType *type, json_t *json, void *value,
                        const Path *path)
{
    if (!json_is_object(json)) {
        return fail_type(r, path, "object");
    }
    return read_members(r, type, json, value, path) &&
           check_nothing_else(r, type, value, json, path);
}

static QType json_qtype(const json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return QTYPE_QDICT;
    case JSON_ARRAY:
        return QTYPE_QLIST;
    case JSON_STRING:
        return QTYPE_QSTRING;
    case JSON_INTEGER:
    case JSON_REAL:
        return QTYPE_QNUM;
    case JSON_TRUE:
    case JSON_FALSE:
        return QTYPE_QBOOL;
    case JSON_NULL:
        return QTYPE_QNULL;
    }
    return QTYPE_NONE;
}

/* In key=value input a scalar is a string whatever it means; an alternate has but one scalar branch. */
static QType alternate_pick(const Reader *r, const QapiType *type, const json_t *json)
{
    static const QType scalars[] = {QTYPE_QSTRING, QTYPE_QBOOL, QTYPE_QNUM};
    QType qtype = json_qtype(json);

    if (r->keyval && qtype == QTYPE_QSTRING) {
        for (size_t i = 0; i < G_N_ELEMENTS(scalars); i++) {
            if (type->branches[scalars[i]]) {
                return scalars[i];
            }
        }
    }
    return qtype;
}

static bool read_alternate(Reader *r, const QapiType *type, json_t *json, void *value,
                           const Path *path)
{
    QType qtype = alternate_pick(r, type, json);
    char *base = value;

    if (!type->branches[qtype]) {
        g_autofree char *name = path_own(r, path);

        error_setg(r->errp, "Invalid parameter type for '%s', expected: %s", name, type->name);
        return false;
    }
    memcpy(base + type->tag_offset, &qtype, sizeof(qtype));
    return read_slot(r, type->branches[qtype], json, base + type->u_offset, true, path);
}

static bool read_list(Reader *r, const QapiType *type, json_t *json, GenericList **tail,
                      const Path *path)
{
    size_t i;
    json_t *element;

    if (!json_is_array(json)) {
        return fail_type(r, path, "array");
    }
    json_array_foreach(json, i, element)
    {
        Path where = {.parent = path, .index = i, .depth = path->depth + 1};

        *tail = g_malloc0(type->size);
        if (!read_slot(r, type->element, element, (*tail)->value, false, &where)) {
            return false;
        }
        tail = &(*tail)->next;
    }
    return true;
}

static bool read_boxed(Reader *r, const QapiType *type, json_t *json, void *slot, bool in_place,
                       const Path *path)
{
    void *value = slot;

    if (path->depth > QAPI_NESTING_MAX) {
        error_setg(r->errp, "Parameters are nested too deeply, the limit is %d", QAPI_NESTING_MAX);
        return false;
    }
    if (!in_place) {
        value = g_malloc0(type->size);
        *(void **)slot = value; /* Q1: the owner of the slot frees it */
    }
    if (type->kind == QAPI_KIND_ALTERNATE) {
        return read_alternate(r, type, json, value, path);
    }
    return read_struct(r, type, json, value, path);
}

static bool read_slot(Reader *r, const QapiType *type, json_t *json, void *slot, bool in_place,
                      const Path *path)
{
    switch (type->kind) {
    case QAPI_KIND_STR:
        return read_str(r, json, slot, path);
    case QAPI_KIND_INT:
        return read_int(r, type, json, slot, path);
    case QAPI_KIND_NUMBER:
        return read_number(r, json, slot, path);
    case QAPI_KIND_BOOL:
        return read_bool(r, json, slot, path);
    case QAPI_KIND_ENUM:
        return read_enum(r, type, json, slot, path);
    case QAPI_KIND_ANY:
        *(json_t **)slot = json_incref(json);
        return true;
    case QAPI_KIND_NULL:
        return json_is_null(json) ? true : fail_type(r, path, "null");
    case QAPI_KIND_STRUCT:
    case QAPI_KIND_ALTERNATE:
        return read_boxed(r, type, json, slot, in_place, path);
    case QAPI_KIND_LIST:
        return read_list(r, type, json, slot, path);
    }
    g_assert_not_reached();
}

static void *from_json(const QapiType *type, json_t *json, bool keyval, bool sizes, Error **errp)
{
    Reader reader = {.keyval = keyval, .sizes = sizes, .errp = errp};
    Path top = {0};
    void *value = NULL;

    if (!read_slot(&reader, type, json, &value, false, &top)) {
        qapi_free(type, value);
        return NULL;
    }
    return value;
}

void *qapi_from_json(const QapiType *type, json_t *json, Error **errp)
{
    return from_json(type, json, false, false, errp);
}

void *qapi_from_keyval(const QapiType *type, json_t *json, Error **errp)
{
    return from_json(type, json, true, false, errp);
}

bool qapi_read_struct(const QapiType *type, json_t *json, void *value, Error **errp)
{
    Reader reader = {.errp = errp};
    Path top = {0};
    json_t *empty = json ? NULL : json_object();
    bool ok = read_struct(&reader, type, json ? json : empty, value, &top);

    json_decref(empty);
    return ok;
}

void *qapi_from_typed(const QapiType *type, json_t *json, Error **errp)
{
    return from_json(type, json, true, true, errp);
}
