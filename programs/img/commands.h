/* SPDX-License-Identifier: GPL-2.0-or-later */
/* commands.h - the commands there are; main.c has the table */
#ifndef IMG_COMMANDS_H
#define IMG_COMMANDS_H

#include "programs/img/img.h"

/* image/ */
extern const ImgCommand img_amend, img_check, img_create, img_info, img_measure, img_resize;

/* data/ */
extern const ImgCommand img_bench;
extern const ImgCommand img_commit;
extern const ImgCommand img_compare;
extern const ImgCommand img_convert;
extern const ImgCommand img_dd;
extern const ImgCommand img_map;
extern const ImgCommand img_rebase;

#endif
