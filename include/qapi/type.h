/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * type.h - what the generated code says about a type, and what can be done with any type
 *
 * scripts/qapi-gen writes C structs from qapi/ *.json and, beside each, one QapiType that describes
 * it.  Everything that is done with values (read, write, free, copy) is done by one function each
 * that walks the description; the generated qapi_T_from_json() etc. are one-line wrappers.
 *
 * How a value lies in memory, its "slot":
 *
 *   str                     char *, NULL when an optional one is absent
 *   int, bool, enum, ...    the value; an optional one has a `bool has_x` before it
 *   struct, union,          pointer to it, NULL when absent; but by value as the branch `u.x`
 *   alternate               of a union or an alternate
 *   list                    pointer to its first element; NULL is the empty list, and also an
 *                           absent one: no command tells these apart
 *   any                     json_t *, a reference of its own
 *
 * A struct begins with the members of its base, so that a pointer to it is one to its base.
 *
 * Every function here may be called in any thread and does not yield; a value belongs to whoever
 * got it, and values are never shared.
 */
#ifndef QAPI_TYPE_H
#define QAPI_TYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>
#include <jansson.h>
#include "util/error.h"

/*
 * Objects inside objects inside lists that a converter follows.  Commands run in coroutines, whose
 * stacks are small; a level takes about 1 KiB of it under ASan.  The longest chain of block nodes in
 * one command that has been seen in use is below 50 levels.
 */
#define QAPI_NESTING_MAX 128

/* The kinds of a JSON value, by the names that alternates use for their `type`. */
typedef enum QType {
    QTYPE_NONE,
    QTYPE_QNULL,
    QTYPE_QNUM,
    QTYPE_QSTRING,
    QTYPE_QDICT,
    QTYPE_QLIST,
    QTYPE_QBOOL,
    QTYPE__MAX,
} QType;

/* The one value of the schema's `null`. */
typedef struct QNull {
    char unused;
} QNull;

typedef struct QEnumLookup {
    const char *const *array; /* [size], as the schema spells them */
    int size;
} QEnumLookup;

typedef enum QapiKind {
    QAPI_KIND_STR,
    QAPI_KIND_INT, /* any width; see int_min, int_max */
    QAPI_KIND_NUMBER,
    QAPI_KIND_BOOL,
    QAPI_KIND_ANY,
    QAPI_KIND_NULL,
    QAPI_KIND_ENUM,
    QAPI_KIND_STRUCT, /* a union is one with branches */
    QAPI_KIND_ALTERNATE,
    QAPI_KIND_LIST,
} QapiKind;

typedef struct QapiType QapiType;

typedef struct QapiMember {
    const char *name; /* as in JSON */
    const QapiType *type;
    uint32_t offset;
    int32_t has_offset; /* of has_x, or QAPI_NO_HAS */
    bool optional;
} QapiMember;

#define QAPI_NO_HAS (-1)

struct QapiType {
    const char *name; /* as in the schema */
    QapiKind kind;
    uint32_t size; /* bytes: of the struct; of an int */

    /* INT */
    int64_t int_min;
    uint64_t int_max;
    bool is_size; /* key=value input may have a suffix */

    /* ENUM */
    const QEnumLookup *lookup;

    /* STRUCT: all members, the base's first */
    const QapiMember *members;
    uint32_t n_members;

    /*
     * STRUCT that is a union: branches[enum value], NULL where a value adds no members.
     * ALTERNATE: branches[QType], NULL where that kind is not accepted; the tag is a QType.
     */
    const QapiType *const *branches;
    uint32_t tag_offset;
    uint32_t u_offset;

    /* LIST */
    const QapiType *element;
};

/* What all lists begin with; the value is at QAPI_LIST_VALUE_OFFSET. */
typedef struct GenericList {
    struct GenericList *next;
    uint64_t value[];
} GenericList;

#define QAPI_LIST_VALUE_OFFSET (offsetof(GenericList, value))

/**
 * qapi_from_json() - a value of @type from JSON, each member checked
 *
 * Unknown members, missing ones, wrong types, numbers out of range and unknown enum values are
 * refused with QEMU's messages, which name the member by its path ("file.cache.direct").
 *
 * Return: the value (a struct, union, alternate or list), to be freed by qapi_free(); NULL and
 * *errp set.  An empty list is NULL too, with no error; callers that allow lists look at *errp.
 */
void *qapi_from_json(const QapiType *type, json_t *json, Error **errp);

/**
 * qapi_from_keyval() - the same from the tree that keyval_parse() makes
 *
 * All scalars are strings there: "on", "off", "64k" (a suffix for `size` only).
 */
void *qapi_from_keyval(const QapiType *type, json_t *json, Error **errp);
/* As that, and any integer may be a size ("64k"): what people type as options of an image. */
void *qapi_from_typed(const QapiType *type, json_t *json, Error **errp);

/* qapi_to_json() - a new reference; @value is a struct, union, alternate or list (NULL: empty) */
json_t *qapi_to_json(const QapiType *type, const void *value);

/* qapi_free() - frees @value (NULL is fine) and all it holds */
void qapi_free(const QapiType *type, void *value);

/* qapi_clone() - a deep copy; NULL gives NULL */
void *qapi_clone(const QapiType *type, const void *value);

