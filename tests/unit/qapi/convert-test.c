/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Values of schema types from JSON, from key=value input, and back; and events */
#include "qapi/event.h"
#include "qapi/json-parser.h"
#include "qapi/keyval.h"
#include "qapi/qapi-emit-events.h"
#include "qapi/qapi-events-block-core.h"
#include "qapi/qapi-introspect.h"
#include "qapi/qapi-types-block-core.h"
#include "qapi/qapi-types-block-export.h"
#include "qapi/qapi-types-introspect.h"
#include "qapi/qapi-types-qom.h"
#include "qapi/qapi-types-transaction.h"

#include <stdlib.h>
#include <string.h>

/* @text as a @type and back, copied on the way; or the error. */
static void expect_of(const QapiType *type, bool keyval, const char *text, const char *expected)
{
    Error *err = NULL;
    json_t *in = keyval ? keyval_parse(text, "driver", NULL, &error_abort)
                        : json_parse_string(text, &error_abort);
    void *value = keyval ? qapi_from_keyval(type, in, &err) : qapi_from_json(type, in, &err);

    json_decref(in);
    if (!value) {
        g_assert_cmpstr(error_get_pretty(err), ==, expected);
        error_free(err);
        return;
    }
    void *copy = qapi_clone(type, value);

    qapi_free(type, value);
    json_t *out = qapi_to_json(type, copy);
    char *got = json_dumps(out, JSON_COMPACT | JSON_ENCODE_ANY);

    g_assert_null(err);
    g_assert_cmpstr(got, ==, expected);
    qapi_free(type, copy);
    json_decref(out);
    free(got);
}

static void expect_node(const char *text, const char *expected)
{
    expect_of(&qapi_type_BlockdevOptions, false, text, expected);
}

static void same_node(const char *text)
{
    expect_node(text, text);
}

static void round_trips(void)
{
    same_node("{\"driver\":\"file\",\"node-name\":\"a\",\"cache\":{\"direct\":true},"
              "\"filename\":\"x\",\"locking\":\"off\",\"aio\":\"io_uring\"}");
    same_node("{\"driver\":\"raw\",\"file\":\"a\",\"offset\":512}");
    same_node("{\"driver\":\"raw\",\"file\":{\"driver\":\"null-co\",\"size\":0}}");
    same_node("{\"driver\":\"blkdebug\",\"image\":\"a\",\"inject-error\":[{\"event\":\"pwritev\","
              "\"errno\":5,\"once\":true},{\"event\":\"none\"}],"
              "\"set-state\":[{\"event\":\"none\",\"new_state\":2}]}");
    expect_of(&qapi_type_TransactionAction, false,
              "{\"type\":\"blockdev-backup\",\"data\":{\"device\":\"a\",\"target\":\"b\","
              "\"sync\":\"full\",\"x-perf\":{\"max-workers\":3}}}",
              "{\"type\":\"blockdev-backup\",\"data\":{\"device\":\"a\",\"sync\":\"full\","
              "\"x-perf\":{\"max-workers\":3},\"target\":\"b\"}}");
    expect_of(&qapi_type_TransactionAction, false, "{\"type\":\"abort\",\"data\":{}}",
              "{\"type\":\"abort\",\"data\":{}}");
    expect_of(&qapi_type_BlockDirtyBitmapOrStrList, false,
              "[\"a\",{\"node\":\"n\",\"name\":\"b\"}]", "[\"a\",{\"node\":\"n\",\"name\":\"b\"}]");
    expect_of(&qapi_type_BlockdevRefOrNull, false, "null", "null");
    expect_of(&qapi_type_StrOrNull, false, "null", "null");
    expect_of(&qapi_type_StrOrNull, false, "'x'", "\"x\"");
}

static void members_that_are_wrong(void)
{
    expect_node("{}", "Parameter 'driver' is missing");
    expect_node("{'driver':'nope'}", "Parameter 'driver' does not accept value 'nope'");
    expect_node("{'driver':'file','node-name':'a'}", "Parameter 'filename' is missing");
    expect_node("{'driver':'file','node-name':1,'filename':'x'}",
                "Invalid parameter type for 'node-name', expected: string");
    expect_node("{'driver':'file','filename':'x','foo':1}", "Parameter 'foo' is unexpected");
    expect_node("{'driver':'file','filename':'x','cache':{'direct':1}}",
                "Invalid parameter type for 'cache.direct', expected: boolean");
    expect_node("{'driver':'file','filename':'x','cache':{'u':1}}",
                "Parameter 'cache.u' is unexpected");
    expect_node("{'driver':'file','filename':'x','cache':1}",
                "Invalid parameter type for 'cache', expected: object");
    expect_node("{'driver':'file','filename':'x','aio-max-batch':'1'}",
                "Invalid parameter type for 'aio-max-batch', expected: integer");
    expect_node("{'driver':'raw','file':1}",
                "Invalid parameter type for 'file', expected: BlockdevRef");
    expect_node("{'driver':'raw','file':{'driver':'file','filename':'x','cache':{'direct':1}}}",
                "Invalid parameter type for 'file.cache.direct', expected: boolean");
    expect_node("{'driver':'blkdebug','image':'b','inject-error':[{'event':1}]}",
                "Invalid parameter type for 'inject-error[0].event', expected: string");
    expect_node("{'driver':'blkdebug','image':'b','inject-error':[{'event':'none'},1]}",
                "Invalid parameter type for 'inject-error[1]', expected: object");
    expect_node("{'driver':'blkdebug','image':'b','inject-error':1}",
                "Invalid parameter type for 'inject-error', expected: array");
    expect_node("{'driver':'null-co','size':1.5}",
                "Invalid parameter type for 'size', expected: integer");
    expect_node("{'driver':'null-co','read-zeroes':null}",
                "Invalid parameter type for 'read-zeroes', expected: boolean");
    expect_node("[]", "Invalid parameter type for 'input', expected: object");
}

