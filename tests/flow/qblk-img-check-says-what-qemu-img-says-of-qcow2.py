#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Damaged qcow2 images: check says what qemu-img says, and after a repair qemu-img finds nothing."""
import json
import os
import shutil
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import ImgTool, Result, IMG, PEER, need_peer  # noqa: E402
from qblk import DEADLINE, have  # noqa: E402
from tap import Skip, main, test  # noqa: E402

COPIED, COMPRESSED = 1 << 63, 1 << 62
BITMAPS = 0x23852875
# What a repair leaves as it is: the entry may still tell somebody where the data is.
LEFT = ('Data cluster is not properly aligned', 'Table is not cluster aligned', 'overflow cluster')


class Image:
    """The bytes of an image."""

    def __init__(self, path):
        self.path = path

    def peek(self, at, form='>Q'):
        with open(self.path, 'rb') as f:
            f.seek(at)
            return struct.unpack(form, f.read(struct.calcsize(form)))[0]

    def poke(self, at, value, form='>Q'):
        with open(self.path, 'r+b') as f:
            f.seek(at)
            f.write(struct.pack(form, value))

    @property
    def l1(self):
        return self.peek(40)

    @property
    def l2(self):
        return self.peek(self.l1) & 0x00fffffffffffe00

    @property
    def reftable(self):
        return self.peek(48)

    @property
    def block(self):
        return self.peek(self.reftable)

    @property
    def bitmaps(self):
        """Where the header says where the directory is."""
        with open(self.path, 'rb') as f:
            return f.read(4096).find(struct.pack('>II', BITMAPS, 24)) + 8 + 16

    @property
    def directory(self):
        return self.peek(self.bitmaps)


def make(t, name, options='', snapshot=False, bitmap=False):
    """256 KiB at the begin of 64 MiB, by QEMU's programs."""
    need_peer()
    if not have('qemu-io'):
        raise Skip('qemu-io is not installed')

    def run(*args):
        subprocess.run(args, cwd=t.dir, check=True, capture_output=True, timeout=DEADLINE)

    run(PEER, 'create', '-f', 'qcow2', *(['-o', options] if options else []), name, '64M')
    run('qemu-io', '-c', 'write 0 256k', name)
    if snapshot:
        run(PEER, 'snapshot', '-c', 's', name)
    if bitmap:
        run(PEER, 'bitmap', '--add', name, 'b')
    return t.path(name)


def repair(t, program, fix, source):
    """@source, repaired by @program; its result, and the path."""
    path = t.path(f'{os.path.basename(program)}.qcow2')
    shutil.copyfile(source, path)
    return Result(program, ['check', '-r', fix, path], t.dir, DEADLINE), path


def clean(t, path, but=()):
    """qemu-img finds nothing in it, but for lines with these words."""
    r = Result(PEER, ['check', path], t.dir, DEADLINE)
    lines = [line for line in r.err.splitlines() if not any(words in line for words in (*but, 'to increase the refcount entry width'))]
    assert not lines and (r.status == 0 or (but and r.status == 2)), r


def json_of(t, program, source):
    r = Result(program, ['check', '--output=json', source], t.dir, DEADLINE)
    return json.loads(r.out), r.status


def same(t, source, fixes=('leaks', 'all')):
    """Both programs say the same of @source, and do the same to it."""
    ImgTool(t).as_peer('check', source)
    assert json_of(t, IMG, source) == json_of(t, PEER, source)
    for fix in fixes:
        ours, _ = repair(t, IMG, fix, source)
        theirs, _ = repair(t, PEER, fix, source)
        assert (ours.status, ours.out, ours.err) == (theirs.status, theirs.out, theirs.err), \
            f'{ours}\n--- {PEER}: {theirs}'


def flip_l2(bits):
    return lambda i: i.poke(i.l2, i.peek(i.l2) ^ bits)


def set_l2(word):
    return lambda i: i.poke(i.l2, word)


