#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Persistent dirty bitmaps: what a daemon has recorded, the next one has from the image; after a kill they say nothing."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import ImgTool  # noqa: E402
from qblk import MIB, have, make_image  # noqa: E402
from tap import Skip, main, need_qblk, test  # noqa: E402

SIZE = 8 * MIB
WHY = 'knows the format FVD'


def disk(path, **more):
    return {'driver': 'fvd', 'node-name': 'disk', 'discard': 'unmap',
            'file': {'driver': 'file', 'node-name': 'file', 'filename': path}, **more}


def start(t, path, iothread=False):
    d = t.daemon(*(['--object', 'iothread,id=io0'] if iothread else []))
    d.qmp('blockdev-add', disk(path))
    d.export('disk', **({'iothread': 'io0'} if iothread else {}))
    return d


def write(d, offset, size):
    if not have('qemu-io'):
        raise Skip('qemu-io is not installed')
    subprocess.run(['qemu-io', '-f', 'raw', '-c', f'write -P 7 {offset} {size}', '-c', 'flush',
                    d.uri()], check=True, stdout=subprocess.DEVNULL)


def read(d, offset, size):
    subprocess.run(['qemu-io', '-f', 'raw', '-r', '-c', f'read -P 7 {offset} {size}', d.uri()],
                   check=True, stdout=subprocess.DEVNULL)


def bitmaps(d):
    node = [n for n in d.qmp('query-named-block-nodes') if n['node-name'] == 'disk'][0]
    return {b['name']: b for b in node.get('dirty-bitmaps', [])}


def refused(d, what, *words, **arguments):
    e = d.qmp.error(what, {k.replace('_', '-'): v for k, v in arguments.items()})
    assert all(w in str(e) for w in words), e


@test('what one daemon has recorded the next one has, and goes on with')
def _(t):
    need_qblk(WHY)
    img = ImgTool(t)
    path = t.path('disk.fvd')
    img.ok('create', '-f', 'fvd', path, str(SIZE))
    d = start(t, path)
    d.qmp('block-dirty-bitmap-add', node='disk', name='kept', persistent=True)
    d.qmp('block-dirty-bitmap-add', node='disk', name='off', persistent=True, disabled=True,
          granularity=4096)
    d.qmp('block-dirty-bitmap-add', node='disk', name='passing')
    write(d, 0, 65536)
    write(d, 5 * MIB, 65536)
    d.close()
    img.ok('check', path)
    assert 'kept' in img.ok('info', path).out
    d = start(t, path)
    got = bitmaps(d)
    assert set(got) == {'kept', 'off'}, got
    kept, off = got['kept'], got['off']
    assert kept['persistent'] and kept['recording'] and 'inconsistent' not in kept, kept
    assert kept['count'] == 131072 and kept['granularity'] == 65536, kept
    assert not off['recording'] and off['count'] == 0 and off['granularity'] == 4096, off
    write(d, 6 * MIB, 65536)
    d.qmp('block-dirty-bitmap-remove', node='disk', name='off')
    d.close()
    d = start(t, path)
    got = bitmaps(d)
    assert set(got) == {'kept'} and got['kept']['count'] == 3 * 65536, got
    d.close()
    img.ok('check', path)


@test('after a kill a bitmap is inconsistent: it is not used, and can be removed')
def _(t):
    need_qblk(WHY)
    img = ImgTool(t)
    path = t.path('disk.fvd')
    img.ok('create', '-f', 'fvd', path, str(SIZE))
    d = start(t, path)
    d.qmp('block-dirty-bitmap-add', node='disk', name='kept', persistent=True)
    d.close()
    d = start(t, path)
    write(d, 0, 65536)
    d.kill()
    d = start(t, path)
    kept = bitmaps(d)['kept']
    assert kept['inconsistent'] and not kept['recording'] and kept['persistent'], kept
    refused(d, 'block-dirty-bitmap-clear', "'kept' is inconsistent", node='disk', name='kept')
    d.close()
    d = start(t, path)
    assert bitmaps(d)['kept']['inconsistent']
    d.qmp('block-dirty-bitmap-remove', node='disk', name='kept')
    d.close()
    d = start(t, path)
    assert bitmaps(d) == {}
    d.close()
    img.ok('check', path)


def contents(path):
    with open(path, 'rb') as f:
        return f.read()


