/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * notify.h - lists of callbacks that may yield, and that may come and go meanwhile
 *
 *   N1  The newest is called first.
 *   N2  A notifier may be removed at any time, also by itself and also while it or another one is
 *       suspended in a walk; after removal the list does not touch it, so its memory may go.
 *       (Its owner must still wait for its own suspended calls if those use the memory.)
 *   N3  One that is added during a walk is not called by that walk.
 *
 * A walk keeps a cursor on its own stack, known to the list; removing the element that a cursor
 * stands on moves the cursor on.  One thread (or one lock) per list.  The list outlives its walks.
 */
#ifndef UTIL_NOTIFY_H
#define UTIL_NOTIFY_H

#include <stdbool.h>
#include "util/queue.h"

typedef struct Notifier Notifier;
typedef struct NotifierList NotifierList;
typedef struct NotifierWithReturn NotifierWithReturn;
typedef struct NotifierWithReturnList NotifierWithReturnList;

/* Walks in progress. */
typedef struct NotifierCursor {
    void *next;
    QLIST_ENTRY(NotifierCursor) node;
} NotifierCursor;

struct Notifier {
    void (*notify)(Notifier *notifier, void *data);
    NotifierList *list; /* NULL: on no list */
    QLIST_ENTRY(Notifier) node;
};

struct NotifierList {
    QLIST_HEAD(, Notifier) notifiers;
    QLIST_HEAD(, NotifierCursor) cursors;
};

/* All zero is an empty list; this says so. */
void notifier_list_init(NotifierList *list);
/* @notifier has its `notify` set, is on no list, and stays its owner's. */
void notifier_list_add(NotifierList *list, Notifier *notifier);
/* Fine on one that is on no list and zeroed. */
void notifier_remove(Notifier *notifier);
/* Yields if a callback does. */
void notifier_list_notify(NotifierList *list, void *data);
bool notifier_list_empty(const NotifierList *list);

struct NotifierWithReturn {
    /* 0 to go on; anything else ends the walk with that result.  May yield if the walker may. */
    int (*notify)(NotifierWithReturn *notifier, void *data);
    NotifierWithReturnList *list;
    QLIST_ENTRY(NotifierWithReturn) node;
};

struct NotifierWithReturnList {
    QLIST_HEAD(, NotifierWithReturn) notifiers;
    QLIST_HEAD(, NotifierCursor) cursors;
};

void notifier_with_return_list_init(NotifierWithReturnList *list);
void notifier_with_return_list_add(NotifierWithReturnList *list, NotifierWithReturn *notifier);
void notifier_with_return_remove(NotifierWithReturn *notifier);
/* Return: the first nonzero result, or 0 when all were called.  Yields if a callback does. */
int notifier_with_return_list_notify(NotifierWithReturnList *list, void *data);
bool notifier_with_return_list_empty(const NotifierWithReturnList *list);
/* Two or more? */
bool notifier_with_return_list_has_several(const NotifierWithReturnList *list);

#endif
