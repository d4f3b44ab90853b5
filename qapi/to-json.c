/* SPDX-License-Identifier: GPL-2.0-or-later */
/* to-json.c - values of schema types as JSON; cannot fail */
#include "type-int.h"

#include <string.h>

static json_t *slot_to_json(const QapiType *type, const void *slot, bool in_place);

static int64_t read_int(const QapiType *type, const void *slot)
{
    bool is_signed = type->int_min < 0;

    switch (type->size) {
    case 1:
        return is_signed ? *(const int8_t *)slot : *(const uint8_t *)slot;
    case 2:
        return is_signed ? *(const int16_t *)slot : *(const uint16_t *)slot;
    case 4:
        return is_signed ? *(const int32_t *)slot : (int64_t) * (const uint32_t *)slot;
    default:
        return *(const int64_t *)slot;
    }
}

/* jansson's integers end at INT64_MAX; what is beyond becomes the nearest double. */
static json_t *int_to_json(const QapiType *type, const void *slot)
{
    int64_t value = read_int(type, slot);

    if (type->int_min == 0 && type->size == sizeof(uint64_t) && value < 0) {
        return json_real((double)(uint64_t)value);
    }
    return json_integer(value);
}

/* Bytes that are no UTF-8 can come from file names: they are shown as U+FFFD. */
static json_t *str_to_json(const char *s)
{
    g_autofree char *valid = NULL;

    if (!s) {
        return json_string("");
    }
    valid = g_utf8_validate(s, -1, NULL) ? NULL : g_utf8_make_valid(s, -1);
    return json_string(valid ? valid : s);
}

static bool member_present(const QapiMember *m, const void *value)
{
    const char *base = value;

    if (!m->optional) {
        return true;
    }
    if (m->has_offset != QAPI_NO_HAS) {
        return *(const bool *)(base + m->has_offset);
    }
    return *(void *const *)(base + m->offset) != NULL;
}

static void struct_into(const QapiType *type, const void *value, json_t *object)
{
    const QapiType *branch = qapi_branch(type, value);
    const char *base = value;

    for (uint32_t i = 0; i < type->n_members; i++) {
        const QapiMember *m = &type->members[i];

        if (member_present(m, value)) {
            json_object_set_new(object, m->name, slot_to_json(m->type, base + m->offset, false));
        }
    }
    if (branch) {
        struct_into(branch, base + type->u_offset, object);
    }
}

static json_t *boxed_to_json(const QapiType *type, const void *value)
{
    json_t *object;

    if (type->kind == QAPI_KIND_ALTERNATE) {
        const QapiType *branch = value ? qapi_branch(type, value) : NULL;

        g_assert(branch);
        return slot_to_json(branch, (const char *)value + type->u_offset, true);
    }
    object = json_object();
    if (value) {
        struct_into(type, value, object);
    }
    return object;
}

static json_t *list_to_json(const QapiType *type, const GenericList *list)
{
    json_t *array = json_array();

    for (; list; list = list->next) {
        json_array_append_new(array, slot_to_json(type->element, list->value, false));
    }
    return array;
}

static json_t *slot_to_json(const QapiType *type, const void *slot, bool in_place)
{
    json_t *real;

    switch (type->kind) {
    case QAPI_KIND_STR:
        return str_to_json(*(char *const *)slot);
    case QAPI_KIND_INT:
        return int_to_json(type, slot);
    case QAPI_KIND_NUMBER:
        real = json_real(*(const double *)slot);
        return real ? real : json_null(); /* JSON has no infinity */
    case QAPI_KIND_BOOL:
        return json_boolean(*(const bool *)slot);
    case QAPI_KIND_ANY:
        return *(json_t *const *)slot ? json_incref(*(json_t *const *)slot) : json_null();
    case QAPI_KIND_NULL:
        return json_null();
    case QAPI_KIND_ENUM:
        return json_string(qapi_enum_lookup(type->lookup, *(const int *)slot));
    case QAPI_KIND_STRUCT:
    case QAPI_KIND_ALTERNATE:
        return boxed_to_json(type, in_place ? slot : *(void *const *)slot);
    case QAPI_KIND_LIST:
        return list_to_json(type, *(void *const *)slot);
    }
    g_assert_not_reached();
}

json_t *qapi_to_json(const QapiType *type, const void *value)
{
    if (type->kind == QAPI_KIND_LIST) {
        return list_to_json(type, value);
    }
    return boxed_to_json(type, value);
}
