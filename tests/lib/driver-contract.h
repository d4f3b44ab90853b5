/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every driver must get right, whatever it does.
 *
 *     int main(int argc, char **argv)
 *     {
 *         bdrv_example_register();
 *         return block_test_main(argc, argv, add);        static void add(void)
 *     }                                                   { driver_contract("example"); }
 *
 * adds a test for each promise, under /<driver>/.
 */
#ifndef TESTS_LIB_DRIVER_CONTRACT_H
#define TESTS_LIB_DRIVER_CONTRACT_H

#include <stdbool.h>

/* A read-only node of the driver with its default options. */
void driver_contract(const char *driver);

typedef struct DriverContract {
    const char *name; /* in the paths of the tests; NULL: the driver's */
    const char
        *options; /* JSON members besides driver, node-name and read-only: "\"size\": 4096" */
    void (*prepare)(void); /* before each test: make the file; may be NULL */
    bool writable;
    bool keeps_data; /* what is written can be read */
    bool no_reopen;  /* reopen is refused, and harmless */
} DriverContract;
/* @c and what it points at live as long as the tests. */
void driver_contract_with(const char *driver, const DriverContract *c);

#endif
