/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pages: found, read, pinned, given up. */
#include <errno.h>
#include "block/drivers/qcow2/cache/cache-int.h"
#include "block/io/io.h"
#include "util/osdep.h"

/* Bits of Qcow2Page.dirty. */
#define PIECES_MAX      64
#define PIECE_BYTES_MIN 512

Qcow2Cache *qcow2_cache_new(const Qcow2CacheConfig *config)
{
    Qcow2Cache *c = g_new0(Qcow2Cache, 1);

    assert(is_power_of_2(config->page_bytes) && config->page_bytes >= PIECE_BYTES_MIN);
    assert(config->max_pages >= 1);
    c->config = *config;
    c->piece_bytes = MAX(config->page_bytes / PIECES_MAX, (int64_t)PIECE_BYTES_MIN);
    qemu_co_mutex_init(&c->lock);
    qemu_co_queue_init(&c->loaded);
    c->pages = g_hash_table_new(g_int64_hash, g_int64_equal);
    QTAILQ_INIT(&c->clean);
    QTAILQ_INIT(&c->dirty);
    return c;
}

void qcow2_page_set_clean(Qcow2Page *page)
{
    Qcow2Cache *c = page->cache;

    if (page->dirty) {
        page->dirty = 0;
        c->n_dirty--;
        QTAILQ_REMOVE(&c->dirty, page, list);
        QTAILQ_INSERT_HEAD(&c->clean, page, list);
    }
}

void qcow2_page_set_dirty(Qcow2Page *page, uint64_t mask)
{
    Qcow2Cache *c = page->cache;

    if (!page->dirty) {
        c->n_dirty++;
        QTAILQ_REMOVE(&c->clean, page, list);
        QTAILQ_INSERT_TAIL(&c->dirty, page, list);
    }
    page->dirty |= mask;
}

static void remove_page(Qcow2Cache *c, Qcow2Page *page)
{
    assert(page->pins == 0 && !page->writing);
    qcow2_page_set_clean(page);
    QTAILQ_REMOVE(&c->clean, page, list);
    g_hash_table_remove(c->pages, &page->offset);
    c->n_pages--;
    qemu_vfree(page->data);
    g_free(page);
}

void qcow2_cache_delete(Qcow2Cache *c)
{
    if (!c) {
        return;
    }
    while (!QTAILQ_EMPTY(&c->dirty)) {
        qcow2_page_set_clean(QTAILQ_FIRST(&c->dirty));
    }
    while (!QTAILQ_EMPTY(&c->clean)) {
        remove_page(c, QTAILQ_FIRST(&c->clean));
    }
    g_hash_table_destroy(c->pages);
    qemu_co_queue_destroy(&c->loaded);
    qemu_co_mutex_destroy(&c->lock);
    g_free(c);
}

static void coroutine_fn lock(Qcow2Cache *c)
{
    if (c->config.shared) {
        qemu_co_mutex_lock(&c->lock);
    }
}

static void coroutine_fn unlock(Qcow2Cache *c)
{
    if (c->config.shared) {
        qemu_co_mutex_unlock(&c->lock);
    }
}

static unsigned pins_of(const Qcow2Page *page)
{
    return __atomic_load_n(&page->pins, __ATOMIC_ACQUIRE);
}

static void pin(Qcow2Cache *c, Qcow2Page *page)
{
    __atomic_fetch_add(&page->pins, 1, __ATOMIC_RELAXED);
    page->old = false;
    if (!page->dirty) {
        QTAILQ_REMOVE(&c->clean, page, list);
        QTAILQ_INSERT_HEAD(&c->clean, page, list);
    }
}

void qcow2_cache_put(Qcow2Page *page)
{
    unsigned before = __atomic_fetch_sub(&page->pins, 1, __ATOMIC_RELEASE);

    assert(before > 0);
}

/* K2 */
static bool can_go(const Qcow2Page *page)
{
    return pins_of(page) == 0 && !page->dirty && !page->writing;
}

/* Whether there is room for one page more. */
static bool give_up_one(Qcow2Cache *c)
{
    Qcow2Page *page;

    if (c->n_pages < c->config.max_pages) {
        return true;
    }
    QTAILQ_FOREACH_REVERSE(page, &c->clean, list)
    {
        if (can_go(page)) {
            remove_page(c, page);
            return true;
        }
    }
    return false;
}

/* K3: a page is pinned by a request, so all pinned is no reason to wait.  Of those that are clean all are, here. */
static bool all_are_pinned(const Qcow2Cache *c)
{
    Qcow2Page *page;

    QTAILQ_FOREACH (page, &c->dirty, list) {
        if (pins_of(page) == 0) {
            return false;
        }
    }
    return true;
}

static Qcow2Page *find(Qcow2Cache *c, int64_t offset)
{
    return g_hash_table_lookup(c->pages, &offset);
}

/* A page for @offset, pinned and in nobody's way; it may yield, and then there may be one already: NULL, *ret is 0. */
static Qcow2Page *coroutine_fn add_page(Qcow2Cache *c, int64_t offset, int *ret)
{
    Qcow2Page *page;

    *ret = 0;
    while (!give_up_one(c) && !all_are_pinned(c)) {
        if (!c->config.make_room) {
            break;
        }
        *ret = c->config.make_room(c->config.opaque);
        if (*ret < 0 || find(c, offset)) {
            return NULL;
        }
    }
    page = g_new0(Qcow2Page, 1);
    page->data = qemu_try_blockalign(c->config.file->bs, c->config.page_bytes);
    if (!page->data) {
        g_free(page);
        *ret = -ENOMEM;
        return NULL;
    }
    page->offset = offset;
    page->cache = c;
    page->pins = 1;
    g_hash_table_insert(c->pages, &page->offset, page);
    QTAILQ_INSERT_HEAD(&c->clean, page, list);
    c->n_pages++;
    return page;
}

