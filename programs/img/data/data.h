/* SPDX-License-Identifier: GPL-2.0-or-later */
/* data.h - what the commands share that read or move the data of a disk */
#ifndef IMG_DATA_H
#define IMG_DATA_H

#include "block/image/image.h"
#include "programs/img/img.h"

/* watch.c: shows progress (between img_progress_begin() and _end()), and ends when a signal came. */
ImageWatch img_image_watch(void);

/* target.c: an image that a command makes. */

typedef struct ImgTarget {
    const char *filename, *format;
    char *backing, *backing_format; /* owned; NULL: none */
    int64_t size;                   /* as -o size= said; 0: as the command says */
    char *option_text;              /* owned; all -o (img_options_join()) */
    json_t *options;                /* owned; what they say, but for those above */
    /* Set when it is made. */
    bool created;       /* was not there before */
    bool is_zero;       /* reads as zeros all over */
    char *open_options; /* owned; what it is to be opened with besides, NULL: nothing */
} ImgTarget;

/* What option_text says; false: told. */
bool img_target_take_options(ImgTarget *target);
int coroutine_fn img_target_co_create(ImgTarget *target, int64_t size, Error **errp);
/* It is not complete: remove its files, if they were made by us. */
void img_target_remove(const ImgTarget *target);
/* Frees what @target holds. */
void img_target_clear(ImgTarget *target);

#endif
