#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules M1 to M6 of the mirror job in the whole daemon: the target is what clients were told, wherever it is.

Several connections write through the witness all along, over the switch-over too.  Then the disk, read through
the export and in the file itself, holds every write that was acknowledged; what was left behind is the disk at
one instant of the command, and nobody writes to it any more.  Sizes, granularity, and what clients do follow
from the seed.

    SECONDS   how long each place is tried, with all copy modes (one round each if it is not given)
"""
import itertools
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import KIB, MIB, die_with_parent, have, same  # noqa: E402
from rawnbd import CMD_READ, RawNbd  # noqa: E402
from tap import Skip, main, need_command, need_qblk, test  # noqa: E402
from target import wait_for_socket  # noqa: E402
from witness import copy, fill  # noqa: E402

SECONDS = float(os.environ.get('SECONDS', '0'))
GRANULARITIES = [4 * KIB << i for i in range(15)]  # 4 KiB to 64 MiB
MODES = ['background', 'write-blocking', 'changed']


class Disk:
    """A disk that clients are writing."""

    def __init__(self, t):
        self.t = t
        iothread = t.random.random() < 0.3
        self.d = t.daemon(*(['--object', 'iothread,id=io0'] if iothread else []))
        self.size = t.random.randrange(8 * MIB, 24 * MIB, 512)
        self.src = fill(t.path('src.img'), self.size, t.random.randrange(1 << 32), t.random.randrange(80))
        self.initial = copy(self.src, t.path('src.initial'))
        self.d.file('src', self.src)
        self.d.export('src', **({'iothread': 'io0'} if iothread else {}))
        more = t.random.choice([
            {}, {'zero': 30, 'discard': 30},
            {'area': (t.random.randrange(4 * MIB) // 512 * 512, 512 * KIB), 'bytes_max': 16 * KIB}])
        self.witness = t.witness(self.d.uri(), writers=t.random.randrange(2, 9), **more)
        self.witness.wait(50)

    def old_image(self):
        """A target that holds something else already."""
        return fill(self.t.path('dst.img'), self.size, self.t.random.randrange(1 << 32), 50)

    def start(self, copy_mode, command, **where):
        self.d.qmp(command, {
            'job-id': 'j', 'device': 'src', 'sync': 'full',
            'copy-mode': 'write-blocking' if copy_mode == 'write-blocking' else 'background',
            'granularity': self.t.random.choice(GRANULARITIES), **where})

    def blockdev(self, mode, node):
        self.d.add(driver='raw', node_name='dst', file=node)
        self.start(mode, 'blockdev-mirror', target='dst')

    def change(self):
        for copy_mode in ['write-blocking', 'background', 'write-blocking']:
            self.d.qmp('block-job-change', {'id': 'j', 'type': 'mirror', 'copy-mode': copy_mode})
            self.witness.wait(self.t.random.randrange(30))

    def read(self):
        """What clients see, in a file."""
        path = self.t.path('seen.img')
        with RawNbd(self.d.nbd_path, 'disk') as nbd, open(path, 'wb') as f:
            assert nbd.size == self.size
            for offset in range(0, self.size, MIB):
                length = min(MIB, self.size - offset)
                nbd.request(CMD_READ, offset, length)
                error, data = nbd.reply(length)
                assert error == 0
                f.write(data)
        return path

    def pivot(self, mode, dst):
        if mode == 'changed':
            self.change()
        self.d.qmp.event('BLOCK_JOB_READY')
        self.witness.wait(self.t.random.randrange(100))
        self.d.qmp('block-job-complete', {'device': 'j'})
        sent = self.d.qmp.sent_ns
        self.d.qmp.job_ok('j')
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        left = copy(self.src, self.t.path('left.img'))
        self.witness.wait(50)
        self.witness.stop()
        seen = self.read()
        self.d.close()
        self.witness.final([seen], [self.initial])
        self.witness.final([dst], [self.initial])
        assert same(self.src, left), 'the old disk was written after the switch-over'
        self.witness.instant([self.src], [self.initial], sent, after)


class QemuNbd:
    """Debian's server of an image."""

    def __init__(self, t, image):
        if not have('qemu-nbd'):
            raise Skip('qemu-nbd is not installed')
        self.path = t.path('server.sock')
        self.process = subprocess.Popen(
            ['qemu-nbd', '-t', '-e', '16', '-f', 'raw', '--discard=unmap', '-k', self.path, image],
            stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
        wait_for_socket(self.process, self.path)

    def end(self):
        self.process.kill()
        self.process.wait()


def to_a_file(s, mode):
    dst = s.old_image()
    s.blockdev(mode, {'driver': 'file', 'filename': dst, 'discard': 'unmap'})
    s.pivot(mode, dst)


def to_another_daemon(s, mode):
    dst = s.old_image()
    server = s.t.daemon()
    server.file('dst', dst)
    server.export('dst')
    s.blockdev(mode, {'driver': 'nbd', 'server': {'type': 'unix', 'path': server.nbd_path}, 'export': 'disk'})
    s.pivot(mode, dst)


def to_qemu_nbd(s, mode):
    dst = s.old_image()
    server = QemuNbd(s.t, dst)
    try:
        s.blockdev(mode, {'driver': 'nbd', 'server': {'type': 'unix', 'path': server.path}, 'export': ''})
        s.pivot(mode, dst)
    finally:
        server.end()


def to_an_existing_file(s, mode):
    need_command(s.d, 'drive-mirror')
    dst = s.old_image()
    s.start(mode, 'drive-mirror', target=dst, format='raw', mode='existing')
    s.pivot(mode, dst)


def to_a_new_file(s, mode):
    need_command(s.d, 'drive-mirror')
    dst = s.t.path('made.img')
    s.start(mode, 'drive-mirror', target=dst, format='raw', mode='absolute-paths')
    s.pivot(mode, dst)


PLACES = {
    'in a file': to_a_file,
    'in another daemon': to_another_daemon,
    'in qemu-nbd': to_qemu_nbd,
    'in a file that drive-mirror found': to_an_existing_file,
    'in a file that drive-mirror made': to_a_new_file,
}


def each(place):
    @test(f'what clients were told is {place}')
    def _(t):
        end = time.monotonic() + SECONDS
        first = t.random.randrange(3)
        for i in itertools.count():
            mode = MODES[(first + i) % 3]
            if mode == 'changed':
                need_qblk('changes the copy mode both ways')
            PLACES[place](Disk(t), mode)
            if time.monotonic() >= end:
                return
            t.fresh()


for each_place in PLACES:
    each(each_place)

main()
