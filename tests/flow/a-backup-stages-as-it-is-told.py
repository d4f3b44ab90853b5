#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of staging: each does what it says in every command that takes it, or is refused in one line."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import GIB, KIB, MIB, same  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402
from witness import copy, fill  # noqa: E402

SIZE = 16 * MIB
STAGE = {'ram': MIB, 'scratch': 8 * MIB, 'cow-timeout': 7}
WITHOUT_EFFECT = 'has no effect'


class Disks:
    """A disk 'src', a target 'dst', a node 'scratch', and 'busy', which a client may write to."""

    def __init__(self, t, *args):
        need_qblk('has a stage for old data')
        self.t = t
        self.d = t.daemon(*args)
        self.src = fill(t.path('src.img'), SIZE, t.random.randrange(1 << 30), holes=0)
        self.initial = copy(self.src, t.path('src.initial'))
        self.dst = t.image('dst.img', SIZE)
        self.d.file('src', self.src)
        self.d.file('dst', self.dst)
        for name in ('scratch', 'busy'):
            self.d.file(name, t.image(name + '.img', SIZE))
        self.d.export('src')
        self.d.export('busy', 'busy')

    def backup(self, stage, command='blockdev-backup', **more):
        arguments = {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'full', 'stage': stage}
        arguments.update({k.replace('_', '-'): v for k, v in more.items()})
        return self.d.qmp(command, arguments)

    def nodes(self):
        return sorted(n['node-name'] for n in self.d.qmp('query-named-block-nodes'))

    def refused(self, stage, *words, **more):
        """One line with these words; no job, no node and no file are left."""
        nodes = self.nodes()
        e = self.d.qmp.error('blockdev-backup', {'job-id': 'j', 'device': 'src', 'target': 'dst',
                                                 'sync': 'full', 'stage': stage, **more})
        assert '\n' not in e.desc and len(e.desc) < 300, e.desc
        for word in words:
            assert word in e.desc, f'{word!r} is not in {e.desc!r}'
        assert self.d.qmp('query-jobs') == [] and self.nodes() == nodes
        print(f'# {e.desc}', flush=True)


@test('an option that cannot be obeyed is refused in one line')
def _(t):
    s = Disks(t)
    for stage, words in (
            ({'scratch-folder': t.path('nowhere')}, [t.path('nowhere'), 'No such file or directory']),
            ({'scratch-folder': t.path('nowhere'), 'scratch': MIB},
             [t.path('nowhere'), 'No such file or directory']),
            ({'scratch-folder': s.src, 'scratch': MIB}, [s.src, 'Not a directory']),
            ({'scratch-folder': ''}, ['scratch-folder', 'empty']),
            ({'scratch-folder': t.dir, 'scratch': 0}, ['scratch-folder', WITHOUT_EFFECT]),
            ({'scratch-node': 'scratch', 'scratch': 0}, ['scratch-node', WITHOUT_EFFECT]),
            ({'scratch-folder': t.dir, 'scratch-node': 'scratch'},
             ['scratch-folder', 'scratch-node', 'together']),
            ({'ram': 64 * KIB - 1}, ['ram', '65536']),
            ({'ram': 64 * GIB + 1}, ['ram', str(64 * GIB)]),
            ({'cow-timeout': 0}, ['cow-timeout', 'block']),
            ({'cow-timeout': 5, 'when-full': 'block'}, ['cow-timeout', WITHOUT_EFFECT]),
            ({'when-full': 'wait'}, ['wait']),
            ({'scratch': -1}, ['scratch']),
            ({'scratch': MIB - 1}, ['scratch', str(MIB)]),
            ({'cow-timeout': 1 << 32}, ['cow-timeout']),
            ({'rom': 1}, ['rom'])):
        s.refused(stage, *words)


