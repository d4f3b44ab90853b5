/* SPDX-License-Identifier: GPL-2.0-or-later */
/* specific.h - "Format specific information:" */
#ifndef COMMON_SPECIFIC_H
#define COMMON_SPECIFIC_H

#include "qapi/qapi-types-block-query.h"

/* Lines on stdout; nothing where the format says nothing.  @indent: before the first; @level: of the others. */
void img_print_specific(const ImageInfo *info, const char *indent, int level);

#endif
