/* SPDX-License-Identifier: GPL-2.0-or-later */
/* wire.c - bytes to numbers and back, and the check that a request may be executed; pure functions */
#include <errno.h>
#include "block/export/nbd/nbd-format.h"
#include "util/osdep.h"

bool nbd_request_decode(const uint8_t *raw, NbdMode mode, NbdRequestHeader *ret_header)
{
    uint32_t magic = mode == NBD_MODE_EXTENDED ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC;

    if (ldl_be_p(raw) != magic) {
        return false;
    }
    ret_header->flags = ldw_be_p(raw + 4);
    ret_header->type = ldw_be_p(raw + 6);
    ret_header->cookie = ldq_be_p(raw + 8);
    ret_header->offset = ldq_be_p(raw + 16);
    ret_header->length = mode == NBD_MODE_EXTENDED ? ldq_be_p(raw + 24) : ldl_be_p(raw + 24);
    return true;
}

/* What a command takes, one row each; the index is the command. */
typedef struct NbdCommandRule {
    const char *name;
    uint16_t flags; /* NBD_CMD_FLAG_* it may carry, FUA aside, which every command may */
    bool ranged;    /* offset and length name a part of the export */
    bool writes;    /* refused on a read-only export */
    bool grows;     /* beyond the end it is ENOSPC rather than EINVAL */
    bool buffered;  /* the length is memory here */
} NbdCommandRule;

static const NbdCommandRule nbd_rules[] = {
    [NBD_CMD_READ] = {"READ", NBD_CMD_FLAG_DF, .ranged = true, .buffered = true},
    [NBD_CMD_WRITE] = {"WRITE", NBD_CMD_FLAG_PAYLOAD_LEN, .ranged = true, .writes = true,
                       .grows = true, .buffered = true},
    [NBD_CMD_DISC] = {"DISC", 0},
    [NBD_CMD_FLUSH] = {"FLUSH", 0},
    [NBD_CMD_TRIM] = {"TRIM", 0, .ranged = true, .writes = true},
    [NBD_CMD_CACHE] = {"CACHE", 0, .ranged = true},
    [NBD_CMD_WRITE_ZEROES] = {"WRITE_ZEROES", NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
                              .ranged = true, .writes = true, .grows = true},
    [NBD_CMD_BLOCK_STATUS] = {"BLOCK_STATUS", NBD_CMD_FLAG_REQ_ONE, .ranged = true},
};

const char *nbd_cmd_name(uint16_t type)
{
    return type < ARRAY_SIZE(nbd_rules) ? nbd_rules[type].name : NULL;
}

static uint64_t payload_bytes(const NbdRequestHeader *header, NbdMode mode)
{
    /*
     * A write always has one.  With extended headers any command may have one and says so by a flag; a
     * write must carry the flag too, but QEMU's client does not, and means a payload all the same.
     */
    bool has = header->type == NBD_CMD_WRITE ||
               (mode == NBD_MODE_EXTENDED && header->flags & NBD_CMD_FLAG_PAYLOAD_LEN);

    return has ? header->length : 0;
}

static uint32_t check_flags(const NbdRequestHeader *header, const NbdCommandRule *rule,
                            const NbdRequestLimits *limits, const char **ret_why)
{
    uint16_t allowed = rule->flags | NBD_CMD_FLAG_FUA;

    if (limits->mode == NBD_MODE_SIMPLE) {
        allowed &= ~(NBD_CMD_FLAG_DF | NBD_CMD_FLAG_REQ_ONE);
    }
    if (limits->mode != NBD_MODE_EXTENDED) {
        allowed &= ~NBD_CMD_FLAG_PAYLOAD_LEN;
    }
    if (header->flags & ~allowed) {
        *ret_why = "a flag is unknown or does not belong to the command";
        return NBD_EINVAL;
    }
    return 0;
}

static uint32_t check_range(const NbdRequestHeader *header, const NbdCommandRule *rule,
                            const NbdRequestLimits *limits, const char **ret_why)
{
    uint64_t size = limits->size;

    if (rule->writes && limits->read_only) {
        *ret_why = "the export is read-only";
        return NBD_EPERM;
    }
    if (rule->buffered && header->length > NBD_MAX_BUFFER_SIZE) {
        *ret_why = "the request is longer than the largest block size";
        return header->flags & NBD_CMD_FLAG_DF ? NBD_EOVERFLOW : NBD_EINVAL;
    }
    /* Written so that no sum can overflow. */
    if (header->offset > size || header->length > size - header->offset) {
        *ret_why = "the request goes beyond the end of the export";
        return rule->grows ? NBD_ENOSPC : NBD_EINVAL;
    }
    if (!QEMU_IS_ALIGNED(header->offset | header->length, limits->alignment)) {
        *ret_why = "the request is not aligned to the smallest block size";
        return NBD_EINVAL;
    }
    if (header->type == NBD_CMD_BLOCK_STATUS) {
        if (!limits->has_contexts) {
            *ret_why = "block status without a negotiated meta context";
            return NBD_EINVAL;
        }
        if (header->length == 0) {
            *ret_why = "block status of nothing";
            return NBD_EINVAL;
        }
    }
    return 0;
}

void nbd_request_check(const NbdRequestHeader *header, const NbdRequestLimits *limits,
                       NbdVerdict *ret_verdict)
{
    const NbdCommandRule *rule;
    NbdVerdict verdict = {.payload = payload_bytes(header, limits->mode)};

    verdict.fatal = verdict.payload > NBD_MAX_SKIP;
    if (!nbd_cmd_name(header->type)) {
        verdict.error = NBD_EINVAL;
        verdict.why = "unknown command";
    } else {
        rule = &nbd_rules[header->type];
        verdict.error = check_flags(header, rule, limits, &verdict.why);
        if (!verdict.error && rule->ranged) {
            verdict.error = check_range(header, rule, limits, &verdict.why);
        }
    }
    *ret_verdict = verdict;
}

