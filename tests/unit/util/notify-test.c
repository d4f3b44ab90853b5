/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rules N1 to N3 of util/notify.h.  A callback that is suspended is a thread that waits for the
 * baton: only one thread runs at a time, and the test says which.
 */
#include "util/notify.h"
#include "util/osdep.h"

typedef struct Watcher {
    NotifierWithReturn notifier;
    GString *log;
    char name;
    int result;
    struct Watcher *removes; /* removed and freed when this one is called */
    struct Watcher *adds;
} Watcher;

static int watcher_notify(NotifierWithReturn *notifier, void *data)
{
    Watcher *w = container_of(notifier, Watcher, notifier);
    int result = w->result;

    g_string_append_c(w->log, w->name);
    if (w->adds) {
        NotifierWithReturnList *list = w->notifier.list;
        Watcher *added = w->adds;

        w->adds = NULL;
        notifier_with_return_list_add(list, &added->notifier);
    }
    if (w->removes) {
        Watcher *removed = w->removes;

        w->removes = NULL;
        notifier_with_return_remove(&removed->notifier);
        g_free(removed); /* may be this one: nothing is touched behind this line */
    }
    return result;
}

static Watcher *watcher_new(NotifierWithReturnList *list, GString *log, char name)
{
    Watcher *w = g_new0(Watcher, 1);

    w->notifier.notify = watcher_notify;
    w->log = log;
    w->name = name;
    if (list) {
        notifier_with_return_list_add(list, &w->notifier);
    }
    return w;
}

static void watcher_free(Watcher *w)
{
    notifier_with_return_remove(&w->notifier);
    g_free(w);
}

typedef struct Fixture {
    NotifierWithReturnList list;
    GString *log;
    Watcher *c, *b, *a; /* called in the order a b c */
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    notifier_with_return_list_init(&f->list);
    f->log = g_string_new(NULL);
    f->c = watcher_new(&f->list, f->log, 'c');
    f->b = watcher_new(&f->list, f->log, 'b');
    f->a = watcher_new(&f->list, f->log, 'a');
}

static void tear_down(Fixture *f, gconstpointer data)
{
    g_assert_true(notifier_with_return_list_empty(&f->list));
    g_string_free(f->log, TRUE);
}

static void expect(Fixture *f, int r, const char *called)
{
    g_assert_cmpint(notifier_with_return_list_notify(&f->list, NULL), ==, r);
    g_assert_cmpstr(f->log->str, ==, called);
    g_string_truncate(f->log, 0);
}

static void test_order(Fixture *f, gconstpointer data)
{
    expect(f, 0, "abc");
    f->b->result = -5;
    expect(f, -5, "ab");
    watcher_free(f->b);
    expect(f, 0, "ac");
    watcher_free(f->a);
    watcher_free(f->c);
    expect(f, 0, "");
}

static void test_removal_of_itself(Fixture *f, gconstpointer data)
{
    f->b->removes = f->b;
    expect(f, 0, "abc");
    expect(f, 0, "ac");
    watcher_free(f->a);
    watcher_free(f->c);
}

static void test_removal_of_the_next(Fixture *f, gconstpointer data)
{
    f->a->removes = f->b;
    expect(f, 0, "ac");
    f->a->removes = f->c;
    expect(f, 0, "a");
    watcher_free(f->a);
}

static void test_removal_of_an_earlier_one(Fixture *f, gconstpointer data)
{
    f->c->removes = f->a;
    expect(f, 0, "abc");
    expect(f, 0, "bc");
    watcher_free(f->b);
    watcher_free(f->c);
}

static void test_addition(Fixture *f, gconstpointer data)
{
    Watcher *d = watcher_new(NULL, f->log, 'd');

    f->a->adds = d;
    expect(f, 0, "abc");
    expect(f, 0, "dabc");
    watcher_free(f->a);
    watcher_free(f->b);
    watcher_free(f->c);
    watcher_free(d);
}

/* Suspended walks: one baton, held by exactly one of the threads. */

typedef struct Baton {
    GMutex lock;
    GCond moved;
    int holder;
} Baton;

static void baton_pass(Baton *baton, int from, int to)
{
    g_mutex_lock(&baton->lock);
    g_assert_cmpint(baton->holder, ==, from);
    baton->holder = to;
    g_cond_broadcast(&baton->moved);
    while (baton->holder != from) {
        g_cond_wait(&baton->moved, &baton->lock);
    }
    g_mutex_unlock(&baton->lock);
}

typedef struct Walk {
    NotifierWithReturnList *list;
    Baton *baton;
    GString *called;
    int number; /* in the baton; 0 is the test */
    bool done;
} Walk;

typedef struct Sleeper {
    NotifierWithReturn notifier;
    char name;
} Sleeper;

