#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rule H2: a backup is the source at one instant, whatever is written meanwhile.

The witness writes numbered sectors over NBD.  The finished backup must equal the source after exactly
the first k writes of every writer, all at one moment between the sending of the command and its reply.
The sizes, the clusters that are holes and the mix of writes, zeroes and discards follow from the seed.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import KIB, MIB  # noqa: E402
from tap import main, need_command, test  # noqa: E402
from witness import copy, fill  # noqa: E402

ROUNDS = int(os.environ.get('ROUNDS', '4'))


def disk(t, d, name, size):
    """A numbered disk as an export: (its path, the copy that says how it began)."""
    path = fill(t.path(name + '.img'), size, t.random.randrange(1 << 32), t.random.randrange(80))
    initial = copy(path, t.path(name + '.initial'))
    d.file(name, path)
    d.export(name, name)
    return path, initial


def odd_size(t):
    """A size that is no multiple of a cluster: the last one is partial."""
    return t.random.randrange(8 * MIB, 48 * MIB, 512)


def target(t, d, name, size, start=None):
    path = t.path(name + '.img')
    copy(start, path) if start else t.image(name + '.img', size)
    d.file(name, path)
    return path


def backup_while_writing(t, d, w, command, arguments, jobs):
    """Runs the command in the middle of the writing; the time it was sent and that of its reply."""
    w.wait(t.random.randrange(50, 800))
    d.qmp(command, arguments)
    window = d.qmp.sent_ns, d.qmp.replied_ns
    for job in jobs:
        d.qmp.job_ok(job)
    w.wait(20)
    return window


def one_full(t, writers, **witness):
    d = t.daemon()
    size = odd_size(t)
    path, initial = disk(t, d, 'src', size)
    dst = target(t, d, 'dst', size)
    w = t.witness(d.uri('src'), writers=writers, **witness)
    window = backup_while_writing(t, d, w, 'blockdev-backup',
                                  {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'full'},
                                  ['j'])
    w.stop()
    d.close()
    w.instant([dst], [initial], *window)
    w.final([path], [initial])


@test('a full backup is the source after the first k writes of one writer')
def _(t):
    for _ in range(ROUNDS):
        t.fresh()
        one_full(t, 1)


@test('a full backup is one common instant of several writers')
def _(t):
    for _ in range(ROUNDS):
        t.fresh()
        one_full(t, t.random.randrange(2, 17))


@test('a full backup is one instant of writers that fight for the same clusters')
def _(t):
    for _ in range(ROUNDS):
        t.fresh()
        one_full(t, 8, area=(t.random.randrange(MIB) // 512 * 512, 512 * KIB), bytes_max=16 * KIB)


@test('a full backup is one instant when most of the writing is zeroes and discards')
def _(t):
    for _ in range(ROUNDS):
        t.fresh()
        one_full(t, 4, zero=35, discard=35)


@test('drive-backup makes its target, and it is one instant')
def _(t):
    for _ in range(ROUNDS):
        t.fresh()
        d = t.daemon()
        need_command(d, 'drive-backup')
        size = odd_size(t)
        path, initial = disk(t, d, 'src', size)
        dst = t.path('made.img')
        w = t.witness(d.uri('src'), writers=3)
        window = backup_while_writing(
            t, d, w, 'drive-backup',
            {'job-id': 'j', 'device': 'src', 'target': dst, 'sync': 'full', 'format': 'raw'}, ['j'])
        w.stop()
        d.close()
        w.instant([dst], [initial], *window)
        w.final([path], [initial])


@test('an incremental backup on a copy of the last one is one instant')
def _(t):
    for _ in range(ROUNDS):
        t.fresh()
        d = t.daemon()
        size = odd_size(t)
        path, initial = disk(t, d, 'src', size)
        full = target(t, d, 'full', size)
        w = t.witness(d.uri('src'), writers=3, bytes_max=64 * KIB, area=(MIB, 4 * MIB))
        window = backup_while_writing(t, d, w, 'transaction', {'actions': [
            {'type': 'block-dirty-bitmap-add', 'data': {'node': 'src', 'name': 'b'}},
            {'type': 'blockdev-backup', 'data': {'job-id': 'j', 'device': 'src', 'target': 'full',
                                                 'sync': 'full'}}]}, ['j'])
        last = full
        windows = [(full, window)]
        for i in range(2):
            d.qmp.job_gone('j')
            name = f'inc{i}'
            inc = target(t, d, name, size, start=last)
            window = backup_while_writing(t, d, w, 'blockdev-backup', {
                'job-id': 'j', 'device': 'src', 'target': name, 'sync': 'incremental',
                'bitmap': 'b'}, ['j'])
            windows.append((inc, window))
            last = inc
        w.stop()
        d.close()
        for image, window in windows:
            w.instant([image], [initial], *window)
        w.final([path], [initial])


@test('two disks in one transaction are backed up at one instant for both')
def _(t):
    for _ in range(ROUNDS):
        t.fresh()
        d = t.daemon()
        sizes = odd_size(t), odd_size(t)
        paths, initials, targets = [], [], []
        for i, size in enumerate(sizes):
            path, initial = disk(t, d, f'src{i}', size)
            paths.append(path)
            initials.append(initial)
            targets.append(target(t, d, f'dst{i}', size))
        w = t.witness(d.uri('src0'), d.uri('src1'), writers=t.random.randrange(1, 5),
                      alternate=True)
        window = backup_while_writing(t, d, w, 'transaction', {'actions': [
            {'type': 'blockdev-backup', 'data': {
                'job-id': f'j{i}', 'device': f'src{i}', 'target': f'dst{i}', 'sync': 'full'}}
            for i in range(2)], 'properties': {'completion-mode': 'grouped'}}, ['j0', 'j1'])
        w.stop()
        d.close()
        w.instant(targets, initials, *window)
        w.final(paths, initials)


@test('a backup that is paused, slowed and resumed is still one instant')
def _(t):
    d = t.daemon()
    size = 32 * MIB
    path, initial = disk(t, d, 'src', size)
    dst = target(t, d, 'dst', size)
    w = t.witness(d.uri('src'), writers=4)
    w.wait(100)
    d.qmp('blockdev-backup', job_id='j', device='src', target='dst', sync='full', speed=MIB)
    window = d.qmp.sent_ns, d.qmp.replied_ns
    w.wait(50)
    d.qmp('block-job-pause', device='j')
    w.wait(50)
    d.qmp('block-job-set-speed', device='j', speed=4 * MIB)
    d.qmp('block-job-resume', device='j')
    w.wait(50)
    d.qmp('block-job-set-speed', device='j', speed=0)
    d.qmp.job_ok('j')
    w.stop()
    d.close()
    w.instant([dst], [initial], *window)
    w.final([path], [initial])


if __name__ == '__main__':
    main()
