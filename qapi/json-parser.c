/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON parser: tokens to values
 *
 * The value is built while its tokens come in; there is no recursion, and no list of tokens.
 *
 *      frames   [ OBJECT, wants ',' or '}', key "arguments" ]      the outermost container
 *               [ ARRAY,  wants a value             ]              the innermost: the next token is its
 *
 * P1  A message ends when as many brackets of each kind have closed as have opened, or more: right or
 *     wrong, the next token begins another message.
 * P2  After the first error in a message nothing more is built, brackets are only counted (P1), and
 *     at the end that error is emitted instead of a value.
 * P3  Bytes that are no token end the message at once, with an error of their own.
 * P4  Whatever a limit has refused is freed at once, and the line skipped: the memory of a parser is
 *     bounded by the limits of one message.
 */
#include "json-lexer.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the input that an error message repeats. */
#define STRAY_BYTES_MAX 64

/* What the innermost container wants next. */
typedef enum FrameState {
    WANT_FIRST,     /* a value or ']'; a key or '}' */
    WANT_NEXT,      /* a value; a key */
    WANT_COLON,     /* ':' */
    WANT_VALUE,     /* the value of a key */
    WANT_SEPARATOR, /* ',' or the closing bracket */
} FrameState;

struct JSONFrame {
    json_t *container; /* owned until it is closed */
    char *key;         /* of the value to come; owned */
    FrameState state;
};

static JSONFrame *innermost(JSONMessageParser *p)
{
    return p->frames->len ? &g_array_index(p->frames, JSONFrame, p->frames->len - 1) : NULL;
}

static void fail(JSONMessageParser *p, const char *what)
{
    if (!p->err) { /* P2 */
        error_setg(&p->err, "JSON parse error, %s", what);
    }
}

static void forget_message(JSONMessageParser *p)
{
    for (JSONFrame *frame; (frame = innermost(p));
         g_array_set_size(p->frames, p->frames->len - 1)) {
        json_decref(frame->container);
        g_free(frame->key);
    }
    json_decref(p->value);
    p->value = NULL;
    error_free(p->err);
    p->err = NULL;
    p->braces = p->brackets = 0;
    p->bytes = p->tokens = 0;
}

/* The parser is ready for the next message before emit is called, because that may take long. */
static void emit_message(JSONMessageParser *p)
{
    json_t *value = p->value;
    Error *err = p->err;

    p->err = NULL;
    p->value = NULL;
    forget_message(p);
    if (err) {
        json_decref(value);
        value = NULL;
    }
    p->emit(p->opaque, value, err);
}

static void emit_error(JSONMessageParser *p, Error *err)
{
    forget_message(p);
    p->emit(p->opaque, NULL, err);
}

/* A value is there: give it to the innermost container.  Takes @value. */
static void put_value(JSONMessageParser *p, json_t *value)
{
    JSONFrame *frame = innermost(p);

    if (!frame) {
        p->value = value;
        return;
    }
    if (json_is_array(frame->container)) {
        json_array_append_new(frame->container, value);
    } else if (json_object_get(frame->container, frame->key)) {
        json_decref(value);
        fail(p, "duplicate key");
    } else {
        json_object_set_new(frame->container, frame->key, value);
    }
    g_clear_pointer(&frame->key, g_free);
    frame->state = WANT_SEPARATOR;
}

static json_t *number_value(JSONMessageParser *p, JSONTokenType type)
{
    double real;

    if (type == JSON_TOKEN_INTEGER) {
        long long value;

        errno = 0;
        value = strtoll(p->token->str, NULL, 10);
        if (!errno) {
            return json_integer(value);
        }
    }
    real = g_ascii_strtod(p->token->str, NULL);
    if (!isfinite(real)) {
        fail(p, "number is out of range");
        return NULL;
    }
    return json_real(real);
}

static json_t *keyword_value(JSONMessageParser *p)
{
    const char *word = p->token->str;

    if (!strcmp(word, "true") || !strcmp(word, "false")) {
        return json_boolean(word[0] == 't');
    }
    if (!strcmp(word, "null")) {
        return json_null();
    }
    if (!p->err) {
        error_setg(&p->err, "JSON parse error, invalid keyword '%.*s'", STRAY_BYTES_MAX, word);
    }
    return NULL;
}

