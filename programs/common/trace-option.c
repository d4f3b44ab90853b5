/* SPDX-License-Identifier: GPL-2.0-or-later */
/* trace-option.c - --trace: events that are switched on before anything happens */
#include "programs/common/trace-option.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "programs/common/opt-tree.h"
#include "qapi/keyval.h"
#include "util/trace.h"

static int parse_events_file(const char *path, Error **errp)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    int r = 0;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        error_setg(errp, "%s: cannot be read", path);
        return -ENOENT;
    }
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line && r == 0; line++) {
        g_strstrip(*line);
        if (**line && **line != '#') {
            r = trace_enable_events(*line, errp);
        }
    }
    return r;
}

static int parse(const char *text, Error **errp)
{
    const char *pattern = NULL, *events = NULL, *file = NULL;
    g_auto(OptTree) t = {0};
    json_t *tree;
    int r = -EINVAL;

    tree = keyval_parse(text, "enable", NULL, errp);
    if (!tree) {
        return -EINVAL;
    }
    opt_tree_init(&t, tree);
    if (opt_tree_str(&t, "enable", &pattern, errp) && opt_tree_str(&t, "events", &events, errp) &&
        opt_tree_str(&t, "file", &file, errp) && opt_tree_finish(&t, errp)) {
        r = file ? trace_set_file(file, errp) : 0;
    }
    if (r == 0 && pattern) {
        r = trace_enable_events(pattern, errp);
    }
    if (r == 0 && events) {
        r = parse_events_file(events, errp);
    }
    json_decref(tree);
    return r;
}

int trace_option_parse(const char *text, Error **errp)
{
    if (!strcmp(text, "help")) {
        trace_list_events(stdout);
        return 1;
    }
    if (parse(text, errp) < 0) {
        error_prepend(errp, "--trace %s: ", text);
        return -EINVAL;
    }
    return 0;
}
