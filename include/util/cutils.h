/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cutils.h - numbers, sizes and names as users write them.  Any thread; nothing yields. */
#ifndef UTIL_CUTILS_H
#define UTIL_CUTILS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The number functions: @endptr, if not NULL, gets where the number ended; if NULL the string must
 * end there.  Leading white space is accepted as strtol() does, an empty string is not.
 *
 * Return: 0; -EINVAL, there is no number, or something follows it; -ERANGE, it does not fit
 * (*ret_value is then the nearest that does); *ret_value is 0 after -EINVAL.
 */
int qemu_strtoi(const char *nptr, const char **endptr, int base, int *ret_value);
int qemu_strtoi64(const char *nptr, const char **endptr, int base, int64_t *ret_value);
/* Refuses a minus sign with -ERANGE rather than wrapping around. */
int qemu_strtou64(const char *nptr, const char **endptr, int base, uint64_t *ret_value);

/**
 * qemu_strtosz() - a size: "4096", "64k", "1.5G", "0x1000"
 *
 * Suffixes B k M G T P E, in any case, by 1024; none behind a hexadecimal number.
 * A fraction needs a suffix that gives it a meaning and is rounded down to bytes.  A minus sign is
 * refused.  As above for @endptr and the result; -ERANGE beyond UINT64_MAX.
 */
int qemu_strtosz(const char *nptr, const char **endptr, uint64_t *ret_bytes);
/* The same with M when there is no suffix. */
int qemu_strtosz_MiB(const char *nptr, const char **endptr, uint64_t *ret_bytes);

/* size_to_str() - "64 KiB", "1.5 GiB", "512 B": at most 3 digits' precision; to be g_freed */
char *size_to_str(uint64_t bytes);

/* strstart() - whether @str begins with @prefix; *ret_rest (if not NULL) then follows it */
bool strstart(const char *str, const char *prefix, const char **ret_rest);

/* id_wellformed() - a letter, then letters, digits, '-', '.', '_' */
bool id_wellformed(const char *id);

#endif
