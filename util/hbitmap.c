/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hbitmap.c - a sparse bitmap as a tree whose uniform parts cost nothing
 *
 *     level 2                 [ node: 512 children ]
 *                              /     |           \
 *     level 1           all clear   [ node ]     all set
 *                                    /   \
 *     level 0 (leaf)      [ 32768 bits ]  all clear ...
 *
 *   B1  A part of the tree that is all clear is NULL, one that is all set is NODE_FULL; a real node
 *       is neither.  So memory follows the borders between clear and set, and a search never
 *       enters a part in vain.
 *   B2  Every node knows how many bits below it are set: counting is adding, and B1 is kept by
 *       comparing that number.
 *   B3  Bits behind the end are clear, whatever the tree could hold.
 *
 * Inside, positions are bits relative to the node at hand; only the public functions know items.
 */
#include "util/hbitmap.h"
#include "util/osdep.h"

/* A node is about one page: 512 words, or 512 children. */
#define FANOUT_BITS 9
#define FANOUT      (1 << FANOUT_BITS)
#define LEAF_BITS   (FANOUT_BITS + 6)

#define NOT_FOUND UINT64_MAX

typedef struct HBitmapNode HBitmapNode;
struct HBitmapNode {
    uint64_t set; /* bits set below; 0 < set < node_span() (B1, B2) */
    union {
        uint64_t word[FANOUT];      /* level 0 */
        HBitmapNode *child[FANOUT]; /* above */
    };
};

struct HBitmap {
    HBitmapNode *root;
    int level;     /* of the root */
    uint64_t bits; /* size in bits */
    uint64_t size; /* size in items */
    int granularity;
    uint64_t nodes; /* allocated */
};

/* Only its address is used. */
static HBitmapNode node_full;
#define NODE_FULL (&node_full)

static bool node_is_real(const HBitmapNode *node)
{
    return node && node != NODE_FULL;
}

/* Bits under one child of a node at @level. */
static int child_shift(int level)
{
    return LEAF_BITS + FANOUT_BITS * (level - 1);
}

/* Bits under a node.  One that does not fit in 64 bits is never full: no bitmap is so large. */
static uint64_t node_span(int level)
{
    int shift = child_shift(level + 1);

    return shift < 64 ? UINT64_C(1) << shift : UINT64_MAX;
}

static uint64_t node_count(const HBitmapNode *node, int level)
{
    return !node ? 0 : node == NODE_FULL ? node_span(level) : node->set;
}

static void node_free(HBitmap *hb, HBitmapNode *node, int level)
{
    if (!node_is_real(node)) {
        return;
    }
    if (level > 0) {
        for (int i = 0; i < FANOUT; i++) {
            node_free(hb, node->child[i], level - 1);
        }
    }
    g_free(node);
    hb->nodes--;
}

/* A real node in the place of a uniform one. */
static HBitmapNode *node_new(HBitmap *hb, const HBitmapNode *uniform, int level)
{
    HBitmapNode *node = g_new0(HBitmapNode, 1);

    hb->nodes++;
    if (uniform == NODE_FULL) {
        node->set = node_span(level);
        if (level == 0) {
            memset(node->word, 0xff, sizeof(node->word));
        } else {
            for (int i = 0; i < FANOUT; i++) {
                node->child[i] = NODE_FULL;
            }
        }
    }
    return node;
}

/* The bits from @from on up to @to (not included), which lie in one word. */
static uint64_t word_mask(unsigned int from, unsigned int to)
{
    uint64_t below_to = to == 64 ? UINT64_MAX : (UINT64_C(1) << to) - 1;

    return below_to & (UINT64_MAX << from);
}

static void leaf_change(HBitmapNode *leaf, unsigned int from, unsigned int to, bool value)
{
    while (from < to) {
        uint64_t *word = &leaf->word[from / 64];
        unsigned int end = MIN(to, (from / 64 + 1) * 64);
        uint64_t mask = word_mask(from % 64, end - from / 64 * 64);

        leaf->set -= (uint64_t)ctpop64(*word);
        *word = value ? *word | mask : *word & ~mask;
        leaf->set += (uint64_t)ctpop64(*word);
        from = end;
    }
}

