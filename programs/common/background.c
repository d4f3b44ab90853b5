/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * background.c - a program in the background, and the file with its process ID
 *
 *      parent ──fork──▶ child ──makes all──▶ ready ──▶ serves
 *        │                                     │
 *        └──────── waits on a pipe ◀───────────┘
 *        exits 0 when the child is ready, 1 when the child is gone before that
 */
#include "programs/common/background.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int ready_fd = -1; /* in the child: the parent waits at the other end */
static int pidfile_fd = -1;
static char *pidfile_path; /* absolute: the directory may change */

static void background_wait(int fd)
{
    char ready;
    ssize_t n;

    do {
        n = read(fd, &ready, 1);
    } while (n < 0 && errno == EINTR);
    _exit(n == 1 ? 0 : 1);
}

void background_start(void)
{
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0) {
        error_report("cannot go to the background: %s", g_strerror(errno));
        exit(1);
    }
    pid = fork();
    if (pid < 0) {
        error_report("cannot go to the background: %s", g_strerror(errno));
        exit(1);
    }
    if (pid > 0) {
        close(fds[1]);
        background_wait(fds[0]);
    }
    close(fds[0]);
    ready_fd = fds[1];
    setsid();
}

void background_ready(bool keep_stderr)
{
    char ready = 1;
    ssize_t n;
    int null;

    if (ready_fd < 0) {
        return;
    }
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        for (int fd = STDIN_FILENO; fd <= (keep_stderr ? STDOUT_FILENO : STDERR_FILENO); fd++) {
            dup2(null, fd);
        }
        if (null > STDERR_FILENO) {
            close(null);
        }
    }
    if (chdir("/") < 0) {
        /* Nothing depends on it: it only keeps a file system from being unmounted. */
    }
    do {
        n = write(ready_fd, &ready, 1);
    } while (n < 0 && errno == EINTR);
    close(ready_fd);
    ready_fd = -1;
}

/* Open, lock, and look whether the path still leads to what was locked: another may have removed it. */
static int pidfile_open_locked(const char *path, Error **errp)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat ours, there;

    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        if (fd < 0) {
            int err = errno;

            error_setg_errno(errp, err, "Could not create '%s'", path);
            return -err;
        }
        if (fcntl(fd, F_SETLK, &lock) < 0) {
            int err = errno;

            error_setg_errno(errp, err, "Cannot lock pid file");
            close(fd);
            return -err;
        }
        if (fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_dev == there.st_dev &&
            ours.st_ino == there.st_ino) {
            return fd;
        }
        close(fd);
    }
}

int pidfile_write(const char *path, Error **errp)
{
    int fd = pidfile_open_locked(path, errp);
    int r = 0;

    if (fd < 0) {
        return fd;
    }
    if (ftruncate(fd, 0) < 0 || dprintf(fd, "%jd\n", (intmax_t)getpid()) < 0) {
        r = -errno;
        error_setg_errno(errp, -r, "Failed to write '%s'", path);
        close(fd);
        return r;
    }
    pidfile_fd = fd; /* stays open: the lock is the proof that we live */
    pidfile_path = g_canonicalize_filename(path, NULL);
    return 0;
}

void pidfile_remove(void)
{
    if (pidfile_fd >= 0) {
        unlink(pidfile_path);
        close(pidfile_fd);
        pidfile_fd = -1;
    }
    g_clear_pointer(&pidfile_path, g_free);
}
