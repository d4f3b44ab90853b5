#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""info: what qemu-img prints, in words and as JSON, however the image is named."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import ImgTool  # noqa: E402
from qblk import MIB, is_qblk  # noqa: E402
from tap import main, test  # noqa: E402
from target import Target  # noqa: E402


def same(img, *args):
    """The same words, in any order of the members of JSON objects."""
    theirs = img.peer('info', *args)
    ours = img.run('info', *args)
    assert (ours.status, ours.err) == (theirs.status, theirs.err), (ours, theirs)
    if '--output=json' in args and ours.status == 0:
        assert json.loads(ours.out) == json.loads(theirs.out), (ours, theirs)
        assert sorted(x.rstrip(',') for x in ours.out.splitlines()) == \
            sorted(x.rstrip(',') for x in theirs.out.splitlines()), (ours, theirs)
    else:
        assert ours.out == theirs.out, (ours, theirs)
    return ours


@test('sizes, in words and as JSON')
def _(t):
    img = ImgTool(t)
    for size in (0, 512, 1536, 999 * 512, 1000 * 1024, MIB, MIB + 512, 3 * MIB // 2, 1 << 30, (1 << 40) + 512):
        t.image('a.raw', size, [(0, b'x')] if size else [])
        for more in ([], ['--output=json'], ['--output=human'], ['--backing-chain'],
                     ['--backing-chain', '--output=json'], ['-U']):
            same(img, '-f', 'raw', *more, 'a.raw')
    same(img, 'a.raw')


@test('an image by its options: key=value, JSON, with gaps')
def _(t):
    img = ImgTool(t)
    t.image('a.raw', 4 * MIB, [(MIB, b'x')])
    for more in ([], ['--output=json']):
        for options in ('driver=raw,file.driver=file,file.filename=a.raw', 'driver=raw,file.filename=a.raw',
                        'file.filename=a.raw', 'driver=file,filename=a.raw'):
            same(img, *more, '--image-opts', options)
        for options in ({'driver': 'raw', 'file': {'driver': 'file', 'filename': 'a.raw'}},
                        {'file': {'filename': 'a.raw'}}, {'driver': 'raw', 'file.filename': 'a.raw'}):
            same(img, *more, 'json:' + json.dumps(options))
        same(img, *more, 'file:a.raw')
    # The name of a window has its options, in some order.
    name = json.loads(img.ok('info', '--output=json', '--image-opts',
                             'driver=raw,offset=1M,size=2M,file.filename=a.raw').out)['filename']
    assert json.loads(name[len('json:'):]) == {'driver': 'raw', 'offset': MIB, 'size': 2 * MIB,
                                               'file': {'driver': 'file', 'filename': 'a.raw'}}, name
    r = img.ok('info', '--output=json', name)
    assert json.loads(r.out)['virtual-size'] == 2 * MIB and json.loads(r.out)['filename'] == name, r


@test('a disk that an NBD server has')
def _(t):
    img = ImgTool(t)
    t.image('a.raw', 4 * MIB)
    server = Target(t, t.path('a.raw'))
    for more in ([], ['--output=json']):
        same(img, *more, server.uri())
        same(img, *more, '--image-opts', f'driver=nbd,server.type=unix,server.path={server.path}')
    server.kill()
    img.fails(server.path, 'info', server.uri())


@test('what is wrong is said in the same words')
def _(t):
    img = ImgTool(t)
    t.image('a.raw', MIB)
    os.mkdir(t.path('dir'))
    for args in ([], ['a.raw', 'a.raw'], ['nosuch'], ['-f', 'nosuch', 'a.raw'], ['--output=xml', 'a.raw'],
                 ['--image-opts', '-f', 'raw', 'a.raw'], ['--image-opts', 'a.raw'], ['-o', 'x', 'a.raw'],
                 ['--bogus', 'a.raw'], ['--output'], [''], ['--image-opts', 'driver=nosuch']):
        same(img, *args)
    img.fails('bogus', 'info', '--image-opts', 'driver=raw,file.filename=a.raw,bogus=1')
    img.fails('Could not parse the JSON options', 'info', 'json:{"driver":"raw"')
    img.fails("'dir'", 'info', 'dir')


@test('a disk that a daemon writes can be described')
def _(t):
    img = ImgTool(t)
    t.image('a.raw', MIB)
    d = t.daemon()
    d.file('a', t.path('a.raw'))
    d.export('a')
    same(img, '-U', 'a.raw')
    same(img, '-U', '--output=json', 'a.raw')
    same(img, d.uri())
    if is_qblk():
        img.fails('Failed to get shared "write" lock', 'info', 'a.raw')


if __name__ == '__main__':
    main()