static json_t *string_value(JSONMessageParser *p)
{
    g_autofree char *s = json_string_decode(p->token->str, p->token->len, &p->err);

    return s ? json_string_nocheck(s) : NULL; /* has been checked */
}

static void take_value(JSONMessageParser *p, JSONTokenType type)
{
    JSONFrame *frame;
    json_t *value = NULL;

    switch (type) {
    case JSON_TOKEN_LBRACE:
    case JSON_TOKEN_LBRACKET:
        g_array_set_size(p->frames, p->frames->len + 1);
        frame = innermost(p);
        frame->container = type == JSON_TOKEN_LBRACE ? json_object() : json_array();
        frame->key = NULL;
        frame->state = WANT_FIRST;
        return;
    case JSON_TOKEN_STRING:
        value = string_value(p);
        break;
    case JSON_TOKEN_INTEGER:
    case JSON_TOKEN_FLOAT:
        value = number_value(p, type);
        break;
    case JSON_TOKEN_KEYWORD:
        value = keyword_value(p);
        break;
    default:
        fail(p, "expecting value");
        return;
    }
    if (value) {
        put_value(p, value);
    }
}

static void take_key(JSONMessageParser *p, JSONFrame *frame, JSONTokenType type)
{
    switch (type) {
    case JSON_TOKEN_STRING:
        frame->key = json_string_decode(p->token->str, p->token->len, &p->err);
        frame->state = WANT_COLON;
        break;
    case JSON_TOKEN_LBRACE:
    case JSON_TOKEN_LBRACKET:
    case JSON_TOKEN_INTEGER:
    case JSON_TOKEN_FLOAT:
        fail(p, "key is not a string in object");
        break;
    case JSON_TOKEN_KEYWORD:
        json_decref(keyword_value(p)); /* says so if it is none */
        fail(p, "key is not a string in object");
        break;
    default:
        fail(p, "expecting value");
        break;
    }
}

static void close_container(JSONMessageParser *p, JSONFrame *frame)
{
    json_t *value = frame->container;

    g_array_set_size(p->frames, p->frames->len - 1);
    put_value(p, value);
}

static void take_token(JSONMessageParser *p, JSONTokenType type)
{
    JSONFrame *frame = innermost(p);
    bool in_array = frame && json_is_array(frame->container);
    JSONTokenType closing = in_array ? JSON_TOKEN_RBRACKET : JSON_TOKEN_RBRACE;

    if (!frame) {
        take_value(p, type);
        return;
    }
    switch (frame->state) {
    case WANT_FIRST:
    case WANT_NEXT:
        if (type == closing && frame->state == WANT_FIRST) {
            close_container(p, frame);
        } else if (in_array) {
            take_value(p, type);
        } else {
            take_key(p, frame, type);
        }
        break;
    case WANT_COLON:
        if (type == JSON_TOKEN_COLON) {
            frame->state = WANT_VALUE;
        } else {
            fail(p, "missing : in object pair");
        }
        break;
    case WANT_VALUE:
        take_value(p, type);
        break;
    case WANT_SEPARATOR:
        if (type == closing) {
            close_container(p, frame);
        } else if (type == JSON_TOKEN_COMMA) {
            frame->state = WANT_NEXT;
        } else {
            fail(p, in_array ? "expected separator in list" : "expected separator in dict");
        }
        break;
    }
}

static void count_brackets(JSONMessageParser *p, JSONTokenType type)
{
    p->braces += (type == JSON_TOKEN_LBRACE) - (type == JSON_TOKEN_RBRACE);
    p->brackets += (type == JSON_TOKEN_LBRACKET) - (type == JSON_TOKEN_RBRACKET);
}

/* P4.  The words of a limit that the message has gone beyond, or NULL. */
static const char *limit_exceeded(const JSONMessageParser *p)
{
    if (p->bytes > JSON_MESSAGE_BYTES_MAX) {
        return "JSON token size limit exceeded";
    }
    if (p->tokens > JSON_MESSAGE_TOKENS_MAX) {
        return "JSON token count limit exceeded";
    }
    if (p->braces + p->brackets > JSON_NESTING_MAX) {
        return "JSON nesting depth limit exceeded";
    }
    return NULL;
}

