#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""create: output, messages, exit status and image of qemu-img, for good and for bad arguments."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import ImgTool  # noqa: E402
from qblk import MIB  # noqa: E402
from tap import main, test  # noqa: E402

RAW = ['-f', 'raw']


def files(t):
    """What there is: names, lengths, much space or none."""
    found = {}
    for name in sorted(os.listdir(t.dir)):
        st = os.lstat(t.path(name))
        found[name] = (st.st_mode, st.st_size, st.st_blocks > 8)
    return found


def same(t, img, *args, words=True):
    theirs = img.peer('create', *args)
    want = files(t)
    t.fresh()
    ours = img.run('create', *args)
    have = files(t)
    t.fresh()
    assert (ours.status, ours.out) == (theirs.status, theirs.out), (ours, theirs)
    assert ours.err == theirs.err if words else bool(ours.err) == bool(theirs.err), (ours, theirs)
    assert have == want, (args, have, want)
    return ours


@test('sizes as people write them')
def _(t):
    img = ImgTool(t)
    for size in ('0', '1', '512', '513', '1b', '1k', '1K', '1.5k', '0x1000', '1M', '64M', '3G', '1T', '2.5T'):
        same(t, img, *RAW, 'a.raw', size)
    same(t, img, 'a.raw', '1M')
    same(t, img, 'a.raw', '-f', 'raw', '1M')
    same(t, img, '-q', *RAW, 'a.raw', '1M')
    same(t, img, *RAW, 'file:a.raw', '1M')
    same(t, img, *RAW, '--', 'a.raw', '1M')
    same(t, img, *RAW, 'with space, and comma', '1M')
    same(t, img, '-f', 'file', 'a.raw', '1M')


@test('options of raw images and of files')
def _(t):
    img = ImgTool(t)
    for options in ('size=2M', 'size=0', 'preallocation=off,size=1M', 'size=1M,preallocation=falloc',
                    'size=1M,preallocation=full', 'preallocation=off,preallocation=full,size=64k'):
        same(t, img, *RAW, '-o', options, 'a.raw')
    same(t, img, *RAW, '-o', 'preallocation=falloc', '-o', 'size=1M', 'a.raw')
    for args in (['-f', 'nosuch'], ['-f', 'null-co']):
        same(t, img, *args, '-o', 'help')
    for args in (['help'], ['?'], ['preallocation=off', '-o', 'help']):
        assert '\n  size=<size>            - Virtual disk size\n' in img.ok('create', *RAW, '-o', *args).out
    same(t, img, *RAW, '-o', 'help', 'a.raw')
    same(t, img, *RAW, '-o', 'nocow=off,preallocation=off', 'a.raw', '1M')
    img.ok('create', *RAW, '-o', 'extent_size_hint=1M', 'a.raw', '1M')
    for name in ('nocow', 'preallocation', 'size'):
        assert f'\n  {name}=<' in img.ok('create', *RAW, '-o', 'help', 'a.raw').out


@test('what is wrong is refused in the same words, and nothing is made')
def _(t):
    img = ImgTool(t)
    for args in ([], ['a.raw'], RAW + ['a.raw', '1M', 'extra'], RAW + ['a.raw', '1X'], RAW + ['a.raw', '--', '-1'],
                 RAW + ['a.raw', '9E'], RAW + ['a.raw', '16E'], RAW + ['a.raw', '1kb'], RAW + ['a.raw', ''],
                 ['-f', 'nosuch', 'a.raw', '1M'], ['-f', 'null-co', 'a.raw', '1M'],
                 RAW + ['-o', 'size=2M', 'a.raw', '1M'], RAW + ['-o', 'bogus=1', 'a.raw', '1M'],
                 RAW + ['-o', 'nocow=perhaps', 'a.raw', '1M'], RAW + ['-o', 'size=1x', 'a.raw'],
                 RAW + ['-o', 'size=-1', 'a.raw'], RAW + ['-o', '', 'a.raw', '1M'],
                 RAW + ['-o', ',size=1M', 'a.raw'], RAW + ['-o', 'size=1M,', 'a.raw'],
                 RAW + ['-o', 'backing_file=b', 'a.raw', '1M'], RAW + ['-b', 'b', 'a.raw', '1M'],
                 RAW + ['-b', 'b', '-F', 'raw', 'a.raw', '1M'], RAW + ['-F', 'raw', 'a.raw', '1M'],
                 RAW + ['-u', 'a.raw'], RAW + ['nodir/a.raw', '1M'], RAW + ['/', '1M'], RAW + ['', '1M'],
                 ['--bogus', 'a.raw', '1M'], ['-6', 'a.raw', '1M'], ['a.raw', '1M', '-f']):
        same(t, img, *args)
    for args in (RAW + ['-o', 'preallocation=nosuch', 'a.raw', '1M'],
                 RAW + ['nbd://localhost:1/x', '1M'], RAW + ['/dev/null', '1M']):
        same(t, img, *args, words=False)
    # Where the peer leaves an empty file, nothing is left: also of sizes that no file has.
    for args in (RAW + ['-o', 'preallocation=metadata', 'a.raw', '1M'], RAW + ['a.raw', '7E']):
        assert img.run('create', *args).status == 1
        assert not files(t), args


@test('an image that is there is emptied; one that somebody writes is not')
def _(t):
    img = ImgTool(t)
    for tool in (img.peer, img.run):
        t.image('a.raw', 2 * MIB, [(0, b'old')])
        assert tool('create', *RAW, 'a.raw', '1M').status == 0
        with open(t.path('a.raw'), 'rb') as f:
            assert f.read() == bytes(MIB)
    t.image('a.raw', 2 * MIB, [(0, b'old')])
    d = t.daemon()
    d.file('a', t.path('a.raw'))
    d.export('a')
    r = img.fails('lock', 'create', *RAW, 'a.raw', '1M')
    assert r.err == img.peer('create', *RAW, 'a.raw', '1M').err, r
    with open(t.path('a.raw'), 'rb') as f:
        assert f.read(3) == b'old'


@test('a signal ends it, and leaves no image that was not there before')
def _(t):
    img = ImgTool(t)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        status, _out, err = img.interrupted(
            'create', *RAW, '-o', 'preallocation=full', 'big.raw', '2G', number=number,
            after=lambda p: os.path.exists(t.path('big.raw')) and os.stat(t.path('big.raw')).st_blocks > 0)
        assert status == -number, (status, err)
        assert not err, err
        assert not files(t), files(t)


if __name__ == '__main__':
    main()