static void numbers_out_of_range(void)
{
    expect_node("{'driver':'null-co','latency-ns':-1}", "Parameter 'latency-ns' expects uint64");
    expect_node("{'driver':'blkdebug','image':'b','max-transfer':2147483648}",
                "Parameter 'max-transfer' expects int32_t");
    expect_node("{'driver':'example','byte':256}", "Parameter 'byte' expects uint8_t");
    expect_of(&qapi_type_BlockDirtyBitmapAdd, false, "{'node':'a','name':'n','granularity':-1}",
              "Parameter 'granularity' expects uint32_t");
    expect_of(&qapi_type_BlockDirtyBitmapAdd, false,
              "{'node':'a','name':'n','granularity':4294967295}",
              "{\"node\":\"a\",\"name\":\"n\",\"granularity\":4294967295}");
    expect_of(&qapi_type_SocketAddress, false, "{'type':'inet','host':'a','port':'1','to':65536}",
              "Parameter 'to' expects uint16_t");
}

static void expect_keyval(const char *text, const char *expected)
{
    expect_of(&qapi_type_BlockdevOptions, true, text, expected);
}

static void key_value_input(void)
{
    expect_keyval("file,filename=x,cache.direct=on,read-only=yes,aio-max-batch=0x10",
                  "{\"driver\":\"file\",\"cache\":{\"direct\":true},\"read-only\":true,"
                  "\"filename\":\"x\",\"aio-max-batch\":16}");
    expect_keyval("example,size=64k,byte=0xff",
                  "{\"driver\":\"example\",\"size\":65536,\"byte\":255}");
    expect_keyval("raw,file=a", "{\"driver\":\"raw\",\"file\":\"a\"}");
    expect_keyval("raw,file.driver=null-co",
                  "{\"driver\":\"raw\",\"file\":{\"driver\":\"null-co\"}}");
    expect_keyval("blkdebug,image=a,inject-error.0.event=none,inject-error.0.once=off",
                  "{\"driver\":\"blkdebug\",\"image\":\"a\","
                  "\"inject-error\":[{\"event\":\"none\",\"once\":false}]}");
}

static void key_value_mistakes(void)
{
    expect_keyval("null-co,size=1k", "Parameter 'size' expects integer");
    expect_keyval("null-co,size=", "Parameter 'size' expects integer");
    expect_keyval("example,size=1x", "Parameter 'size' expects a non-negative number below 2^64");
    expect_keyval("example,size=-1", "Parameter 'size' expects a non-negative number below 2^64");
    expect_keyval("null-co,read-zeroes=maybe", "Parameter 'read-zeroes' expects 'on' or 'off'");
    expect_keyval("null-co,cache.direct=maybe", "Parameter 'cache.direct' expects 'on' or 'off'");
    expect_keyval("null-co,cache=1", "Invalid parameter type for 'cache', expected: object");
    expect_keyval("null-co,discard.x=1", "Parameters 'discard.*' are unexpected");
    expect_keyval("null-co,foo=1", "Parameter 'foo' is unexpected");
    expect_keyval("blkdebug,image=a,inject-error.0.event=none,inject-error.0.x=1",
                  "Parameter 'inject-error.0.x' is unexpected");
    expect_keyval("blkdebug,image=a,inject-error.0.event=none,inject-error.0.errno=1k",
                  "Parameter 'inject-error.0.errno' expects integer");
    expect_keyval("blkdebug,image=a,inject-error=1",
                  "Invalid parameter type for 'inject-error', expected: array");
    expect_keyval("raw,file.driver=null-co,file.x=1", "Parameter 'file.x' is unexpected");
    expect_keyval("null-co,latency-ns=-1", "Parameter 'latency-ns' expects uint64");
}

static void nested_too_deeply(void)
{
    GString *text = g_string_new("{'driver':'null-co'}");

    for (int i = 0; i < QAPI_NESTING_MAX + 1; i++) {
        g_string_prepend(text, "{'driver':'raw','file':");
        g_string_append_c(text, '}');
    }
    expect_node(text->str, "Parameters are nested too deeply, the limit is 128");
    g_string_free(text, TRUE);
}

