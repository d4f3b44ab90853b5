/* SPDX-License-Identifier: GPL-2.0-or-later */
/* create-options.h - -o of the commands that make images: key=value,... checked before anything is made */
#ifndef IMG_CREATE_OPTIONS_H
#define IMG_CREATE_OPTIONS_H

#include "block/graph/driver.h"
#include "programs/img/img.h"

/* Add what one more -o says to *text (NULL at first; g_free()).  False: told. */
bool img_options_join(char **text, const char *more);
/* Does it say "help"? */
bool img_options_ask_help(const char *text);
/* What -o help prints; @filename NULL: the format's options alone.  Returns the exit status. */
int img_create_options_help(const char *format, const char *filename);
/* "  name=<type>           - help" */
void img_print_option_help(const char *name, const char *type, const char *help);

/**
 * img_create_options_parse() - what -o says, as an object of strings
 * @text: NULL: nothing was said
 *
 * Names have underscores.  Known are the options of the format and of files, size, and, if the format
 * has them, backing_file and backing_fmt.  Sizes become numbers of bytes.
 *
 * Return: a new reference; NULL with @errp.
 */
json_t *img_create_options_parse(const char *format, const char *text, Error **errp);

/* The same with the options that @drv can change. */
json_t *img_amend_options_parse(const BlockDriver *drv, const char *text, Error **errp);

/* The driver of @format, which can create images; NULL with @errp. */
const BlockDriver *img_create_driver(const char *format, Error **errp);

#endif
