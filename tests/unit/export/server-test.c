/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Transmission as a client sees it: every command, every framing, and clients who misbehave. */
#include "block/dirty/dirty-bitmap.h"
#include "server-test.h"

static void fill(uint8_t *data, size_t bytes, uint8_t first)
{
    for (size_t i = 0; i < bytes; i++) {
        data[i] = first + i * 7;
    }
}

static void coroutine_fn every_command_works_in_every_framing(void *opaque)
{
    Bench bench = bench_new();
    uint8_t out[8192], in[8192];

    for (NbdMode mode = NBD_MODE_SIMPLE; mode <= NBD_MODE_EXTENDED; mode++) {
        Peer peer = peer_open(bench.path, "disk", mode);
        unsigned flushes = bench.ram->flushes, fua = bench.ram->fua_writes;

        fill(out, sizeof(out), mode);
        g_assert_cmpuint(peer_do(&peer, NBD_CMD_WRITE, 0, 4096, sizeof(out), out), ==, 0);
        g_assert_cmpuint(peer_do(&peer, NBD_CMD_READ, 0, 4096, sizeof(in), in), ==, 0);
        g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
        g_assert_cmpmem(bench.ram->memory + 4096, sizeof(in), out, sizeof(out));
        g_assert_cmpuint(peer_do(&peer, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 0, 512, out), ==, 0);
        g_assert_cmpuint(bench.ram->fua_writes + bench.ram->flushes, >, fua + flushes);
        g_assert_cmpuint(peer_do(&peer, NBD_CMD_FLUSH, 0, 0, 0, NULL), ==, 0);
        g_assert_cmpuint(
            peer_do(&peer, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 4096, 4096, NULL), ==, 0);
        g_assert_true(buffer_is_zero(bench.ram->memory + 4096, 4096));
        g_assert_cmpuint(
            peer_do(&peer, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 8192, 4096, NULL), ==, 0);
        g_assert_cmpuint(peer_do(&peer, NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 0, 4096, NULL), ==, 0);
        g_assert_cmpuint(peer_do(&peer, NBD_CMD_CACHE, 0, 0, DISK_SIZE, NULL), ==, 0);
        g_assert_cmpuint(peer_do(&peer, NBD_CMD_READ, 0, 0, 0, NULL), ==, 0);
        peer_request(&peer, NBD_CMD_DISC, 0, 1, 0, 0, NULL);
        peer_expect_closed(&peer);
        peer_close(&peer);
    }
    g_assert_cmpuint(bench.ram->discards, ==, 3);
    bench_free(&bench);
}

static void coroutine_fn the_largest_block_goes_through_and_one_more_byte_does_not(void *opaque)
{
    Bench bench = bench_new();
    Peer peer = peer_open(bench.path, "disk", NBD_MODE_STRUCTURED);
    g_autofree uint8_t *big = g_malloc(NBD_MAX_BUFFER_SIZE + 1);

    fill(big, NBD_MAX_BUFFER_SIZE, 3);
    g_assert_cmpuint(peer_do(&peer, NBD_CMD_WRITE, 0, 0, NBD_MAX_BUFFER_SIZE, big), ==, 0);
    memset(big, 0, NBD_MAX_BUFFER_SIZE);
    g_assert_cmpuint(peer_do(&peer, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, NBD_MAX_BUFFER_SIZE, big), ==,
                     0);
    g_assert_cmpmem(big, NBD_MAX_BUFFER_SIZE, bench.ram->memory, NBD_MAX_BUFFER_SIZE);
    /* The payload is dropped and the stream stays in step. */
    g_assert_cmpuint(peer_do(&peer, NBD_CMD_WRITE, 0, 0, NBD_MAX_BUFFER_SIZE + 1, big), ==,
                     NBD_EINVAL);
    g_assert_cmpuint(peer_do(&peer, NBD_CMD_WRITE, 0, DISK_SIZE - 512, 4096, big), ==, NBD_ENOSPC);
    g_assert_cmpuint(peer_do(&peer, NBD_CMD_READ, 0, DISK_SIZE - 512, 1024, NULL), ==, NBD_EINVAL);
    g_assert_cmpuint(peer_do(&peer, 77, 0, 0, 0, NULL), ==, NBD_EINVAL);
    g_assert_cmpuint(peer_do(&peer, NBD_CMD_READ, 0, DISK_SIZE - 512, 512, NULL), ==, 0);
    /* Beyond all bounds the connection ends. */
    peer_request(&peer, NBD_CMD_WRITE, 0, 1, 0, NBD_MAX_SKIP + 1, NULL);
    peer_expect_closed(&peer);
    peer_close(&peer);
    bench_free(&bench);
}

