/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * journal-buf.c - records gathered in memory, and their way into the two halves of the journal
 *
 *      add           add            sealed: full, committed, or as old as clean_buf_period
 *       |             |                |
 *       v             v                v
 *     +-----------------+         +--------+--------+            +----------------------+----------------------+
 *     | current buffer  |-------->| queued | queued |----------->| half 0: epoch e      | half 1: epoch e + 1  |
 *     +-----------------+         +--------+--------+  one at    +----------------------+----------------------+
 *       its place is known,         first in, first    a time       | full: records durable, then the owner's
 *       for it was the next free    out                             v checkpoint, while half 1 is being filled
 *                                                                table, bitmap, stable_journal_epoch
 *
 * Why records have a place from the moment they are added: a table record names its epoch, that of the half it is in.
 *
 * One write with a record for its bits, and what a crash leaves of it.  "|" is a flush that must have returned.
 *
 *      step                                    power fails after it: replay finds
 *  t1  data written, change added              nothing of it
 *  t2  buffer sealed                           nothing of it
 *  t3  | data flushed                          nothing of it; the data is there, named by nobody
 *  t4  buffer written                          each of its sectors: absent, torn (void), or whole, and then true
 *  t5  | metadata flushed                      all of it: commit returns 0, the owner is told
 *  t6  the half is full; table, bitmap written as t5, and replay says the same again
 *  t7  | flushed                               as t6
 *  t8  stable_journal_epoch written            table and bitmap have it, the record is void or says the same
 *  t9  | flushed: checkpoint has ended         as t8; the sectors are free
 *  t10 the half is filled again                as t8
 *
 *   J1  A change lies within one filling of one half; the rest of a half that is too small for it stays empty.  Else
 *       a checkpoint could make void the first part of a change whose end is not durable yet, and so was left out.
 *   J2  Buffers are written in the order in which they were sealed, one at a time, and after one that failed none
 *       is: what is in the journal is a beginning of what was added, but for what the last flush does not cover.
 *   J3  If a buffer has plain bitmap records the data is flushed between its sealing and its writing (F2).  A bit
 *       before its data would hide good data of the base.
 *   J4  A ticket is durable after a flush of the metadata that began after its buffer had been written (F4); and of the
 *       data, where that is in a file of its own: a record with checksums does not wait for it.
 *   J5  Before a half is filled again all of its records are durable, the owner has been told so, and his checkpoint
 *       of them has ended (F5, F6).  Nobody waits for that but buffers for that half.
 *   J6  A failure is for ever: nothing is added, written or committed any more.  A flush that succeeds after one that
 *       failed says nothing about what the first should have covered.
 *   J7  A buffer begins at a page of 4 KiB, is a multiple of it, ends with its half at the latest, and is zeros where
 *       no record is.  Storage that replaces pages never touches what was durable before (where journal_offset, as an
 *       old program may have chosen it, is no multiple of 4 KiB, pages of the journal are not storage's).
 *   J8  What is in flight is counted in the node; the timer is not, so it rests while the node is quiesced.
 */
#include "block/drivers/fvd/journal-buf.h"

#include <assert.h>
#include <errno.h>
#include "aio/timer.h"
#include "block/io/io.h"
#include "coro/lock.h"
#include "util/osdep.h"
#include "util/queue.h"

#define PAGE_SECTORS (4 * KiB / FVD_JSECTOR_SIZE)

/* Sectors are of the journal. */
typedef struct JBuf JBuf;
struct JBuf {
    QSIMPLEQ_ENTRY(JBuf) next;
    FvdJTicket ticket; /* number of the buffer */
    uint64_t epoch;
    uint8_t *data;
    uint32_t first; /* in its half */
    uint32_t size;  /* sectors it has room for */
    uint32_t used;  /* of them, the ones that were begun */
    bool has_plain_bits;
};

struct FvdJournal {
    /* Fixed. */
    FvdJournalConfig c;
    uint32_t half_sectors[2];

    /* Where the next buffer goes, and what its sectors are called. */
    uint64_t epoch, sequence;
    uint32_t next; /* in the half of epoch, when there is no current buffer */

    JBuf *current;     /* NULL: none */
    FvdJSector sector; /* its last one; buf NULL: not begun */
    QEMUTimer *timer;  /* NULL: not armed */
    bool expected;     /* the owner holds something back */
    unsigned drained;

    QSIMPLEQ_HEAD(, JBuf) queued_bufs; /* the first one is being written */
    int64_t backlog_bytes;             /* of them */

    /* sealed >= written >= durable */
    FvdJTicket sealed, written, durable;
    FvdJTicket
        seal_wanted; /* the current buffer goes out as soon as none is queued, if it is not above */
    uint64_t written_epoch; /* of the buffer written last */
    uint64_t stable_epoch;  /* checkpoints of all below have ended */
    bool writing;           /* writer_entry() runs, and will look at what is queued again */
    bool checkpointing;
    bool closed;
    bool metadata_err_prohibit_write; /* J6 */
    CoQueue changed;                  /* something of the above */
};

/* -------------------------------------------------------------------------------- places and buffers */

static unsigned half_of(const FvdJournal *j, uint64_t epoch)
{
    return (epoch - j->c.start_epoch) & 1;
}

FvdJournal *fvd_journal_new(const FvdJournalConfig *config)
{
    FvdJournal *j = g_new0(FvdJournal, 1);
    uint32_t pages = config->size / (4 * KiB);

    assert(config->size >= FVD_JOURNAL_BYTES_MIN && config->size <= FVD_JOURNAL_BYTES_MAX);
    assert(config->def_buf_size % (4 * KiB) == 0);
    j->c = *config;
    j->c.def_buf_size = config->def_buf_size ?: FVD_DEF_BUF_SIZE;
    j->c.clean_buf_period_ns = config->clean_buf_period_ns ?: FVD_CLEAN_BUF_PERIOD_NS;
    j->half_sectors[0] = DIV_ROUND_UP(pages, 2) * PAGE_SECTORS;
    j->half_sectors[1] = pages / 2 * PAGE_SECTORS;
    j->epoch = j->written_epoch = j->stable_epoch = config->start_epoch;
    j->sequence = config->start_sequence;
    QSIMPLEQ_INIT(&j->queued_bufs);
    qemu_co_queue_init(&j->changed);
    return j;
}

static void free_buf(JBuf *buf)
{
    if (buf) {
        qemu_vfree(buf->data);
        g_free(buf);
    }
}

static void disarm_timer(FvdJournal *j)
{
    if (j->timer) {
        timer_free(j->timer);
        j->timer = NULL;
    }
}

void fvd_journal_free(FvdJournal *j)
{
    if (j) {
        assert(!j->writing && !j->checkpointing && !j->current && !j->timer);
        qemu_co_queue_destroy(&j->changed);
        g_free(j);
    }
}

uint32_t fvd_journal_change_max(const FvdJournal *j)
{
    return j->half_sectors[1]; /* the smaller one */
}

FvdJTicket fvd_journal_last(const FvdJournal *j)
{
    return j->current ? j->current->ticket : j->sealed;
}

uint64_t fvd_journal_next_epoch(const FvdJournal *j)
{
    return j->epoch + 1;
}

uint64_t fvd_journal_next_sequence(const FvdJournal *j)
{
    return j->sequence;
}

unsigned fvd_journal_half(const FvdJournal *j)
{
    return half_of(j, j->epoch);
}

FvdJTicket fvd_journal_durable(const FvdJournal *j)
{
    return j->durable;
}

/* Sectors of the present filling that were not begun. */
static uint32_t sectors_left(const FvdJournal *j)
{
    uint32_t begun = j->current ? j->current->first + j->current->used : j->next;

    return j->half_sectors[half_of(j, j->epoch)] - begun;
}

static bool open_buf(FvdJournal *j)
{
    uint32_t size = MIN(j->c.def_buf_size / FVD_JSECTOR_SIZE, sectors_left(j));
    uint8_t *data;

    assert(size > 0 && size % PAGE_SECTORS == 0); /* J7 */
    data = qemu_try_blockalign(j->c.metadata->bs, (size_t)size * FVD_JSECTOR_SIZE);
    if (!data) {
        return false;
    }
    j->current = g_new0(JBuf, 1);
    *j->current = (JBuf){
        .ticket = j->sealed + 1,
        .epoch = j->epoch,
        .data = data,
        .first = j->next,
        .size = size,
    };
    return true;
}

static void end_sector(FvdJournal *j)
{
    if (j->sector.buf) {
        fvd_jsector_finish(&j->sector, j->epoch, j->sequence++);
    }
}

/* Bytes that are written of it. */
static int64_t buf_bytes(const JBuf *buf)
{
    return (int64_t)QEMU_ALIGN_UP(buf->used, PAGE_SECTORS) * FVD_JSECTOR_SIZE;
}

static void clean_buf_timer_cb(void *opaque);

/* For the first record of the current buffer, or for what is held back, if there is either. */
static void arm_timer(FvdJournal *j)
{
    if ((j->current || j->expected) && !j->timer && !j->drained) {
        j->timer = aio_timer_new(bdrv_get_aio_context(j->c.node), clean_buf_timer_cb, j);
        timer_mod_ns(j->timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + j->c.clean_buf_period_ns);
    }
}

/* The current buffer, if there is one, does not change any more, and will be written. */
static void seal(FvdJournal *j)
{
    JBuf *buf = j->current;
    size_t used;

    if (!buf) {
        return;
    }
    disarm_timer(j);
    end_sector(j);
    used = (size_t)buf->used * FVD_JSECTOR_SIZE;
    memset(buf->data + used, 0, buf_bytes(buf) - used); /* J7: sectors that were begun are zeroed */
    j->next = buf->first + buf_bytes(buf) / FVD_JSECTOR_SIZE;
    j->sealed = buf->ticket;
    j->backlog_bytes += buf_bytes(buf);
    QSIMPLEQ_INSERT_TAIL(&j->queued_bufs, buf, next);
    j->current = NULL;
    arm_timer(j);
}

/* J6 */
void fvd_journal_fail(FvdJournal *j)
{
    if (j->metadata_err_prohibit_write) {
        return;
    }
    j->metadata_err_prohibit_write = true;
    j->expected = false;
    disarm_timer(j);
    j->sector.buf = NULL;
    j->sealed = fvd_journal_last(j); /* tickets that were given stay what they were */
    free_buf(j->current);
    j->current = NULL;
    /* Those that are queued are the writer's to drop: it may hold one. */
    qemu_co_queue_restart_all(&j->changed);
}

/* --------------------------------------------------------------------------- out of memory, on to disk */

/* J4 */
static int coroutine_fn co_flush_metadata(FvdJournal *j)
{
    FvdJTicket upto = j->written;
    int ret;

    /* Group commit is the flush's own: those who wait for one under way share the next one. */
    ret = j->c.ops->co_flush ? j->c.ops->co_flush(j->c.opaque) : bdrv_co_flush(j->c.metadata->bs);
    if (ret < 0) {
        fvd_journal_fail(j);
    }
    if (j->metadata_err_prohibit_write) {
        return -EIO; /* J6 */
    }
    if (upto > j->durable) {
        j->durable = upto;
        j->c.ops->record_durable(j->c.opaque, upto);
    }
    return 0;
}

/* J5.  The oldest filling: all of it has been written, for a buffer behind it is about to be. */
static void coroutine_fn checkpoint_entry(void *opaque)
{
    FvdJournal *j = opaque;
    FvdJTicket upto = j->written;
    uint64_t stable_epoch = j->stable_epoch + 1;
    int ret = co_flush_metadata(j);

    if (ret == 0) {
        ret = j->c.ops->co_checkpoint(j->c.opaque, half_of(j, j->stable_epoch), upto, stable_epoch);
    }
    if (ret < 0) {
        fvd_journal_fail(j);
    } else {
        j->stable_epoch = stable_epoch;
    }
    j->checkpointing = false;
    qemu_co_queue_restart_all(&j->changed);
    bdrv_dec_in_flight(j->c.node);
}

/* Runs in the journal's context soon, and is in flight until it says that it is not (J8). */
static void start(FvdJournal *j, CoroutineEntry *entry)
{
    bdrv_inc_in_flight(j->c.node);
    aio_co_enter(bdrv_get_aio_context(j->c.node), qemu_coroutine_create(entry, j));
}

/* Waits until the half that @buf is for is free, and has the other one checkpointed if @buf is the first (J5). */
static void coroutine_fn co_wait_half(FvdJournal *j, const JBuf *buf)
{
    while (buf->epoch > j->stable_epoch + 1 && !j->metadata_err_prohibit_write) {
        qemu_co_queue_wait(&j->changed, NULL);
    }
    if (buf->epoch > j->written_epoch && !j->metadata_err_prohibit_write) {
        assert(buf->epoch == j->stable_epoch + 1 && !j->checkpointing);
        j->checkpointing = true;
        start(j, checkpoint_entry);
    }
}

static int coroutine_fn co_write_buf(FvdJournal *j, const JBuf *buf)
{
    unsigned half = half_of(j, buf->epoch);
    int64_t at = buf->first + (half ? j->half_sectors[0] : 0);
    int ret = 0;

    co_wait_half(j, buf);
    if (buf->has_plain_bits && !j->metadata_err_prohibit_write) {
        ret = j->c.ops->co_flush_data(j->c.opaque); /* J3 */
    }
    if (ret < 0 || j->metadata_err_prohibit_write) {
        return -EIO;
    }
    assert(buf->first + buf_bytes(buf) / FVD_JSECTOR_SIZE <= j->half_sectors[half]); /* J7 */
    return bdrv_co_pwrite(j->c.metadata, j->c.offset + at * FVD_JSECTOR_SIZE, buf_bytes(buf),
                          buf->data, 0);
}

static void drop_first(FvdJournal *j)
{
    JBuf *buf = QSIMPLEQ_FIRST(&j->queued_bufs);

    QSIMPLEQ_REMOVE_HEAD(&j->queued_bufs, next);
    j->backlog_bytes -= buf_bytes(buf);
    free_buf(buf);
}

static bool is_current_wanted(const FvdJournal *j)
{
    return j->current && j->current->ticket <= j->seal_wanted;
}

/* One runs at a time (J2), until there is nothing to write. */
static void coroutine_fn writer_entry(void *opaque)
{
    FvdJournal *j = opaque;

    while (!j->metadata_err_prohibit_write) {
        JBuf *buf;

        if (QSIMPLEQ_EMPTY(&j->queued_bufs)) {
            if (!is_current_wanted(j)) {
                break;
            }
            seal(j);
        }
        buf = QSIMPLEQ_FIRST(&j->queued_bufs);
        if (co_write_buf(j, buf) < 0) {
            fvd_journal_fail(j);
            break;
        }
        j->written = buf->ticket;
        j->written_epoch = buf->epoch;
        drop_first(j);
        qemu_co_queue_restart_all(&j->changed);
    }
    while (!QSIMPLEQ_EMPTY(&j->queued_bufs)) {
        drop_first(j); /* J2, J6 */
    }
    j->writing = false;
    qemu_co_queue_restart_all(&j->changed);
    bdrv_dec_in_flight(j->c.node);
}

/* Starts the writer if there is something for it.  It may have run at return, so this comes last. */
static void kick(FvdJournal *j)
{
    if (!j->writing && (!QSIMPLEQ_EMPTY(&j->queued_bufs) || is_current_wanted(j))) {
        j->writing = true;
        start(j, writer_entry);
    }
}

static void clean_buf_timer_cb(void *opaque)
{
    FvdJournal *j = opaque;

    disarm_timer(j);
    if (j->expected) {
        j->expected = false;
        j->c.ops->gather(j->c.opaque);
    }
    j->seal_wanted = MAX(j->seal_wanted, fvd_journal_last(j));
    kick(j);
}

/* ------------------------------------------------------------------------------------- for the owner */

/* Puts all of @change; false: no memory. */
static bool put_change(FvdJournal *j, FvdJChange *change)
{
    for (;;) {
        uint32_t sectors_before = change->n_sectors;
        bool done;

        if (!j->current && !open_buf(j)) {
            return false;
        }
        if (!j->sector.buf) {
            fvd_jsector_start(&j->sector,
                              j->current->data + (size_t)j->current->used++ * FVD_JSECTOR_SIZE);
        }
        done = fvd_jsector_put(&j->sector, change, &j->c.geometry);
        if (change->n_sectors < sectors_before && !change->data_is_durable) {
            j->current->has_plain_bits = true;
        }
        if (done) {
            return true;
        }
        end_sector(j);
        if (j->current->used == j->current->size) {
            seal(j);
        }
    }
}

FvdJTicket fvd_journal_add(FvdJournal *j, const FvdJChange *change)
{
    uint32_t need = fvd_jchange_sectors(change, &j->c.geometry);
    FvdJChange c = *change;
    FvdJTicket ticket;

    assert(!change->n_blocks || j->c.geometry.block_sums);
    if (j->metadata_err_prohibit_write || j->closed) {
        return -EIO;
    }
    if (need > fvd_journal_change_max(j)) {
        return -EINVAL;
    }
    if (need == 0) {
        return fvd_journal_last(j);
    }
    if (need > sectors_left(j)) { /* J1 */
        seal(j);
        j->epoch++;
        j->next = 0;
    }
    c.epoch = j->epoch;
    if (!put_change(j, &c)) {
        fvd_journal_fail(j);
        return -EIO;
    }
    ticket = j->current->ticket;
    arm_timer(j);
    kick(j);
    return ticket;
}

void fvd_journal_expect(FvdJournal *j, bool on)
{
    j->expected = on && !j->metadata_err_prohibit_write && !j->closed;
    arm_timer(j);
}

int coroutine_fn fvd_journal_co_wait_room(FvdJournal *j)
{
    while (j->backlog_bytes > FVD_JOURNAL_BACKLOG_MAX && !j->metadata_err_prohibit_write) {
        qemu_co_queue_wait(&j->changed, NULL);
    }
    return j->metadata_err_prohibit_write ? -EIO : 0;
}

int coroutine_fn fvd_journal_co_commit(FvdJournal *j, FvdJTicket ticket)
{
    assert(ticket >= 0 && ticket <= fvd_journal_last(j));
    j->seal_wanted = MAX(j->seal_wanted, ticket);
    kick(j);
    while (j->written < ticket && !j->metadata_err_prohibit_write) {
        qemu_co_queue_wait(&j->changed, NULL);
    }
    return j->metadata_err_prohibit_write ? -EIO : co_flush_metadata(j);
}

int coroutine_fn fvd_journal_co_close(FvdJournal *j)
{
    int ret;

    assert(!j->closed);
    j->closed = true;
    j->expected = false;
    disarm_timer(j);
    ret = fvd_journal_co_commit(j, fvd_journal_last(j));
    while (j->writing || j->checkpointing) {
        qemu_co_queue_wait(&j->changed, NULL);
    }
    /* A checkpoint that failed meanwhile counts. */
    return j->metadata_err_prohibit_write ? -EIO : ret;
}

/* ------------------------------------------------------------------------------------- quiesced (J8) */

void fvd_journal_drain_begin(FvdJournal *j)
{
    j->drained++;
    disarm_timer(j);
}

void fvd_journal_drain_end(FvdJournal *j)
{
    assert(j->drained > 0);
    j->drained--;
    arm_timer(j);
}
