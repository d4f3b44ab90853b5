/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * main.c - qblk-io: requests to an image, one by one, as its user says
 *
 *      qblk-io [OPTIONS] [-c COMMAND]... [FILE]
 *
 * The words of the command line and of the commands, the output and the exit status are those of qemu-io, so that
 * what was written for it works.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "programs/common/completion.h"
#include "programs/common/drivers.h"
#include "programs/common/object-option.h"
#include "programs/common/trace-option.h"
#include "programs/io/io.h"

enum { OPT_OBJECT = TOOL_OPT_FIRST, OPT_IMAGE_OPTS, OPT_COMPLETION };

typedef struct Options {
    IoOpen open;
    bool image_opts, misaligned;
    GPtrArray *commands; /* of the argv's */
} Options;

static const ToolOption options[] = {
    {OPT_OBJECT, "object", "TYPE,id=ID[,...]",
     "an object that the image needs: a secret, a throttle-group"},
    {OPT_IMAGE_OPTS, "image-opts", NULL, "FILE is options, as driver=raw,file.filename=disk.img"},
    {'c', "cmd", "COMMAND",
     "run a command; more of them run in their order.  Without\n"
     "any, the lines of the standard input are commands"},
    {'f', "format", "FMT", "format of the image (probed)"},
    {'r', "read-only", NULL, "only to be read"},
    {'s', "snapshot", NULL, "what is written goes to a scratch file that is forgotten"},
    {'n', "nocache", NULL, "the same as -t none"},
    {'C', "copy-on-read", NULL, "what is read from a backing file is kept in the image"},
    {'m', "misalign", NULL, "buffers lie beside what the storage would like"},
    {'k', "native-aio", NULL, "the same as -i native"},
    {'i', "aio", "MODE", "threads, native or io_uring"},
    {'t', "cache", "MODE", "none, writeback (the default), unsafe, writethrough or\ndirectsync"},
    {'d', "discard", "MODE", "unmap (the default) or ignore"},
    {'T', "trace", "[[enable=]<pattern>][,events=<file>][,file=<file>]",
     "trace events that match; '--trace help' lists them"},
    {'U', "force-share", NULL, "open the image also while another program writes it"},
    {OPT_COMPLETION, "completion", "bash|zsh", "print what the shell completes command lines with"},
    {'h', "help", NULL, "show this help and exit"},
    {'V', "version", NULL, "show the version and exit"},
    {0},
};

static void print_help(void)
{
    printf("Usage: %s [OPTIONS]... [-c COMMAND]... [FILE]\n"
           "Makes requests to an image, one by one.\n"
           "\n",
           error_get_progname());
    for (const ToolOption *o = options; o->name; o++) {
        tool_option_print(o);
    }
    printf("\n'%s -c help' lists the commands.\n", error_get_progname());
}

static int print_try_help(void)
{
    fprintf(stderr, "Try '%s --help' for more info\n", error_get_progname());
    return EXIT_FAILURE;
}

static int print_completion(const char *shell)
{
    const ToolCommand all[] = {{.options = options}, {0}};
    g_autoptr(GString) names = g_string_new("help");

    for (const IoCommand *const *c = io_commands; *c; c++) {
        g_string_append_printf(names, " %s", (*c)->name);
    }
    if (!completion_print(shell, error_get_progname(), all, names->str)) {
        error_report("No completion for the shell '%s'", shell);
        return print_try_help();
    }
    return EXIT_SUCCESS;
}

/* Of --trace and --object, which may be "help".  -1: go on; else the exit status. */
static int take_shared(int (*parse)(const char *text, Error **errp), const char *text)
{
    Error *err = NULL;
    int r = parse(text, &err);

    if (r < 0) {
        error_report_err(err);
        return EXIT_FAILURE;
    }
    return r > 0 ? EXIT_SUCCESS : -1;
}

/* -1: go on; else the exit status. */
static int take_option(Options *o, int c, const char *value)
{
    switch (c) {
    case 'h':
        print_help();
        return EXIT_SUCCESS;
    case 'V':
        printf("%s version %s\n", error_get_progname(), QBLK_VERSION);
        return EXIT_SUCCESS;
    case 'T':
        return take_shared(trace_option_parse, value);
    case 'c':
        g_ptr_array_add(o->commands, (char *)value);
        return -1;
    case 'f':
        o->open.image.format = value;
        return -1;
    case 'm':
        o->misaligned = true;
        return -1;
    case OPT_OBJECT:
        return take_shared(object_option_parse, value);
    case OPT_IMAGE_OPTS:
        o->image_opts = true;
        return -1;
    case '?':
        return print_try_help();
    case OPT_COMPLETION:
        return print_completion(value);
    default:
        return io_open_option(&o->open, c, value) ? -1 : EXIT_FAILURE;
    }
}

/* What getopt needs, from the table. */
static struct option *long_options(GString *letters)
{
    struct option *all = g_new0(struct option, G_N_ELEMENTS(options));

    for (size_t i = 0; options[i].name; i++) {
        const ToolOption *o = &options[i];

        all[i] = (struct option){
            .name = o->name, .has_arg = o->arg ? required_argument : no_argument, .val = o->code};
        if (o->code < TOOL_OPT_FIRST) {
            g_string_append_printf(letters, "%c%s", o->code, o->arg ? ":" : "");
        }
    }
    return all;
}

static int parse(Options *o, int argc, char **argv)
{
    g_autoptr(GString) letters = g_string_new(NULL);
    g_autofree struct option *all = long_options(letters);
    int c, status = -1;

    while (status < 0 && (c = getopt_long(argc, argv, letters->str, all, NULL)) != -1) {
        status = take_option(o, c, optarg);
    }
    if (status < 0 && optind < argc - 1) {
        error_report("Expecting one image file name");
        return print_try_help();
    }
    if (status < 0 && o->image_opts && o->open.image.format) {
        error_report("--image-opts and -f are mutually exclusive");
        return EXIT_FAILURE;
    }
    o->open.image.image_opts = o->image_opts;
    o->open.image.filename = optind < argc ? argv[optind] : NULL;
    return status;
}

int main(int argc, char **argv)
{
    Options o = {.open = {.image = {.writable = true}}};
    Error *err = NULL;
    int status;

    error_set_progname(argv[0]);
    signal(SIGPIPE, SIG_IGN);
    register_drivers();
    argv[0] = (char *)error_get_progname(); /* for the messages of getopt */
    o.commands = g_ptr_array_new();
    status = parse(&o, argc, argv);
    if (status < 0 && aio_init(AIO_ENGINE_AUTO, &err) < 0) {
        error_report_err(err);
        status = EXIT_FAILURE;
    } else if (status < 0) {
        g_ptr_array_add(o.commands, NULL);
        status = io_run(&o.open, o.image_opts, o.misaligned, (char *const *)o.commands->pdata);
        object_options_clear();
        aio_cleanup();
    }
    g_ptr_array_free(o.commands, TRUE);
    return status;
}
