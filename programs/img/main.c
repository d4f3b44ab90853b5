/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * main.c - qblk-img: makes, describes, checks and converts images of disks
 *
 *      qblk-img [-T TRACE] COMMAND [OPTIONS] FILENAME ...
 *
 * The words of the command line, the output and the exit status are those of qemu-img, so that what was
 * written for it works.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "block/graph/driver.h"
#include "programs/common/drivers.h"
#include "programs/common/trace-option.h"
#include "programs/img/commands.h"

static const ImgCommand *const commands[] = {
    &img_amend, &img_bench, /* in the order of help */
    &img_check, &img_commit, &img_compare, &img_convert, &img_create, &img_dd,
    &img_info,  &img_map,    &img_measure, &img_rebase,  &img_resize,
};

static int print_try_help(void)
{
    fprintf(stderr, "Try '%s --help' for more info\n", error_get_progname());
    return EXIT_FAILURE;
}

static void print_version(void)
{
    printf("%s version %s\n", error_get_progname(), QBLK_VERSION);
}

static void print_help(void)
{
    printf("Usage: %s [-T TRACE] COMMAND [OPTIONS] ...\n"
           "Makes, describes, checks and converts images of disks.\n"
           "\n"
           "  -h, --help             show this help and exit\n"
           "  -V, --version          show the version and exit\n"
           "  -T, --trace [[enable=]<pattern>][,events=<file>][,file=<file>]\n"
           "                         trace events that match; '--trace help' lists them\n"
           "      --completion bash|zsh\n"
           "                         print what the shell completes command lines with\n"
           "\n"
           "Commands ('%s COMMAND --help' for more about one):\n"
           "\n",
           error_get_progname(), error_get_progname());
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    }
    printf("\nSupported formats:");
    for (BlockDriver *drv = bdrv_next_driver(NULL); drv; drv = bdrv_next_driver(drv)) {
        printf(" %s", drv->format_name);
    }
    printf("\n");
}

static const ImgCommand *find_command(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (!strcmp(commands[i]->name, name)) {
            return commands[i];
        }
    }
    return NULL;
}

static int print_completion(const char *shell)
{
    ToolCommand all[G_N_ELEMENTS(commands) + 1] = {0};

    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        all[i] = (ToolCommand){commands[i]->name, commands[i]->summary, commands[i]->options};
    }
    if (!completion_print(shell, error_get_progname(), all, NULL)) {
        error_report("No completion for the shell '%s'", shell);
        return print_try_help();
    }
    return EXIT_SUCCESS;
}

static int run_command(int argc, char **argv)
{
    ImgArgs args = {.argc = argc, .argv = argv};
    int status;

    if (argc == 0) {
        error_report("Not enough arguments");
        return print_try_help();
    }
    args.command = find_command(argv[0]);
    if (!args.command) {
        error_report("Command not found: %s", argv[0]);
        return print_try_help();
    }
    status = args.command->run(&args);
    img_args_clear(&args);
    return status;
}

static int trace_option(const char *text)
{
    Error *err = NULL;
    int r = trace_option_parse(text, &err);

    if (r < 0) {
        error_report_err(err);
    }
    return r;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {"trace", required_argument, NULL, 'T'},
        {"completion", required_argument, NULL, TOOL_OPT_FIRST},
        {0},
    };
    int c, r;

    error_set_progname(argv[0]);
    signal(SIGPIPE, SIG_IGN);
    register_drivers();
    argv[0] = (char *)error_get_progname(); /* for the messages of getopt */
    while ((c = getopt_long(argc, argv, "+hVT:", options, NULL)) != -1) {
        switch (c) {
        case 'h':
            print_help();
            return EXIT_SUCCESS;
        case 'V':
            print_version();
            return EXIT_SUCCESS;
        case TOOL_OPT_FIRST:
            return print_completion(optarg);
        case 'T':
            r = trace_option(optarg);
            if (r != 0) {
                return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
            }
            break;
        default:
            return print_try_help();
        }
    }
    return run_command(argc - optind, argv + optind);
}