uint32_t nbd_errno(int error)
{
    switch (error) {
    case EPERM:
    case EROFS:
    case EACCES:
        return NBD_EPERM;
    case ENOMEM:
        return NBD_ENOMEM;
    case EINVAL:
        return NBD_EINVAL;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return NBD_ENOSPC;
    case EOVERFLOW:
        return NBD_EOVERFLOW;
    case ENOTSUP:
        return NBD_ENOTSUP;
    case ESHUTDOWN:
        return NBD_ESHUTDOWN;
    default:
        return NBD_EIO;
    }
}

size_t nbd_put_simple_reply(uint8_t *raw, uint64_t cookie, uint32_t error)
{
    stl_be_p(raw, NBD_SIMPLE_REPLY_MAGIC);
    stl_be_p(raw + 4, error);
    stq_be_p(raw + 8, cookie);
    return NBD_SIMPLE_REPLY_SIZE;
}

size_t nbd_put_chunk(uint8_t *raw, NbdMode mode, uint16_t flags, uint16_t type, uint64_t cookie,
                     uint64_t offset, uint64_t length)
{
    bool extended = mode == NBD_MODE_EXTENDED;

    stl_be_p(raw, extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
    stw_be_p(raw + 4, flags);
    stw_be_p(raw + 6, type);
    stq_be_p(raw + 8, cookie);
    if (extended) {
        stq_be_p(raw + 16, offset);
        stq_be_p(raw + 24, length);
        return NBD_EXTENDED_REPLY_SIZE;
    }
    assert(length <= UINT32_MAX);
    stl_be_p(raw + 16, length);
    return NBD_STRUCTURED_REPLY_SIZE;
}

size_t nbd_put_option_reply(uint8_t *raw, uint32_t option, uint32_t type, uint32_t length)
{
    stq_be_p(raw, NBD_OPT_REPLY_MAGIC);
    stl_be_p(raw + 8, option);
    stl_be_p(raw + 12, type);
    stl_be_p(raw + 16, length);
    return NBD_OPT_REPLY_SIZE;
}

static const uint8_t *cursor_take(NbdCursor *cursor, size_t bytes)
{
    const uint8_t *at = cursor->data;

    if (cursor->overrun || cursor->left < bytes) {
        cursor->overrun = true;
        cursor->left = 0;
        return NULL;
    }
    cursor->data += bytes;
    cursor->left -= bytes;
    return at;
}

uint16_t nbd_cursor_u16(NbdCursor *cursor)
{
    const uint8_t *at = cursor_take(cursor, 2);

    return at ? ldw_be_p(at) : 0;
}

uint32_t nbd_cursor_u32(NbdCursor *cursor)
{
    const uint8_t *at = cursor_take(cursor, 4);

    return at ? ldl_be_p(at) : 0;
}

bool nbd_cursor_string(NbdCursor *cursor, const char **ret_text, uint32_t *ret_length)
{
    uint32_t length = nbd_cursor_u32(cursor);
    const uint8_t *at = cursor_take(cursor, length);

    if (!at) {
        return false;
    }
    *ret_text = (const char *)at;
    *ret_length = length;
    return true;
}

uint32_t nbd_info_option_decode(const uint8_t *data, size_t length, NbdInfoOption *ret_option,
                                const char **ret_why)
{
    NbdCursor cursor = {.data = data, .left = length};
    NbdInfoOption option = {0};
    unsigned n_infos;

    if (!nbd_cursor_string(&cursor, &option.name, &option.name_length)) {
        *ret_why = "the name is longer than the option";
        return NBD_REP_ERR_INVALID;
    }
    if (option.name_length > NBD_MAX_STRING) {
        *ret_why = "the name is too long";
        return NBD_REP_ERR_TOO_BIG;
    }
    n_infos = nbd_cursor_u16(&cursor);
    if (cursor.overrun || cursor.left != 2 * (size_t)n_infos) {
        *ret_why = "the number of information requests does not match the length";
        return NBD_REP_ERR_INVALID;
    }
    while (n_infos--) {
        uint16_t info = nbd_cursor_u16(&cursor);

        option.wants_name |= info == NBD_INFO_NAME;
        option.wants_description |= info == NBD_INFO_DESCRIPTION;
        option.wants_block_size |= info == NBD_INFO_BLOCK_SIZE;
    }
    *ret_option = option;
    return 0;
}

uint32_t nbd_meta_option_decode(const uint8_t *data, size_t length, NbdMetaOption *ret_option,
                                const char **ret_why)
{
    NbdCursor cursor = {.data = data, .left = length};
    NbdMetaOption option = {0};
    const char *query;
    uint32_t query_length;

    if (!nbd_cursor_string(&cursor, &option.name, &option.name_length)) {
        *ret_why = "the name is longer than the option";
        return NBD_REP_ERR_INVALID;
    }
    option.n_queries = nbd_cursor_u32(&cursor);
    if (option.name_length > NBD_MAX_STRING || option.n_queries > NBD_MAX_QUERIES) {
        *ret_why = "the name or the list of queries is too long";
        return NBD_REP_ERR_TOO_BIG;
    }
    option.queries = cursor;
    for (uint32_t i = 0; i < option.n_queries; i++) {
        if (!nbd_cursor_string(&cursor, &query, &query_length)) {
            *ret_why = "a query is longer than the option";
            return NBD_REP_ERR_INVALID;
        }
    }
    if (cursor.overrun || cursor.left) {
        *ret_why = "the queries do not match the length";
        return NBD_REP_ERR_INVALID;
    }
    *ret_option = option;
    return 0;
}
