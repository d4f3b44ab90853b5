/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rules O1 to O3 of object/object.h. */
#include "object/object.h"

#include <errno.h>
#include <string.h>

static GString *finalised;
static bool busy;

static bool thing_can_be_deleted(const UserObject *object)
{
    return !busy;
}

static void thing_finalise(UserObject *object)
{
    g_string_append_printf(finalised, "%s ", object_id(object));
    g_free(object_instance(object));
}

static const UserObjectOps thing_ops = {
    .can_be_deleted = thing_can_be_deleted,
    .finalise = thing_finalise,
};

static UserObject *add(const char *id)
{
    return object_register_instance(id, "thing", g_strdup(id), &thing_ops, &error_abort);
}

static void set_up(void)
{
    finalised = g_string_new(NULL);
    busy = false;
}

static void tear_down(const char *expected)
{
    object_cleanup();
    g_assert_cmpstr(finalised->str, ==, expected);
    g_string_free(finalised, TRUE);
}

static void expect_error(Error **errp, const char *expected)
{
    g_assert_nonnull(*errp);
    g_assert_cmpstr(error_get_pretty(*errp), ==, expected);
    error_free_or_abort(errp);
}

static void test_names(void)
{
    Error *err = NULL;
    char instance;

    set_up();
    add("a");
    g_assert_null(object_register_instance("a", "other", &instance, &thing_ops, &err));
    expect_error(&err, "attempt to add duplicate property 'a' to object (type 'container')");
    g_assert_null(object_register_instance("1a", "thing", &instance, &thing_ops, &err));
    g_assert_cmpstr(
        error_get_hint(err), ==,
        "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.\n");
    expect_error(&err, "Parameter 'id' expects an identifier");
    g_assert_null(object_register_instance("a", "other", &instance, &thing_ops, NULL));

    g_assert_cmpstr(object_find("a", "thing"), ==, "a");
    g_assert_null(object_find("a", "other"));
    g_assert_null(object_find("b", "thing"));
    g_assert_cmpstr(object_type(object_lookup("a")), ==, "thing");
    tear_down("a ");
}

static void test_users(void)
{
    Error *err = NULL;
    UserObject *object;

    set_up();
    add("a");
    g_assert_null(object_ref_by_id("b", "thing", &err));
    expect_error(&err, "object 'b' not found");
    g_assert_null(object_ref_by_id("a", "other", &err));
    expect_error(&err, "object 'a' is of type 'thing', not 'other'");

    object = object_ref_by_id("a", "thing", &error_abort);
    g_assert_cmpuint(object_users(object), ==, 1);
    g_assert_cmpint(object_unref_by_id("a", &err), ==, -EBUSY);
    expect_error(&err, "object 'a' is in use, can not be deleted");
    object_unref(object);
    g_assert_cmpuint(object_users(object), ==, 0);

    busy = true;
    g_assert_cmpint(object_unref_by_id("a", &err), ==, -EBUSY);
    expect_error(&err, "object 'a' is in use, can not be deleted");
    busy = false;
    g_assert_cmpint(object_unref_by_id("a", &error_abort), ==, 0);
    g_assert_cmpstr(finalised->str, ==, "a ");
    g_assert_cmpint(object_unref_by_id("a", &err), ==, -ENOENT);
    expect_error(&err, "object 'a' not found");
    object_unref(NULL);
    tear_down("a ");
}

static void test_cleanup(void)
{
    UserObject *kept;

    set_up();
    add("a");
    kept = add("b");
    object_ref(kept);
    add("c");
    object_cleanup();
    g_assert_cmpstr(finalised->str, ==, "c a ");
    g_assert_null(object_lookup("b"));
    g_assert_cmpuint(object_users(kept), ==, 1);
    add("b"); /* the name is free */
    object_unref(kept);
    tear_down("c a b b ");
}

static int delete_or_stop(UserObject *object, void *opaque)
{
    GString *seen = opaque;

    g_string_append(seen, object_id(object));
    if (strcmp(object_id(object), "c") == 0) {
        return 7;
    }
    return object_unref_by_id(object_id(object), &error_abort);
}

static void test_iterate(void)
{
    GString *seen = g_string_new(NULL);

    set_up();
    add("a");
    add("b");
    add("c");
    add("d");
    g_assert_cmpint(object_iterate(delete_or_stop, seen), ==, 7);
    g_assert_cmpstr(seen->str, ==, "abc");
    g_string_free(seen, TRUE);
    tear_down("a b d c ");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/object/names are wellformed and taken once", test_names);
    g_test_add_func("/object/an object with users stays", test_users);
    g_test_add_func("/object/objects go in reverse order", test_cleanup);
    g_test_add_func("/object/iteration follows the making and may delete", test_iterate);
    return g_test_run();
}
