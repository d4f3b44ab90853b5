/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The lists against a GPtrArray, by random steps. */
#include "util/queue.h"
#include "util/osdep.h"
#include "tests/unit/util/seed.h"

#define ITEMS 12
#define STEPS 4000

typedef struct Item Item;
struct Item {
    int value; /* in front, so that the links are not at offset 0 */
    QLIST_ENTRY(Item) list;
    QTAILQ_ENTRY(Item) tailq;
    QSIMPLEQ_ENTRY(Item) simpleq;
    QSLIST_ENTRY(Item) slist;
};

/* An item that is in @model (@in) or not; NULL if there is none. */
static Item *pick(GRand *rand, Item *items, GPtrArray *model, bool in)
{
    int start = g_rand_int_range(rand, 0, ITEMS);

    for (int i = 0; i < ITEMS; i++) {
        Item *item = &items[(start + i) % ITEMS];

        if (g_ptr_array_find(model, item, NULL) == in) {
            return item;
        }
    }
    return NULL;
}

static guint place(GPtrArray *model, Item *item)
{
    guint index;

    g_assert_true(g_ptr_array_find(model, item, &index));
    return index;
}

static void test_qlist(void)
{
    GRand *rand = test_rand();
    GPtrArray *model = g_ptr_array_new();
    Item items[ITEMS] = {0};
    QLIST_HEAD(, Item) head = QLIST_HEAD_INITIALIZER(head);

    for (int step = 0; step < STEPS; step++) {
        Item *in = pick(rand, items, model, true);
        Item *out = pick(rand, items, model, false);
        QLIST_HEAD(, Item) moved;
        Item *item;
        Item *next;
        guint i = 0;

        switch (g_rand_int_range(rand, 0, 6)) {
        case 0:
            if (out) {
                QLIST_INSERT_HEAD(&head, out, list);
                g_ptr_array_insert(model, 0, out);
            }
            break;
        case 1:
            if (in && out) {
                QLIST_INSERT_AFTER(in, out, list);
                g_ptr_array_insert(model, place(model, in) + 1, out);
            }
            break;
        case 2:
            if (in && out) {
                QLIST_INSERT_BEFORE(in, out, list);
                g_ptr_array_insert(model, place(model, in), out);
            }
            break;
        case 3:
            if (in) {
                QLIST_REMOVE(in, list);
                g_ptr_array_remove(model, in);
            }
            break;
        case 4:
            item = &items[g_rand_int_range(rand, 0, ITEMS)];
            QLIST_SAFE_REMOVE(item, list);
            g_ptr_array_remove(model, item);
            break;
        case 5:
            QLIST_MOVE(&moved, &head, list);
            g_assert_true(QLIST_EMPTY(&head));
            QLIST_MOVE(&head, &moved, list);
            break;
        }
        QLIST_FOREACH (item, &head, list) {
            g_assert_true(item == g_ptr_array_index(model, i++));
        }
        g_assert_cmpuint(i, ==, model->len);
        QLIST_FOREACH_SAFE (item, &head, list, next) {
            i--;
        }
        g_assert_cmpuint(i, ==, 0);
        for (i = 0; i < ITEMS; i++) {
            g_assert_cmpint(QLIST_IS_INSERTED(&items[i], list), ==,
                            g_ptr_array_find(model, &items[i], NULL));
        }
    }
    g_ptr_array_free(model, TRUE);
    g_rand_free(rand);
}

typedef QTAILQ_HEAD(, Item) TailqHead;

static void check_tailq(TailqHead *head, GPtrArray *model)
{
    Item *item;
    Item *other;
    guint i = 0;

    QTAILQ_FOREACH (item, head, tailq) {
        g_assert_true(item == g_ptr_array_index(model, i++));
    }
    g_assert_cmpuint(i, ==, model->len);
    QTAILQ_FOREACH_REVERSE(item, head, tailq)
    {
        g_assert_true(item == g_ptr_array_index(model, --i));
    }
    g_assert_cmpuint(i, ==, 0);
    QTAILQ_FOREACH_REVERSE_SAFE(item, head, tailq, other)
    {
        i++;
    }
    QTAILQ_FOREACH_SAFE (item, head, tailq, other) {
        i--;
    }
    g_assert_cmpuint(i, ==, 0);
    g_assert_true(QTAILQ_LAST(head) ==
                  (model->len ? g_ptr_array_index(model, model->len - 1) : NULL));
    g_assert_cmpint(QTAILQ_EMPTY(head), ==, model->len == 0);
}

static void test_qtailq(void)
{
    GRand *rand = test_rand();
    GPtrArray *model = g_ptr_array_new();
    Item items[ITEMS] = {0};
    TailqHead head = QTAILQ_HEAD_INITIALIZER(head);
    TailqHead moved;

    for (int step = 0; step < STEPS; step++) {
        Item *in = pick(rand, items, model, true);
        Item *out = pick(rand, items, model, false);
        int what = g_rand_int_range(rand, 0, 6);

        if (what == 0 && out) {
            QTAILQ_INSERT_HEAD(&head, out, tailq);
            g_ptr_array_insert(model, 0, out);
        } else if (what == 1 && out) {
            QTAILQ_INSERT_TAIL(&head, out, tailq);
            g_ptr_array_add(model, out);
        } else if (what == 2 && in && out) {
            QTAILQ_INSERT_AFTER(&head, in, out, tailq);
            g_ptr_array_insert(model, place(model, in) + 1, out);
        } else if (what == 3 && in && out) {
            QTAILQ_INSERT_BEFORE(in, out, tailq);
            g_ptr_array_insert(model, place(model, in), out);
        } else if (what == 4 && in) {
            QTAILQ_REMOVE(&head, in, tailq);
            g_ptr_array_remove(model, in);
            g_assert_false(QTAILQ_IN_USE(in, tailq));
        } else if (what == 5) {
            QTAILQ_MOVE(&moved, &head, tailq);
            g_assert_true(QTAILQ_EMPTY(&head));
            if (out) {
                QTAILQ_INSERT_TAIL(&head, out, tailq);
                g_ptr_array_insert(model, 0, out);
            }
            QTAILQ_CONCAT(&head, &moved, tailq);
            g_assert_true(QTAILQ_EMPTY(&moved));
        }
        check_tailq(&head, model);
    }
    g_ptr_array_free(model, TRUE);
    g_rand_free(rand);
}

