/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory for keys: zeros at first, of any size, wiped. */
#include "util/keymem.h"
#include "util/osdep.h"

static void test_sizes(void)
{
    static const size_t sizes[] = {0, 1, 64, 4096, 4097, 1000000};

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        uint8_t *mem = keymem_new(sizes[i]);

        g_assert_true(buffer_is_zero(mem, sizes[i]));
        memset(mem, 0xa5, sizes[i]);
        keymem_free(mem, sizes[i]);
    }
    keymem_free(NULL, 5);
}

static void test_wipe(void)
{
    uint8_t buf[100];

    memset(buf, 0xa5, sizeof(buf));
    keymem_wipe(buf + 1, 98);
    g_assert_true(buffer_is_zero(buf + 1, 98));
    g_assert_cmpuint(buf[0], ==, 0xa5);
    g_assert_cmpuint(buf[99], ==, 0xa5);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/keymem/memory of any size is zeros at first", test_sizes);
    g_test_add_func("/keymem/what is wiped is zeros, and nothing else is", test_wipe);
    return g_test_run();
}
