/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * luks-create.c - a new header, and a key into a slot
 *
 *      step                            power fails after it: the file holds
 *  c1  key of slot 0                   no header
 *  c2  | flushed                       no header
 *  c3  second sector of the header     no header
 *  c4  | flushed                       no header
 *  c5  first sector, with the magic    the image, or no header
 *  c6  | flushed                       the image
 */
#include <errno.h>

#include "aio/thread-pool.h"
#include "block/encrypt/encrypt-int.h"
#include "crypto/hash.h"
#include "util/keymem.h"
#include "util/osdep.h"

/* What QEMU takes when nothing is said. */
#define ITER_TIME_DEFAULT_MS 2000

int64_t luks_iter_time(bool has, int64_t given, Error **errp)
{
    int64_t ms = has ? given : ITER_TIME_DEFAULT_MS;

    if (ms < 0 || ms > ENCRYPTION_ITER_TIME_MAX_MS) {
        error_setg(errp, "Parameter 'iter-time' must be from 0 to %d", ENCRYPTION_ITER_TIME_MAX_MS);
        return -EINVAL;
    }
    return ms;
}

Secret *luks_new_passphrase(const char *id, Error **errp)
{
    Secret *secret = secret_ref_by_id(id, errp);

    if (secret && !g_utf8_validate((const char *)secret->data, (gssize)secret->bytes, NULL)) {
        error_setg(errp, "Data from secret %s is not valid UTF-8", id);
        secret_unref(secret);
        return NULL;
    }
    return secret;
}

int coroutine_fn luks_co_write_slot(const EncryptionFile *file, const LuksHeader *h, unsigned slot)
{
    uint8_t raw[LUKS_SLOT_BYTES];

    luks_slot_encode(&h->slots[slot], raw);
    return file->co_write(file->opaque, LUKS_SLOT_OFFSET(slot), raw, sizeof(raw));
}

typedef struct FillJob {
    const LuksFill *fill;
    uint8_t *material;
} FillJob;

static int fill_in_worker(void *opaque)
{
    FillJob *job = opaque;
    const LuksFill *f = job->fill;
    int ret = f->with_digest ? luks_digest_init(f->header, f->key, f->time_ms, f->cancelled) : 0;

    return ret < 0 ? ret
                   : luks_slot_make(f->header, f->slot, f->secret->data, f->secret->bytes, f->key,
                                    f->time_ms, job->material, f->cancelled);
}

int coroutine_fn luks_co_fill_slot(const EncryptionFile *file, const LuksFill *fill, Error **errp)
{
    size_t bytes = luks_material_bytes(fill->header);
    FillJob job = {.fill = fill, .material = keymem_new(bytes)};
    int ret = thread_pool_submit_co(fill_in_worker, &job);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not make a key of the passphrase");
    } else {
        ret = file->co_write(file->opaque, luks_material_offset(fill->header, fill->slot),
                             job.material, bytes);
        if (ret == 0) {
            ret = file->co_flush(file->opaque); /* E1, E3 */
        }
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not write key slot %u", fill->slot);
        }
    }
    keymem_free(job.material, bytes);
    return ret;
}

static int init_header(LuksHeader *h, const QCryptoBlockCreateOptionsLUKS *o, bool detached,
                       Error **errp)
{
    QCryptoCipherAlgo cipher = o->has_cipher_alg ? o->cipher_alg : QCRYPTO_CIPHER_ALGO_AES_256;
    QCryptoCipherMode mode = o->has_cipher_mode ? o->cipher_mode : QCRYPTO_CIPHER_MODE_XTS;
    QCryptoIVGenAlgo ivgen = o->has_ivgen_alg ? o->ivgen_alg : QCRYPTO_IV_GEN_ALGO_PLAIN64;
    QCryptoHashAlgo ivgen_hash =
        o->has_ivgen_hash_alg ? o->ivgen_hash_alg : QCRYPTO_HASH_ALGO_SHA256;
    QCryptoHashAlgo hash = o->has_hash_alg ? o->hash_alg : QCRYPTO_HASH_ALGO_SHA256;
    CryptoSpec spec = {
        .cipher = crypto_cipher_find(QCryptoCipherAlgo_str(cipher)),
        .mode = (CryptoMode)crypto_mode_find(QCryptoCipherMode_str(mode)),
        .ivgen = (CryptoIvgen)crypto_ivgen_find(QCryptoIVGenAlgo_str(ivgen)),
    };

    if (o->has_ivgen_hash_alg || spec.ivgen == CRYPTO_IVGEN_ESSIV) {
        spec.ivgen_hash = crypto_hash_find(QCryptoHashAlgo_str(ivgen_hash));
    }
    return luks_header_init(h, &spec, crypto_hash_find(QCryptoHashAlgo_str(hash)), detached, errp);
}

int64_t encryption_luks_header_bytes(const QCryptoBlockCreateOptionsLUKS *opts, const char *prefix,
                                     Error **errp)
{
    LuksHeader h;
    int ret = init_header(&h, opts, false, errp);

    return ret < 0 ? ret : luks_header_region_bytes(&h);
}

static int coroutine_fn co_write_header(const EncryptionFile *file, const LuksHeader *h,
                                        Error **errp)
{
    uint8_t raw[LUKS_HEADER_BYTES];
    int ret;

    luks_header_encode(h, raw);
    ret = file->co_write(file->opaque, LUKS_SECTOR_BYTES, raw + LUKS_SECTOR_BYTES,
                         sizeof(raw) - LUKS_SECTOR_BYTES);
    if (ret == 0) {
        ret = file->co_flush(file->opaque);
    }
    if (ret == 0) {
        ret = file->co_write(file->opaque, 0, raw, LUKS_SECTOR_BYTES);
    }
    if (ret == 0) {
        ret = file->co_flush(file->opaque);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the LUKS header");
    }
    return ret;
}

/* c1 to c6, with a key that nobody has seen before. */
static int coroutine_fn co_write_new(const EncryptionFile *file, LuksHeader *h, LuksFill *fill,
                                     Error **errp)
{
    uint8_t *key = keymem_new(h->key_bytes);
    int ret;

    crypto_random(key, h->key_bytes);
    fill->key = key;
    ret = luks_co_fill_slot(file, fill, errp);
    keymem_free(key, h->key_bytes);
    return ret == 0 ? co_write_header(file, h, errp) : ret;
}

int coroutine_fn encryption_co_create_luks(const EncryptionFile *file,
                                           const EncryptionCreateArgs *args, Error **errp)
{
    const QCryptoBlockCreateOptionsLUKS *o = args->opts;
    int64_t ms = luks_iter_time(o->has_iter_time, o->iter_time, errp);
    LuksHeader h;
    Secret *secret;
    int ret = ms < 0 ? ms : init_header(&h, o, args->detached, errp);

    if (ret < 0) {
        return ret;
    }
    if (!o->key_secret) {
        error_setg(errp, "Parameter '%skey-secret' is required for cipher", args->prefix);
        return -EINVAL;
    }
    secret = luks_new_passphrase(o->key_secret, errp);
    if (!secret) {
        return -EINVAL;
    }
    LuksFill fill = {.header = &h,
                     .secret = secret,
                     .time_ms = (uint64_t)ms,
                     .with_digest = true,
                     .cancelled = args->cancelled};
    ret = co_write_new(file, &h, &fill, errp);
    secret_unref(secret);
    return ret;
}
