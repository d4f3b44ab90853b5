/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * main.c - qblk-nbd: an image for NBD clients, or what another server offers
 *
 *      qblk-nbd [OPTIONS] FILE          serve.c: the image (image.c) for clients
 *      qblk-nbd -L [OPTIONS]            list.c
 *
 * The words of the command line, the output and the exit status are those of qemu-nbd, so that what was written for
 * it works.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "programs/common/background.h"
#include "programs/nbd/nbd.h"
#include "util/systemd.h"

/* The kernel's client: it is not ours, whether it is there or not. */
static int refuse_device(const char *device, const char *words)
{
    int fd = open(device, O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        error_report("%s %s: %s", words, device, g_strerror(errno));
    } else {
        close(fd);
        error_report("%s: the kernel's client is not served; nbd-client(8) connects it to a socket",
                     device);
    }
    return EXIT_FAILURE;
}

/* Is there a socket of a service manager?  False: told. */
static bool take_activation(NbdOptions *o)
{
    int count = systemd_listen_fds(NULL);

    if (count < 0) {
        error_report("cannot take the sockets of the service manager: %s", g_strerror(-count));
        return false;
    }
    if (count > 1) {
        error_report("%d sockets from the service manager: one is served", count);
        return false;
    }
    if (count == 1 && (o->socket || o->bind || o->port)) {
        error_report("%s does not go with a socket from the service manager", o->socket ? "--socket"
                                                                              : o->bind ? "--bind"
                                                                                        : "--port");
        return false;
    }
    o->activated = count == 1;
    return true;
}

static int run(NbdOptions *o)
{
    if (o->list) {
        return nbd_list(o);
    }
    if (o->disconnect) {
        return refuse_device(o->image.filename, "Cannot open");
    }
    if (o->device) {
        return refuse_device(o->device, "Failed to open");
    }
    if (!take_activation(o)) {
        return EXIT_FAILURE;
    }
    if (o->fork) {
        background_start();
    }
    return nbd_serve(o);
}

int main(int argc, char **argv)
{
    NbdOptions o;
    int status;

    error_set_progname(argv[0]);
    argv[0] = (char *)error_get_progname(); /* for the messages of getopt */
    signal(SIGPIPE, SIG_IGN);
    status = nbd_options_parse(argc, argv, &o);
    if (status == NBD_OPTIONS_OK) {
        status = run(&o);
    }
    nbd_options_clear(&o);
    return status;
}
