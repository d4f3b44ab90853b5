/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rules in a file, a section each; a section's name may come more than once:
 *
 *      [set-state]
 *      event = "write_aio"
 *      new_state = "2"
 *
 *      [inject-error]
 *      event = "write_aio"
 *      state = "2"
 */
#include <errno.h>
#include <stdio.h>
#include "aio/thread-pool.h"
#include "block/filters/blkdebug/blkdebug-int.h"
#include "qapi/type.h"
#include "util/osdep.h"

/* A test's rules are some lines; what is longer is something else. */
#define CONFIG_BYTES_MAX (1 * MiB)

typedef struct ReadCall {
    const char *path;
    char *text; /* g_free() */
} ReadCall;

static int read_in_worker(void *opaque)
{
    ReadCall *call = opaque;
    FILE *f = fopen(call->path, "r");
    size_t n;
    int ret;

    if (!f) {
        return -errno;
    }
    call->text = g_malloc(CONFIG_BYTES_MAX + 1);
    n = fread(call->text, 1, CONFIG_BYTES_MAX + 1, f);
    ret = ferror(f) ? -EIO : n > CONFIG_BYTES_MAX ? -EFBIG : 0;
    call->text[MIN(n, (size_t)CONFIG_BYTES_MAX)] = '\0';
    fclose(f);
    return ret;
}

/* The section that ends here becomes a rule. */
static int end_section(BlkdebugState *s, const char *name, json_t *values, Error **errp)
{
    if (!name) {
        return 0;
    }
    if (!json_object_get(values, "event")) {
        error_setg(errp, "Missing event name for rule");
        return -EINVAL;
    }
    if (!strcmp(name, "inject-error")) {
        g_autoptr(BlkdebugInjectErrorOptions) o =
            qapi_from_keyval(&qapi_type_BlkdebugInjectErrorOptions, values, errp);

        return o ? blkdebug_add_error_rule(s, o, errp) : -EINVAL;
    }
    if (!json_object_get(values, "new_state")) {
        json_object_set_new(values, "new_state", json_string("0"));
    }
    g_autoptr(BlkdebugSetStateOptions) o =
        qapi_from_keyval(&qapi_type_BlkdebugSetStateOptions, values, errp);

    return o ? blkdebug_add_state_rule(s, o, errp) : -EINVAL;
}

/* "[NAME]", or "[NAME "ID"]", whose id nobody needs; NULL with @errp. */
static char *section_name(char *line, Error **errp)
{
    char *end = strchr(line, ']');
    char *name = g_strndup(line + 1, end ? (gsize)(end - line - 1) : 0);

    name[strcspn(name, " \t")] = '\0';
    if (strcmp(name, "inject-error") && strcmp(name, "set-state")) {
        error_setg(errp, "There is no option group '%s'", name);
        g_clear_pointer(&name, g_free);
    }
    return name;
}

/* 'key = "value"' */
static int take_line(char *line, const char *section, json_t *values, Error **errp)
{
    char *equals = strchr(line, '=');
    char *value = equals ? g_strstrip(equals + 1) : NULL;
    size_t len = value ? strlen(value) : 0;

    if (!section) {
        error_setg(errp, "no group defined");
        return -EINVAL;
    }
    if (len < 2 || value[0] != '"' || value[len - 1] != '"') {
        error_setg(errp, "parse error: '%s' is not of the form: key = \"value\"", line);
        return -EINVAL;
    }
    *equals = '\0';
    value[len - 1] = '\0';
    json_object_set_new(values, g_strstrip(line), json_string(value + 1));
    return 0;
}

static int take_text(BlkdebugState *s, const char *text, Error **errp)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autofree char *section = NULL;
    json_auto_t *values = json_object();
    int ret = 0;

    for (char **line = lines; *line && ret == 0; line++) {
        g_strstrip(*line);
        if (**line == '[') {
            ret = end_section(s, section, values, errp);
            g_free(section);
            section = ret == 0 ? section_name(*line, errp) : NULL;
            ret = section ? 0 : -EINVAL;
            json_object_clear(values);
        } else if (**line && **line != '#') {
            ret = take_line(*line, section, values, errp);
        }
    }
    return ret == 0 ? end_section(s, section, values, errp) : ret;
}

int coroutine_fn blkdebug_co_read_config(BlkdebugState *s, const char *path, Error **errp)
{
    ReadCall call = {.path = path};
    int ret = thread_pool_submit_co(read_in_worker, &call);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not read blkdebug config file");
    } else {
        ret = take_text(s, call.text, errp);
    }
    g_free(call.text);
    return ret;
}