static void coroutine_fn a_read_only_export_is_not_written(void *opaque)
{
    Bench bench = bench_new();
    uint8_t data[512] = {1};
    Peer peer;

    bench_export("r", "ro", false, NULL, &error_abort);
    peer = peer_open(bench.path, "ro", NBD_MODE_SIMPLE);
    g_assert_cmpuint(peer_do(&peer, NBD_CMD_WRITE, 0, 0, 512, data), ==, NBD_EPERM);
    g_assert_cmpuint(peer_do(&peer, NBD_CMD_TRIM, 0, 0, 512, NULL), ==, NBD_EPERM);
    g_assert_cmpuint(peer_do(&peer, NBD_CMD_READ, 0, 0, 512, data), ==, 0);
    g_assert_cmpuint(bench.ram->writes, ==, 0);
    peer_close(&peer);
    bench_free(&bench);
}

static void coroutine_fn an_error_of_the_disk_is_the_client_s_answer(void *opaque)
{
    Bench bench = bench_new();
    uint8_t data[512] = {1};

    for (NbdMode mode = NBD_MODE_SIMPLE; mode <= NBD_MODE_EXTENDED; mode++) {
        Peer peer = peer_open(bench.path, "disk", mode);

        bench.ram->fail = -EIO;
        g_assert_cmpuint(peer_do(&peer, NBD_CMD_READ, 0, 0, 512, data), ==, NBD_EIO);
        bench.ram->fail = -ENOSPC;
        g_assert_cmpuint(peer_do(&peer, NBD_CMD_WRITE, 0, 0, 512, data), ==, NBD_ENOSPC);
        bench.ram->fail = 0;
        g_assert_cmpuint(peer_do(&peer, NBD_CMD_WRITE, 0, 0, 512, data), ==, 0);
        peer_close(&peer);
    }
    bench_free(&bench);
}

/* Many requests in one piece: no more than @at_once execute, and all are answered. */
static void coroutine_fn flood(Bench *bench, const char *name, unsigned at_once)
{
    enum { COUNT = 500 };
    Peer peer = peer_open(bench->path, name, NBD_MODE_STRUCTURED);
    g_autofree uint8_t *raw = g_malloc(COUNT * NBD_REQUEST_SIZE);
    bool seen[COUNT] = {false};

    for (int i = 0; i < COUNT; i++) {
        peer_put_request(&peer, raw + i * NBD_REQUEST_SIZE, NBD_CMD_READ, 0, i, i * 4096, 512);
        bench->ram->memory[i * 4096] = i;
    }
    bench->ram->hold = true;
    peer_send(&peer, raw, COUNT * NBD_REQUEST_SIZE);
    while (bench->ram->n_held < at_once) {
        bench_turns(1);
    }
    bench_turns(20);
    g_assert_cmpuint(bench->ram->n_held, ==, at_once);
    ram_let_go(bench->ram);
    for (int i = 0; i < COUNT; i++) {
        Chunk chunk = peer_chunk(&peer, 0);

        g_assert_cmpuint(chunk.cookie, <, COUNT);
        g_assert_false(seen[chunk.cookie]);
        seen[chunk.cookie] = true;
        g_assert_cmpuint(chunk.error, ==, 0);
        g_assert_cmpuint(chunk.data[8], ==, (uint8_t)chunk.cookie);
        g_free(chunk.data);
    }
    peer_close(&peer);
}

/* More than there are slots: N2 holds the rest back. */
static void coroutine_fn a_flood_of_requests_is_answered_in_full(void *opaque)
{
    Bench bench = bench_new();

    flood(&bench, "disk", 64);
    bench_free(&bench);
}

