/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbd-request - what a client sends in transmission: headers are decoded and judged as the server does
 *
 * Input: one byte of settings, eight of the export's size, then headers one after another.  What passes
 * the check is held against what the rest of the server relies on.
 */
#include <assert.h>
#include "block/export/nbd/nbd-format.h"
#include "util/osdep.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void judge(const NbdRequestHeader *header, const NbdRequestLimits *limits)
{
    bool ranged = header->type != NBD_CMD_FLUSH && header->type != NBD_CMD_DISC;
    NbdVerdict verdict;

    nbd_request_check(header, limits, &verdict);
    assert(verdict.fatal == (verdict.payload > NBD_MAX_SKIP));
    assert(verdict.payload == 0 || verdict.payload == header->length);
    if (verdict.error) {
        assert(verdict.why);
        return;
    }
    assert(nbd_cmd_name(header->type));
    if (ranged) {
        assert(header->offset <= (uint64_t)limits->size);
        assert(header->length <= (uint64_t)limits->size - header->offset);
        assert((header->offset | header->length) % limits->alignment == 0);
    }
    if (header->type == NBD_CMD_READ || header->type == NBD_CMD_WRITE) {
        assert(header->length <= NBD_MAX_BUFFER_SIZE);
    }
    if (header->type == NBD_CMD_WRITE) {
        assert(verdict.payload == header->length && !limits->read_only);
    } else if (ranged) {
        assert(verdict.payload == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    NbdRequestLimits limits;
    size_t step;

    if (size < 9) {
        return 0;
    }
    limits.mode = data[0] % 3;
    limits.read_only = data[0] & 4;
    limits.has_contexts = data[0] & 8;
    limits.alignment = 1u << (data[0] >> 4);
    limits.size = ldq_be_p(data + 1) & INT64_MAX;
    step = nbd_request_size(limits.mode);
    for (data += 9, size -= 9; size >= step; data += step, size -= step) {
        NbdRequestHeader header;

        if (!nbd_request_decode(data, limits.mode, &header)) {
            return 0;
        }
        judge(&header, &limits);
    }
    return 0;
}