/*
 * For structs that are on the caller's stack: the arguments of a command.  @value is zeroed.
 * qapi_read_struct() leaves what it had read in *value when it fails, for qapi_clear_struct().
 */
bool qapi_read_struct(const QapiType *type, json_t *json, void *value, Error **errp);
void qapi_clear_struct(const QapiType *type, void *value);

/* The word of the schema for @value, which must be in the enum. */
const char *qapi_enum_lookup(const QEnumLookup *lookup, int value);

/**
 * qapi_enum_parse() - the value whose word is @buf
 *
 * Return: the value; @def and, unless @buf is NULL, *errp set, when there is none.
 */
int qapi_enum_parse(const QEnumLookup *lookup, const char *buf, int def, Error **errp);

/* The same with @name in the message: "Parameter 'name' does not accept value 'buf'". */
int qapi_enum_parse_named(const char *name, const QEnumLookup *lookup, const char *buf, int def,
                          Error **errp);

/* qapi_bool_parse() - "on", "yes", "true", "y" or "off", "no", "false", "n" into *ret_value */
bool qapi_bool_parse(const char *name, const char *value, bool *ret_value, Error **errp);

/* QAPI_CLONE(BlockdevOptions, value) - a deep copy of the struct, union, alternate or list */
#define QAPI_CLONE(type, value) ((type *)qapi_clone(&qapi_type_##type, (value)))

/* Lists.  @list and @tail are lvalues; @element becomes the list's. */
#define QAPI_LIST_PREPEND(list, element)                         \
    do {                                                         \
        __typeof__(list) qapi_new_ = g_malloc0(sizeof(*(list))); \
        qapi_new_->value = (element);                            \
        qapi_new_->next = (list);                                \
        (list) = qapi_new_;                                      \
    } while (0)

/* TList *list = NULL, **tail = &list; QAPI_LIST_APPEND(tail, element); ... */
#define QAPI_LIST_APPEND(tail, element)        \
    do {                                       \
        *(tail) = g_malloc0(sizeof(**(tail))); \
        (*(tail))->value = (element);          \
        (tail) = &(*(tail))->next;             \
    } while (0)

#define QAPI_LIST_LENGTH(list)                                           \
    ({                                                                   \
        size_t qapi_length_ = 0;                                         \
        for (const GenericList *qapi_l_ = (const void *)(list); qapi_l_; \
             qapi_l_ = qapi_l_->next) {                                  \
            qapi_length_++;                                              \
        }                                                                \
        qapi_length_;                                                    \
    })

/* Declares the list type TList of TYPE, whose elements are ELEMENT, and its functions. */
#define QAPI_DECLARE_LIST(TList, ELEMENT) \
    typedef struct TList TList;           \
    struct TList {                        \
        TList *next;                      \
        ELEMENT value;                    \
    };                                    \
    QAPI_DECLARE_FUNCTIONS(TList)

/* qapi_free_T(), qapi_T_from_json(), qapi_T_from_keyval(), qapi_T_to_json(), g_autoptr(T) */
#define QAPI_DECLARE_FUNCTIONS(T)                                       \
    extern const QapiType qapi_type_##T;                                \
    static inline void qapi_free_##T(T *value)                          \
    {                                                                   \
        qapi_free(&qapi_type_##T, value);                               \
    }                                                                   \
    static inline T *qapi_##T##_from_json(json_t *json, Error **errp)   \
    {                                                                   \
        return qapi_from_json(&qapi_type_##T, json, errp);              \
    }                                                                   \
    static inline T *qapi_##T##_from_keyval(json_t *json, Error **errp) \
    {                                                                   \
        return qapi_from_keyval(&qapi_type_##T, json, errp);            \
    }                                                                   \
    static inline json_t *qapi_##T##_to_json(const T *value)            \
    {                                                                   \
        return qapi_to_json(&qapi_type_##T, value);                     \
    }                                                                   \
    G_DEFINE_AUTOPTR_CLEANUP_FUNC(T, qapi_free_##T)

/* The built-in types, and lists of them. */
extern const QapiType qapi_type_str, qapi_type_number, qapi_type_bool, qapi_type_any,
    qapi_type_null, qapi_type_int, qapi_type_int8, qapi_type_int16, qapi_type_int32,
    qapi_type_int64, qapi_type_uint8, qapi_type_uint16, qapi_type_uint32, qapi_type_uint64,
    qapi_type_size;

QAPI_DECLARE_LIST(strList, char *)
QAPI_DECLARE_LIST(numberList, double)
QAPI_DECLARE_LIST(boolList, bool)
QAPI_DECLARE_LIST(anyList, json_t *)
QAPI_DECLARE_LIST(nullList, QNull)
QAPI_DECLARE_LIST(intList, int64_t)
QAPI_DECLARE_LIST(int8List, int8_t)
QAPI_DECLARE_LIST(int16List, int16_t)
QAPI_DECLARE_LIST(int32List, int32_t)
QAPI_DECLARE_LIST(int64List, int64_t)
QAPI_DECLARE_LIST(uint8List, uint8_t)
QAPI_DECLARE_LIST(uint16List, uint16_t)
QAPI_DECLARE_LIST(uint32List, uint32_t)
QAPI_DECLARE_LIST(uint64List, uint64_t)
QAPI_DECLARE_LIST(sizeList, uint64_t)

#endif
