#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""commit: the base shows what the overlay showed, and the overlay still does, whatever happens."""
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import ImgTool  # noqa: E402
from qblk import KIB, MIB, SLOW, same  # noqa: E402
from tap import main, test  # noqa: E402


def scatter(t, path, size, pieces=8):
    """Random data and zeros in places."""
    with open(path, 'r+b') as f:
        for _ in range(pieces):
            offset = t.random.randrange(size)
            n = min(size - offset, t.random.choice([1, 511, 512, 4096, 70000, MIB]))
            f.seek(offset)
            f.write(bytes(n) if t.random.random() < 0.3 else t.random.randbytes(n))


def overlay(t, img, name, base, base_format, size):
    """An FVD image on @base, with some data of its own from offset 0 on."""
    img.ok('create', '-q', '-f', 'fvd', '-b', base, '-F', base_format, name, size)
    n = min(size, t.random.randrange(1, 20) * 32 * KIB)
    scatter(t, t.image('own', n), n)
    img.ok('convert', '-n', '-f', 'raw', '-O', 'fvd', 'own', name)


def shows(t, img, name, image_format):
    img.ok('convert', '-f', image_format, '-O', 'raw', name, 'flat')
    with open(t.path('flat'), 'rb') as f:
        return f.read()


def chain(t, img, mid_size=None):
    """base.raw <- mid.fvd <- top.fvd of random sizes; returns them."""
    sizes = [t.random.randrange(1, 80) * 32 * KIB for _ in range(3)]
    sizes[1] = mid_size or sizes[1]
    for name in ('base', 'mid', 'top'):
        if os.path.exists(t.path(name)):
            os.unlink(t.path(name))
    scatter(t, t.image('base', sizes[0]), sizes[0])
    overlay(t, img, 'mid', 'base', 'raw', sizes[1])
    overlay(t, img, 'top', 'mid', 'fvd', sizes[2])
    return sizes


@test('-b: into the base of a chain, which grows when it is shorter')
def _(t):
    img = ImgTool(t)
    for i in range(5):
        base, _mid, top = chain(t, img)
        want = shows(t, img, 'top', 'fvd')
        with open(t.path('base'), 'rb') as f:
            behind = f.read()[top:]
        r = img.ok('commit', '-f', 'fvd', '-b', 'base', 'top')
        assert r.out == 'Image committed.\n' and r.err == '', r
        with open(t.path('base'), 'rb') as f:
            got = f.read()
        assert got[:top] == want and got[top:] == behind and len(got) == max(base, top)
        assert shows(t, img, 'top', 'fvd') == want


@test('without -d the image is empty afterwards, and shows the same')
def _(t):
    img = ImgTool(t)
    for i in range(4):
        _base, _mid, top = chain(t, img, mid_size=80 * 32 * KIB)
        want = shows(t, img, 'top', 'fvd')
        img.ok('commit', '-f', 'fvd', 'top')
        assert shows(t, img, 'top', 'fvd') == want
        assert shows(t, img, 'mid', 'fvd')[:top] == want
        ranges = json.loads(img.ok('map', '--output=json', '-f', 'fvd', 'top').out)
        assert all(r['depth'] > 0 for r in ranges), ranges
        # Written again, and committed again.
        scatter(t, t.image('own', top), top)
        img.ok('convert', '-n', '-f', 'raw', '-O', 'fvd', 'own', 'top')
        img.ok('commit', '-f', 'fvd', 'top')
        img.ok('compare', '-f', 'raw', '-F', 'fvd', 'own', 'top')
        assert img.run('check', '-f', 'fvd', 'top').status == 0


@test('-d: into the backing file, itself an overlay; what is below it stays as it was')
def _(t):
    img = ImgTool(t)
    for i in range(4):
        base, _mid, top = chain(t, img, mid_size=80 * 32 * KIB)
        want = shows(t, img, 'top', 'fvd')
        with open(t.path('base'), 'rb') as f:
            before = f.read()
        assert img.ok('commit', '-q', '-f', 'fvd', '-d', 'top').out == ''
        assert shows(t, img, 'mid', 'fvd')[:top] == want
        assert shows(t, img, 'top', 'fvd') == want
        with open(t.path('base'), 'rb') as f:
            assert f.read() == before


@test('a signal ends it soon, and the overlay shows what it showed')
def _(t):
    img = ImgTool(t)
    t.image('base', 32 * MIB)
    t.image('new', 32 * MIB, [(0, t.random.randbytes(32 * MIB))])
    img.ok('create', '-q', '-f', 'fvd', '-b', 'base', '-F', 'raw', 'top', 32 * MIB)
    img.ok('convert', '-n', '-f', 'raw', '-O', 'fvd', 'new', 'top')
    start = time.monotonic()
    status, _out, err = img.interrupted(
        'commit', '-d', '-r', '4M', '-f', 'fvd', 'top',
        after=lambda p: os.stat(t.path('base')).st_blocks * 512 > 2 * MIB)
    assert status == -signal.SIGINT and err == '', (status, err)
    assert time.monotonic() - start < 10 * SLOW
    img.ok('compare', '-f', 'raw', '-F', 'fvd', 'new', 'top')
    img.ok('commit', '-d', '-f', 'fvd', 'top')
    assert same(t.path('base'), t.path('new'))


@test('what is said of bad arguments, and the exit status')
def _(t):
    img = ImgTool(t)
    t.image('x', MIB, [(0, t.random.randbytes(MIB))])
    for args in (['-f', 'raw', 'x'], ['nosuch'], [], ['x', 'x'], ['-t', 'foo', 'x'], ['-r', '1x', 'x'],
                 ['-f', 'foo', 'x'], ['-Z', 'x'], ['-f', 'raw', '-b', 'nosuch', 'x'], ['--image-opts', '-f', 'raw', 'x']):
        img.as_peer('commit', *args)
    img.ok('create', '-q', '-f', 'fvd', '-b', 'x', '-F', 'raw', 'top')
    img.fails("Did not find 'nosuch' in the backing chain of 'top'", 'commit', '-b', 'nosuch', 'top')
    assert img.ok('commit', '-p', '-d', 'top').out.endswith('(100.00/100%)\r\nImage committed.\n')


if __name__ == '__main__':
    main()
