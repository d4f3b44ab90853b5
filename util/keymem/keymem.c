/* SPDX-License-Identifier: GPL-2.0-or-later */
/* keymem.c - pages that are locked, not dumped, and wiped */
#include "util/keymem.h"

#include <sys/mman.h>
#include <unistd.h>

#include "util/osdep.h"

static size_t whole_pages(size_t bytes)
{
    return ROUND_UP(MAX(bytes, (size_t)1), (size_t)sysconf(_SC_PAGESIZE));
}

void *keymem_new(size_t bytes)
{
    size_t size = whole_pages(bytes);
    void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (mem == MAP_FAILED) {
        g_error("cannot allocate %zu bytes for a key", size);
    }
    /* Where the system refuses either, the key is kept all the same. */
    mlock(mem, size);
    madvise(mem, size, MADV_DONTDUMP);
    return mem;
}

void keymem_wipe(void *mem, size_t bytes)
{
    explicit_bzero(mem, bytes);
}

void keymem_free(void *mem, size_t bytes)
{
    size_t size = whole_pages(bytes);

    if (mem) {
        keymem_wipe(mem, bytes);
        munmap(mem, size);
    }
}
