/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * handshake.c - fixed newstyle: options are answered until one of them begins transmission
 *
 *   server                                client
 *   NBDMAGIC IHAVEOPT flags       ──▶
 *                                 ◀──     flags
 *                                 ◀──     IHAVEOPT option length data     again and again
 *   option reply, or several      ──▶
 *                                 ◀──     GO name (or, from old clients, EXPORT_NAME name)
 *   INFO... ACK                   ──▶
 *   transmission (client.c)
 *
 * Main thread, under the handshake timer.  An option longer than NBD_MAX_OPTION is read and refused; a
 * wrong magic or an unknown client flag ends the connection.
 */
#include "block/export/nbd/nbd-int.h"
#include "tls/channel.h"
#include "trace-nbd-export.h"

/* Not an error: the client said good-bye. */
#define NBD_HANDSHAKE_ABORTED (-ECONNABORTED)

int coroutine_fn nbd_option_reply(NbdClient *client, uint32_t option, uint32_t type,
                                  const void *data, size_t length)
{
    uint8_t head[NBD_OPT_REPLY_SIZE];
    struct iovec iov[2] = {{.iov_base = head}, {.iov_base = (void *)data, .iov_len = length}};

    iov[0].iov_len = nbd_put_option_reply(head, option, type, length);
    return aio_channel_writev_all(client->ch, iov, length > 0 ? 2 : 1);
}

int coroutine_fn nbd_option_error(NbdClient *client, uint32_t option, uint32_t type,
                                  const char *why)
{
    return nbd_option_reply(client, option, type, why, strlen(why));
}

static int coroutine_fn drop(NbdClient *client, size_t bytes)
{
    uint8_t waste[512];
    int r = 0;

    while (bytes > 0 && r == 0) {
        size_t here = MIN(bytes, sizeof(waste));

        r = aio_channel_read_all(client->ch, waste, here);
        bytes -= here;
    }
    return r;
}

/* Contexts chosen for another export, or for an earlier one of the same name, are void. */
static void attach(NbdClient *client, NbdExport *exp)
{
    if (client->contexts.export_serial != exp->serial) {
        nbd_contexts_clear(&client->contexts);
    }
    nbd_export_attach(exp, client);
}

static int coroutine_fn option_list(NbdClient *client, size_t length)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    NbdExport *exp = NULL;

    if (length > 0) {
        return nbd_option_error(client, NBD_OPT_LIST, NBD_REP_ERR_INVALID, "a list takes no data");
    }
    /* Exports may come and go while the client is slow to read: take the names first. */
    while ((exp = nbd_export_next(exp))) {
        g_ptr_array_add(names, g_strdup(exp->name));
        g_ptr_array_add(names, g_strdup(exp->description ? exp->description : ""));
    }
    for (unsigned i = 0; i < names->len; i += 2) {
        const char *name = names->pdata[i], *description = names->pdata[i + 1];
        size_t size = 4 + strlen(name) + strlen(description);
        g_autofree uint8_t *data = g_malloc(size);
        int r;

        stl_be_p(data, strlen(name));
        memcpy(data + 4, name, strlen(name));
        memcpy(data + 4 + strlen(name), description, strlen(description));
        r = nbd_option_reply(client, NBD_OPT_LIST, NBD_REP_SERVER, data, size);
        if (r < 0) {
            return r;
        }
    }
    return nbd_option_reply(client, NBD_OPT_LIST, NBD_REP_ACK, NULL, 0);
}

static int coroutine_fn send_info(NbdClient *client, uint32_t option, uint16_t info,
                                  const void *data, size_t length)
{
    g_autofree uint8_t *raw = g_malloc(2 + length);

    stw_be_p(raw, info);
    memcpy(raw + 2, data, length);
    return nbd_option_reply(client, option, NBD_REP_INFO, raw, 2 + length);
}

/* What INFO and GO tell, EXPORT last; copied, for the export may go while the client is slow to read. */
typedef struct NbdFacts {
    char *name, *description;
    uint8_t block_size[12], export[10];
} NbdFacts;

static void collect_facts(NbdFacts *facts, const NbdExport *exp, NbdMode mode, uint32_t alignment)
{
    facts->name = g_strdup(exp->name);
    facts->description = g_strdup(exp->description);
    stl_be_p(facts->block_size, alignment);
    stl_be_p(facts->block_size + 4, MAX(NBD_BUFFER_ALIGNMENT, alignment));
    stl_be_p(facts->block_size + 8, NBD_MAX_BUFFER_SIZE);
    stq_be_p(facts->export, nbd_export_size(exp));
    stw_be_p(facts->export + 8, nbd_export_flags(exp, mode));
}