/* Make the bits [@from, @to) of @node @value.  Returns what stands in the node's place now. */
static HBitmapNode *node_change(HBitmap *hb, HBitmapNode *node, int level, uint64_t from,
                                uint64_t to, bool value)
{
    HBitmapNode *uniform = value ? NODE_FULL : NULL;
    uint64_t span = node_span(level);

    if (node == uniform) {
        return node;
    }
    if (from == 0 && to == span) {
        node_free(hb, node, level);
        return uniform;
    }
    if (!node_is_real(node)) {
        node = node_new(hb, node, level);
    }

    if (level == 0) {
        leaf_change(node, (unsigned int)from, (unsigned int)to, value);
    } else {
        int shift = child_shift(level);

        while (from < to) {
            uint64_t index = from >> shift;
            uint64_t base = index << shift;
            uint64_t end = MIN(to - base, UINT64_C(1) << shift);
            HBitmapNode *child = node->child[index];

            node->set -= node_count(child, level - 1);
            child = node_change(hb, child, level - 1, from - base, end, value);
            node->set += node_count(child, level - 1);
            node->child[index] = child;
            from = base + end;
        }
    }

    if (node->set == (value ? span : 0)) { /* B1 */
        node_free(hb, node, level);
        return uniform;
    }
    return node;
}

static uint64_t leaf_find(const HBitmapNode *leaf, uint64_t from, uint64_t to, bool value)
{
    while (from < to) {
        uint64_t word = leaf->word[from / 64];
        uint64_t wanted = (value ? word : ~word) & (UINT64_MAX << (from % 64));

        if (wanted) {
            uint64_t found = ROUND_DOWN(from, 64) + (uint64_t)ctz64(wanted);
            return found < to ? found : NOT_FOUND;
        }
        from = ROUND_DOWN(from, 64) + 64;
    }
    return NOT_FOUND;
}

/* The first bit in [@from, @to) that is @value. */
static uint64_t node_find(const HBitmapNode *node, int level, uint64_t from, uint64_t to,
                          bool value)
{
    int shift;

    if (from >= to) {
        return NOT_FOUND;
    }
    if (!node_is_real(node)) {
        return (node == NODE_FULL) == value ? from : NOT_FOUND;
    }
    if (level == 0) {
        return leaf_find(node, from, to, value);
    }

    shift = child_shift(level);
    while (from < to) {
        uint64_t index = from >> shift;
        uint64_t base = index << shift;
        uint64_t end = MIN(to - base, UINT64_C(1) << shift);
        uint64_t found = node_find(node->child[index], level - 1, from - base, end, value);

        if (found != NOT_FOUND) {
            return base + found;
        }
        from = base + end;
    }
    return NOT_FOUND;
}

static uint64_t leaf_count_range(const HBitmapNode *leaf, unsigned int from, unsigned int to)
{
    uint64_t count = 0;

    while (from < to) {
        unsigned int end = MIN(to, (from / 64 + 1) * 64);

        count +=
            (uint64_t)ctpop64(leaf->word[from / 64] & word_mask(from % 64, end - from / 64 * 64));
        from = end;
    }
    return count;
}

/* Set bits in [@from, @to). */
static uint64_t node_count_range(const HBitmapNode *node, int level, uint64_t from, uint64_t to)
{
    uint64_t count = 0;
    int shift;

    if (!node_is_real(node)) {
        return node == NODE_FULL ? to - from : 0;
    }
    if (from == 0 && to == node_span(level)) {
        return node->set;
    }
    if (level == 0) {
        return leaf_count_range(node, (unsigned int)from, (unsigned int)to);
    }

    shift = child_shift(level);
    while (from < to) {
        uint64_t index = from >> shift;
        uint64_t base = index << shift;
        uint64_t end = MIN(to - base, UINT64_C(1) << shift);

        count += node_count_range(node->child[index], level - 1, from - base, end);
        from = base + end;
    }
    return count;
}

/* Add the bits of @src, a node of another bitmap at the same place, to @dst of @hb. */
static HBitmapNode *node_unite(HBitmap *hb, HBitmapNode *dst, const HBitmapNode *src, int level)
{
    if (!src || dst == NODE_FULL) {
        return dst;
    }
    if (src == NODE_FULL) {
        node_free(hb, dst, level);
        return NODE_FULL;
    }
    if (!dst) {
        dst = node_new(hb, NULL, level);
    }

    for (int i = 0; i < FANOUT; i++) {
        if (level == 0) {
            uint64_t added = src->word[i] & ~dst->word[i];

            dst->word[i] |= added;
            dst->set += (uint64_t)ctpop64(added);
        } else {
            dst->set -= node_count(dst->child[i], level - 1);
            dst->child[i] = node_unite(hb, dst->child[i], src->child[i], level - 1);
            dst->set += node_count(dst->child[i], level - 1);
        }
    }
    if (dst->set == node_span(level)) { /* B1 */
        node_free(hb, dst, level);
        return NODE_FULL;
    }
    return dst;
}

