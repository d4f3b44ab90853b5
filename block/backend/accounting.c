/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counts of requests.  One thread writes, others may look: each member is read and written whole, and
 * no order between two of them is promised.
 */
#include <assert.h>
#include "aio/timer.h"
#include "block/backend/accounting.h"

static void add(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

void block_acct_start(BlockAcctStats *stats, BlockAcctCookie *cookie, int64_t bytes,
                      BlockAcctType type)
{
    assert(type < BLOCK_ACCT_MAX);
    assert(bytes >= 0);
    cookie->bytes = bytes;
    cookie->type = type;
    cookie->start_time_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
}

static void account_time(BlockAcctStats *stats, const BlockAcctCookie *cookie)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

    add(&stats->total_time_ns[cookie->type], now - cookie->start_time_ns);
    __atomic_store_n(&stats->last_access_time_ns, now, __ATOMIC_RELAXED);
}

void block_acct_done(BlockAcctStats *stats, BlockAcctCookie *cookie)
{
    add(&stats->nr_bytes[cookie->type], cookie->bytes);
    add(&stats->nr_ops[cookie->type], 1);
    account_time(stats, cookie);
}

void block_acct_failed(BlockAcctStats *stats, BlockAcctCookie *cookie)
{
    add(&stats->failed_ops[cookie->type], 1);
    account_time(stats, cookie);
}

void block_acct_invalid(BlockAcctStats *stats, BlockAcctType type)
{
    assert(type < BLOCK_ACCT_MAX);
    add(&stats->invalid_ops[type], 1);
    __atomic_store_n(&stats->last_access_time_ns, qemu_clock_get_ns(QEMU_CLOCK_REALTIME),
                     __ATOMIC_RELAXED);
}
