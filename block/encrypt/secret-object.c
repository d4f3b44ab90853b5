/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * secret-object.c - from what a user writes to the bytes of a secret
 *
 *      data= or file=  ──format=base64──▶ decoded ──keyid=,iv=──▶ decrypted ──▶ the registry
 *
 * Each step has its bytes in memory that is wiped, and no message has any of them.
 */
#include "block/encrypt/secret-object.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "aio/thread-pool.h"
#include "crypto/message.h"
#include "object/secret.h"
#include "util/keymem.h"
#include "util/osdep.h"

/* The bytes of one step. */
typedef struct Bytes {
    uint8_t *mem; /* keymem */
    size_t size;  /* of the memory */
    size_t used;
} Bytes;

static void bytes_init(Bytes *b, size_t size)
{
    b->mem = keymem_new(size);
    b->size = size;
    b->used = 0;
}

static void bytes_clear(Bytes *b)
{
    keymem_free(b->mem, b->size);
    *b = (Bytes){0};
}

/* -------------------------------------------------------------------------------------------- file */

typedef struct ReadFile {
    const char *path;
    Bytes *bytes;
} ReadFile;

/* Reads until the end, and a byte more than there may be. */
static int read_all(int fd, Bytes *b)
{
    while (b->used < b->size) {
        ssize_t n = read(fd, b->mem + b->used, b->size - b->used);

        if (n == 0) {
            return 0;
        }
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        b->used += (size_t)MAX(n, 0);
    }
    return -EFBIG;
}

static int read_in_worker(void *opaque)
{
    ReadFile *r = opaque;
    int fd = open(r->path, O_RDONLY | O_CLOEXEC);
    int ret;

    if (fd < 0) {
        return -errno;
    }
    ret = read_all(fd, r->bytes);
    close(fd);
    return ret;
}

static int coroutine_fn co_read_file(const char *path, Bytes *ret, Error **errp)
{
    ReadFile r = {.path = path, .bytes = ret};
    int err;

    bytes_init(ret, SECRET_BYTES_MAX + 1);
    err = thread_pool_submit_co(read_in_worker, &r);
    if (err < 0) {
        error_setg_errno(errp, -err, "Unable to read %s", path);
    }
    return err;
}

/* ------------------------------------------------------------------------------------------ base64 */

static bool is_base64(const Bytes *b)
{
    static const char others[] = "+/\r\n\t ";
    size_t end = b->used;

    while (end > 0 && (b->mem[end - 1] == '=' || g_ascii_isspace(b->mem[end - 1]))) {
        end--;
    }
    for (size_t i = 0; i < end; i++) {
        if (b->mem[i] == 0 || (!g_ascii_isalnum(b->mem[i]) && !strchr(others, b->mem[i]))) {
            return false;
        }
    }
    return true;
}

/* In place: what comes out is shorter. */
static int decode_base64(Bytes *b, const char *what, Error **errp)
{
    gint state = 0;
    guint save = 0;

    if (!is_base64(b)) {
        error_setg(errp, "The %s is not valid base64", what);
        return -EINVAL;
    }
    b->used = g_base64_decode_step((const char *)b->mem, b->used, b->mem, &state, &save);
    keymem_wipe(&save, sizeof(save));
    return 0;
}

static void take_text(const char *text, Bytes *ret)
{
    size_t bytes = strlen(text);

    bytes_init(ret, bytes);
    memcpy(ret->mem, text, bytes);
    ret->used = bytes;
}

/* ----------------------------------------------------------------------------------------- encrypted */

static int decrypt_with(const Secret *key, const Bytes *iv, Bytes *b, Error **errp)
{
    if (key->bytes != CRYPTO_MESSAGE_KEY_BYTES) {
        error_setg(errp, "Key should be %d bytes in length", CRYPTO_MESSAGE_KEY_BYTES);
        return -EINVAL;
    }
    if (iv->used != CRYPTO_MESSAGE_BLOCK_BYTES) {
        error_setg(errp, "IV should be %d bytes in length not %zu", CRYPTO_MESSAGE_BLOCK_BYTES,
                   iv->used);
        return -EINVAL;
    }
    return crypto_message_decrypt(key->data, iv->mem, b->mem, b->used, &b->used, errp);
}

static int decrypt(const SecretProperties *props, Bytes *b, Error **errp)
{
    Secret *key = secret_ref_by_id(props->keyid, errp);
    Bytes iv = {0};
    int ret = key ? 0 : -EINVAL;

    if (ret == 0 && !props->iv) {
        error_setg(errp, "IV is required to decrypt secret");
        ret = -EINVAL;
    }
    if (ret == 0) {
        take_text(props->iv, &iv);
        ret = decode_base64(&iv, "IV", errp);
    }
    if (ret == 0) {
        ret = decrypt_with(key, &iv, b, errp);
    }
    bytes_clear(&iv);
    secret_unref(key);
    return ret;
}

/* ------------------------------------------------------------------------------------------- object */

static int coroutine_fn co_load(const SecretProperties *props, Bytes *ret, Error **errp)
{
    int r = 0;

    if (props->file && props->data) {
        error_setg(errp, "'file' and 'data' are mutually exclusive");
        return -EINVAL;
    }
    if (!props->file && !props->data) {
        error_setg(errp, "Either 'file' or 'data' must be provided");
        return -EINVAL;
    }
    if (props->file) {
        r = co_read_file(props->file, ret, errp);
    } else {
        take_text(props->data, ret);
    }
    if (r == 0 && props->has_format && props->format == QCRYPTO_SECRET_FORMAT_BASE64) {
        r = decode_base64(ret, "secret", errp);
    }
    return r == 0 && props->keyid ? decrypt(props, ret, errp) : r;
}

int coroutine_fn secret_object_co_add(const char *id, const SecretProperties *props, Error **errp)
{
    Bytes bytes = {0};
    int ret = co_load(props, &bytes, errp);

    if (ret == 0) {
        ret = secret_register(id, secret_new(bytes.mem, bytes.used), errp);
    }
    bytes_clear(&bytes);
    return ret;
}
