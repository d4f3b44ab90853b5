#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A job's states, events and numbers, as its clients know them."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import MIB, is_qblk, same  # noqa: E402
from tap import main, need_command, need_qblk, test  # noqa: E402
from witness import copy, fill  # noqa: E402

SIZE = 8 * MIB


def disks(t, count=1, size=SIZE):
    d = t.daemon()
    for i in range(count):
        name = str(i) if i else ''
        d.file('src' + name, fill(t.path(f'src{name}.img'), size, i))
        d.file('dst' + name, t.image(f'dst{name}.img', size))
    return d


def backup(**more):
    return {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'full', **more}


def story(d, job='j'):
    """The states of a job and the block job events, in the order they came.

    A change of the graph may quiesce a running job for a moment: 'paused', 'running' is no story.
    """
    told = []
    for e in d.qmp.events:
        if e['event'] == 'JOB_STATUS_CHANGE' and e['data']['id'] == job:
            told.append(e['data']['status'])
        elif e['event'].startswith('BLOCK_JOB_') and \
                job in (e['data'].get('device'), e['data'].get('id')):
            told.append(e['event'])
    for i in range(len(told) - 2, 0, -1):
        if told[i - 1:i + 2] == ['running', 'paused', 'running']:
            del told[i:i + 2]
    return told


def until_null(d, job='j'):
    """Reads events until the job has gone, and keeps them."""
    while 'null' not in story(d, job):
        d.qmp.events.append(d.qmp.read())


@test('a backup is created, runs, waits, is pending, concludes and is gone')
def _(t):
    d = disks(t)
    d.qmp('blockdev-backup', backup())
    until_null(d)
    assert story(d) == ['created', 'running', 'waiting', 'pending', 'BLOCK_JOB_COMPLETED',
                        'concluded', 'null'], story(d)
    done = [e for e in d.qmp.events if e['event'] == 'BLOCK_JOB_COMPLETED'][0]['data']
    assert done == {'type': 'backup', 'device': 'j', 'len': SIZE, 'offset': SIZE, 'speed': 0}, done
    assert d.qmp('query-jobs') == [] and d.qmp('query-block-jobs') == []


@test('with auto-finalize and auto-dismiss off a job waits for both words')
def _(t):
    d = disks(t)
    d.qmp('blockdev-backup', backup(**{'auto-finalize': False, 'auto-dismiss': False}))
    e = d.qmp.event('BLOCK_JOB_PENDING')
    assert e['data'] == {'type': 'backup', 'id': 'j'}, e
    d.qmp.event('JOB_STATUS_CHANGE', where={'status': 'pending'})
    assert d.qmp('query-jobs')[0]['status'] == 'pending'
    assert d.qmp.error('job-dismiss', id='j').cls == 'GenericError'
    d.qmp('job-finalize', id='j')
    d.qmp.job_ok('j')
    d.qmp.event('JOB_STATUS_CHANGE', where={'status': 'concluded'})
    job = d.qmp('query-jobs')[0]
    assert (job['status'], job['current-progress'], job['total-progress']) == \
        ('concluded', SIZE, SIZE), job
    d.qmp('job-dismiss', id='j')
    d.qmp.job_gone('j')
    assert d.qmp('query-jobs') == []


@test('a failed job that is not dismissed keeps its reason')
def _(t):
    d = t.daemon()
    d.file('src', t.image('src.img', SIZE, [(0, b'x' * 4096)]))
    d.add(driver='blkdebug', node_name='dst', inject_error=[{'event': 'none', 'iotype': 'write'}],
          image={'driver': 'file', 'filename': t.image('dst.img', SIZE)})
    d.qmp('blockdev-backup', backup(**{'auto-dismiss': False}))
    e = d.qmp.job_end('j')
    assert e['data']['error'] == 'Input/output error', e
    d.qmp.event('JOB_STATUS_CHANGE', where={'status': 'concluded'})
    job = d.qmp('query-jobs')[0]
    assert job['status'] == 'concluded' and 'Input/output error' in job['error'], job
    d.qmp('block-job-dismiss', id='j')
    d.qmp.job_gone('j')


