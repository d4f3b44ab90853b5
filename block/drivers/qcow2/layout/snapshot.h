/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * snapshot.h - entries of the table of internal snapshots
 *
 *      | 40 bytes | extra data: size of the VM state, size of the disk, icount, ... | id | name | padding to 8 |
 *
 * Pure.
 */
#ifndef BLOCK_DRIVERS_QCOW2_LAYOUT_SNAPSHOT_H
#define BLOCK_DRIVERS_QCOW2_LAYOUT_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QCOW2_SNAPSHOT_HEAD_BYTES  40
/* What version 3 must have: state and disk size; and what this version knows. */
#define QCOW2_SNAPSHOT_EXTRA_V3    16
#define QCOW2_SNAPSHOT_EXTRA_KNOWN 24
/* Future extensions are some fields.  As QEMU has it. */
#define QCOW2_SNAPSHOT_EXTRA_MAX   1024

typedef struct Qcow2Snapshot {
    uint64_t l1_offset;
    uint32_t l1_size;
    uint32_t date_sec, date_nsec;
    uint64_t vm_clock_ns;
    uint64_t vm_state_bytes;
    uint64_t disk_bytes;  /* 0: the entry does not say */
    uint64_t icount;      /* UINT64_MAX: none */
    uint32_t extra_bytes; /* as in the entry, or to be written */
    uint8_t *unknown;     /* what is behind the extra data that is known; owned */
    uint32_t unknown_bytes;
    bool extra_lost; /* there was more of it than QCOW2_SNAPSHOT_EXTRA_MAX: @unknown is cut off */
    char *id, *name; /* owned */
} Qcow2Snapshot;

/*
 * qcow2_snapshot_decode() - one entry
 * @buf: @len bytes, from its begin to the end of what there is
 *
 * Return: its bytes with padding, *ret is for qcow2_snapshot_clear(); 0: it goes on behind @len.
 */
size_t qcow2_snapshot_decode(const uint8_t *buf, size_t len, Qcow2Snapshot *ret);
void qcow2_snapshot_clear(Qcow2Snapshot *s);

/* Bytes of the entry in a table; it has extra data at least as version 3 must. */
size_t qcow2_snapshot_bytes(const Qcow2Snapshot *s);
void qcow2_snapshot_encode(const Qcow2Snapshot *s, uint8_t *buf);

#endif
