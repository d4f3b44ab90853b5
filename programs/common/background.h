/* SPDX-License-Identifier: GPL-2.0-or-later */
/* background.h - a program in the background, and the file with its process ID.  Main thread. */
#ifndef COMMON_BACKGROUND_H
#define COMMON_BACKGROUND_H

#include <stdbool.h>
#include "util/error.h"

/*
 * Fork, before the first thread; in the parent never returns: waits for the child to be ready and exits as it
 * says.
 */
void background_start(void);
/* In the child: let the parent go, give up the terminal.  No-op without background_start(). */
void background_ready(bool keep_stderr);

/* The file is locked for as long as the process lives, and a second one with the same file is refused. */
int pidfile_write(const char *path, Error **errp);
void pidfile_remove(void);

#endif