/* Says its name and gives the baton back to the test until it is called on. */
static int sleeper_notify(NotifierWithReturn *notifier, void *data)
{
    Walk *walk = data;
    char name = container_of(notifier, Sleeper, notifier)->name;

    g_string_append_c(walk->called, name);
    baton_pass(walk->baton, walk->number, 0);
    return 0;
}

static gpointer walk_thread(gpointer data)
{
    Walk *walk = data;

    g_mutex_lock(&walk->baton->lock);
    while (walk->baton->holder != walk->number) {
        g_cond_wait(&walk->baton->moved, &walk->baton->lock);
    }
    g_mutex_unlock(&walk->baton->lock);

    notifier_with_return_list_notify(walk->list, walk);
    walk->done = true;

    g_mutex_lock(&walk->baton->lock);
    walk->baton->holder = 0;
    g_cond_broadcast(&walk->baton->moved);
    g_mutex_unlock(&walk->baton->lock);
    return NULL;
}

static Sleeper *sleeper_new(NotifierWithReturnList *list, char name)
{
    Sleeper *s = g_new0(Sleeper, 1);

    s->notifier.notify = sleeper_notify;
    s->name = name;
    notifier_with_return_list_add(list, &s->notifier);
    return s;
}

static void sleeper_free(Sleeper *s)
{
    notifier_with_return_remove(&s->notifier);
    g_free(s);
}

static void test_suspended_walks(void)
{
    NotifierWithReturnList list;
    Baton baton = {.holder = 0};
    Walk walk[3];
    GThread *thread[3];
    Sleeper *s[5];

    g_mutex_init(&baton.lock);
    g_cond_init(&baton.moved);
    notifier_with_return_list_init(&list);
    for (int i = 3; i >= 0; i--) {
        s[i] = sleeper_new(&list, (char)('a' + i));
    }
    for (int i = 1; i < 3; i++) {
        walk[i] = (Walk){.list = &list, .baton = &baton, .number = i, .called = g_string_new(NULL)};
        thread[i] = g_thread_new("walk", walk_thread, &walk[i]);
    }

    baton_pass(&baton, 0, 1); /* walk 1 sleeps in a */
    baton_pass(&baton, 0, 1); /* walk 1 sleeps in b, c is next */
    baton_pass(&baton, 0, 2); /* walk 2 sleeps in a, b is next */
    s[4] = sleeper_new(&list, 'e');
    sleeper_free(s[1]); /* the one where 1 sleeps, and the next of 2 */
    sleeper_free(s[2]); /* the next of 1, and by now the next of 2 too */
    baton_pass(&baton, 0, 1);
    g_assert_cmpstr(walk[1].called->str, ==, "abd");
    sleeper_free(s[0]); /* where 2 sleeps */
    baton_pass(&baton, 0, 1);
    g_assert_true(walk[1].done); /* the walk that began first ends first */
    sleeper_free(s[3]);
    baton_pass(&baton, 0, 2);
    g_assert_true(walk[2].done);
    g_assert_cmpstr(walk[2].called->str, ==, "a");

    sleeper_free(s[4]);
    for (int i = 1; i < 3; i++) {
        g_thread_join(thread[i]);
        g_string_free(walk[i].called, TRUE);
    }
    g_assert_true(notifier_with_return_list_empty(&list));
    g_cond_clear(&baton.moved);
    g_mutex_clear(&baton.lock);
}

typedef struct Counter {
    Notifier notifier;
    int calls;
} Counter;

static void count_and_leave(Notifier *notifier, void *data)
{
    container_of(notifier, Counter, notifier)->calls++;
    notifier_remove(notifier);
}

static void test_plain_list(void)
{
    NotifierList list;
    Counter counter[3] = {0};

    notifier_list_init(&list);
    for (int i = 0; i < 3; i++) {
        counter[i].notifier.notify = count_and_leave;
        notifier_list_add(&list, &counter[i].notifier);
    }
    notifier_list_notify(&list, NULL);
    notifier_list_notify(&list, NULL);
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(counter[i].calls, ==, 1);
        notifier_remove(&counter[i].notifier);
    }
    g_assert_true(notifier_list_empty(&list));
}

#define ADD(name, function) \
    g_test_add("/util/notify/" name, Fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("the newest is first and a result ends the walk", test_order);
    ADD("a notifier removes and frees itself", test_removal_of_itself);
    ADD("a notifier removes the next one", test_removal_of_the_next);
    ADD("a notifier removes an earlier one", test_removal_of_an_earlier_one);
    ADD("one that is added during a walk waits for the next", test_addition);
    g_test_add_func("/util/notify/suspended walks survive removals and end in any order",
                    test_suspended_walks);
    g_test_add_func("/util/notify/a list without results works the same", test_plain_list);
    return g_test_run();
}
