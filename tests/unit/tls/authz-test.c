/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lists of who may come: the first rule that matches decides, and nobody is let in by a list that is not there. */
#include "object/object.h"
#include "tls/authz.h"
#include "tls/creds.h"

static QAuthZListRule rule(const char *match, QAuthZListPolicy policy, QAuthZListFormat format)
{
    return (QAuthZListRule){
        .match = (char *)match, .policy = policy, .has_format = true, .format = format};
}

static bool allowed(const char *id, const char *identity)
{
    return authz_is_allowed(id, identity, &error_abort);
}

static void test_simple(void)
{
    const AuthZSimpleProperties props = {.identity = (char *)"CN=a*"};

    authz_simple_add("s", &props, &error_abort);
    g_assert_true(allowed("s", "CN=a*"));
    g_assert_false(allowed("s", "CN=ab"));
    g_assert_false(allowed("s", ""));
    object_cleanup();
}

static void test_list(void)
{
    QAuthZListRule rules[] = {
        rule("CN=bad,O=x", QAUTHZ_LIST_POLICY_DENY, QAUTHZ_LIST_FORMAT_EXACT),
        rule("*,O=x", QAUTHZ_LIST_POLICY_ALLOW, QAUTHZ_LIST_FORMAT_GLOB),
        rule("CN=?", QAUTHZ_LIST_POLICY_ALLOW, QAUTHZ_LIST_FORMAT_GLOB),
    };
    QAuthZListRuleList links[] = {{.value = &rules[0], .next = &links[1]},
                                  {.value = &rules[1], .next = &links[2]},
                                  {.value = &rules[2]}};
    AuthZListProperties props = {.rules = links};

    authz_list_add("deny", &props, &error_abort);
    props.has_policy = true;
    props.policy = QAUTHZ_LIST_POLICY_ALLOW;
    authz_list_add("allow", &props, &error_abort);
    g_assert_false(allowed("deny", "CN=bad,O=x"));
    g_assert_true(allowed("deny", "CN=good,O=x"));
    g_assert_true(allowed("deny", "CN=1"));
    g_assert_false(allowed("deny", "CN=12"));
    g_assert_false(allowed("allow", "CN=bad,O=x"));
    g_assert_true(allowed("allow", "CN=12"));
    object_cleanup();
}

static void test_absent(void)
{
    Error *err = NULL;

    g_assert_false(authz_is_allowed("nosuch", "CN=a", &err));
    g_assert_nonnull(err);
    error_free(err);
}

static void test_creds_by_id(void)
{
    const AuthZSimpleProperties props = {.identity = (char *)"x"};
    Error *err = NULL;

    authz_simple_add("s", &props, &error_abort);
    g_assert_null(tls_creds_ref_by_id("s", true, &err));
    g_assert_cmpstr(error_get_pretty(err), ==, "Object with id 's' is not TLS credentials");
    error_free(err);
    object_cleanup();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tls/one name lets in one name", test_simple);
    g_test_add_func("/tls/the first rule that matches decides", test_list);
    g_test_add_func("/tls/a list that is not there lets nobody in", test_absent);
    g_test_add_func("/tls/a list is no credentials", test_creds_by_id);
    return g_test_run();
}
