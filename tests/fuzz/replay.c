/* SPDX-License-Identifier: GPL-2.0-or-later */
/* replay.c - run a fuzz target over a kept corpus, where the compiler has no libFuzzer: files and folders */
#include <stdint.h>
#include <stdio.h>
#include <glib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned replay(const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    g_autofree char *data = NULL;
    gsize size;

    if (dir) {
        const char *name;
        unsigned count = 0;

        while ((name = g_dir_read_name(dir))) {
            g_autofree char *inside = g_build_filename(path, name, NULL);

            count += replay(inside);
        }
        return count;
    }
    if (!g_file_get_contents(path, &data, &size, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return 0;
    }
    LLVMFuzzerTestOneInput((const uint8_t *)data, size);
    return 1;
}

int main(int argc, char **argv)
{
    unsigned count = 0;

    for (int i = 1; i < argc; i++) {
        count += replay(argv[i]);
    }
    printf("%u inputs\n", count);
    return count > 0 ? 0 : 1; /* a corpus that is not there proves nothing */
}
