/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * keymem.h - memory for passphrases and keys
 *
 * Pages of their own: locked, so that they do not go to swap, where the system's limit on locked memory allows
 * it; left out of core dumps; wiped before they are given back.  Any thread.
 */
#ifndef UTIL_KEYMEM_H
#define UTIL_KEYMEM_H

#include <stddef.h>

/* keymem_new() - @bytes of zeros, at least one page; aborts where there is no memory, as g_malloc() does */
void *keymem_new(size_t bytes);

/* keymem_free() - wipe and give back; @bytes as asked for.  NULL is fine. */
void keymem_free(void *mem, size_t bytes);

/* keymem_wipe() - zeros, also where the compiler sees that nobody reads them */
void keymem_wipe(void *mem, size_t bytes);

#endif
