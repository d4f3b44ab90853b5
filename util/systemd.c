/* SPDX-License-Identifier: GPL-2.0-or-later */
/* systemd.c - the two sides of a service manager's protocol, both a few lines: no library needed */
#include "util/systemd.h"
#include "util/cutils.h"
#include "util/osdep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int systemd_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t address_length;
    size_t path_length;
    ssize_t sent;
    int fd;
    int r = 1;

    if (!path || !*path) {
        return 0;
    }
    path_length = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || path_length >= sizeof(address.sun_path)) {
        return -EINVAL;
    }
    memcpy(address.sun_path, path, path_length);
    address_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_length);
    if (path[0] == '@') {
        address.sun_path[0] = '\0'; /* abstract: its length ends it */
    } else {
        address_length++;
    }

    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    do {
        sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
                      address_length);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        r = -errno;
    }
    close(fd);
    return r;
}

static int set_close_on_exec(int fd)
{
    int flags = fcntl(fd, F_GETFD);

    if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0) {
        return -errno;
    }
    return 0;
}

/* How many descriptors are ours: 0, a count, or -EINVAL. */
static int listen_fds_count(void)
{
    const char *pid_text = getenv("LISTEN_PID");
    const char *count_text = getenv("LISTEN_FDS");
    uint64_t pid;
    uint64_t count;

    if (!pid_text || !count_text) {
        return 0;
    }
    if (qemu_strtou64(pid_text, NULL, 10, &pid) < 0) {
        return -EINVAL;
    }
    if (pid != (uint64_t)getpid()) {
        return 0;
    }
    if (qemu_strtou64(count_text, NULL, 10, &count) < 0 || count > SYSTEMD_FDS_MAX) {
        return -EINVAL;
    }
    return (int)count;
}

/* @count names; LISTEN_FDNAMES may have fewer or be missing. */
static char **listen_fds_names(int count)
{
    const char *text = getenv("LISTEN_FDNAMES");
    g_auto(GStrv) given = g_strsplit(text ? text : "", ":", -1);
    char **names = g_new0(char *, count + 1);
    char **next = given;

    for (int i = 0; i < count; i++) {
        names[i] = g_strdup(*next && **next ? *next : "unknown");
        next += *next != NULL;
    }
    return names;
}

int systemd_listen_fds(char ***ret_names)
{
    g_auto(GStrv) names = NULL;
    int count = listen_fds_count();

    if (count > 0) {
        names = listen_fds_names(count);
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");

    for (int i = 0; i < count; i++) {
        int r = set_close_on_exec(SYSTEMD_FIRST_FD + i);

        if (r < 0) {
            count = r;
        }
    }
    if (ret_names) {
        *ret_names = count > 0 ? g_steal_pointer(&names) : NULL;
    }
    return count;
}

int systemd_listen_fd_by_name(char *const *names, const char *name)
{
    for (int i = 0; names && names[i]; i++) {
        if (strcmp(names[i], name) == 0) {
            return SYSTEMD_FIRST_FD + i;
        }
    }
    return -ENOENT;
}
