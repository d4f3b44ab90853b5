/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Headers and options off the wire: decoding, and the check before anything is executed (N1). */
#include <errno.h>
#include "block/export/nbd/nbd-format.h"
#include "util/osdep.h"

static const NbdRequestLimits plain = {
    .size = 1 * MiB, .alignment = 1, .has_contexts = true, .mode = NBD_MODE_STRUCTURED};

static NbdVerdict judge(const NbdRequestLimits *limits, uint16_t type, uint16_t flags,
                        uint64_t offset, uint64_t length)
{
    NbdRequestHeader header = {.type = type, .flags = flags, .offset = offset, .length = length};
    NbdVerdict verdict;

    nbd_request_check(&header, limits, &verdict);
    g_assert_true(!verdict.error == !verdict.why);
    return verdict;
}

static void expect(const NbdRequestLimits *limits, uint16_t type, uint16_t flags, uint64_t offset,
                   uint64_t length, uint32_t error)
{
    g_assert_cmpuint(judge(limits, type, flags, offset, length).error, ==, error);
}

static void requests_inside_the_export_pass(void)
{
    static const uint16_t ranged[] = {NBD_CMD_READ,  NBD_CMD_WRITE,        NBD_CMD_TRIM,
                                      NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS};

    for (size_t i = 0; i < ARRAY_SIZE(ranged); i++) {
        expect(&plain, ranged[i], 0, 0, 1 * MiB, 0);
        expect(&plain, ranged[i], NBD_CMD_FLAG_FUA, 1 * MiB - 1, 1, 0);
    }
    expect(&plain, NBD_CMD_FLUSH, 0, 0, 0, 0);
    expect(&plain, NBD_CMD_READ, 0, 1 * MiB, 0, 0);
}

static void the_end_of_the_export_is_the_end(void)
{
    expect(&plain, NBD_CMD_READ, 0, 1 * MiB - 1, 2, NBD_EINVAL);
    expect(&plain, NBD_CMD_WRITE, 0, 1 * MiB - 1, 2, NBD_ENOSPC);
    expect(&plain, NBD_CMD_WRITE_ZEROES, 0, 1 * MiB, 1, NBD_ENOSPC);
    expect(&plain, NBD_CMD_TRIM, 0, 1 * MiB, 1, NBD_EINVAL);
    expect(&plain, NBD_CMD_CACHE, 0, 1 * MiB + 1, 0, NBD_EINVAL);
    expect(&plain, NBD_CMD_BLOCK_STATUS, 0, 0, 1 * MiB + 1, NBD_EINVAL);
}

static void no_sum_of_offset_and_length_overflows(void)
{
    NbdRequestLimits limits = plain;

    expect(&limits, NBD_CMD_READ, 0, UINT64_MAX - 511, 512, NBD_EINVAL);
    expect(&limits, NBD_CMD_READ, 0, UINT64_MAX - 511, 4096, NBD_EINVAL);
    limits.mode = NBD_MODE_EXTENDED;
    expect(&limits, NBD_CMD_WRITE_ZEROES, 0, 4096, UINT64_MAX - 4095, NBD_ENOSPC);
    expect(&limits, NBD_CMD_TRIM, 0, 0, UINT64_MAX, NBD_EINVAL);
}

static void a_buffer_is_never_longer_than_the_largest_block(void)
{
    NbdRequestLimits limits = plain;

    limits.size = 1 * TiB;
    expect(&limits, NBD_CMD_READ, 0, 0, NBD_MAX_BUFFER_SIZE, 0);
    expect(&limits, NBD_CMD_READ, 0, 0, NBD_MAX_BUFFER_SIZE + 1, NBD_EINVAL);
    expect(&limits, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, NBD_MAX_BUFFER_SIZE + 1, NBD_EOVERFLOW);
    expect(&limits, NBD_CMD_WRITE, 0, 0, NBD_MAX_BUFFER_SIZE + 1, NBD_EINVAL);
    expect(&limits, NBD_CMD_WRITE_ZEROES, 0, 0, UINT32_MAX, 0);
    expect(&limits, NBD_CMD_CACHE, 0, 0, UINT32_MAX, 0);
}

static void a_payload_is_skipped_only_up_to_a_bound(void)
{
    NbdVerdict verdict = judge(&plain, NBD_CMD_WRITE, 0, 0, NBD_MAX_SKIP);

    g_assert_cmpuint(verdict.error, ==, NBD_EINVAL);
    g_assert_cmpuint(verdict.payload, ==, NBD_MAX_SKIP);
    g_assert_false(verdict.fatal);
    g_assert_true(judge(&plain, NBD_CMD_WRITE, 0, 0, NBD_MAX_SKIP + 1).fatal);
    g_assert_false(judge(&plain, NBD_CMD_READ, 0, 0, UINT32_MAX).fatal);
}

