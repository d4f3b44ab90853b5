#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""amend and rebase -u of qcow2: the header says afterwards what qemu-img would have made it say."""
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import IMG, PEER, ImgTool, Result, need_peer  # noqa: E402
from qblk import DEADLINE, MIB  # noqa: E402
from tap import main, test  # noqa: E402


def make(t, options):
    need_peer()
    subprocess.run([PEER, 'create', '-q', '-f', 'qcow2', *(['-o', options] if options else []), 'start', '1M'],
                   cwd=t.dir, check=True, timeout=DEADLINE)


def info(t):
    found = json.loads(subprocess.run([PEER, 'info', '--output=json', 'image'], cwd=t.dir, check=True,
                                      capture_output=True, timeout=DEADLINE).stdout)
    assert subprocess.run([PEER, 'check', '-q', 'image'], cwd=t.dir, timeout=DEADLINE).returncode == 0
    return {k: v for k, v in found.items() if k not in ('actual-size', 'children')}


def same(t, *args):
    """Both do it to an image of its own that is as the first was."""
    after = []
    for program in (PEER, IMG):
        shutil.copyfile(t.path('start'), t.path('image'))
        r = Result(program, [*args, 'image'], t.dir, DEADLINE)
        assert r.status == 0, r
        after.append(info(t))
    assert after[0] == after[1], after


@test('amend: level, lazy refcounts, size; the backing file can be said again')
def _(t):
    t.image('base', MIB, [(0, b'x' * 65536)])
    make(t, 'compat=0.10')
    for o in ('compat=0.10', 'compat=v3', 'compat=1.1,lazy_refcounts=on', 'size=8M', 'refcount_bits=16'):
        same(t, 'amend', '-o', o)
    make(t, 'lazy_refcounts=on,refcount_bits=8,backing_file=base,backing_fmt=raw')
    for o in ('lazy_refcounts=off', 'refcount_bits=8,size=3M', 'compat=1.1', 'backing_file=base,backing_fmt=raw'):
        same(t, 'amend', '-o', o)


@test('amend: a data file needs not be raw any more')
def _(t):
    make(t, 'data_file=data,data_file_raw=on')
    same(t, 'amend', '-o', 'data_file_raw=off')


@test('rebase -u: another backing file, and none')
def _(t):
    for name in ('base', 'other'):
        t.image(name, MIB, [(0, b'x' * 65536)])
    make(t, 'backing_file=base,backing_fmt=raw')
    same(t, 'rebase', '-u', '-b', 'other', '-F', 'raw')
    same(t, 'rebase', '-u', '-b', '')
    same(t, 'rebase', '-b', '')


@test('amend: what cannot be is refused, and nothing has changed')
def _(t):
    make(t, '')
    before = open(t.path('start'), 'rb').read()
    for o, words in (('compat=0.42', 'Unknown compatibility level'), ('compat=0.10', 'cannot be made'),
                     ('refcount_bits=3', 'power of two'), ('refcount_bits=1', 'cannot be changed'),
                     ('data_file_raw=on', 'data-file-raw cannot be set'), ('cluster_size=4k', 'Invalid parameter'),
                     ('backing_file=x', 'Cannot amend the backing file'), ('backing_fmt=raw', 'Cannot amend the backing format'),
                     ('lazy_refcounts=maybe', 'lazy_refcounts'), ('lazy_refcounts=on,compat=0.42', 'Unknown')):
        ImgTool(t).fails(words, 'amend', '-o', o, 'start')
        assert open(t.path('start'), 'rb').read() == before, o


if __name__ == '__main__':
    main()
