#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The witness itself: it must refuse what is not one instant, or its praise is worth nothing."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import MIB  # noqa: E402
from tap import main, test  # noqa: E402
from witness import Mix, copy, fill  # noqa: E402


def refused(check, *args):
    try:
        answer = check(*args)
    except Mix as e:
        return str(e)
    raise AssertionError(f'the witness has accepted it: {answer}')


def writing(t, disks=1, **options):
    d = t.daemon()
    paths, initials = [], []
    for i in range(disks):
        path = fill(t.path(f'src{i}.img'), 16 * MIB, 1)
        paths.append(path)
        initials.append(copy(path, path + '.initial'))
        d.file(f'src{i}', path)
        d.export(f'src{i}', f'src{i}')
    w = t.witness(*[d.uri(f'src{i}') for i in range(disks)], **options)
    return d, w, paths, initials


def copy_slowly(w, path, to, piece=2 * MIB):
    """Copies a disk while it is written: no instant."""
    before = time.monotonic_ns()
    with open(path, 'rb') as source, open(to, 'wb') as out:
        while data := source.read(piece):
            out.write(data)
            w.wait(100)
    return before, time.monotonic_ns()


@test('a copy that was read while writers wrote is refused')
def _(t):
    _, w, paths, initials = writing(t, zero=0, discard=0)
    w.wait(50)
    window = copy_slowly(w, paths[0], t.path('copy'))
    w.stop()
    assert 'mix' in refused(w.instant, [t.path('copy')], initials, *window)


@test('a whole copy of the wrong time is refused')
def _(t):
    d, w, _, initials = writing(t, zero=0, discard=0)
    w.wait(50)
    t.image('dst.img', 16 * MIB)
    d.file('dst', t.path('dst.img'))
    d.qmp('blockdev-backup', job_id='j', device='src0', target='dst', sync='full')
    sent, replied = d.qmp.sent_ns, d.qmp.replied_ns
    d.qmp.job_ok('j')
    w.wait(50)
    later = time.monotonic_ns()
    w.wait(50)
    w.stop()
    w.instant([t.path('dst.img')], initials, sent, replied)
    assert 'no common instant' in refused(w.instant, [t.path('dst.img')], initials, later,
                                          later + 1000)


@test('two disks of two instants are refused')
def _(t):
    d, w, _, initials = writing(t, disks=2, zero=0, discard=0, alternate=True)
    targets = []
    windows = []
    for i in range(2):
        w.wait(50)
        targets.append(t.image(f'dst{i}.img', 16 * MIB))
        d.file(f'dst{i}', targets[i])
        d.qmp('blockdev-backup', job_id='j', device=f'src{i}', target=f'dst{i}', sync='full')
        windows.append((d.qmp.sent_ns, d.qmp.replied_ns))
        d.qmp.job_ok('j')
        d.qmp.job_gone('j')
    w.wait(50)
    w.stop()
    refused(w.instant, targets, initials, windows[0][0], windows[1][1])


@test('a torn sector, and one that nobody wrote, are refused')
def _(t):
    d, w, paths, initials = writing(t, area=(MIB, MIB), zero=0, discard=0)
    w.wait(300)
    w.stop()
    d.close()
    w.final(paths, initials)
    for offset in (MIB + 100, 5 * MIB):
        copy(paths[0], t.path('torn'))
        with open(t.path('torn'), 'r+b') as f:
            f.seek(offset)
            f.write(b'torn')
        refused(w.final, [t.path('torn')], initials)
        refused(w.instant, [t.path('torn')], initials, 0, 1 << 63)


@test('a lost write that was acknowledged is refused')
def _(t):
    d, w, paths, initials = writing(t, area=(MIB, MIB), zero=0, discard=0)
    w.wait(100)
    w.stop()
    d.close()
    w.final(paths, initials)
    with open(paths[0], 'r+b') as f, open(initials[0], 'rb') as old:
        f.seek(MIB)
        old.seek(MIB)
        f.write(old.read(MIB))
    refused(w.final, paths, initials)


if __name__ == '__main__':
    main()
