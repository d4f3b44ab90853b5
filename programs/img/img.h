/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * img.h - what the files of qblk-img tell each other
 *
 *      main.c ─▶ image/info.c   img_args_next() ...   img_run(co) ─▶ coroutine: img_co_open() ... img_co_close()
 *        the table   a command: its options             event loop, signals          its work
 *
 * A command is one ImgCommand (commands.h), in a file of its own: image/ for what is about an image, data/
 * for what reads or moves the data of a disk.  A command returns the exit status of the program; what went
 * wrong was told (error_report()) by whoever returns something else than success.  Main thread.
 */
#ifndef IMG_IMG_H
#define IMG_IMG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include "block/backend/backend.h"
#include "programs/common/completion.h"
#include "programs/common/image.h"
#include "util/error.h"

/* options.c: the options of a command, in a table from which help is printed, too. */

typedef ToolOption ImgOption;

/* Options without a letter that several commands have; a command's own begin at IMG_OPT_FIRST_OWN. */
enum {
    IMG_OPT_FIRST = TOOL_OPT_FIRST,
    IMG_OPT_IMAGE_OPTS,
    IMG_OPT_OUTPUT,
    IMG_OPT_OBJECT, /* of every command: img_args_next() takes it */
    IMG_OPT_FIRST_OWN = 300,
};

typedef struct ImgArgs ImgArgs;
typedef struct ImgCommand {
    const char *name;
    const char *summary;      /* "Show what an image is", one line of the program's help */
    const char *operands;     /* "FILENAME [SIZE]" */
    const ImgOption *options; /* ends with an entry of zeros */
    int object_failure;       /* exit status when an --object could not be made; 0: EXIT_FAILURE */
    int (*run)(ImgArgs *args);
} ImgCommand;

struct ImgArgs {
    const ImgCommand *command;
    int argc; /* argv[0] is the command's name */
    char **argv;
    struct ImgArgsParser *parser;
};

enum {
    IMG_ARGS_END = -1,    /* no more options */
    IMG_ARGS_HELP = -2,   /* --help, which was printed */
    IMG_ARGS_FAILED = -3, /* a mistake, which was told */
};
/**
 * img_args_next() - the code of the next option; its argument is in *ret_value
 *
 * --help and mistakes are dealt with here: return img_args_status() then.  Options may stand behind
 * operands; after "--" all are operands.
 */
int img_args_next(ImgArgs *args, const char **ret_value);
/* The exit status after IMG_ARGS_HELP or IMG_ARGS_FAILED. */
int img_args_status(int code);
/* The command's, when an --object could not be made. */
int img_args_object_failure(void);
/* What is left after IMG_ARGS_END. */
int img_args_operand_count(const ImgArgs *args);
const char *img_args_operand(const ImgArgs *args, int index); /* NULL: there are not as many */
/* "PROGRAM: message", then where help is; returns EXIT_FAILURE. */
int img_args_error(const ImgArgs *args, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
void img_args_clear(ImgArgs *args);

/* value.c: numbers and sizes as users write them. */

/* false: told, as "Invalid WHAT specified ..." */
bool img_parse_size(const char *what, const char *value, int64_t min, int64_t max,
                    int64_t *ret_bytes);
bool img_parse_int(const char *what, const char *value, int64_t min, int64_t max, int64_t *ret);
typedef enum ImgOutput { IMG_OUTPUT_HUMAN, IMG_OUTPUT_JSON } ImgOutput;
/* --output; false: told */
bool img_parse_output(const ImgArgs *args, const char *value, ImgOutput *ret);
/* "1.5 MiB (1572864 bytes)"; g_free() */
char *img_size_text(int64_t bytes);
/* A JSON tree on stdout, laid out as qemu-img does, with a newline at its end. */
void img_print_json(const json_t *tree);

/* The options that mean the same in most commands: put these into the table, and ask img_image_option(). */
#define IMG_OPTION_FORMAT                                    \
    {                                                        \
        'f', "format", "FMT", "format of the image (probed)" \
    }
#define IMG_OPTION_IMAGE_OPTS                                           \
    {                                                                   \
        IMG_OPT_IMAGE_OPTS, "image-opts", NULL,                         \
            "FILENAME is options, as driver=raw,file.filename=disk.img" \
    }
#define IMG_OPTION_CACHE(letter)                                                \
    {                                                                           \
        letter, "cache", "CACHE",                                               \
            "none, writeback (the default), unsafe, writethrough or directsync" \
    }
#define IMG_OPTION_FORCE_SHARE                                                          \
    {                                                                                   \
        'U', "force-share", NULL, "open the image also while another program writes it" \
    }
#define IMG_OPTION_QUIET               \
    {                                  \
        'q', "quiet", NULL, "say less" \
    }
#define IMG_OPTION_PROGRESS                                              \
    {                                                                    \
        'p', "progress", NULL, "show progress (else SIGUSR1 does, once)" \
    }
#define IMG_OPTION_OUTPUT                                                         \
    {                                                                             \
        IMG_OPT_OUTPUT, "output", "human|json", "form of what is printed (human)" \
    }
/* Takes -f, --image-opts and -U; false: another option. */
bool img_image_option(ImgImage *image, int code, const char *value);
/* Do the options of @image fit each other?  False: told. */
bool img_image_check(const ImgImage *image);

/* run.c: the event loop. */

typedef int coroutine_fn ImgCoroutine(void *opaque);
/**
 * img_run() - run @entry(@opaque) as a coroutine of the main AioContext, until it has ended
 *
 * SIGINT, SIGTERM and SIGHUP mean: end soon, and leave nothing half made.  img_interrupted() is true from
 * then on, and a hook is called; what waits for a server that is silent is given up a moment later.  A second
 * signal ends the process at once.
 *
 * Return: what @entry returned; after a signal the process has ended by that signal, and does not return.
 */
int img_run(ImgCoroutine *entry, void *opaque);
bool img_interrupted(void);
/* @hook: called once, in the main thread, not in a coroutine.  NULL: none. */
void img_set_interrupt_hook(void (*hook)(void *opaque), void *opaque);

/* progress.c: "    (12.34/100%)" */

/* From now on SIGUSR1 prints how far it is, unless @enabled shows it anyway. */
void img_progress_begin(bool enabled);
/* 0 to 100.  Prints when it has moved by 1 or more since the last time. */
void img_progress_set(double percent);
/* 100, also if that was shown before: as qemu-img's convert does, whose progress is read by programs */
void img_progress_complete(void);
void img_progress_end(void);

#endif
