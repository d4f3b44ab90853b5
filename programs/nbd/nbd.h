/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nbd.h - what the files of qblk-nbd tell each other.  Main thread. */
#ifndef PROGRAM_NBD_H
#define PROGRAM_NBD_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "programs/common/image.h"

/* What the command line says; strings are argv's. */
typedef struct NbdOptions {
    /* The image, and what is shown of it. */
    ImgImage image;
    bool writethrough;
    BlockdevDetectZeroesOptions detect_zeroes;
    bool snapshot;             /* what is written goes to a scratch file */
    const char *load_snapshot; /* NULL: the disk as it is */
    int64_t offset;
    /* The export. */
    const char *export_name, *description;
    bool allocation_depth;
    GPtrArray *bitmaps; /* names */
    /* The server. */
    const char *bind, *port; /* NULL: not given */
    const char *socket;      /* NULL: TCP */
    bool activated;          /* a service manager listens */
    uint32_t clients_max;    /* 0: no limit */
    uint32_t handshake_seconds;
    bool persistent;
    const char *tls_creds, *tls_authz, *tls_hostname;
    /* The process. */
    bool fork, verbose;
    const char *pid_file;
    /* Something else than to serve. */
    bool list, disconnect;
    const char *device; /* of the kernel's client; NULL: none */
    bool per_device;    /* an option was given that is about an image or its export */
} NbdOptions;

enum {
    NBD_OPTIONS_OK = -1, /* else the exit status */
};
/* options.c: NBD_OPTIONS_OK, or the exit status: help was printed, or a mistake told. */
int nbd_options_parse(int argc, char **argv, NbdOptions *o);
void nbd_options_clear(NbdOptions *o);

/* help.c */
void nbd_print_help(void);
void nbd_print_version(void);

/* list.c: what another server offers, on stdout.  Blocks.  The exit status. */
int nbd_list(const NbdOptions *o);

/* image.c: the image as @o wants it shown; one reference for the caller; NULL with @errp. */
BlockDriverState *coroutine_fn nbd_co_open_image(const NbdOptions *o, Error **errp);

/* serve.c: to the end of the last client, or a signal.  The exit status. */
int nbd_serve(const NbdOptions *o);

#endif
