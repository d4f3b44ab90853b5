#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""compare and map: output, messages and exit status of qemu-img, for good and for bad arguments."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbdtool  # noqa: E402
from imgtool import ImgTool  # noqa: E402
from qblk import KIB, MIB  # noqa: E402
from tap import main, test  # noqa: E402


def sparse(t, name, size, pieces=6):
    """Random data in some places, zeros written in others, and holes."""
    data = []
    for _ in range(pieces):
        offset = t.random.randrange(max(size - 1, 1))
        n = min(size - offset, t.random.choice([1, 511, 512, 4096, 70000]))
        data.append((offset, bytes(n) if t.random.random() < 0.3 else t.random.randbytes(n)))
    return t.image(name, size, data)


def edit(path, offset, content):
    with open(path, 'r+b') as f:
        f.seek(offset)
        f.write(content)


@test('compare: random pairs of images, with and without --strict')
def _(t):
    img = ImgTool(t)
    for i in range(12):
        size = t.random.randrange(1, 2 * MIB)
        a = sparse(t, 'a', size)
        with open(a, 'rb') as f:
            content = f.read()
        b = t.image('b', size, [(0, content)] if i % 2 else [])
        if not i % 2:
            edit(b, 0, content.rstrip(b'\0'))
        if i % 3 == 0:
            edit(b, t.random.randrange(size), b'?')
        if i % 4 == 0:
            os.truncate(b, size + t.random.randrange(-min(size - 1, 5000), 300000))
        img.as_peer('compare', '-f', 'raw', '-F', 'raw', 'a', 'b')
        img.as_peer('compare', '-f', 'raw', '-F', 'raw', 'b', 'a')
        # Where a strict comparison finds the first difference depends on how far each looks at once.
        theirs = img.peer('compare', '-s', '-f', 'raw', '-F', 'raw', 'a', 'b')
        ours = img.run('compare', '-s', '-f', 'raw', '-F', 'raw', 'a', 'b')
        assert ours.status == theirs.status, (ours, theirs)


@test('compare: what is said, and the exit status')
def _(t):
    img = ImgTool(t)
    block = t.random.randbytes(MIB)
    t.image('x', MIB, [(0, block)])
    t.image('y', MIB, [(0, block)])
    edit(t.path('y'), 71000, bytes([block[71000] ^ 1]))
    t.image('longer', 2 * MIB, [(0, block)])
    t.image('more', 2 * MIB, [(0, block), (1600000, b'x')])
    t.image('hole', MIB)
    t.image('zeros', MIB, [(0, bytes(MIB))])
    t.image('empty', 0)
    for args in (['x', 'x'], ['x', 'y'], ['x', 'longer'], ['longer', 'x'], ['x', 'more'], ['more', 'x'],
                 ['-s', 'x', 'longer'], ['-s', 'x', 'x'], ['hole', 'zeros'], ['-s', 'hole', 'zeros'],
                 ['empty', 'empty'], ['empty', 'hole'], ['empty', 'x'], ['-q', 'x', 'y'], ['-q', 'x', 'x'],
                 ['-p', 'x', 'x'], ['-qp', 'x', 'x'], ['-T', 'none', 'x', 'x'], ['-U', 'x', 'x'],
                 ['-f', 'raw', '-F', 'raw', 'x', 'y'], ['x', 'nosuch'], ['nosuch', 'x'], ['x'], [],
                 ['x', 'y', 'x'], ['-T', 'foo', 'x', 'x'], ['-f', 'foo', 'x', 'x'], ['-F', 'foo', 'x', 'x'],
                 ['-Z', 'x', 'x'], ['--image-opts', '-f', 'raw', 'x', 'x'], ['--nosuch', 'x', 'x']):
        img.as_peer('compare', *args)
    assert img.run('compare', 'x', 'y').status == 1
    assert img.run('compare', 'x', 'nosuch').status == 2


