#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Backups whose nodes live in iothreads, and transactions of them that do not come to be."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import MIB, same  # noqa: E402
from tap import main, test  # noqa: E402
from witness import fill  # noqa: E402

SIZE = 8 * MIB


def disks(t, count, threads=0):
    """Sources srcN with targets dstN; srcN is exported from iothread N % threads."""
    d = t.daemon()
    for i in range(threads):
        d.qmp('object-add', {'qom-type': 'iothread', 'id': f'io{i}'})
    for i in range(count):
        d.file(f'src{i}', fill(t.path(f'src{i}.img'), SIZE, i))
        d.file(f'dst{i}', t.image(f'dst{i}.img', SIZE))
        d.export(f'src{i}', f'disk{i}', **({'iothread': f'io{i % threads}'} if threads else {}))
    return d


def action(i, **more):
    return {'type': 'blockdev-backup', 'data': {
        'job-id': f'j{i}', 'device': f'src{i}', 'target': f'dst{i}', 'sync': 'full', **more}}


def grouped(*actions):
    return {'actions': list(actions), 'properties': {'completion-mode': 'grouped'}}


@test('a transaction that is aborted leaves no job, alone or grouped, in an iothread or not')
def _(t):
    for threads in (0, 2):
        for properties in ({}, {'completion-mode': 'grouped'}):
            t.fresh()
            d = disks(t, 3, threads)
            d.qmp('block-dirty-bitmap-add', node='src0', name='b')
            error = d.qmp.error('transaction', {'properties': properties, 'actions': [
                action(0, sync='bitmap', bitmap='b', **{'bitmap-mode': 'always'}), action(1),
                action(2), {'type': 'abort', 'data': {}}]})
            assert error.desc == 'Transaction aborted using Abort action', error.desc
            assert d.qmp('query-jobs') == []
            d.qmp('transaction', {'properties': properties,
                                  'actions': [action(i) for i in range(3)]})
            for i in range(3):
                d.qmp.job_ok(f'j{i}')
            d.close()
            for i in range(3):
                assert same(t.path(f'src{i}.img'), t.path(f'dst{i}.img'))


@test('a backup onto a node that writes through to its source is refused, and so is the reverse')
def _(t):
    d = disks(t, 1)
    d.qmp('object-add', {'qom-type': 'throttle-group', 'id': 'g'})
    d.add(driver='throttle', node_name='over', throttle_group='g', file='src0')
    d.add(driver='throttle', node_name='overover', throttle_group='g', file='over')
    for source, target in (('src0', 'over'), ('over', 'src0'), ('src0', 'overover'),
                           ('over', 'overover')):
        for sync in 'full', 'none':
            error = d.qmp.error('blockdev-backup', {'job-id': 'j', 'device': source,
                                                    'target': target, 'sync': sync})
            assert 'same' in error.desc, error.desc
    assert d.qmp('query-jobs') == []


if __name__ == '__main__':
    main()