@test('a scratch that is something else already is refused')
def _(t):
    s = Disks(t)
    s.d.add(driver='file', node_name='read-only', filename=t.image('ro.img', SIZE), read_only=True)
    s.refused({'scratch-node': 'read-only'}, "'read-only'")
    s.d.file('small', t.image('small.img', MIB - 512))
    s.refused({'scratch-node': 'small'}, "'small'", str(MIB))
    s.refused({'scratch-node': 'nobody'}, 'nobody')
    s.refused({'scratch-node': 'src'}, 'source')
    s.refused({'scratch-node': 'dst'}, 'target')
    # What lies below them and above; a client's disk.
    s.d.add(driver='raw', node_name='src-view', file='src')
    s.d.add(driver='raw', node_name='dst-view', file='dst')
    for node in ('src-file', 'dst-file', 'src-view', 'dst-view', 'busy', 'busy-file'):
        s.refused({'scratch-node': node}, node)
    for path, initial in ((s.src, s.initial), (s.dst, t.image('zero.img', SIZE))):
        assert same(path, initial)


@test('a scratch of two backups at a time is refused to the second')
def _(t):
    s = Disks(t)
    s.d.file('src2', t.image('src2.img', SIZE))
    s.d.file('dst2', t.image('dst2.img', SIZE))
    s.backup({'scratch-node': 'scratch'}, speed=1)
    e = s.d.qmp.error('blockdev-backup', job_id='k', device='src2', target='dst2', sync='full',
                      stage={'scratch-node': 'scratch'})
    assert 'scratch' in e.desc, e.desc
    # And nobody takes it away meanwhile.
    assert 'scratch' in s.d.qmp.error('blockdev-del', node_name='scratch').desc
    s.d.qmp('block-job-cancel', device='j')
    s.d.qmp.job_end('j')
    s.d.qmp.job_gone('j')
    s.d.qmp('blockdev-backup', job_id='k', device='src2', target='dst2', sync='full',
            stage={'scratch-node': 'scratch'})
    s.d.qmp.job_ok('k')
    s.d.qmp.job_gone('k')
    s.d.qmp('blockdev-del', node_name='scratch')


