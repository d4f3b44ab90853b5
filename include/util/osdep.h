/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * osdep.h - the small words of C that every room uses
 *
 * Rounding, powers of two, bit scans, units, byte order, aligned memory.  No I/O, no threads.
 * The rounding macros are fit for constants, so they evaluate their arguments more than once.
 */
#ifndef UTIL_OSDEP_H
#define UTIL_OSDEP_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <glib.h> /* the allocation that aborts instead of failing */

/*
 * MIN, MAX - glib's evaluate an argument twice, and may call a function twice; these do not.  The
 * comparison that never runs lets the compiler warn of a mix of signed and unsigned.
 * MIN_CONST, MAX_CONST - for constants, where a statement is not allowed.
 */
#undef MIN
#undef MAX
#define MIN(a, b)                              \
    ({                                         \
        __typeof__(1 ? (a) : (b)) min_a = (a); \
        __typeof__(1 ? (a) : (b)) min_b = (b); \
        if (0) {                               \
            (void)((a) < (b));                 \
        }                                      \
        min_a < min_b ? min_a : min_b;         \
    })
#define MAX(a, b)                              \
    ({                                         \
        __typeof__(1 ? (a) : (b)) max_a = (a); \
        __typeof__(1 ? (a) : (b)) max_b = (b); \
        if (0) {                               \
            (void)((a) < (b));                 \
        }                                      \
        max_a > max_b ? max_a : max_b;         \
    })
#define MIN_CONST(a, b) ((a) < (b) ? (a) : (b))
#define MAX_CONST(a, b) ((a) > (b) ? (a) : (b))

/* Units.  64-bit, so that 8 * TiB is what it says. */
#define KiB (INT64_C(1) << 10)
#define MiB (INT64_C(1) << 20)
#define GiB (INT64_C(1) << 30)
#define TiB (INT64_C(1) << 40)
#define PiB (INT64_C(1) << 50)
#define EiB (INT64_C(1) << 60)

#define SCALE_MS 1000000
#define SCALE_US 1000
#define SCALE_NS 1

#define NANOSECONDS_PER_SECOND INT64_C(1000000000)

/* The sector of the formats and exported interfaces that count in sectors. */
#define BDRV_SECTOR_BITS 9
#define BDRV_SECTOR_SIZE (INT64_C(1) << BDRV_SECTOR_BITS)

#ifndef likely
#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif

#ifndef container_of
#define container_of(ptr, type, member)                                  \
    ({                                                                   \
        const __typeof__(((type *)0)->member) *container_of_ptr = (ptr); \
        (type *)((char *)container_of_ptr - offsetof(type, member));     \
    })
#endif

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#endif

#define QEMU_BUILD_BUG_ON(condition)           _Static_assert(!(condition), "not expected: " #condition)
#define QEMU_BUILD_BUG_MSG(condition, message) _Static_assert(!(condition), message)

/* Any divisor, non-negative n. */
#ifndef DIV_ROUND_UP
#define DIV_ROUND_UP(n, d) (((n) + (d)-1) / (d))
#endif
#define QEMU_ALIGN_DOWN(n, m) ((n) / (m) * (m))
#define QEMU_ALIGN_UP(n, m)   QEMU_ALIGN_DOWN((n) + (m)-1, (m))
#define QEMU_IS_ALIGNED(n, m) (((n) % (m)) == 0)

/* Powers of two only; the result has the type of n + d. */
#define ROUND_DOWN(n, d) ((n) & ~((__typeof__((n) + (d)))(d)-1))
#define ROUND_UP(n, d)   (((n) + (d)-1) & ~((__typeof__((n) + (d)))(d)-1))

#define QEMU_ALIGN_PTR_DOWN(p, m) ((__typeof__(p))QEMU_ALIGN_DOWN((uintptr_t)(p), (uintptr_t)(m)))
#define QEMU_ALIGN_PTR_UP(p, m)   ((__typeof__(p))QEMU_ALIGN_UP((uintptr_t)(p), (uintptr_t)(m)))
#define QEMU_PTR_IS_ALIGNED(p, m) QEMU_IS_ALIGNED((uintptr_t)(p), (uintptr_t)(m))

