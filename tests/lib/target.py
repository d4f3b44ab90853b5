# SPDX-License-Identifier: GPL-2.0-or-later
"""A backup's target that can be stopped, killed and filled: an NBD server of one raw image.

nbdkit serves it, so that what is done to the target is done to nobody else.
"""
import os
import signal
import socket
import subprocess
import time

from qblk import DEADLINE, die_with_parent, have
from tap import Skip


def wait_for_socket(server, path):
    """Until the process @server listens at @path."""
    end = time.monotonic() + DEADLINE
    while True:
        # The birth of a socket is no event; the end of the process is one: look again.
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(path)
                return
        except OSError:
            pass
        try:
            server.wait(0.005)
        except subprocess.TimeoutExpired:
            assert time.monotonic() < end, f'{server.args[0]} does not listen'
        else:
            raise AssertionError(f'{server.args[0]} ended at its start')


class Target:
    """The server of @image, from the start of the object until kill()."""

    def __init__(self, t, image, name='target', error='ENOSPC', requests=('pwrite', 'zero')):
        if not have('nbdkit'):
            raise Skip('nbdkit is not installed')
        self.image = image
        self.path = t.path(name + '.sock')
        self.log = t.path(name + '.log')
        self.full_sign = t.path(name + '.full')
        self.process = None
        # What nbdkit fails with, while the file that it is told of is there.
        self.errors = [f'error-{request}{more}' for request in requests
                       for more in (f'={error}', '-rate=100%', f'-file={self.full_sign}')]
        self.start()

    def start(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(
                ['nbdkit', '-f', '-U', self.path, '--filter=error', 'file', self.image,
                 *self.errors],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)
        wait_for_socket(self.process, self.path)

    def stop(self):
        """It stands still: takes nothing and says nothing, and its connections stay."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def fill_up(self, full):
        """From now on there is no room for a write (or what else was chosen as the error); or there is again."""
        if full:
            with open(self.full_sign, 'wb'):
                pass
        else:
            os.unlink(self.full_sign)

    def node(self, **more):
        return {'driver': 'nbd', 'server': {'type': 'unix', 'path': self.path}, 'export': '', **more}

    def uri(self):
        return f'nbd+unix:///?socket={self.path}'