@test('a cancelled job ends with BLOCK_JOB_CANCELLED and leaves the source free')
def _(t):
    d = disks(t)
    d.qmp('blockdev-backup', backup(speed=65536))
    d.qmp('block-job-cancel', device='j')
    until_null(d)
    assert 'BLOCK_JOB_CANCELLED' in story(d) and 'BLOCK_JOB_COMPLETED' not in story(d), story(d)
    assert 'aborting' in story(d), story(d)
    d.qmp('blockdev-del', node_name='dst')
    d.qmp('blockdev-del', node_name='src')


@test('a job can be cancelled while it is paused and while it is pending')
def _(t):
    d = disks(t)
    d.qmp('blockdev-backup', backup(speed=65536))
    d.qmp('job-pause', id='j')
    d.qmp('job-cancel', id='j')
    assert d.qmp.job_end('j')['event'] == 'BLOCK_JOB_CANCELLED'
    d.qmp.job_gone('j')
    d.qmp('blockdev-backup', backup(**{'auto-finalize': False}))
    d.qmp.event('BLOCK_JOB_PENDING')
    d.qmp('job-cancel', id='j')
    assert d.qmp.job_end('j')['event'] == 'BLOCK_JOB_CANCELLED'


@test('a paused job does not move, and goes on when it is resumed')
def _(t):
    d = disks(t)
    d.qmp('blockdev-backup', backup(speed=1 * MIB))
    d.qmp('job-pause', id='j')
    first = {'status': 'unknown'}
    while first['status'] != 'paused':
        d.qmp.event('JOB_STATUS_CHANGE', where={'status': 'paused'})
        first = d.qmp('query-jobs')[0]
    d.qmp('block-job-set-speed', device='j', speed=0)
    for _ in range(20):
        now = d.qmp('query-jobs')[0]
        assert now['status'] == 'paused' and \
            now['current-progress'] == first['current-progress'], (first, now)
    assert d.qmp.error('job-pause', id='j').cls == 'GenericError'
    d.qmp('job-resume', id='j')
    assert d.qmp.error('job-resume', id='j').cls == 'GenericError'
    d.qmp.job_ok('j')
    d.close()
    assert same(t.path('src.img'), t.path('dst.img'))


@test('a speed holds a job back and may change while it runs')
def _(t):
    d = disks(t)
    d.qmp('blockdev-backup', backup(speed=2 * MIB))
    seen = d.qmp.job('j')
    assert seen['speed'] == 2 * MIB, seen
    assert seen['offset'] < SIZE, 'eight MiB went at once, at two MiB a second'
    d.qmp('block-job-set-speed', device='j', speed=100 * MIB)
    now = d.qmp.job('j')
    assert now is None or now['speed'] == 100 * MIB, now
    d.qmp.job_ok('j')
    d.close()
    assert same(t.path('src.img'), t.path('dst.img'))


@test('query-block-jobs and query-jobs tell of a running job')
def _(t):
    d = disks(t)
    d.qmp('blockdev-backup', backup(speed=65536))
    block, job = d.qmp.job('j'), d.qmp('query-jobs')[0]
    for key, value in {'type': 'backup', 'device': 'j', 'len': SIZE, 'speed': 65536,
                       'io-status': 'ok', 'paused': False, 'ready': False, 'status': 'running',
                       'auto-finalize': True, 'auto-dismiss': True}.items():
        assert block[key] == value, (key, block)
    assert job['id'] == 'j' and job['type'] == 'backup' and job['status'] == 'running', job
    if is_qblk():
        assert 'rate' in job, job
    d.qmp('block-job-cancel', device='j')
    assert d.qmp.job_end('j')['event'] == 'BLOCK_JOB_CANCELLED'


