#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""measure of qcow2: the numbers of qemu-img, for the options there are, and for what is copied."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import IMG, PEER, ImgTool, Result, need_peer  # noqa: E402
from qblk import DEADLINE, MIB  # noqa: E402
from tap import main, test  # noqa: E402

OPTIONS = ('', 'cluster_size=512', 'cluster_size=2M', 'refcount_bits=64', 'refcount_bits=1,cluster_size=1k',
           'extended_l2=on', 'extended_l2=on,cluster_size=128k', 'preallocation=metadata', 'preallocation=falloc',
           'preallocation=full', 'data_file=x', 'data_file=x,data_file_raw=on', 'compat=0.10', 'lazy_refcounts=on')


def same(t, *args):
    need_peer()
    results = [Result(p, ['measure', '--output=json', '-O', 'qcow2', *args], t.dir, DEADLINE) for p in (IMG, PEER)]
    assert all(r.status == 0 for r in results), results
    assert json.loads(results[0].out) == json.loads(results[1].out), results


@test('disks of every size: required and fully allocated')
def _(t):
    for options in OPTIONS:
        more = ['-o', options] if options else []
        for size in ('0', '1', '512', '64k', '1G', '100G'):
            same(t, '--size', size, *more)
    for size in ('1T', '64T', str(t.random.randrange(1 << 44)), str(t.random.randrange(1 << 34))):
        same(t, '--size', size)
    ImgTool(t).as_peer('measure', '-O', 'qcow2', '--size', '4E')
    ImgTool(t).as_peer('measure', '-O', 'qcow2', '--size', '64T', '-o', 'cluster_size=512')
    ImgTool(t).as_peer('measure', '-O', 'qcow2', '--size', '1G', '-o', 'cluster_size=3')


@test('what is copied: its data in clusters, holes not')
def _(t):
    t.image('a.raw', 64 * MIB, [(5 * 65536, b'x' * 200000), (40 * MIB, b'y' * 4096)])
    for options in OPTIONS:
        same(t, '-f', 'raw', *(['-o', options] if options else []), 'a.raw')
    same(t, '-f', 'raw', '-o', 'backing_file=a.raw,backing_fmt=raw', 'a.raw')


if __name__ == '__main__':
    main()
