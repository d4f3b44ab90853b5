/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * queue.h - four kinds of linked lists whose links live in the elements
 *
 *              head  links  remove any  insert at tail  walk back
 *   QSLIST     1     1      no          no              no
 *   QLIST      1     2      yes         no              no
 *   QSIMPLEQ   2     1      no          yes             no
 *   QTAILQ     2     2      yes         yes             yes
 *
 * A head of zeroes is an empty QLIST and QSLIST; the other two need INIT (or HEAD_INITIALIZER).
 * The *_FOREACH_SAFE forms survive the removal of the current element only.  An entry of zeroes, or
 * one that was removed, says "on no list" to *_IS_INSERTED (QLIST and QTAILQ).  Arguments are
 * evaluated more than once: name an element by a variable.  No locks.
 */
#ifndef UTIL_QUEUE_H
#define UTIL_QUEUE_H

#include <stddef.h>

/* QLIST: each element knows who points at it, so it can be taken out without the head. */
#define QLIST_HEAD(name, type) \
    struct name {              \
        struct type *lh_first; \
    }
#define QLIST_HEAD_INITIALIZER(head) \
    {                                \
        NULL                         \
    }
#define QLIST_ENTRY(type)                                                           \
    struct {                                                                        \
        struct type *le_next;                                                       \
        struct type **le_prev; /* the pointer that points here; NULL: on no list */ \
    }
#define QLIST_INIT(head)              ((void)((head)->lh_first = NULL))
#define QLIST_EMPTY(head)             ((head)->lh_first == NULL)
#define QLIST_FIRST(head)             ((head)->lh_first)
#define QLIST_NEXT(elm, field)        ((elm)->field.le_next)
#define QLIST_IS_INSERTED(elm, field) ((elm)->field.le_prev != NULL)
#define QLIST_INSERT_HEAD(head, elm, field)                              \
    do {                                                                 \
        (elm)->field.le_next = (head)->lh_first;                         \
        (elm)->field.le_prev = &(head)->lh_first;                        \
        if ((elm)->field.le_next) {                                      \
            (elm)->field.le_next->field.le_prev = &(elm)->field.le_next; \
        }                                                                \
        (head)->lh_first = (elm);                                        \
    } while (0)
#define QLIST_INSERT_AFTER(listelm, elm, field)                          \
    do {                                                                 \
        (elm)->field.le_next = (listelm)->field.le_next;                 \
        (elm)->field.le_prev = &(listelm)->field.le_next;                \
        if ((elm)->field.le_next) {                                      \
            (elm)->field.le_next->field.le_prev = &(elm)->field.le_next; \
        }                                                                \
        (listelm)->field.le_next = (elm);                                \
    } while (0)
#define QLIST_INSERT_BEFORE(listelm, elm, field)          \
    do {                                                  \
        (elm)->field.le_next = (listelm);                 \
        (elm)->field.le_prev = (listelm)->field.le_prev;  \
        *(elm)->field.le_prev = (elm);                    \
        (listelm)->field.le_prev = &(elm)->field.le_next; \
    } while (0)
#define QLIST_REMOVE(elm, field)                                        \
    do {                                                                \
        *(elm)->field.le_prev = (elm)->field.le_next;                   \
        if ((elm)->field.le_next) {                                     \
            (elm)->field.le_next->field.le_prev = (elm)->field.le_prev; \
        }                                                               \
        (elm)->field.le_next = NULL;                                    \
        (elm)->field.le_prev = NULL;                                    \
    } while (0)
/* Take it out if it is on a list. */
#define QLIST_SAFE_REMOVE(elm, field)        \
    do {                                     \
        if (QLIST_IS_INSERTED(elm, field)) { \
            QLIST_REMOVE(elm, field);        \
        }                                    \
    } while (0)
#define QLIST_FOREACH(var, head, field) \
    for ((var) = QLIST_FIRST(head); (var); (var) = QLIST_NEXT(var, field))
#define QLIST_FOREACH_SAFE(var, head, field, next_var)                                 \
    for ((var) = QLIST_FIRST(head); (var) && ((next_var) = QLIST_NEXT(var, field), 1); \
         (var) = (next_var))
/* Make @to, which is empty, the list that @from was. */
#define QLIST_MOVE(to, from, field)                          \
    do {                                                     \
        (to)->lh_first = (from)->lh_first;                   \
        if ((to)->lh_first) {                                \
            (to)->lh_first->field.le_prev = &(to)->lh_first; \
        }                                                    \
        (from)->lh_first = NULL;                             \
    } while (0)

/* QSLIST: one pointer an element; a stack. */
#define QSLIST_HEAD(name, type) \
    struct name {               \
        struct type *slh_first; \
    }
#define QSLIST_HEAD_INITIALIZER(head) \
    {                                 \
        NULL                          \
    }
