/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Timers and the clock, which a test may replace by a virtual one. */
#ifndef AIO_TIMER_H
#define AIO_TIMER_H

#include "aio/aio.h"

typedef enum QEMUClockType {
    QEMU_CLOCK_REALTIME, /* monotonic; virtual in a test that asks for it */
    QEMU_CLOCK_HOST,     /* wall clock, for timestamps only */
} QEMUClockType;

int64_t qemu_clock_get_ns(QEMUClockType type);

/*
 * Virtual time: the realtime clock stands still while anything is ready to run and jumps to the next
 * deadline when all is idle.  For tests; before any timer is armed; main context only.
 */
void qemu_clock_set_virtual(bool on);

typedef struct QEMUTimer QEMUTimer;
/* Home thread of @ctx for all of these. */
QEMUTimer *aio_timer_new(AioContext *ctx, QEMUTimerCB *cb, void *opaque);
void timer_mod_ns(QEMUTimer *timer, int64_t expire_ns); /* absolute, QEMU_CLOCK_REALTIME */
void timer_del(QEMUTimer *timer);
bool timer_pending(const QEMUTimer *timer);
void timer_free(QEMUTimer *timer);

#endif
