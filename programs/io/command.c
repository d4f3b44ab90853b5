/* SPDX-License-Identifier: GPL-2.0-or-later */
/* command.c - a line, taken apart and given to its command */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "programs/io/commands/commands.h"
#include "programs/io/io.h"

const IoCommand *const io_commands[] = {
    &io_abort,       &io_aio_flush,   &io_aio_read,
    &io_aio_write,   &io_alloc,       &io_break,
    &io_close,       &io_discard,     &io_flush,
    &io_help,        &io_info,        &io_length,
    &io_map,         &io_open,        &io_quit,
    &io_read,        &io_readv,       &io_remove_break,
    &io_reopen,      &io_resume,      &io_sigraise,
    &io_sleep,       &io_truncate,    &io_wait_break,
    &io_write,       &io_writev,      &io_zone_append,
    &io_zone_close,  &io_zone_finish, &io_zone_open,
    &io_zone_report, &io_zone_reset,  NULL,
};

const IoCommand *io_find_command(const char *name)
{
    for (const IoCommand *const *c = io_commands; *c; c++) {
        if (!strcmp((*c)->name, name) || ((*c)->alias && !strcmp((*c)->alias, name))) {
            return *c;
        }
    }
    return NULL;
}

void io_print_usage(const IoCommand *command)
{
    printf("%s%s%s -- %s\n", command->name, command->args ? " " : "",
           command->args ? command->args : "", command->summary);
}

int io_usage_error(char **argv)
{
    io_print_usage(io_find_command(argv[0]));
    return -EINVAL;
}

static bool check_count(const IoCommand *command, const char *name, int count)
{
    if (count >= command->min_args && (command->max_args < 0 || count <= command->max_args)) {
        return true;
    }
    fprintf(stderr, "bad argument count %d to %s, expected ", count, name);
    if (command->max_args < 0) {
        fprintf(stderr, "at least %d arguments\n", command->min_args);
    } else if (command->min_args == command->max_args) {
        fprintf(stderr, "%d arguments\n", command->min_args);
    } else {
        fprintf(stderr, "between %d and %d arguments\n", command->min_args, command->max_args);
    }
    return false;
}

static bool check_perm(IoSession *io, const IoCommand *command)
{
    Error *err = NULL;
    const uint64_t perm = command->perm | BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE;
    const uint64_t shared = blk_root(io->blk)->shared_perm;

    if (!command->perm) {
        return true;
    }
    if (bdrv_is_read_only(blk_bs(io->blk))) {
        error_report("Block node is read-only");
        return false;
    }
    if (blk_set_perm(io->blk, perm, shared, &err) < 0) {
        error_report_err(err);
        return false;
    }
    return true;
}

static int coroutine_fn run(IoSession *io, const IoCommand *command, int argc, char **argv)
{
    if (!command->without_image && !io->blk) {
        fprintf(stderr, "no file open, try 'help open'\n");
        return -EINVAL;
    }
    if (!check_count(command, argv[0], argc - 1)) {
        return -EINVAL;
    }
    if (!command->without_image && !check_perm(io, command)) {
        return -EPERM;
    }
    return command->run(io, argc, argv);
}

int coroutine_fn io_run_line(IoSession *io, const char *line)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    g_auto(GStrv) parts = g_strsplit(line, " ", -1);
    const IoCommand *command;

    for (char **part = parts; *part; part++) {
        if (**part) {
            g_ptr_array_add(words, *part);
        }
    }
    if (words->len == 0) {
        return 0;
    }
    g_ptr_array_add(words, NULL); /* getopt permutes the words, not what owns them */
    command = io_find_command(g_ptr_array_index(words, 0));
    if (!command) {
        fprintf(stderr, "command \"%s\" not found\n", (char *)g_ptr_array_index(words, 0));
        return -ENOENT;
    }
    return run(io, command, (int)words->len - 1, (char **)words->pdata);
}