static void refuse_line(JSONMessageParser *p, const char *why)
{
    Error *err = NULL;

    g_string_free(p->token, TRUE);
    p->token = g_string_new(NULL);
    json_lexer_skip_line(p);
    error_setg(&err, "%s", why);
    emit_error(p, err);
}

/* P3 */
static void stray_bytes(JSONMessageParser *p)
{
    g_autofree char *shown = g_utf8_make_valid(p->token->str, MIN(p->token->len, STRAY_BYTES_MAX));
    Error *err = NULL;

    error_setg(&err, "JSON parse error, stray '%s'", shown);
    g_string_truncate(p->token, 0);
    emit_error(p, err);
}

static void process_token(JSONMessageParser *p, JSONTokenType type)
{
    const char *why;

    if (type == JSON_TOKEN_ERROR) {
        stray_bytes(p);
        return;
    }
    p->tokens++;
    count_brackets(p, type);
    why = limit_exceeded(p);
    if (why) {
        refuse_line(p, why);
        return;
    }
    if (!p->err) { /* P2 */
        take_token(p, type);
    }
    if (p->braces < 0 || p->brackets < 0 || (p->braces == 0 && p->brackets == 0)) { /* P1 */
        emit_message(p);
    }
}

void json_message_parser_init(JSONMessageParser *parser, JSONEmitFunc *emit, void *opaque)
{
    *parser = (JSONMessageParser){
        .emit = emit,
        .opaque = opaque,
        .token = g_string_new(NULL),
        .frames = g_array_new(FALSE, FALSE, sizeof(JSONFrame)),
    };
}

void json_message_parser_feed(JSONMessageParser *parser, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n;) {
        bool consumed;
        JSONTokenType type = json_lexer_byte(parser, (unsigned char)bytes[i], &consumed);

        if (consumed) {
            i++;
            parser->bytes += parser->tokens || parser->token->len;
        }
        if (type != JSON_TOKEN_NONE) {
            process_token(parser, type);
        } else if (parser->bytes > JSON_MESSAGE_BYTES_MAX) {
            refuse_line(parser, limit_exceeded(parser));
        }
    }
}

void json_message_parser_flush(JSONMessageParser *parser)
{
    bool ended = false;

    while (!ended) {
        JSONTokenType type = json_lexer_byte(parser, JSON_LEXER_END, &ended);

        if (type != JSON_TOKEN_END && type != JSON_TOKEN_ERROR) {
            process_token(parser, type);
        } else if (type == JSON_TOKEN_ERROR || parser->tokens) {
            fail(parser, "premature EOI");
            emit_message(parser);
        }
    }
}

void json_message_parser_destroy(JSONMessageParser *parser)
{
    forget_message(parser);
    g_array_free(parser->frames, TRUE);
    g_string_free(parser->token, TRUE);
}

/* json_parse_string(): the first value, or the first error. */
typedef struct OneValue {
    json_t *value;
    Error *err;
    size_t count;
} OneValue;

static void take_one(void *opaque, json_t *message, Error *err)
{
    OneValue *one = opaque;

    one->count++;
    if (one->err || one->value) {
        json_decref(message);
        error_free(err);
        return;
    }
    one->value = message;
    one->err = err;
}

json_t *json_parse_string(const char *text, Error **errp)
{
    OneValue one = {0};
    JSONMessageParser parser;

    json_message_parser_init(&parser, take_one, &one);
    json_message_parser_feed(&parser, text, strlen(text));
    json_message_parser_flush(&parser);
    json_message_parser_destroy(&parser);
    if (!one.err && one.count != 1) {
        error_setg(&one.err,
                   one.count ? "Expecting at most one JSON value" : "Expecting a JSON value");
    }
    if (one.err) {
        json_decref(one.value);
        error_propagate(errp, one.err);
        return NULL;
    }
    return one.value;
}