@test('grouped jobs: one that fails takes the others with it')
def _(t):
    d = disks(t)
    d.file('other', fill(t.path('other.img'), SIZE, 5, holes=0))
    d.add(driver='blkdebug', node_name='bad', inject_error=[{'event': 'none', 'iotype': 'write'}],
          image={'driver': 'file', 'filename': t.image('bad.img', SIZE)})
    d.qmp('transaction', {'actions': [
        {'type': 'blockdev-backup', 'data': backup(speed=65536)},
        {'type': 'blockdev-backup', 'data': backup(**{'job-id': 'k', 'device': 'other',
                                                      'target': 'bad'})}],
        'properties': {'completion-mode': 'grouped'}})
    e = d.qmp.job_end('k')
    assert e['data'].get('error'), e
    e = d.qmp.job_end('j')
    assert e['event'] == 'BLOCK_JOB_CANCELLED' or 'error' in e['data'], e


@test('jobs that are not grouped end each for itself')
def _(t):
    d = disks(t)
    d.file('other', fill(t.path('other.img'), SIZE, 5, holes=0))
    d.add(driver='blkdebug', node_name='bad', inject_error=[{'event': 'none', 'iotype': 'write'}],
          image={'driver': 'file', 'filename': t.image('bad.img', SIZE)})
    d.qmp('transaction', {'actions': [
        {'type': 'blockdev-backup', 'data': backup()},
        {'type': 'blockdev-backup', 'data': backup(**{'job-id': 'k', 'device': 'other',
                                                      'target': 'bad'})}]})
    assert d.qmp.job_end('k')['data'].get('error')
    d.qmp.job_ok('j')
    d.close()
    assert same(t.path('src.img'), t.path('dst.img'))


@test('an incremental backup copies what was written since the last one, and nothing else')
def _(t):
    import nbd
    d = disks(t)
    d.export('src')
    d.qmp('transaction', {'actions': [
        {'type': 'block-dirty-bitmap-add', 'data': {'node': 'src', 'name': 'b'}},
        {'type': 'blockdev-backup', 'data': backup()}]})
    d.qmp.job_ok('j')
    d.qmp.job_gone('j')
    h = nbd.NBD()
    h.connect_uri(d.uri())
    h.pwrite(b'\x77' * 4096, 3 * MIB)
    h.pwrite(b'\x78' * 512, SIZE - 512)
    h.shutdown()
    bitmap = [n for n in d.qmp('query-named-block-nodes') if n['node-name'] == 'src'][0]
    bitmap = bitmap['dirty-bitmaps'][0]
    assert (bitmap['name'], bitmap['count'], bitmap['granularity'], bitmap['recording']) == \
        ('b', 2 * 65536, 65536, True), bitmap
    d.file('inc', t.image('inc.img', SIZE))
    d.qmp('blockdev-backup', backup(target='inc', sync='incremental', bitmap='b'))
    done = d.qmp.job_ok('j')
    assert done['len'] == 2 * 65536, done
    d.close()
    with open(t.path('inc.img'), 'rb') as inc, open(t.path('src.img'), 'rb') as src:
        for at in range(0, SIZE, 65536):
            piece, want = inc.read(65536), src.read(65536)
            if at in (3 * MIB, SIZE - 65536):
                assert piece == want, hex(at)
            else:
                assert piece == bytes(65536), f'{at:#x} was copied and nobody wrote there'


def dirty(d, name='b'):
    for n in d.qmp('query-named-block-nodes'):
        for b in n.get('dirty-bitmaps', []):
            if b['name'] == name:
                return b['count']
    raise AssertionError('no bitmap ' + name)


@test('bitmap-mode: never keeps the marks, on-success drops them, always forgets what was copied')
def _(t):
    import nbd
    for mode, fail, left in (('never', False, 65536), ('on-success', False, 0),
                             ('on-success', True, 65536), ('always', False, 0)):
        t.fresh()
        d = disks(t)
        d.export('src')
        d.qmp('block-dirty-bitmap-add', node='src', name='b')
        h = nbd.NBD()
        h.connect_uri(d.uri())
        h.pwrite(b'\x77' * 4096, 0)
        h.shutdown()
        assert dirty(d) == 65536
        target = 'dst'
        if fail:
            d.add(driver='blkdebug', node_name='bad',
                  inject_error=[{'event': 'none', 'iotype': 'write'}],
                  image={'driver': 'file', 'filename': t.image('bad.img', SIZE)})
            target = 'bad'
        d.qmp('blockdev-backup', backup(target=target, sync='bitmap', bitmap='b',
                                        **{'bitmap-mode': mode}))
        assert bool(d.qmp.job_end('j')['data'].get('error')) == fail
        d.qmp.job_gone('j')
        assert dirty(d) == left, (mode, fail, dirty(d))


