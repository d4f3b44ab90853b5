/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QAPI at run time: from descriptions to deeds
 *
 *      JSON text ──▶ json-lexer, json-parser ──▶ json_t ──┐
 *      key=value ──▶ keyval ────────────────────▶ json_t ──┴─▶ from-json ──▶ C structs
 *                                                                              │
 *      JSON text ◀── jansson ◀──────────────────  json_t ◀──── to-json ◀───────┘
 *
 * Q1  A value is either whole and checked, or does not exist: what fails half-way frees what it made.
 * Q2  The bytes of C structs are touched by from-json.c, to-json.c and this file only, and all three
 *     go by the same description.
 * Q3  Zeroed memory is a value that can be freed: pointers are NULL, a union's branch is empty, an
 *     alternate's type is QTYPE_NONE.
 *
 * This file: the built-in types, freeing and copying, words of enums.
 */
#include "type-int.h"

#include <string.h>

/* Each built-in type with the list of it.  (bool is a macro: no macro here may hand its name on.) */
#define LIST_OF(T, element_)                                                          \
    {                                                                                 \
        .name = #T, .kind = QAPI_KIND_LIST, .size = sizeof(T), .element = &(element_) \
    }

#define BUILTIN(name_, kind_, size_)                                                   \
    const QapiType qapi_type_##name_ = {.name = #name_, .kind = kind_, .size = size_}; \
    const QapiType qapi_type_##name_##List = LIST_OF(name_##List, qapi_type_##name_)

#define BUILTIN_INT(name_, ctype_, min_, max_) \
    const QapiType qapi_type_##name_ = {       \
        .name = #name_,                        \
        .kind = QAPI_KIND_INT,                 \
        .size = sizeof(ctype_),                \
        .int_min = (min_),                     \
        .int_max = (max_),                     \
    };                                         \
    const QapiType qapi_type_##name_##List = LIST_OF(name_##List, qapi_type_##name_)

BUILTIN(str, QAPI_KIND_STR, sizeof(char *));
BUILTIN(number, QAPI_KIND_NUMBER, sizeof(double));
BUILTIN(bool, QAPI_KIND_BOOL, sizeof(bool));
BUILTIN(any, QAPI_KIND_ANY, sizeof(json_t *));
BUILTIN(null, QAPI_KIND_NULL, sizeof(QNull));
BUILTIN_INT(int, int64_t, INT64_MIN, INT64_MAX);
BUILTIN_INT(int8, int8_t, INT8_MIN, INT8_MAX);
BUILTIN_INT(int16, int16_t, INT16_MIN, INT16_MAX);
BUILTIN_INT(int32, int32_t, INT32_MIN, INT32_MAX);
BUILTIN_INT(int64, int64_t, INT64_MIN, INT64_MAX);
BUILTIN_INT(uint8, uint8_t, 0, UINT8_MAX);
BUILTIN_INT(uint16, uint16_t, 0, UINT16_MAX);
BUILTIN_INT(uint32, uint32_t, 0, UINT32_MAX);
BUILTIN_INT(uint64, uint64_t, 0, UINT64_MAX);

const QapiType qapi_type_size = {
    .name = "size",
    .kind = QAPI_KIND_INT,
    .size = sizeof(uint64_t),
    .int_max = UINT64_MAX,
    .is_size = true,
};
const QapiType qapi_type_sizeList = LIST_OF(sizeList, qapi_type_size);

bool qapi_is_boxed(const QapiType *type)
{
    return type->kind == QAPI_KIND_STRUCT || type->kind == QAPI_KIND_ALTERNATE;
}

size_t qapi_slot_size(const QapiType *type)
{
    return qapi_is_boxed(type) || type->kind == QAPI_KIND_LIST ? sizeof(void *) : type->size;
}

const QapiType *qapi_branch(const QapiType *type, const void *value)
{
    int tag;

    if (!type->branches) {
        return NULL;
    }
    memcpy(&tag, (const char *)value + type->tag_offset, sizeof(tag));
    return type->branches[tag];
}

/* Frees what the slot refers to.  A branch that is a struct lies in the union itself: @in_place. */
static void slot_clear(const QapiType *type, void *slot, bool in_place);

static void struct_clear(const QapiType *type, void *value)
{
    const QapiType *branch = qapi_branch(type, value);
    char *base = value;

    for (uint32_t i = 0; i < type->n_members; i++) {
        slot_clear(type->members[i].type, base + type->members[i].offset, false);
    }
    if (branch) {
        slot_clear(branch, base + type->u_offset, true);
    }
}

static void list_free(const QapiType *type, GenericList *list)
{
    while (list) {
        GenericList *next = list->next;

        slot_clear(type->element, list->value, false);
        g_free(list);
        list = next;
    }
}

