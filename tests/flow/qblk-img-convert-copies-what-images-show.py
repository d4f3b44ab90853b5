#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""convert: the copy shows what the source shows, as qemu-img's does; what fails or is stopped leaves nothing."""
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import ImgTool  # noqa: E402
from qblk import KIB, MIB, SLOW, TIB, same  # noqa: E402
from tap import main, test  # noqa: E402

BAD_SECTOR = ('driver=raw,file.driver=blkdebug,file.inject-error.0.event=read_aio,file.inject-error.0.sector=100,'
              'file.image.driver=file,file.image.filename={}')


def sparse(t, name, size, pieces=10):
    data = []
    for _ in range(pieces):
        offset = t.random.randrange(size)
        n = min(size - offset, t.random.choice([1, 511, 512, 4096, 70000, 3 * MIB]))
        data.append((offset, bytes(n) if t.random.random() < 0.3 else t.random.randbytes(n)))
    return t.image(name, size, data)


def allocated(path):
    return os.stat(path).st_blocks * 512


@test('raw to raw: the file that qemu-img makes, whatever the options')
def _(t):
    img = ImgTool(t)
    for i in range(12):
        sparse(t, 'a', t.random.randrange(1, 8 * MIB))
        more = t.random.choice([[], ['-W'], ['-m', '1'], ['-m', '16', '-W'], ['-S', '0'], ['-S', '64k'], ['-S', '512'],
                                ['-T', 'none'], ['-t', 'writethrough'], ['-t', 'none', '-W']])
        args = ['convert', '-f', 'raw', '-O', 'raw', *more, 'a']
        assert img.peer(*args, 'theirs').status == 0
        img.ok(*args, 'ours')
        assert same(t.path('ours'), t.path('theirs')), more
        # Where the file system has room for smaller holes than we look for, ours are no larger.
        assert allocated(t.path('ours')) <= allocated(t.path('theirs')) + 64 * KIB, more


@test('-S 0 allocates everything, and without it zeros become holes')
def _(t):
    img = ImgTool(t)
    t.image('a', 8 * MIB, [(MIB, bytes(MIB)), (4 * MIB, t.random.randbytes(MIB))])
    img.ok('convert', '-f', 'raw', 'a', 'thin')
    img.ok('convert', '-f', 'raw', '-S', '0', 'a', 'fat')
    assert same(t.path('a'), t.path('thin')) and same(t.path('a'), t.path('fat'))
    assert allocated(t.path('thin')) < 1.5 * MIB, allocated(t.path('thin'))
    assert allocated(t.path('fat')) >= 8 * MIB, allocated(t.path('fat'))


@test('-n: what was in the target is overwritten, by zeros, too; behind the end it stays')
def _(t):
    img = ImgTool(t)
    for i in range(4):
        a = sparse(t, 'a', 3 * MIB + 512 * i)
        old = t.random.randbytes(5 * MIB)
        t.image('b', 5 * MIB, [(0, old)])
        img.ok('convert', '-n', '-f', 'raw', '-O', 'raw', *(['-W'] if i % 2 else []), 'a', 'b')
        size = os.path.getsize(a)
        with open(a, 'rb') as f, open(t.path('b'), 'rb') as g:
            assert g.read(size) == f.read()
            assert g.read() == old[size:]
    t.image('zero', 5 * MIB)
    img.ok('convert', '-n', '--target-is-zero', '-f', 'raw', '-O', 'raw', 'a', 'zero')
    img.ok('compare', '-f', 'raw', '-F', 'raw', 'a', 'zero')
    t.image('small', MIB)
    img.as_peer('convert', '-n', '-f', 'raw', '-O', 'raw', 'a', 'small')


@test('raw to FVD and back: nothing is lost, whatever the size')
def _(t):
    img = ImgTool(t)
    for _ in range(6):
        a = sparse(t, 'a', t.random.randrange(1, 6 * MIB))
        chunks = t.random.choice([[], ['-o', 'chunk_size=64k'], ['-o', 'chunk_size=128k']])
        more = t.random.choice([[], ['-W', '-m', '16'], ['-S', '0'], ['-t', 'none'], ['-t', 'writethrough']])
        img.ok('convert', '-f', 'raw', '-O', 'fvd', *chunks, *more, 'a', 'b')
        img.ok('compare', '-f', 'raw', '-F', 'fvd', 'a', 'b')
        img.ok('check', '-f', 'fvd', 'b')
        img.ok('convert', '-f', 'fvd', '-O', 'raw', *more, 'b', 'c')
        with open(a, 'rb') as f, open(t.path('c'), 'rb') as g:
            want = f.read()
            assert g.read() == want + bytes(-len(want) % 512), (chunks, more)