/* is_power_of_2() - zero is not one */
static inline bool is_power_of_2(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/* Bit scans.  A scan of zero returns the width of the type. */
static inline int ctz32(uint32_t value)
{
    return value ? __builtin_ctz(value) : 32;
}

static inline int ctz64(uint64_t value)
{
    return value ? __builtin_ctzll(value) : 64;
}

static inline int clz32(uint32_t value)
{
    return value ? __builtin_clz(value) : 32;
}

static inline int clz64(uint64_t value)
{
    return value ? __builtin_clzll(value) : 64;
}

static inline int ctpop64(uint64_t value)
{
    return __builtin_popcountll(value);
}

/* pow2floor() - the largest power of two that is not larger; zero for zero */
static inline uint64_t pow2floor(uint64_t value)
{
    return value ? UINT64_C(1) << (63 - clz64(value)) : 0;
}

/* pow2ceil() - the smallest power of two that is not smaller; 1 for zero, 0 if none fits */
static inline uint64_t pow2ceil(uint64_t value)
{
    if (value <= 1) {
        return 1;
    }
    return value > (UINT64_C(1) << 63) ? 0 : UINT64_C(1) << (64 - clz64(value - 1));
}

/*
 * Byte order.  cpu_to_be32() and its kin turn numbers; ldl_be_p() and its kin read and write
 * memory of any alignment.  b, w, l, q: 1, 2, 4, 8 bytes.
 */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define UTIL_LE(bits, value) (value)
#define UTIL_BE(bits, value) __builtin_bswap##bits(value)
#else
#define UTIL_LE(bits, value) __builtin_bswap##bits(value)
#define UTIL_BE(bits, value) (value)
#endif

#define UTIL_BYTE_ORDER(order, MACRO, bits, letter)                              \
    static inline uint##bits##_t cpu_to_##order##bits(uint##bits##_t value)      \
    {                                                                            \
        return MACRO(bits, value);                                               \
    }                                                                            \
    static inline uint##bits##_t order##bits##_to_cpu(uint##bits##_t value)      \
    {                                                                            \
        return MACRO(bits, value);                                               \
    }                                                                            \
    static inline void st##letter##_##order##_p(void *ptr, uint##bits##_t value) \
    {                                                                            \
        uint##bits##_t raw = MACRO(bits, value);                                 \
        memcpy(ptr, &raw, sizeof(raw));                                          \
    }                                                                            \
    static inline uint##bits##_t ld##letter##_##order##_p(const void *ptr)       \
    {                                                                            \
        uint##bits##_t raw;                                                      \
        memcpy(&raw, ptr, sizeof(raw));                                          \
        return MACRO(bits, raw);                                                 \
    }

UTIL_BYTE_ORDER(le, UTIL_LE, 16, w)
UTIL_BYTE_ORDER(be, UTIL_BE, 16, w)
UTIL_BYTE_ORDER(le, UTIL_LE, 32, l)
UTIL_BYTE_ORDER(be, UTIL_BE, 32, l)
UTIL_BYTE_ORDER(le, UTIL_LE, 64, q)
UTIL_BYTE_ORDER(be, UTIL_BE, 64, q)

/* QEMU's names for the unsigned 16-bit loads. */
#define lduw_le_p(ptr) ldw_le_p(ptr)
#define lduw_be_p(ptr) ldw_be_p(ptr)

static inline uint8_t ldub_p(const void *ptr)
{
    return *(const uint8_t *)ptr;
}

static inline void stb_p(void *ptr, uint8_t value)
{
    *(uint8_t *)ptr = value;
}

/**
 * qemu_try_memalign() - memory at a multiple of @alignment (a power of two)
 *
 * Return: the memory, contents undefined, freed with qemu_vfree(); NULL when there is none.
 * A size of zero gives a pointer that can be freed.
 */
void *qemu_try_memalign(size_t alignment, size_t size) G_GNUC_WARN_UNUSED_RESULT;

/* qemu_memalign() - the same, but aborts the program when there is no memory */
void *qemu_memalign(size_t alignment, size_t size) G_GNUC_WARN_UNUSED_RESULT;

/* qemu_vfree() - give back what qemu_memalign() gave; NULL is fine */
void qemu_vfree(void *ptr);

/* buffer_is_zero() - whether all @size bytes are zero; true for a size of zero; any alignment */
bool buffer_is_zero(const void *buf, size_t size);

#endif
