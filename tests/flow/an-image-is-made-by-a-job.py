#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""blockdev-create: a job makes an image, tells how it went, and waits to be dismissed."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import GIB, MIB, is_qblk  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402


def create(d, options, job='c'):
    """Runs the job to its end; its line in query-jobs."""
    d.qmp('blockdev-create', job_id=job, options=options)
    d.qmp.event('JOB_STATUS_CHANGE', where={'id': job, 'status': 'concluded'})
    info = [j for j in d.qmp('query-jobs') if j['id'] == job][0]
    states = [e['data']['status'] for e in d.qmp.events if e['event'] == 'JOB_STATUS_CHANGE']
    d.qmp.events.clear()
    d.qmp('job-dismiss', id=job)
    d.qmp.event('JOB_STATUS_CHANGE', where={'id': job, 'status': 'null'})
    return info, states


@test('a file is made, its job concludes and stays until it is dismissed')
def _(t):
    d = t.daemon()
    path = t.path('a.img')
    info, states = create(d, {'driver': 'file', 'filename': path, 'size': 3 * MIB})
    assert states == ['created', 'running', 'waiting', 'pending'], states
    assert info['type'] == 'create' and info['status'] == 'concluded', info
    assert info['current-progress'] == info['total-progress'] == 1, info
    assert 'error' not in info, info
    assert os.path.getsize(path) == 3 * MIB
    assert not d.qmp('query-jobs')


@test('what is wrong with the image is the error of the job')
def _(t):
    d = t.daemon()
    info, states = create(d, {'driver': 'file', 'filename': '/nonexistent/a', 'size': MIB})
    assert states == ['created', 'running', 'aborting'], states
    assert "Could not create '/nonexistent/a'" in info['error'] or not is_qblk(), info
    assert 'No such file or directory' in info['error'], info


@test('what is wrong with the command is its error, and there is no job')
def _(t):
    d = t.daemon()
    options = {'driver': 'file', 'filename': t.path('x'), 'size': MIB}
    d.qmp.error('blockdev-create', job_id='1 2', options=options)
    d.qmp.error('blockdev-create', job_id='c', options={'driver': 'file', 'size': MIB})
    e = d.qmp.error('blockdev-create', job_id='c', options={'driver': 'null-co'})
    assert 'Driver does not support blockdev-create' in e.desc, e.desc
    assert not d.qmp('query-jobs')
    assert not os.path.exists(t.path('x'))


@test('a raw image is made in a node that is there, or in one for the purpose')
def _(t):
    need_qblk('makes raw images by blockdev-create')
    d = t.daemon()
    path = t.image('a.img', MIB)
    d.qmp('blockdev-add', {'driver': 'file', 'node-name': 'f', 'filename': path})
    info, _ = create(d, {'driver': 'raw', 'file': 'f', 'size': 5 * MIB})
    assert 'error' not in info, info
    assert os.path.getsize(path) == 5 * MIB
    info, _ = create(d, {'driver': 'raw', 'size': 2 * MIB, 'preallocation': 'full',
                         'file': {'driver': 'file', 'filename': t.image('b.img', MIB)}})
    assert info['current-progress'] == info['total-progress'] == 2 * MIB, info
    assert os.stat(t.path('b.img')).st_blocks * 512 >= 2 * MIB
    assert len(d.qmp('query-named-block-nodes')) == 1


@test('a node that somebody uses is not overwritten')
def _(t):
    need_qblk('makes raw images by blockdev-create')
    d = t.daemon()
    path = t.image('a.img', MIB)
    d.qmp('blockdev-add', {'driver': 'raw', 'node-name': 'r',
                           'file': {'driver': 'file', 'node-name': 'f', 'filename': path}})
    d.qmp('block-export-add', type='nbd', id='e', node_name='r', writable=True)
    info, _ = create(d, {'driver': 'raw', 'file': 'f', 'size': 5 * MIB})
    assert 'image creation' in info['error'], info
    assert os.path.getsize(path) == MIB


@test('a creation that takes long is cancelled soon, and leaves no image')
def _(t):
    need_qblk('ends the job in the middle of a file')
    d = t.daemon()
    path = t.path('a.img')
    d.qmp('blockdev-create', job_id='c', options={
        'driver': 'file', 'filename': path, 'size': 64 * GIB, 'preallocation': 'full'})
    d.qmp('job-cancel', id='c')
    d.qmp.event('JOB_STATUS_CHANGE', where={'id': 'c', 'status': 'concluded'})
    assert not os.path.exists(path)
    d.qmp('job-dismiss', id='c')


if __name__ == '__main__':
    main()
