/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * chardev.h - where a monitor's bytes come from and go to, by id
 *
 *   socket  listening (server=on): any number of clients, each a stream of its own; or one that we
 *           connect to at start
 *   stdio   one stream for the life of the program
 *   null    a stream that is never readable and swallows what is written
 *
 * Main thread; co_ functions are coroutines of the main AioContext.
 */
#ifndef MONITOR_CHARDEV_H
#define MONITOR_CHARDEV_H

#include <stdbool.h>
#include "coro/coroutine.h"
#include "monitor/stream.h"
#include "util/error.h"

typedef enum ChardevKind { CHARDEV_SOCKET, CHARDEV_STDIO, CHARDEV_NULL } ChardevKind;

/* As the user wrote it; strings borrowed until chardev_co_new() returns. */
typedef struct ChardevOptions {
    ChardevKind kind;
    const char *id;
    /* socket: exactly one of path, port and fd */
    const char *path;
    const char *host, *port; /* host NULL: all addresses (server), localhost (client) */
    const char *fd;          /* a number: a listening socket (server) or a connected one */
    bool server, wait;       /* wait: creation ends when the first client is there */
    bool ipv4, ipv6;         /* both false: either */
} ChardevOptions;

typedef struct Chardev Chardev;

/**
 * chardev_co_new() - make a character device and enter it under its id
 *
 * Listens or connects.  Yields only for wait.
 *
 * Return: 0; -errno with @errp: the id is malformed or taken, the socket cannot be made.
 */
int coroutine_fn chardev_co_new(const ChardevOptions *opts, Error **errp);
/* The same around a listening socket that was handed over (socket activation); takes @fd. */
int chardev_new_listener(const char *id, int fd, Error **errp);

Chardev *chardev_find(const char *id); /* NULL: none */
const char *chardev_id(const Chardev *chr);

/* A chardev has one user.  False: it has one already. */
bool chardev_claim(Chardev *chr);

/**
 * chardev_co_next_stream() - the next peer
 *
 * Yields until there is one.  Caller owns the stream.  NULL: there will be no more (shut down, or not a
 * listening socket and already handed out).
 */
MonStream *coroutine_fn chardev_co_next_stream(Chardev *chr);
/* May there be a stream after the first? */
bool chardev_is_listener(const Chardev *chr);

/* No more streams: chardev_co_next_stream() returns NULL soon.  Removes the socket file. */
void chardev_shutdown(Chardev *chr);
void chardev_shutdown_all(void);
/* Frees all; nobody is inside chardev_co_next_stream(). */
void chardev_cleanup(void);

#endif
