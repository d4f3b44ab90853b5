# SPDX-License-Identifier: GPL-2.0-or-later
"""Block devices for tests: a file of the host as a loop device, where the machine lets us."""
import os
import subprocess

import qblk
from tap import Skip


class Loop:
    """A device of @size bytes, each of which is @byte.  with Loop(t, 'disk', size) as loop: loop.path"""

    def __init__(self, t, name, size, byte=0xff):
        if not qblk.have('losetup'):
            raise Skip('there is no losetup')
        self.backing = t.path(name + '.backing')
        self.path = None
        with open(self.backing, 'wb') as f:
            for _ in range(size // qblk.MIB):
                f.write(bytes([byte]) * qblk.MIB)
            f.write(bytes([byte]) * (size % qblk.MIB))

    def __enter__(self):
        p = subprocess.run(['losetup', '--find', '--show', self.backing], capture_output=True)
        if p.returncode:
            raise Skip('no loop device: ' + p.stderr.decode(errors='replace').strip())
        self.path = p.stdout.decode().strip()
        return self

    def __exit__(self, *_):
        subprocess.run(['losetup', '--detach', self.path], check=True)

    def size(self):
        with open(self.path, 'rb') as f:
            return f.seek(0, os.SEEK_END)
