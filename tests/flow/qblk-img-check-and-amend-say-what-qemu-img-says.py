#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""check and amend of formats that have neither: messages and exit status of qemu-img."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import ImgTool  # noqa: E402
from qblk import MIB  # noqa: E402
from tap import main, test  # noqa: E402


@test('check: raw images have no check, and bad arguments are refused')
def _(t):
    img = ImgTool(t)
    t.image('a.raw', MIB, [(0, b'x')])
    for args in (['a.raw'], ['-f', 'raw', 'a.raw'], ['--output=json', 'a.raw'], ['-q', 'a.raw'], ['-U', 'a.raw'],
                 ['-T', 'none', '-f', 'raw', 'a.raw'], ['-r', 'all', '-f', 'raw', 'a.raw'], ['-r', 'x', 'a.raw'],
                 ['-r', 'all', '-U', '-f', 'raw', 'a.raw'], ['nosuch'], ['-f', 'nosuch', 'a.raw'], [],
                 ['--output=xml', 'a.raw'], ['-T', 'nosuch', 'a.raw'], ['--image-opts', '-f', 'raw', 'a.raw'],
                 ['--image-opts', 'driver=raw,file.filename=a.raw'], ['-r'], ['-z', 'a.raw'], ['a.raw', 'b.raw']):
        img.as_peer('check', *args)


@test('amend: raw images have nothing to change, and bad arguments are refused')
def _(t):
    img = ImgTool(t)
    t.image('a.raw', MIB, [(0, b'x')])
    for args in (['a.raw'], ['-o', 'size=1M', '-f', 'raw', 'a.raw'], ['-o', 'bogus=1', '-f', 'raw', 'a.raw'],
                 ['-o', 'help', '-f', 'raw', 'a.raw'], ['-o', 'help'], ['-o', 'help', '-f', 'raw'],
                 ['-o', 'help', '-f', 'nosuch'], ['-o', ',', 'a.raw'], ['-o', 'x=y', 'nosuch'],
                 ['-o', 'x=y', '-f', 'raw', 'a.raw', 'b.raw'], ['-o', 'x=y'],
                 ['-o', 'x=y', '-t', 'nosuch', '-f', 'raw', 'a.raw'], ['-o', 'x=y', '--image-opts', '-f', 'raw', 'a'],
                 ['-o', 'x=y', '--image-opts', 'driver=raw,file.filename=a.raw'], ['--bogus', 'a.raw'], []):
        img.as_peer('amend', *args)


if __name__ == '__main__':
    main()
