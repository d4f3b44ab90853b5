/* SPDX-License-Identifier: GPL-2.0-or-later */
/* progress.c - how far a command is: always shown, or asked for by SIGUSR1 */
#include <stdio.h>

#include "programs/img/img.h"
#include "programs/img/run.h"

/* Less than this is not worth a line. */
#define STEP_PERCENT 1.0

static bool shown;
static double current, last_shown;

static void show_once(void)
{
    fprintf(stderr, "    (%3.2f/100%%)\n", current);
}

static void show(void)
{
    printf("    (%3.2f/100%%)\r", current);
    fflush(stdout);
    last_shown = current;
}

void img_progress_begin(bool enabled)
{
    shown = enabled;
    current = 0;
    if (shown) {
        show();
    } else {
        img_set_usr1_hook(show_once);
    }
}

void img_progress_set(double percent)
{
    current = percent;
    if (shown && (current >= last_shown + STEP_PERCENT || (current >= 100 && last_shown < 100))) {
        show();
    }
}

void img_progress_complete(void)
{
    current = 100;
    if (shown) {
        show();
    }
}

void img_progress_end(void)
{
    if (shown) {
        printf("\n");
        shown = false;
    } else {
        img_set_usr1_hook(NULL);
    }
}
