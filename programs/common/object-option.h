/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * object-option.h - --object of the tools: all that object-add makes, but threads
 *
 * What is written is kept until there is an event loop to make it in.  Main thread.
 */
#ifndef COMMON_OBJECT_OPTION_H
#define COMMON_OBJECT_OPTION_H

#include "coro/coroutine.h"
#include "util/error.h"

/**
 * object_option_parse() - take one --object
 * @text: "secret,id=sec0,file=passphrase", or JSON; "help"
 *
 * Return: 0; 1, help was printed; -EINVAL with @errp.
 */
int object_option_parse(const char *text, Error **errp);

/* object_options_co_make() - make all that were taken, in their order; coroutine.  0, or -errno with @errp. */
int coroutine_fn object_options_co_make(Error **errp);

/* The objects go, and what was taken. */
void object_options_clear(void);

#endif
