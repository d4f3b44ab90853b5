#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""rebase: another backing file, and the same disk."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import ImgTool  # noqa: E402
from qblk import MIB  # noqa: E402
from tap import main, test  # noqa: E402


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
