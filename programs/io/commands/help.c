/* SPDX-License-Identifier: GPL-2.0-or-later */
/* help.c - help and quit */
#include <errno.h>
#include <stdio.h>

#include "programs/io/commands/commands.h"

static int coroutine_fn help_run(IoSession *io, int argc, char **argv)
{
    const IoCommand *command;

    if (argc == 1) {
        for (const IoCommand *const *c = io_commands; *c; c++) {
            io_print_usage(*c);
        }
        printf("\nUse 'help commandname' for extended help.\n");
        return 0;
    }
    command = io_find_command(argv[1]);
    if (!command) {
        printf("command %s not found\n", argv[1]);
        return -ENOENT;
    }
    io_print_usage(command);
    if (command->help) {
        printf("\n%s\n", command->help);
    }
    return 0;
}

const IoCommand io_help = {
    .name = "help",
    .alias = "?",
    .args = "[command]",
    .summary = "tells which commands there are, or more about one",
    .max_args = 1,
    .without_image = true,
    .run = help_run,
};

static int coroutine_fn quit_run(IoSession *io, int argc, char **argv)
{
    io->quit = true;
    return 0;
}

const IoCommand io_quit = {
    .name = "quit",
    .alias = "q",
    .summary = "ends the program",
    .max_args = -1,
    .without_image = true,
    .run = quit_run,
};
