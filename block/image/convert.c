/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Convert: copies what images show to a target, several pieces at once.
 *
 *     sources    |   disk.0             | disk.1    |      each of whole sectors
 *     status     | data | zeros | data  | data      |      asked once for a run: the ask lock
 *     pieces     | 0 | 1|   2   | 3 | 4 | 5 | 6 | 7 |      taken in order, by whichever worker is free
 *     workers      a   b    a     b   c   a             read ─▶ wait for the turn ─▶ write ─▶ next
 *
 * Reads are made in any order.  Writes are made in the order of the pieces, one after the other, so that a file
 * grows from its begin and an image has its clusters in the order of the disk; out_of_order gives that up, and the
 * target is written by all workers at once.
 *
 * CV1  Each piece is taken by one worker, and the pieces cover the sources once: the cursor moves under ask_lock
 *      only, also over a status query.
 * CV2  A piece has its turn, whatever becomes of it: a worker that has failed passes the turn on, or those behind
 *      it would wait for ever.
 * CV3  After the first error, or a cancel, no new piece is taken, and none that was read is written.
 * CV4  Zeros are left out only where the target was promised to be zero (target_is_zero), or says so itself.
 *      With @above, what is below shows through in both, and is nobody's piece;
 *      but behind the end of @above the source has zeros, which the target may have no reason to have.
 * CV5  To be compressed, pieces of data and of zeros end where clusters of the target do, or at the end: a cluster that
 *      has some of both, or of two sources, is data.
 */
#include <errno.h>
#include <inttypes.h>
#include "aio/timer.h"
#include "block/copy/copy.h"
#include "block/image/image-int.h"
#include "coro/sleep.h"
#include "util/osdep.h"
#include "util/ratelimit.h"

/* Zeros that are written at once: a target that cannot write zeros cheaply writes as much out meanwhile. */
#define ZERO_PIECE_BYTES (256 * MiB)
/* A cancel is looked for as often while the rate limit makes us wait, and pieces are made to last no longer. */
#define RATE_SLICE_NS    (100 * SCALE_MS)
/* With a rate below this pieces get no smaller: they would be all overhead. */
#define RATE_PIECE_BYTES (64 * KiB)

typedef enum PieceKind { PIECE_DATA, PIECE_ZERO, PIECE_SKIP } PieceKind;

typedef struct Piece {
    PieceKind kind;
    int64_t offset, bytes; /* in the target */
    size_t source;
    int64_t source_offset;
    uint64_t turn;
} Piece;

typedef struct Convert {
    /* Fixed. */
    const ImageConvertArgs *args;
    int64_t *begin; /* of each source, in the target; and of the end */
    BlockCopy copy;
    CopyPool *pool;
    int64_t chunk_bytes;
    int64_t cluster_bytes; /* compressed: pieces are of whole ones, CV5; else 0 */

    /* Under ask_lock. */
    CoMutex ask_lock;
    int64_t cursor;
    PieceKind known_kind; /* of what is up to known_until */
    int64_t known_until;
    uint64_t next_turn;

    int64_t total; /* of what done counts */
    uint64_t turn; /* whose write comes next */
    CoQueue turns;
    RateLimit limit;
    int64_t done;
    ImageTeam team;
    /* The first error: CV3. */
    int ret;
    bool error_is_read;
    int64_t error_offset;
} Convert;

static int64_t source_length(const ImageConvertArgs *args, size_t i, Error **errp)
{
    int64_t length = blk_getlength(args->source[i]);

    if (length < 0) {
        error_setg_errno(errp, -length, "Could not get the size of an image to convert");
    }
    return length;
}

/* All but the last end with a sector. */
int64_t image_convert_length(const ImageConvertArgs *args, Error **errp)
{
    int64_t total = 0;

    for (size_t i = 0; i < args->n_sources; i++) {
        int64_t length = source_length(args, i, errp);

        if (length < 0) {
            return length;
        }
        total = ROUND_UP(total, BDRV_SECTOR_SIZE);
        if (length > BDRV_MAX_LENGTH - total) {
            error_setg(errp, "The images are too large together");
            return -EFBIG;
        }
        total += length;
    }
    return total;
}

static bool is_over(void *opaque)
{
    Convert *c = opaque;

    return c->ret < 0 || image_is_cancelled(&c->args->watch);
}

static void failed(Convert *c, int ret, bool is_read, int64_t offset)
{
    if (c->ret == 0) {
        c->ret = ret;
        c->error_is_read = is_read;
        c->error_offset = offset;
    }
}

