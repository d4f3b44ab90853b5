/* SPDX-License-Identifier: GPL-2.0-or-later */
/* options.c - the options of a command: what getopt needs and what help prints, from one table */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "programs/common/object-option.h"
#include "programs/img/img.h"

typedef struct ImgArgsParser {
    struct option *options; /* ends with zeros */
    GString *letters;
    char *name; /* "qblk-img info", for getopt's messages */
} ImgArgsParser;

/* Of the one command that there is. */
static int object_failure = EXIT_FAILURE;
static bool object_failed;

static ImgArgsParser *parser_new(const ImgCommand *command)
{
    ImgArgsParser *p = g_new0(ImgArgsParser, 1);
    size_t n = 0;

    while (command->options[n].name) {
        n++;
    }
    object_failure = command->object_failure ? command->object_failure : EXIT_FAILURE;
    p->options = g_new0(struct option, n + 3);
    p->letters = g_string_new("h");
    p->name = g_strdup_printf("%s %s", error_get_progname(), command->name);
    for (size_t i = 0; i < n; i++) {
        const ImgOption *o = &command->options[i];

        p->options[i] = (struct option){
            .name = o->name, .has_arg = o->arg ? required_argument : no_argument, .val = o->code};
        if (o->code < IMG_OPT_FIRST) {
            g_string_append_c(p->letters, (char)o->code);
            if (o->arg) {
                g_string_append_c(p->letters, ':');
            }
        }
    }
    p->options[n] = (struct option){.name = "help", .val = 'h'};
    p->options[n + 1] =
        (struct option){.name = "object", .has_arg = required_argument, .val = IMG_OPT_OBJECT};
    return p;
}

void img_args_clear(ImgArgs *args)
{
    if (args->parser) {
        g_free(args->parser->options);
        g_string_free(args->parser->letters, TRUE);
        g_free(args->parser->name);
        g_clear_pointer(&args->parser, g_free);
    }
}

static void print_help(const ImgCommand *command)
{
    static const ImgOption help = {'h', "help", NULL, "show this help and exit"};
    static const ImgOption object = {IMG_OPT_OBJECT, "object", "TYPE,id=ID[,...]",
                                     "an object that the image needs: a secret, a throttle-group"};

    printf("Usage: %s %s [OPTIONS] %s\n%s.\n\n", error_get_progname(), command->name,
           command->operands, command->summary);
    tool_option_print(&help);
    for (const ImgOption *o = command->options; o->name; o++) {
        tool_option_print(o);
    }
    tool_option_print(&object);
}

static void print_try_help(const ImgArgs *args)
{
    fprintf(stderr, "Try '%s %s --help' for more info\n", error_get_progname(),
            args->command->name);
}

/* 0: go on. */
static int take_object(const char *text)
{
    Error *err = NULL;
    int r = object_option_parse(text, &err);

    if (r < 0) {
        error_report_err(err);
        object_failed = true;
        return IMG_ARGS_FAILED;
    }
    return r == 0 ? 0 : IMG_ARGS_HELP;
}

int img_args_next(ImgArgs *args, const char **ret_value)
{
    int c, r = 0;

    if (!args->parser) {
        args->parser = parser_new(args->command);
        args->argv[0] = args->parser->name;
        optind = 0; /* getopt: begin anew */
    }
    do {
        c = getopt_long(args->argc, args->argv, args->parser->letters->str, args->parser->options,
                        NULL);
    } while (c == IMG_OPT_OBJECT && (r = take_object(optarg)) == 0);
    if (c == IMG_OPT_OBJECT) {
        return r;
    }
    *ret_value = optarg;
    switch (c) {
    case -1:
        return IMG_ARGS_END;
    case 'h':
        print_help(args->command);
        return IMG_ARGS_HELP;
    case '?':
        print_try_help(args);
        return IMG_ARGS_FAILED;
    default:
        return c;
    }
}

int img_args_status(int code)
{
    return code == IMG_ARGS_HELP ? EXIT_SUCCESS : object_failed ? object_failure : EXIT_FAILURE;
}

int img_args_object_failure(void)
{
    return object_failure;
}

int img_args_operand_count(const ImgArgs *args)
{
    return args->argc - optind;
}

const char *img_args_operand(const ImgArgs *args, int index)
{
    return index < img_args_operand_count(args) ? args->argv[optind + index] : NULL;
}

int img_args_error(const ImgArgs *args, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vreport(fmt, ap);
    va_end(ap);
    print_try_help(args);
    return EXIT_FAILURE;
}

bool img_image_option(ImgImage *image, int code, const char *value)
{
    switch (code) {
    case 'f':
        image->format = value;
        return true;
    case 'U':
        image->force_share = true;
        return true;
    case IMG_OPT_IMAGE_OPTS:
        image->image_opts = true;
        return true;
    default:
        return false;
    }
}

bool img_image_check(const ImgImage *image)
{
    if (image->image_opts && image->format) {
        error_report("--image-opts and --format are mutually exclusive");
        return false;
    }
    return true;
}