typedef QSIMPLEQ_HEAD(, Item) SimpleqHead;

/* Steps that change more than one element. */
static void simpleq_move(SimpleqHead *head, GPtrArray *model, Item *out, bool prepend)
{
    SimpleqHead moved;

    QSIMPLEQ_MOVE(&moved, head);
    g_assert_true(QSIMPLEQ_EMPTY(head));
    if (out) {
        QSIMPLEQ_INSERT_TAIL(head, out, simpleq);
        g_ptr_array_insert(model, prepend ? (gint)model->len : 0, out);
    }
    if (prepend) {
        QSIMPLEQ_PREPEND(head, &moved);
    } else {
        QSIMPLEQ_CONCAT(head, &moved);
    }
    g_assert_true(QSIMPLEQ_EMPTY(&moved));
}

static void test_qsimpleq(void)
{
    GRand *rand = test_rand();
    GPtrArray *model = g_ptr_array_new();
    Item items[ITEMS] = {0};
    SimpleqHead head = QSIMPLEQ_HEAD_INITIALIZER(head);

    for (int step = 0; step < STEPS; step++) {
        Item *in = pick(rand, items, model, true);
        Item *out = pick(rand, items, model, false);
        int what = g_rand_int_range(rand, 0, 7);
        Item *item;
        guint i = 0;

        if (what == 0 && out) {
            QSIMPLEQ_INSERT_HEAD(&head, out, simpleq);
            g_ptr_array_insert(model, 0, out);
        } else if (what == 1 && out) {
            QSIMPLEQ_INSERT_TAIL(&head, out, simpleq);
            g_ptr_array_add(model, out);
        } else if (what == 2 && in && out) {
            QSIMPLEQ_INSERT_AFTER(&head, in, out, simpleq);
            g_ptr_array_insert(model, place(model, in) + 1, out);
        } else if (what == 3 && in) {
            QSIMPLEQ_REMOVE_HEAD(&head, simpleq);
            g_ptr_array_remove_index(model, 0);
        } else if (what == 4 && in) {
            QSIMPLEQ_REMOVE(&head, in, Item, simpleq);
            g_ptr_array_remove(model, in);
        } else if (what >= 5) {
            simpleq_move(&head, model, out, what == 5);
        }
        QSIMPLEQ_FOREACH (item, &head, simpleq) {
            g_assert_true(item == g_ptr_array_index(model, i++));
        }
        g_assert_cmpuint(i, ==, model->len);
        g_assert_true(QSIMPLEQ_LAST(&head, Item, simpleq) ==
                      (model->len ? g_ptr_array_index(model, model->len - 1) : NULL));
    }
    g_ptr_array_free(model, TRUE);
    g_rand_free(rand);
}

static void test_qslist(void)
{
    Item items[4] = {{.value = 0}, {.value = 1}, {.value = 2}, {.value = 3}};
    QSLIST_HEAD(, Item) head = QSLIST_HEAD_INITIALIZER(head);
    QSLIST_HEAD(, Item) moved;
    int order[] = {2, 1, 0};
    int i = 0;
    Item *item;
    Item *next;

    for (i = 0; i < 3; i++) {
        QSLIST_INSERT_HEAD_ATOMIC(&head, &items[i], slist);
    }
    i = 0;
    QSLIST_FOREACH_SAFE (item, &head, slist, next) {
        g_assert_cmpint(item->value, ==, order[i++]);
    }
    QSLIST_MOVE_ATOMIC(&moved, &head);
    g_assert_true(QSLIST_EMPTY(&head));
    QSLIST_INSERT_AFTER(&items[1], &items[3], slist);
    QSLIST_REMOVE_AFTER(&items[3], slist);
    QSLIST_REMOVE(&moved, &items[1], Item, slist);
    QSLIST_REMOVE_HEAD(&moved, slist);
    g_assert_true(QSLIST_FIRST(&moved) == &items[3]);
    g_assert_null(QSLIST_NEXT(&items[3], slist));
    QSLIST_MOVE(&head, &moved);
    QSLIST_INSERT_HEAD(&head, &items[0], slist);
    g_assert_true(QSLIST_NEXT(&items[0], slist) == &items[3]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/util/queue/QLIST agrees with an array", test_qlist);
    g_test_add_func("/util/queue/QTAILQ agrees with an array in both directions", test_qtailq);
    g_test_add_func("/util/queue/QSIMPLEQ agrees with an array", test_qsimpleq);
    g_test_add_func("/util/queue/QSLIST is a stack", test_qslist);
    return g_test_run();
}
