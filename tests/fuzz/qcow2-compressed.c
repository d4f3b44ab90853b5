/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compressed clusters of somebody else: the first byte says how, the rest is the data; nothing is written beyond a cluster. */
#include "block/drivers/qcow2/compress/codec.h"

#define CLUSTER (64 * KiB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *cluster;

    if (size < 2) {
        return 0;
    }
    cluster = g_malloc(CLUSTER);
    if (qcow2_codec_decompress(data[0] & 1, data + 1, size - 1, cluster, CLUSTER) == 0) {
        uint8_t *packed = g_malloc(CLUSTER), *again = g_malloc(CLUSTER);
        int64_t n = qcow2_codec_compress(data[0] & 1, cluster, CLUSTER, packed, CLUSTER - 1);

        if (n > 0) {
            int ret = qcow2_codec_decompress(data[0] & 1, packed, (size_t)n, again, CLUSTER);

            g_assert(ret == 0 && memcmp(cluster, again, CLUSTER) == 0);
        }
        g_free(packed);
        g_free(again);
    }
    g_free(cluster);
    return 0;
}