static void slot_clear(const QapiType *type, void *slot, bool in_place)
{
    switch (type->kind) {
    case QAPI_KIND_STR:
        g_free(*(char **)slot);
        break;
    case QAPI_KIND_ANY:
        json_decref(*(json_t **)slot);
        break;
    case QAPI_KIND_STRUCT:
    case QAPI_KIND_ALTERNATE:
        if (in_place) {
            struct_clear(type, slot);
        } else {
            qapi_free(type, *(void **)slot);
        }
        break;
    case QAPI_KIND_LIST:
        list_free(type, *(GenericList **)slot);
        break;
    case QAPI_KIND_INT:
    case QAPI_KIND_NUMBER:
    case QAPI_KIND_BOOL:
    case QAPI_KIND_NULL:
    case QAPI_KIND_ENUM:
        break;
    }
}

void qapi_free(const QapiType *type, void *value)
{
    if (!value) {
        return;
    }
    if (type->kind == QAPI_KIND_LIST) {
        list_free(type, value);
        return;
    }
    struct_clear(type, value);
    g_free(value);
}

void qapi_clear_struct(const QapiType *type, void *value)
{
    struct_clear(type, value);
    memset(value, 0, type->size);
}

/* The slot holds a bitwise copy: replace what it refers to by copies of their own. */
static void slot_own(const QapiType *type, void *slot, bool in_place);

static void struct_own(const QapiType *type, void *value)
{
    const QapiType *branch = qapi_branch(type, value);
    char *base = value;

    for (uint32_t i = 0; i < type->n_members; i++) {
        slot_own(type->members[i].type, base + type->members[i].offset, false);
    }
    if (branch) {
        slot_own(branch, base + type->u_offset, true);
    }
}

static void slot_own(const QapiType *type, void *slot, bool in_place)
{
    switch (type->kind) {
    case QAPI_KIND_STR:
        *(char **)slot = g_strdup(*(char **)slot);
        break;
    case QAPI_KIND_ANY:
        *(json_t **)slot = json_deep_copy(*(json_t **)slot);
        break;
    case QAPI_KIND_STRUCT:
    case QAPI_KIND_ALTERNATE:
        if (in_place) {
            struct_own(type, slot);
            break;
        }
        *(void **)slot = qapi_clone(type, *(void **)slot);
        break;
    case QAPI_KIND_LIST:
        *(void **)slot = qapi_clone(type, *(void **)slot);
        break;
    case QAPI_KIND_INT:
    case QAPI_KIND_NUMBER:
    case QAPI_KIND_BOOL:
    case QAPI_KIND_NULL:
    case QAPI_KIND_ENUM:
        break;
    }
}

void *qapi_clone(const QapiType *type, const void *value)
{
    GenericList *head = NULL, **tail = &head;
    void *copy;

    if (!value) {
        return NULL;
    }
    if (type->kind != QAPI_KIND_LIST) {
        copy = g_memdup2(value, type->size);
        struct_own(type, copy);
        return copy;
    }
    for (const GenericList *from = value; from; from = from->next) {
        *tail = g_memdup2(from, type->size);
        (*tail)->next = NULL;
        slot_own(type->element, (*tail)->value, false);
        tail = &(*tail)->next;
    }
    return head;
}

const char *qapi_enum_lookup(const QEnumLookup *lookup, int value)
{
    g_assert(value >= 0 && value < lookup->size);
    return lookup->array[value];
}

static int enum_find(const QEnumLookup *lookup, const char *word)
{
    for (int i = 0; i < lookup->size; i++) {
        if (!strcmp(lookup->array[i], word)) {
            return i;
        }
    }
    return -1;
}

int qapi_enum_parse(const QEnumLookup *lookup, const char *buf, int def, Error **errp)
{
    int value = buf ? enum_find(lookup, buf) : -1;

    if (buf && value < 0) {
        error_setg(errp, "invalid parameter value: %s", buf);
    }
    return value < 0 ? def : value;
}

int qapi_enum_parse_named(const char *name, const QEnumLookup *lookup, const char *buf, int def,
                          Error **errp)
{
    int value = buf ? enum_find(lookup, buf) : -1;

    if (buf && value < 0) {
        error_setg(errp, "Parameter '%s' does not accept value '%s'", name, buf);
    }
    return value < 0 ? def : value;
}

bool qapi_bool_parse(const char *name, const char *value, bool *ret_value, Error **errp)
{
    static const char *const words[][4] = {
        {"off", "no", "false", "n"},
        {"on", "yes", "true", "y"},
    };

    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 4; j++) {
            if (!strcmp(value, words[i][j])) {
                *ret_value = i;
                return true;
            }
        }
    }
    error_setg(errp, "Parameter '%s' expects 'on' or 'off'", name);
    return false;
}
