/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * meta.c - the choice of meta contexts: LIST_META_CONTEXT and SET_META_CONTEXT
 *
 *     base:allocation               id 0   holes and zeros
 *     qemu:allocation-depth         id 1   which image of the chain; if the export was made with it
 *     qemu:dirty-bitmap:NAME        id 2.. one for each bitmap of the export
 *
 * A list takes a namespace alone ("base:", "qemu:", "qemu:dirty-bitmap:") for all that is in it and no
 * query for everything; a set takes full names only.  What is not known is not an error: it is not answered.
 */
#include "block/export/nbd/nbd-int.h"

#define NBD_BITMAP_PREFIX "qemu:dirty-bitmap:"

void nbd_contexts_clear(NbdContexts *contexts)
{
    g_free(contexts->bitmaps);
    *contexts = (NbdContexts){0};
}

/* Does @query, not terminated, ask for the context @name?  A @listing may stop at any namespace. */
static bool query_matches(const char *query, uint32_t length, const char *name, bool listing)
{
    size_t whole = strlen(name);

    if (length == whole) {
        return memcmp(query, name, length) == 0;
    }
    return listing && length > 0 && length < whole && query[length - 1] == ':' &&
           memcmp(query, name, length) == 0;
}

static void choose(NbdContexts *contexts, const NbdExport *exp, const char *query, uint32_t length,
                   bool listing)
{
    if (query_matches(query, length, "base:allocation", listing)) {
        contexts->base_allocation = true;
    }
    if (exp->allocation_depth && query_matches(query, length, "qemu:allocation-depth", listing)) {
        contexts->allocation_depth = true;
    }
    for (size_t i = 0; i < exp->n_bitmaps; i++) {
        g_autofree char *name =
            g_strconcat(NBD_BITMAP_PREFIX, bdrv_dirty_bitmap_name(exp->bitmaps[i]), NULL);

        /* A bitmap's name may hold colons; a listing stops at our namespaces only. */
        if (query_matches(query, length, name, false) ||
            (listing && length <= strlen(NBD_BITMAP_PREFIX) &&
             query_matches(query, length, name, true))) {
            contexts->bitmaps[i] = true;
        }
    }
}

/* One NBD_REP_META_CONTEXT: its id, and its name. */
static void add_answer(GPtrArray *answers, NbdContexts *contexts, bool listing, uint32_t id,
                       const char *prefix, const char *name)
{
    GByteArray *answer = g_byte_array_new();
    uint8_t raw_id[4];

    stl_be_p(raw_id, listing ? 0 : id);
    g_byte_array_append(answer, raw_id, sizeof(raw_id));
    g_byte_array_append(answer, (const uint8_t *)prefix, strlen(prefix));
    g_byte_array_append(answer, (const uint8_t *)name, strlen(name));
    g_ptr_array_add(answers, answer);
    contexts->count++;
}

/* All the answers, before the first is sent: the export may go while the client is slow to read. */
static GPtrArray *make_answers(NbdContexts *contexts, const NbdExport *exp, bool listing)
{
    GPtrArray *answers = g_ptr_array_new_with_free_func((GDestroyNotify)g_byte_array_unref);

    if (contexts->base_allocation) {
        add_answer(answers, contexts, listing, NBD_CONTEXT_BASE_ALLOCATION, "base:", "allocation");
    }
    if (contexts->allocation_depth) {
        add_answer(answers, contexts, listing, NBD_CONTEXT_ALLOCATION_DEPTH,
                   "qemu:", "allocation-depth");
    }
    for (size_t i = 0; i < exp->n_bitmaps; i++) {
        if (contexts->bitmaps[i]) {
            add_answer(answers, contexts, listing, NBD_CONTEXT_BITMAPS + i, NBD_BITMAP_PREFIX,
                       bdrv_dirty_bitmap_name(exp->bitmaps[i]));
        }
    }
    return answers;
}

int coroutine_fn nbd_meta_option(NbdClient *client, uint32_t option, const uint8_t *data,
                                 size_t length)
{
    bool listing = option == NBD_OPT_LIST_META_CONTEXT;
    g_autoptr(GPtrArray) answers = NULL;
    NbdContexts contexts = {0};
    const char *why = NULL;
    NbdMetaOption meta;
    NbdExport *exp;
    uint32_t error;
    int r;

    if (!listing) {
        nbd_contexts_clear(&client->contexts); /* also if this one fails, as the protocol has it */
    }
    if (client->mode == NBD_MODE_SIMPLE) {
        return nbd_option_error(client, option, NBD_REP_ERR_INVALID,
                                "structured replies must be negotiated first");
    }
    error = nbd_meta_option_decode(data, length, &meta, &why);
    if (error) {
        return nbd_option_error(client, option, error, why);
    }
    exp = nbd_export_find(meta.name, meta.name_length);
    if (!exp) {
        return nbd_option_error(client, option, NBD_REP_ERR_UNKNOWN, "there is no such export");
    }
    contexts.export_serial = exp->serial;
    contexts.bitmaps = g_new0(bool, exp->n_bitmaps);
    for (uint32_t i = 0; i < meta.n_queries; i++) {
        const char *query;
        uint32_t query_length;

        nbd_cursor_string(&meta.queries, &query, &query_length);
        choose(&contexts, exp, query, query_length, listing);
    }
    if (listing && meta.n_queries == 0) {
        choose(&contexts, exp, "base:", strlen("base:"), true);
        choose(&contexts, exp, "qemu:", strlen("qemu:"), true);
    }
    answers = make_answers(&contexts, exp, listing);
    if (listing) {
        nbd_contexts_clear(&contexts);
    } else {
        client->contexts = contexts;
    }
    for (unsigned i = 0; i < answers->len; i++) {
        const GByteArray *answer = answers->pdata[i];

        r = nbd_option_reply(client, option, NBD_REP_META_CONTEXT, answer->data, answer->len);
        if (r < 0) {
            return r;
        }
    }
    return nbd_option_reply(client, option, NBD_REP_ACK, NULL, 0);
}
