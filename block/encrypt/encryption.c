/* SPDX-License-Identifier: GPL-2.0-or-later */
/* encryption.c - an open image's cipher: at once, or in a worker */
#include "block/encrypt/encryption.h"

#include <errno.h>
#include <string.h>

#include "aio/thread-pool.h"
#include "block/encrypt/encrypt-int.h"
#include "util/keymem.h"
#include "util/osdep.h"

/* A hop to a worker and back takes some ten microseconds: what is longer than a few of them does not hold up the loop. */
#define WORTH_A_WORKER_US 50

BlockEncryption *encryption_new(const EncryptionOpenArgs *args)
{
    BlockEncryption *e = g_new0(BlockEncryption, 1);

    e->detached = args->detached;
    e->key_secret = g_strdup(args->key_secret);
    qemu_co_mutex_init(&e->amend_lock);
    return e;
}

void encryption_free(BlockEncryption *e)
{
    if (!e) {
        return;
    }
    crypto_sectors_free(e->sectors);
    qemu_co_mutex_destroy(&e->amend_lock);
    g_free(e->key_secret);
    g_free(e);
}

typedef struct SetKey {
    BlockEncryption *e;
    const CryptoSpec *spec;
    const uint8_t *key;
    size_t key_bytes;
    Error **errp;
} SetKey;

static int set_key_in_worker(void *opaque)
{
    SetKey *s = opaque;

    s->e->sectors = crypto_sectors_new(s->spec, s->key, s->key_bytes, s->errp);
    if (!s->e->sectors) {
        return -ENOTSUP;
    }
    s->e->worker_bytes = crypto_sectors_bytes_within(s->e->sectors, WORTH_A_WORKER_US);
    return 0;
}

int coroutine_fn encryption_co_set_key(BlockEncryption *e, const CryptoSpec *spec,
                                       const uint8_t *key, size_t key_bytes, Error **errp)
{
    SetKey s = {.e = e, .spec = spec, .key = key, .key_bytes = key_bytes, .errp = errp};

    return thread_pool_submit_co(set_key_in_worker, &s);
}

int64_t encryption_payload_offset(const BlockEncryption *e)
{
    return e->is_luks ? luks_payload_offset(&e->header) : 0;
}

/* --------------------------------------------------------------------------------------------- aes */

BlockEncryption *encryption_open_aes(const EncryptionOpenArgs *args, Error **errp)
{
    const CryptoSpec spec = {.cipher = crypto_cipher_find("aes-128"),
                             .mode = CRYPTO_MODE_CBC,
                             .ivgen = CRYPTO_IVGEN_PLAIN64};
    BlockEncryption *e = encryption_new(args);
    uint8_t key[16] = {0};
    Secret *secret;

    if (args->no_key) {
        return e;
    }
    if (!args->key_secret) {
        error_setg(errp, "Parameter '%skey-secret' is required for cipher", args->prefix);
        encryption_free(e);
        return NULL;
    }
    secret = secret_ref_by_id(args->key_secret, errp);
    if (secret) {
        memcpy(key, secret->data, MIN(secret->bytes, sizeof(key)));
        secret_unref(secret);
        e->sectors = crypto_sectors_new(&spec, key, sizeof(key), errp);
        keymem_wipe(key, sizeof(key));
    }
    if (!e->sectors) {
        encryption_free(e);
        return NULL;
    }
    e->worker_bytes = crypto_sectors_bytes_within(e->sectors, WORTH_A_WORKER_US);
    return e;
}

/* ----------------------------------------------------------------------------------------- sectors */

int encryption_encrypt(BlockEncryption *e, int64_t offset, void *buf, size_t bytes)
{
    return e->sectors ? crypto_sectors_encrypt(e->sectors, (uint64_t)offset / CRYPTO_SECTOR_BYTES,
                                               buf, bytes)
                      : -EACCES;
}

int encryption_decrypt(BlockEncryption *e, int64_t offset, void *buf, size_t bytes)
{
    return e->sectors ? crypto_sectors_decrypt(e->sectors, (uint64_t)offset / CRYPTO_SECTOR_BYTES,
                                               buf, bytes)
                      : -EACCES;
}

typedef struct CryptJob {
    int (*crypt)(BlockEncryption *e, int64_t offset, void *buf, size_t bytes);
    BlockEncryption *e;
    int64_t offset;
    void *buf;
    size_t bytes;
} CryptJob;

static int crypt_in_worker(void *opaque)
{
    CryptJob *job = opaque;

    return job->crypt(job->e, job->offset, job->buf, job->bytes);
}

static int coroutine_fn co_crypt(CryptJob *job)
{
    return job->bytes < job->e->worker_bytes ? crypt_in_worker(job)
                                             : thread_pool_submit_co(crypt_in_worker, job);
}

int coroutine_fn encryption_co_encrypt(BlockEncryption *e, int64_t offset, void *buf, size_t bytes)
{
    CryptJob job = {encryption_encrypt, e, offset, buf, bytes};

    return co_crypt(&job);
}

int coroutine_fn encryption_co_decrypt(BlockEncryption *e, int64_t offset, void *buf, size_t bytes)
{
    CryptJob job = {encryption_decrypt, e, offset, buf, bytes};

    return co_crypt(&job);
}

/* -------------------------------------------------------------------------------------------- info */

/* A value of a QAPI enum by the name that the tables of crypto have for it, which is the same. */
static int enum_value(const QEnumLookup *lookup, const char *name)
{
    for (int i = 0; i < lookup->size; i++) {
        if (strcmp(lookup->array[i], name) == 0) {
            return i;
        }
    }
    g_assert_not_reached(); /* a test compares the tables */
}

static QCryptoBlockInfoLUKSSlotList *slots_info(const LuksHeader *h)
{
    QCryptoBlockInfoLUKSSlotList *list = NULL, **tail = &list;

    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        QCryptoBlockInfoLUKSSlot *slot = g_new0(QCryptoBlockInfoLUKSSlot, 1);

        slot->active = slot->has_iters = slot->has_stripes = h->slots[i].active;
        slot->iters = h->slots[i].iterations;
        slot->stripes = h->slots[i].stripes;
        slot->key_offset = luks_material_offset(h, i);
        QAPI_LIST_APPEND(tail, slot);
    }
    return list;
}

QCryptoBlockInfoLUKS *encryption_luks_info(const BlockEncryption *e)
{
    const LuksHeader *h = &e->header;
    QCryptoBlockInfoLUKS *info = g_new0(QCryptoBlockInfoLUKS, 1);

    assert(e->is_luks);
    info->detached_header = e->detached;
    info->cipher_alg = enum_value(&QCryptoCipherAlgo_lookup, h->spec.cipher->name);
    info->cipher_mode = enum_value(&QCryptoCipherMode_lookup, crypto_mode_name(h->spec.mode));
    info->ivgen_alg = enum_value(&QCryptoIVGenAlgo_lookup, crypto_ivgen_name(h->spec.ivgen));
    info->hash_alg = enum_value(&QCryptoHashAlgo_lookup, h->hash->name);
    info->has_ivgen_hash_alg = h->spec.ivgen == CRYPTO_IVGEN_ESSIV;
    if (info->has_ivgen_hash_alg) {
        info->ivgen_hash_alg = enum_value(&QCryptoHashAlgo_lookup, h->spec.ivgen_hash->name);
    }
    info->uuid = g_strdup(h->uuid);
    info->payload_offset = luks_payload_offset(h);
    info->master_key_iters = h->digest_iterations;
    info->slots = slots_info(h);
    return info;
}
