/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * input.c - lines of stdin, read in a worker, so that requests that are under way go on
 *
 * On a terminal a line can be edited, and old ones be fetched again (libedit).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <editline/readline.h>

#include "aio/thread-pool.h"
#include "programs/io/io.h"

typedef struct Line {
    char *prompt;
    char *text; /* NULL: there is no more; g_free() */
} Line;

static char *from_terminal(const char *prompt)
{
    char *typed = readline(prompt);
    char *line = g_strdup(typed);

    if (typed && *typed) {
        add_history(typed);
    }
    free(typed);
    return line;
}

static char *from_pipe(const char *prompt)
{
    char *line = NULL, *copy;
    size_t size = 0;
    ssize_t len;

    printf("%s", prompt);
    fflush(stdout);
    len = getline(&line, &size, stdin);
    if (len > 0 && line[len - 1] == '\n') {
        line[len - 1] = '\0';
    }
    copy = len >= 0 ? g_strdup(line) : NULL;
    free(line);
    return copy;
}

static int read_in_worker(void *opaque)
{
    Line *line = opaque;

    line->text = isatty(STDIN_FILENO) ? from_terminal(line->prompt) : from_pipe(line->prompt);
    return 0;
}

char *coroutine_fn io_co_read_line(void)
{
    Line line = {.prompt = g_strdup_printf("%s> ", error_get_progname())};

    if (thread_pool_submit_co(read_in_worker, &line) < 0) {
        error_report("no thread to read commands in");
    }
    g_free(line.prompt);
    return line.text;
}