@test('bitmaps are cleared, disabled, enabled and merged')
def _(t):
    import nbd
    d = disks(t)
    d.export('src')
    for name in ('b', 'c'):
        d.qmp('block-dirty-bitmap-add', node='src', name=name, granularity=4096)
    d.qmp('block-dirty-bitmap-disable', node='src', name='c')
    h = nbd.NBD()
    h.connect_uri(d.uri())
    h.pwrite(b'\x77' * 4096, 8192)
    assert (dirty(d, 'b'), dirty(d, 'c')) == (4096, 0)
    d.qmp('block-dirty-bitmap-enable', node='src', name='c')
    h.pwrite(b'\x77' * 4096, 65536)
    assert (dirty(d, 'b'), dirty(d, 'c')) == (8192, 4096)
    d.qmp('block-dirty-bitmap-clear', node='src', name='c')
    assert dirty(d, 'c') == 0
    d.qmp('block-dirty-bitmap-merge', node='src', target='c', bitmaps=['b'])
    assert dirty(d, 'c') == 8192
    d.qmp('block-dirty-bitmap-remove', node='src', name='b')
    h.shutdown()


@test('sync=none keeps the old bytes of what is overwritten, until it is cancelled')
def _(t):
    import nbd
    d = disks(t)
    initial = copy(t.path('src.img'), t.path('initial'))
    d.export('src')
    d.qmp('blockdev-backup', backup(sync='none'))
    h = nbd.NBD()
    h.connect_uri(d.uri())
    at = [0, 2 * MIB + 512, SIZE - 512]
    for offset in at:
        h.pwrite(b'\x11' * 512, offset)
        h.pwrite(b'\x22' * 512, offset)
    h.shutdown()
    assert d.qmp.job('j'), 'the job has ended by itself'
    d.qmp('block-job-cancel', device='j')
    d.qmp.job_end('j')
    d.close()
    touched = {offset // 65536 for offset in at}
    with open(t.path('dst.img'), 'rb') as dst, open(initial, 'rb') as old:
        for i in range(SIZE // 65536):
            have, want = dst.read(65536), old.read(65536)
            assert have == (want if i in touched else bytes(65536)), f'cluster {i}'


@test('drive-backup needs a target in mode existing, and makes one in mode absolute-paths')
def _(t):
    d = disks(t)
    need_command(d, 'drive-backup')
    arguments = {'job-id': 'j', 'device': 'src', 'sync': 'full', 'format': 'raw'}
    d.qmp('drive-backup', dict(arguments, target=t.path('new.img')))
    d.qmp.job_ok('j')
    d.qmp.job_gone('j')
    t.image('old.img', SIZE)
    d.qmp('drive-backup', dict(arguments, target=t.path('old.img'), mode='existing'))
    d.qmp.job_ok('j')
    d.close()
    assert same(t.path('src.img'), t.path('new.img')) and same(t.path('src.img'), t.path('old.img'))


@test('what a guest causes to be copied counts as progress')
def _(t):
    need_qblk('counts the copies before a guest\'s writes as progress of the sweep')
    d = disks(t)
    d.export('src')
    w = None
    # Old data counts when the target has it: with so little room it goes there at once.
    d.qmp('blockdev-backup', backup(speed=65536, stage={'ram': 65536, 'scratch': 0}))
    w = t.witness(d.uri(), writers=2)
    before = d.qmp('query-jobs')[0]['current-progress']
    w.wait(200)
    after = d.qmp('query-jobs')[0]['current-progress']
    assert after > before, (before, after)
    w.stop()
    d.qmp('block-job-cancel', device='j')
    d.qmp.job_end('j')


if __name__ == '__main__':
    main()
