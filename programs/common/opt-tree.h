/* SPDX-License-Identifier: GPL-2.0-or-later */
/* opt-tree.h - the flat members of an option; what nobody asked for was not expected.  Any thread. */
#ifndef COMMON_OPT_TREE_H
#define COMMON_OPT_TREE_H

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include "util/error.h"

typedef struct OptTree {
    json_t *tree;     /* borrowed */
    GPtrArray *taken; /* of json_t, borrowed: the members that were asked for */
} OptTree;

void opt_tree_init(OptTree *t, json_t *tree);
/* False with @errp when it is there but of the wrong type.  *ret is left alone when it is not there. */
bool opt_tree_str(OptTree *t, const char *key, const char **ret, Error **errp);
bool opt_tree_bool(OptTree *t, const char *key, bool *ret, Error **errp);
/* False with "Invalid parameter 'x'". */
bool opt_tree_finish(OptTree *t, Error **errp);
void opt_tree_clear(OptTree *t);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(OptTree, opt_tree_clear)

#endif
