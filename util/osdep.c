/* SPDX-License-Identifier: GPL-2.0-or-later */
/* osdep.c - aligned memory, and the question whether memory is zero */
#include "util/osdep.h"

#include <stdlib.h>

void *qemu_try_memalign(size_t alignment, size_t size)
{
    void *ptr;

    assert(is_power_of_2(alignment));
    /* posix_memalign() wants at least a pointer's alignment. */
    if (posix_memalign(&ptr, MAX(alignment, sizeof(void *)), MAX(size, (size_t)1)) != 0) {
        return NULL;
    }
    return ptr;
}

void *qemu_memalign(size_t alignment, size_t size)
{
    void *ptr = qemu_try_memalign(alignment, size);

    if (!ptr) {
        g_error("cannot allocate %zu bytes aligned to %zu", size, alignment);
    }
    return ptr;
}

void qemu_vfree(void *ptr)
{
    free(ptr);
}

/* 16 bytes: what every x86-64 and aarch64 has in one register.  Any alignment, any aliasing. */
typedef uint64_t ZeroVector __attribute__((vector_size(16), aligned(1), may_alias));

/* Bytes between two decisions: enough to keep the loads going, few enough to stop early. */
#define ZERO_STEP 128

bool buffer_is_zero(const void *buf, size_t size)
{
    const unsigned char *bytes = buf;
    const unsigned char *end = bytes + size;

    if (size == 0) {
        return true;
    }
    /* Data is mostly not zero in its first, last or middle byte. */
    if (bytes[0] | bytes[size - 1] | bytes[size / 2]) {
        return false;
    }
    for (; (size_t)(end - bytes) >= ZERO_STEP; bytes += ZERO_STEP) {
        const ZeroVector *v = (const ZeroVector *)(const void *)bytes;
        ZeroVector any = (v[0] | v[1] | v[2] | v[3]) | (v[4] | v[5] | v[6] | v[7]);

        if (any[0] | any[1]) {
            return false;
        }
    }
    for (; (size_t)(end - bytes) >= sizeof(uint64_t); bytes += sizeof(uint64_t)) {
        if (ldq_le_p(bytes)) {
            return false;
        }
    }
    for (; bytes < end; bytes++) {
        if (*bytes) {
            return false;
        }
    }
    return true;
}
