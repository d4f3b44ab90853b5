/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nbd-format.h - what goes over the wire, and nothing else
 *
 * Numbers and layouts are those of the NBD protocol specification ("proto.md" of the NBD project).
 * Everything is big-endian and unaligned, so the wire is bytes and offsets here, not C structs; the
 * structs below are the decoded forms.  Decoders read only inside the length they are given: they
 * are what the fuzzers call.
 */
#ifndef NBD_FORMAT_H
#define NBD_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Handshake. */
#define NBD_INIT_MAGIC      UINT64_C(0x4e42444d41474943) /* "NBDMAGIC" */
#define NBD_OPT_MAGIC       UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_OPT_REPLY_MAGIC UINT64_C(0x0003e889045565a9)

enum {
    NBD_FLAG_FIXED_NEWSTYLE = 1 << 0,
    NBD_FLAG_NO_ZEROES = 1 << 1,
    NBD_FLAG_C_FIXED_NEWSTYLE = 1 << 0,
    NBD_FLAG_C_NO_ZEROES = 1 << 1,
};

enum {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_STARTTLS = 5,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED_REPLY = 8,
    NBD_OPT_LIST_META_CONTEXT = 9,
    NBD_OPT_SET_META_CONTEXT = 10,
    NBD_OPT_EXTENDED_HEADERS = 11,
};

#define NBD_REP_ERR(n)              (UINT32_C(0x80000000) + (n))
#define NBD_REP_ACK                 UINT32_C(1)
#define NBD_REP_SERVER              UINT32_C(2)
#define NBD_REP_INFO                UINT32_C(3)
#define NBD_REP_META_CONTEXT        UINT32_C(4)
#define NBD_REP_ERR_UNSUP           NBD_REP_ERR(1)
#define NBD_REP_ERR_POLICY          NBD_REP_ERR(2)
#define NBD_REP_ERR_INVALID         NBD_REP_ERR(3)
#define NBD_REP_ERR_TLS_REQD        NBD_REP_ERR(5)
#define NBD_REP_ERR_UNKNOWN         NBD_REP_ERR(6)
#define NBD_REP_ERR_SHUTDOWN        NBD_REP_ERR(7)
#define NBD_REP_ERR_TOO_BIG         NBD_REP_ERR(9)
#define NBD_REP_ERR_EXT_HEADER_REQD NBD_REP_ERR(10)

enum {
    NBD_INFO_EXPORT = 0,
    NBD_INFO_NAME = 1,
    NBD_INFO_DESCRIPTION = 2,
    NBD_INFO_BLOCK_SIZE = 3,
};

/* Transmission flags. */
enum {
    NBD_FLAG_HAS_FLAGS = 1 << 0,
    NBD_FLAG_READ_ONLY = 1 << 1,
    NBD_FLAG_SEND_FLUSH = 1 << 2,
    NBD_FLAG_SEND_FUA = 1 << 3,
    NBD_FLAG_SEND_TRIM = 1 << 5,
    NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
    NBD_FLAG_SEND_DF = 1 << 7,
    NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
    NBD_FLAG_SEND_CACHE = 1 << 10,
    NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
};

/* Transmission. */
#define NBD_REQUEST_MAGIC          UINT32_C(0x25609513)
#define NBD_EXTENDED_REQUEST_MAGIC UINT32_C(0x21e41c71)
#define NBD_SIMPLE_REPLY_MAGIC     UINT32_C(0x67446698)
#define NBD_STRUCTURED_REPLY_MAGIC UINT32_C(0x668e33ef)
#define NBD_EXTENDED_REPLY_MAGIC   UINT32_C(0x6e8a278c)

#define NBD_REQUEST_SIZE          28u /* magic 4, flags 2, type 2, cookie 8, offset 8, length 4 */
#define NBD_EXTENDED_REQUEST_SIZE 32u /* the same with length 8 */
#define NBD_SIMPLE_REPLY_SIZE     16u /* magic 4, error 4, cookie 8 */
#define NBD_STRUCTURED_REPLY_SIZE 20u /* magic 4, flags 2, type 2, cookie 8, length 4 */
#define NBD_EXTENDED_REPLY_SIZE   32u /* magic 4, flags 2, type 2, cookie 8, offset 8, length 8 */
#define NBD_OPT_HEADER_SIZE       16u /* magic 8, option 4, length 4 */
#define NBD_OPT_REPLY_SIZE        20u /* magic 8, option 4, type 4, length 4 */

enum {
    NBD_CMD_READ = 0,
    NBD_CMD_WRITE = 1,
    NBD_CMD_DISC = 2,
    NBD_CMD_FLUSH = 3,
    NBD_CMD_TRIM = 4,
    NBD_CMD_CACHE = 5,
    NBD_CMD_WRITE_ZEROES = 6,
    NBD_CMD_BLOCK_STATUS = 7,
};

enum {
    NBD_CMD_FLAG_FUA = 1 << 0,
    NBD_CMD_FLAG_NO_HOLE = 1 << 1,
    NBD_CMD_FLAG_DF = 1 << 2,
    NBD_CMD_FLAG_REQ_ONE = 1 << 3,
    NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
    NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5,
};

#define NBD_REPLY_FLAG_DONE (1 << 0)
enum {
    NBD_REPLY_TYPE_NONE = 0,
    NBD_REPLY_TYPE_OFFSET_DATA = 1,
    NBD_REPLY_TYPE_OFFSET_HOLE = 2,
    NBD_REPLY_TYPE_BLOCK_STATUS = 5,
    NBD_REPLY_TYPE_BLOCK_STATUS_EXT = 6,
    NBD_REPLY_TYPE_ERROR = (1 << 15) + 1,
};

