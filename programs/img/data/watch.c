/* SPDX-License-Identifier: GPL-2.0-or-later */
/* watch.c - operations on whole images, followed by the progress line and ended by signals */
#include "programs/img/data/data.h"

static void show(void *opaque, int64_t done, int64_t total)
{
    img_progress_set(total > 0 ? 100.0 * (double)done / (double)total : 100.0);
}

static bool is_cancelled(void *opaque)
{
    return img_interrupted();
}

ImageWatch img_image_watch(void)
{
    return (ImageWatch){.progress = show, .is_cancelled = is_cancelled};
}
