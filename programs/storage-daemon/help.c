/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * help.c - what the program and its options can do
 *
 * The members of --blockdev, --export, --nbd-server and --object are printed from the descriptions that
 * the schema's generator writes: so this help knows what the program knows.
 */
#include "daemon.h"

#include <stdio.h>
#include <string.h>

#include "block/graph/driver.h"
#include "qapi/qapi-types-block-core.h"
#include "qapi/qapi-types-block-export.h"
#include "qapi/qapi-types-qom.h"

static const char help_text[] =
    "Usage: %s [options]\n"
    "Offers virtual disks to clients, and runs jobs on them; driven by QMP.\n"
    "\n"
    "  -h, --help             show this help and exit\n"
    "  -T, --trace [[enable=]<pattern>][,events=<file>][,file=<file>]\n"
    "                         trace events that match; '--trace help' lists them\n"
    "  -V, --version          show the version and exit\n"
    "\n"
    "Things are made in the order of these options; each can be given many times:\n"
    "\n"
    "  --blockdev [driver=]<driver>[,node-name=<N>][,discard=ignore|unmap]\n"
    "             [,cache.direct=on|off][,cache.no-flush=on|off]\n"
    "             [,read-only=on|off][,auto-read-only=on|off]\n"
    "             [,force-share=on|off][,detect-zeroes=on|off|unmap]\n"
    "             [,driver specific parameters...]\n"
    "                         a block node; also in JSON, as blockdev-add takes it\n"
    "                         ('--blockdev help', '--blockdev <driver>,help')\n"
    "\n"
    "  --chardev socket,id=<id>,path=<path>[,server=on|off][,wait=on|off]\n"
    "  --chardev socket,id=<id>,port=<port>[,host=<host>][,server=on|off]\n"
    "            [,wait=on|off][,ipv4=on|off][,ipv6=on|off]\n"
    "  --chardev socket,id=<id>,fd=<number>[,server=on|off][,wait=on|off]\n"
    "  --chardev stdio,id=<id>\n"
    "  --chardev null,id=<id>\n"
    "                         where a monitor's clients come from; a listening socket\n"
    "                         takes several at the same time ('--chardev <type>,help')\n"
    "\n"
    "  --drive id=<name>,file=<file>[,format=<format>][,node-name=<N>]\n"
    "          [,read-only=on|off][,cache=none|writeback|unsafe]\n"
    "          [,aio=io_uring|native|threads][,discard=ignore|unmap]\n"
    "                         a disk in one word: a device <name> and its nodes\n"
    "\n"
    "  --export [type=]nbd,id=<id>,node-name=<node-name>[,name=<export-name>]\n"
    "           [,writable=on|off][,bitmaps.0=<name>,...]\n"
    "                         offer a node to NBD clients (needs --nbd-server;\n"
    "                         '--export nbd,help')\n"
    "\n"
    "  --monitor [chardev=]<id>[,mode=control][,pretty=on|off]\n"
    "                         serve QMP on a character device\n"
    "\n"
    "  --nbd-server addr.type=unix,addr.path=<path>\n"
    "               [,max-connections=<n>][,handshake-max-seconds=<s>]\n"
    "  --nbd-server addr.type=inet,addr.host=<host>,addr.port=<port>\n"
    "               [,max-connections=<n>][,handshake-max-seconds=<s>]\n"
    "                         listen for NBD clients ('--nbd-server help')\n"
    "\n"
    "  --object <type>,id=<id>[,<property>=<value>...]\n"
    "                         an iothread, a secret, a throttle-group ('--object help',\n"
    "                         '--object <type>,help')\n"
    "\n"
    "The process:\n"
    "\n"
    "  --aio auto|io_uring|epoll\n"
    "                         how event loops wait (auto: io_uring if it works)\n"
    "  --daemonize            go to the background once all is made\n"
    "  --pidfile <path>       write the process ID there once all is made, locked\n"
    "\n"
    "Sockets of a service manager (LISTEN_FDS) named 'qmp' and 'nbd' are served as monitor\n"
    "and NBD server; a single one of another name is the NBD server's.\n"
    "SIGTERM, SIGINT and SIGHUP end the program cleanly, a second signal at once.\n"
    "\n"
    "See qblk-storage-daemon(1).\n";

void daemon_help(const char *progname)
{
    printf(help_text, progname);
}

void daemon_version(const char *progname)
{
    printf("%s version %s\n", progname, QBLK_VERSION);
}

static const char *type_word(const QapiType *type)
{
    switch (type->kind) {
    case QAPI_KIND_STR:
        return "str";
    case QAPI_KIND_INT:
        return type->is_size ? "size" : "int";
    case QAPI_KIND_NUMBER:
        return "number";
    case QAPI_KIND_BOOL:
        return "on|off";
    default:
        return type->name;
    }
}

static void print_enum(const QEnumLookup *words)
{
    for (int i = 0; i < words->size; i++) {
        printf("%s%s", i ? "|" : "", words->array[i]);
    }
}

