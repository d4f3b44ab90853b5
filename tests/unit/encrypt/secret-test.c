/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Secrets: every way to write one, what is refused, and that refusals have nothing of it. */
#include <errno.h>
#include <string.h>

#include "block/encrypt/secret-object.h"
#include "object/secret.h"
#include "qapi/json-parser.h"
#include "qapi/type.h"
#include "tests/lib/block-test.h"
#include "util/osdep.h"

static int coroutine_fn co_add(const char *id, const char *json, Error **errp)
{
    json_t *tree = json_parse_string(json, &error_abort);
    SecretProperties *props = qapi_SecretProperties_from_json(tree, &error_abort);
    int ret = secret_object_co_add(id, props, errp);

    qapi_free_SecretProperties(props);
    json_decref(tree);
    return ret;
}

static void coroutine_fn co_expect(const char *json, const char *data, size_t bytes)
{
    Secret *secret;

    g_assert_cmpint(co_add("s", json, &error_abort), ==, 0);
    secret = secret_ref_by_id("s", &error_abort);
    g_assert_cmpmem(secret->data, secret->bytes, data, bytes);
    g_assert_cmpint(object_unref_by_id("s", &error_abort), ==, 0);
    g_assert_cmpmem(secret->data, secret->bytes, data, bytes); /* ours still */
    secret_unref(secret);
}

static void coroutine_fn co_refused(const char *json, const char *words)
{
    Error *err = NULL;

    g_assert_cmpint(co_add("s", json, &err), <, 0);
    g_assert_nonnull(strstr(error_get_pretty(err), words));
    g_assert_null(strstr(error_get_pretty(err), "hunter"));
    g_assert_null(object_lookup("s"));
    error_free(err);
}

static void coroutine_fn test_ways(void)
{
    g_autofree char *path = block_test_path("passphrase"), *json = NULL;

    co_expect("{'data':'hunter2'}", "hunter2", 7);
    co_expect("{'data':''}", "", 0);
    co_expect("{'data':'aHVudGVyAAI=','format':'base64'}", "hunter\0\2", 8);
    co_expect("{'data':'aHVu dGVy\\nAAI=\\n','format':'base64'}", "hunter\0\2", 8);
    g_assert_true(g_file_set_contents(path, "aHVudGVyMg==\n", -1, NULL));
    json = g_strdup_printf("{'file':'%s'}", path);
    co_expect(json, "aHVudGVyMg==\n", 13);
    g_free(json);
    json = g_strdup_printf("{'file':'%s','format':'base64'}", path);
    co_expect(json, "hunter2", 7);
}

/* "this is the secret" by AES-256-CBC, with the key 00 01 ... 1f and the vector 10 11 ... 1f. */
static void coroutine_fn test_encrypted(void)
{
    static const char text[] = "iEOB6bMsvHAixz/qE6NSANoFjtgC5RyTZFCSmdREE3M=";
    static const char iv[] = "EBESExQVFhcYGRobHB0eHw==";
    g_autofree char *good = NULL, *no_iv = NULL, *short_iv = NULL, *no_key = NULL;

    g_assert_cmpint(
        co_add("master",
               "{'data':'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=','format':'base64'}",
               &error_abort),
        ==, 0);
    g_assert_cmpint(co_add("short", "{'data':'hunter2'}", &error_abort), ==, 0);
    good = g_strdup_printf("{'data':'%s','format':'base64','keyid':'master','iv':'%s'}", text, iv);
    co_expect(good, "this is the secret", 18);
    no_iv = g_strdup_printf("{'data':'%s','format':'base64','keyid':'master'}", text);
    co_refused(no_iv, "IV is required to decrypt secret");
    short_iv =
        g_strdup_printf("{'data':'%s','format':'base64','keyid':'master','iv':'EBES'}", text);
    co_refused(short_iv, "IV should be 16 bytes in length not 3");
    no_key = g_strdup_printf("{'data':'%s','format':'base64','keyid':'short','iv':'%s'}", text, iv);
    co_refused(no_key, "Key should be 32 bytes in length");
    co_refused("{'data':'hunter2','keyid':'master','iv':'EBESExQVFhcYGRobHB0eHw=='}",
               "Length 7 must be a multiple of block size 16");
    co_refused("{'data':'hunter2','keyid':'nobody','iv':'EBES'}", "No secret with id 'nobody'");
    g_assert_cmpint(object_unref_by_id("master", &error_abort), ==, 0);
    g_assert_cmpint(object_unref_by_id("short", &error_abort), ==, 0);
}

static void coroutine_fn test_refusals(void)
{
    co_refused("{}", "Either 'file' or 'data' must be provided");
    co_refused("{'data':'hunter2','file':'x'}", "'file' and 'data' are mutually exclusive");
    co_refused("{'file':'/nonexistent/x'}", "Unable to read /nonexistent/x: No such file");
    co_refused("{'file':'/dev/zero'}", "Unable to read /dev/zero: File too large");
    co_refused("{'data':'hunter!','format':'base64'}", "The secret is not valid base64");
    co_refused("{'data':'hun=ter','format':'base64'}", "The secret is not valid base64");
}

static void coroutine_fn test_ids(void)
{
    Error *err = NULL;

    g_assert_null(secret_ref_by_id("s", &err));
    g_assert_cmpstr(error_get_pretty(err), ==, "No secret with id 's'");
    error_free(err);
    err = NULL;
    g_assert_cmpint(co_add("s", "{'data':'x'}", &error_abort), ==, 0);
    g_assert_cmpint(co_add("s", "{'data':'hunter2'}", &err), <, 0);
    g_assert_nonnull(strstr(error_get_pretty(err), "duplicate"));
    error_free(err);
    object_cleanup();
}

static void add_tests(void)
{
    block_test_add("/secret/every way to write one gives the same bytes", test_ways);
    block_test_add("/secret/one can be encrypted with another", test_encrypted);
    block_test_add("/secret/what is refused is not repeated", test_refusals);
    block_test_add("/secret/ids are taken and given back", test_ids);
}

int main(int argc, char **argv)
{
    return block_test_main(argc, argv, add_tests);
}
