/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * witness - tells whether a copy of a disk is that disk at one instant
 *
 *      witness fill FILE BYTES SEED HOLES      a disk of numbered sectors, HOLES per cent of it holes
 *      witness write ...                       numbered writes over NBD, with a log of when each was
 *                                              sent and acknowledged            (writer.c)
 *      witness check ...                       finds after how many writes the source looked like
 *                                              the copy, and when that was      (checker.c)
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "witness.h"

#define SECTOR_MAGIC UINT64_C(0x73656e7469776c62)
/* A run of the filled disk that is either data or a hole: a cluster of most formats. */
#define FILL_RUN     65536

typedef struct SectorHead {
    uint64_t magic;
    uint64_t number;
    uint64_t offset;
    uint32_t writer;
    uint32_t disk;
} SectorHead;

void witness_die(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    fputs("witness: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

uint64_t witness_number(const char *option, const char *text)
{
    char *end;
    uint64_t value;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno || end == text || *end) {
        witness_die("%s wants a number, not '%s'", option, text);
    }
    return value;
}

uint64_t witness_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

void witness_sector(uint8_t *sector, uint32_t writer, uint32_t disk, uint64_t number,
                    uint64_t offset)
{
    SectorHead head = {SECTOR_MAGIC, number, offset, writer, disk};
    uint64_t state =
        (number + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ offset ^ ((uint64_t)writer << 40);

    state = state ? state : 1;
    memcpy(sector, &head, sizeof(head));
    for (size_t i = sizeof(head); i < WITNESS_SECTOR; i += sizeof(state)) {
        uint64_t word = witness_random(&state);

        memcpy(sector + i, &word, sizeof(word));
    }
}

bool witness_sector_parse(const uint8_t *sector, uint32_t disk, uint64_t offset,
                          uint32_t *ret_writer, uint64_t *ret_number)
{
    SectorHead head;
    uint8_t whole[WITNESS_SECTOR];

    memcpy(&head, sector, sizeof(head));
    if (head.magic != SECTOR_MAGIC || head.offset != offset || head.disk != disk) {
        return false;
    }
    witness_sector(whole, head.writer, disk, head.number, offset);
    if (memcmp(whole, sector, WITNESS_SECTOR)) {
        return false;
    }
    *ret_writer = head.writer;
    *ret_number = head.number;
    return true;
}

static int witness_fill(int argc, char **argv)
{
    static uint8_t run[FILL_RUN];
    uint64_t bytes, state, holes;
    int fd;

    if (argc != 4) {
        witness_die("usage: witness fill FILE BYTES SEED HOLES");
    }
    bytes = witness_number("BYTES", argv[1]);
    state = witness_number("SEED", argv[2]) * 2 + 1;
    holes = witness_number("HOLES", argv[3]);
    fd = open(argv[0], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0) {
        witness_die("cannot make '%s': %s", argv[0], strerror(errno));
    }
    for (uint64_t at = 0; at < bytes; at += FILL_RUN) {
        size_t length = bytes - at < FILL_RUN ? bytes - at : FILL_RUN;

        if (witness_random(&state) % 100 < holes) {
            continue;
        }
        memset(run, 0, sizeof(run));
        for (size_t i = 0; i + WITNESS_SECTOR <= length; i += WITNESS_SECTOR) {
            witness_sector(run + i, WITNESS_FILLER, 0, 0, at + i);
        }
        if (pwrite(fd, run, length, (off_t)at) != (ssize_t)length) {
            witness_die("cannot write '%s': %s", argv[0], strerror(errno));
        }
    }
    return close(fd) < 0;
}

int main(int argc, char **argv)
{
    if (argc >= 2 && !strcmp(argv[1], "fill")) {
        return witness_fill(argc - 2, argv + 2);
    }
    if (argc >= 2 && !strcmp(argv[1], "write")) {
        return witness_write(argc - 1, argv + 1);
    }
    if (argc >= 2 && !strcmp(argv[1], "check")) {
        return witness_check(argc - 1, argv + 1);
    }
    witness_die("usage: witness fill|write|check ...");
}