@test('-B: only what the source has above its backing file is copied')
def _(t):
    img = ImgTool(t)
    sparse(t, 'base', 4 * MIB)
    img.ok('create', '-q', '-f', 'fvd', '-b', 'base', '-F', 'raw', 'a', 6 * MIB)
    t.image('own', MIB, [(100 * KIB, t.random.randbytes(300 * KIB))])
    img.ok('convert', '-n', '-f', 'raw', '-O', 'fvd', 'own', 'a')
    img.ok('convert', '-f', 'raw', '-O', 'raw', 'base', 'copy-of-base')
    for more in ([], ['-W']):
        img.ok('convert', '-f', 'fvd', '-O', 'fvd', '-B', 'copy-of-base', '-F', 'raw', *more, 'a', 'b')
        img.ok('compare', '-f', 'fvd', '-F', 'fvd', 'a', 'b')
        ranges = json.loads(img.ok('map', '--output=json', '-f', 'fvd', 'b').out)
        assert all(r['depth'] == 1 or not r['data'] for r in ranges if MIB <= r['start'] < 4 * MIB), ranges
    img.fails('explicit backing format', 'convert', '-O', 'fvd', '-B', 'copy-of-base', 'a', 'c')
    img.fails('target with a backing file', 'convert', '-n', '--target-is-zero', '-O', 'fvd', 'a', 'b')
    assert not os.path.exists(t.path('c'))


@test('several images become one, each of whole sectors')
def _(t):
    img = ImgTool(t)
    for name, size in (('a', 1000), ('b', 3 * MIB + 1), ('c', 512)):
        sparse(t, name, size)
    img.ok('convert', '-f', 'raw', 'a', 'b', 'c', 'ours')
    img.peer('convert', '-f', 'raw', 'a', 'b', 'c', 'theirs')
    assert same(t.path('ours'), t.path('theirs'))
    assert os.path.getsize(t.path('ours')) == 1024 + 3 * MIB + 512 + 512


@test('--salvage: a sector that cannot be read is zeros, and told')
def _(t):
    img = ImgTool(t)
    data = t.random.randbytes(MIB)
    t.image('a', MIB, [(0, data)])
    bad = BAD_SECTOR.format('a')
    img.as_peer('convert', '--image-opts', '-O', 'raw', bad, 'b', without='b')
    assert not os.path.exists(t.path('b'))
    img.as_peer('convert', '--salvage', '--image-opts', '-O', 'raw', bad, 'b')
    img.as_peer('convert', '-q', '--salvage', '--image-opts', '-O', 'raw', bad, 'b')
    with open(t.path('b'), 'rb') as f:
        got = f.read()
    # blkdebug fails each read that touches the sector.
    assert got == data[:51200] + bytes(512) + data[51712:]


@test('what is said of bad arguments, and the exit status')
def _(t):
    img = ImgTool(t)
    t.image('x', MIB, [(0, t.random.randbytes(MIB))])
    for args in (['x'], [], ['nosuch', 't'], ['-O', 'foo', 'x', 't'], ['-f', 'foo', 'x', 't'], ['-m', '17', 'x', 't'],
                 ['-m', '0', 'x', 't'], ['-m', '8x', 'x', 't'], ['-S', '1', 'x', 't'], ['-S', '1x', 'x', 't'],
                 ['-S', '17M', 'x', 't'], ['-c', 'x', 't'], ['-B', 'x', 'x', 't'], ['-F', 'raw', 'x', 't'],
                 ['-n', 'x', 'nosuch'], ['--target-is-zero', 'x', 't'], ['-C', '-S', '4k', 'x', 't'], ['-r', '1x', 'x', 't'],
                 ['-r', '-1', 'x', 't'], ['-n', '-o', 'size=4M', 'x', 'x'], ['x', 'nodir/t'], ['-t', 'foo', 'x', 't'],
                 ['-T', 'foo', 'x', 't'], ['--salvage', '-C', 'x', 't'], ['-c', '-C', 'x', 't'],
                 ['--skip-broken-bitmaps', 'x', 't'], ['--image-opts', '-f', 'raw', 'x', 't'],
                 ['--target-image-opts', 'x', 't'], ['--target-image-opts', '-O', 'raw', '-n', 'x', 't'],
                 ['-B', 'x', '-F', 'raw', 'x', 'x', 't'], ['-Z', 'x', 't'], ['x', 'x'], ['-l', 'snap', 'x', 't'],
                 ['-l', 'snapshot.name=snap', 'x', 't'], ['--bitmaps', 'x', 't'], ['--bitmaps', 'x', 'x', 't'],
                 ['--skip-broken-bitmaps', 'x', 't'], ['-c', 'x', 't']):
        img.as_peer('convert', *args, without='t')
        assert not os.path.exists(t.path('t')), args
    img.fails('smaller than input', 'convert', '-o', 'size=512k', 'x', 't')
    img.fails('foo', 'convert', '-o', 'foo=1', 'x', 't')
    assert not os.path.exists(t.path('t'))