static int coroutine_fn send_facts(NbdClient *client, uint32_t option, const NbdInfoOption *asked,
                                   const NbdFacts *facts)
{
    int r = 0;

    if (asked->wants_name) {
        r = send_info(client, option, NBD_INFO_NAME, facts->name, strlen(facts->name));
    }
    if (r == 0 && asked->wants_description && facts->description) {
        r = send_info(client, option, NBD_INFO_DESCRIPTION, facts->description,
                      strlen(facts->description));
    }
    if (r == 0) {
        r = send_info(client, option, NBD_INFO_BLOCK_SIZE, facts->block_size,
                      sizeof(facts->block_size));
    }
    if (r == 0) {
        r = send_info(client, option, NBD_INFO_EXPORT, facts->export, sizeof(facts->export));
    }
    return r < 0 ? r : nbd_option_reply(client, option, NBD_REP_ACK, NULL, 0);
}

/* INFO and GO; client->exp is set afterwards if transmission is to begin. */
static int coroutine_fn option_info(NbdClient *client, uint32_t option, const uint8_t *data,
                                    size_t length)
{
    NbdInfoOption asked;
    NbdFacts facts;
    const char *why = NULL;
    uint32_t alignment = 1;
    NbdExport *exp;
    uint32_t error = nbd_info_option_decode(data, length, &asked, &why);
    int r;

    if (error) {
        return nbd_option_error(client, option, error, why);
    }
    exp = nbd_export_find(asked.name, asked.name_length);
    if (!exp) {
        return nbd_option_error(client, option, NBD_REP_ERR_UNKNOWN, "there is no such export");
    }
    /* Who does not ask for block sizes may send what it likes: the block layer pads it. */
    if (asked.wants_block_size || option == NBD_OPT_INFO) {
        alignment = blk_get_request_alignment(exp->common.blk);
    }
    collect_facts(&facts, exp, client->mode, alignment);
    if (option == NBD_OPT_GO) {
        attach(client, exp);
        client->alignment = alignment;
    }
    r = send_facts(client, option, &asked, &facts);
    g_free(facts.name);
    g_free(facts.description);
    return r;
}

/* The old way to begin: no reply but the facts, and no way to refuse but to hang up. */
static int coroutine_fn option_export_name(NbdClient *client, const uint8_t *data, size_t length,
                                           bool no_zeroes)
{
    uint8_t reply[8 + 2 + 124] = {0};
    NbdExport *exp = nbd_export_find((const char *)data, length);

    if (!exp || client->mode == NBD_MODE_EXTENDED) {
        return -EINVAL;
    }
    attach(client, exp);
    stq_be_p(reply, nbd_export_size(exp));
    stw_be_p(reply + 8, nbd_export_flags(exp, client->mode));
    return aio_channel_write_all(client->ch, reply, no_zeroes ? 10 : sizeof(reply));
}

/* STRUCTURED_REPLY and EXTENDED_HEADERS: once each, and never back. */
static int coroutine_fn option_mode(NbdClient *client, uint32_t option, size_t length)
{
    NbdMode mode = option == NBD_OPT_STRUCTURED_REPLY ? NBD_MODE_STRUCTURED : NBD_MODE_EXTENDED;

    if (length > 0) {
        return nbd_option_error(client, option, NBD_REP_ERR_INVALID, "the option takes no data");
    }
    if (client->mode > mode) {
        return nbd_option_error(client, option, NBD_REP_ERR_EXT_HEADER_REQD,
                                "extended headers are negotiated already");
    }
    if (client->mode == mode) {
        return nbd_option_error(client, option, NBD_REP_ERR_INVALID,
                                "the option is negotiated already");
    }
    client->mode = mode;
    return nbd_option_reply(client, option, NBD_REP_ACK, NULL, 0);
}

