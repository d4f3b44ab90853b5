/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * luks-amend.c - key slots filled and erased
 *
 *      fill:   passphrase opens the image ─▶ key ─▶ slot's material ─| flush |─▶ header: active      (E1)
 *      erase:  slots found ─▶ each: material overwritten ─| flush |─▶ header: not active             (E2)
 *
 * The last slot is the disk: without it nobody can read it any more.  So it is erased by force only, and a
 * slot that is active is filled by force only, which erases it first.
 */
#include <errno.h>
#include <inttypes.h>

#include "block/encrypt/encrypt-int.h"
#include "crypto/hash.h"
#include "util/keymem.h"
#include "util/osdep.h"

typedef struct Amend {
    BlockEncryption *e;
    const EncryptionFile *file;
    const QCryptoBlockAmendOptionsLUKS *o;
    bool force;
    bool *cancelled; /* never NULL */
} Amend;

static int check_slot_number(const QCryptoBlockAmendOptionsLUKS *o, Error **errp)
{
    if (o->has_keyslot && (o->keyslot < 0 || o->keyslot >= LUKS_SLOTS)) {
        error_setg(errp, "Invalid keyslot %" PRId64 " specified, must be between 0 and %d",
                   o->keyslot, LUKS_SLOTS - 1);
        return -EINVAL;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------- erase */

static int coroutine_fn co_erase_slot(Amend *a, unsigned slot, Error **errp)
{
    LuksHeader *h = &a->e->header;
    size_t bytes = luks_material_bytes(h);
    g_autofree uint8_t *noise = g_malloc(bytes);
    int ret;

    crypto_random(noise, bytes);
    ret = a->file->co_write(a->file->opaque, luks_material_offset(h, slot), noise, bytes);
    if (ret == 0) {
        ret = a->file->co_flush(a->file->opaque); /* E2 */
    }
    if (ret == 0) {
        luks_slot_clear(h, slot);
        ret = luks_co_write_slot(a->file, h, slot);
    }
    if (ret == 0) {
        ret = a->file->co_flush(a->file->opaque);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not erase key slot %u", slot);
    }
    return ret;
}

/* Which of the slots in @mask the passphrase opens. */
static int coroutine_fn co_find_slots(Amend *a, const char *secret_id, unsigned mask,
                                      unsigned *ret_found, Error **errp)
{
    const LuksHeader *h = &a->e->header;
    Secret *secret = secret_ref_by_id(secret_id, errp);
    LuksUnlock u = {.header = h, .file = a->file, .secret = secret, .cancelled = a->cancelled};
    uint8_t *key = keymem_new(h->key_bytes);
    int ret = secret ? 0 : -EINVAL;

    *ret_found = 0;
    for (unsigned i = 0; ret == 0 && i < LUKS_SLOTS; i++) {
        if (!(mask & 1u << i) || !h->slots[i].active) {
            continue;
        }
        ret = luks_co_try_slot(&u, i, key, errp);
        *ret_found |= ret == 0 ? 1u << i : 0;
        ret = ret == -EACCES ? 0 : ret;
    }
    keymem_free(key, h->key_bytes);
    secret_unref(secret);
    return ret;
}

static int coroutine_fn co_erase_by_number(Amend *a, Error **errp)
{
    const LuksHeader *h = &a->e->header;
    unsigned slot = (unsigned)a->o->keyslot, found;
    int ret = 0;

    if (a->o->old_secret) {
        ret = co_find_slots(a, a->o->old_secret, 1u << slot, &found, errp);
        if (ret == 0 && !found) {
            error_setg(errp,
                       "Given keyslot %u doesn't contain the given old password for erase "
                       "operation",
                       slot);
            ret = -EINVAL;
        }
    }
    if (ret == 0 && !h->slots[slot].active && !a->force) {
        error_setg(errp, "Given keyslot %u is already erased (inactive) ", slot);
        ret = -EINVAL;
    }
    if (ret == 0 && h->slots[slot].active && luks_active_slots(h) == 1 && !a->force) {
        error_setg(errp,
                   "Attempt to erase the only active keyslot %u which will erase all the data in "
                   "the image irreversibly - refusing operation",
                   slot);
        ret = -EINVAL;
    }
    return ret == 0 ? co_erase_slot(a, slot, errp) : ret;
}

static int coroutine_fn co_erase_by_password(Amend *a, Error **errp)
{
    const LuksHeader *h = &a->e->header;
    unsigned found;
    int ret = co_find_slots(a, a->o->old_secret, ~0u, &found, errp);

    if (ret == 0 && !found) {
        error_setg(errp, "No keyslots match given (old) password for erase operation");
        return -EINVAL;
    }
    if (ret == 0 && (unsigned)ctpop64(found) == luks_active_slots(h) && !a->force) {
        error_setg(errp, "All the active keyslots match the (old) password that was given and "
                         "erasing them will erase all the data in the image irreversibly - "
                         "refusing operation");
        return -EINVAL;
    }
    for (unsigned i = 0; ret == 0 && i < LUKS_SLOTS; i++) {
        if (found & 1u << i) {
            ret = co_erase_slot(a, i, errp);
        }
    }
    return ret;
}

static int coroutine_fn co_erase(Amend *a, Error **errp)
{
    const QCryptoBlockAmendOptionsLUKS *o = a->o;

    if (o->new_secret) {
        error_setg(errp, "'new-secret' must not be given when erasing keyslots");
        return -EINVAL;
    }
    if (o->has_iter_time) {
        error_setg(errp, "'iter-time' must not be given when erasing keyslots");
        return -EINVAL;
    }
    if (check_slot_number(o, errp) < 0) {
        return -EINVAL;
    }
    if (o->has_keyslot) {
        return co_erase_by_number(a, errp);
    }
    if (o->old_secret) {
        return co_erase_by_password(a, errp);
    }
    error_setg(errp, "To erase keyslot(s), either explicit keyslot index or the password currently "
                     "contained in them must be given");
    return -EINVAL;
}

/* -------------------------------------------------------------------------------------------- fill */

/* The slot to fill; negative errno with @errp. */
static int choose_slot(const Amend *a, Error **errp)
{
    const LuksHeader *h = &a->e->header;

    if (check_slot_number(a->o, errp) < 0) {
        return -EINVAL;
    }
    if (a->o->has_keyslot) {
        if (h->slots[a->o->keyslot].active && !a->force) {
            error_setg(errp,
                       "Refusing to overwrite active keyslot %" PRId64 " - please erase it first",
                       a->o->keyslot);
            return -EINVAL;
        }
        return (int)a->o->keyslot;
    }
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        if (!h->slots[i].active) {
            return (int)i;
        }
    }
    error_setg(errp, "Can't add a keyslot - all keyslots are in use");
    return -ENOSPC;
}

static int coroutine_fn co_current_key(Amend *a, uint8_t *ret_key, Error **errp)
{
    const char *id = a->o->secret ? a->o->secret : a->e->key_secret;
    LuksUnlock u = {.header = &a->e->header, .file = a->file, .cancelled = a->cancelled};
    Secret *secret;
    int ret;

    if (!id) {
        error_setg(errp, "The image was opened without a key: 'secret' is needed");
        return -EINVAL;
    }
    secret = secret_ref_by_id(id, errp);
    u.secret = secret;
    ret = secret ? luks_co_unlock_in_time(&u, ret_key, errp) : -EINVAL;
    secret_unref(secret);
    return ret;
}

static int coroutine_fn co_fill_slot(Amend *a, unsigned slot, const uint8_t *key,
                                     const Secret *secret, int64_t ms, Error **errp)
{
    LuksHeader *h = &a->e->header, *next = g_memdup2(h, sizeof(*h));
    LuksFill fill = {.header = next,
                     .slot = slot,
                     .secret = secret,
                     .key = key,
                     .time_ms = (uint64_t)ms,
                     .cancelled = a->cancelled};
    int ret = 0;

    if (h->slots[slot].active) {
        ret = co_erase_slot(a, slot, errp);
    }
    if (ret == 0) {
        ret = luks_co_fill_slot(a->file, &fill, errp);
    }
    if (ret == 0) {
        ret = luks_co_write_slot(a->file, next, slot);
        if (ret == 0) {
            ret = a->file->co_flush(a->file->opaque);
        }
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not write key slot %u", slot);
        } else {
            h->slots[slot] = next->slots[slot];
        }
    }
    g_free(next);
    return ret;
}

