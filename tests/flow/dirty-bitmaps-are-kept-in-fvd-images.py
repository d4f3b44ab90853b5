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


def start(t, path):
    d = t.daemon()
    d.add(driver='fvd', node_name='disk', file={'driver': 'file', 'filename': path},
          discard='unmap')
    d.export('disk')
    return d


def write(d, offset, size):
    if not have('qemu-io'):
        raise Skip('qemu-io is not installed')
    subprocess.run(['qemu-io', '-f', 'raw', '-c', f'write -P 7 {offset} {size}', '-c', 'flush',
                    d.uri()], check=True, stdout=subprocess.DEVNULL)


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
