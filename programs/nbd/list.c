/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * list.c - what a server offers
 *
 *      EXTENDED_HEADERS, or else STRUCTURED_REPLY      without the second there are no contexts
 *      LIST                                            names, with words for people
 *      INFO, LIST_META_CONTEXT                         for each of them
 *      ABORT
 *
 * All is asked before anything is printed: the output begins with how many there are.  An old server that knows
 * no INFO tells the names alone.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "programs/common/object-option.h"
#include "programs/nbd/peer.h"
#include "util/osdep.h"

/* More would be no list for people, and a server that never ends its list is not listened to. */
#define EXPORTS_MAX  65536
#define CONTEXTS_MAX 65536

typedef struct Export {
    char *name, *description;
    uint64_t size;
    uint16_t flags;
    uint32_t min_block, opt_block, max_block; /* 0: not told */
    GPtrArray *contexts;                      /* NULL: cannot be asked */
} Export;

static const char *const flag_names[16] = {
    [1] = "readonly", [2] = "flush",  [3] = "fua",        [4] = "rotational",
    [5] = "trim",     [6] = "zeroes", [7] = "df",         [8] = "multi",
    [9] = "resize",   [10] = "cache", [11] = "fast-zero", [12] = "block-status-payload",
};

static void export_free(void *opaque)
{
    Export *e = opaque;

    g_free(e->name);
    g_free(e->description);
    if (e->contexts) {
        g_ptr_array_unref(e->contexts);
    }
    g_free(e);
}

/* The server refuses: in its words, or in those for what it says. */
static int refused(const NbdAnswer *answer, const char *what, Error **errp)
{
    if (answer->type == NBD_REP_ERR_TLS_REQD) {
        error_setg(errp, "TLS negotiation required before option 3 (list)");
        error_append_hint(errp, "Did you forget a valid tls-creds?\n");
    } else {
        error_setg(errp, "The server does not %s%s%s", what, answer->length > 0 ? ": " : "",
                   answer->length > 0 ? (const char *)answer->data : "");
    }
    return -EPROTO;
}

static bool is_error(const NbdAnswer *answer)
{
    return answer->type & NBD_REP_ERR(0);
}

static int unexpected(const NbdAnswer *answer, Error **errp)
{
    error_setg(
        errp, "The server has answered with what is no answer: type %" PRIu32 ", %" PRIu32 " bytes",
        answer->type, answer->length);
    return -EPROTO;
}

/* An option without data that is taken or not: 1, 0, negative errno. */
static int coroutine_fn ask_mode(NbdPeer *peer, uint32_t option, Error **errp)
{
    NbdAnswer answer = {0};
    int r = nbd_peer_co_ask(peer, option, NULL, 0, errp);

    if (r == 0) {
        r = nbd_peer_co_answer(peer, option, &answer, errp);
    }
    if (r == 0) {
        r = answer.type == NBD_REP_ACK; /* who wants TLS says so to the list, too */
    }
    nbd_answer_clear(&answer);
    return r;
}

static int coroutine_fn negotiate(NbdPeer *peer, NbdMode *ret_mode, Error **errp)
{
    int r = ask_mode(peer, NBD_OPT_EXTENDED_HEADERS, errp);

    *ret_mode = r == 1 ? NBD_MODE_EXTENDED : NBD_MODE_SIMPLE;
    if (r == 0) {
        r = ask_mode(peer, NBD_OPT_STRUCTURED_REPLY, errp);
        *ret_mode = r == 1 ? NBD_MODE_STRUCTURED : NBD_MODE_SIMPLE;
    }
    return MIN(r, 0);
}

static int take_name(const NbdAnswer *answer, GPtrArray *exports, Error **errp)
{
    NbdCursor cursor = {.data = answer->data, .left = answer->length};
    const char *name;
    uint32_t length;
    Export *e;

    if (!nbd_cursor_string(&cursor, &name, &length) || length > NBD_MAX_STRING ||
        exports->len >= EXPORTS_MAX) {
        return unexpected(answer, errp);
    }
    e = g_new0(Export, 1);
    e->name = g_strndup(name, length);
    if (cursor.left > 0) {
        e->description = g_strndup((const char *)cursor.data, cursor.left);
    }
    g_ptr_array_add(exports, e);
    return 0;
}

