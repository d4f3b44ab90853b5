/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A service manager played by the test. */
#include "util/systemd.h"
#include "util/osdep.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A datagram socket at @path, abstract when it begins with '@'. */
static int manager_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@') {
        address.sun_path[0] = '\0';
    } else {
        length++;
    }
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, length), ==, 0);
    return fd;
}

static void check_notify(const char *path)
{
    int fd = manager_socket(path);
    char message[64] = {0};

    g_setenv("NOTIFY_SOCKET", path, TRUE);
    g_assert_cmpint(systemd_notify("READY=1\nSTATUS=fine"), ==, 1);
    g_assert_cmpint(recv(fd, message, sizeof(message) - 1, MSG_DONTWAIT), ==, 19);
    g_assert_cmpstr(message, ==, "READY=1\nSTATUS=fine");
    close(fd);
    g_assert_cmpint(systemd_notify("STOPPING=1"), ==, -ECONNREFUSED);
}

static void test_notify(void)
{
    g_autofree char *directory = g_dir_make_tmp("notify-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(directory, "socket", NULL);
    g_autofree char *abstract = g_strdup_printf("@qblk-test-%d", (int)getpid());

    check_notify(path);
    check_notify(abstract);
    g_unlink(path);
    g_rmdir(directory);
}

static void test_notify_without_a_manager(void)
{
    char *long_path = g_strnfill(200, 'x');

    long_path[0] = '/';
    g_unsetenv("NOTIFY_SOCKET");
    g_assert_cmpint(systemd_notify("READY=1"), ==, 0);
    g_setenv("NOTIFY_SOCKET", "relative", TRUE);
    g_assert_cmpint(systemd_notify("READY=1"), ==, -EINVAL);
    g_setenv("NOTIFY_SOCKET", long_path, TRUE);
    g_assert_cmpint(systemd_notify("READY=1"), ==, -EINVAL);
    g_setenv("NOTIFY_SOCKET", "/no/such/socket", TRUE);
    g_assert_cmpint(systemd_notify("READY=1"), ==, -ENOENT);
    g_unsetenv("NOTIFY_SOCKET");
    g_free(long_path);
}

static void set_environment(int pid, const char *fds, const char *names)
{
    g_autofree char *text = g_strdup_printf("%d", pid);

    g_setenv("LISTEN_PID", text, TRUE);
    g_setenv("LISTEN_FDS", fds, TRUE);
    if (names) {
        g_setenv("LISTEN_FDNAMES", names, TRUE);
    }
}

static void test_no_descriptors(void)
{
    char **names = (char **)"x";

    g_assert_cmpint(systemd_listen_fds(&names), ==, 0);
    g_assert_null(names);
    set_environment(getpid() + 1, "1", NULL);
    g_assert_cmpint(systemd_listen_fds(&names), ==, 0);
    g_assert_null(g_getenv("LISTEN_FDS"));
    set_environment(getpid(), "many", NULL);
    g_assert_cmpint(systemd_listen_fds(NULL), ==, -EINVAL);
    set_environment(getpid(), "-1", NULL);
    g_assert_cmpint(systemd_listen_fds(NULL), ==, -EINVAL);
    set_environment(getpid(), "1025", NULL);
    g_assert_cmpint(systemd_listen_fds(NULL), ==, -EINVAL);
    set_environment(getpid(), "1000", NULL);
    g_assert_cmpint(systemd_listen_fds(&names), ==, -EBADF);
    g_assert_null(names);
}

static void test_descriptors(void)
{
    int spare[2];
    char **names;

    /* Descriptors 3 and 4 are open and inherited, whatever the test's runner left there. */
    for (int i = 0; i < 2; i++) {
        spare[i] = fcntl(3 + i, F_DUPFD_CLOEXEC, 10);
        g_assert_cmpint(dup2(0, 3 + i), ==, 3 + i);
        g_assert_cmpint(fcntl(3 + i, F_GETFD), ==, 0);
    }
    set_environment(getpid(), "2", "qmp");
    g_assert_cmpint(systemd_listen_fds(&names), ==, 2);
    g_assert_cmpstr(names[0], ==, "qmp");
    g_assert_cmpstr(names[1], ==, "unknown");
    g_assert_null(names[2]);
    g_assert_cmpint(fcntl(3, F_GETFD), ==, FD_CLOEXEC);
    g_assert_cmpint(fcntl(4, F_GETFD), ==, FD_CLOEXEC);
    g_assert_cmpint(systemd_listen_fd_by_name(names, "qmp"), ==, 3);
    g_assert_cmpint(systemd_listen_fd_by_name(names, "nbd"), ==, -ENOENT);
    g_assert_cmpint(systemd_listen_fd_by_name(NULL, "nbd"), ==, -ENOENT);
    g_assert_null(g_getenv("LISTEN_FDNAMES"));
    g_strfreev(names);
    for (int i = 0; i < 2; i++) {
        if (spare[i] >= 0) {
            dup2(spare[i], 3 + i);
            close(spare[i]);
        } else {
            close(3 + i);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/util/systemd/the manager is told, by path and by abstract name", test_notify);
    g_test_add_func("/util/systemd/without a manager nothing is sent",
                    test_notify_without_a_manager);
    g_test_add_func("/util/systemd/what is not for us is not taken", test_no_descriptors);
    g_test_add_func("/util/systemd/descriptors come with names and close on exec",
                    test_descriptors);
    return g_test_run();
}