# name, how it is damaged, options of the image; then both say the same, and repair what they repair.
LIKE_PEER = [
    ('an entry is not aligned', flip_l2(0xa00), ''),
    ('two entries have one cluster', lambda i: i.poke(i.l2, i.peek(i.l2 + 8)), ''),
    ('data lies on the refcount table', set_l2(COPIED | 0x10000), ''),
    ('data lies on the L1 table', lambda i: i.poke(i.l2 + 8, i.l1), ''),
    ('the flag of an L2 table is not set', lambda i: i.poke(i.l1, i.peek(i.l1) & ~COPIED), ''),
    ('the flag of a cluster is not set', flip_l2(COPIED), ''),
    ('zeros have a place that is not aligned', flip_l2(0xa01), ''),
    ('a cluster is counted too often', lambda i: i.poke(i.block + 10, 2, '>H'), ''),
    ('a cluster is not counted', lambda i: i.poke(i.block + 10, 0, '>H'), ''),
    ('a refcount block is named twice', lambda i: i.poke(i.reftable + 8, i.block), ''),
    ('a refcount block lies on data', lambda i: i.poke(i.reftable + 8, 0x50000), ''),
    ('the refcount table is outside', lambda i: i.poke(48, 1 << 32), ''),
    ('there is no refcount table', lambda i: i.poke(56, 0, '>I'), ''),
    ('the corrupt bit', lambda i: i.poke(72, 2), ''),
    ('the dirty bit', lambda i: i.poke(72, 1), ''),
    ('a bit that has no meaning', flip_l2(1), 'compat=0.10'),
    ('a bit that has no meaning beside subclusters', flip_l2(1), 'extended_l2=on'),
    ('a refcount that has no room for two', lambda i: i.poke(i.l2 + 8, i.peek(i.l2 + 16)), 'refcount_bits=1'),
    ('a cluster is counted too often in refcounts of 64 bits', lambda i: i.poke(i.block + 40, 1 << 63),
     'refcount_bits=64'),
]
# The same verdict, and more is repaired.
AS_PEER_FINDS = [
    ('reserved bits', flip_l2(2), ''),
    ('reserved bits, high', flip_l2(1 << 57), ''),
    ('an entry is outside', set_l2(COPIED | 1 << 32), ''),
    ('an L1 entry has reserved bits', lambda i: i.poke(i.l1, i.peek(i.l1) | 2), ''),
    ('an L1 entry is outside', lambda i: i.poke(i.l1, COPIED | 1 << 32), ''),
    ('compressed data is outside', set_l2(COMPRESSED | 0x7fffff0000), ''),
    ('compressed data with the flag', set_l2(COMPRESSED | COPIED | 0x50000), ''),
    ('subclusters are data and zeros', lambda i: i.poke(i.l2 + 8, 0x1ffffffff), 'extended_l2=on'),
    ('subclusters are nowhere', set_l2(0), 'extended_l2=on'),
    ('compressed data has subclusters', set_l2(COMPRESSED | 0x50000), 'extended_l2=on'),
    ('a refcount block is outside', lambda i: i.poke(i.reftable + 8, 1 << 32), ''),
]


@test('what both repair: the same words, the same counts, the same status, and nothing is left')
def _(t):
    for name, damage, options in LIKE_PEER:
        path = make(t, 't.qcow2', options)
        damage(Image(path))
        print('#', name)
        same(t, path, ('all',) if 'no refcount' in name or 'table is outside' in name else ('leaks', 'all'))
        _, mended = repair(t, IMG, 'all', path)
        clean(t, mended, LEFT)


@test('what qemu-img leaves as it is: the same is found, and then repaired')
def _(t):
    for name, damage, options in AS_PEER_FINDS:
        path = make(t, 't.qcow2', options)
        damage(Image(path))
        print('#', name)
        ImgTool(t).as_peer('check', path)
        r, mended = repair(t, IMG, 'all', path)
        assert r.status == 0, r
        clean(t, mended)


@test('refcount blocks that cannot be read are made anew')
def _(t):
    for word in (0x20200, 0x20002, 0x7fffffffffff0000):
        path = make(t, 't.qcow2')
        i = Image(path)
        i.poke(i.reftable, word)
        ImgTool(t).fails('refcount', 'check', path, status=2)
        ImgTool(t).fails('need to rebuild', 'check', '-r', 'leaks', path)
        r, mended = repair(t, IMG, 'all', path)
        assert r.status == 0 and 'Rebuilding' in r.err, r
        clean(t, mended)


@test('snapshots: both say the same; and what a table may have that cannot be read is not given back')
def _(t):
    for damage in (lambda i, at: i.poke(at, i.peek(at) + 0x200), lambda i, at: i.poke(at + 8, 0x10000000, '>I'),
                   lambda i, at: i.poke(at, 1 << 32)):
        path = make(t, 't.qcow2', snapshot=True)
        i = Image(path)
        good = i.peek(i.peek(64))
        damage(i, i.peek(64))
        ImgTool(t).as_peer('check', path)
        r, mended = repair(t, IMG, 'all', path)
        assert r.status == 2 and 'Repairing cluster' not in r.err, r
        i = Image(mended)  # what was wrong, put right by hand: all is there
        i.poke(i.peek(64), good)
        i.poke(i.peek(64) + 8, 1, '>I')
        clean(t, mended)
    path = make(t, 't.qcow2', snapshot=True)
    i = Image(path)
    at = i.peek(i.peek(64))
    i.poke(at, i.peek(at) | COPIED)
    same(t, path)


@test('the active L1 table is outside: nothing is given back')
def _(t):
    path = make(t, 't.qcow2')
    i = Image(path)
    good = i.l1
    i.poke(40, 1 << 32)
    ImgTool(t).as_peer('check', path)
    r, mended = repair(t, IMG, 'all', path)
    assert r.status == 2, r
    Image(mended).poke(40, good)
    clean(t, mended)


