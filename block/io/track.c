/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tracked requests: who is where in a node, and who must wait for whom.
 *
 *     A: write  0........4096                 plain requests may overlap: a guest that writes one
 *     B: write      2048........6144          place twice at once gets either
 *     C: 512 bytes at 4608, padded to [4096, 8192) and made serialising: its read-modify-write must
 *        see no change of those bytes between its read and its write.  C waits for B; whoever comes
 *        after C and overlaps it waits for C.
 *
 * T1  A request is in the list from before its first look at the others until its last effect.
 * T2  Two requests that overlap, one of them serialising, do not run at once.
 * T3  A request that waits itself is not waited for: of two that would wait for each other the one
 *     that came to wait first is the one that is woken last, and no circle forms.
 * T4  Requests of one node are tracked in its home AioContext.  A node that is read-only has none
 *     to wait for and is entered from anywhere: its reads are not tracked.
 * T5  A read through a backing edge does not wait.  An overlay may be the target to which the old
 *     contents of a serialising write are being copied; its own copy-on-write would wait for that write.
 */
#include <inttypes.h>
#include "block/io/internal.h"
#include "util/osdep.h"
#include "util/textbuf.h"

void tracked_request_begin(BdrvTrackedRequest *req, BlockDriverState *bs, int64_t offset,
                           int64_t bytes, BdrvTrackedRequestType type, BdrvRequestFlags flags)
{
    *req = (BdrvTrackedRequest){
        .bs = bs,
        .offset = offset,
        .bytes = bytes,
        .type = type,
        .flags = flags,
        .overlap_offset = offset,
        .overlap_bytes = bytes,
        .co = qemu_coroutine_self(),
    };
    qemu_co_queue_init(&req->wait_queue);
    QLIST_INSERT_HEAD(&bs->tracked_requests, req, list); /* T1 */
}

void tracked_request_end(BdrvTrackedRequest *req)
{
    if (req->serialising) {
        req->bs->serialising_in_flight--;
    }
    QLIST_REMOVE(req, list);
    qemu_co_queue_restart_all(&req->wait_queue);
    qemu_co_queue_destroy(&req->wait_queue);
}

void tracked_request_set_serialising(BdrvTrackedRequest *req, uint64_t align)
{
    int64_t start = QEMU_ALIGN_DOWN(req->offset, (int64_t)align);
    int64_t end = QEMU_ALIGN_UP(req->offset + req->bytes, (int64_t)align);

    if (!req->serialising) {
        req->serialising = true;
        req->bs->serialising_in_flight++;
    }
    end = MAX(end, req->overlap_offset + req->overlap_bytes);
    req->overlap_offset = MIN(start, req->overlap_offset);
    req->overlap_bytes = end - req->overlap_offset;
}

static BdrvTrackedRequest *find_conflict(const BdrvTrackedRequest *self)
{
    BdrvTrackedRequest *req;

    if (self->bs->serialising_in_flight == 0) {
        return NULL;
    }
    QLIST_FOREACH (req, &self->bs->tracked_requests, list) {
        if (req == self || (!req->serialising && !self->serialising) ||
            req->overlap_offset >= self->overlap_offset + self->overlap_bytes ||
            self->overlap_offset >= req->overlap_offset + req->overlap_bytes) {
            continue;
        }
        /* A coroutine that waited for a request of its own would never wake. */
        assert(req->co != self->co);
        if (!req->waiting_for) { /* T3 */
            return req;
        }
    }
    return NULL;
}

bool tracked_request_would_wait(const BdrvTrackedRequest *req)
{
    return find_conflict(req) != NULL;
}

/* T2 */
void coroutine_fn tracked_request_wait(BdrvTrackedRequest *self)
{
    BdrvTrackedRequest *req;

    while ((req = find_conflict(self))) {
        self->waiting_for = req;
        qemu_co_queue_wait(&req->wait_queue, NULL);
        self->waiting_for = NULL;
    }
}

void bdrv_tracked_request_to_text(TextBuf *out, const BdrvTrackedRequest *req)
{
    static const char *const types[] = {"read", "write", "discard", "truncate"};

    textbuf_printf(out, "%s %" PRId64 "+%" PRId64 "%s%s", types[req->type], req->offset, req->bytes,
                   req->serialising ? " serialising" : "", req->waiting_for ? " waiting" : "");
}
