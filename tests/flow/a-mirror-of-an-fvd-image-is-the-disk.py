#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""FVD images as target and source of mirrors and backups while clients write, and as an export.

What an image shows is looked at in a copy, made by qblk-img; each image is sound afterwards.
"""
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbd  # noqa: E402
from imgtool import ImgTool  # noqa: E402
from qblk import KIB, MIB, same  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402
from witness import copy, fill  # noqa: E402

WHY = 'knows the format FVD'
SIZE = 12 * MIB + 3 * 512
COPY_MODES = ('background', 'write-blocking')


class Story:
    """A disk with clients; its image is raw, FVD, or FVD over a base, a half of which is in the image."""

    def __init__(self, t, kind, iothread=False, area=None):
        need_qblk(WHY)
        self.t = t
        self.img = ImgTool(t)
        self.d = t.daemon(*(['--object', 'iothread,id=io0'] if iothread else []))
        self.src = t.path('src.' + kind)
        content = fill(t.path('content.img'), SIZE, t.random.randrange(1 << 32), 40)
        if kind == 'raw':
            self.d.file('src', copy(content, self.src))
        else:
            base = ['-b', 'content.img', '-F', 'raw'] if kind == 'overlay' else []
            self.img.ok('create', '-q', '-f', 'fvd', '-o', 'chunk_size=64k,block_size=16k,journal_size=64k', *base,
                        self.src, SIZE)
            if kind == 'fvd':
                self.img.ok('convert', '-n', '-O', 'fvd', content, self.src)
            else:
                self.img.ok('bench', '-q', '-f', 'fvd', '-w', '-c', '40', '-s', '4k', '-S', '150k', '-d', '1', self.src)
            self.d.add(driver='fvd', node_name='src', discard='unmap', file={'driver': 'file', 'filename': self.src})
        self.initial = self.shown(self.src, 'initial.img') if kind != 'raw' else content
        self.d.export('src', **({'iothread': 'io0'} if iothread else {}))
        self.witness = t.witness(self.d.uri(), writers=3, zero=15, discard=15, area=area)
        self.witness.wait(50)

    def shown(self, image, name):
        """What an image shows, in a raw file."""
        path = self.t.path(name)
        self.img.ok('convert', '-U', '-O', 'raw', image, path)
        return path

    def pivot(self, dst):
        """Clients go on in the target, which is the disk."""
        self.d.qmp.event('BLOCK_JOB_READY')
        self.witness.wait(60)
        self.d.qmp('block-job-complete', device='j')
        self.d.qmp.job_ok('j')
        self.witness.wait(60)
        self.witness.stop()
        self.d.close()
        self.img.ok('check', dst) if dst.endswith('fvd') else None
        self.witness.final([self.shown(dst, 'seen.img')], [self.initial])

    def end_of_mirror(self, dst):
        """Clients stay in the source; the target is the disk at one instant."""
        self.d.qmp.event('BLOCK_JOB_READY')
        self.witness.wait(60)
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self.d.qmp('block-job-cancel', device='j')
        self.d.qmp.job_end('j')
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self.witness.wait(30)
        self.witness.stop()
        self.d.close()
        self.img.ok('check', dst)
        self.witness.instant([self.shown(dst, 'seen.img')], [self.initial], before, after)
        self.witness.final([self.shown(self.src, 'left.img')], [self.initial])


@test('drive-mirror makes an FVD image of a disk, and clients go on in it')
def _(t):
    for copy_mode in COPY_MODES:
        t.fresh()
        s = Story(t, 'raw', iothread=copy_mode == 'background')
        s.d.qmp('drive-mirror', {'job-id': 'j', 'device': 'src', 'target': t.path('new.fvd'), 'format': 'fvd',
                                 'sync': 'full', 'copy-mode': copy_mode, 'granularity': 16 * KIB})
        s.pivot(t.path('new.fvd'))


@test('blockdev-mirror fills an FVD image that was in use, with small chunks and a small journal')
def _(t):
    for copy_mode in COPY_MODES:
        t.fresh()
        s = Story(t, 'raw')
        dst = t.path('old.fvd')
        s.img.ok('create', '-q', '-f', 'fvd', '-o', 'chunk_size=4k,journal_size=64k', dst, SIZE)
        s.img.ok('convert', '-n', '-O', 'fvd', fill(t.path('other.img'), SIZE, 7), dst)
        s.d.add(driver='fvd', node_name='dst', discard='unmap', file={'driver': 'file', 'filename': dst})
        s.d.qmp('blockdev-mirror', {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'full',
                                    'copy-mode': copy_mode})
        s.end_of_mirror(dst) if copy_mode == 'background' else s.pivot(dst)


@test('an FVD disk is mirrored into a raw file, alone and with what its base has')
def _(t):
    for kind in ('fvd', 'overlay'):
        t.fresh()
        s = Story(t, kind, iothread=kind == 'overlay')
        dst = t.image('dst.raw', SIZE)
        s.d.file('dst', dst)
        s.d.qmp('blockdev-mirror', {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'full',
                                    'copy-mode': t.random.choice(COPY_MODES)})
        s.pivot(dst)


@test('an FVD overlay is mirrored with sync=top into another over the same base')
def _(t):
    for copy_mode in COPY_MODES:
        t.fresh()
        s = Story(t, 'overlay', area=(0, 2 * MIB))
        dst = t.path('top.fvd')
        s.d.qmp('drive-mirror', {'job-id': 'j', 'device': 'src', 'target': dst, 'format': 'fvd', 'sync': 'top',
                                 'copy-mode': copy_mode})
        s.pivot(dst)
        assert os.path.samefile(t.path('content.img'), base_of(s.img, dst))
        # What nobody wrote to is read from the base still.
        mapped = json.loads(s.img.ok('map', '--output=json', dst).out)
        assert sum(e['length'] for e in mapped if e['depth'] == 1) >= 4 * MIB, mapped


def base_of(img, path):
    return json.loads(img.ok('info', '--output=json', path).out)['full-backing-filename']


@test('a backup of an FVD overlay with sync=top is one instant of it, into FVD and into a raw disk')
def _(t):
    s = Story(t, 'overlay')
    dst = t.path('top.fvd')
    raw = copy(t.path('content.img'), t.path('dst.raw'))  # what sync=top leaves out is there
    s.d.file('raw', raw)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    s.d.qmp('drive-backup', {'job-id': 'j', 'device': 'src', 'target': dst, 'format': 'fvd', 'sync': 'top'})
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    s.d.qmp.job_ok('j')
    s.d.qmp.job_gone('j')
    s.witness.wait(50)
    before2 = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    s.d.qmp('blockdev-backup', {'job-id': 'j', 'device': 'src', 'target': 'raw', 'sync': 'top'})
    after2 = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    s.d.qmp.job_ok('j')
    s.d.qmp.job_gone('j')
    s.witness.wait(20)
    s.witness.stop()
    s.d.close()
    s.img.ok('check', dst)
    s.img.ok('check', s.src)
    s.witness.instant([s.shown(dst, 'seen.img')], [s.initial], before, after)
    s.witness.instant([raw], [s.initial], before2, after2)
    s.witness.final([s.shown(s.src, 'left.img')], [s.initial])


@test('a daemon that is killed amid a mirror leaves a sound target and a sound source')
def _(t):
    for kind in ('raw', 'overlay'):
        t.fresh()
        s = Story(t, kind)
        dst = t.path('new.fvd')
        s.d.qmp('drive-mirror', {'job-id': 'j', 'device': 'src', 'target': dst, 'format': 'fvd', 'sync': 'full',
                                 'copy-mode': t.random.choice(COPY_MODES)})
        s.d.qmp.event('BLOCK_JOB_READY')
        s.witness.wait(30)
        s.witness.kill()
        s.d.kill()
        for path in [dst] + ([s.src] if kind == 'overlay' else []):
            s.img.ok('check', path)
            s.img.ok('check', '-r', 'all', path)
            s.img.ok('check', path)


@test('an export of an FVD image says what is a hole, and gives back what is trimmed')
def _(t):
    need_qblk(WHY)
    img = ImgTool(t)
    base = fill(t.path('base.img'), 4 * MIB, 5, 0)
    img.ok('create', '-q', '-f', 'fvd', '-b', 'base.img', '-F', 'raw', '-o', 'chunk_size=64k,block_size=64k',
           'disk.fvd', 8 * MIB)
    d = t.daemon()
    d.add(driver='fvd', node_name='disk', discard='unmap', file={'driver': 'file', 'filename': t.path('disk.fvd')})
    d.export('disk')
    h = nbd.NBD()
    h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    h.connect_uri(d.uri())
    assert h.get_size() == 8 * MIB and h.can_trim() and h.can_zero() and h.can_flush() and h.can_fua()

    def extents(offset, length):
        found = []

        def add(_context, _offset, entries, _error):
            found.extend(zip(entries[::2], entries[1::2]))
        h.block_status(length, offset, add)
        return found
    hole = nbd.STATE_HOLE | nbd.STATE_ZERO
    assert extents(4 * MIB, 4 * MIB)[0] == (4 * MIB, hole)
    h.pwrite(b'a' * 128 * KIB, 5 * MIB)
    assert [f for _, f in extents(4 * MIB, 4 * MIB)] == [hole, 0, hole]
    h.zero(64 * KIB, 0)
    h.trim(64 * KIB, 5 * MIB)
    h.flush()
    assert extents(5 * MIB, 128 * KIB) == [(64 * KIB, hole), (64 * KIB, 0)]
    assert h.pread(64 * KIB, 0) == bytes(64 * KIB)
    with open(base, 'rb') as f:
        f.seek(64 * KIB)
        assert h.pread(64 * KIB, 64 * KIB) == f.read(64 * KIB)
    assert extents(0, 128 * KIB)[0] == (64 * KIB, hole)
    h.shutdown()
    d.close()
    img.ok('check', 'disk.fvd')
    img.ok('convert', '-O', 'raw', 'disk.fvd', 'one.img')
    want = bytearray(open(base, 'rb').read() + bytes(4 * MIB))
    want[:64 * KIB] = bytes(64 * KIB)
    want[5 * MIB + 64 * KIB:5 * MIB + 128 * KIB] = b'a' * 64 * KIB
    with open(t.path('want.img'), 'wb') as f:
        f.write(want)
    assert same(t.path('one.img'), t.path('want.img'))


if __name__ == '__main__':
    main()