/* N7 */
static void coroutine_fn a_node_may_bound_what_a_client_has_executing(void *opaque)
{
    Bench bench = bench_new();

    bench.bs->bl.max_in_flight = 3;
    g_assert_nonnull(bench_export("few", "few", false, NULL, &error_abort));
    flood(&bench, "few", 3);
    flood(&bench, "few", 3);
    bench_free(&bench);
}

static void coroutine_fn half_a_request_holds_nobody_else(void *opaque)
{
    Bench bench = bench_new();
    Peer slow = peer_open(bench.path, "disk", NBD_MODE_SIMPLE);
    Peer quick = peer_open(bench.path, "disk", NBD_MODE_SIMPLE);
    uint8_t raw[NBD_EXTENDED_REQUEST_SIZE], data[4096] = {0x55};

    peer_put_request(&slow, raw, NBD_CMD_WRITE, 0, 1, 0, 4096);
    peer_send(&slow, raw, NBD_REQUEST_SIZE);
    peer_send(&slow, data, 100);
    bench_turns(20);
    g_assert_cmpuint(peer_do(&quick, NBD_CMD_WRITE, 0, 8192, 4096, data), ==, 0);
    /* It may go on when it likes. */
    bdrv_co_drained_begin(bench.bs);
    bdrv_co_drained_end(bench.bs);
    peer_send(&slow, data + 100, 3996);
    Chunk chunk = peer_chunk(&slow, 0);
    g_assert_cmpuint(chunk.error, ==, 0);
    g_free(chunk.data);
    g_assert_cmpuint(bench.ram->memory[0], ==, 0x55);
    peer_close(&slow);
    peer_close(&quick);
    bench_free(&bench);
}

/* N4 */
static void coroutine_fn a_write_that_did_not_arrive_is_not_executed(void *opaque)
{
    Bench bench = bench_new();
    Peer peer = peer_open(bench.path, "disk", NBD_MODE_SIMPLE);
    uint8_t raw[NBD_EXTENDED_REQUEST_SIZE], data[4096];

    memset(data, 0x77, sizeof(data));
    peer_put_request(&peer, raw, NBD_CMD_WRITE, 0, 1, 0, 4096);
    peer_send(&peer, raw, NBD_REQUEST_SIZE);
    peer_send(&peer, data, 4095);
    bench_turns(5);
    peer_close(&peer);
    bench_turns(20);
    g_assert_cmpuint(bench.ram->writes, ==, 0);
    g_assert_cmpint(blk_exp_del("e", false, &error_abort), ==, 0);
    bench_free(&bench);
}

static void coroutine_fn a_client_that_goes_leaves_its_writes_whole(void *opaque)
{
    Bench bench = bench_new();
    Peer peer = peer_open(bench.path, "disk", NBD_MODE_SIMPLE);
    uint8_t data[4096];

    memset(data, 0x77, sizeof(data));
    bench.ram->hold = true;
    peer_request(&peer, NBD_CMD_WRITE, 0, 1, 0, 4096, data);
    while (bench.ram->n_held == 0) {
        bench_turns(1);
    }
    peer_close(&peer);
    bench_turns(10);
    ram_let_go(bench.ram);
    bench_turns(10);
    g_assert_cmpmem(bench.ram->memory, 4096, data, 4096);
    g_assert_null(blk_exp_next(blk_exp_find("e")));
    bench_free(&bench);
}

/* N4 */
static void coroutine_fn nothing_starts_while_the_node_is_quiesced(void *opaque)
{
    Bench bench = bench_new();
    Peer peer = peer_open(bench.path, "disk", NBD_MODE_SIMPLE);
    uint8_t data[512] = {1};
    Chunk chunk;

    bdrv_co_drained_begin(bench.bs);
    peer_request(&peer, NBD_CMD_WRITE, 0, 1, 0, 512, data);
    peer_request(&peer, NBD_CMD_WRITE, 0, 2, 0, 512, data);
    bench_turns(30);
    g_assert_cmpuint(bench.ram->writes, ==, 0);
    Peer late = peer_open(bench.path, "disk", NBD_MODE_SIMPLE);
    peer_request(&late, NBD_CMD_WRITE, 0, 3, 0, 512, data);
    bench_turns(30);
    g_assert_cmpuint(bench.ram->writes, ==, 0);
    bdrv_co_drained_end(bench.bs);
    for (int i = 0; i < 2; i++) {
        chunk = peer_chunk(&peer, 0);
        g_assert_cmpuint(chunk.error, ==, 0);
        g_free(chunk.data);
    }
    chunk = peer_chunk(&late, 0);
    g_free(chunk.data);
    g_assert_cmpuint(bench.ram->writes, ==, 3);
    peer_close(&peer);
    peer_close(&late);
    bench_free(&bench);
}

