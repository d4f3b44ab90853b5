/* SPDX-License-Identifier: GPL-2.0-or-later */
/* describe.h - a node and those below it, in words and in JSON */
#ifndef IMG_IMAGE_DESCRIBE_H
#define IMG_IMAGE_DESCRIBE_H

#include "block/image/info.h"
#include "programs/img/img.h"

typedef struct ImgDescription ImgDescription;
struct ImgDescription {
    char *path; /* "/file/file" below the image; NULL: the image */
    char *name; /* of the child; NULL: the image */
    bool is_protocol;
    ImageInfo *info;
    GPtrArray *children; /* of ImgDescription */
};

/* The image @bs and all below it; what a driver cannot tell is left out.  Main context. */
ImgDescription *coroutine_fn img_co_describe(BlockDriverState *bs);
void img_description_free(ImgDescription *d);
/* A new reference. */
json_t *img_description_to_json(const ImgDescription *d);
void img_description_print(const ImgDescription *d);

#endif
