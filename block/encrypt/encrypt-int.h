/* SPDX-License-Identifier: GPL-2.0-or-later */
/* encrypt-int.h - what the files of the room tell each other */
#ifndef BLOCK_ENCRYPT_ENCRYPT_INT_H
#define BLOCK_ENCRYPT_ENCRYPT_INT_H

#include "block/encrypt/encryption.h"
#include "coro/lock.h"
#include "crypto/luks.h"
#include "crypto/sectors.h"
#include "object/secret.h"

struct BlockEncryption {
    /* Fixed once open. */
    bool is_luks, detached;
    char *key_secret;       /* id; NULL: none */
    CryptoSectors *sectors; /* NULL: it has no key */
    size_t worker_bytes;    /* as many are worth a worker's time */

    /* Under amend_lock, but for readers in the main thread between two amends. */
    CoMutex amend_lock;
    LuksHeader header; /* as in the file, where it is LUKS */
};

/* Takes over nothing. */
BlockEncryption *encryption_new(const EncryptionOpenArgs *args);
/* In a worker: the cipher, and how fast it is. */
int coroutine_fn encryption_co_set_key(BlockEncryption *e, const CryptoSpec *spec,
                                       const uint8_t *key, size_t key_bytes, Error **errp);

/* A passphrase at work; what it may not take longer than. */
typedef struct LuksUnlock {
    const LuksHeader *header;
    const EncryptionFile *file;
    const Secret *secret;
    bool *cancelled; /* never NULL */
} LuksUnlock;
/* 0, and the key; -EACCES, it does not open this slot; negative errno with @errp. */
int coroutine_fn luks_co_try_slot(const LuksUnlock *u, unsigned slot, uint8_t *ret_key,
                                  Error **errp);
/**
 * luks_co_unlock() - the key of the first slot that opens
 *
 * Return: 0; -EACCES with @errp, none does; negative errno with @errp.
 */
int coroutine_fn luks_co_unlock(const LuksUnlock *u, uint8_t *ret_key, Error **errp);

/* luks_co_unlock_in_time() - the same, which gives up after ENCRYPTION_OPEN_SECONDS_MAX */
int coroutine_fn luks_co_unlock_in_time(const LuksUnlock *u, uint8_t *ret_key, Error **errp);

/* Write one slot's entry of the header; not flushed. */
int coroutine_fn luks_co_write_slot(const EncryptionFile *file, const LuksHeader *h, unsigned slot);
/* In a worker: @key into a slot of @h, then its material into the file, flushed (E1).  @errp set on failure. */
typedef struct LuksFill {
    LuksHeader *header;
    unsigned slot;
    const Secret *secret;
    const uint8_t *key;
    uint64_t time_ms;
    bool with_digest; /* make that, too */
    const bool *cancelled;
} LuksFill;
int coroutine_fn luks_co_fill_slot(const EncryptionFile *file, const LuksFill *fill, Error **errp);
/*
 * The secret @id as a passphrase for a new slot: only text, because other programs take nothing else.  A reference; NULL
 * with @errp.
 */
Secret *luks_new_passphrase(const char *id, Error **errp);
/* Milliseconds of @given, or the default; negative errno with @errp. */
int64_t luks_iter_time(bool has, int64_t given, Error **errp);

#endif
