/* SPDX-License-Identifier: GPL-2.0-or-later */
/* completion.c - help, and scripts that complete command lines in bash and zsh, from tables of options */
#include "programs/common/completion.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

#include "block/graph/driver.h"

/* Columns: options that are longer have their help on the next line. */
#define HELP_COLUMN 27

void tool_option_print(const ToolOption *option)
{
    g_autofree char *left = NULL, *first = NULL;
    g_auto(GStrv) lines = g_strsplit(option->help, "\n", -1);
    size_t i = 0;

    first =
        option->code < TOOL_OPT_FIRST ? g_strdup_printf("-%c, ", option->code) : g_strdup("    ");
    left = g_strdup_printf("  %s--%s%s%s", first, option->name, option->arg ? " " : "",
                           option->arg ? option->arg : "");
    if (strlen(left) + 1 < HELP_COLUMN) {
        printf("%-*s%s\n", HELP_COLUMN, left, lines[i++]);
    } else {
        printf("%s\n", left);
    }
    for (; lines[i]; i++) {
        printf("%*s%s\n", HELP_COLUMN, "", lines[i]);
    }
}

/* What the argument of an option may be, separated by spaces; NULL: a file, or nobody knows.  g_free() */
static char *words_of(const ToolOption *o, const char *command_words)
{
    static const struct {
        const char *name, *words;
    } known[] = {{"cache", "none writeback unsafe writethrough directsync"},
                 {"source-cache", "none writeback unsafe writethrough directsync"},
                 {"aio", "threads native io_uring"},
                 {"discard", "unmap ignore"},
                 {"preallocation", "off metadata falloc full"}};
    GString *formats;

    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (!strcmp(known[i].name, o->name)) {
            return g_strdup(known[i].words);
        }
    }
    if (strchr(o->arg, '|')) {
        return g_strdelimit(g_strdup(o->arg), "|", ' ');
    }
    if (!strcmp(o->arg, "COMMAND")) {
        return g_strdup(command_words);
    }
    if (strcmp(o->arg, "FMT") != 0) {
        return NULL;
    }
    formats = g_string_new(NULL);
    for (BlockDriver *drv = bdrv_next_driver(NULL); drv; drv = bdrv_next_driver(drv)) {
        if (!drv->is_filter && !drv->is_protocol) {
            g_string_append_printf(formats, "%s%s", formats->len ? " " : "", drv->format_name);
        }
    }
    return g_string_free(formats, FALSE);
}

/* A name for a function of the shell. */
static char *function_name(const char *program)
{
    return g_strdelimit(g_strdup_printf("_%s", program), "-", '_');
}

static void bash_arguments(const ToolCommand *c, const char *command_words)
{
    for (const ToolOption *o = c->options; o->name; o++) {
        g_autofree char *words = o->arg ? words_of(o, command_words) : NULL;
        const char *name = c->name ? c->name : "";

        if (words && o->code < TOOL_OPT_FIRST) {
            printf("    %s:-%c | %s:--%s) words='%s' ;;\n", name, o->code, name, o->name, words);
        } else if (words) {
            printf("    %s:--%s) words='%s' ;;\n", name, o->name, words);
        }
    }
}

static void bash_options(const ToolCommand *c)
{
    for (const ToolOption *o = c->options; o->name; o++) {
        if (o->code < TOOL_OPT_FIRST) {
            printf(" -%c", o->code);
        }
        printf(" --%s", o->name);
    }
}

static void print_bash(const char *program, const ToolCommand *commands, const char *command_words)
{
    const bool has_commands = commands[0].name;
    g_autofree char *function = function_name(program);

    printf("# bash completion for %s\n%s()\n{\n", program, function);
    printf("    local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}\n"
           "    local command= word words=\n");
    if (has_commands) {
        printf("    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
               "        case $word in\n        -*) ;;\n        *) command=$word; break ;;\n"
               "        esac\n    done\n");
    }
    printf("    case $command:$previous in\n");
    for (const ToolCommand *c = commands; c->options; c++) {
        bash_arguments(c, command_words);
    }
    printf("    *)\n        case $command:$cur in\n");
    if (has_commands) {
        printf("        :*) words='");
        for (const ToolCommand *c = commands; c->options; c++) {
            printf("%s ", c->name);
        }
        printf("--help --version --trace' ;;\n");
    }
    for (const ToolCommand *c = commands; c->options; c++) {
        printf("        %s:-*) words='--help", c->name ? c->name : "");
        bash_options(c);
        printf("' ;;\n");
    }
    printf("        esac ;;\n    esac\n"
           "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
           "    [ -n \"$words\" ] || COMPREPLY=($(compgen -f -- \"$cur\"))\n"
           "}\ncomplete -o filenames -F %s %s\n",
           function, program);
}

/* @text as it may stand between single quotes and brackets. */
static char *zsh_text(const char *text)
{
    GString *out = g_string_new(NULL);

    for (; *text && *text != '\n'; text++) {
        if (strchr("[]:\\", *text)) {
            g_string_append_c(out, '\\');
        }
        if (*text == '\'') {
            g_string_append(out, "'\\''");
        } else {
            g_string_append_c(out, *text);
        }
    }
    return g_string_free(out, FALSE);
}

static void zsh_option(const ToolOption *o, const char *command_words)
{
    g_autofree char *help = zsh_text(o->help), *arg = o->arg ? zsh_text(o->arg) : NULL;
    g_autofree char *words = o->arg ? words_of(o, command_words) : NULL;

    if (o->code < TOOL_OPT_FIRST) {
        printf(" \\\n        '*'{-%c,--%s}'[%s]", o->code, o->name, help);
    } else {
        printf(" \\\n        '*--%s[%s]", o->name, help);
    }
    if (words) {
        printf(":%s:(%s)", arg, words);
    } else if (arg) {
        printf(":%s:_files", arg);
    }
    printf("'");
}

static void zsh_arguments(const ToolCommand *c, const char *command_words)
{
    printf("        _arguments '--help[show help]'");
    for (const ToolOption *o = c->options; o->name; o++) {
        zsh_option(o, command_words);
    }
    printf(" \\\n        '*:file:_files'");
}

static void print_zsh(const char *program, const ToolCommand *commands, const char *command_words)
{
    g_autofree char *function = function_name(program);

    printf("#compdef %s\n%s()\n{\n", program, function);
    if (!commands[0].name) {
        zsh_arguments(&commands[0], command_words);
        printf("\n}\n%s \"$@\"\n", function);
        return;
    }
    printf("    local -a commands\n    commands=(\n");
    for (const ToolCommand *c = commands; c->options; c++) {
        g_autofree char *summary = zsh_text(c->summary);

        printf("        '%s:%s'\n", c->name, summary);
    }
    printf(
        "    )\n    if ((CURRENT == 2)); then\n        _describe command commands\n        return\n"
        "    fi\n    shift words\n    ((CURRENT--))\n    case $words[1] in\n");
    for (const ToolCommand *c = commands; c->options; c++) {
        printf("    %s)\n", c->name);
        zsh_arguments(c, command_words);
        printf(" ;;\n");
    }
    printf("    esac\n}\n%s \"$@\"\n", function);
}

bool completion_print(const char *shell, const char *program, const ToolCommand *commands,
                      const char *words)
{
    if (!strcmp(shell, "bash")) {
        print_bash(program, commands, words);
    } else if (!strcmp(shell, "zsh")) {
        print_zsh(program, commands, words);
    } else {
        return false;
    }
    return true;
}
