/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * json-parser.h - JSON as QMP clients send it: values one after the other, in pieces of any size
 *
 * Beyond JSON, strings may be in single quotes, and \' is an escape.  What is refused, in the words of
 * the errors, follows QEMU: "JSON parse error, ...".
 *
 * Numbers: an integer that fits int64_t is an integer; any other number is a double.  One that is
 * too large even for that is an error, as is a null character in a string.
 */
#ifndef QAPI_JSON_PARSER_H
#define QAPI_JSON_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>
#include <jansson.h>
#include "util/error.h"

/*
 * Limits of one message, which bound the memory that one client can make us take.  Real messages are
 * below 1 MiB: a transaction over a thousand disks is about 300 KiB and 30 thousand tokens.
 */
#define JSON_MESSAGE_BYTES_MAX  (16 * 1024 * 1024)
/* An empty object is 2 tokens and about 300 bytes of memory: at most some 40 MiB. */
#define JSON_MESSAGE_TOKENS_MAX (256 * 1024)
/* Values are freed by recursion. */
#define JSON_NESTING_MAX        1024

/**
 * JSONEmitFunc - take a message
 * @message: a JSON value, to be freed by json_decref(); or NULL and
 * @err:     what is wrong with the input, to be freed by error_free()
 *
 * Context: that of json_message_parser_feed().  May yield.  Must not feed the same parser.
 */
typedef void JSONEmitFunc(void *opaque, json_t *message, Error *err);

typedef struct JSONFrame JSONFrame;

/* The fields are json-parser.c's and json-lexer.c's. */
typedef struct JSONMessageParser {
    JSONEmitFunc *emit;
    void *opaque;

    /* Lexer. */
    int lexer_state;
    GString *token; /* of the token so far */

    /* The message so far. */
    GArray *frames;           /* of JSONFrame: the containers that are open, the innermost last */
    json_t *value;            /* the outermost value, once it is there */
    Error *err;               /* the first error; the rest of the message is then skipped */
    int64_t braces, brackets; /* open ones */
    size_t bytes, tokens;
} JSONMessageParser;

void json_message_parser_init(JSONMessageParser *parser, JSONEmitFunc *emit, void *opaque);

/**
 * json_message_parser_feed() - take the next bytes of input
 *
 * Calls emit for each value that ends in them and for each error.  A message with an error is skipped
 * to where its brackets close; after bytes that can be no JSON the input is skipped to the next
 * bracket, comma, colon or control character, such as the newline; after a message beyond a limit, to
 * the next newline.  The byte 0xFF is always an error that forgets the message so far: clients send
 * it to come back in step.
 *
 * Context: any; one parser in one place at a time.
 */
void json_message_parser_feed(JSONMessageParser *parser, const char *bytes, size_t n);

/* The input has ended: emits what is complete now (a number, say); an incomplete message is an error. */
void json_message_parser_flush(JSONMessageParser *parser);

void json_message_parser_destroy(JSONMessageParser *parser);

/**
 * json_parse_string() - the one value in @text
 *
 * Return: a new reference; NULL and *errp set when @text holds no value, more than one, or bad JSON.
 */
json_t *json_parse_string(const char *text, Error **errp);

#endif
