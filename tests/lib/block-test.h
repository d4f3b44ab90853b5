/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What tests of block rooms share: a main context, tests that run as coroutines, a user at the top of
 * a tree, requests in the background.
 *
 * Everything in the main thread; what has co_ in its name in a coroutine.  Failures abort, naming the
 * caller's line.
 */
#ifndef TESTS_LIB_BLOCK_TEST_H
#define TESTS_LIB_BLOCK_TEST_H

#include <glib.h>
#include "block/graph/graph.h"
#include "block/io/io.h"

/*
 * For main(): set up GTest and the main context, run, clean up.  Tests are added by @add.
 * AIO_ENGINE in the environment chooses: "io_uring", "epoll"; else automatic.
 */
int block_test_main(int argc, char **argv, void (*add)(void));
/* g_test_add_func() for a test that is a coroutine of the main context. */
void block_test_add(const char *path, void (*coroutine_test)(void));

/* SEED from the environment, else one of its own; printed once as a TAP comment. */
uint32_t block_test_seed(void);

/* Whether a sanitizer makes everything some ten times as slow. */
bool block_test_sanitized(void);

/* A file name in a directory that is removed at exit; g_free() it. */
char *block_test_path(const char *name);

/* Options from JSON (%-format as printf), and the node they make; never NULL. */
BlockdevOptions *block_test_options(const char *format, ...) G_GNUC_PRINTF(1, 2);
BlockDriverState *coroutine_fn block_test_co_open(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* The same for options that must be refused, with a message that contains @message. */
void coroutine_fn block_test_co_open_fails(const char *message, const char *format, ...)
    G_GNUC_PRINTF(2, 3);

/*
 * A user above @bs, with everything shared.  It counts drained sections and refuses nothing.
 * It takes a reference of its own on @bs.
 */
BdrvChild *block_test_user(BlockDriverState *bs, uint64_t perm);
void coroutine_fn block_test_co_user_free(BdrvChild *user);
/* How often its node is quiesced now. */
int block_test_user_drained(BdrvChild *user);

/* A request running beside the test; freed by block_test_co_join(). */
typedef struct BlockTestRequest BlockTestRequest;
typedef enum BlockTestOp {
    BLOCK_TEST_READ,
    BLOCK_TEST_WRITE,
    BLOCK_TEST_WRITE_ZEROES,
    BLOCK_TEST_DISCARD,
    BLOCK_TEST_FLUSH,
} BlockTestOp;
/* Writes are of @byte.  Begins at once, in the node's home AioContext (which must be the main one). */
BlockTestRequest *coroutine_fn block_test_co_start(BdrvChild *user, BlockTestOp op, int64_t offset,
                                                   int64_t bytes, uint8_t byte);
bool block_test_done(const BlockTestRequest *req);
/* Wait for its end; its result. */
int coroutine_fn block_test_co_join(BlockTestRequest *req);
/* The same for a read, with the first @bytes of what it read. */
int coroutine_fn block_test_co_join_read(BlockTestRequest *req, void *buf, size_t bytes);

/* Let everything that is ready run; nothing waits for time. */
void coroutine_fn block_test_co_settle(void);

/* Write or check a range of one byte value. */
void coroutine_fn block_test_co_fill(BdrvChild *user, int64_t offset, int64_t bytes, uint8_t byte);
void coroutine_fn block_test_co_expect(BdrvChild *user, int64_t offset, int64_t bytes,
                                       uint8_t byte);

#endif