static void with_extended_headers_the_flag_says_what_has_a_payload(void)
{
    NbdRequestLimits limits = plain;

    limits.mode = NBD_MODE_EXTENDED;
    expect(&limits, NBD_CMD_WRITE, NBD_CMD_FLAG_PAYLOAD_LEN, 0, 4096, 0);
    /* QEMU's client leaves the flag out of writes. */
    expect(&limits, NBD_CMD_WRITE, 0, 0, 4096, 0);
    g_assert_cmpuint(judge(&limits, NBD_CMD_WRITE, 0, 0, 4096).payload, ==, 4096);
    expect(&limits, NBD_CMD_FLUSH, NBD_CMD_FLAG_PAYLOAD_LEN, 0, 99, NBD_EINVAL);
    g_assert_cmpuint(judge(&limits, NBD_CMD_FLUSH, NBD_CMD_FLAG_PAYLOAD_LEN, 0, 99).payload, ==,
                     99);
    g_assert_true(judge(&limits, 77, NBD_CMD_FLAG_PAYLOAD_LEN, 0, UINT64_MAX).fatal);
    expect(&plain, NBD_CMD_WRITE, NBD_CMD_FLAG_PAYLOAD_LEN, 0, 4096, NBD_EINVAL);
}

static void a_read_only_export_refuses_every_change(void)
{
    NbdRequestLimits limits = plain;

    limits.read_only = true;
    expect(&limits, NBD_CMD_WRITE, 0, 0, 512, NBD_EPERM);
    expect(&limits, NBD_CMD_TRIM, 0, 0, 512, NBD_EPERM);
    expect(&limits, NBD_CMD_WRITE_ZEROES, 0, 0, 512, NBD_EPERM);
    expect(&limits, NBD_CMD_READ, 0, 0, 512, 0);
    expect(&limits, NBD_CMD_FLUSH, 0, 0, 0, 0);
}

static void flags_belong_to_their_command(void)
{
    NbdRequestLimits simple = plain;

    simple.mode = NBD_MODE_SIMPLE;
    expect(&plain, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 512, 0);
    expect(&simple, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 512, NBD_EINVAL);
    expect(&plain, NBD_CMD_WRITE, NBD_CMD_FLAG_DF, 0, 512, NBD_EINVAL);
    expect(&plain, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO, 0, 512, 0);
    expect(&plain, NBD_CMD_TRIM, NBD_CMD_FLAG_NO_HOLE, 0, 512, NBD_EINVAL);
    expect(&plain, NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 0, 512, 0);
    expect(&plain, NBD_CMD_READ, 1 << 15, 0, 512, NBD_EINVAL);
    expect(&plain, 77, 0, 0, 0, NBD_EINVAL);
}

static void alignment_counts_for_clients_that_know_it(void)
{
    NbdRequestLimits limits = plain;

    limits.alignment = 512;
    expect(&limits, NBD_CMD_READ, 0, 512, 512, 0);
    expect(&limits, NBD_CMD_READ, 0, 256, 512, NBD_EINVAL);
    expect(&limits, NBD_CMD_WRITE, 0, 512, 100, NBD_EINVAL);
    expect(&plain, NBD_CMD_READ, 0, 3, 5, 0);
}

static void block_status_needs_a_context_and_a_length(void)
{
    NbdRequestLimits limits = plain;

    expect(&plain, NBD_CMD_BLOCK_STATUS, 0, 0, 0, NBD_EINVAL);
    limits.has_contexts = false;
    expect(&limits, NBD_CMD_BLOCK_STATUS, 0, 0, 512, NBD_EINVAL);
}

