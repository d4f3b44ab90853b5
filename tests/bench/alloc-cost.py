#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What first writes cost beside their own bytes, counted and not timed: so it holds on any machine.

Random 4 KiB writes to places never written, a flush after each; then 64 MiB written from the begin to the end.  Counted
are the bytes written to files, and the calls that make them durable, by a library put in front of the C library
(count-io.c); files are opened with aio=threads, for that is what it sees.  PEER=1 in the environment counts QEMU's
formats, too: they are shown, and nothing is asked of them.

WRITES=n in the environment says how many.
"""
import mmap
import os
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import qblk  # noqa: E402
from qblk import GIB, KIB, MIB  # noqa: E402
from rawnbd import CMD_FLUSH, CMD_WRITE, RawNbd  # noqa: E402
from tap import Skip, main, need_qblk, test  # noqa: E402

COUNTER = os.path.join(qblk.BUILD, 'tests/bench/libcount-io.so')
QEMU, QEMU_IMG = 'qemu-storage-daemon', 'qemu-img'
SIZE = 8 * GIB
IN_ORDER = 64 * MIB
WRITES = int(os.environ.get('WRITES', '500'))
# So many random places may be looked up in one image before they meet in a block.
BLOCK = 64 * KIB


class Counts:
    """The numbers that a program under the library leaves in a file."""

    def __init__(self, path):
        with open(path, 'wb') as f:
            f.truncate(64)
        with open(path, 'r+b') as f:
            self.map = mmap.mmap(f.fileno(), 64)
        self.env = {'QBLK_COUNT_IO': path, 'LD_PRELOAD': COUNTER}

    def read(self):
        names = ('writes', 'bytes', 'syncs', 'allocations')
        return dict(zip(names, struct.unpack_from('=4Q', self.map)))


class Disk:
    """A daemon with one new image, under the library, and a client of it."""

    def __init__(self, t, kind):
        folder = t.path(f'image{len(t.daemons)}')
        os.makedirs(folder)
        image = os.path.join(folder, 'image')
        if kind.fmt == 'raw':
            qblk.make_image(image, SIZE)
        else:
            subprocess.check_call([kind.img, 'create', '-q', '-f', kind.fmt, *kind.create(folder), image, str(SIZE)])
        self.counts = Counts(os.path.join(folder, 'counts'))
        self.d = t.daemon(program=kind.program, env=self.counts.env)
        self.d.add(driver=kind.fmt, node_name='src',
                   file={'driver': 'file', 'filename': image, 'aio': 'threads'})
        self.d.export('src')
        self.nbd = RawNbd(self.d.nbd_path, 'disk')

    def ask(self, *request):
        self.nbd.request(*request)
        error = self.nbd.reply()[0]
        assert error == 0, (request[:3], error)

    def counted(self, work):
        before = self.counts.read()
        work()
        after = self.counts.read()
        return {k: after[k] - before[k] for k in after}

    def close(self):
        with self.nbd:
            pass
        self.d.close()


class Kind:
    """A kind of image, and who makes and serves it."""

    def __init__(self, name, fmt, peer=False, base=False, options=()):
        self.name, self.fmt, self.base, self.options = name, fmt, base, options
        self.program = QEMU if peer else qblk.DAEMON
        self.img = QEMU_IMG if peer else os.path.join(qblk.BUILD, 'qblk-img')

    def create(self, folder):
        words = [w for o in self.options for w in ('-o', o)]
        if self.base:
            words += ['-F', 'raw', '-b', qblk.make_image(os.path.join(folder, 'base'), SIZE, [(0, b'\x11' * MIB)])]
        return words

    def random(self, t):
        """For each of the writes: how many KiB, how often made durable."""
        places = t.random.sample(range(SIZE // BLOCK), WRITES)
        disk = Disk(t, self)

        def work():
            for place in places:
                at = place * BLOCK + t.random.randrange(BLOCK // (4 * KIB)) * 4 * KIB
                disk.ask(CMD_WRITE, at, 4 * KIB, b'\xa5' * (4 * KIB))
                disk.ask(CMD_FLUSH, 0, 0)

        c = {k: v / WRITES for k, v in disk.counted(work).items()}
        disk.close()
        print(f'# {self.name}: {c["syncs"]:.3f} times made durable, {c["bytes"] / KIB:.2f} KiB in {c["writes"]:.2f} '
              f'writes, {c["allocations"]:.3f} changes of a file\'s size or holes', flush=True)
        return c['syncs'], c['bytes'] / KIB

    def in_order(self, t):
        """Bytes written for each byte of the guest."""
        disk = Disk(t, self)

        def work():
            for at in range(0, IN_ORDER, BLOCK):
                disk.ask(CMD_WRITE, at, BLOCK, b'\x5a' * BLOCK)
            disk.ask(CMD_FLUSH, 0, 0)

        c = disk.counted(work)
        disk.close()
        print(f'# {self.name}: {c["bytes"] / IN_ORDER:.4f} bytes a byte in order, {c["syncs"]} times made durable',
              flush=True)
        return c['bytes'] / IN_ORDER


def need_counter():
    need_qblk('has FVD')
    if qblk.SANITIZED:
        raise Skip('a sanitizer sits in front of the C library already')


@test('the counter sees what a raw disk writes, no more and no less')
def _(t):
    need_counter()
    raw = Kind('raw', 'raw')
    assert raw.random(t) == (1.0, 4.0)
    assert raw.in_order(t) == 1.0


@test('FVD: a first write of 4 KiB and its flush are made durable once, and write 8.5 KiB at most')
def _(t):
    need_counter()
    fvd = Kind('fvd', 'fvd')
    syncs, kib = fvd.random(t)
    assert syncs <= 1.05 and 4 < kib <= 8.5, (syncs, kib)


@test('FVD over a base: the same, and what is copied is one block')
def _(t):
    need_counter()
    fvd = Kind('fvd over a base', 'fvd', base=True)
    syncs, kib = fvd.random(t)
    assert syncs <= 1.05 and 64 < kib <= 64 + 8.5, (syncs, kib)


@test('FVD: written in order, a disk costs 2 % more than raw at most')
def _(t):
    need_counter()
    times = Kind('fvd', 'fvd').in_order(t)
    assert 1.0 <= times <= 1.02, times


@test('what QEMU writes for the same')
def _(t):
    need_counter()
    if os.environ.get('PEER') != '1':
        raise Skip('PEER=1 asks for it')
    if not qblk.have(QEMU) or not qblk.have(QEMU_IMG):
        raise Skip('there is no QEMU')
    for name, fmt, base, words in (('QEMU raw', 'raw', False, ()), ('QEMU qcow2', 'qcow2', False, ()),
                                   ('QEMU qcow2 lazy', 'qcow2', False, ('lazy_refcounts=on',)),
                                   ('QEMU qcow2 over a base', 'qcow2', True, ()),
                                   ('QEMU qcow2 lazy over a base', 'qcow2', True, ('lazy_refcounts=on',))):
        kind = Kind(name, fmt, peer=True, base=base, options=words)
        syncs, _kib = kind.random(t)
        assert syncs >= 1.0, syncs
        kind.in_order(t)


if __name__ == '__main__':
    main()
