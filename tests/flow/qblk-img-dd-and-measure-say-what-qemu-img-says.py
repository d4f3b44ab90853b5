#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""dd and measure: output, messages, exit status and files of qemu-img, for good and for bad arguments."""
import filecmp
import json
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import ImgTool  # noqa: E402
from qblk import KIB, MIB  # noqa: E402
from tap import main, test  # noqa: E402


def copied(t, img, *args):
    """The same words to both; they make the same file, or none."""
    out = t.path('b.raw')
    if os.path.exists(out):
        os.unlink(out)
    theirs = img.peer('dd', *args)
    want = None
    if os.path.exists(out):
        want = t.path('want.raw')
        os.rename(out, want)
    ours = img.run('dd', *args)
    assert (ours.status, ours.out, ours.err) == (theirs.status, theirs.out, theirs.err), (ours, theirs)
    if want:
        assert filecmp.cmp(out, want, shallow=False), args
    return ours


@test('dd: blocks of any size, some of them, from the middle')
def _(t):
    img = ImgTool(t)
    data = random.Random(3).randbytes(700000)
    t.image('a.raw', 1000000, [(0, data)])
    files = ['if=a.raw', 'of=b.raw', '-f', 'raw']
    for args in ([], ['bs=1000'], ['bs=1999', 'count=3'], ['bs=1', 'count=513'], ['bs=1.5k', 'count=1'],
                 ['bs=1M'], ['bs=2147483647'], ['skip=1'], ['skip=30', 'bs=64k'], ['skip=1953'], ['skip=1954'],
                 ['skip=3000'], ['skip=3000', 'count=2'], ['skip=9223372036854775807'], ['count=0'],
                 ['count=0x10'], ['count=9223372036854775807', 'bs=4k'], ['bs=1k', 'count=2', 'bs=3k'],
                 ['-O', 'raw'], ['-U']):
        copied(t, img, *files, *args)
    copied(t, img, 'if=driver=raw,file.filename=a.raw', 'of=b.raw', '--image-opts')