@test('an image that nobody writes to, nor to its bitmaps, is left as it is')
def _(t):
    need_qblk(WHY)
    img = ImgTool(t)
    path = t.path('disk.fvd')
    img.ok('create', '-f', 'fvd', path, str(SIZE))
    d = start(t, path)
    d.qmp('block-dirty-bitmap-add', node='disk', name='kept', persistent=True)
    write(d, 0, 65536)
    d.close()
    before = contents(path)
    d = start(t, path)
    assert bitmaps(d)['kept']['count'] == 65536
    d.close()
    assert contents(path) == before
    d = start(t, path)
    d.qmp('block-dirty-bitmap-clear', node='disk', name='kept')
    d.close()
    assert contents(path) != before
    d = start(t, path)
    assert bitmaps(d)['kept']['count'] == 0
    d.close()


for how, iothread, separate in (('', False, False), (', in an iothread', True, False),
                                (', with data in a file of its own', False, True)):
    @test(f'a bitmap that was removed is not there after a kill{how}')
    def _(t, iothread=iothread, separate=separate):
        need_qblk(WHY)
        img = ImgTool(t)
        path = t.path('disk.fvd')
        img.ok('create', '-f', 'fvd', *(['-o', 'data_file=disk.data'] if separate else []), path,
               str(SIZE))
        d = start(t, path, iothread)
        for name in 'abcd':
            d.qmp('block-dirty-bitmap-add', node='disk', name=name, persistent=True)
        write(d, 0, 65536)
        d.close()
        d = start(t, path, iothread)
        d.qmp('block-dirty-bitmap-remove', node='disk', name='a')
        d.kill()
        d = start(t, path, iothread)
        got = bitmaps(d)
        assert set(got) == set('bcd'), got
        assert all(b['count'] == 65536 and 'inconsistent' not in b for b in got.values()), got
        write(d, MIB, 65536)
        d.qmp('block-dirty-bitmap-remove', node='disk', name='b')
        write(d, 2 * MIB, 3 * MIB)
        d.qmp('block-dirty-bitmap-remove', node='disk', name='c')
        d.kill()
        img.ok('check', path)
        d = start(t, path, iothread)
        got = bitmaps(d)
        assert set(got) == {'d'} and got['d']['inconsistent'], got
        d.qmp('block-dirty-bitmap-remove', node='disk', name='d')
        d.kill()
        d = start(t, path, iothread)
        assert bitmaps(d) == {}
        read(d, 2 * MIB, 3 * MIB)
        d.close()
        img.ok('check', path)


@test('a removal that a transaction takes back leaves the bitmap')
def _(t):
    need_qblk(WHY)
    img = ImgTool(t)
    path = t.path('disk.fvd')
    img.ok('create', '-f', 'fvd', path, str(SIZE))
    d = start(t, path)
    d.qmp('block-dirty-bitmap-add', node='disk', name='kept', persistent=True)
    write(d, 0, 65536)
    d.close()
    d = start(t, path)
    refused(d, 'transaction', 'not found', actions=[
        {'type': 'block-dirty-bitmap-remove', 'data': {'node': 'disk', 'name': 'kept'}},
        {'type': 'block-dirty-bitmap-clear', 'data': {'node': 'disk', 'name': 'nothing'}}])
    write(d, MIB, 65536)
    d.close()
    d = start(t, path)
    assert bitmaps(d)['kept']['count'] == 131072
    d.close()