@test('compare: an image that cannot be read is named, with status 4')
def _(t):
    img = ImgTool(t)
    t.image('x', MIB, [(0, t.random.randbytes(MIB))])
    good = 'driver=raw,file.driver=file,file.filename=x'
    bad = ('driver=raw,file.driver=blkdebug,file.inject-error.0.event=read_aio,file.inject-error.0.sector=100,'
           'file.image.driver=file,file.image.filename=x')
    img.as_peer('compare', '--image-opts', good, bad)
    assert img.as_peer('compare', '--image-opts', bad, good).status == 4


@test('map: random images, as a table and as JSON')
def _(t):
    img = ImgTool(t)
    for i in range(12):
        size = t.random.randrange(1, 4096 * 512)
        sparse(t, 'a', size)
        for output in ('human', 'json'):
            img.as_peer('map', '-f', 'raw', '--output', output, 'a')
            start = t.random.randrange(size + 5000)
            img.as_peer('map', '-f', 'raw', '--output', output, '--start-offset', start, 'a')
            img.as_peer('map', '-f', 'raw', '--output', output, '--start-offset', start,
                        '--max-length', t.random.randrange(size), 'a')


@test('map: an image that ends within a sector, also with direct I/O')
def _(t):
    img = ImgTool(t)
    for size, data in ((65537, []), (65537, [(65536, b'x')]), (MIB - 1, []), (MIB - 1, [(MIB - 65536, bytes(65535))]),
                       (1, []), (1, [(0, b'x')])):
        t.image('x', size, data)
        for direct in ('off', 'on'):
            options = f'driver=raw,file.driver=file,file.filename=x,cache.direct={direct}'
            for more in ([], ['--output=json'], ['--output=json', '--start-offset', size]):
                img.as_peer('map', '--image-opts', *more, options)


@test('map: what is said, and the exit status')
def _(t):
    img = ImgTool(t)
    t.image('x', MIB, [(64 * KIB, t.random.randbytes(100 * KIB))])
    t.image('empty', 0)
    for args in (['x'], ['--output=json', 'x'], ['empty'], ['--output=json', 'empty'], ['-U', 'x'],
                 ['--start-offset', '100k', '--max-length', '1M', 'x'], ['--output=json', '--max-length', '0', 'x'],
                 ['--start-offset', '3M', 'x'], ['--output=json', '--start-offset', '3M', 'x'],
                 ['--start-offset', '3x', 'x'], ['--start-offset', '-1', 'x'], ['--max-length', 'q', 'x'],
                 ['--output', 'foo', 'x'], ['nosuch'], [], ['x', 'x'], ['-f', 'foo', 'x'],
                 ['--image-opts', '-f', 'raw', 'x']):
        img.as_peer('map', *args)
    ranges = json.loads(img.ok('map', '--output=json', 'x').out)
    assert [(r['start'], r['length'], r['data']) for r in ranges] == \
        [(0, 64 * KIB, False), (64 * KIB, 100 * KIB, True), (164 * KIB, MIB - 164 * KIB, False)], ranges


@test('map: by another metadata context of a server, whose bits are shown as holes and zeros')
def _(t):
    img = ImgTool(t)
    t.image('x', MIB, [(64 * KIB, t.random.randbytes(100 * KIB))])
    server = nbdtool.Server(nbdtool.NBD, ['-t', '-A', '-f', 'raw', '-k', t.path('sock'), t.path('x')], t.dir,
                            t.path('sock'))
    nbd = f'driver=nbd,server.type=unix,server.path={t.path("sock")},x-dirty-bitmap='
    img.as_peer('map', '--output=json', '--image-opts', nbd + 'base:allocation')
    img.as_peer('map', '--output=json', '--image-opts', nbd + 'qemu:allocation-depth')
    img.fails('requested x-dirty-bitmap qemu:dirty-bitmap:none not found', 'map', '--image-opts',
              nbd + 'qemu:dirty-bitmap:none')
    server.process.terminate()
    server.ended()


if __name__ == '__main__':
    main()
