/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Image locks: the bytes of a file that QEMU locks (open file description locks) to tell other
 * processes what it does with the image and what it lets them do.
 *
 * Byte 100 + n: somebody uses permission n.  Byte 200 + n: somebody does not share permission n.
 */
#ifndef BLOCK_OPEN_IMAGE_LOCK_H
#define BLOCK_OPEN_IMAGE_LOCK_H

#include <stdbool.h>
#include <stdint.h>
#include "util/error.h"

#define RAW_LOCK_PERM_BASE   100
#define RAW_LOCK_SHARED_BASE 200

/* Does the file system of @fd do OFD locks? */
bool image_lock_supported(int fd);
/* Take the locks for @perm/@shared on top of those already held for @old_*; then check others. */
int image_lock_acquire(int fd, uint64_t perm, uint64_t shared, Error **errp);
int image_lock_check(int fd, uint64_t perm, uint64_t shared, const char *filename, Error **errp);
/* Keep the locks of exactly @perm/@shared, release all others. */
int image_lock_reduce(int fd, uint64_t perm, uint64_t shared, Error **errp);

#endif