@test('without options there is memory, and a scratch where there is room for one')
def _(t):
    s = Disks(t)
    nodes = s.nodes()
    s.d.qmp('blockdev-backup', job_id='j', device='src', target='dst', sync='full', speed=1)
    job = s.d.qmp.job('j')
    assert job['staged-ram-limit'] == 32 * MIB, job
    fs = os.statvfs(os.environ.get('TMPDIR') or '/var/tmp')
    free, reserve = fs.f_bavail * fs.f_frsize, max(GIB, fs.f_blocks * fs.f_frsize // 20)
    expected = max(0, free - reserve)
    assert abs(job['staged-scratch-limit'] - expected) < GIB, (job, expected)
    s.d.qmp('block-job-cancel', device='j')
    s.d.qmp.job_end('j')
    s.d.qmp.job_gone('j')
    assert s.nodes() == nodes


@test('TMPDIR is the folder where none is said')
def _(t):
    need_qblk('has a stage for old data')
    d = t.daemon(env={'TMPDIR': t.path('nowhere')})
    d.file('src', t.image('src.img', SIZE))
    d.file('dst', t.image('dst.img', SIZE))
    arguments = {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'full'}
    e = d.qmp.error('blockdev-backup', arguments)
    assert t.path('nowhere') in e.desc, e.desc
    d.qmp('blockdev-backup', dict(arguments, stage={'scratch': 0}))
    d.qmp.job_ok('j')


def takes(s, job, ram=MIB, scratch=8 * MIB):
    info = s.d.qmp.job(job)
    assert (info['staged-ram-limit'], info['staged-scratch-limit']) == (ram, scratch), info


@test('drive-backup takes the same options')
def _(t):
    s = Disks(t)
    target = t.path('drive.img')
    w = t.witness(s.d.uri(), writers=3)
    w.wait(50)
    s.backup(dict(STAGE, **{'scratch-folder': t.dir}), 'drive-backup', target=target, format='raw',
             speed=4 * MIB)
    window = s.d.qmp.sent_ns, s.d.qmp.replied_ns
    takes(s, 'j')
    s.d.qmp('block-job-set-speed', device='j', speed=0)
    s.d.qmp.job_ok('j')
    e = s.d.qmp.error('drive-backup', job_id='k', device='src', target=t.path('k.img'), sync='full',
                      format='raw', stage={'cow-timeout': 0})
    assert 'cow-timeout' in e.desc, e.desc
    w.stop()
    s.d.close()
    w.final([s.src], [s.initial])
    w.instant([target], [s.initial], *window)


def action(kind, job, **data):
    data = {k.replace('_', '-'): v for k, v in data.items()}
    return {'type': kind, 'data': {'job-id': job, 'sync': 'full', 'speed': 4 * MIB, **data}}


@test('the actions of a transaction take the same options, and both backups are one instant')
def _(t):
    s = Disks(t)
    other = fill(t.path('other.img'), SIZE, t.random.randrange(1 << 30), holes=0)
    initial = copy(other, t.path('other.initial'))
    drive = t.path('drive.img')
    s.d.file('other', other)
    s.d.export('other', 'other')
    w = t.witness(s.d.uri(), s.d.uri('other'), writers=2)
    w.wait(50)
    s.d.qmp('transaction', actions=[
        action('blockdev-backup', 'j', device='src', target='dst',
               stage={'scratch-node': 'scratch', 'ram': 2 * MIB}),
        action('drive-backup', 'k', device='other', target=drive, format='raw',
               stage={'when-full': 'block', 'ram': MIB, 'scratch': 0})])
    window = s.d.qmp.sent_ns, s.d.qmp.replied_ns
    takes(s, 'j', 2 * MIB, SIZE)
    takes(s, 'k', MIB, 0)
    for job in 'jk':
        s.d.qmp('block-job-set-speed', device=job, speed=0)
    for job in 'jk':
        s.d.qmp.job_ok(job)
    w.stop()
    s.d.close()
    w.final([s.src, other], [s.initial, initial])
    w.instant([s.dst, drive], [s.initial, initial], *window)


@test('a transaction of which one stage is refused makes no job')
def _(t):
    s = Disks(t)
    s.d.file('other', t.image('other.img', SIZE))
    nodes = s.nodes()
    e = s.d.qmp.error('transaction', actions=[
        action('blockdev-backup', 'j', device='src', target='dst', stage={'scratch-node': 'scratch'}),
        action('blockdev-backup', 'k', device='other', target='busy', stage={'scratch-node': 'no'})])
    assert 'no' in e.desc, e.desc
    assert s.d.qmp('query-jobs') == [] and s.nodes() == nodes
    s.d.qmp('blockdev-del', node_name='scratch')  # nobody holds it


@test('disk, target and scratch in an iothread')
def _(t):
    s = Disks(t, '--object', 'iothread,id=io0')
    s.d.qmp('block-export-del', id='export-disk')
    s.d.qmp.event('BLOCK_EXPORT_DELETED')
    s.d.export('src', iothread='io0')
    w = t.witness(s.d.uri(), writers=3)
    w.wait(50)
    for n, stage in enumerate(({'scratch-node': 'scratch', 'ram': 64 * KIB},
                               {'scratch-folder': t.dir, 'ram': 64 * KIB})):
        s.backup(stage, speed=8 * MIB, job_id=f'j{n}')
        window = s.d.qmp.sent_ns, s.d.qmp.replied_ns
        s.d.qmp.job_ok(f'j{n}')
        s.d.qmp.job_gone(f'j{n}')
    w.stop()
    s.d.close()
    w.final([s.src], [s.initial])
    w.instant([s.dst], [s.initial], *window)


@test('a latency-target that cannot be kept slows the backup, and does not stop it')
def _(t):
    s = Disks(t)
    w = t.witness(s.d.uri(), writers=2)
    w.wait(200)
    s.backup(STAGE, latency_target=1)
    window = s.d.qmp.sent_ns, s.d.qmp.replied_ns
    job = s.d.qmp.job('j')
    assert job['latency-target'] == 1, job
    began = job['offset']
    while job['offset'] <= began:
        w.wait(50)
        job = s.d.qmp.job('j') or {'offset': SIZE}
    w.stop()
    s.d.qmp.job_ok('j')
    s.d.close()
    w.final([s.src], [s.initial])
    w.instant([s.dst], [s.initial], *window)


if __name__ == '__main__':
    main()