@test('-C: the system copies from file to file, else it is read and written')
def _(t):
    img = ImgTool(t)
    for i in range(6):
        sparse(t, 'a', t.random.randrange(1, 9 * MIB))
        img.ok('convert', '-f', 'raw', '-O', 'fvd', 'a', 'a.fvd')
        more = t.random.choice([[], ['-W'], ['-m', '1'], ['-p'], ['-t', 'writethrough'], ['-t', 'none', '-T', 'none']])
        img.ok('convert', '-C', *more, '-f', 'raw', '-O', 'raw', 'a', 'b')
        img.ok('compare', '-f', 'raw', '-F', 'raw', 'a', 'b')
        img.ok('convert', '-C', *more, '-f', 'fvd', '-O', 'raw', 'a.fvd', 'b')
        img.ok('compare', '-f', 'raw', '-F', 'raw', 'a', 'b')
        img.ok('convert', '-C', *more, '-f', 'raw', '-O', 'fvd', 'a', 'b')
        img.ok('compare', '-f', 'raw', '-F', 'fvd', 'a', 'b')
    t.image('a', 4 * MIB, [(MIB, t.random.randbytes(2 * MIB))])
    r = img.ok('--trace', 'enable=bdrv_co_copy_range', 'convert', '-C', '-f', 'raw', '-O', 'raw', 'a', 'b')
    assert 'bdrv_co_copy_range' in r.err, r


@test('-p: how far it is, of the data there is, in a file or on a terminal')
def _(t):
    img = ImgTool(t)
    t.image('x', 64 * MIB, [(i * MIB, t.random.randbytes(MIB)) for i in (0, 2, 4, 32)])
    t.image('zeros', MIB)
    t.image('nothing', 0)
    for more in ([], ['-m', '1'], ['-W'], ['-q']):
        for sources in (['x'], ['x', 'x'], ['zeros'], ['nothing']):
            img.as_peer('convert', '-p', *more, *sources, 't')
            assert img.on_terminal('convert', '-p', *more, *sources, 't') == \
                img.on_terminal('convert', '-p', *more, *sources, 't', peer=True)
    out = img.ok('convert', '-p', '-S', '0', 'zeros', 't').out
    assert out.endswith('    (100.00/100%)\r    (100.00/100%)\r\n'), out
    assert '100%' not in img.run('convert', '-p', '-n', 'x', 'zeros').out.replace('(0.00/100%)', '')


@test('8 TiB with little data: quick, in little memory, and sparse again')
def _(t):
    img = ImgTool(t)
    try:
        t.image('a', 8 * TIB, [(i * TIB + i, t.random.randbytes(4 * MIB)) for i in range(7)])
    except OSError:
        return
    start = time.monotonic()
    img.ok('convert', '-f', 'raw', '-O', 'raw', 'a', 'b')
    img.ok('compare', '-s', '-f', 'raw', '-F', 'raw', 'a', 'b')
    assert time.monotonic() - start < 15 * SLOW
    assert allocated(t.path('b')) < 64 * MIB


@test('the rate is kept')
def _(t):
    img = ImgTool(t)
    t.image('a', 2 * MIB, [(0, t.random.randbytes(2 * MIB))])
    start = time.monotonic()
    img.ok('convert', '-r', '2M', '-f', 'raw', 'a', 'b')
    assert 0.8 < time.monotonic() - start < 5 * SLOW
    assert same(t.path('a'), t.path('b'))


@test('a signal ends it soon, by that signal, and the file that it made is gone')
def _(t):
    img = ImgTool(t)
    t.image('a', 64 * MIB, [(0, t.random.randbytes(64 * MIB))])
    for number in (signal.SIGINT, signal.SIGTERM):
        def half_way(p):
            path = t.path('b')
            return os.path.exists(path) and allocated(path) > 2 * MIB
        start = time.monotonic()
        status, out, err = img.interrupted('convert', '-r', '4M', '-f', 'raw', 'a', 'b', after=half_way, number=number)
        assert status == -number, (status, out, err)
        assert time.monotonic() - start < 10 * SLOW
        assert not os.path.exists(t.path('b'))
        assert err == '', err
    # One that was there is somebody's: it stays.
    t.image('b', MIB, [(0, b'mine')])
    status, out, err = img.interrupted('convert', '-r', '4M', '-f', 'raw', 'a', 'b', after=half_way)
    assert status == -signal.SIGINT and os.path.exists(t.path('b'))


@test('to an NBD server: every byte arrives; and back again')
def _(t):
    img = ImgTool(t)
    d = t.daemon()
    a = sparse(t, 'a', 20 * MIB, 30)
    t.image('disk.img', 20 * MIB, [(0, t.random.randbytes(20 * MIB))])
    d.file('disk', t.path('disk.img'))
    d.export('disk', writable=True)
    for more in (['-W', '-m', '16'], []):
        img.ok('convert', '-n', '-f', 'raw', '-O', 'raw', *more, 'a', d.uri())
        img.ok('compare', '-f', 'raw', '-F', 'raw', 'a', d.uri())
        img.ok('convert', '-f', 'raw', '-O', 'raw', d.uri(), 'b')
        assert same(a, t.path('b'))
    img.ok('convert', '-f', 'raw', '-O', 'raw', 'a', d.uri())
    img.ok('compare', '-f', 'raw', '-F', 'raw', 'a', d.uri())
    d.close()
    assert same(a, t.path('disk.img'))


if __name__ == '__main__':
    main()
