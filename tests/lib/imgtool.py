# SPDX-License-Identifier: GPL-2.0-or-later
"""qblk-img, and its peer: the same words must have the same effect.

    QBLK_IMG      the program to test (QBLK_BUILD/qblk-img)
"""
import os
import signal
import subprocess

import qblk
from tap import Skip

IMG = os.environ.get('QBLK_IMG', os.path.join(qblk.BUILD, 'qblk-img'))
PEER = 'qemu-img'


class Result:
    """How a command ended, and what it said; the program's name is PROGRAM in both."""

    def __init__(self, program, args, cwd, timeout):
        p = subprocess.run([program, *args], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True,
                           timeout=timeout, preexec_fn=qblk.die_with_parent)
        name = os.path.basename(program)
        self.args = args
        self.status = p.returncode
        self.out = p.stdout.decode(errors='replace').replace(name, 'PROGRAM')
        self.err = p.stderr.decode(errors='replace').replace(name, 'PROGRAM')

    def __repr__(self):
        return f'{" ".join(self.args)}: status {self.status}\nstdout: {self.out}\nstderr: {self.err}'


class ImgTool:
    """qblk-img in the directory of a test."""

    def __init__(self, case):
        self.dir = case.dir

    def run(self, *args, timeout=qblk.DEADLINE, cwd=None):
        return Result(IMG, [str(a) for a in args], cwd or self.dir, timeout)

    def ok(self, *args, **more):
        r = self.run(*args, **more)
        assert r.status == 0, r
        return r

    def fails(self, words, *args, status=1, **more):
        r = self.run(*args, **more)
        assert r.status == status and words in r.err, r
        return r

    def peer(self, *args, timeout=qblk.DEADLINE, cwd=None):
        need_peer()
        return Result(PEER, [str(a) for a in args], cwd or self.dir, timeout)

    def as_peer(self, *args, words=True, without=None):
        """The peer's exit status, output, and (unless not @words) messages; returns ours.

        @without: a file that is removed, if the peer has made it, before we try.
        """
        theirs = self.peer(*args)
        if without and os.path.exists(os.path.join(self.dir, without)):
            os.unlink(os.path.join(self.dir, without))
        ours = self.run(*args)
        assert ours.status == theirs.status, f'{ours}\n--- {PEER}: {theirs}'
        assert ours.out == theirs.out, f'{ours}\n--- {PEER}: {theirs}'
        if words:
            assert ours.err == theirs.err, f'{ours}\n--- {PEER}: {theirs}'
        else:
            assert bool(ours.err) == bool(theirs.err), f'{ours}\n--- {PEER}: {theirs}'
        return ours

    def on_terminal(self, *args, peer=False):
        """What a command shows on a terminal, messages too."""
        if peer:
            need_peer()
        end, terminal = os.openpty()
        p = subprocess.Popen([PEER if peer else IMG, *[str(a) for a in args]], cwd=self.dir, stdin=subprocess.DEVNULL,
                             stdout=terminal, stderr=terminal, preexec_fn=qblk.die_with_parent)
        os.close(terminal)
        shown = b''
        try:
            while data := os.read(end, 65536):
                shown += data
        except OSError:  # EIO: nobody has the other end any more
            pass
        os.close(end)
        p.wait(timeout=qblk.DEADLINE)
        return shown.decode(errors='replace')

    def interrupted(self, *args, after=None, number=signal.SIGINT):
        """Starts a command, sends a signal once after() is true, and returns how it ended."""
        p = subprocess.Popen([IMG, *[str(a) for a in args]], cwd=self.dir, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=qblk.die_with_parent)
        try:
            while p.poll() is None and not after(p):
                pass
            if number == signal.SIGKILL:
                qblk.kill_and_wait(p)
            else:
                p.send_signal(number)
            out, err = p.communicate(timeout=qblk.DEADLINE)
        finally:
            p.kill()
            p.wait()
        return p.returncode, out.decode(errors='replace'), err.decode(errors='replace')


def need_peer():
    if not qblk.have(PEER):
        raise Skip(f'{PEER} is not installed')
