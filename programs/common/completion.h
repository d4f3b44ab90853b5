/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * completion.h - the options of a program in tables, and what shells complete command lines with, made of these
 *
 * Main thread.
 */
#ifndef COMMON_COMPLETION_H
#define COMMON_COMPLETION_H

#include <stdbool.h>

typedef struct ToolOption {
    int code;         /* the letter, or a value from TOOL_OPT_FIRST on */
    const char *name; /* "format" for --format */
    const char *arg;  /* "FMT", "human|json"; NULL: a switch */
    const char *help; /* a phrase; lines after the first are indented by the printer */
} ToolOption;

/* Of options without a letter. */
#define TOOL_OPT_FIRST 256

/* One of the commands of a program, or a program that has none. */
typedef struct ToolCommand {
    const char *name; /* NULL: a program without commands */
    const char *summary;
    const ToolOption *options; /* ends with an entry of zeros */
} ToolCommand;

/* "  -f, --format FMT         format of the image", on stdout. */
void tool_option_print(const ToolOption *option);

/**
 * completion_print() - a script on stdout, for the shell to read
 * @shell:    "bash" or "zsh"
 * @commands: ends with an entry of zeros
 * @words:    what an argument COMMAND may begin with, separated by spaces; NULL: anything
 *
 * Return: false when there is no such shell.
 */
bool completion_print(const char *shell, const char *program, const ToolCommand *commands,
                      const char *words);

#endif