static int coroutine_fn co_fill(Amend *a, Error **errp)
{
    const QCryptoBlockAmendOptionsLUKS *o = a->o;
    int64_t ms = luks_iter_time(o->has_iter_time, o->iter_time, errp);
    uint32_t key_bytes = a->e->header.key_bytes;
    uint8_t *key;
    Secret *secret;
    int slot, ret;

    if (ms < 0) {
        return ms;
    }
    if (!o->new_secret) {
        error_setg(errp, "'new-secret' is required to activate a keyslot");
        return -EINVAL;
    }
    if (o->old_secret) {
        error_setg(errp, "'old-secret' must not be given when activating keyslots");
        return -EINVAL;
    }
    slot = choose_slot(a, errp);
    secret = slot < 0 ? NULL : luks_new_passphrase(o->new_secret, errp);
    if (!secret) {
        return -EINVAL;
    }
    key = keymem_new(key_bytes);
    ret = co_current_key(a, key, errp);
    if (ret == 0) {
        ret = co_fill_slot(a, (unsigned)slot, key, secret, ms, errp);
    }
    keymem_free(key, key_bytes);
    secret_unref(secret);
    return ret;
}

int coroutine_fn encryption_co_amend_luks(BlockEncryption *e, const EncryptionFile *file,
                                          const QCryptoBlockAmendOptionsLUKS *opts, bool force,
                                          bool *cancelled, Error **errp)
{
    bool nobody = false;
    Amend a = {.e = e,
               .file = file,
               .o = opts,
               .force = force,
               .cancelled = cancelled ? cancelled : &nobody};
    int ret;

    assert(e->is_luks);
    qemu_co_mutex_lock(&e->amend_lock);
    ret = opts->state == QCRYPTO_BLOCK_LUKS_KEYSLOT_STATE_ACTIVE ? co_fill(&a, errp)
                                                                 : co_erase(&a, errp);
    qemu_co_mutex_unlock(&e->amend_lock);
    return ret;
}
