# SPDX-License-Identifier: GPL-2.0-or-later
"""qblk-nbd, and its peer: the same words must have the same effect.

    QBLK_NBD      the program to test (QBLK_BUILD/qblk-nbd)
"""
import os
import signal
import subprocess
import time

import qblk
from imgtool import Result
from tap import Skip

NBD = os.environ.get('QBLK_NBD', os.path.join(qblk.BUILD, 'qblk-nbd'))
PEER = 'qemu-nbd'


def wait_for(condition, what):
    end = time.monotonic() + qblk.DEADLINE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


class Server:
    """A server that runs; it listens once it is made."""

    def __init__(self, program, args, directory, socket, **more):
        self.socket = socket
        self.stderr = open(os.path.join(directory, 'nbd.stderr'), 'w+b')
        self.process = subprocess.Popen([program, *args], cwd=directory, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=self.stderr,
                                        preexec_fn=qblk.die_with_parent, **more)
        wait_for(lambda: os.path.exists(socket) or self.process.poll() is not None, 'the server listens')
        assert self.process.poll() is None, self.words()

    def words(self):
        self.stderr.seek(0)
        return self.stderr.read().decode(errors='replace')

    def uri(self, name=''):
        return f'nbd+unix:///{name}?socket={self.socket}'

    def connect(self, name='', contexts=()):
        import nbd
        h = nbd.NBD()
        for context in contexts:
            h.add_meta_context(context)
        h.connect_uri(self.uri(name))
        return h

    def ended(self):
        """The exit status."""
        try:
            return self.process.wait(qblk.DEADLINE)
        finally:
            self.process.kill()
            self.stderr.close()

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.ended()


class NbdTool:
    """qblk-nbd in the directory of a test."""

    def __init__(self, case):
        self.dir = case.dir

    def serve(self, *args, program=NBD, **more):
        socket = os.path.join(self.dir, 's')
        assert not os.path.exists(socket)
        return Server(program, ['-k', socket, *[str(a) for a in args]], self.dir, socket, **more)

    def serve_peer(self, *args):
        self.need_peer()
        return self.serve(*args, program=PEER)

    def run(self, *args, program=NBD, timeout=qblk.DEADLINE):
        return Result(program, [str(a) for a in args], self.dir, timeout)

    def as_peer(self, *args):
        """The peer's exit status, output and messages; returns ours."""
        self.need_peer()
        theirs, ours = self.run(*args, program=PEER), self.run(*args)
        assert (ours.status, ours.out, ours.err) == (theirs.status, theirs.out, theirs.err), (ours, theirs)
        return ours

    @staticmethod
    def need_peer():
        if not qblk.have(PEER):
            raise Skip(f'{PEER} is not installed')