/*
 * The status of a range of source @i.  To be salvaged: where it is not to be had the range is halved, until what is
 * taken for data, to be read, is one sector.
 */
static int coroutine_fn ask_status(Convert *c, size_t i, int64_t offset, int64_t bytes,
                                   int64_t *pnum)
{
    const ImageConvertArgs *args = c->args;
    int status;

    for (;;) {
        status = blk_co_block_status_above(args->source[i], args->above, offset, bytes, pnum, NULL,
                                           NULL);
        if (status >= 0 && *pnum == 0) {
            status = -EIO; /* it has become shorter */
        }
        if (status >= 0 || !args->salvage) {
            return status;
        }
        if (bytes <= BDRV_SECTOR_SIZE) {
            break;
        }
        bytes = MAX(QEMU_ALIGN_DOWN(bytes / 2, BDRV_SECTOR_SIZE), BDRV_SECTOR_SIZE);
    }
    if (args->status_lost) {
        args->status_lost(args->watch.opaque, offset, -status);
    }
    *pnum = bytes;
    return BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED;
}

/* Locked.  What the source has at the cursor, and how far. */
static int coroutine_fn learn_kind(Convert *c, size_t i)
{
    const ImageConvertArgs *args = c->args;
    int64_t offset = c->cursor - c->begin[i], pnum;
    int64_t length = blk_getlength(args->source[i]);
    BlockDriverState *above = args->above;
    int status;

    if (length < 0) {
        return length;
    }
    if (offset >= length) { /* up to where the next one begins */
        c->known_kind = PIECE_ZERO;
        c->known_until = c->begin[i + 1];
        return 0;
    }
    if (!args->sparse && !above) {
        c->known_kind = PIECE_DATA;
        c->known_until = c->begin[i] + length;
        return 0;
    }
    status = ask_status(c, i, offset, length - offset, &pnum);
    if (status < 0) {
        return status;
    }
    c->known_kind = status & BDRV_BLOCK_ZERO && args->sparse ? PIECE_ZERO : PIECE_DATA;
    if (above && !(status & BDRV_BLOCK_ALLOCATED)) { /* CV4 */
        int64_t above_length = bdrv_getlength(above);

        if (above_length < 0) {
            return above_length;
        }
        c->known_kind = offset < above_length ? PIECE_SKIP : PIECE_ZERO;
        pnum = offset < above_length ? MIN(pnum, above_length - offset) : pnum;
    }
    c->known_until = c->begin[i] + offset + pnum;
    return 0;
}

/* CV5 */
static int coroutine_fn learn(Convert *c, size_t i)
{
    int64_t end = c->begin[c->args->n_sources], from = c->cursor, whole;
    int ret = learn_kind(c, i);

    if (ret < 0 || !c->cluster_bytes || c->known_until >= end) {
        return ret;
    }
    whole = QEMU_ALIGN_DOWN(c->known_until, c->cluster_bytes);
    if (c->known_kind == PIECE_DATA || whole <= from) {
        c->known_kind = PIECE_DATA;
        whole = MIN(QEMU_ALIGN_UP(c->known_until, c->cluster_bytes), end);
    }
    c->known_until = whole;
    return 0;
}

/* Locked.  Cuts the next piece off what is known. */
static void cut_piece(Convert *c, size_t i, Piece *ret_piece)
{
    int64_t bytes = c->known_until - c->cursor;

    if (c->known_kind == PIECE_DATA) { /* ends where whole chunks end: requests are aligned */
        bytes = MIN(bytes, c->chunk_bytes - c->cursor % c->chunk_bytes);
    } else if (c->known_kind == PIECE_ZERO && !c->copy.target_is_zero) {
        bytes = MIN(bytes, c->args->sparse ? ZERO_PIECE_BYTES : c->chunk_bytes);
    }
    *ret_piece = (Piece){
        .kind = c->known_kind,
        .offset = c->cursor,
        .bytes = bytes,
        .source = i,
        .source_offset = c->cursor - c->begin[i],
        .turn = c->next_turn++,
    };
    c->cursor += bytes;
}

static size_t source_at_cursor(const Convert *c)
{
    size_t i = 0;

    while (c->begin[i + 1] <= c->cursor) {
        i++;
    }
    return i;
}

/* Nobody works yet.  Return: 0, or negative errno, and c->ret is set. */
static int coroutine_fn count_data(Convert *c)
{
    int64_t end = c->begin[c->args->n_sources];

    c->total = 0;
    while (c->cursor < end && !image_is_cancelled(&c->args->watch)) {
        int ret = learn(c, source_at_cursor(c));

        if (ret < 0) {
            failed(c, ret, true, c->cursor);
            return ret;
        }
        c->total += c->known_kind == PIECE_DATA ? c->known_until - c->cursor : 0;
        c->cursor = c->known_until;
    }
    c->cursor = c->known_until = 0;
    return 0;
}

