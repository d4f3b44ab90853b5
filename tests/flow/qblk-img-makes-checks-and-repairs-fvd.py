#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""FVD through qblk-img: made with options, described, checked with the exit status of qemu-img, repaired."""
import json
import os
import signal
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import ImgTool  # noqa: E402
from qblk import KIB, MIB  # noqa: E402
from tap import main, test  # noqa: E402

# docs/formats/fvd.rst
TABLE_OFFSET, CLEAN_SHUTDOWN = 2136, 3216
EMPTY = 0xffffffff


def field(path, offset, form):
    with open(path, 'rb') as f:
        return struct.unpack(form, os.pread(f.fileno(), struct.calcsize(form), offset))[0]


def put(path, offset, form, value):
    with open(path, 'r+b') as f:
        os.pwrite(f.fileno(), struct.pack(form, value), offset)


def written(t, img, name='a.fvd', *create):
    """An image with four chunks of 64 KiB, of 5s."""
    img.ok('create', '-q', '-f', 'fvd', '-o', 'chunk_size=64k', *create, name, '1M')
    img.ok('bench', '-f', 'fvd', '-w', '--pattern', '5', '-c', '4', '-s', '64k', '-d', '1', name)
    return t.path(name)


@test('create: options are obeyed and shown, bad ones are refused and nothing is made')
def _(t):
    img = ImgTool(t)
    r = img.ok('create', '-f', 'fvd', '-o', 'chunk_size=64k,journal_size=1M,nocow=off', 'a.fvd', '1M')
    assert r.out == "Formatting 'a.fvd', fmt=fvd size=1048576 chunk_size=65536 journal_size=1048576 nocow=off\n", r
    info = json.loads(img.ok('info', '--output=json', 'a.fvd').out)
    assert (info['format'], info['virtual-size'], info['cluster-size'], info['dirty-flag']) == \
        ('fvd', MIB, 64 * KIB, False), info
    assert [c['name'] for c in info['children']] == ['file'], info
    os.unlink(t.path('a.fvd'))
    for options, words in (('chunk_size=x', 'chunk_size'), ('chunk_size=-1', 'chunk_size'), ('bogus=1', 'bogus'),
                           ('copy_on_read=perhaps', 'copy_on_read'), ('chunk_size=1000', 'chunk'),
                           ('version=v9', 'version'), ('size=2M', 'only once'), ('block_size=1', 'block')):
        r = img.fails(words, 'create', '-f', 'fvd', '-o', options, 'a.fvd', '1M')
        assert not os.listdir(t.dir), r


@test('create: the base image must be there, and its format be said')
def _(t):
    img = ImgTool(t)
    t.image('base.raw', 3 * MIB, [(MIB, b'base')])
    img.fails('Backing file specified without backing format\nDetected format of raw.', 'create', '-f', 'fvd',
              '-b', 'base.raw', 'a.fvd')
    img.fails('Could not open backing image.', 'create', '-f', 'fvd', '-b', 'nosuch', '-F', 'raw', 'a.fvd')
    img.fails('needs a size', 'create', '-f', 'fvd', '-u', '-b', 'nosuch', '-F', 'raw', 'a.fvd')
    img.fails('same filename', 'create', '-f', 'fvd', '-b', 'a.fvd', '-F', 'raw', 'a.fvd', '1M')
    img.fails('cannot be used without', 'create', '-f', 'fvd', '-F', 'raw', 'a.fvd', '1M')
    assert os.listdir(t.dir) == ['base.raw']
    img.ok('create', '-f', 'fvd', '-b', 'base.raw', '-F', 'raw', 'a.fvd')
    img.ok('create', '-f', 'fvd', '-u', '-b', 'nosuch', '-F', 'raw', 'b.fvd', '1M')
    os.mkdir(t.path('sub'))
    img.ok('create', '-f', 'fvd', '-b', '../a.fvd', '-F', 'fvd', 'sub/c.fvd', '4M')
    chain = json.loads(img.ok('info', '--output=json', '--backing-chain', 'sub/c.fvd').out)
    assert [(i['format'], i['virtual-size']) for i in chain] == \
        [('fvd', 4 * MIB), ('fvd', 3 * MIB), ('raw', 3 * MIB)], chain
    assert chain[0]['backing-filename'] == '../a.fvd' and chain[1]['backing-filename-format'] == 'raw', chain
    text = img.ok('info', 'sub/c.fvd').out
    assert 'backing file: ../a.fvd (actual path: sub/../a.fvd)\nbacking file format: fvd\n' in text, text
    img.ok('compare', '-f', 'fvd', '-F', 'raw', 'a.fvd', 'base.raw')