@test('dd: count is of the blocks that are copied, as dd(1) counts')
def _(t):
    img = ImgTool(t)
    data = random.Random(4).randbytes(MIB)
    t.image('a.raw', MIB, [(0, data)])
    img.ok('dd', '-f', 'raw', 'if=a.raw', 'of=b.raw', 'bs=4k', 'skip=3', 'count=2')
    with open(t.path('b.raw'), 'rb') as f:
        assert f.read() == data[12 * KIB:20 * KIB]
    img.ok('dd', '-f', 'raw', 'if=a.raw', 'of=b.raw', 'skip=1k', 'count=1k')
    with open(t.path('b.raw'), 'rb') as f:
        assert f.read() == data[MIB // 2:]


@test('dd: what is wrong is refused in the same words')
def _(t):
    img = ImgTool(t)
    t.image('a.raw', MIB)
    files = ['if=a.raw', 'of=b.raw', '-f', 'raw']
    for args in ([], ['if=a.raw'], ['of=b.raw'], ['-U'], ['a.raw', 'b.raw'], ['if', 'of'], ['-z'], ['=3'],
                 ['if=nosuch', 'of=b.raw'], ['if=', 'of=b.raw'], ['if=a.raw', 'of=/nosuch/b.raw'],
                 ['-f', 'nosuch', 'if=a.raw', 'of=b.raw'], ['--image-opts', *files],
                 *([*files, more] for more in
                   ('bs=0', 'bs=x', 'bs=', 'bs=5G', 'bs=2G', 'count=x', 'count=-1', 'skip=-1',
                    'foo=1', 'foo', 'bs', '-Onosuch', '-Onull-co'))):
        copied(t, img, *args)


@test('dd: a file is not copied onto itself')
def _(t):
    img = ImgTool(t)
    t.image('a.raw', MIB, [(0, b'kept')])
    os.link(t.path('a.raw'), t.path('same.raw'))
    for other in ('a.raw', 'same.raw', 'file:a.raw'):
        img.fails('are the same file', 'dd', '-f', 'raw', 'if=a.raw', f'of={other}')
    with open(t.path('a.raw'), 'rb') as f:
        assert f.read(4) == b'kept'


@test('dd: to and from FVD')
def _(t):
    img = ImgTool(t)
    t.image('a.raw', 3 * MIB, [(MIB, random.Random(5).randbytes(MIB))])
    img.ok('dd', '-f', 'raw', '-O', 'fvd', 'if=a.raw', 'of=b.fvd', 'bs=1M')
    img.ok('check', 'b.fvd')
    img.ok('compare', '-f', 'raw', '-F', 'fvd', 'a.raw', 'b.fvd')
    img.ok('dd', '-f', 'fvd', 'if=b.fvd', 'of=c.raw', 'skip=1', 'bs=1M')
    assert os.stat(t.path('c.raw')).st_size == 2 * MIB


@test('measure: a raw image, in words and as JSON')
def _(t):
    img = ImgTool(t)
    t.image('a.raw', 1000000, [(0, b'x')])
    for form in ('human', 'json'):
        for size in ('0', '1', '1000', '1000001', '2G', '1T', '2P', '7E'):
            img.as_peer('measure', '--output', form, '--size', size)
        for args in ([], ['-U'], ['-O', 'raw'], ['-o', 'preallocation=full'], ['-o', 'size=3G'], ['-f', 'raw']):
            img.as_peer('measure', '--output', form, *args, 'a.raw')
        img.as_peer('measure', '--output', form, '--image-opts', 'driver=raw,file.filename=a.raw')


@test('measure: what is wrong is refused in the same words')
def _(t):
    img = ImgTool(t)
    t.image('a.raw', MIB)
    for args in ([], ['--size', '2G', 'a.raw'], ['a.raw', 'a'], ['--image-opts'], ['-f', 'raw'], ['-l', 'x'],
                 ['-o', ','], ['-l', 'snapshot.foo=bar'], ['--output', 'foo'], ['--size', '-1'], ['--size', 'x'],
                 ['--size', '8E'], ['-O', 'foo', 'a.raw'], ['-l', 's1', 'a.raw'],
                 ['-l', 'snapshot.id=1,snapshot.name=x', 'a.raw'], ['-O', 'file', '--size', '1G'],
                 ['-O', 'null-co', '--size', '1G'], ['-o', 'x=y', '--size', '1G'],
                 ['--image-opts', '-f', 'raw', 'a.raw'], ['-f', 'nosuch', 'a.raw'], ['nosuch.raw'], ['-z']):
        img.as_peer('measure', *args)


def measured(img, *args):
    return json.loads(img.ok('measure', '--output', 'json', '-O', 'fvd', *args).out)


@test('measure: an FVD image is as large as was said, before and after all of it is written')
def _(t):
    img = ImgTool(t)
    r = t.random
    for options in ('chunk_size=1M', 'chunk_size=64k', 'chunk_size=0', 'chunk_size=512,journal_size=8k'):
        size = r.randrange(1, 9000) * 512
        options += ',storage_grow_unit=0'  # else the file is longer, by a hole
        info = measured(img, '-o', options, '--size', str(size))
        img.ok('create', '-q', '-f', 'fvd', '-o', options, 'a.fvd', str(size))
        assert os.stat(t.path('a.fvd')).st_size == info['required'], (options, size, info)
        t.image('full.raw', size, [(0, r.randbytes(size))])
        full = measured(img, '-o', options, '-f', 'raw', 'full.raw')
        img.ok('convert', '-f', 'raw', '-O', 'fvd', '-o', options, 'full.raw', 'a.fvd')
        assert os.stat(t.path('a.fvd')).st_size == info['fully-allocated'] == full['required'], (
            options, size, info, full, os.stat(t.path('a.fvd')))
        t.image('some.raw', size, [(r.randrange(size), b'x') for _ in range(4)])
        some = measured(img, '-o', options, '-f', 'raw', 'some.raw')
        img.ok('convert', '-f', 'raw', '-O', 'fvd', '-o', options, 'some.raw', 'a.fvd')
        assert os.stat(t.path('a.fvd')).st_size <= some['required'] <= some['fully-allocated'], (options, size)


@test('measure: an FVD image with a backing file or a data file, which need not be there')
def _(t):
    img = ImgTool(t)
    t.image('some.raw', 64 * MIB, [(5 * MIB, b'x')])
    alone = measured(img, '-f', 'raw', 'some.raw')
    over = measured(img, '-o', 'backing_file=nosuch,backing_fmt=raw', '-f', 'raw', 'some.raw')
    assert alone['required'] < alone['fully-allocated'] == over['required'] == over['fully-allocated']
    beside = measured(img, '-o', 'data_file=nosuch.data', '-f', 'raw', 'some.raw')
    assert beside['required'] == beside['fully-allocated'] < alone['required']
    img.fails("Parameter 'chunk-size'", 'measure', '-O', 'fvd', '-o', 'chunk_size=3', '--size', '1G')
    assert not os.path.exists(t.path('nosuch.data'))


if __name__ == '__main__':
    main()