static int coroutine_fn ask_names(NbdPeer *peer, GPtrArray *exports, Error **errp)
{
    NbdAnswer answer = {0};
    int r = nbd_peer_co_ask(peer, NBD_OPT_LIST, NULL, 0, errp);

    while (r == 0) {
        r = nbd_peer_co_answer(peer, NBD_OPT_LIST, &answer, errp);
        if (r < 0 || answer.type == NBD_REP_ACK) {
            break;
        }
        if (is_error(&answer)) {
            r = refused(&answer, "list its exports", errp);
        } else if (answer.type == NBD_REP_SERVER) {
            r = take_name(&answer, exports, errp);
        } else {
            r = unexpected(&answer, errp);
        }
    }
    nbd_answer_clear(&answer);
    return r;
}

static int take_info(Export *e, const NbdAnswer *answer, Error **errp)
{
    NbdCursor cursor = {.data = answer->data, .left = answer->length};
    uint16_t info = nbd_cursor_u16(&cursor);

    switch (info) {
    case NBD_INFO_EXPORT:
        e->size = (uint64_t)nbd_cursor_u32(&cursor) << 32;
        e->size |= nbd_cursor_u32(&cursor);
        e->flags = nbd_cursor_u16(&cursor);
        break;
    case NBD_INFO_BLOCK_SIZE:
        e->min_block = nbd_cursor_u32(&cursor);
        e->opt_block = nbd_cursor_u32(&cursor);
        e->max_block = nbd_cursor_u32(&cursor);
        break;
    case NBD_INFO_DESCRIPTION:
        g_free(e->description);
        e->description = g_strndup((const char *)cursor.data, cursor.left);
        break;
    }
    return cursor.overrun ? unexpected(answer, errp) : 0;
}

/* An option that begins with a name. */
static int coroutine_fn ask_by_name(NbdPeer *peer, uint32_t option, const char *name,
                                    const void *more, size_t more_length, Error **errp)
{
    size_t length = strlen(name);
    g_autofree uint8_t *data = g_malloc(4 + length + more_length);

    stl_be_p(data, (uint32_t)length);
    memcpy(data + 4, name, length);
    memcpy(data + 4 + length, more, more_length);
    return nbd_peer_co_ask(peer, option, data, 4 + length + more_length, errp);
}

/* 1; 0: the server knows no such option; negative errno. */
static int coroutine_fn ask_info(NbdPeer *peer, Export *e, Error **errp)
{
    static const uint8_t wanted[] = {0, 2, 0, NBD_INFO_DESCRIPTION, 0, NBD_INFO_BLOCK_SIZE};
    NbdAnswer answer = {0};
    int r = ask_by_name(peer, NBD_OPT_INFO, e->name, wanted, sizeof(wanted), errp);

    while (r == 0) {
        r = nbd_peer_co_answer(peer, NBD_OPT_INFO, &answer, errp);
        if (r < 0) {
            break;
        }
        if (answer.type == NBD_REP_ACK || answer.type == NBD_REP_ERR_UNSUP) {
            r = answer.type == NBD_REP_ACK;
            break;
        }
        if (is_error(&answer)) {
            r = refused(&answer, "tell about an export", errp);
        } else if (answer.type == NBD_REP_INFO) {
            r = take_info(e, &answer, errp);
        } else {
            r = unexpected(&answer, errp);
        }
    }
    nbd_answer_clear(&answer);
    return r;
}

static int coroutine_fn ask_contexts(NbdPeer *peer, Export *e, Error **errp)
{
    static const uint8_t all[4] = {0}; /* no queries */
    NbdAnswer answer = {0};
    int r = ask_by_name(peer, NBD_OPT_LIST_META_CONTEXT, e->name, all, sizeof(all), errp);

    e->contexts = g_ptr_array_new_with_free_func(g_free);
    while (r == 0) {
        r = nbd_peer_co_answer(peer, NBD_OPT_LIST_META_CONTEXT, &answer, errp);
        if (r < 0 || answer.type == NBD_REP_ACK || answer.type == NBD_REP_ERR_UNSUP) {
            break;
        }
        if (is_error(&answer)) {
            r = refused(&answer, "list the contexts of an export", errp);
        } else if (answer.type != NBD_REP_META_CONTEXT || answer.length < 4 ||
                   e->contexts->len >= CONTEXTS_MAX) {
            r = unexpected(&answer, errp);
        } else {
            g_ptr_array_add(e->contexts, g_strdup((const char *)answer.data + 4));
        }
    }
    nbd_answer_clear(&answer);
    return r;
}

