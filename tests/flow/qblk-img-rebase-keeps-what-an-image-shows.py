#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""rebase: another backing file, and the same disk."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import ImgTool  # noqa: E402
from qblk import KIB, MIB  # noqa: E402
from tap import main, test  # noqa: E402


def scatter(t, name, size, pieces=8):
    """An image of random data, zeros and holes."""
    data = []
    for _ in range(pieces):
        offset = t.random.randrange(size)
        n = min(size - offset, t.random.choice([1, 511, 512, 4096, 70000, MIB]))
        data.append((offset, bytes(n) if t.random.random() < 0.3 else t.random.randbytes(n)))
    return t.image(name, size, data)


def random_size(t):
    return t.random.randrange(1, 60) * 32 * KIB


def overlay(t, img, name, base, base_format):
    """An FVD image on @base with some data of its own; returns what it shows."""
    if os.path.exists(t.path(name)):
        os.unlink(t.path(name))
    size = random_size(t)
    img.ok('create', '-q', '-f', 'fvd', '-b', base, '-F', base_format, name, size)
    scatter(t, 'own', min(size, random_size(t) // 2))
    img.ok('convert', '-n', '-f', 'raw', '-O', 'fvd', 'own', name)


def flat(t, img, name, to):
    img.ok('convert', '-f', 'fvd', '-O', 'raw', name, to)


def shows(t, img, name, want, backing):
    """It shows what the raw image @want has, is in order, and is based on @backing."""
    img.ok('compare', '-f', 'raw', '-F', 'fvd', want, name)
    img.ok('check', '-f', 'fvd', name)
    info = json.loads(img.ok('info', '--output=json', '-f', 'fvd', name).out)
    assert info.get('backing-filename') == backing, info


@test('onto another image, of any length')
def _(t):
    img = ImgTool(t)
    for i in range(8):
        scatter(t, 'base', random_size(t))
        overlay(t, img, 'top', 'base', 'raw')
        flat(t, img, 'top', 'want')
        scatter(t, 'other', random_size(t))
        img.ok('rebase', '-f', 'fvd', '-b', 'other', '-F', 'raw', 'top')
        os.unlink(t.path('base'))
        shows(t, img, 'top', 'want', 'other')


@test('onto the base of its backing file, which is not needed any more')
def _(t):
    img = ImgTool(t)
    for i in range(6):
        scatter(t, 'base', random_size(t))
        overlay(t, img, 'mid', 'base', 'raw')
        overlay(t, img, 'top', 'mid', 'fvd')
        flat(t, img, 'top', 'want')
        img.ok('rebase', '-f', 'fvd', '-b', 'base', '-F', 'raw', 'top')
        os.unlink(t.path('mid'))
        shows(t, img, 'top', 'want', 'base')


@test('onto nothing: everything is in the image')
def _(t):
    img = ImgTool(t)
    for i in range(4):
        scatter(t, 'base', random_size(t))
        overlay(t, img, 'mid', 'base', 'raw')
        overlay(t, img, 'top', 'mid', 'fvd')
        flat(t, img, 'top', 'want')
        img.ok('rebase', '-p', '-f', 'fvd', '-b', '', 'top')
        os.unlink(t.path('mid'))
        os.unlink(t.path('base'))
        shows(t, img, 'top', 'want', None)


@test('-u: only the name is changed')
def _(t):
    img = ImgTool(t)
    scatter(t, 'base', random_size(t))
    overlay(t, img, 'top', 'base', 'raw')
    flat(t, img, 'top', 'want')
    os.rename(t.path('base'), t.path('renamed'))
    size = os.stat(t.path('top')).st_blocks
    img.fails("Could not open", 'rebase', '-f', 'fvd', '-b', 'renamed', '-F', 'raw', 'top')
    img.ok('rebase', '-u', '-f', 'fvd', '-b', 'renamed', '-F', 'raw', 'top')
    shows(t, img, 'top', 'want', 'renamed')
    assert os.stat(t.path('top')).st_blocks <= size + 8
    img.ok('rebase', '-u', '-f', 'fvd', '-b', 'nosuch', '-F', 'raw', 'top')
    img.fails('nosuch', 'map', 'top')
    img.fails('its own backing file', 'rebase', '-u', '-f', 'fvd', '-b', 'top', '-F', 'fvd', 'top')
    img.ok('rebase', '-u', '-f', 'fvd', '-b', 'renamed', '-F', 'raw', 'top')
    img.fails('Could not open new backing file', 'rebase', '-f', 'fvd', '-b', 'gone', '-F', 'raw', 'top')
    img.fails('backing format must be specified', 'rebase', '-f', 'fvd', '-b', 'renamed', 'top')
    shows(t, img, 'top', 'want', 'renamed')


@test('a signal ends it, and the image has its old backing file')
def _(t):
    img = ImgTool(t)
    t.image('base', 48 * MIB, [(0, t.random.randbytes(48 * MIB))])
    img.ok('create', '-q', '-f', 'fvd', '-b', 'base', '-F', 'raw', 'top')
    status, out, err = img.interrupted('rebase', '-f', 'fvd', '-b', '', 'top',
                                       after=lambda p: os.stat(t.path('top')).st_blocks * 512 > 4 * MIB)
    if status == -signal.SIGINT:
        assert err == '', err
        shows(t, img, 'top', 'base', 'base')
    else:
        assert status == 0, (status, out, err)
        shows(t, img, 'top', 'base', None)


@test('what is said of bad arguments, and the exit status')
def _(t):
    img = ImgTool(t)
    t.image('x', MIB, [(0, t.random.randbytes(MIB))])
    t.image('h', MIB)
    for args in (['x'], [], ['-b', 'h'], ['-f', 'raw', '-b', 'h', '-F', 'raw', 'x'],
                 ['-u', '-f', 'raw', '-b', 'h', '-F', 'raw', 'x'], ['-f', 'raw', '-b', '', 'x'],
                 ['-b', 'h', '-F', 'foo', '-f', 'raw', 'x'], ['-t', 'foo', '-b', 'h', 'x'],
                 ['-T', 'foo', '-b', 'h', 'x'], ['-b', 'h', 'nosuch'], ['-Z', 'x'], ['x', 'x'],
                 ['--image-opts', '-f', 'raw', '-b', 'h', 'x']):
        img.as_peer('rebase', *args)
    img.fails('ompression', 'rebase', '-c', '-f', 'raw', '-b', 'h', '-F', 'raw', 'x')


if __name__ == '__main__':
    main()
