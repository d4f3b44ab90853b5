/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * notify.c - lists of callbacks; the rules N1 to N3 are in util/notify.h
 *
 * A cursor holds the notifier to be called next, not the one being called: nothing of the latter is
 * looked at after its callback returned, so it may be gone.
 */
#include "util/notify.h"

#include <stddef.h>

/* The two kinds of list differ in types only. */
#define CURSORS_SKIP(list, notifier)                       \
    do {                                                   \
        NotifierCursor *cursor;                            \
        QLIST_FOREACH (cursor, &(list)->cursors, node) {   \
            if (cursor->next == (notifier)) {              \
                cursor->next = QLIST_NEXT(notifier, node); \
            }                                              \
        }                                                  \
    } while (0)

void notifier_list_init(NotifierList *list)
{
    QLIST_INIT(&list->notifiers);
    QLIST_INIT(&list->cursors);
}

void notifier_list_add(NotifierList *list, Notifier *notifier)
{
    notifier->list = list;
    QLIST_INSERT_HEAD(&list->notifiers, notifier, node); /* N1, N3 */
}

void notifier_remove(Notifier *notifier)
{
    if (notifier->list) {
        CURSORS_SKIP(notifier->list, notifier); /* N2 */
        QLIST_REMOVE(notifier, node);
        notifier->list = NULL;
    }
}

void notifier_list_notify(NotifierList *list, void *data)
{
    NotifierCursor cursor = {.next = QLIST_FIRST(&list->notifiers)};

    QLIST_INSERT_HEAD(&list->cursors, &cursor, node);
    while (cursor.next) {
        Notifier *notifier = cursor.next;

        cursor.next = QLIST_NEXT(notifier, node);
        notifier->notify(notifier, data);
    }
    QLIST_REMOVE(&cursor, node);
}

bool notifier_list_empty(const NotifierList *list)
{
    return QLIST_EMPTY(&list->notifiers);
}

void notifier_with_return_list_init(NotifierWithReturnList *list)
{
    QLIST_INIT(&list->notifiers);
    QLIST_INIT(&list->cursors);
}

void notifier_with_return_list_add(NotifierWithReturnList *list, NotifierWithReturn *notifier)
{
    notifier->list = list;
    QLIST_INSERT_HEAD(&list->notifiers, notifier, node); /* N1, N3 */
}

void notifier_with_return_remove(NotifierWithReturn *notifier)
{
    if (notifier->list) {
        CURSORS_SKIP(notifier->list, notifier); /* N2 */
        QLIST_REMOVE(notifier, node);
        notifier->list = NULL;
    }
}

int notifier_with_return_list_notify(NotifierWithReturnList *list, void *data)
{
    NotifierCursor cursor = {.next = QLIST_FIRST(&list->notifiers)};
    int r = 0;

    QLIST_INSERT_HEAD(&list->cursors, &cursor, node);
    while (cursor.next && r == 0) {
        NotifierWithReturn *notifier = cursor.next;

        cursor.next = QLIST_NEXT(notifier, node);
        r = notifier->notify(notifier, data);
    }
    QLIST_REMOVE(&cursor, node);
    return r;
}

bool notifier_with_return_list_empty(const NotifierWithReturnList *list)
{
    return QLIST_EMPTY(&list->notifiers);
}

bool notifier_with_return_list_has_several(const NotifierWithReturnList *list)
{
    NotifierWithReturn *first = QLIST_FIRST(&list->notifiers);

    return first && QLIST_NEXT(first, node);
}