#define QSLIST_ENTRY(type)     \
    struct {                   \
        struct type *sle_next; \
    }
#define QSLIST_INIT(head)       ((void)((head)->slh_first = NULL))
#define QSLIST_EMPTY(head)      ((head)->slh_first == NULL)
#define QSLIST_FIRST(head)      ((head)->slh_first)
#define QSLIST_NEXT(elm, field) ((elm)->field.sle_next)
#define QSLIST_INSERT_HEAD(head, elm, field)       \
    do {                                           \
        (elm)->field.sle_next = (head)->slh_first; \
        (head)->slh_first = (elm);                 \
    } while (0)
#define QSLIST_INSERT_AFTER(listelm, elm, field)           \
    do {                                                   \
        (elm)->field.sle_next = (listelm)->field.sle_next; \
        (listelm)->field.sle_next = (elm);                 \
    } while (0)
/* Push from any thread; taking out is by QSLIST_MOVE_ATOMIC only, of everything at once. */
#define QSLIST_INSERT_HEAD_ATOMIC(head, elm, field)                                      \
    do {                                                                                 \
        __typeof__((head)->slh_first) qslist_old =                                       \
            __atomic_load_n(&(head)->slh_first, __ATOMIC_RELAXED);                       \
        do {                                                                             \
            (elm)->field.sle_next = qslist_old;                                          \
        } while (!__atomic_compare_exchange_n(&(head)->slh_first, &qslist_old, (elm), 1, \
                                              __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));      \
    } while (0)
#define QSLIST_MOVE_ATOMIC(to, from) \
    ((void)((to)->slh_first = __atomic_exchange_n(&(from)->slh_first, NULL, __ATOMIC_SEQ_CST)))
#define QSLIST_MOVE(to, from)                \
    do {                                     \
        (to)->slh_first = (from)->slh_first; \
        (from)->slh_first = NULL;            \
    } while (0)
#define QSLIST_REMOVE_HEAD(head, field)                               \
    do {                                                              \
        __typeof__((head)->slh_first) qslist_elm = (head)->slh_first; \
        (head)->slh_first = qslist_elm->field.sle_next;               \
        qslist_elm->field.sle_next = NULL;                            \
    } while (0)
#define QSLIST_REMOVE_AFTER(listelm, field) \
    ((void)((listelm)->field.sle_next = (listelm)->field.sle_next->field.sle_next))
/* Searches; the element is on the list. */
#define QSLIST_REMOVE(head, elm, type, field)              \
    do {                                                   \
        struct type **qslist_link = &(head)->slh_first;    \
        while (*qslist_link != (elm)) {                    \
            qslist_link = &(*qslist_link)->field.sle_next; \
        }                                                  \
        *qslist_link = (elm)->field.sle_next;              \
        (elm)->field.sle_next = NULL;                      \
    } while (0)
#define QSLIST_FOREACH(var, head, field) \
    for ((var) = QSLIST_FIRST(head); (var); (var) = QSLIST_NEXT(var, field))
#define QSLIST_FOREACH_SAFE(var, head, field, next_var)                                  \
    for ((var) = QSLIST_FIRST(head); (var) && ((next_var) = QSLIST_NEXT(var, field), 1); \
         (var) = (next_var))

/* QSIMPLEQ: one pointer an element; a queue. */
#define QSIMPLEQ_HEAD(name, type)                         \
    struct name {                                         \
        struct type *sqh_first;                           \
        struct type **sqh_last; /* the NULL at the end */ \
    }
#define QSIMPLEQ_HEAD_INITIALIZER(head) \
    {                                   \
        NULL, &(head).sqh_first         \
    }
#define QSIMPLEQ_ENTRY(type)   \
    struct {                   \
        struct type *sqe_next; \
    }
#define QSIMPLEQ_INIT(head)                    \
    do {                                       \
        (head)->sqh_first = NULL;              \
        (head)->sqh_last = &(head)->sqh_first; \
    } while (0)
#define QSIMPLEQ_EMPTY(head)      ((head)->sqh_first == NULL)
#define QSIMPLEQ_FIRST(head)      ((head)->sqh_first)
#define QSIMPLEQ_NEXT(elm, field) ((elm)->field.sqe_next)
#define QSIMPLEQ_LAST(head, type, field)                                       \
    (QSIMPLEQ_EMPTY(head) ? NULL                                               \
                          : (struct type *)(void *)((char *)(head)->sqh_last - \
                                                    offsetof(struct type, field.sqe_next)))
#define QSIMPLEQ_INSERT_HEAD(head, elm, field)         \
    do {                                               \
        (elm)->field.sqe_next = (head)->sqh_first;     \
        if (!(elm)->field.sqe_next) {                  \
            (head)->sqh_last = &(elm)->field.sqe_next; \
        }                                              \
        (head)->sqh_first = (elm);                     \
    } while (0)
