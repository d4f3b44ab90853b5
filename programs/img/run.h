/* SPDX-License-Identifier: GPL-2.0-or-later */
/* run.h - what run.c offers to progress.c alone */
#ifndef IMG_RUN_H
#define IMG_RUN_H

/* @hook is called in the main thread, soon after each SIGUSR1; NULL: that signal ends the process again. */
void img_set_usr1_hook(void (*hook)(void));

#endif