static void coroutine_fn a_new_length_is_seen_by_old_and_new_clients(void *opaque)
{
    Bench bench = bench_new();
    Peer peer = peer_open(bench.path, "disk", NBD_MODE_SIMPLE);
    uint8_t data[512] = {1};
    Peer late;

    bdrv_co_drained_begin(bench.bs);
    bench.ram->size = DISK_SIZE / 2;
    bdrv_notify_resized(bench.bs, DISK_SIZE / 2);
    bdrv_co_drained_end(bench.bs);
    g_assert_cmpuint(peer_do(&peer, NBD_CMD_WRITE, 0, DISK_SIZE / 2, 512, data), ==, NBD_ENOSPC);
    late = peer_open(bench.path, "disk", NBD_MODE_SIMPLE);
    g_assert_cmpuint(late.size, ==, DISK_SIZE / 2);
    peer_close(&peer);
    peer_close(&late);
    bench_free(&bench);
}

/* Two extents: [0, 8 KiB) with @first, the rest of 64 KiB with @second. */
static void expect_two_extents(const Chunk *chunk, NbdMode mode, uint32_t context, uint32_t first,
                               uint32_t second)
{
    const uint8_t *at = chunk->data;

    g_assert_cmpuint(ldl_be_p(at), ==, context);
    if (mode == NBD_MODE_EXTENDED) {
        g_assert_cmpuint(chunk->type, ==, NBD_REPLY_TYPE_BLOCK_STATUS_EXT);
        g_assert_cmpuint(chunk->length, ==, 8 + 2 * 16);
        g_assert_cmpuint(ldl_be_p(at + 4), ==, 2);
        g_assert_cmpuint(ldq_be_p(at + 8), ==, 8192);
        g_assert_cmpuint(ldq_be_p(at + 16), ==, first);
        g_assert_cmpuint(ldq_be_p(at + 24), ==, 65536 - 8192);
        g_assert_cmpuint(ldq_be_p(at + 32), ==, second);
    } else {
        g_assert_cmpuint(chunk->type, ==, NBD_REPLY_TYPE_BLOCK_STATUS);
        g_assert_cmpuint(chunk->length, ==, 4 + 2 * 8);
        g_assert_cmpuint(ldl_be_p(at + 4), ==, 8192);
        g_assert_cmpuint(ldl_be_p(at + 8), ==, first);
        g_assert_cmpuint(ldl_be_p(at + 12), ==, 65536 - 8192);
        g_assert_cmpuint(ldl_be_p(at + 16), ==, second);
    }
}

