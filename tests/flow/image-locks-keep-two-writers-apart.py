#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rule H3: neither this daemon nor another program writes what the other one writes.

The peer shares the writing of a raw disk with everybody once it is exported; qblk does not.
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import DEADLINE, MIB, have, run_daemon  # noqa: E402
from tap import Skip, main, need_qblk, test  # noqa: E402

PEER = 'qemu-storage-daemon'


def image(t):
    return t.image('disk.img', MIB, [(0, b'\0' * 512)])


def file_node(path, read_only='off', locking='on'):
    """A raw disk on a file: the format keeps other writers off the file below it."""
    return (f'driver=raw,node-name=a,read-only={read_only},file.driver=file,'
            f'file.locking={locking},file.filename={path}')


def refused(status, out, err):
    assert status == 1, (status, out, err)
    assert 'lock' in err, err


def writer(t, path, program=None, **more):
    """A daemon that has the image open for writing (an export wants to write)."""
    d = t.daemon('--blockdev', file_node(path, **more), program=program)
    d.export('a')
    return d


def open_for_writing(path, program=None):
    return run_daemon('--blockdev', file_node(path), '--nbd-server',
                      f'addr.type=unix,addr.path={path}.sock', '--export',
                      'type=nbd,id=e,node-name=a,name=x,writable=on', program=program)


def keeps_apart():
    need_qblk('keeps other writers off an exported raw disk')


def need_peer():
    if not have(PEER):
        raise Skip(f'{PEER} is not installed')


@test('two daemons do not write one image')
def _(t):
    keeps_apart()
    path = image(t)
    writer(t, path)
    refused(*open_for_writing(path))


@test('the lock goes with the daemon, even after kill -9')
def _(t):
    path = image(t)
    writer(t, path).kill()
    d = t.daemon('--blockdev', file_node(path))
    d.export('a')


@test('qemu-io does not write what this daemon writes')
def _(t):
    if not have('qemu-io'):
        raise Skip('qemu-io is not installed')
    keeps_apart()
    path = image(t)
    writer(t, path)
    p = subprocess.run(['qemu-io', '-f', 'raw', '-c', 'write 0 512', path], capture_output=True,
                       text=True, timeout=DEADLINE)
    assert p.returncode and 'lock' in p.stderr, p


@test('this daemon does not write what qemu-storage-daemon writes, nor the other way round')
def _(t):
    keeps_apart()
    need_peer()
    path = image(t)
    d = writer(t, path, program=PEER)
    refused(*open_for_writing(path))
    d.close()
    d = writer(t, path)
    refused(*open_for_writing(path, program=PEER))


@test('two readers share an image, and a writer waits outside')
def _(t):
    keeps_apart()
    path = image(t)
    for _ in range(2):
        d = t.daemon('--blockdev', file_node(path, read_only='on'))
        d.export('a', writable=False)
    refused(*open_for_writing(path))


@test('locking=off takes no lock')
def _(t):
    path = image(t)
    writer(t, path, locking='off')
    d = t.daemon('--blockdev', file_node(path))
    d.export('a')


@test('the target of a backup is locked while the job runs')
def _(t):
    keeps_apart()
    path = image(t)
    d = t.daemon()
    d.file('src', t.image('src.img', MIB))
    d.file('dst', path)
    d.qmp('blockdev-backup', job_id='j', device='src', target='dst', sync='none')
    refused(*open_for_writing(path))


if __name__ == '__main__':
    main()
