/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Snapshot table entries: from bytes, and back. */
#include "block/drivers/qcow2/layout/snapshot.h"
#include "util/osdep.h"

enum {
    AT_L1_OFFSET = 0,
    AT_L1_SIZE = 8,
    AT_ID_BYTES = 12,
    AT_NAME_BYTES = 14,
    AT_DATE_SEC = 16,
    AT_DATE_NSEC = 20,
    AT_VM_CLOCK = 24,
    AT_VM_STATE = 32,
    AT_EXTRA_BYTES = 36,
    EXTRA_VM_STATE = 0,
    EXTRA_DISK = 8,
    EXTRA_ICOUNT = 16,
};

static void read_extra(const uint8_t *extra, Qcow2Snapshot *s)
{
    uint32_t kept = MIN(s->extra_bytes, (uint32_t)QCOW2_SNAPSHOT_EXTRA_MAX);

    if (s->extra_bytes >= EXTRA_VM_STATE + 8) {
        s->vm_state_bytes = ldq_be_p(extra + EXTRA_VM_STATE);
    }
    if (s->extra_bytes >= EXTRA_DISK + 8) {
        s->disk_bytes = ldq_be_p(extra + EXTRA_DISK);
    }
    if (s->extra_bytes >= EXTRA_ICOUNT + 8) {
        s->icount = ldq_be_p(extra + EXTRA_ICOUNT);
    }
    if (kept > QCOW2_SNAPSHOT_EXTRA_KNOWN) {
        s->unknown_bytes = kept - QCOW2_SNAPSHOT_EXTRA_KNOWN;
        s->unknown = g_memdup2(extra + QCOW2_SNAPSHOT_EXTRA_KNOWN, s->unknown_bytes);
    }
    s->extra_lost = kept < s->extra_bytes;
}

size_t qcow2_snapshot_decode(const uint8_t *buf, size_t len, Qcow2Snapshot *ret)
{
    Qcow2Snapshot s = {.icount = UINT64_MAX};
    uint64_t end, id_bytes, name_bytes;

    if (len < QCOW2_SNAPSHOT_HEAD_BYTES) {
        return 0;
    }
    s.l1_offset = ldq_be_p(buf + AT_L1_OFFSET);
    s.l1_size = ldl_be_p(buf + AT_L1_SIZE);
    s.date_sec = ldl_be_p(buf + AT_DATE_SEC);
    s.date_nsec = ldl_be_p(buf + AT_DATE_NSEC);
    s.vm_clock_ns = ldq_be_p(buf + AT_VM_CLOCK);
    s.vm_state_bytes = ldl_be_p(buf + AT_VM_STATE);
    s.extra_bytes = ldl_be_p(buf + AT_EXTRA_BYTES);
    id_bytes = lduw_be_p(buf + AT_ID_BYTES);
    name_bytes = lduw_be_p(buf + AT_NAME_BYTES);
    end = QCOW2_SNAPSHOT_HEAD_BYTES + (uint64_t)s.extra_bytes + id_bytes + name_bytes;
    if (end > len) {
        return 0;
    }
    read_extra(buf + QCOW2_SNAPSHOT_HEAD_BYTES, &s);
    s.id = g_strndup((const char *)buf + end - name_bytes - id_bytes, id_bytes);
    s.name = g_strndup((const char *)buf + end - name_bytes, name_bytes);
    *ret = s;
    return MIN(ROUND_UP(end, 8), len); /* the last one's padding may be missing */
}

void qcow2_snapshot_clear(Qcow2Snapshot *s)
{
    g_free(s->unknown);
    g_free(s->id);
    g_free(s->name);
    *s = (Qcow2Snapshot){0};
}

static uint32_t extra_to_write(const Qcow2Snapshot *s)
{
    return QCOW2_SNAPSHOT_EXTRA_KNOWN + s->unknown_bytes;
}

size_t qcow2_snapshot_bytes(const Qcow2Snapshot *s)
{
    return ROUND_UP(QCOW2_SNAPSHOT_HEAD_BYTES + extra_to_write(s) + strlen(s->id) + strlen(s->name),
                    8);
}

void qcow2_snapshot_encode(const Qcow2Snapshot *s, uint8_t *buf)
{
    size_t id_bytes = strlen(s->id), name_bytes = strlen(s->name);
    uint8_t *extra = buf + QCOW2_SNAPSHOT_HEAD_BYTES, *text = extra + extra_to_write(s);

    assert(id_bytes <= UINT16_MAX && name_bytes <= UINT16_MAX);
    memset(buf, 0, qcow2_snapshot_bytes(s));
    stq_be_p(buf + AT_L1_OFFSET, s->l1_offset);
    stl_be_p(buf + AT_L1_SIZE, s->l1_size);
    stw_be_p(buf + AT_ID_BYTES, (uint16_t)id_bytes);
    stw_be_p(buf + AT_NAME_BYTES, (uint16_t)name_bytes);
    stl_be_p(buf + AT_DATE_SEC, s->date_sec);
    stl_be_p(buf + AT_DATE_NSEC, s->date_nsec);
    stq_be_p(buf + AT_VM_CLOCK, s->vm_clock_ns);
    stl_be_p(buf + AT_VM_STATE, s->vm_state_bytes <= UINT32_MAX ? (uint32_t)s->vm_state_bytes : 0);
    stl_be_p(buf + AT_EXTRA_BYTES, extra_to_write(s));
    stq_be_p(extra + EXTRA_VM_STATE, s->vm_state_bytes);
    stq_be_p(extra + EXTRA_DISK, s->disk_bytes);
    stq_be_p(extra + EXTRA_ICOUNT, s->icount);
    if (s->unknown_bytes) {
        memcpy(extra + QCOW2_SNAPSHOT_EXTRA_KNOWN, s->unknown, s->unknown_bytes);
    }
    memcpy(text, s->id, id_bytes);
    memcpy(text + id_bytes, s->name, name_bytes);
}
