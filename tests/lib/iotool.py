# SPDX-License-Identifier: GPL-2.0-or-later
"""qblk-io, and its peer: the same commands must have the same effect.

    QBLK_IO       the program to test (QBLK_BUILD/qblk-io)
"""
import os
import re
import subprocess

import qblk
from tap import Skip

IO = os.environ.get('QBLK_IO', os.path.join(qblk.BUILD, 'qblk-io'))
PEER = 'qemu-io'


def timeless(text):
    """Without what depends on how long it took."""
    text = re.sub(r'[0-9.]+ sec \(.*ops/sec\)', 'TIME', text)
    return re.sub(r'^([0-9]+,1,)[0-9:.,]+$', r'\1TIME', text, flags=re.M)


class Result:
    """How the program ended, and what it said; its name is PROGRAM in both."""

    def __init__(self, program, args, cwd, commands):
        p = subprocess.run([program, *args], cwd=cwd, input=commands.encode(), capture_output=True,
                           timeout=qblk.DEADLINE, preexec_fn=qblk.die_with_parent)
        name = os.path.basename(program)
        self.args = args
        self.status = p.returncode
        self.raw = p.stdout.decode(errors='replace')
        self.out = timeless(self.raw.replace(name, 'PROGRAM'))
        self.err = p.stderr.decode(errors='replace').replace(name, 'PROGRAM')

    def __repr__(self):
        return f'{self.args}: status {self.status}\nstdout: {self.out}\nstderr: {self.err}'


class IoTool:
    """qblk-io in the directory of a test."""

    def __init__(self, case):
        self.dir = case.dir

    def run(self, *args, stdin=''):
        return Result(IO, [str(a) for a in args], self.dir, stdin)

    def peer(self, *args, stdin=''):
        if not qblk.have(PEER):
            raise Skip(f'{PEER} is not installed')
        return Result(PEER, [str(a) for a in args], self.dir, stdin)

    def as_peer(self, *args, commands=(), stdin='', before=lambda: None):
        """The same from both; @commands become -c, @before makes the image.  Returns ours."""
        args = [*(x for c in commands for x in ('-c', c)), *args]
        before()
        theirs = self.peer(*args, stdin=stdin)
        before()
        ours = self.run(*args, stdin=stdin)
        assert (ours.status, ours.out, ours.err) == (theirs.status, theirs.out, theirs.err), \
            f'{ours}\n--- {PEER}: {theirs}'
        return ours
