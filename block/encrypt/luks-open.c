/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * luks-open.c - the key of an image out of its header
 *
 *      header ─▶ for each active slot: material ─▶ worker: luks_slot_open() ─▶ the key, or the next slot
 *
 * The header says how long that takes, and anybody may have made it: a timer ends what takes longer than any
 * honest image.
 */
#include <errno.h>
#include <string.h>

#include "aio/thread-pool.h"
#include "aio/timer.h"
#include "block/encrypt/encrypt-int.h"
#include "util/keymem.h"
#include "util/osdep.h"

typedef struct SlotJob {
    const LuksUnlock *u;
    unsigned slot;
    uint8_t *material, *key;
} SlotJob;

static int open_slot_in_worker(void *opaque)
{
    SlotJob *job = opaque;
    const Secret *secret = job->u->secret;

    return luks_slot_open(job->u->header, job->slot, secret->data, secret->bytes, job->material,
                          job->key, job->u->cancelled);
}

int coroutine_fn luks_co_try_slot(const LuksUnlock *u, unsigned slot, uint8_t *ret_key,
                                  Error **errp)
{
    size_t bytes = luks_material_bytes(u->header);
    SlotJob job = {.u = u, .slot = slot, .material = keymem_new(bytes), .key = ret_key};
    int ret = u->file->co_read(u->file->opaque, luks_material_offset(u->header, slot), job.material,
                               bytes);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read key slot %u", slot);
    } else {
        ret = thread_pool_submit_co(open_slot_in_worker, &job);
        if (ret < 0 && ret != -EACCES) {
            error_setg_errno(errp, -ret, "Could not open key slot %u", slot);
        }
    }
    keymem_free(job.material, bytes);
    return ret;
}

int coroutine_fn luks_co_unlock(const LuksUnlock *u, uint8_t *ret_key, Error **errp)
{
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        int ret = u->header->slots[i].active ? luks_co_try_slot(u, i, ret_key, errp) : -EACCES;

        if (ret != -EACCES) {
            return ret;
        }
    }
    error_setg(errp, "Invalid password, cannot unlock any keyslot");
    return -EACCES;
}

typedef struct Limit {
    bool *cancelled;
    bool passed;
} Limit;

static void limit_passed(void *opaque)
{
    Limit *limit = opaque;

    limit->passed = true;
    __atomic_store_n(limit->cancelled, true, __ATOMIC_RELAXED);
}

int coroutine_fn luks_co_unlock_in_time(const LuksUnlock *u, uint8_t *ret_key, Error **errp)
{
    Limit limit = {.cancelled = u->cancelled};
    QEMUTimer *timer = aio_timer_new(qemu_get_current_aio_context(), limit_passed, &limit);
    Error *err = NULL;
    int ret;

    timer_mod_ns(timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                            ENCRYPTION_OPEN_SECONDS_MAX * NANOSECONDS_PER_SECOND);
    ret = luks_co_unlock(u, ret_key, &err);
    timer_free(timer);
    if (limit.passed && ret < 0) {
        error_setg(errp, "Opening the key slots takes longer than %d seconds",
                   ENCRYPTION_OPEN_SECONDS_MAX);
        error_free(err);
        return -ETIMEDOUT;
    }
    if (err) {
        error_propagate(errp, err);
    }
    return ret;
}

static int coroutine_fn co_read_header(BlockEncryption *e, const EncryptionFile *file, Error **errp)
{
    uint8_t raw[LUKS_HEADER_BYTES];
    int ret = file->co_read(file->opaque, 0, raw, sizeof(raw));

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Unable to read LUKS header");
        return ret;
    }
    return luks_header_decode(raw, e->detached, &e->header, errp);
}

static int coroutine_fn co_find_key(BlockEncryption *e, const EncryptionFile *file,
                                    const EncryptionOpenArgs *args, Error **errp)
{
    const LuksHeader *h = &e->header;
    uint8_t *key = keymem_new(h->key_bytes);
    bool nobody = false;
    Secret *secret = secret_ref_by_id(args->key_secret, errp);
    LuksUnlock u = {.header = h,
                    .file = file,
                    .secret = secret,
                    .cancelled = args->cancelled ? args->cancelled : &nobody};
    int ret = secret ? luks_co_unlock_in_time(&u, key, errp) : -EINVAL;

    if (ret == 0) {
        ret = encryption_co_set_key(e, &h->spec, key, h->key_bytes, errp);
    }
    secret_unref(secret);
    keymem_free(key, h->key_bytes);
    return ret;
}

BlockEncryption *coroutine_fn encryption_co_open_luks(const EncryptionFile *file,
                                                      const EncryptionOpenArgs *args, Error **errp)
{
    BlockEncryption *e;
    int ret = 0;

    if (!args->no_key && !args->key_secret) {
        error_setg(errp, "Parameter '%skey-secret' is required for cipher", args->prefix);
        return NULL;
    }
    e = encryption_new(args);
    e->is_luks = true;
    ret = co_read_header(e, file, errp);
    if (ret == 0 && !args->no_key) {
        ret = co_find_key(e, file, args, errp);
    }
    if (ret < 0) {
        encryption_free(e);
        return NULL;
    }
    return e;
}