/* Items and bits */

static uint64_t bits_for(uint64_t size, int granularity)
{
    /* Not (size + mask) >> granularity: the sum could wrap. */
    return (size >> granularity) + ((size & ((UINT64_C(1) << granularity) - 1)) != 0);
}

static int level_for(uint64_t bits)
{
    int level = 0;

    while (node_span(level) < bits) {
        level++;
    }
    return level;
}

HBitmap *hbitmap_alloc(uint64_t size, int granularity)
{
    HBitmap *hb;

    assert(size <= INT64_MAX);
    assert(granularity >= 0 && granularity < 64);
    hb = g_new0(HBitmap, 1);
    hb->size = size;
    hb->granularity = granularity;
    hb->bits = bits_for(size, granularity);
    hb->level = level_for(hb->bits);
    return hb;
}

void hbitmap_free(HBitmap *hb)
{
    if (!hb) {
        return;
    }
    node_free(hb, hb->root, hb->level);
    assert(hb->nodes == 0);
    g_free(hb);
}

uint64_t hbitmap_size(const HBitmap *hb)
{
    return hb->size;
}

int hbitmap_granularity(const HBitmap *hb)
{
    return hb->granularity;
}

uint64_t hbitmap_memory(const HBitmap *hb)
{
    return sizeof(*hb) + hb->nodes * sizeof(HBitmapNode);
}

/* Whether the range is inside. */
static bool hbitmap_has(const HBitmap *hb, uint64_t start, uint64_t count)
{
    return start <= hb->size && count <= hb->size - start;
}

void hbitmap_set(HBitmap *hb, uint64_t start, uint64_t count)
{
    assert(hbitmap_has(hb, start, count));
    if (count > 0) {
        hb->root = node_change(hb, hb->root, hb->level, start >> hb->granularity,
                               bits_for(start + count, hb->granularity), true);
    }
}

void hbitmap_reset(HBitmap *hb, uint64_t start, uint64_t count)
{
    uint64_t inside_bit = (UINT64_C(1) << hb->granularity) - 1;

    assert(hbitmap_has(hb, start, count));
    assert((start & inside_bit) == 0);
    assert(((start + count) & inside_bit) == 0 || start + count == hb->size);
    if (count > 0) {
        hb->root = node_change(hb, hb->root, hb->level, start >> hb->granularity,
                               bits_for(start + count, hb->granularity), false);
    }
}

void hbitmap_reset_all(HBitmap *hb)
{
    node_free(hb, hb->root, hb->level);
    hb->root = NULL;
}

void hbitmap_truncate(HBitmap *hb, uint64_t size)
{
    uint64_t bits = bits_for(size, hb->granularity);
    int level = level_for(bits);

    assert(size <= INT64_MAX);
    if (bits < hb->bits) {
        hb->root = node_change(hb, hb->root, hb->level, bits, hb->bits, false); /* B3 */
    }

    for (; hb->level < level; hb->level++) {
        if (hb->root) {
            HBitmapNode *root = node_new(hb, NULL, hb->level + 1);

            root->child[0] = hb->root;
            root->set = node_count(hb->root, hb->level);
            hb->root = root;
        }
    }
    for (; hb->level > level; hb->level--) {
        if (hb->root) {
            HBitmapNode *root = hb->root;

            assert(node_is_real(root)); /* it has room for more bits than there are: B3 */
            hb->root = root->child[0];
            g_free(root);
            hb->nodes--;
        }
    }
    hb->size = size;
    hb->bits = bits;
}

bool hbitmap_get(const HBitmap *hb, uint64_t item)
{
    uint64_t bit = item >> hb->granularity;
    const HBitmapNode *node = hb->root;

    assert(item < hb->size);
    for (int level = hb->level; node_is_real(node); level--) {
        if (level == 0) {
            return node->word[bit / 64] >> (bit % 64) & 1;
        }
        node = node->child[bit >> child_shift(level)];
        bit &= (UINT64_C(1) << child_shift(level)) - 1;
    }
    return node == NODE_FULL;
}

bool hbitmap_empty(const HBitmap *hb)
{
    return hb->root == NULL; /* B1 */
}

