#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""resize and bench: output, messages and exit status of qemu-img, for good and for bad arguments."""
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import ImgTool  # noqa: E402
from qblk import KIB, MIB  # noqa: E402
from tap import main, test  # noqa: E402


def resized(t, img, *args):
    """The same words to both, each with an image of its own; the length is the same afterwards."""
    size = 3 * MIB + 512
    t.image('a.raw', size, [(0, b'first'), (2 * MIB, b'late')])
    theirs = img.peer('resize', *args)
    want = (os.stat(t.path('a.raw')).st_size, os.stat(t.path('a.raw')).st_blocks)
    t.image('a.raw', size, [(0, b'first'), (2 * MIB, b'late')])
    ours = img.run('resize', *args)
    have = (os.stat(t.path('a.raw')).st_size, os.stat(t.path('a.raw')).st_blocks)
    assert (ours.status, ours.out, ours.err) == (theirs.status, theirs.out, theirs.err), (ours, theirs)
    assert have == want, (args, have, want)


@test('resize: larger and smaller, absolute and relative, sizes as people write them')
def _(t):
    img = ImgTool(t)
    for size in ('4M', '+1M', '+0', '3146240', '+512', '3.5M', '0x400000', '4096k', '1G', '+1.5k', '++1M'):
        resized(t, img, '-f', 'raw', 'a.raw', size)
    for size in ('1M', '-1M', '-512', '512', '-2M'):
        resized(t, img, '-f', 'raw', '--shrink', 'a.raw', size)
        resized(t, img, '-f', 'raw', 'a.raw', size)
    resized(t, img, '-q', '-f', 'raw', 'a.raw', '4M')
    for mode in ('off', 'falloc', 'full'):
        resized(t, img, '-f', 'raw', '--preallocation', mode, 'a.raw', '+1M')


@test('resize: what is wrong is refused in the same words, and the image stays as it is')
def _(t):
    img = ImgTool(t)
    for args in ([], ['a.raw'], ['4M'], ['-f', 'raw', 'a.raw', 'x'], ['-f', 'raw', 'a.raw', '20E'],
                 ['-f', 'raw', 'a.raw', ''], ['-f', 'raw', 'a.raw', '+'], ['-f', 'raw', 'a.raw', '+-1M'],
                 ['-f', 'raw', 'a.raw', '0'], ['-f', 'raw', 'a.raw', '-1G'], ['-f', 'raw', 'a.raw', '8E'],
                 ['-f', 'raw', 'a.raw', '+8E'], ['-f', 'raw', 'a.raw', 'b', '4M'],
                 ['-f', 'raw', '--preallocation=nosuch', 'a.raw', '4M'],
                 ['-f', 'raw', '--preallocation=full', '--shrink', 'a.raw', '1M'],
                 ['-f', 'raw', 'nosuch.raw', '4M'], ['-f', 'nosuch', 'a.raw', '4M'],
                 ['--image-opts', '-f', 'raw', 'a.raw', '4M'], ['-f', 'raw', 'a.raw', '-s', '4M'],
                 ['--bogus', 'a.raw', '4M'], ['-f', 'raw', 'a.raw', '--', '-9M']):
        resized(t, img, *args)


def bench(img, *args):
    """The same but for the time."""
    results = img.peer('bench', *args), img.run('bench', *args)
    theirs, ours = ((r.status, re.sub(r'[0-9.]+ seconds', 'T seconds', r.out), r.err) for r in results)
    assert ours == theirs, (args, ours, theirs)


@test('bench: good and bad arguments')
def _(t):
    img = ImgTool(t)
    t.image('a.raw', MIB)
    t.image('empty.raw', 0)
    raw = ['-f', 'raw', 'a.raw']
    for args in ([], ['-w'], ['-w', '--pattern', '3', '-d', '4', '-s', '8192', '-S', '4096', '-o', '64k'],
                 ['-w', '--flush-interval', '2'], ['-w', '--flush-interval', '4', '-d', '2'],
                 ['-w', '--flush-interval', '4', '-d', '2', '--no-drain'], ['--flush-interval', '4', '-d', '2'],
                 ['--no-drain'], ['-c', '0'], ['-c', 'x'], ['-c', '-1'], ['-c', '4294967296'], ['-s', '0'],
                 ['-s', '4G'], ['-s', '1000'], ['-s', '4M'], ['-S', '5G'], ['-S', '0'], ['-o', '5G'],
                 ['-o', '1M'], ['-o', 'x'], ['-i', 'x'], ['-i', 'threads'], ['-t', 'x'], ['-t', 'none'],
                 ['-t', 'unsafe', '-w'], ['-t', 'directsync', '-w'], ['-t', 'writethrough', '-w'],
                 ['-w', '--pattern', '256'], ['-w', '--flush-interval', '-1'], ['-q'], ['-U'], ['-d', 'x'],
                 ['b', 'c'], ['-z'], ['--image-opts']):
        bench(img, '-c', '10', *args, *raw)
    bench(img)
    bench(img, '-c', '10', '-f', 'raw', 'nosuch.raw')
    bench(img, '-c', '10', '-f', 'raw', 'empty.raw')


@test('bench: writes the byte where it was told to, and nothing else')
def _(t):
    img = ImgTool(t)
    t.image('a.raw', MIB, [(0, b'\xff' * MIB)])
    img.ok('bench', '-f', 'raw', '-w', '--pattern', '0x5a', '-c', '5', '-d', '2', '-s', '4096', '-S', '8k',
           '-o', '64k', '--flush-interval', '2', 'a.raw')
    with open(t.path('a.raw'), 'rb') as f:
        content = f.read()
    want = bytearray(b'\xff' * MIB)
    for i in range(5):
        want[64 * KIB + i * 8192:64 * KIB + i * 8192 + 4096] = b'\x5a' * 4096
    assert content == want


@test('bench: a signal ends it, and it says how it ended')
def _(t):
    img = ImgTool(t)
    t.image('a.raw', MIB)
    for number in (signal.SIGINT, signal.SIGTERM):
        status, out, err = img.interrupted('bench', '-c', '2000000000', '-d', '1', '-f', 'raw', 'a.raw',
                                           after=lambda p: p.stdout.readline(), number=number)
        assert status == -number, (status, out, err)
        assert not err, err


if __name__ == '__main__':
    main()