@test('check: the exit status says what is wrong')
def _(t):
    img = ImgTool(t)
    path = written(t, img)
    assert img.ok('check', 'a.fvd').out.startswith('No errors were found on the image.\n4/16 = 25.00% allocated')
    assert json.loads(img.ok('check', '--output=json', 'a.fvd').out)['allocated-clusters'] == 4
    assert img.ok('check', '-q', 'a.fvd').out == ''

    # Two places of the disk with one chunk.
    table = field(path, TABLE_OFFSET, '<Q')
    chunk = field(path, table, '<I')
    put(path, table + 4 * 10, '<I', chunk)
    r = img.run('check', 'a.fvd')
    assert r.status == 2 and r.err and 'Data may be corrupted' in r.out, r
    r = img.run('check', '--output=json', 'a.fvd')
    assert r.status == 2 and json.loads(r.out)['corruptions'] == 1, r
    put(path, table + 4 * 10, '<I', EMPTY)
    img.ok('check', 'a.fvd')

    # No image at all.
    t.image('garbage', MIB, [(0, t.random.randbytes(8192))])
    img.fails('garbage', 'check', '-f', 'fvd', 'garbage')
    img.fails('--journal cannot be used together with --repair', 'check', '--journal', '-r', 'all', 'a.fvd')
    assert img.run('check', '--journal', '-f', 'raw', 'a.fvd').status == 63


@test('check -r all: an image that was killed while it was written is whole, and so is what was flushed')
def _(t):
    img = ImgTool(t)
    img.ok('create', '-q', '-f', 'fvd', '-o', 'chunk_size=64k', 'a.fvd', '64M')
    # Each flush makes the records of 8 more chunks durable.
    img.interrupted('bench', '-f', 'fvd', '-w', '--pattern', '5', '-c', '1000000000', '-s', '64k', '-d', '1',
                    '--flush-interval', '8', 'a.fvd', number=signal.SIGKILL,
                    after=lambda p: os.stat(t.path('a.fvd')).st_blocks * 512 > 4 * MIB)
    assert field(t.path('a.fvd'), CLEAN_SHUTDOWN, '<I') == 0
    journal = img.ok('check', '--journal', 'a.fvd').out
    assert 'TABLE_JRECORD' in journal, journal
    r = img.run('check', 'a.fvd')
    assert r.status in (0, 3), r
    r = img.run('check', '-r', 'all', 'a.fvd')
    assert r.status == 0, r
    img.ok('check', 'a.fvd')
    mapped = json.loads(img.ok('map', '--output=json', '-f', 'fvd', 'a.fvd').out)
    assert sum(e['length'] for e in mapped if e['data']) >= 64 * KIB, mapped


@test('resize: space is set aside as it is asked for, and the image is sound')
def _(t):
    img = ImgTool(t)
    for mode in ('off', 'metadata', 'falloc', 'full'):
        path = written(t, img, mode + '.fvd')
        before = os.stat(path)
        img.ok('resize', '--preallocation', mode, '-f', 'fvd', path, '9M')
        after = os.stat(path)
        gained = (after.st_blocks - before.st_blocks) * 512
        assert gained >= 8 * MIB if mode in ('falloc', 'full') else gained < 2 * MIB, (mode, gained)
        img.ok('check', path)
        mapped = json.loads(img.ok('map', '--output=json', '-f', 'fvd', path).out)
        assert all(e['zero'] == (mode != 'full') for e in mapped if e['start'] >= MIB), mapped
        img.ok('bench', '-f', 'fvd', '-w', '--pattern', '6', '-c', '8', '-s', '1M', '-o', '1M', path)
        img.ok('check', path)
    img.fails("Preallocation can only be used for growing images", 'resize', '--shrink', '--preallocation',
              'falloc', '-f', 'fvd', path, '1M')


@test('bench: a signal closes the image in order')
def _(t):
    img = ImgTool(t)
    img.ok('create', '-q', '-f', 'fvd', 'a.fvd', '64M')
    status, out, err = img.interrupted('bench', '-f', 'fvd', '-w', '-c', '1000000000', '-d', '4', 'a.fvd',
                                       after=lambda p: os.stat(t.path('a.fvd')).st_blocks * 512 > 4 * MIB,
                                       number=signal.SIGTERM)
    assert status == -signal.SIGTERM and not err, (status, out, err)
    assert field(t.path('a.fvd'), CLEAN_SHUTDOWN, '<I') == 1
    img.ok('check', 'a.fvd')


if __name__ == '__main__':
    main()
