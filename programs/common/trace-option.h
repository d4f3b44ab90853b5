/* SPDX-License-Identifier: GPL-2.0-or-later */
/* trace-option.h - --trace, the same in all programs.  Main thread. */
#ifndef COMMON_TRACE_OPTION_H
#define COMMON_TRACE_OPTION_H

#include "util/error.h"

/**
 * trace_option_parse() - obey [[enable=]PATTERN][,events=FILE][,file=FILE]; "help" lists the events
 *
 * Return: 0 to go on; 1, the list was printed: end with success; -errno with @errp.
 */
int trace_option_parse(const char *text, Error **errp);

#endif
