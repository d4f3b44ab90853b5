/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is done with whole images at rest: compared, mapped, converted, committed, rebased.
 *
 * For tools, where nobody writes to the images meanwhile.  All co_ functions: coroutine of the main context, where
 * all nodes live.  Offsets and lengths are bytes.  Return: 0, or negative errno with @errp set; -ECANCELED, when
 * the watch says so, with no more than IMAGE_REQUESTS_MAX requests made after that, and all of them ended.
 */
#ifndef BLOCK_IMAGE_IMAGE_H
#define BLOCK_IMAGE_IMAGE_H

#include "block/backend/backend.h"
#include "util/osdep.h"

/* Pieces that are under way at once, at most. */
#define IMAGE_REQUESTS_MAX     16
#define IMAGE_REQUESTS_DEFAULT 8
/* Memory of one of them: a huge page holds two. */
#define IMAGE_CHUNK_BYTES      (1 * MiB)
/* Pieces in which zeros are looked for: smaller ones would cost more in tables than they save in space. */
#define IMAGE_SPARSE_DEFAULT   (4 * KiB)
/* More than this in one piece is no sparse image any more. */
#define IMAGE_SPARSE_MAX       (16 * MiB)

/* How the caller follows an operation, and ends it.  All may be NULL. */
typedef struct ImageWatch {
    /* @done of @total, both bytes; @done never becomes less. */
    void (*progress)(void *opaque, int64_t done, int64_t total);
    /* True: end soon. */
    bool (*is_cancelled)(void *opaque);
    void *opaque;
} ImageWatch;

typedef enum ImageDifference {
    IMAGE_IDENTICAL,
    IMAGE_SIZES_DIFFER, /* strict only */
    IMAGE_STATUS_DIFFERS, /* strict only: allocated in one, not in the other; data in one, zeros in the other */
    IMAGE_CONTENT_DIFFERS,
} ImageDifference;

typedef struct ImageCompareArgs {
    BlockBackend *image[2]; /* to be read */
    bool strict;
    ImageWatch watch;
} ImageCompareArgs;

typedef struct ImageCompareResult {
    ImageDifference difference;
    int64_t
        offset; /* where, for STATUS and CONTENT; of content, the sector's first byte that was compared */
    bool
        other_size; /* found, when not strict, after what both have is equal; the rest must be zeros */
    int failed_image;   /* of an error: 0 or 1; < 0: neither */
    int64_t failed_at;  /* and where its request began */
    bool status_failed; /* its block status was not to be had */
} ImageCompareResult;

/**
 * image_co_compare() - do two images show the same?
 *
 * Not strict: the longer one may go on with zeros.  Reads only where one of them has data.
 * Return: 0 and *ret tells; or negative errno with @errp set and *ret->failed_* telling which failed.
 */
int coroutine_fn image_co_compare(const ImageCompareArgs *args, ImageCompareResult *ret,
                                  Error **errp);

/* A range of an image, all of one kind. */
typedef struct ImageMapEntry {
    int64_t start, length;
    unsigned depth; /* 0: the image; 1: its backing file; ...  Filters do not count */
    bool present;   /* decided by the layer at @depth, not by what is below it */
    bool zero;      /* reads as zeros */
    bool data;      /* stored */
    bool compressed;
    bool has_offset;
    int64_t offset;       /* in @file */
    const char *filename; /* of the node that holds it; NULL without an offset.  Borrowed */
} ImageMapEntry;

typedef struct ImageMapArgs {
    BlockBackend *image;
    int64_t start, length; /* cut to what the image has; @length INT64_MAX: to its end */
    /* Told of each range, in order; neighbours of one kind are one.  Must not yield. */
    void (*emit)(void *opaque, const ImageMapEntry *entry);
    void *opaque;
    ImageWatch watch;
} ImageMapArgs;

/* image_co_map() - where does an image have what?  Emits at least one entry, of length 0 for nothing. */
int coroutine_fn image_co_map(const ImageMapArgs *args, Error **errp);

typedef struct ImageConvertArgs {
    BlockBackend *const
        *source; /* one after the other, each a whole number of sectors, zeros at its end */
    size_t n_sources;
    BlockBackend *target; /* writable, and long enough */
    /*
     * Of one source: only what is allocated above this node of its chain, for a target that shows the same below.
     * NULL: everything.
     */
    BlockDriverState *above;
    bool target_is_zero; /* the target reads as zeros all over */
    bool sparse;         /* leave out zeros; else all is written, as data */
    int64_t
        sparse_bytes; /* zeros are looked for in pieces of this; a multiple of sectors, 0: not looked for */
    unsigned requests;         /* 1 .. IMAGE_REQUESTS_MAX pieces at once */
    bool out_of_order;         /* else each is written after the one before it */
    uint64_t bytes_per_second; /* 0: no limit */
    bool salvage;              /* what cannot be read is zeros */
    /* Told of each range that was given up, when @salvage.  May be NULL. */
    void (*lost)(void *opaque, int64_t offset, int64_t bytes, int error);
    /* And of each sector of which it was not to be had what it is; it is read.  May be NULL. */
    void (*status_lost)(void *opaque, int64_t offset, int error);
    ImageWatch watch;
    /*
     * The watch is told of data that is copied, of all there is in the sources, which are asked for it before; else of
     * where in the sources the copy is.
     */
    bool count_data;
    /* Data is written compressed, by whole clusters: the target can do that. */
    bool compress;
    /* Let the system copy data, where it can, without looking for zeros in it. */
    bool copy_range;
} ImageConvertArgs;

/* Where the last source ends: what the target must hold.  Negative errno with @errp. */
int64_t image_convert_length(const ImageConvertArgs *args, Error **errp);

/**
 * image_co_convert() - copy images to a target, and flush it
 *
 * What the target holds behind the end stays.  After an error the target has some of the pieces.
 */
int coroutine_fn image_co_convert(const ImageConvertArgs *args, Error **errp);

typedef struct ImageCommitArgs {
    BlockBackend *top;  /* to be read, sharing all; writable to be emptied */
    BlockBackend *base; /* below it in its chain; writable and resizable, sharing all */
    bool make_empty; /* then nothing is in @top any more: for a base that is its own backing file */
    uint64_t bytes_per_second; /* 0: no limit */
    ImageWatch watch;
} ImageCommitArgs;

/**
 * image_co_commit() - write what layers above a base hold into the base, and flush it
 *
 * A base that is shorter than @top grows.  After an error, or a cancel, the base has some of it, and @top shows
 * what it showed before.
 */
int coroutine_fn image_co_commit(const ImageCommitArgs *args, Error **errp);

typedef struct ImageRebaseArgs {
    BlockBackend *image;       /* writable; with its old backing file, if not @unsafe */
    BlockBackend *new_backing; /* to be read; NULL: none, or @unsafe */
    const char *backing_file, *backing_format; /* what the image shall say of it; NULL: none */
    bool unsafe;                               /* only say it, and let the disk change */
    ImageWatch watch;
} ImageRebaseArgs;

/**
 * image_co_rebase() - give an image another backing file
 *
 * Not @unsafe: what the old one showed and the new one does not is copied into the image first, so that it shows
 * the same as before.  After an error, or a cancel, it has its old backing file.
 * The image is to be closed, and opened again, to be read with the new one.
 */
int coroutine_fn image_co_rebase(const ImageRebaseArgs *args, Error **errp);

#endif