/* CV1.  False: there is none, or it is over. */
static bool coroutine_fn take_piece(Convert *c, Piece *ret_piece)
{
    int64_t end = c->begin[c->args->n_sources];
    bool found = false;
    int ret = 0;

    qemu_co_mutex_lock(&c->ask_lock);
    if (!is_over(c) && c->cursor < end) {
        size_t i = source_at_cursor(c);

        if (c->cursor >= c->known_until) {
            ret = learn(c, i);
        }
        if (ret < 0) {
            failed(c, ret, true, c->cursor);
        } else {
            cut_piece(c, i, ret_piece);
            found = true;
        }
    }
    qemu_co_mutex_unlock(&c->ask_lock);
    return found;
}

static void coroutine_fn wait_for_rate(Convert *c, const Piece *piece)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    int64_t until = now;

    if (piece->kind == PIECE_DATA) {
        until += ratelimit_calculate_delay(&c->limit, piece->bytes, now);
    }
    while (now < until && !is_over(c)) {
        qemu_co_sleep_ns(MIN(until - now, (int64_t)RATE_SLICE_NS));
        now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    }
}

/*
 * A range that could not be read at once is halved, until what is lost is as small as a request can be: a disk that
 * has lost a sector costs a few reads more, and only that sector.
 */
static void coroutine_fn salvage(Convert *c, const Piece *piece, int64_t pos, int64_t bytes,
                                 uint8_t *buf, int ret)
{
    BlockBackend *source = c->args->source[piece->source];
    int64_t align = MAX(BDRV_SECTOR_SIZE, (int64_t)blk_get_request_alignment(source));
    int64_t half = ROUND_UP(bytes / 2, align);

    if (bytes <= align) {
        memset(buf + pos, 0, bytes);
        if (c->args->lost) {
            c->args->lost(c->args->watch.opaque, piece->source_offset + pos, bytes, -ret);
        }
        return;
    }
    for (int i = 0; i < 2 && !is_over(c); i++) {
        int64_t begin = i ? pos + half : pos, n = i ? bytes - half : half;

        ret = n > 0 ? blk_co_pread(source, piece->source_offset + begin, n, buf + begin, 0) : 0;
        if (ret < 0) {
            salvage(c, piece, begin, n, buf, ret);
        }
    }
}

/* Of one source, or of what is between two. */
static void coroutine_fn read_part(Convert *c, const Piece *piece, uint8_t *buf)
{
    int64_t length = blk_getlength(c->args->source[piece->source]);
    int64_t n = MIN(piece->bytes, MAX(length - piece->source_offset, INT64_C(0)));
    int ret = length < 0 ? (int)length : 0;

    memset(buf + n, 0, piece->bytes - n);
    if (ret == 0 && n > 0) {
        ret = blk_co_pread(c->args->source[piece->source], piece->source_offset, n, buf, 0);
    }
    if (ret < 0 && c->args->salvage) {
        salvage(c, piece, 0, n, buf, ret);
    } else if (ret < 0) {
        failed(c, ret, true, piece->source_offset);
    }
}

static void coroutine_fn read_piece(Convert *c, const Piece *piece, uint8_t *buf)
{
    Piece part = *piece;

    if (piece->kind == PIECE_ZERO) { /* to be written out */
        memset(buf, 0, piece->bytes);
        return;
    }
    for (int64_t done = 0; done < piece->bytes; done += part.bytes) { /* CV5 */
        part.bytes = MIN(piece->bytes - done, c->begin[part.source + 1] - piece->offset - done);
        read_part(c, &part, buf + done);
        part.source++;
        part.source_offset = 0;
    }
}

/* CV4.  At rest a backing file, too, stays as it is, so what it shows counts. */
static int coroutine_fn write_zeroes(Convert *c, int64_t offset, int64_t bytes)
{
    if (c->copy.target_is_zero) {
        return 0;
    }
    while (bytes > 0 && !is_over(c)) {
        int64_t pnum;
        int ret =
            blk_co_block_status_above(c->args->target, NULL, offset, bytes, &pnum, NULL, NULL);

        if (ret < 0 || pnum == 0) {
            pnum = bytes; /* it cannot tell: all of it is written */
            ret = 0;
        }
        if (!(ret & BDRV_BLOCK_ZERO)) {
            ret = block_copy_zeroes(&c->copy, offset, pnum);
            if (ret < 0) {
                return ret;
            }
        }
        offset += pnum;
        bytes -= pnum;
    }
    return 0;
}