/* base:allocation, and the one bit of qemu:dirty-bitmap: */
#define NBD_STATE_HOLE  (1 << 0)
#define NBD_STATE_ZERO  (1 << 1)
#define NBD_STATE_DIRTY (1 << 0)

enum {
    NBD_SUCCESS = 0,
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
    NBD_EOVERFLOW = 75,
    NBD_ENOTSUP = 95,
    NBD_ESHUTDOWN = 108,
};

/*
 * Limits.
 *
 * NBD_MAX_BUFFER_SIZE       the payload that the specification calls portable, and that clients assume
 * NBD_MAX_SKIP              a refused write's payload is read and dropped up to here, so that a client which
 *                           only asked too much gets an answer; beyond, the connection ends
 * NBD_MAX_STRING            the specification's limit of a name
 * NBD_MAX_OPTION            two names, and 100 queries of a meta context option besides; nothing needs more
 * NBD_MAX_OPTIONS           options in one handshake; a client that haggles longer is not a client
 * NBD_MAX_QUERIES           queries in one option, more than any server has contexts of different kinds
 */
#define NBD_MAX_BUFFER_SIZE (32u << 20)
#define NBD_MAX_SKIP        (64u << 20)
#define NBD_MAX_STRING      4096u
#define NBD_MAX_OPTION      (64u << 10)
#define NBD_MAX_OPTIONS     256u
#define NBD_MAX_QUERIES     512u

/* How requests and replies are framed on one connection. */
typedef enum NbdMode { NBD_MODE_SIMPLE, NBD_MODE_STRUCTURED, NBD_MODE_EXTENDED } NbdMode;

typedef struct NbdRequestHeader {
    uint16_t flags, type;
    uint64_t cookie, offset, length;
} NbdRequestHeader;

/* Against what a request is checked. */
typedef struct NbdRequestLimits {
    int64_t size;       /* of the export, bytes */
    uint32_t alignment; /* of offset and length: 1 unless the client asked for block sizes */
    bool read_only;
    bool has_contexts; /* a meta context was negotiated: block status is allowed */
    NbdMode mode;
} NbdRequestLimits;

/* What becomes of a request. */
typedef struct NbdVerdict {
    uint32_t error;   /* NBD_E*, 0: execute it */
    const char *why;  /* in words when @error is not 0 */
    uint64_t payload; /* bytes that follow the header */
    bool fatal;       /* the payload is beyond NBD_MAX_SKIP: end the connection */
} NbdVerdict;

static inline size_t nbd_request_size(NbdMode mode)
{
    return mode == NBD_MODE_EXTENDED ? NBD_EXTENDED_REQUEST_SIZE : NBD_REQUEST_SIZE;
}

/* nbd_request_decode() - @raw holds nbd_request_size(@mode) bytes; false: the magic is wrong */
bool nbd_request_decode(const uint8_t *raw, NbdMode mode, NbdRequestHeader *ret_header);

/* nbd_request_check() - may it be executed, and what payload does it have; touches nothing else */
void nbd_request_check(const NbdRequestHeader *header, const NbdRequestLimits *limits,
                       NbdVerdict *ret_verdict);

/* nbd_errno() - the wire's error for an errno (positive); never 0 */
uint32_t nbd_errno(int error);

/* "READ"; "command 77" has no name: NULL */
const char *nbd_cmd_name(uint16_t type);

/* Writers; each returns how many bytes it wrote. */
size_t nbd_put_simple_reply(uint8_t *raw, uint64_t cookie, uint32_t error);
/* @offset goes out in extended mode only; @length is that of the payload that follows. */
size_t nbd_put_chunk(uint8_t *raw, NbdMode mode, uint16_t flags, uint16_t type, uint64_t cookie,
                     uint64_t offset, uint64_t length);
size_t nbd_put_option_reply(uint8_t *raw, uint32_t option, uint32_t type, uint32_t length);

/* A cursor over the payload of an option.  After a read beyond the end everything reads as zero. */
typedef struct NbdCursor {
    const uint8_t *data;
    size_t left;
    bool overrun;
} NbdCursor;

uint16_t nbd_cursor_u16(NbdCursor *cursor);
uint32_t nbd_cursor_u32(NbdCursor *cursor);
/* A 32-bit length and that many bytes; *ret_text points into the payload, not terminated. */
bool nbd_cursor_string(NbdCursor *cursor, const char **ret_text, uint32_t *ret_length);

/* The payload of INFO and GO. */
typedef struct NbdInfoOption {
    const char *name;
    uint32_t name_length;
    bool wants_name, wants_description, wants_block_size;
} NbdInfoOption;

/* 0, or the NBD_REP_ERR_* to answer with; *ret_why says why. */
uint32_t nbd_info_option_decode(const uint8_t *data, size_t length, NbdInfoOption *ret_option,
                                const char **ret_why);

/* The payload of LIST_META_CONTEXT and SET_META_CONTEXT, whose queries stay in the cursor. */
typedef struct NbdMetaOption {
    const char *name;
    uint32_t name_length;
    uint32_t n_queries;
    NbdCursor queries;
} NbdMetaOption;

/* Checks all the queries' lengths too, so that reading them afterwards cannot fail. */
uint32_t nbd_meta_option_decode(const uint8_t *data, size_t length, NbdMetaOption *ret_option,
                                const char **ret_why);

#endif