static void coroutine_fn block_status_tells_holes_and_dirty_parts(void *opaque)
{
    Bench bench = bench_new();
    BdrvDirtyBitmap *bitmap = bdrv_create_dirty_bitmap(bench.bs, 4096, "bm:1", &error_abort);
    BlockDirtyBitmapOrStr which = {.type = QTYPE_QSTRING, .u.local = (char *)"bm:1"};
    BlockDirtyBitmapOrStrList list = {.value = &which};
    uint32_t id;

    bdrv_set_dirty_bitmap(bitmap, 0, 8192);
    memset(bench.ram->memory, 1, 8192);
    g_assert_nonnull(bench_export("b", "bits", true, &list, &error_abort));
    g_assert_true(bdrv_dirty_bitmap_busy(bitmap));
    for (NbdMode mode = NBD_MODE_STRUCTURED; mode <= NBD_MODE_EXTENDED; mode++) {
        Peer peer = peer_connect(bench.path);
        Chunk chunk;

        peer_greet(&peer, 3);
        peer_set_mode(&peer, mode);
        g_assert_cmpint(peer_meta(&peer, NBD_OPT_LIST_META_CONTEXT, "bits", "qemu:", &id, 1), ==,
                        1);
        g_assert_cmpint(
            peer_meta(&peer, NBD_OPT_SET_META_CONTEXT, "bits", "qemu:dirty-bitmap:bm:1", &id, 1),
            ==, 1);
        g_assert_cmphex(peer_info(&peer, NBD_OPT_GO, "bits"), ==, NBD_REP_ACK);
        peer_request(&peer, NBD_CMD_BLOCK_STATUS, 0, 1, 0, 65536, NULL);
        chunk = peer_chunk(&peer, 0);
        expect_two_extents(&chunk, mode, id, NBD_STATE_DIRTY, 0);
        g_free(chunk.data);
        peer_close(&peer);

        peer = peer_connect(bench.path);
        peer_greet(&peer, 3);
        peer_set_mode(&peer, mode);
        peer_meta(&peer, NBD_OPT_SET_META_CONTEXT, "bits", "base:allocation", &id, 1);
        g_assert_cmphex(peer_info(&peer, NBD_OPT_GO, "bits"), ==, NBD_REP_ACK);
        peer_request(&peer, NBD_CMD_BLOCK_STATUS, 0, 1, 0, 65536, NULL);
        chunk = peer_chunk(&peer, 0);
        expect_two_extents(&chunk, mode, id, 0, NBD_STATE_HOLE | NBD_STATE_ZERO);
        g_free(chunk.data);
        peer_close(&peer);
    }
    nbd_server_co_stop();
    g_assert_false(bdrv_dirty_bitmap_busy(bitmap));
    bdrv_release_dirty_bitmap(bitmap);
    bench_free(&bench);
}

static void coroutine_fn holes_of_long_reads_are_not_sent(void *opaque)
{
    Bench bench = bench_new();
    Peer peer = peer_open(bench.path, "disk", NBD_MODE_STRUCTURED);
    Chunk chunk;

    memset(bench.ram->memory + 65536, 0x11, 65536);
    peer_request(&peer, NBD_CMD_READ, 0, 1, 0, 3 * 65536, NULL);
    chunk = peer_chunk(&peer, 0);
    g_assert_cmpuint(chunk.type, ==, NBD_REPLY_TYPE_OFFSET_HOLE);
    g_assert_cmpuint(chunk.flags, ==, 0);
    g_assert_cmpuint(ldq_be_p(chunk.data), ==, 0);
    g_assert_cmpuint(ldl_be_p(chunk.data + 8), ==, 65536);
    g_free(chunk.data);
    chunk = peer_chunk(&peer, 0);
    g_assert_cmpuint(chunk.type, ==, NBD_REPLY_TYPE_OFFSET_DATA);
    g_assert_cmpuint(ldq_be_p(chunk.data), ==, 65536);
    g_assert_cmpmem(chunk.data + 8, chunk.length - 8, bench.ram->memory + 65536, 65536);
    g_free(chunk.data);
    chunk = peer_chunk(&peer, 0);
    g_assert_cmpuint(chunk.type, ==, NBD_REPLY_TYPE_OFFSET_HOLE);
    g_assert_cmpuint(chunk.flags, ==, NBD_REPLY_FLAG_DONE);
    g_assert_cmpuint(ldq_be_p(chunk.data), ==, 2 * 65536);
    g_free(chunk.data);
    /* A client that wants one piece gets one. */
    g_assert_cmpuint(peer_do(&peer, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 3 * 65536, NULL), ==, 0);
    peer_close(&peer);
    bench_free(&bench);
}

