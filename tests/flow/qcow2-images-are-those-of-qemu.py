#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""qcow2, both ways: what QEMU's tools write we read, what we write they read and find sound.

    ROUNDS    how many images each test has (4)
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import rawnbd  # noqa: E402
from imgtool import ImgTool  # noqa: E402
from qblk import DEADLINE, KIB, MIB, die_with_parent  # noqa: E402
from tap import Skip, main, test  # noqa: E402

ROUNDS = int(os.environ.get('ROUNDS') or 4)
CLUSTERS = (512, 4 * KIB, 64 * KIB, 64 * KIB, 2 * MIB)
FUA = 1


def kind(r):
    """Options of an image, as qemu-img has them: every width, version and size of clusters."""
    cluster = r.choice(CLUSTERS)
    options = [f'cluster_size={cluster}']
    if r.random() < 0.2:
        return cluster, ','.join([*options, 'compat=0.10'])
    options.append(f'refcount_bits={r.choice((1, 2, 4, 8, 16, 32, 64))}')
    if cluster >= 16 * KIB and r.random() < 0.4:
        options.append('extended_l2=on')
    return cluster, ','.join(options)


def make_base(t, size):
    return t.image('base.raw', size, [(t.random.randrange(size - 100), t.random.randbytes(100))
                                      for _ in range(20)])


def read_file(path):
    with open(path, 'rb') as f:
        return f.read()


def qemu_io(t, image, commands):
    args = ['qemu-io', '-f', 'qcow2', t.path(image)]
    for c in commands:
        args += ['-c', c]
    try:
        p = subprocess.run(args, cwd=t.dir, capture_output=True, timeout=DEADLINE,
                           preexec_fn=die_with_parent)
    except FileNotFoundError:
        raise Skip('qemu-io is not installed') from None
    assert p.returncode == 0, p


@test('images of QEMU, of every kind, are read and mapped as it does')
def _(t):
    img, r = ImgTool(t), t.random
    for i in range(ROUNDS):
        size = r.randrange(1, 40) * MIB + r.choice((0, 512, 5 * KIB))
        cluster, options = kind(r)
        base = ['-b', make_base(t, MIB), '-F', 'raw'] if i % 2 else []
        print(f'# {options} {size} {base}', flush=True)
        p = img.peer('create', '-q', '-f', 'qcow2', '-o', options, *base, 'disk', size)
        assert p.status == 0, p
        commands = []
        for _ in range(12):
            at = r.randrange(size // cluster) * cluster if r.random() < 0.5 else r.randrange(size)
            n = min(size - at, r.choice((1, 512, cluster, 5 * cluster)))
            commands.append(r.choice((f'write -P {r.randrange(1, 255)} {at} {n}', f'write -z {at} {n}',
                                      f'write -z -u {at} {n}', f'discard {at} {n}')))
        qemu_io(t, 'disk', commands)
        img.as_peer('map', '--output=json', '-f', 'qcow2', 'disk')
        assert img.peer('convert', '-f', 'qcow2', '-O', 'raw', 'disk', 'theirs').status == 0
        img.ok('convert', '-f', 'qcow2', '-O', 'raw', 'disk', 'ours')
        assert read_file(t.path('ours')) == read_file(t.path('theirs'))


class Guest:
    """Random requests to our driver, and what must be on the disk."""

    def __init__(self, t, size, content, cluster):
        self.r, self.size, self.content, self.cluster = t.random, size, content, cluster

    def place(self):
        unit = self.r.choice((1, 512, self.cluster))
        at = self.r.randrange(self.size) // unit * unit
        n = max(1, min(self.size - at, self.r.randrange(1, 20) * unit, MIB))
        return at, n

    def live(self, daemon, ops):
        with rawnbd.RawNbd(daemon.nbd_path, 'disk') as nbd:
            for _ in range(ops):
                self.one(nbd)
            nbd.request(rawnbd.CMD_READ, 0, self.size)
            errno, found = nbd.reply(self.size)
            assert errno == 0 and found == bytes(self.content)

    def one(self, nbd):
        at, n = self.place()
        dice = self.r.random()
        if dice < 0.1:
            nbd.request(rawnbd.CMD_FLUSH, 0, 0)
        elif dice < 0.35:
            nbd.request(rawnbd.CMD_ZEROES, at, n, flags=self.r.choice((0, 2)))  # NO_HOLE
            self.content[at:at + n] = bytes(n)
        else:
            data = self.r.randbytes(n)
            nbd.request(rawnbd.CMD_WRITE, at, n, data, flags=self.r.choice((0, 0, FUA)))
            self.content[at:at + n] = data
        errno, _ = nbd.reply()
        assert errno == 0, (errno, at, n)


@test('what random requests make of an image is sound, and the same to QEMU')
def _(t):
    img, r = ImgTool(t), t.random
    for i in range(ROUNDS):
        size = r.randrange(1, 6) * MIB + r.choice((0, 512, 5 * KIB))
        cluster, options = kind(r)
        base, content = [], bytearray(size)
        if i % 2:
            base = ['-b', make_base(t, MIB), '-F', 'raw']
            content[:MIB] = read_file(base[1])
        print(f'# {options} {size} {base}', flush=True)
        if r.random() < 0.5:
            assert img.peer('create', '-q', '-f', 'qcow2', '-o', options, *base, 'disk', size).status == 0
        else:
            img.ok('create', '-q', '-f', 'qcow2', '-o', options, *base,
                   'disk', size)
        guest = Guest(t, size, content, cluster)
        cache = r.choice(('', ',l2-cache-size=1024,l2-cache-entry-size=512'))
        for _ in range(2):
            daemon = t.daemon('--blockdev', f'driver=file,node-name=file,filename={t.path("disk")}',
                              '--blockdev', f'driver=qcow2,node-name=disk,file=file,discard=unmap{cache}')
            daemon.export('disk')
            guest.live(daemon, 80)
            daemon.close()
            p = img.peer('check', '-q', '-f', 'qcow2', 'disk')
            assert p.status == 0, p
            assert img.peer('convert', '-f', 'qcow2', '-O', 'raw', 'disk', 'theirs').status == 0
            assert read_file(t.path('theirs')) == bytes(content)


@test('preallocated images are sound')
def _(t):
    img = ImgTool(t)
    for options in ('preallocation=metadata', 'preallocation=falloc,cluster_size=4k', 'preallocation=full',
                    'preallocation=metadata,extended_l2=on', 'preallocation=metadata,compat=v2'):
        img.ok('create', '-q', '-f', 'qcow2', '-o', options, 'disk', '3M')
        p = img.peer('check', '-q', '-f', 'qcow2', 'disk')
        assert p.status == 0, p
        assert img.peer('compare', '-q', '-f', 'raw', '-F', 'qcow2', t.image('zeros', 3 * MIB), 'disk').status == 0


if __name__ == '__main__':
    main()