static void lists_are_made_by_hand(void)
{
    g_autoptr(strList) list = NULL;
    strList **tail = &list;

    QAPI_LIST_APPEND(tail, g_strdup("b"));
    QAPI_LIST_APPEND(tail, g_strdup("c"));
    QAPI_LIST_PREPEND(list, g_strdup("a"));
    g_assert_cmpuint(QAPI_LIST_LENGTH(list), ==, 3);
    json_t *json = qapi_strList_to_json(list);
    char *text = json_dumps(json, JSON_COMPACT);

    g_assert_cmpstr(text, ==, "[\"a\",\"b\",\"c\"]");
    free(text);
    json_decref(json);
}

static void enums_have_words(void)
{
    Error *err = NULL;

    g_assert_cmpstr(MirrorSyncMode_str(MIRROR_SYNC_MODE_INCREMENTAL), ==, "incremental");
    g_assert_cmpint(qapi_enum_parse(&MirrorSyncMode_lookup, "top", -1, &error_abort), ==,
                    MIRROR_SYNC_MODE_TOP);
    g_assert_cmpint(qapi_enum_parse(&MirrorSyncMode_lookup, "x", -1, &err), ==, -1);
    g_assert_cmpstr(error_get_pretty(err), ==, "invalid parameter value: x");
    error_free(err);
    g_assert_cmpint(qapi_enum_parse(&MirrorSyncMode_lookup, NULL, 3, &error_abort), ==, 3);
}

static unsigned last_event;
static json_t *last_message;

static void take_event(unsigned event, json_t *message)
{
    last_event = event;
    last_message = json_incref(message);
}

static void events_are_whole_messages(void)
{
    char *data;

    qapi_event_send_block_job_pending(JOB_TYPE_BACKUP, "nobody listens");
    qapi_event_set_emit(take_event);
    qapi_event_send_block_job_completed(JOB_TYPE_BACKUP, "j", 3, 2, 1, NULL);
    qapi_event_set_emit(NULL);

    g_assert_cmpuint(last_event, ==, QAPI_EVENT_BLOCK_JOB_COMPLETED);
    g_assert_cmpstr(json_string_value(json_object_get(last_message, "event")), ==,
                    QAPIEvent_str(last_event));
    data = json_dumps(json_object_get(last_message, "data"), JSON_COMPACT);
    g_assert_cmpstr(data, ==,
                    "{\"type\":\"backup\",\"device\":\"j\",\"len\":3,\"offset\":2,\"speed\":1}");
    g_assert_true(json_is_integer(
        json_object_get(json_object_get(last_message, "timestamp"), "microseconds")));
    free(data);
    json_decref(last_message);
}

/* Every name that the schema's description refers to is described, and each description is valid. */
static void the_schema_describes_itself(void)
{
    GHashTable *names = g_hash_table_new(g_str_hash, g_str_equal);
    json_t *all = json_array();
    size_t i;
    json_t *item;

    for (i = 0; i < qapi_introspect_count; i++) {
        json_array_append_new(all, json_parse_string(qapi_introspect_items[i], &error_abort));
    }
    json_array_foreach(all, i, item)
    {
        g_hash_table_add(names, (char *)json_string_value(json_object_get(item, "name")));
    }
    json_array_foreach(all, i, item)
    {
        g_autoptr(SchemaInfo) info = qapi_SchemaInfo_from_json(item, &error_abort);

        if (info->meta_type == SCHEMA_META_TYPE_COMMAND) {
            g_assert_true(g_hash_table_contains(names, info->u.command.arg_type));
            g_assert_true(g_hash_table_contains(names, info->u.command.ret_type));
        } else if (info->meta_type == SCHEMA_META_TYPE_OBJECT) {
            for (SchemaInfoObjectMemberList *m = info->u.object.members; m; m = m->next) {
                g_assert_true(g_hash_table_contains(names, m->value->type));
            }
        }
    }
    g_hash_table_destroy(names);
    json_decref(all);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/convert/values come back as they went", round_trips);
    g_test_add_func("/convert/a wrong member is named by its path", members_that_are_wrong);
    g_test_add_func("/convert/numbers out of range are refused", numbers_out_of_range);
    g_test_add_func("/convert/key=value input becomes typed values", key_value_input);
    g_test_add_func("/convert/mistakes in key=value input are named", key_value_mistakes);
    g_test_add_func("/convert/input nested too deeply is refused", nested_too_deeply);
    g_test_add_func("/convert/lists are made by hand", lists_are_made_by_hand);
    g_test_add_func("/convert/enums have words", enums_have_words);
    g_test_add_func("/convert/events are whole messages", events_are_whole_messages);
    g_test_add_func("/convert/the schema describes itself", the_schema_describes_itself);
    return g_test_run();
}
