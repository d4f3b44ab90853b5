#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Compressed clusters, both ways: what QEMU's tools compress we read and change, what we compress they find sound."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import qblk  # noqa: E402
from imgtool import ImgTool  # noqa: E402
from qblk import KIB, MIB  # noqa: E402
from tap import main, test  # noqa: E402

IO = os.path.join(qblk.BUILD, 'qblk-io')
KINDS = ('cluster_size=512', 'cluster_size=4k,refcount_bits=2', 'cluster_size=64k', 'cluster_size=64k,refcount_bits=1',
         'cluster_size=16k,extended_l2=on', 'cluster_size=2M')


def content(r, size):
    """Text, noise, and zeros, in pieces that begin anywhere."""
    parts = []
    while sum(map(len, parts)) < size:
        n = r.randrange(1, 90 * KIB)
        parts.append(r.choice((r.randbytes(n), (b'a line of text %d\n' % n) * (n // 17 + 1), bytes(n))))
    return bytearray(b''.join(parts)[:size])


def write_file(path, data):
    with open(path, 'wb') as f:
        f.write(data)


def same(img, image, data, t):
    write_file(t.path('want'), data)
    for tool in (img.ok, img.peer):
        p = tool('compare', '-f', 'raw', '-F', 'qcow2', 'want', image)
        assert p.status == 0, p
        p = tool('check', '-f', 'qcow2', image)
        assert p.status == 0, p


def ours_io(t, image, *commands):
    args = [IO, '-f', 'qcow2', t.path(image)]
    for c in commands:
        args += ['-c', c]
    return subprocess.run(args, cwd=t.dir, capture_output=True, text=True, timeout=qblk.DEADLINE)


def change(t, image, data, cluster):
    """Writes over what is compressed: parts, whole clusters, compressed anew, zeros, discards."""
    r, size = t.random, len(data)
    commands = []
    for _ in range(20):
        at, n, pattern = r.randrange(size), r.randrange(1, 3 * cluster), r.randrange(1, 255)
        kind = r.choice(('write', 'write -c', 'write -z', 'write -z -u'))
        if kind == 'write -c':
            at, n = at // cluster * cluster, cluster
        n = min(n, size - at)
        commands.append(f'{kind} {"" if "-z" in kind else f"-P {pattern}"} {at} {n}')
        data[at:at + n] = bytes(n) if '-z' in kind else bytes([pattern]) * n
    p = ours_io(t, image, *commands)
    assert p.returncode == 0 and 'failed' not in p.stdout + p.stderr, (commands, p)


def cluster_of(options):
    text = options.split('=')[1].split(',')[0]
    return int(text[:-1]) * {'k': KIB, 'M': MIB}[text[-1]] if text[-1] in 'kM' else int(text)


@test('images that either tool compresses are the same to both, and stay so when they are changed')
def _(t):
    img, r = ImgTool(t), t.random
    for options in KINDS:
        for compression in ('zlib', 'zstd'):
            data = content(r, r.randrange(1, 5) * MIB + r.choice((0, 512, 5 * KIB)))
            write_file(t.path('disk.raw'), data)
            order = r.choice(([], ['-W'], ['-m', '3']))
            print(f'# {options} {compression} {len(data)} {order}', flush=True)
            arguments = ('convert', '-c', *order, '-O', 'qcow2', '-o', f'compression_type={compression},{options}',
                         'disk.raw')
            img.ok(*arguments, 'ours')
            assert img.peer(*arguments, 'theirs').status == 0
            for image in ('ours', 'theirs'):
                assert f'compression type: {compression}' in img.ok('info', image).out
                changed = bytearray(data)
                same(img, image, changed, t)
                img.as_peer('map', '--output=json', '-f', 'qcow2', image)
                change(t, image, changed, cluster_of(options))
                same(img, image, changed, t)


@test('several sources are compressed into one image')
def _(t):
    img = ImgTool(t)
    first, second = content(t.random, MIB + 512), content(t.random, MIB + 1536)
    write_file(t.path('a'), first)
    write_file(t.path('b'), second)
    img.ok('convert', '-c', '-f', 'raw', '-O', 'qcow2', 'a', 'b', 'both')
    same(img, 'both', first + second, t)


@test('what is no compressed data is an I/O error, in words, and nothing else')
def _(t):
    img, r = ImgTool(t), t.random
    for compression in ('zlib', 'zstd'):
        write_file(t.path('disk.raw'), b'a line of text\n' * 16384)
        img.ok('convert', '-c', '-O', 'qcow2', '-o', f'compression_type={compression}', 'disk.raw', 'disk')
        with open(t.path('disk'), 'rb') as f:
            image = bytearray(f.read())
        table = int.from_bytes(image[40:48], 'big')  # L1
        table = int.from_bytes(image[table:table + 8], 'big') & 0xfffffffffffe00
        entry = int.from_bytes(image[table:table + 8], 'big')
        at = entry & ((1 << 54) - 1)
        for damage in ('noise', 'zeros', 'behind'):
            bad = bytearray(image)
            if damage == 'behind':
                bad[table:table + 8] = (entry | 1 << 50).to_bytes(8, 'big')
            else:
                bad[at:at + 64] = r.randbytes(64) if damage == 'noise' else bytes(64)
            write_file(t.path('bad'), bad)
            p = ours_io(t, 'bad', 'read 0 64k')
            assert 'read failed: Input/output error' in p.stdout + p.stderr, (compression, damage, p)
            assert 'Compressed cluster at guest offset 0' in p.stdout + p.stderr, (compression, damage, p)


@test('formats that cannot compress say so')
def _(t):
    img = ImgTool(t)
    write_file(t.path('disk.raw'), bytes(MIB))
    img.as_peer('convert', '-c', '-O', 'raw', 'disk.raw', 'out')


if __name__ == '__main__':
    main()