/* Fifteen chunks at most and then data, whatever the disk looks like. */
static void coroutine_fn a_comb_of_holes_is_bounded(void *opaque)
{
    Bench bench = bench_new();
    Peer peer = peer_open(bench.path, "disk", NBD_MODE_EXTENDED);
    g_autofree uint8_t *all = g_malloc0(MiB);
    uint64_t got = 0;
    unsigned chunks = 0;
    Chunk chunk;

    for (int i = 0; i < 256; i += 2) {
        memset(bench.ram->memory + i * 4096, i + 1, 4096);
    }
    peer_request(&peer, NBD_CMD_READ, 0, 1, 0, MiB, NULL);
    do {
        chunk = peer_chunk(&peer, 0);
        g_assert_cmpuint(chunk.error, ==, 0);
        chunks++;
        if (chunk.type == NBD_REPLY_TYPE_OFFSET_DATA) {
            memcpy(all + ldq_be_p(chunk.data), chunk.data + 8, chunk.length - 8);
            got += chunk.length - 8;
        } else {
            got += ldl_be_p(chunk.data + 8);
        }
        g_free(chunk.data);
    } while (!(chunk.flags & NBD_REPLY_FLAG_DONE));
    g_assert_cmpuint(got, ==, MiB);
    g_assert_cmpuint(chunks, <=, 16);
    g_assert_cmpmem(all, MiB, bench.ram->memory, MiB);
    peer_close(&peer);
    bench_free(&bench);
}

/* N2: half sent large writes may fill the shared memory, and ordinary requests do not notice. */
static void coroutine_fn memory_is_bounded_and_ordinary_requests_pass(void *opaque)
{
    enum { HOGS = 18 }; /* of 30 MiB beyond the reserve each; 512 MiB hold 17 */
    Bench bench = bench_new();
    Peer hogs[HOGS], peer = peer_open(bench.path, "disk", NBD_MODE_SIMPLE);
    g_autofree uint8_t *big = g_malloc0(NBD_MAX_BUFFER_SIZE);
    Chunk chunk;

    for (int i = 0; i < HOGS; i++) {
        hogs[i] = peer_open(bench.path, "disk", NBD_MODE_SIMPLE);
        peer_request(&hogs[i], NBD_CMD_WRITE, 0, 1, 0, NBD_MAX_BUFFER_SIZE, NULL);
        peer_send(&hogs[i], big, 4096);
        bench_turns(20);
    }
    g_assert_cmpuint(peer_do(&peer, NBD_CMD_WRITE, 0, 0, MiB, big), ==, 0);
    peer_request(&peer, NBD_CMD_READ, 0, 2, 0, NBD_MAX_BUFFER_SIZE, NULL);
    bench_turns(100);
    g_assert_cmpuint(bench.ram->reads, ==, 0);
    peer_close(&hogs[0]); /* the last hog has waited longer */
    bench_turns(100);
    g_assert_cmpuint(bench.ram->reads, ==, 0);
    peer_close(&hogs[1]);
    chunk = peer_chunk(&peer, NBD_MAX_BUFFER_SIZE);
    g_assert_cmpuint(chunk.error, ==, 0);
    g_free(chunk.data);
    for (int i = 2; i < HOGS; i++) {
        peer_close(&hogs[i]);
    }
    /* All of it came back. */
    for (int i = 0; i < 2 * HOGS; i++) {
        g_assert_cmpuint(peer_do(&peer, NBD_CMD_READ, 0, 0, NBD_MAX_BUFFER_SIZE, NULL), ==, 0);
    }
    peer_close(&peer);
    bench_free(&bench);
}

int main(int argc, char **argv)
{
    int r;

    bench_init(&argc, &argv);
    TEST("server", every_command_works_in_every_framing);
    TEST("server", the_largest_block_goes_through_and_one_more_byte_does_not);
    TEST("server", a_read_only_export_is_not_written);
    TEST("server", an_error_of_the_disk_is_the_client_s_answer);
    TEST("server", a_flood_of_requests_is_answered_in_full);
    TEST("server", a_node_may_bound_what_a_client_has_executing);
    TEST("server", half_a_request_holds_nobody_else);
    TEST("server", a_write_that_did_not_arrive_is_not_executed);
    TEST("server", a_client_that_goes_leaves_its_writes_whole);
    TEST("server", nothing_starts_while_the_node_is_quiesced);
    TEST("server", a_new_length_is_seen_by_old_and_new_clients);
    TEST("server", block_status_tells_holes_and_dirty_parts);
    TEST("server", holes_of_long_reads_are_not_sent);
    TEST("server", a_comb_of_holes_is_bounded);
    TEST("server", memory_is_bounded_and_ordinary_requests_pass);
    r = g_test_run();
    aio_cleanup();
    return r;
}