uint64_t hbitmap_count(const HBitmap *hb)
{
    return node_count(hb->root, hb->level) << hb->granularity;
}

uint64_t hbitmap_count_range(const HBitmap *hb, uint64_t start, uint64_t count)
{
    assert(hbitmap_has(hb, start, count));
    if (count == 0) {
        return 0;
    }
    return node_count_range(hb->root, hb->level, start >> hb->granularity,
                            bits_for(start + count, hb->granularity))
           << hb->granularity;
}

static void hbitmap_unite(HBitmap *dst, const HBitmap *src)
{
    uint64_t from = 0;

    if (dst == src) {
        return;
    }
    if (dst->granularity == src->granularity) {
        dst->root = node_unite(dst, dst->root, src->root, src->level);
        return;
    }
    while ((from = node_find(src->root, src->level, from, src->bits, true)) != NOT_FOUND) {
        uint64_t to = node_find(src->root, src->level, from, src->bits, false);
        uint64_t start = from << src->granularity;

        from = to == NOT_FOUND ? src->bits : to;
        hbitmap_set(dst, start, (to == NOT_FOUND ? src->size : to << src->granularity) - start);
    }
}

void hbitmap_merge(const HBitmap *a, const HBitmap *b, HBitmap *result)
{
    assert(a->size == b->size && a->size == result->size);
    if (result != a && result != b) {
        hbitmap_reset_all(result);
    }
    hbitmap_unite(result, a);
    hbitmap_unite(result, b);
}

/* Walks and searches */

void hbitmap_iter_init(HBitmapIter *iter, const HBitmap *hb, uint64_t first)
{
    *iter = (HBitmapIter){.hb = hb, .next = first >> hb->granularity};
}

int64_t hbitmap_iter_next(HBitmapIter *iter)
{
    const HBitmap *hb = iter->hb;
    uint64_t bit = node_find(hb->root, hb->level, iter->next, hb->bits, true);

    if (bit == NOT_FOUND) {
        iter->next = hb->bits;
        return -1;
    }
    iter->next = bit + 1;
    return (int64_t)(bit << hb->granularity);
}

/* The first item in [@start, @end) whose bit is @value, or -1. */
static int64_t hbitmap_find(const HBitmap *hb, int64_t start, int64_t end, bool value)
{
    uint64_t bit;

    if (start >= end) {
        return -1;
    }
    bit = node_find(hb->root, hb->level, (uint64_t)start >> hb->granularity,
                    bits_for((uint64_t)end, hb->granularity), value);
    if (bit == NOT_FOUND) {
        return -1;
    }
    return MAX(start, (int64_t)(bit << hb->granularity));
}

/* Where @count items from @start end, or the bitmap. */
static int64_t hbitmap_end(const HBitmap *hb, int64_t start, int64_t count)
{
    int64_t size = (int64_t)hb->size;

    assert(start >= 0 && count >= 0);
    return start >= size || count > size - start ? size : start + count;
}

int64_t hbitmap_next_dirty(const HBitmap *hb, int64_t start, int64_t count)
{
    return hbitmap_find(hb, start, hbitmap_end(hb, start, count), true);
}

int64_t hbitmap_next_zero(const HBitmap *hb, int64_t start, int64_t count)
{
    return hbitmap_find(hb, start, hbitmap_end(hb, start, count), false);
}

bool hbitmap_next_dirty_area(const HBitmap *hb, int64_t start, int64_t end, int64_t max_dirty_count,
                             int64_t *ret_dirty_start, int64_t *ret_dirty_count)
{
    int64_t first;
    int64_t last;

    assert(start >= 0 && end >= 0 && max_dirty_count > 0);
    end = MIN(end, (int64_t)hb->size);
    first = hbitmap_find(hb, start, end, true);
    if (first < 0) {
        return false;
    }
    end = max_dirty_count < end - first ? first + max_dirty_count : end;
    last = hbitmap_find(hb, first, end, false);
    *ret_dirty_start = first;
    *ret_dirty_count = (last < 0 ? end : last) - first;
    return true;
}

bool hbitmap_status(const HBitmap *hb, int64_t start, int64_t count, int64_t *ret_count)
{
    bool value = hbitmap_get(hb, (uint64_t)start);
    int64_t end = hbitmap_end(hb, start, count);
    int64_t change = hbitmap_find(hb, start, end, !value);

    assert(count > 0);
    *ret_count = (change < 0 ? end : change) - start;
    return value;
}