@test('bitmaps that cannot be read are given up by a repair, and the rest of the image is good')
def _(t):
    path = make(t, 't.qcow2', bitmap=True)
    same(t, path)
    table = Image(path).peek(Image(path).directory)
    for damage in (lambda i: i.poke(i.directory, 0x123456), lambda i: i.poke(i.directory, 1 << 32),
                   lambda i: i.poke(i.directory, 0x50000), lambda i: i.poke(i.bitmaps, 1 << 32),
                   lambda i: i.poke(i.directory + 17, 99, '>B'), lambda i: i.poke(table, 1 << 32),
                   lambda i: i.poke(table, 0x52000)):
        path = make(t, 't.qcow2', bitmap=True)
        damage(Image(path))
        ImgTool(t).fails('bitmap', 'check', path, status=2)
        r, mended = repair(t, IMG, 'all', path)
        assert r.status == 0 and 'Repairing bitmaps' in r.err, r
        clean(t, mended)
    path = make(t, 't.qcow2', bitmap=True)
    Image(path).poke(88, 0)  # a program that does not know them has written: they are leaks
    ImgTool(t).as_peer('check', path, words=False)
    _, mended = repair(t, IMG, 'leaks', path)
    clean(t, mended, ('a program lacking bitmap support', 'Some clusters may be leaked'))


@test('a data file: entries are looked at, its clusters are not counted')
def _(t):
    for damage in (flip_l2(COPIED), lambda i: i.poke(i.l2 + 8, i.peek(i.l2 + 8) | 0x200),
                   lambda i: i.poke(i.l2 + 8, i.peek(i.l2 + 16)),
                   lambda i: i.poke(i.l2 + 8, COMPRESSED | 0x50000),
                   lambda i: i.poke(i.l2 + 8, COPIED | 1 << 32)):
        for option in ('', ',data_file_raw=on'):
            path = make(t, 't.qcow2', 'data_file=t.data' + option)
            damage(Image(path))
            ImgTool(t).as_peer('check', path)
            _, mended = repair(t, IMG, 'all', path)
            clean(t, mended, LEFT)
            os.unlink(t.path('t.data'))


@test('random damage: the same verdict, and after a repair qemu-img finds nothing that can be repaired')
def _(t):
    rounds = int(os.environ.get('SEEDS', '12'))
    bases = [make(t, f'base{n}.qcow2', options, snapshot=n % 2 == 1) for n, options in enumerate((
        '', 'cluster_size=512,refcount_bits=8', 'extended_l2=on', 'cluster_size=4k,refcount_bits=64',
        'compat=0.10', 'cluster_size=2k,refcount_bits=2'))]
    for n in range(rounds):
        path = t.path('t.qcow2')
        shutil.copyfile(t.random.choice(bases), path)
        i = Image(path)
        tables = (i.l1, i.l2, i.l2, i.reftable, i.block, i.block)
        for _ in range(t.random.randint(1, 3)):
            at = t.random.choice(tables) + t.random.randrange(0, 64)
            with open(path, 'r+b') as f:
                f.seek(at)
                f.write(bytes([t.random.randrange(256)]))
        ours = Result(IMG, ['check', path], t.dir, DEADLINE)
        theirs = Result(PEER, ['check', path], t.dir, DEADLINE)
        assert ours.status in (0, 2, 3), f'round {n}: {ours}'
        special = 'Table is not cluster aligned' in theirs.err or theirs.status == 1
        assert special or ours.status == theirs.status, f'round {n}: {ours}\n--- {PEER}: {theirs}'
        r, mended = repair(t, IMG, 'all', path)
        left = any(words in r.err for words in LEFT)
        assert r.status == (2 if left else 0) or left, f'round {n}: {r}'
        if not left:
            clean(t, mended)


@test('the dirty bit: the first change of an image whose refcounts were not written repairs them')
def _(t):
    make(t, 't.qcow2', 'lazy_refcounts=on')
    io = subprocess.run(['qemu-io', '-c', 'write -P 0x5a 1M 256k', '-c', 'sigraise 9', 't.qcow2'], cwd=t.dir,
                        capture_output=True, timeout=DEADLINE)
    assert io.returncode < 0, io
    path = t.path('t.qcow2')
    assert Image(path).peek(72) == 1
    same(t, path, ('all',))
    tool = os.path.join(os.path.dirname(IMG), 'qblk-io')

    def run(*args):
        r = Result(tool, [*args, path], t.dir, DEADLINE)
        assert r.status == 0, r
        return r

    run('-r', '-c', 'read -P 0x5a 1M 256k')
    assert Image(path).peek(72) == 1
    r = run('-c', 'read -P 0x5a 1M 256k', '-c', 'write 8M 64k', '-c', 'read -P 0x5a 1M 256k')
    assert 'Rebuilding refcount structure' in r.err, r
    assert Image(path).peek(72) == 0
    clean(t, path)


@test('json has what qemu-img has, compressed clusters too')
def _(t):
    path = make(t, 'a.qcow2')
    subprocess.run([PEER, 'convert', '-c', '-O', 'qcow2', path, t.path('t.qcow2')], check=True, timeout=DEADLINE)
    same(t, t.path('t.qcow2'))
    found, _ = json_of(t, IMG, 't.qcow2')
    assert found['compressed-clusters'] > 0, found


if __name__ == '__main__':
    main()