static void a_header_of_another_kind_is_not_taken(void)
{
    uint8_t raw[NBD_EXTENDED_REQUEST_SIZE] = {0};
    NbdRequestHeader header;

    stl_be_p(raw, NBD_REQUEST_MAGIC);
    stw_be_p(raw + 4, 3);
    stw_be_p(raw + 6, NBD_CMD_TRIM);
    stq_be_p(raw + 8, UINT64_C(0x0102030405060708));
    stq_be_p(raw + 16, 4096);
    stl_be_p(raw + 24, 512);
    g_assert_true(nbd_request_decode(raw, NBD_MODE_SIMPLE, &header));
    g_assert_cmpuint(header.flags, ==, 3);
    g_assert_cmpuint(header.type, ==, NBD_CMD_TRIM);
    g_assert_cmpuint(header.cookie, ==, UINT64_C(0x0102030405060708));
    g_assert_cmpuint(header.offset, ==, 4096);
    g_assert_cmpuint(header.length, ==, 512);
    g_assert_false(nbd_request_decode(raw, NBD_MODE_EXTENDED, &header));
    stl_be_p(raw, NBD_EXTENDED_REQUEST_MAGIC);
    g_assert_true(nbd_request_decode(raw, NBD_MODE_EXTENDED, &header));
    g_assert_cmpuint(header.length, ==, UINT64_C(512) << 32);
    g_assert_false(nbd_request_decode(raw, NBD_MODE_STRUCTURED, &header));
}

static void every_errno_has_a_word_on_the_wire(void)
{
    g_assert_cmpuint(nbd_errno(EROFS), ==, NBD_EPERM);
    g_assert_cmpuint(nbd_errno(EDQUOT), ==, NBD_ENOSPC);
    g_assert_cmpuint(nbd_errno(EFBIG), ==, NBD_ENOSPC);
    g_assert_cmpuint(nbd_errno(ENOTSUP), ==, NBD_ENOTSUP);
    for (int error = 1; error < 200; error++) {
        g_assert_cmpuint(nbd_errno(error), !=, NBD_SUCCESS);
    }
}

static void meta_queries_are_checked_before_the_first_is_read(void)
{
    static const uint8_t good[] = "\0\0\0\1a\0\0\0\2\0\0\0\5base:\0\0\0\0";
    static const uint8_t overrun[] = "\0\0\0\1a\0\0\0\2\0\0\0\5base:\0\0\0\1";
    NbdMetaOption option;
    const char *why = NULL, *query;
    uint32_t length;

    g_assert_cmpuint(nbd_meta_option_decode(good, sizeof(good) - 1, &option, &why), ==, 0);
    g_assert_cmpuint(option.n_queries, ==, 2);
    g_assert_true(nbd_cursor_string(&option.queries, &query, &length));
    g_assert_cmpmem(query, length, "base:", 5);
    g_assert_true(nbd_cursor_string(&option.queries, &query, &length));
    g_assert_cmpuint(length, ==, 0);
    g_assert_false(nbd_cursor_string(&option.queries, &query, &length));
    g_assert_cmpuint(nbd_meta_option_decode(overrun, sizeof(overrun) - 1, &option, &why), ==,
                     NBD_REP_ERR_INVALID);
    g_assert_nonnull(why);
    for (size_t cut = 0; cut < sizeof(good) - 1; cut++) {
        g_assert_cmpuint(nbd_meta_option_decode(good, cut, &option, &why), !=, 0);
    }
}

static void info_requests_match_the_length_of_the_option(void)
{
    static const uint8_t good[] = "\0\0\0\4disk\0\2\0\1\0\3";
    NbdInfoOption option;
    const char *why = NULL;

    g_assert_cmpuint(nbd_info_option_decode(good, sizeof(good) - 1, &option, &why), ==, 0);
    g_assert_cmpmem(option.name, option.name_length, "disk", 4);
    g_assert_true(option.wants_name && option.wants_block_size && !option.wants_description);
    for (size_t cut = 0; cut < sizeof(good) - 1; cut++) {
        g_assert_cmpuint(nbd_info_option_decode(good, cut, &option, &why), ==, NBD_REP_ERR_INVALID);
    }
    g_assert_cmpuint(nbd_info_option_decode(good, sizeof(good), &option, &why), ==,
                     NBD_REP_ERR_INVALID);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define TEST(name) g_test_add_func("/export/wire/" #name, name)
    TEST(requests_inside_the_export_pass);
    TEST(the_end_of_the_export_is_the_end);
    TEST(no_sum_of_offset_and_length_overflows);
    TEST(a_buffer_is_never_longer_than_the_largest_block);
    TEST(a_payload_is_skipped_only_up_to_a_bound);
    TEST(with_extended_headers_the_flag_says_what_has_a_payload);
    TEST(a_read_only_export_refuses_every_change);
    TEST(flags_belong_to_their_command);
    TEST(alignment_counts_for_clients_that_know_it);
    TEST(block_status_needs_a_context_and_a_length);
    TEST(a_header_of_another_kind_is_not_taken);
    TEST(every_errno_has_a_word_on_the_wire);
    TEST(meta_queries_are_checked_before_the_first_is_read);
    TEST(info_requests_match_the_length_of_the_option);
    return g_test_run();
}
