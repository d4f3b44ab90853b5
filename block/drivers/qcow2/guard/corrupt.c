/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Damage: said once, written into the header, and nothing is made worse afterwards. */
#include <stdarg.h>
#include "block/drivers/qcow2/qcow2-int.h"
#include "util/log.h"
#include "util/osdep.h"

static void set_corrupt(Qcow2Header *next, const void *opaque)
{
    next->incompatible |= QCOW2_INCOMPATIBLE_CORRUPT;
}

void coroutine_fn qcow2_co_corrupt(Qcow2State *s, bool fatal, int64_t offset, int64_t bytes,
                                   const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    fatal = fatal && s->writable;
    if (fatal ? s->corrupt : s->reported || s->corrupt) {
        return;
    }
    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (fatal) {
        log_message(LOG_LEVEL_ERROR,
                    "qcow2: Marking image as corrupt: %s; further corruption events will be "
                    "suppressed",
                    text);
        s->corrupt = true;
        if (s->header.version >= 3) {
            qcow2_co_change_header(s, set_corrupt,
                                   NULL); /* whether it is said or not, nothing is written */
        }
    } else {
        log_message(LOG_LEVEL_ERROR,
                    "qcow2: Image is corrupt: %s; further non-fatal corruption events will be "
                    "suppressed",
                    text);
        s->reported = true;
    }
}