#define QSIMPLEQ_INSERT_TAIL(head, elm, field)     \
    do {                                           \
        (elm)->field.sqe_next = NULL;              \
        *(head)->sqh_last = (elm);                 \
        (head)->sqh_last = &(elm)->field.sqe_next; \
    } while (0)
#define QSIMPLEQ_INSERT_AFTER(head, listelm, elm, field)   \
    do {                                                   \
        (elm)->field.sqe_next = (listelm)->field.sqe_next; \
        if (!(elm)->field.sqe_next) {                      \
            (head)->sqh_last = &(elm)->field.sqe_next;     \
        }                                                  \
        (listelm)->field.sqe_next = (elm);                 \
    } while (0)
#define QSIMPLEQ_REMOVE_HEAD(head, field)                               \
    do {                                                                \
        __typeof__((head)->sqh_first) qsimpleq_elm = (head)->sqh_first; \
        (head)->sqh_first = qsimpleq_elm->field.sqe_next;               \
        if (!(head)->sqh_first) {                                       \
            (head)->sqh_last = &(head)->sqh_first;                      \
        }                                                               \
        qsimpleq_elm->field.sqe_next = NULL;                            \
    } while (0)
/* Searches; the element is on the list. */
#define QSIMPLEQ_REMOVE(head, elm, type, field)                \
    do {                                                       \
        struct type **qsimpleq_link = &(head)->sqh_first;      \
        while (*qsimpleq_link != (elm)) {                      \
            qsimpleq_link = &(*qsimpleq_link)->field.sqe_next; \
        }                                                      \
        *qsimpleq_link = (elm)->field.sqe_next;                \
        if (!*qsimpleq_link) {                                 \
            (head)->sqh_last = qsimpleq_link;                  \
        }                                                      \
        (elm)->field.sqe_next = NULL;                          \
    } while (0)
/* Append all of @from, which becomes empty, to @to. */
#define QSIMPLEQ_CONCAT(to, from)                \
    do {                                         \
        if (!QSIMPLEQ_EMPTY(from)) {             \
            *(to)->sqh_last = (from)->sqh_first; \
            (to)->sqh_last = (from)->sqh_last;   \
            QSIMPLEQ_INIT(from);                 \
        }                                        \
    } while (0)
/* Put all of @from, which becomes empty, in front of @to. */
#define QSIMPLEQ_PREPEND(to, from)                 \
    do {                                           \
        if (!QSIMPLEQ_EMPTY(from)) {               \
            *(from)->sqh_last = (to)->sqh_first;   \
            if (QSIMPLEQ_EMPTY(to)) {              \
                (to)->sqh_last = (from)->sqh_last; \
            }                                      \
            (to)->sqh_first = (from)->sqh_first;   \
            QSIMPLEQ_INIT(from);                   \
        }                                          \
    } while (0)
#define QSIMPLEQ_MOVE(to, from)    \
    do {                           \
        QSIMPLEQ_INIT(to);         \
        QSIMPLEQ_CONCAT(to, from); \
    } while (0)
#define QSIMPLEQ_FOREACH(var, head, field) \
    for ((var) = QSIMPLEQ_FIRST(head); (var); (var) = QSIMPLEQ_NEXT(var, field))
#define QSIMPLEQ_FOREACH_SAFE(var, head, field, next_var)                                    \
    for ((var) = QSIMPLEQ_FIRST(head); (var) && ((next_var) = QSIMPLEQ_NEXT(var, field), 1); \
         (var) = (next_var))

/*
 * QTAILQ: a queue from which any element can be taken.  As in QLIST an entry keeps the address of
 * the pointer that points at it.  A head and an entry have one layout (pointer forward, then the
 * address of the pointer before), so that address is also the address of the head or entry in front; its
 * second half is the way one step further back.  QTAILQ_PREV and QTAILQ_LAST rest on that.
 */
#define QTAILQ_HEAD(name, type)                           \
    struct name {                                         \
        struct type *tqh_first;                           \
        struct type **tqh_last; /* the NULL at the end */ \
    }
#define QTAILQ_HEAD_INITIALIZER(head) \
    {                                 \
        NULL, &(head).tqh_first       \
    }
#define QTAILQ_ENTRY(type)                                                           \
    struct {                                                                         \
        struct type *tqe_next;                                                       \
        struct type **tqe_prev; /* the pointer that points here; NULL: on no list */ \
    }
#define QTAILQ_INIT(head)                      \
    do {                                       \
        (head)->tqh_first = NULL;              \
        (head)->tqh_last = &(head)->tqh_first; \
    } while (0)