/* The file may end within the page, or before it: what it does not have reads as zeros. */
static int coroutine_fn read_page(Qcow2Cache *c, Qcow2Page *page)
{
    int64_t length = bdrv_getlength(c->config.file->bs);
    int64_t there = MAX(0, MIN(c->config.page_bytes, length - page->offset));

    if (length < 0) {
        return length;
    }
    memset(page->data + there, 0, c->config.page_bytes - there);
    return there ? bdrv_co_pread(c->config.file, page->offset, there, page->data, 0) : 0;
}

static int coroutine_fn load(Qcow2Cache *c, Qcow2Page *page)
{
    int ret;

    page->loading = true;
    unlock(c);
    ret = read_page(c, page);
    lock(c);
    page->loading = false;
    page->failed = ret < 0;
    qemu_co_queue_restart_all(&c->loaded);
    return MIN(ret, 0);
}

/* @page has failed to be read, and is let go of. */
static void put_failed(Qcow2Cache *c, Qcow2Page *page)
{
    qcow2_cache_put(page);
    if (pins_of(page) == 0) {
        remove_page(c, page);
    }
}

static int coroutine_fn wait_for(Qcow2Cache *c, Qcow2Page *page)
{
    while (page->loading) {
        qemu_co_queue_wait(&c->loaded, c->config.shared ? &c->lock : NULL);
    }
    return page->failed ? -EIO : 0;
}

static int coroutine_fn get(Qcow2Cache *c, int64_t offset, bool fresh, Qcow2Page **ret_page)
{
    Qcow2Page *page;
    int ret = 0;

    assert(QEMU_IS_ALIGNED(offset, c->config.page_bytes));
    while (!(page = find(c, offset))) {
        page = add_page(c, offset, &ret);
        if (ret < 0) {
            return ret;
        }
        if (page) {
            if (fresh) {
                memset(page->data, 0, c->config.page_bytes);
            } else {
                ret = load(c, page);
            }
            if (ret < 0) {
                put_failed(c, page);
            } else {
                *ret_page = page;
            }
            return ret;
        }
    }
    pin(c, page);
    if (page->gone) {
        page->gone = false;
        ret = fresh ? 0 : load(c, page);
    } else {
        ret = wait_for(c, page);
    }
    if (ret < 0) {
        put_failed(c, page);
        return ret;
    }
    if (fresh) {
        memset(page->data, 0, c->config.page_bytes);
    }
    *ret_page = page;
    return 0;
}

int coroutine_fn qcow2_co_cache_get(Qcow2Cache *c, int64_t offset, Qcow2Page **ret_page)
{
    int ret;

    lock(c);
    ret = get(c, offset, false, ret_page);
    unlock(c);
    return ret;
}

int coroutine_fn qcow2_co_cache_get_new(Qcow2Cache *c, int64_t offset, bool dirty,
                                        Qcow2Page **ret_page)
{
    int ret;

    assert(!c->config.shared);
    ret = get(c, offset, true, ret_page);
    if (ret == 0 && dirty) {
        qcow2_cache_mark_dirty(*ret_page, 0, c->config.page_bytes);
    }
    return ret;
}

Qcow2Page *qcow2_cache_peek(Qcow2Cache *c, int64_t offset)
{
    Qcow2Page *page = find(c, offset);

    assert(!c->config.shared);
    if (!page || page->loading || page->failed || page->gone) {
        return NULL;
    }
    pin(c, page);
    return page;
}

void qcow2_cache_mark_dirty(Qcow2Page *page, int64_t at, int64_t bytes)
{
    Qcow2Cache *c = page->cache;
    unsigned first = at / c->piece_bytes, last = (at + bytes - 1) / c->piece_bytes;
    uint64_t mask = (UINT64_MAX << first) & (UINT64_MAX >> (PIECES_MAX - 1 - last));

    assert(!c->config.shared && page->pins > 0);
    assert(at >= 0 && bytes > 0 && at + bytes <= c->config.page_bytes);
    qcow2_page_set_dirty(page, mask);
}

void qcow2_cache_forget(Qcow2Cache *c, int64_t offset, int64_t bytes)
{
    for (int64_t at = offset; at < offset + bytes; at += c->config.page_bytes) {
        Qcow2Page *page = find(c, at);

        if (page) {
            qcow2_page_set_clean(page);
            if (can_go(page)) {
                remove_page(c, page);
            } else {
                page->gone = true;
            }
        }
    }
}

void coroutine_fn qcow2_co_cache_clean(Qcow2Cache *c)
{
    Qcow2Page *page, *next;

    lock(c);
    QTAILQ_FOREACH_SAFE (page, &c->clean, list, next) {
        if (page->old && can_go(page)) {
            remove_page(c, page);
        } else {
            page->old = true;
        }
    }
    unlock(c);
}

int64_t qcow2_cache_pages(const Qcow2Cache *c)
{
    return c->n_pages;
}

int64_t qcow2_cache_dirty_pages(const Qcow2Cache *c)
{
    return c->n_dirty;
}

int64_t qcow2_cache_page_bytes(const Qcow2Cache *c)
{
    return c->config.page_bytes;
}
