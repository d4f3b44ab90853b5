/* SPDX-License-Identifier: GPL-2.0-or-later */
/* keyval.h - options of the command line as a tree: driver=file,node-name=x,cache.direct=on */
#ifndef QAPI_KEYVAL_H
#define QAPI_KEYVAL_H

#include <stdbool.h>
#include <jansson.h>
#include "util/error.h"

/* Bytes in one part of a dotted key, and parts: longer ones are mistakes, and the tree stays shallow. */
#define KEYVAL_PART_MAX  127
#define KEYVAL_PARTS_MAX 128

/* Elements of a list: its indices must be without gaps, so that larger numbers are mistakes. */
#define KEYVAL_LIST_MAX 65536

/**
 * keyval_parse() - take options apart
 * @text:        "key=value,..." ; a comma in a value is doubled.  Keys have parts separated by dots; a
 *               part that is a number is the index of a list.  A key given twice means the last.
 * @implied_key: key of a first value that has none ("file,..." for "driver=file,..."); may be NULL
 * @ret_help:    *ret_help tells whether "help" or "?" stood where a key would stand, and was left
 *               out; if NULL, asking for help is an error
 *
 * Return: a new reference to an object whose leaves are strings, for qapi_from_keyval(); NULL and
 * *errp set.
 */
json_t *keyval_parse(const char *text, const char *implied_key, bool *ret_help, Error **errp);

/* The same value with its numbers and truth values as strings, as somebody would type them.  A new reference. */
json_t *keyval_from_json(const json_t *value);

/* What @more says and @tree does not goes into @tree; objects into objects.  Or, @replace, all that it says. */
void keyval_merge(json_t *tree, json_t *more, bool replace);

#endif
