/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * json-lexer.c - bytes to tokens, one byte at a time
 *
 *   START ──quote──▶ STRING ◀──any── ESCAPE     ends with the same quote
 *     │                 └──backslash──▶┘
 *     ├── a-z ────▶ KEYWORD ↺
 *     ├── - ──▶ MINUS ── 0 ──▶ ZERO ──┐
 *     │             └── 1-9 ▶ DIGITS ↺┴─ . ─▶ POINT ─▶ FRACTION ↺ ─┬─ e ─▶ EXP ─▶ EXP_DIGITS ↺
 *     │                        └───────── e ─────────────────────────┘         └ +- ▶ EXP_SIGN ▶┘
 *     └── anything else, or a byte that fits no arrow ──▶ RECOVER ── a bracket, comma, colon or
 *                                                                    control character ──▶ START
 *
 * Tokens without an end of their own (keywords, numbers) end before the first byte that does not fit.
 * A byte 0xFE or 0xFF is in no UTF-8 text: it ends whatever there is.
 */
#include "json-lexer.h"

typedef enum LexerState {
    LEX_START,
    LEX_STRING_DOUBLE,
    LEX_STRING_SINGLE,
    LEX_ESCAPE_DOUBLE,
    LEX_ESCAPE_SINGLE,
    LEX_KEYWORD,
    LEX_MINUS,
    LEX_ZERO,
    LEX_DIGITS,
    LEX_POINT,
    LEX_FRACTION,
    LEX_EXP,
    LEX_EXP_SIGN,
    LEX_EXP_DIGITS,
    LEX_RECOVER,
    LEX_SKIP_LINE,
} LexerState;

static bool is_digit(int byte)
{
    return byte >= '0' && byte <= '9';
}

static JSONTokenType structural(int byte)
{
    switch (byte) {
    case '{':
        return JSON_TOKEN_LBRACE;
    case '}':
        return JSON_TOKEN_RBRACE;
    case '[':
        return JSON_TOKEN_LBRACKET;
    case ']':
        return JSON_TOKEN_RBRACKET;
    case ':':
        return JSON_TOKEN_COLON;
    case ',':
        return JSON_TOKEN_COMMA;
    default:
        return JSON_TOKEN_NONE;
    }
}

/* The byte goes into the token, which goes on. */
static JSONTokenType go_on(JSONMessageParser *parser, int byte, LexerState state)
{
    g_string_append_c(parser->token, (char)byte);
    parser->lexer_state = state;
    return JSON_TOKEN_NONE;
}

/* The byte goes into the token, which ends. */
static JSONTokenType end_with(JSONMessageParser *parser, int byte, JSONTokenType type)
{
    g_string_append_c(parser->token, (char)byte);
    parser->lexer_state = type == JSON_TOKEN_ERROR ? LEX_RECOVER : LEX_START;
    return type;
}

/* The token has ended before this byte. */
static JSONTokenType end_before(JSONMessageParser *parser, bool *ret_consumed, JSONTokenType type)
{
    parser->lexer_state = LEX_START;
    *ret_consumed = false;
    return type;
}

static JSONTokenType at_start(JSONMessageParser *parser, int byte)
{
    JSONTokenType type = structural(byte);

    g_string_truncate(parser->token, 0);
    if (type != JSON_TOKEN_NONE) {
        return end_with(parser, byte, type);
    }
    switch (byte) {
    case ' ':
    case '\t':
    case '\r':
    case '\n':
        return JSON_TOKEN_NONE;
    case '"':
        return go_on(parser, byte, LEX_STRING_DOUBLE);
    case '\'':
        return go_on(parser, byte, LEX_STRING_SINGLE);
    case '-':
        return go_on(parser, byte, LEX_MINUS);
    case '0':
        return go_on(parser, byte, LEX_ZERO);
    default:
        if (is_digit(byte)) {
            return go_on(parser, byte, LEX_DIGITS);
        }
        if (byte >= 'a' && byte <= 'z') {
            return go_on(parser, byte, LEX_KEYWORD);
        }
        return end_with(parser, byte, JSON_TOKEN_ERROR);
    }
}

static JSONTokenType in_string(JSONMessageParser *parser, int byte)
{
    bool is_double = parser->lexer_state == LEX_STRING_DOUBLE;

    if (byte == (is_double ? '"' : '\'')) {
        return end_with(parser, byte, JSON_TOKEN_STRING);
    }
    if (byte < ' ' || byte >= 0xfe) {
        return end_with(parser, byte, JSON_TOKEN_ERROR);
    }
    if (byte == '\\') {
        return go_on(parser, byte, is_double ? LEX_ESCAPE_DOUBLE : LEX_ESCAPE_SINGLE);
    }
    return go_on(parser, byte, parser->lexer_state);
}