/* Can more be told than names?  1, 0, negative errno. */
static int coroutine_fn ask_all(NbdPeer *peer, GPtrArray *exports, NbdMode *ret_mode, Error **errp)
{
    int r = negotiate(peer, ret_mode, errp);

    if (r == 0) {
        r = ask_names(peer, exports, errp);
    }
    for (guint i = 0; i < exports->len && r >= 0; i++) {
        Export *e = g_ptr_array_index(exports, i);

        r = ask_info(peer, e, errp);
        if (r == 0) {
            return 0;
        }
        if (r > 0 && *ret_mode != NBD_MODE_SIMPLE) {
            r = ask_contexts(peer, e, errp);
        }
    }
    return r < 0 ? r : 1;
}

static void print_facts(const Export *e, NbdMode mode)
{
    printf("  size:  %" PRIu64 "\n", e->size);
    if (e->flags & NBD_FLAG_HAS_FLAGS) {
        printf("  flags: 0x%x (", e->flags);
        for (size_t i = 0; i < G_N_ELEMENTS(flag_names); i++) {
            if (e->flags & (1u << i) && flag_names[i]) {
                printf(" %s", flag_names[i]);
            }
        }
        printf(" )\n");
    }
    if (e->min_block) {
        printf("  min block: %" PRIu32 "\n  opt block: %" PRIu32 "\n  max block: %" PRIu32 "\n",
               e->min_block, e->opt_block, e->max_block);
    }
    printf("  transaction size: %s-bit\n", mode == NBD_MODE_EXTENDED ? "64" : "32");
    if (e->contexts && e->contexts->len > 0) {
        printf("  available meta contexts: %u\n", e->contexts->len);
        for (guint i = 0; i < e->contexts->len; i++) {
            printf("   %s\n", (const char *)g_ptr_array_index(e->contexts, i));
        }
    }
}

static void print_all(const GPtrArray *exports, bool has_facts, NbdMode mode)
{
    printf("exports available: %u\n", exports->len);
    for (guint i = 0; i < exports->len; i++) {
        const Export *e = g_ptr_array_index(exports, i);

        printf(" export: '%s'\n", e->name);
        if (e->description && *e->description) {
            printf("  description: %s\n", e->description);
        }
        if (has_facts) {
            print_facts(e, mode);
        }
    }
}

typedef struct List {
    const NbdOptions *o;
    int status;
} List;

static int coroutine_fn list_co(const NbdOptions *o, Error **errp)
{
    g_autoptr(GPtrArray) exports = g_ptr_array_new_with_free_func(export_free);
    NbdMode mode = NBD_MODE_SIMPLE;
    NbdPeer peer;
    int r = object_options_co_make(errp);

    if (r == 0) {
        r = nbd_peer_co_connect(&peer, o, errp);
    }
    if (r < 0) {
        return r;
    }
    r = ask_all(&peer, exports, &mode, errp);
    nbd_peer_co_close(&peer);
    if (r >= 0) {
        print_all(exports, r == 1, mode);
    }
    return r;
}

static void coroutine_fn list_entry(void *opaque)
{
    List *list = opaque;
    Error *err = NULL;

    if (list_co(list->o, &err) < 0) {
        error_report_err(err);
        list->status = EXIT_FAILURE;
    }
}

int nbd_list(const NbdOptions *o)
{
    List list = {.o = o, .status = EXIT_SUCCESS};
    Error *err = NULL;

    if (aio_init(AIO_ENGINE_AUTO, &err) < 0) {
        error_report_err(err);
        return EXIT_FAILURE;
    }
    aio_run_co(list_entry, &list);
    object_options_clear();
    aio_cleanup();
    return list.status;
}
