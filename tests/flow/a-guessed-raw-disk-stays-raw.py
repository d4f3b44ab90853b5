#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk whose format was guessed to be raw cannot be made to look like another format by its user.

Else the next guess would open what he wrote there as an image, with a backing file of his choice.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import ImgTool  # noqa: E402
from qblk import MIB  # noqa: E402
from rawnbd import CMD_READ, CMD_WRITE, RawNbd  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402

EPERM = 1


def magic(t, img):
    """The first bytes of an image of another format."""
    img.ok('create', '-f', 'fvd', 'other', '1M')
    with open(t.path('other'), 'rb') as f:
        return f.read(4096)


def disk(t, **more):
    t.image('disk', MIB)
    options = ''.join(f',{k}={v}' for k, v in more.items())
    return t.daemon('--drive', f'id=d,file={t.path("disk")},node-name=n{options}')


def write(nbd, offset, data):
    nbd.request(CMD_WRITE, offset, len(data), data)
    return nbd.reply()[0]


@test('what would be taken for an image is refused, in one write or in several; all else is written')
def _(t):
    need_qblk('has FVD')
    img = ImgTool(t)
    head = magic(t, img)
    d = disk(t)
    d.export('n')
    with RawNbd(d.nbd_path, 'disk') as nbd:
        assert write(nbd, 0, head) == EPERM
        # The last piece that would complete it is the one that is refused.
        results = [write(nbd, i, head[i:i + 1]) for i in range(512)]
        assert EPERM in results and set(results) <= {0, EPERM}, results
        assert write(nbd, 4096, head) == 0
        assert write(nbd, 0, b'x' * 8192) == 0
        nbd.request(CMD_READ, 0, 8192)
        assert nbd.reply(8192) == (0, b'x' * 8192)
    with RawNbd(d.nbd_path, 'disk') as nbd:
        assert write(nbd, 0, bytes(4096)) == 0
    assert 'file format: raw' in img.ok('info', '-U', 'disk').out


@test('who says that it is raw may write what he wants')
def _(t):
    need_qblk('has FVD')
    img = ImgTool(t)
    head = magic(t, img)
    d = disk(t, format='raw')
    d.export('n')
    with RawNbd(d.nbd_path, 'disk') as nbd:
        assert write(nbd, 0, head) == 0


@test('tools warn of a guess where they write')
def _(t):
    img = ImgTool(t)
    for command in (['resize', 'disk', '+1M'], ['bench', '-w', '-c', '1', '-q', 'disk'],
                    ['amend', '-o', 'x=y', 'disk'], ['check', '-r', 'all', 'disk']):
        t.image('disk', MIB)
        theirs = img.peer(*command)
        t.image('disk', MIB)
        ours = img.run(*command)
        assert (ours.status, ours.err) == (theirs.status, theirs.err), (ours, theirs)
        assert 'probing guessed raw' in ours.err, ours


if __name__ == '__main__':
    main()