static void coroutine_fn write_piece(Convert *c, const Piece *piece, const uint8_t *buf)
{
    BlockCopy plain = c->copy;
    int ret;

    if (is_over(c)) { /* CV3 */
        return;
    }
    plain.write_flags &= ~BDRV_REQ_WRITE_COMPRESSED;
    if (buf && c->cluster_bytes && piece->bytes % c->cluster_bytes &&
        piece->offset + piece->bytes < c->copy.length) { /* part of a cluster of a longer target */
        ret = block_copy_write(&plain, piece->offset, piece->bytes, buf);
    } else if (!buf) {
        ret = write_zeroes(c, piece->offset, piece->bytes);
    } else if (c->copy.cluster_bytes > 0) {
        ret = block_copy_write(&c->copy, piece->offset, piece->bytes, buf);
    } else {
        ret = bdrv_co_pwrite(c->copy.target, piece->offset, piece->bytes, buf, c->copy.write_flags);
    }
    if (ret < 0 && ret != -ECANCELED) {
        failed(c, ret, false, piece->offset);
    } else if (ret < 0 && !image_is_cancelled(&c->args->watch)) {
        failed(c, ret, false, piece->offset); /* the target's own -ECANCELED */
    }
}

/* CV2 */
static void coroutine_fn wait_for_turn(Convert *c, const Piece *piece)
{
    while (!c->args->out_of_order && c->turn != piece->turn) {
        qemu_co_queue_wait(&c->turns, NULL);
    }
}

static void pass_turn(Convert *c, const Piece *piece)
{
    if (!c->args->out_of_order) {
        c->turn++;
        qemu_co_queue_restart_all(&c->turns);
    }
    if (!c->args->count_data || piece->kind == PIECE_DATA) {
        c->done += piece->bytes;
        image_progress(&c->args->watch, c->done, c->total);
    }
}

/* By the system; -ENOTSUP: it has to be read and written. */
static int coroutine_fn copy_range(Convert *c, const Piece *piece)
{
    BlockDriverState *file = NULL;
    int64_t pnum, map;
    int status = bdrv_co_block_status(blk_bs(c->args->source[piece->source]), piece->source_offset,
                                      piece->bytes, &pnum, &map, &file);

    if (status < 0 || pnum < piece->bytes || !(status & BDRV_BLOCK_DATA) ||
        !(status & BDRV_BLOCK_OFFSET_VALID) || !file || c->copy.write_flags) {
        return -ENOTSUP;
    }
    return bdrv_co_copy_range(file, map, c->copy.target, piece->offset, piece->bytes);
}

/* The piece has its turn.  False: it has to be read and written. */
static bool coroutine_fn offload(Convert *c, const Piece *piece)
{
    int ret = is_over(c) ? 0 : copy_range(c, piece);

    if (ret < 0 && ret != -ENOTSUP) {
        failed(c, ret, false, piece->offset);
    }
    return ret != -ENOTSUP;
}

static void coroutine_fn do_piece(Convert *c, const Piece *piece)
{
    bool is_bytes = piece->kind == PIECE_DATA || (piece->kind == PIECE_ZERO && !c->args->sparse);
    uint8_t *buf = NULL;

    if (is_bytes) {
        wait_for_rate(c, piece);
    }
    if (piece->kind == PIECE_DATA && c->args->copy_range) {
        wait_for_turn(c, piece);
        if (offload(c, piece)) {
            pass_turn(c, piece);
            return;
        }
    }
    if (is_bytes) {
        buf = copy_pool_get(c->pool);
        if (!is_over(c)) {
            read_piece(c, piece, buf);
        }
    }
    wait_for_turn(c, piece);
    if (piece->kind != PIECE_SKIP) {
        write_piece(c, piece, buf);
    }
    pass_turn(c, piece);
    if (buf) {
        copy_pool_put(c->pool, buf);
    }
}

static void coroutine_fn work(void *opaque)
{
    Convert *c = opaque;
    Piece piece;

    while (take_piece(c, &piece)) {
        do_piece(c, &piece);
    }
    image_team_leave(&c->team);
}

