/* SPDX-License-Identifier: GPL-2.0-or-later */
/* value.c - numbers and sizes as users write them, and as they are printed */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "programs/img/img.h"
#include "util/cutils.h"

static bool check_range(const char *what, const char *value, int r, int64_t number, int64_t min,
                        int64_t max)
{
    if (r == -EINVAL) {
        error_report("Invalid %s specified: '%s'.", what, value);
        return false;
    }
    if (r < 0 || number < min || number > max) {
        error_report("Invalid %s specified. Must be between %" PRId64 " and %" PRId64 ".", what,
                     min, max);
        return false;
    }
    return true;
}

bool img_parse_size(const char *what, const char *value, int64_t min, int64_t max,
                    int64_t *ret_bytes)
{
    uint64_t bytes;
    int r = qemu_strtosz(value, NULL, &bytes);

    *ret_bytes = bytes > INT64_MAX ? INT64_MAX : (int64_t)bytes;
    return check_range(what, value, bytes > INT64_MAX ? -ERANGE : r, *ret_bytes, min, max);
}

bool img_parse_int(const char *what, const char *value, int64_t min, int64_t max, int64_t *ret)
{
    int r = qemu_strtoi64(value, NULL, 0, ret);

    return check_range(what, value, r, *ret, min, max);
}

bool img_parse_output(const ImgArgs *args, const char *value, ImgOutput *ret)
{
    if (!strcmp(value, "human")) {
        *ret = IMG_OUTPUT_HUMAN;
    } else if (!strcmp(value, "json")) {
        *ret = IMG_OUTPUT_JSON;
    } else {
        img_args_error(args, "--output expects 'human' or 'json' not '%s'", value);
        return false;
    }
    return true;
}

char *img_size_text(int64_t bytes)
{
    g_autofree char *size = size_to_str((uint64_t)bytes);

    return g_strdup_printf("%s (%" PRId64 " bytes)", size, bytes);
}

/* A member or an element a line, four columns a level; an empty one, too, has its end on a line of its own. */
static void print_json(const json_t *tree, int level)
{
    const int columns = 4 * (level + 1);
    const char *key, *comma = "";
    json_t *value;
    size_t index;

    if (json_is_object(tree)) {
        printf("{");
        json_object_foreach((json_t *)tree, key, value)
        {
            json_auto_t *name = json_string(key);

            printf("%s\n%*s", comma, columns, "");
            print_json(name, level);
            printf(": ");
            print_json(value, level + 1);
            comma = ",";
        }
        printf("\n%*s}", 4 * level, "");
    } else if (json_is_array(tree)) {
        printf("[");
        json_array_foreach(tree, index, value)
        {
            printf("%s\n%*s", comma, columns, "");
            print_json(value, level + 1);
            comma = ",";
        }
        printf("\n%*s]", 4 * level, "");
    } else {
        char *text = json_dumps(tree, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

        printf("%s", text);
        free(text);
    }
}

void img_print_json(const json_t *tree)
{
    print_json(tree, 0);
    printf("\n");
}