#define QTAILQ_EMPTY(head)             ((head)->tqh_first == NULL)
#define QTAILQ_FIRST(head)             ((head)->tqh_first)
#define QTAILQ_NEXT(elm, field)        ((elm)->field.tqe_next)
#define QTAILQ_IN_USE(elm, field)      ((elm)->field.tqe_prev != NULL)
#define QTAILQ_IS_INSERTED(elm, field) QTAILQ_IN_USE(elm, field)
#define QTAILQ_LAST(head)              (*((__typeof__(*(head)) *)(void *)(head)->tqh_last)->tqh_last)
#define QTAILQ_PREV(elm, field) \
    (*((__typeof__((elm)->field) *)(void *)(elm)->field.tqe_prev)->tqe_prev)
#define QTAILQ_INSERT_HEAD(head, elm, field)                                \
    do {                                                                    \
        (elm)->field.tqe_next = (head)->tqh_first;                          \
        (elm)->field.tqe_prev = &(head)->tqh_first;                         \
        if ((elm)->field.tqe_next) {                                        \
            (elm)->field.tqe_next->field.tqe_prev = &(elm)->field.tqe_next; \
        } else {                                                            \
            (head)->tqh_last = &(elm)->field.tqe_next;                      \
        }                                                                   \
        (head)->tqh_first = (elm);                                          \
    } while (0)
#define QTAILQ_INSERT_TAIL(head, elm, field)       \
    do {                                           \
        (elm)->field.tqe_next = NULL;              \
        (elm)->field.tqe_prev = (head)->tqh_last;  \
        *(head)->tqh_last = (elm);                 \
        (head)->tqh_last = &(elm)->field.tqe_next; \
    } while (0)
#define QTAILQ_INSERT_AFTER(head, listelm, elm, field)                      \
    do {                                                                    \
        (elm)->field.tqe_next = (listelm)->field.tqe_next;                  \
        (elm)->field.tqe_prev = &(listelm)->field.tqe_next;                 \
        if ((elm)->field.tqe_next) {                                        \
            (elm)->field.tqe_next->field.tqe_prev = &(elm)->field.tqe_next; \
        } else {                                                            \
            (head)->tqh_last = &(elm)->field.tqe_next;                      \
        }                                                                   \
        (listelm)->field.tqe_next = (elm);                                  \
    } while (0)
#define QTAILQ_INSERT_BEFORE(listelm, elm, field)           \
    do {                                                    \
        (elm)->field.tqe_next = (listelm);                  \
        (elm)->field.tqe_prev = (listelm)->field.tqe_prev;  \
        *(elm)->field.tqe_prev = (elm);                     \
        (listelm)->field.tqe_prev = &(elm)->field.tqe_next; \
    } while (0)
#define QTAILQ_REMOVE(head, elm, field)                                    \
    do {                                                                   \
        if ((elm)->field.tqe_next) {                                       \
            (elm)->field.tqe_next->field.tqe_prev = (elm)->field.tqe_prev; \
        } else {                                                           \
            (head)->tqh_last = (elm)->field.tqe_prev;                      \
        }                                                                  \
        *(elm)->field.tqe_prev = (elm)->field.tqe_next;                    \
        (elm)->field.tqe_next = NULL;                                      \
        (elm)->field.tqe_prev = NULL;                                      \
    } while (0)
/* Append all of @from, which becomes empty, to @to. */
#define QTAILQ_CONCAT(to, from, field)                          \
    do {                                                        \
        if (!QTAILQ_EMPTY(from)) {                              \
            *(to)->tqh_last = (from)->tqh_first;                \
            (from)->tqh_first->field.tqe_prev = (to)->tqh_last; \
            (to)->tqh_last = (from)->tqh_last;                  \
            QTAILQ_INIT(from);                                  \
        }                                                       \
    } while (0)
#define QTAILQ_MOVE(to, from, field)    \
    do {                                \
        QTAILQ_INIT(to);                \
        QTAILQ_CONCAT(to, from, field); \
    } while (0)
#define QTAILQ_FOREACH(var, head, field) \
    for ((var) = QTAILQ_FIRST(head); (var); (var) = QTAILQ_NEXT(var, field))
#define QTAILQ_FOREACH_SAFE(var, head, field, next_var)                                  \
    for ((var) = QTAILQ_FIRST(head); (var) && ((next_var) = QTAILQ_NEXT(var, field), 1); \
         (var) = (next_var))
#define QTAILQ_FOREACH_REVERSE(var, head, field) \
    for ((var) = QTAILQ_LAST(head); (var); (var) = QTAILQ_PREV(var, field))
#define QTAILQ_FOREACH_REVERSE_SAFE(var, head, field, prev_var)                         \
    for ((var) = QTAILQ_LAST(head); (var) && ((prev_var) = QTAILQ_PREV(var, field), 1); \
         (var) = (prev_var))

#endif