for how, iothread in ('', False), (', in an iothread', True):
    @test(f'a disk that is reopened read-only and back has its bitmaps{how}')
    def _(t, iothread=iothread):
        need_qblk(WHY)
        img = ImgTool(t)
        path = t.path('disk.fvd')
        img.ok('create', '-f', 'fvd', path, str(SIZE))
        d = start(t, path, iothread)
        d.qmp('block-dirty-bitmap-add', node='disk', name='kept', persistent=True)
        d.qmp('block-dirty-bitmap-add', node='disk', name='away', persistent=True)
        write(d, 0, 65536)
        d.qmp('block-export-del', id='export-disk', mode='hard')
        d.qmp.event('BLOCK_EXPORT_DELETED')
        d.qmp('blockdev-reopen', options=[disk(path, **{'read-only': True})])
        refused(d, 'block-dirty-bitmap-remove', 'readonly', node='disk', name='away')
        refused(d, 'block-dirty-bitmap-clear', 'readonly', node='disk', name='kept')
        d.kill()
        d = start(t, path, iothread)
        got = bitmaps(d)
        assert {n: b['count'] for n, b in got.items()} == {'kept': 65536, 'away': 65536}, got
        d.qmp('block-export-del', id='export-disk', mode='hard')
        d.qmp.event('BLOCK_EXPORT_DELETED')
        before = contents(path)
        for read_only in (True, False):
            d.qmp('blockdev-reopen', options=[disk(path, **{'read-only': read_only})])
            assert contents(path) == before
        d.export('disk', **({'iothread': 'io0'} if iothread else {}))
        write(d, MIB, 65536)
        d.qmp('block-dirty-bitmap-remove', node='disk', name='away')
        d.close()
        d = start(t, path, iothread)
        got = bitmaps(d)
        assert {n: b['count'] for n, b in got.items()} == {'kept': 131072}, got
        d.close()
        img.ok('check', path)


@test('convert --bitmaps copies them, but inconsistent ones')
def _(t):
    need_qblk(WHY)
    img = ImgTool(t)
    path = t.path('disk.fvd')
    img.ok('create', '-f', 'fvd', path, str(SIZE))
    d = start(t, path)
    d.qmp('block-dirty-bitmap-add', node='disk', name='kept', persistent=True)
    write(d, 5 * MIB, 65536)
    d.qmp('block-dirty-bitmap-add', node='disk', name='off', persistent=True, disabled=True, granularity=4096)
    d.close()
    img.ok('convert', '--bitmaps', '-f', 'fvd', '-O', 'fvd', path, 'copy.fvd')
    img.ok('compare', '-f', 'fvd', '-F', 'fvd', path, 'copy.fvd')
    img.ok('convert', '-f', 'fvd', '-O', 'fvd', path, 'without.fvd')
    for name, wanted in (('copy.fvd', {'kept', 'off'}), ('without.fvd', set())):
        d = start(t, t.path(name))
        got = bitmaps(d)
        assert set(got) == wanted, got
        if wanted:
            assert got['kept']['count'] == 65536 and got['kept']['recording'], got
            assert got['off']['count'] == 0 and got['off']['granularity'] == 4096 and not got['off']['recording'], got
        d.close()
    img.fails("Format driver 'raw' does not support bitmaps", 'convert', '--bitmaps', '-f', 'fvd', path, 'o')
    img.fails('different sizes', 'convert', '--bitmaps', '-f', 'fvd', '-O', 'fvd', '-o', 'size=16M', path, 'o')
    img.fails('Bitmap already exists', 'convert', '--bitmaps', '-n', '-f', 'fvd', '-O', 'fvd', path, 'copy.fvd')
    d = start(t, path)
    write(d, 0, 65536)
    d.kill()
    img.fails('Cannot copy inconsistent bitmap', 'convert', '--bitmaps', '-f', 'fvd', '-O', 'fvd', path, 'o')
    assert not os.path.exists(t.path('o'))
    r = img.ok('convert', '--bitmaps', '--skip-broken-bitmaps', '-f', 'fvd', '-O', 'fvd', path, 'o')
    assert "warning: Skipping inconsistent bitmap 'kept'" in r.err, r
    img.ok('compare', '-f', 'fvd', '-F', 'fvd', path, 'o')
    assert 'kept' not in img.ok('info', 'o').out


@test('a bitmap is persistent only where it can be kept')
def _(t):
    need_qblk(WHY)
    img = ImgTool(t)
    old = t.path('old.fvd')
    img.ok('create', '-f', 'fvd', '-o', 'version=v1', old, str(SIZE))
    d = t.daemon()
    d.add(driver='fvd', node_name='old', file={'driver': 'file', 'filename': old})
    d.file('raw', make_image(t.path('raw.img'), SIZE))
    refused(d, 'block-dirty-bitmap-add', 'Operation not supported', node='raw', name='b',
            persistent=True)
    refused(d, 'block-dirty-bitmap-add', "Can't make bitmap 'b' persistent in 'old'", 'version 2',
            node='old', name='b', persistent=True)
    d.qmp('block-dirty-bitmap-add', node='old', name='b', persistent=False)
    d.close()


if __name__ == '__main__':
    main()
