/* SPDX-License-Identifier: GPL-2.0-or-later */
/* systemd.h - tell a service manager how we are, and take the sockets it hands us.  Main thread. */
#ifndef UTIL_SYSTEMD_H
#define UTIL_SYSTEMD_H

/**
 * systemd_notify() - send @state ("READY=1") to the socket that $NOTIFY_SOCKET names
 *
 * Return: 1, sent; 0, nobody asked for it; -errno, it could not be sent (-EINVAL: the address is
 * neither a path nor '@' and an abstract name, or too long).
 */
int systemd_notify(const char *state);

/* The first file descriptor a service manager hands over. */
#define SYSTEMD_FIRST_FD 3
/* More would not be a service but a mistake in the environment. */
#define SYSTEMD_FDS_MAX  1024

/**
 * systemd_listen_fds() - the descriptors handed over by $LISTEN_PID and $LISTEN_FDS
 * @ret_names: if not NULL gets their names, NULL terminated, "unknown" where $LISTEN_FDNAMES has
 *             none; to be freed with g_strfreev(); NULL when there are no descriptors
 *
 * They start at SYSTEMD_FIRST_FD; each becomes close-on-exec.  The variables are removed from the
 * environment so that a child does not believe they are for it.
 *
 * Return: how many, 0 when none are for this process; -EINVAL for a malformed environment, -EBADF
 * when one of them is not open.
 */
int systemd_listen_fds(char ***ret_names);

/* systemd_listen_fd_by_name() - the number of the one called @name, or -ENOENT */
int systemd_listen_fd_by_name(char *const *names, const char *name);

#endif