static JSONTokenType in_escape(JSONMessageParser *parser, int byte)
{
    bool is_double = parser->lexer_state == LEX_ESCAPE_DOUBLE;

    if (byte < ' ' || byte >= 0xfe) {
        return end_with(parser, byte, JSON_TOKEN_ERROR);
    }
    return go_on(parser, byte, is_double ? LEX_STRING_DOUBLE : LEX_STRING_SINGLE);
}

static JSONTokenType in_number(JSONMessageParser *parser, int byte, bool *ret_consumed)
{
    LexerState state = parser->lexer_state;
    bool exponent = byte == 'e' || byte == 'E';

    switch (state) {
    case LEX_MINUS:
        if (is_digit(byte)) {
            return go_on(parser, byte, byte == '0' ? LEX_ZERO : LEX_DIGITS);
        }
        break;
    case LEX_ZERO:
    case LEX_DIGITS:
        if (is_digit(byte) && state == LEX_ZERO) {
            break; /* 01 */
        }
        if (is_digit(byte) || exponent || byte == '.') {
            return go_on(parser, byte, exponent ? LEX_EXP : byte == '.' ? LEX_POINT : LEX_DIGITS);
        }
        return end_before(parser, ret_consumed, JSON_TOKEN_INTEGER);
    case LEX_FRACTION:
    case LEX_EXP_DIGITS:
        if (is_digit(byte)) {
            return go_on(parser, byte, state);
        }
        if (exponent && state == LEX_FRACTION) {
            return go_on(parser, byte, LEX_EXP);
        }
        return end_before(parser, ret_consumed, JSON_TOKEN_FLOAT);
    default: /* POINT, EXP, EXP_SIGN: a digit must come */
        if (state == LEX_EXP && (byte == '+' || byte == '-')) {
            return go_on(parser, byte, LEX_EXP_SIGN);
        }
        if (is_digit(byte)) {
            return go_on(parser, byte, state == LEX_POINT ? LEX_FRACTION : LEX_EXP_DIGITS);
        }
        break;
    }
    return end_with(parser, byte, JSON_TOKEN_ERROR);
}

static JSONTokenType in_keyword(JSONMessageParser *parser, int byte, bool *ret_consumed)
{
    if (byte >= 'a' && byte <= 'z') {
        return go_on(parser, byte, LEX_KEYWORD);
    }
    return end_before(parser, ret_consumed, JSON_TOKEN_KEYWORD);
}

static JSONTokenType in_recovery(JSONMessageParser *parser, int byte, bool *ret_consumed)
{
    if (structural(byte) != JSON_TOKEN_NONE || byte < ' ') {
        *ret_consumed = byte < ' ';
        parser->lexer_state = LEX_START;
    }
    return JSON_TOKEN_NONE;
}

/* What has not ended yet: complete if nothing more is needed, else an error without a last byte. */
static JSONTokenType at_end(JSONMessageParser *parser)
{
    LexerState state = parser->lexer_state;

    parser->lexer_state = LEX_START;
    switch (state) {
    case LEX_START:
    case LEX_RECOVER:
    case LEX_SKIP_LINE:
        return JSON_TOKEN_END;
    case LEX_KEYWORD:
        return JSON_TOKEN_KEYWORD;
    case LEX_ZERO:
    case LEX_DIGITS:
        return JSON_TOKEN_INTEGER;
    case LEX_FRACTION:
    case LEX_EXP_DIGITS:
        return JSON_TOKEN_FLOAT;
    default:
        return JSON_TOKEN_ERROR;
    }
}

JSONTokenType json_lexer_byte(JSONMessageParser *parser, int byte, bool *ret_consumed)
{
    *ret_consumed = true;
    if (byte == JSON_LEXER_END) {
        *ret_consumed = parser->lexer_state == LEX_START;
        return at_end(parser);
    }
    switch ((LexerState)parser->lexer_state) {
    case LEX_START:
        return at_start(parser, byte);
    case LEX_STRING_DOUBLE:
    case LEX_STRING_SINGLE:
        return in_string(parser, byte);
    case LEX_ESCAPE_DOUBLE:
    case LEX_ESCAPE_SINGLE:
        return in_escape(parser, byte);
    case LEX_KEYWORD:
        return in_keyword(parser, byte, ret_consumed);
    case LEX_RECOVER:
        return in_recovery(parser, byte, ret_consumed);
    case LEX_SKIP_LINE:
        parser->lexer_state = byte == '\n' || byte == 0xff ? LEX_START : LEX_SKIP_LINE;
        return JSON_TOKEN_NONE;
    default:
        return in_number(parser, byte, ret_consumed);
    }
}

void json_lexer_skip_line(JSONMessageParser *parser)
{
    parser->lexer_state = LEX_SKIP_LINE;
}