static int coroutine_fn learn_cluster(Convert *c, Error **errp)
{
    BlockDriverInfo info = {0};
    int ret;

    if (!c->args->compress) {
        return 0;
    }
    if (!(blk_bs(c->args->target)->supported_write_flags & BDRV_REQ_WRITE_COMPRESSED)) {
        error_setg(errp, "Compression not supported for this file format");
        return -ENOTSUP;
    }
    ret = bdrv_co_get_info(blk_bs(c->args->target), &info);
    if (ret < 0 || info.cluster_size == 0) {
        error_setg(errp, "could not get block driver info");
        return ret < 0 ? ret : -ENOTSUP;
    }
    c->cluster_bytes = info.cluster_size;
    return 0;
}

static int prepare(Convert *c, Error **errp)
{
    const ImageConvertArgs *args = c->args;
    int64_t length = image_convert_length(args, errp), target_length, begin = 0;

    if (length < 0) {
        return length;
    }
    target_length = blk_getlength(args->target);
    if (target_length < 0) {
        error_setg_errno(errp, -target_length, "Could not get the size of the target");
        return target_length;
    }
    if (target_length < length) {
        error_setg(errp, "output file is smaller than input file");
        return -ENOSPC;
    }
    c->begin = g_new0(int64_t, args->n_sources + 1);
    for (size_t i = 0; i < args->n_sources; i++) {
        int64_t n = source_length(args, i, errp);

        if (n < 0) {
            return n;
        }
        c->begin[i] = begin;
        begin = ROUND_UP(begin + n, BDRV_SECTOR_SIZE);
    }
    /* The last one's sector may be cut by the end of the target. */
    c->begin[args->n_sources] = MIN(begin, target_length);
    c->total = c->begin[args->n_sources];
    c->chunk_bytes = IMAGE_CHUNK_BYTES;
    if (args->bytes_per_second > 0) {
        uint64_t slice = args->bytes_per_second / (NANOSECONDS_PER_SECOND / RATE_SLICE_NS);

        c->chunk_bytes = slice < IMAGE_CHUNK_BYTES
                             ? MAX(ROUND_DOWN((int64_t)slice, RATE_PIECE_BYTES), RATE_PIECE_BYTES)
                             : IMAGE_CHUNK_BYTES;
        ratelimit_set_speed(&c->limit, args->bytes_per_second, RATE_SLICE_NS);
    }
    c->chunk_bytes = MAX(c->chunk_bytes, c->cluster_bytes);
    c->pool = copy_pool_new(blk_bs(args->target), c->chunk_bytes, args->requests);
    if (!copy_pool_has_memory(c->pool)) {
        error_setg(errp, "Not enough memory");
        return -ENOMEM;
    }
    c->copy = (BlockCopy){
        .target = blk_root(args->target),
        .cluster_bytes = args->sparse_bytes ? MAX(args->sparse_bytes, c->cluster_bytes) : 0,
        .length = target_length,
        .write_flags = (blk_get_enable_write_cache(args->target) ? 0 : BDRV_REQ_FUA) |
                       (args->compress ? BDRV_REQ_WRITE_COMPRESSED : 0),
        .target_is_zero = args->target_is_zero && args->sparse,
        .is_over = is_over,
        .opaque = c,
    };
    return 0;
}

static int coroutine_fn finish(Convert *c, Error **errp)
{
    int ret;

    if (c->ret < 0) {
        error_setg_errno(errp, -c->ret, "error while %s at byte %" PRId64,
                         c->error_is_read ? "reading" : "writing", c->error_offset);
        return c->ret;
    }
    if (image_is_cancelled(&c->args->watch)) {
        return image_cancelled(errp);
    }
    ret = blk_co_flush(c->args->target);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "error while flushing the target");
    }
    return ret;
}

int coroutine_fn image_co_convert(const ImageConvertArgs *args, Error **errp)
{
    Convert c = {.args = args};
    int ret;

    assert(args->requests >= 1 && args->requests <= IMAGE_REQUESTS_MAX);
    assert(!args->above || args->n_sources == 1);
    qemu_co_mutex_init(&c.ask_lock);
    qemu_co_queue_init(&c.turns);
    ret = learn_cluster(&c, errp);
    if (ret == 0) {
        ret = prepare(&c, errp);
    }
    if (ret == 0) {
        if (!args->count_data || count_data(&c) == 0) {
            for (unsigned i = 0; i < args->requests; i++) {
                image_team_start(&c.team, work, &c);
            }
            image_team_wait(&c.team);
        }
        ret = finish(&c, errp);
    }
    copy_pool_free(c.pool);
    qemu_co_queue_destroy(&c.turns);
    qemu_co_mutex_destroy(&c.ask_lock);
    g_free(c.begin);
    return ret;
}
