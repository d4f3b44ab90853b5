/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Refcounts of 1, 2, 4 ... 64 bits. */
#include "block/drivers/qcow2/layout/refcount.h"

uint64_t qcow2_refcount_get(unsigned order, const void *block, uint64_t index)
{
    const uint8_t *bytes = block;

    switch (order) {
    case 3:
        return bytes[index];
    case 4:
        return ldw_be_p(bytes + index * 2);
    case 5:
        return ldl_be_p(bytes + index * 4);
    case 6:
        return ldq_be_p(bytes + index * 8);
    default: {
        unsigned bits = 1u << order;
        unsigned shift = (index << order) & 7;

        return (bytes[(index << order) >> 3] >> shift) & ((1u << bits) - 1);
    }
    }
}

void qcow2_refcount_set(unsigned order, void *block, uint64_t index, uint64_t value)
{
    uint8_t *bytes = block;

    switch (order) {
    case 3:
        bytes[index] = (uint8_t)value;
        break;
    case 4:
        stw_be_p(bytes + index * 2, (uint16_t)value);
        break;
    case 5:
        stl_be_p(bytes + index * 4, (uint32_t)value);
        break;
    case 6:
        stq_be_p(bytes + index * 8, value);
        break;
    default: {
        unsigned bits = 1u << order;
        unsigned shift = (index << order) & 7, mask = (1u << bits) - 1;
        uint8_t *byte = &bytes[(index << order) >> 3];

        assert(value <= mask);
        *byte = (uint8_t)((*byte & ~(mask << shift)) | (unsigned)value << shift);
        break;
    }
    }
}

/* Refcounts of one 64-bit word, the most that is looked at in one step. */
static uint64_t per_word(unsigned order)
{
    return UINT64_C(64) >> order;
}

static bool word_is_zero(unsigned order, const void *block, uint64_t index)
{
    uint64_t word;

    memcpy(&word, (const uint8_t *)block + ((index << order) >> 3), sizeof(word));
    return word == 0;
}

uint64_t qcow2_refcount_find(unsigned order, const void *block, uint64_t from, uint64_t end,
                             bool zero)
{
    uint64_t step = per_word(order);

    while (from < end) {
        if (!zero && from % step == 0 && end - from >= step && word_is_zero(order, block, from)) {
            from += step;
            continue;
        }
        if ((qcow2_refcount_get(order, block, from) == 0) == zero) {
            return from;
        }
        from++;
    }
    return end;
}

uint64_t qcow2_refcount_used_end(unsigned order, const void *block, uint64_t end)
{
    uint64_t step = per_word(order);

    while (end > 0) {
        if (end % step == 0 && end >= step && word_is_zero(order, block, end - step)) {
            end -= step;
            continue;
        }
        if (qcow2_refcount_get(order, block, end - 1)) {
            return end;
        }
        end--;
    }
    return 0;
}
