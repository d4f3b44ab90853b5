/* SPDX-License-Identifier: GPL-2.0-or-later */
/* json-lexer.h - what the files of the JSON parser tell each other */
#ifndef QAPI_JSON_LEXER_H
#define QAPI_JSON_LEXER_H

#include "qapi/json-parser.h"

typedef enum JSONTokenType {
    JSON_TOKEN_NONE, /* no token ends here */
    JSON_TOKEN_LBRACE,
    JSON_TOKEN_RBRACE,
    JSON_TOKEN_LBRACKET,
    JSON_TOKEN_RBRACKET,
    JSON_TOKEN_COLON,
    JSON_TOKEN_COMMA,
    JSON_TOKEN_KEYWORD, /* letters a to z */
    JSON_TOKEN_STRING,  /* with its quotes and escapes */
    JSON_TOKEN_INTEGER,
    JSON_TOKEN_FLOAT,
    JSON_TOKEN_ERROR, /* bytes that can be no token, the last one included */
    JSON_TOKEN_END,   /* of input */
} JSONTokenType;

/**
 * json_lexer_byte() - advance by one byte
 * @byte:         the byte; or JSON_LEXER_END at the end of input
 * @ret_consumed: false: the byte belongs to the next token and must be given again
 *
 * Return: the token that has ended, its text in parser->token until the next call; or
 * JSON_TOKEN_NONE.
 */
JSONTokenType json_lexer_byte(JSONMessageParser *parser, int byte, bool *ret_consumed);

#define JSON_LEXER_END (-1)

/* Skip input up to the next newline, or 0xFF. */
void json_lexer_skip_line(JSONMessageParser *parser);

/**
 * json_string_decode() - the string that a STRING token means
 * @token: with its quotes
 *
 * Return: UTF-8 without null characters, to be g_freed; NULL and *errp set.
 */
char *json_string_decode(const char *token, size_t n, Error **errp);

#endif
