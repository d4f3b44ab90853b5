/* SPDX-License-Identifier: GPL-2.0-or-later */
/* help.c - what the options are */
#include <stdio.h>

#include "programs/nbd/nbd.h"

static const char help_text[] =
    "Usage: %s [OPTIONS] FILE\n"
    "  or:  %s -L [OPTIONS]\n"
    "Offers an image to NBD clients, or lists what another server offers.\n"
    "\n"
    "  -h, --help                show this help and exit\n"
    "  -V, --version             show the version and exit\n"
    "\n"
    "The server:\n"
    "  -p, --port PORT           TCP port (10809)\n"
    "  -b, --bind HOST           address to listen on, or to connect to (0.0.0.0)\n"
    "  -k, --socket PATH         a unix socket instead\n"
    "  -e, --shared NUM          so many clients at the same time (1); 0: any number\n"
    "  -t, --persistent          stay when the last client has left\n"
    "      --handshake-limit N   seconds that a client may take to begin (10); 0: no limit\n"
    "\n"
    "The export:\n"
    "  -x, --export-name NAME    its name (the empty one)\n"
    "  -D, --description TEXT    words for people\n"
    "  -r, --read-only           only to be read\n"
    "  -o, --offset OFFSET       begin there in the image\n"
    "  -A, --allocation-depth    tell which layer of the image has what\n"
    "  -B, --bitmap NAME         tell what a dirty bitmap has; can be given many times\n"
    "\n"
    "The image:\n"
    "  -f, --format FMT          its format (probed)\n"
    "      --image-opts          FILE is options, as driver=raw,file.filename=disk.img\n"
    "  -s, --snapshot            what is written goes to a scratch file that is forgotten\n"
    "  -l, --load-snapshot NAME  show an internal snapshot, only to be read\n"
    "  -n, --nocache             the same as --cache none\n"
    "      --cache MODE          none, writeback (the default), writethrough, directsync, unsafe\n"
    "      --aio MODE            threads, native or io_uring\n"
    "      --discard MODE        ignore (the default) or unmap\n"
    "      --detect-zeroes MODE  off (the default), on or unmap\n"
    "\n"
    "Listing:\n"
    "  -L, --list                list the exports of the server at -k, or -b and -p\n"
    "\n"
    "The process:\n"
    "      --fork                go to the background once the server listens\n"
    "      --pid-file PATH       store the process ID there, locked\n"
    "  -v, --verbose             keep the standard error open in the background\n"
    "      --object TYPE,id=ID,...\n"
    "                            make an object that other options name\n"
    "      --tls-creds ID        such an object: talk TLS\n"
    "      --tls-authz ID        such an object: who may come\n"
    "      --tls-hostname NAME   the name that the server's certificate has; with -L\n"
    "  -T, --trace [[enable=]<pattern>][,events=<file>][,file=<file>]\n"
    "                            trace events that match; '--trace help' lists them\n"
    "\n"
    "SIGTERM, SIGINT and SIGHUP end the program cleanly, a second signal at once.\n"
    "The kernel's client (-c, -d) is not served, and sockets have no SELinux labels.\n"
    "\n"
    "See qblk-nbd(1).\n";

void nbd_print_help(void)
{
    const char *name = error_get_progname();

    printf(help_text, name, name);
}

void nbd_print_version(void)
{
    printf("%s version %s\n", error_get_progname(), QBLK_VERSION);
}
