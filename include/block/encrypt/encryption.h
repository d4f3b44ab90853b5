/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * encryption.h - an image's encryption: its header, its key, its sectors
 *
 *      driver ── encryption_co_open_luks() ──▶ BlockEncryption ── encryption_co_encrypt() ──▶ worker, or at once
 *        ▲                │                          │
 *        └── EncryptionFile: header bytes            └── encryption_encrypt(): from any thread
 *
 * For drivers of which the encryption is a layer (luks), or a part (qcow2).  The header may be anywhere in any
 * file: it is read and written by the driver's own functions.  Making keys of passphrases takes seconds, and is done
 * in worker threads.
 *
 *   E1  A slot's key is stable before the header says that the slot is active.
 *   E2  What an erased slot has had is overwritten, stably, before the header says that it is not active.
 *   E3  A new image's header comes last.
 */
#ifndef BLOCK_ENCRYPT_ENCRYPTION_H
#define BLOCK_ENCRYPT_ENCRYPTION_H

#include "coro/coroutine.h"
#include "qapi/qapi-types-crypto.h"
#include "util/error.h"

typedef struct BlockEncryption BlockEncryption;

/* The part of a file that has the header; offsets from its beginning.  All: 0 or negative errno; may yield. */
typedef struct EncryptionFile {
    int coroutine_fn (*co_read)(void *opaque, int64_t offset, void *buf, size_t bytes);
    int coroutine_fn (*co_write)(void *opaque, int64_t offset, const void *buf, size_t bytes);
    int coroutine_fn (*co_flush)(void *opaque);
    void *opaque;
} EncryptionFile;

/*
 * The longest that opening may take: what an honest image asks for is ENCRYPTION_ITER_TIME_MAX_MS for each slot
 * at most, and others are not waited for.
 */
#define ENCRYPTION_OPEN_SECONDS_MAX 600
/* A minute for each of eight slots, and an eighth of it for the digest, is within that. */
#define ENCRYPTION_ITER_TIME_MAX_MS 60000

typedef struct EncryptionOpenArgs {
    const char *key_secret; /* id; NULL: none was given */
    const char *prefix;     /* of options in messages: "", "encrypt." */
    bool no_key;            /* only to be described: no secret is needed, and nothing can be read */
    bool detached;          /* the disk is not behind the header, but in another file */
    bool *cancelled;        /* atomic, set by whoever does not want it any more; NULL: nobody */
} EncryptionOpenArgs;

/**
 * encryption_co_open_luks() - read the header, and find the key
 *
 * Context: coroutine of the main context; yields.  @file is not used after the return.
 *
 * Return: to be freed by encryption_free(); NULL with @errp.
 */
BlockEncryption *coroutine_fn encryption_co_open_luks(const EncryptionFile *file,
                                                      const EncryptionOpenArgs *args, Error **errp);

/**
 * encryption_open_aes() - the old encryption of qcow2: AES-128-CBC, the passphrase is the key
 *
 * Context: main thread.  Return: as above.
 */
BlockEncryption *encryption_open_aes(const EncryptionOpenArgs *args, Error **errp);

/* No request uses it any more.  NULL is fine. */
void encryption_free(BlockEncryption *e);

/* Where the disk begins in the part of the file that has the header; 0 where there is none. */
int64_t encryption_payload_offset(const BlockEncryption *e);
/* For qapi_free_QCryptoBlockInfoLUKS(); of LUKS only. */
QCryptoBlockInfoLUKS *encryption_luks_info(const BlockEncryption *e);

/**
 * encryption_encrypt(), encryption_decrypt() - @bytes at @buf in place
 * @offset: of the first, by which sectors are numbered; a multiple of 512, as @bytes
 *
 * Context: any thread, any number at once; do not block, take time in proportion to @bytes.
 *
 * Return: 0; -EIO, what is in @buf is of no use; -EACCES, it was opened without a key.
 */
int encryption_encrypt(BlockEncryption *e, int64_t offset, void *buf, size_t bytes);
int encryption_decrypt(BlockEncryption *e, int64_t offset, void *buf, size_t bytes);

/* The same, in a worker thread where it takes long enough to be worth it.  Coroutine; may yield. */
int coroutine_fn encryption_co_encrypt(BlockEncryption *e, int64_t offset, void *buf, size_t bytes);
int coroutine_fn encryption_co_decrypt(BlockEncryption *e, int64_t offset, void *buf, size_t bytes);

/**
 * encryption_luks_header_bytes() - what the header of a new image takes, with all its slots
 *
 * Context: main thread.  Return: a multiple of 4096; negative errno with @errp, the options do not fit each other.
 */
int64_t encryption_luks_header_bytes(const QCryptoBlockCreateOptionsLUKS *opts, const char *prefix,
                                     Error **errp);

typedef struct EncryptionCreateArgs {
    const QCryptoBlockCreateOptionsLUKS *opts;
    const char *prefix; /* as in EncryptionOpenArgs */
    bool detached;
    const bool *cancelled; /* atomic; may be NULL */
} EncryptionCreateArgs;
/**
 * encryption_co_create_luks() - write a new header with one slot (E3); stable at the return
 *
 * What slots have that are not written is left as it is.
 *
 * Context: coroutine of the main context; yields.  Return: 0; negative errno with @errp.
 */
int coroutine_fn encryption_co_create_luks(const EncryptionFile *file,
                                           const EncryptionCreateArgs *args, Error **errp);

/**
 * encryption_co_amend_luks() - fill or erase key slots (E1, E2); stable at the return
 * @force: also the last slot, and one that is active
 *
 * Context: coroutine of the main context; yields; one at a time.  Requests may go on.
 *
 * Return: 0; negative errno with @errp.
 */
int coroutine_fn encryption_co_amend_luks(BlockEncryption *e, const EncryptionFile *file,
                                          const QCryptoBlockAmendOptionsLUKS *opts, bool force,
                                          bool *cancelled, Error **errp);

#endif
