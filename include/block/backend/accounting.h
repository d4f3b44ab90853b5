/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counts of what a user asked of its disk, and how long it took. */
#ifndef BLOCK_BACKEND_ACCOUNTING_H
#define BLOCK_BACKEND_ACCOUNTING_H

#include <stdint.h>
#include <stdbool.h>

typedef enum BlockAcctType {
    BLOCK_ACCT_READ,
    BLOCK_ACCT_WRITE,
    BLOCK_ACCT_FLUSH,
    BLOCK_ACCT_UNMAP,
    BLOCK_ACCT_MAX,
} BlockAcctType;

/* Home AioContext of the backend writes; others may read torn-free single members. */
typedef struct BlockAcctStats {
    uint64_t nr_bytes[BLOCK_ACCT_MAX];
    uint64_t nr_ops[BLOCK_ACCT_MAX];
    uint64_t failed_ops[BLOCK_ACCT_MAX];
    uint64_t invalid_ops[BLOCK_ACCT_MAX];
    uint64_t merged[BLOCK_ACCT_MAX];
    uint64_t total_time_ns[BLOCK_ACCT_MAX];
    int64_t last_access_time_ns;
} BlockAcctStats;

typedef struct BlockAcctCookie {
    int64_t bytes;
    int64_t start_time_ns;
    BlockAcctType type;
} BlockAcctCookie;

/*
 * Reads, writes, discards and flushes through blk_co_*() are counted there, with the time they were held
 * back.  A user that answers requests by other means counts them with these.
 */
void block_acct_start(BlockAcctStats *stats, BlockAcctCookie *cookie, int64_t bytes,
                      BlockAcctType type);
void block_acct_done(BlockAcctStats *stats, BlockAcctCookie *cookie);
void block_acct_failed(BlockAcctStats *stats, BlockAcctCookie *cookie);
void block_acct_invalid(BlockAcctStats *stats, BlockAcctType type);

#endif
