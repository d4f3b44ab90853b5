#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Backups whose nodes live in iothreads, and transactions of them that do not come to be."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import MIB, same  # noqa: E402
from tap import main, test  # noqa: E402
from witness import copy, fill  # noqa: E402

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


@test('nobody writes past the source of a backup to the nodes below it')
def _(t):
    d = disks(t, 1)
    d.qmp('object-add', {'qom-type': 'throttle-group', 'id': 'g'})
    d.add(driver='throttle', node_name='over', throttle_group='g', file='src0')
    backup = action(0, device='over', speed=65536)['data']
    error = d.qmp.error('blockdev-backup', backup)  # disks() exports src0 to writers
    assert "'src0'" in error.desc and "'over'" in error.desc and 'write' in error.desc, error.desc
    assert d.qmp('query-jobs') == []
    d.qmp('block-export-del', id='export-disk0')
    d.qmp.event('BLOCK_EXPORT_DELETED')
    d.qmp('blockdev-backup', backup)
    for node in 'src0', 'src0-file':
        export = {'type': 'nbd', 'id': 'e', 'node-name': node, 'name': node}
        error = d.qmp.error('block-export-add', dict(export, writable=True))
        assert f"'{node}'" in error.desc and 'write' in error.desc, error.desc
        d.qmp('block-export-add', export)  # to read is fine
        d.qmp('block-export-del', id='e')
        d.qmp.event('BLOCK_EXPORT_DELETED')
    d.export('over', 'guest')
    d.qmp('job-cancel', id='j0')
    d.qmp.job_gone('j0')
    d.qmp('block-export-del', id='export-guest')
    d.qmp.event('BLOCK_EXPORT_DELETED')
    d.export('src0', 'again')


