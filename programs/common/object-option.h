/* SPDX-License-Identifier: GPL-2.0-or-later */
/* object-option.h - --object of the tools: things that options of an image name.  Main thread. */
#ifndef COMMON_OBJECT_OPTION_H
#define COMMON_OBJECT_OPTION_H

#include <stdbool.h>

/* Makes what "TYPE,id=ID,..." or "{...}" says; aio_init() was before.  False: told. */
bool object_option_make(const char *text);
/* All of them go; no image is open. */
void objects_option_clear(void);

#endif
