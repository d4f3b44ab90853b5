/* SPDX-License-Identifier: GPL-2.0-or-later */
/* data.h - what the commands share that read or move the data of a disk */
#ifndef IMG_DATA_H
#define IMG_DATA_H

#include "block/image/image.h"
#include "programs/img/img.h"

/* Shows progress (between img_progress_begin() and _end()), and ends when a signal came. */
ImageWatch img_image_watch(void);

#endif