@test('the part of a file that a raw node shows does not change under a backup of it')
def _(t):
    d = disks(t, 1)
    d.add(driver='file', node_name='f', filename=fill(t.path('f.img'), 2 * SIZE, 9))
    part = {'driver': 'raw', 'node-name': 'part', 'file': 'f', 'offset': 0, 'size': SIZE}
    d.qmp('blockdev-add', part)
    d.qmp('object-add', {'qom-type': 'throttle-group', 'id': 'g'})
    d.add(driver='throttle', node_name='over', throttle_group='g', file='part')
    for source in 'part', 'over':
        d.qmp('blockdev-reopen', options=[part])
        d.qmp('blockdev-backup', action(0, device=source, speed=65536)['data'])
        for change in {'offset': 65536}, {'size': SIZE // 2}:
            error = d.qmp.error('blockdev-reopen', options=[dict(part, **change)])
            assert "'part'" in error.desc and 'resize' in error.desc, error.desc
        d.qmp('blockdev-reopen', options=[part])  # nothing changes
        d.qmp('block-job-set-speed', device='j0', speed=0)
        d.qmp.job_ok('j0')
        d.qmp.job_gone('j0')
        d.qmp('blockdev-reopen', options=[dict(part, offset=65536)])


def dirty(d, node, name):
    for n in d.qmp('query-named-block-nodes'):
        if n['node-name'] == node:
            return [b for b in n['dirty-bitmaps'] if b['name'] == name][0]
    raise AssertionError('no node ' + node)


def instants(t, d, command, arguments, jobs, play=None):
    """Two disks, one writer in turn on both, and what @command copies of them."""
    initials = [copy(t.path(f'src{i}.img'), t.path(f'initial{i}')) for i in range(2)]
    w = t.witness(d.uri('disk0'), d.uri('disk1'), writers=3, alternate=True)
    w.wait(100)
    d.qmp(command, arguments)
    window = d.qmp.sent_ns, d.qmp.replied_ns
    w.wait(50)
    if play:
        play(w)
    for job in jobs:
        d.qmp.job_ok(job)
    w.stop()
    d.close()
    w.instant([t.path(f'dst{i}.img') for i in range(2)], initials, *window)
    w.final([t.path(f'src{i}.img') for i in range(2)], initials)


@test('disks in different iothreads are backed up at one instant by one transaction')
def _(t):
    for threads in (1, 2):
        for _ in range(2):
            t.fresh()
            d = disks(t, 2, threads)
            instants(t, d, 'transaction', grouped(action(0), action(1)), ['j0', 'j1'])


@test('a backup in an iothread is paused, slowed, asked, drained by others, and still one instant')
def _(t):
    d = disks(t, 2, 2)

    def play(w):
        for i in range(2):
            d.qmp('block-job-set-speed', device=f'j{i}', speed=4 * MIB)
            d.qmp('job-pause', id=f'j{i}')
        w.wait(50)
        for i in range(2):
            # an export of the source, a bitmap, a node on the target: each quiesces what the job uses
            d.qmp('block-export-add', type='nbd', id=f'again{i}', node_name=f'src{i}', name=f'again{i}')
            d.qmp('block-dirty-bitmap-add', node=f'src{i}', name='b')
            d.qmp('job-resume', id=f'j{i}')
            d.qmp('block-export-del', id=f'again{i}')
            d.qmp('block-dirty-bitmap-remove', node=f'src{i}', name='b')
            assert d.qmp('query-jobs') and d.qmp('query-block-jobs')
        w.wait(50)
        for i in range(2):
            d.qmp('block-job-set-speed', device=f'j{i}', speed=0)

    instants(t, d, 'transaction',
             {'actions': [action(0, speed=MIB), action(1, speed=MIB)]}, ['j0', 'j1'], play)


@test('a grouped backup that fails with another forgets nothing of its bitmap')
def _(t):
    import nbd
    # what is dirty after it: of four clusters dirty before, and one written since
    for threads in (0, 2):
        for mode, left in (('on-success', 5), ('never', 5), ('always', 1)):
            t.fresh()
            d = disks(t, 2, threads)
            d.qmp('block-dirty-bitmap-add', node='src0', name='b')
            h = nbd.NBD()
            h.connect_uri(d.uri('disk0'))
            h.pwrite(b'n' * 262144, 0)
            d.add(driver='blkdebug', node_name='bad',
                  inject_error=[{'event': 'none', 'iotype': 'flush'}], image='dst1')
            d.qmp('transaction', grouped(
                action(0, sync='bitmap', bitmap='b', **{'bitmap-mode': mode,
                                                        'auto-finalize': False}),
                action(1, target='bad', speed=1)))
            h.pwrite(b'm' * 512, 4 * MIB)
            while [j['status'] for j in d.qmp('query-jobs') if j['id'] == 'j0'] != ['waiting']:
                pass    # all that it wants is copied
            d.qmp('block-job-set-speed', device='j1', speed=0)
            assert d.qmp.job_end('j1')['data'].get('error')
            assert d.qmp.job_end('j0')['event'] == 'BLOCK_JOB_CANCELLED'
            for i in range(2):
                d.qmp.job_gone(f'j{i}')
            bitmap = dirty(d, 'src0', 'b')
            assert bitmap['count'] == left * 65536, (threads, mode, bitmap)
            assert bitmap['recording'] and not bitmap['busy'], bitmap
            h.shutdown()
            d.qmp('blockdev-backup', action(0, sync='bitmap', bitmap='b',
                                            **{'bitmap-mode': 'on-success'})['data'])
            d.qmp.job_ok('j0')


@test('one word finalizes all of a group, and a cancel before it none')
def _(t):
    d = disks(t, 2, 2)
    for word in 'job-finalize', 'job-cancel':
        d.qmp('transaction', grouped(action(0, **{'auto-finalize': False}),
                                     action(1, **{'auto-dismiss': False})))
        d.qmp.event('BLOCK_JOB_PENDING', where={'id': 'j0'})
        d.qmp.event('JOB_STATUS_CHANGE', where={'id': 'j0', 'status': 'pending'})
        assert sorted(j['status'] for j in d.qmp('query-jobs')) == ['pending', 'pending']
        d.qmp(word, id='j0')
        for i in range(2):
            name = d.qmp.job_end(f'j{i}')['event']
            assert name == ('BLOCK_JOB_COMPLETED' if word == 'job-finalize'
                            else 'BLOCK_JOB_CANCELLED'), name
        d.qmp.job_gone('j0')
        d.qmp.event('JOB_STATUS_CHANGE', where={'id': 'j1', 'status': 'concluded'})
        d.qmp('job-dismiss', id='j1')
        d.qmp.job_gone('j1')
        d.qmp.events.clear()


@test('in an iothread a full target stops the job, and resumed with room it succeeds')
def _(t):
    d = disks(t, 1, 1)
    d.add(driver='blkdebug', node_name='bad', image='dst0', inject_error=[
        {'event': 'none', 'iotype': 'write', 'errno': 28, 'once': True}])
    d.qmp('blockdev-backup', action(0, target='bad', **{'on-target-error': 'enospc'})['data'])
    e = d.qmp.event('BLOCK_JOB_ERROR')['data']
    assert e == {'device': 'j0', 'operation': 'write', 'action': 'stop'}, e
    d.qmp.event('JOB_STATUS_CHANGE', where={'id': 'j0', 'status': 'paused'})
    job = d.qmp('query-block-jobs')[0]
    assert (job['io-status'], job['paused']) == ('nospace', True), job
    d.qmp('job-resume', id='j0')
    d.qmp.job_ok('j0')
    d.close()
    assert same(t.path('src0.img'), t.path('dst0.img'))


@test('a backup that is cancelled at any moment leaves its nodes free, in an iothread or not')
def _(t):
    import nbd
    for threads in (0, 1):
        t.fresh()
        d = disks(t, 1, threads)
        h = nbd.NBD()
        h.connect_uri(d.uri('disk0'))
        for i in range(40):
            sync = t.random.choice(['full', 'none'])
            d.qmp('blockdev-backup', action(0, sync=sync, speed=t.random.choice([0, MIB]))['data'])
            for _ in range(t.random.randrange(4)):
                h.pwrite(b'w' * t.random.randrange(1, 300000), t.random.randrange(SIZE // 2))
            if t.random.random() < 0.3 and d.qmp.job('j0'):
                try:
                    d.qmp('job-pause', id='j0')
                except Exception as e:  # it was quicker  # pylint: disable=broad-except
                    assert 'j0' in str(e) or 'not found' in str(e), e
            if d.qmp.job('j0'):
                try:
                    d.qmp('job-cancel', id='j0')
                except Exception as e:  # pylint: disable=broad-except
                    assert 'j0' in str(e) or 'not found' in str(e), e
            d.qmp.job_end('j0')
            d.qmp.job_gone('j0')
            d.qmp.events.clear()
        h.shutdown()
        d.qmp('blockdev-del', node_name='dst0')


if __name__ == '__main__':
    main()