/* A struct without branches is shown by its members, with dots, as it is written. */
static void print_member(const char *prefix, const QapiMember *member)
{
    const QapiType *type = member->type;

    if (type->kind == QAPI_KIND_STRUCT && !type->branches) {
        g_autofree char *inner = g_strdup_printf("%s%s.", prefix, member->name);

        for (uint32_t i = 0; i < type->n_members; i++) {
            print_member(inner, &type->members[i]);
        }
        return;
    }
    printf("  %s%s=<", prefix, member->name);
    if (type->kind == QAPI_KIND_ENUM) {
        print_enum(type->lookup);
    } else if (type->kind == QAPI_KIND_LIST) {
        printf("list of %s", type_word(type->element));
    } else {
        printf("%s", type_word(type));
    }
    printf(">%s\n", member->optional ? "" : "  (needed)");
}

/* All members but the tag, which the user has named already. */
static void print_members(const QapiType *type, const char *tag)
{
    for (uint32_t i = 0; i < type->n_members; i++) {
        if (!tag || strcmp(type->members[i].name, tag) != 0) {
            print_member("", &type->members[i]);
        }
    }
}

/* The tag of a union: the enum at its tag_offset. */
static const QapiMember *union_tag(const QapiType *type)
{
    for (uint32_t i = 0; i < type->n_members; i++) {
        if (type->members[i].offset == type->tag_offset) {
            return &type->members[i];
        }
    }
    return NULL;
}

static bool union_help(const QapiType *type, const char *title, const char *what, Error **errp)
{
    const QapiMember *tag = union_tag(type);
    const QEnumLookup *words = tag->type->lookup;
    int value;

    if (!what) {
        printf("%s:\n", title);
        for (int i = 0; i < words->size; i++) {
            printf("  %s\n", words->array[i]);
        }
        return true;
    }
    value = qapi_enum_parse_named(tag->name, words, what, -1, errp);
    if (value < 0) {
        return false;
    }
    printf("%s options:\n", what);
    if (type->branches[value]) {
        print_members(type->branches[value], NULL);
    }
    printf("and as all others:\n");
    print_members(type, tag->name);
    return true;
}

static bool chardev_help(const char *what, Error **errp)
{
    static const struct {
        const char *name, *members;
    } kinds[] = {
        {"null", ""},
        {"socket", "  path=<path>        a unix socket; or\n"
                   "  port=<port>        a TCP port; or\n"
                   "  fd=<number>        a socket that was inherited\n"
                   "  host=<host>        with port\n"
                   "  ipv4=<on|off>      with port\n"
                   "  ipv6=<on|off>      with port\n"
                   "  server=<on|off>    listen, rather than connect\n"
                   "  wait=<on|off>      with server: until the first client is there\n"},
        {"stdio", ""},
    };

    if (!what) {
        printf("Available chardev backend types:\n");
    }
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (!what) {
            printf("  %s\n", kinds[i].name);
        } else if (!strcmp(what, kinds[i].name)) {
            printf("%s options:\n  id=<str>  (needed)\n%s", what, kinds[i].members);
            return true;
        }
    }
    if (what) {
        error_setg(errp, "'%s' is not a valid char driver name", what);
    }
    return !what;
}

bool daemon_option_help(DaemonOptionKind kind, const char *what, Error **errp)
{
    switch (kind) {
    case DAEMON_OPT_BLOCKDEV:
        return union_help(&qapi_type_BlockdevOptions, "Block drivers", what, errp);
    case DAEMON_OPT_EXPORT:
        return union_help(&qapi_type_BlockExportOptions, "Kinds of exports", what, errp);
    case DAEMON_OPT_OBJECT:
        return union_help(&qapi_type_ObjectOptions, "List of user creatable objects", what, errp);
    case DAEMON_OPT_NBD_SERVER:
        printf("NBD server options:\n");
        print_members(&qapi_type_NbdServerOptions, NULL);
        printf("addr is one of:\n  addr.type=unix,addr.path=<path>\n"
               "  addr.type=inet,addr.host=<host>,addr.port=<port>\n"
               "  addr.type=fd,addr.str=<number>\n");
        return true;
    case DAEMON_OPT_CHARDEV:
        return chardev_help(what, errp);
    case DAEMON_OPT_MONITOR:
        printf("monitor options:\n  chardev=<str>  (needed)\n  mode=<control>\n  pretty=<on|off>\n"
               "  id=<str>\n");
        return true;
    case DAEMON_OPT_DRIVE:
        printf("drive options:\n  id=<str>  (needed)\n  file=<str>  (needed)\n  format=<str>\n"
               "  node-name=<str>\n  read-only=<on|off>\n"
               "  cache=<none|writeback|unsafe>\n"
               "  aio=<io_uring|native|threads>\n  discard=<ignore|unmap>\n");
        return true;
    default:
        g_assert_not_reached();
    }
}
