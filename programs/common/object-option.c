/* SPDX-License-Identifier: GPL-2.0-or-later */
/* object-option.c - --object of the tools: things that options of an image name */
#include "programs/common/object-option.h"

#include <errno.h>

#include "monitor/commands.h"
#include "object/object.h"
#include "qapi/json-parser.h"
#include "qapi/keyval.h"
#include "qapi/type.h"

static ObjectOptions *parse(const char *text, Error **errp)
{
    json_auto_t *tree =
        *text == '{' ? json_parse_string(text, errp) : keyval_parse(text, "qom-type", NULL, errp);

    if (!tree) {
        return NULL;
    }
    return *text == '{' ? qapi_from_json(&qapi_type_ObjectOptions, tree, errp)
                        : qapi_from_keyval(&qapi_type_ObjectOptions, tree, errp);
}

static int make(const char *text, Error **errp)
{
    g_autoptr(ObjectOptions) options = parse(text, errp);

    if (!options) {
        return -EINVAL;
    }
    if (options->qom_type == OBJECT_TYPE_IOTHREAD) { /* a tool has but its main thread */
        error_setg(errp, "invalid object type: %s", ObjectType_str(options->qom_type));
        return -EINVAL;
    }
    return user_object_add(options, errp);
}

bool object_option_make(const char *text)
{
    Error *err = NULL;

    if (make(text, &err) < 0) {
        error_report_err(err);
        return false;
    }
    return true;
}

void objects_option_clear(void)
{
    object_cleanup();
}
