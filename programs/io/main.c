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

#include "programs/common/drivers.h"
#include "programs/common/object-option.h"
#include "programs/common/trace-option.h"
#include "programs/io/io.h"

enum { OPT_OBJECT = 256, OPT_IMAGE_OPTS };

typedef struct Options {
    IoOpen open;
    bool image_opts, misaligned;
    GPtrArray *commands; /* of the argv's */
} Options;

static const struct option long_options[] = {
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {"cmd", required_argument, NULL, 'c'},
    {"format", required_argument, NULL, 'f'},
    {"read-only", no_argument, NULL, 'r'},
    {"snapshot", no_argument, NULL, 's'},
    {"nocache", no_argument, NULL, 'n'},
    {"copy-on-read", no_argument, NULL, 'C'},
    {"misalign", no_argument, NULL, 'm'},
    {"native-aio", no_argument, NULL, 'k'},
    {"aio", required_argument, NULL, 'i'},
    {"cache", required_argument, NULL, 't'},
    {"discard", required_argument, NULL, 'd'},
    {"trace", required_argument, NULL, 'T'},
    {"force-share", no_argument, NULL, 'U'},
    {"object", required_argument, NULL, OPT_OBJECT},
    {"image-opts", no_argument, NULL, OPT_IMAGE_OPTS},
    {0},
};

static void print_help(FILE *to)
{
    fprintf(
        to,
        "Usage: %s [OPTIONS]... [-c COMMAND]... [FILE]\n"
        "Makes requests to an image, one by one.\n"
        "\n"
        "      --object OBJECT     make an object that the image's options name\n"
        "      --image-opts        FILE is options, as driver=raw,file.filename=disk.img\n"
        "  -c, --cmd COMMAND       run a command; more of them run in their order.  Without any,\n"
        "                          the lines of the standard input are commands\n"
        "  -f, --format FMT        format of the image (probed)\n"
        "  -r, --read-only         only to be read\n"
        "  -s, --snapshot          what is written goes to a scratch file that is forgotten\n"
        "  -n, --nocache           the same as -t none\n"
        "  -C, --copy-on-read      what is read from a backing file is kept in the image\n"
        "  -m, --misalign          buffers lie beside what the storage would like\n"
        "  -k, --native-aio        the same as -i native\n"
        "  -i, --aio MODE          threads, native or io_uring\n"
        "  -t, --cache MODE        none, writeback (the default), unsafe, writethrough or\n"
        "                          directsync\n"
        "  -d, --discard MODE      unmap (the default) or ignore\n"
        "  -T, --trace [[enable=]<pattern>][,events=<file>][,file=<file>]\n"
        "                          trace events that match; '--trace help' lists them\n"
        "  -U, --force-share       open the image also while another program writes it\n"
        "  -h, --help              show this help and exit\n"
        "  -V, --version           show the version and exit\n"
        "\n"
        "'%s -c help' lists the commands.\n",
        error_get_progname(), error_get_progname());
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
        print_help(stdout);
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
        print_help(stderr);
        return EXIT_FAILURE;
    default:
        return io_open_option(&o->open, c, value) ? -1 : EXIT_FAILURE;
    }
}

static int parse(Options *o, int argc, char **argv)
{
    int c, status = -1;

    while (status < 0 &&
           (c = getopt_long(argc, argv, "hVc:d:f:rsnCmki:t:T:U", long_options, NULL)) != -1) {
        status = take_option(o, c, optarg);
    }
    if (status < 0 && optind < argc - 1) {
        print_help(stderr);
        return EXIT_FAILURE;
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