/* What is read from here on is encrypted: nothing that came in clear was kept. */
static int coroutine_fn option_starttls(NbdClient *client, size_t length)
{
    const TlsPeer peer = {.creds = client->tls_creds, .authz = client->tls_authz};
    Error *err = NULL;
    AioChannel *ch;
    int r;

    if (!client->tls_creds) {
        return nbd_option_error(client, NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY, "TLS not configured");
    }
    if (length > 0 || client->encrypted) {
        return nbd_option_error(client, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID,
                                length > 0 ? "the option takes no data" : "TLS is on already");
    }
    r = nbd_option_reply(client, NBD_OPT_STARTTLS, NBD_REP_ACK, NULL, 0);
    if (r < 0) {
        return r;
    }
    ch = tls_channel_co_new(client->ch, &peer, &err);
    if (!ch) {
        trace_nbd_tls_refused(client, error_get_pretty(err));
        error_free(err);
        return -EACCES;
    }
    client->ch = ch;
    client->encrypted = true;
    return 0;
}

/* Before TLS a client that has to talk it is told so, and no more. */
static int coroutine_fn want_tls(NbdClient *client, uint32_t option)
{
    g_autofree char *why = g_strdup_printf("Option 0x%x not permitted before TLS", option);

    if (option == NBD_OPT_EXPORT_NAME) {
        return -EACCES; /* it has no reply that refuses */
    }
    return nbd_option_error(client, option, NBD_REP_ERR_TLS_REQD, why);
}

static int coroutine_fn answer_option(NbdClient *client, uint32_t option, const uint8_t *data,
                                      size_t length, bool no_zeroes)
{
    if (client->tls_creds && !client->encrypted && option != NBD_OPT_STARTTLS &&
        option != NBD_OPT_ABORT) {
        return want_tls(client, option);
    }
    switch (option) {
    case NBD_OPT_EXPORT_NAME:
        return option_export_name(client, data, length, no_zeroes);
    case NBD_OPT_ABORT:
        nbd_option_reply(client, option, NBD_REP_ACK, NULL, 0);
        return NBD_HANDSHAKE_ABORTED;
    case NBD_OPT_LIST:
        return option_list(client, length);
    case NBD_OPT_STARTTLS:
        return option_starttls(client, length);
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        return option_info(client, option, data, length);
    case NBD_OPT_STRUCTURED_REPLY:
    case NBD_OPT_EXTENDED_HEADERS:
        return option_mode(client, option, length);
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        return nbd_meta_option(client, option, data, length);
    default:
        return nbd_option_error(client, option, NBD_REP_ERR_UNSUP, "unknown option");
    }
}

/* One option from its header to its last reply. */
static int coroutine_fn next_option(NbdClient *client, bool no_zeroes)
{
    uint8_t head[NBD_OPT_HEADER_SIZE];
    g_autofree uint8_t *data = NULL;
    uint32_t option, length;
    int r = aio_channel_read_all(client->ch, head, sizeof(head));

    if (r < 0) {
        return r;
    }
    if (ldq_be_p(head) != NBD_OPT_MAGIC) {
        return -EPROTO;
    }
    option = ldl_be_p(head + 8);
    length = ldl_be_p(head + 12);
    trace_nbd_option(client, option, length);
    if (length > NBD_MAX_OPTION) {
        if (length > NBD_MAX_SKIP || option == NBD_OPT_EXPORT_NAME) {
            return -EMSGSIZE;
        }
        r = drop(client, length);
        return r < 0 ? r
                     : nbd_option_error(client, option, NBD_REP_ERR_TOO_BIG,
                                        "the option is too long");
    }
    data = g_malloc(length + 1);
    r = aio_channel_read_all(client->ch, data, length);
    return r < 0 ? r : answer_option(client, option, data, length, no_zeroes);
}

int coroutine_fn nbd_handshake(NbdClient *client)
{
    uint8_t hello[18], raw_flags[4];
    uint32_t flags;
    int r;

    stq_be_p(hello, NBD_INIT_MAGIC);
    stq_be_p(hello + 8, NBD_OPT_MAGIC);
    stw_be_p(hello + 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    r = aio_channel_write_all(client->ch, hello, sizeof(hello));
    if (r == 0) {
        r = aio_channel_read_all(client->ch, raw_flags, sizeof(raw_flags));
    }
    if (r < 0) {
        return r;
    }
    flags = ldl_be_p(raw_flags);
    if (flags & ~(uint32_t)(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)) {
        return -EPROTO;
    }
    for (unsigned i = 0; i < NBD_MAX_OPTIONS; i++) {
        r = next_option(client, flags & NBD_FLAG_C_NO_ZEROES);
        if (r < 0 || client->exp) {
            return r;
        }
    }
    return -EPROTO;
}
