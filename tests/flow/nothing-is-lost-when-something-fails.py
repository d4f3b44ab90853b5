#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules H1, H2 and H6 when storage, target, daemon or client fail.

Whatever the policy: a job that failed never reports success, every acknowledged write stays on the
guest's disk, and a job that does report success hands out one instant.
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbd  # noqa: E402
from qblk import KIB, MIB, Gone, same  # noqa: E402
from rawnbd import CMD_READ, CMD_WRITE, RawNbd  # noqa: E402
from tap import Skip, main, need_qblk, test  # noqa: E402
from witness import copy, fill  # noqa: E402

SIZE = 16 * MIB
EIO, ENXIO, ENOSPC = 5, 6, 28
# The bytes of the disk that fail: in the middle, where the sweep comes late.
BAD = 9 * MIB


def broken(kind, errno, once=False, sector=None, immediately=False):
    rule = {'event': 'none', 'iotype': kind, 'errno': errno, 'once': once,
            'immediately': immediately}
    if sector is not None:
        rule['sector'] = sector
    return rule


class Pair:
    """A source that is written to, and a target, each on a blkdebug with the rules given."""

    def __init__(self, t, source_rules=(), target_rules=(), dst=None):
        self.t = t
        self.d = t.daemon()
        self.src = fill(t.path('src.img'), SIZE, t.random.randrange(1 << 30), holes=0)
        self.initial = copy(self.src, t.path('src.initial'))
        self.dst = dst or t.image('dst.img', SIZE)
        for name, path, rules in (('src', self.src, source_rules), ('dst', self.dst, target_rules)):
            debug = {'driver': 'blkdebug', 'node-name': name + '-debug',
                     'image': {'driver': 'file', 'node-name': name + '-file', 'filename': path}}
            if rules:
                debug['inject-error'] = list(rules)
            self.d.add(driver='raw', node_name=name, file=debug)
        self.d.export('src')
        self.window = None

    def backup(self, **options):
        self.d.qmp('blockdev-backup', {'job-id': 'j', 'device': 'src', 'target': 'dst',
                                       'sync': 'full', **options})
        self.window = self.d.qmp.sent_ns, self.d.qmp.replied_ns

    def write_away_from_bad(self, **options):
        """Writers in the first half of the disk: their copies succeed, the sweep fails later."""
        return self.t.witness(self.d.uri(), writers=3, area=(0, 8 * MIB), **options)

    def fails(self, words):
        e = self.d.qmp.job_end('j')
        assert e['event'] == 'BLOCK_JOB_COMPLETED', e
        assert words in e['data'].get('error', ''), f'the job did not fail with {words!r}: {e}'

    def error_event(self, operation, action):
        e = self.d.qmp.event('BLOCK_JOB_ERROR')['data']
        assert (e['operation'], e['action'], e['device']) == (operation, action, 'j'), e

    def settle(self, w, good):
        """Ends writers and daemon.  The source is whole, and the backup, if it is good, an instant."""
        w.stop()
        self.d.close()
        w.final([self.src], [self.initial])
        if good:
            w.instant([self.dst], [self.initial], *self.window)


SIDES = [('source', 'read', lambda **k: {'source_rules': [broken('read', **k)]}),
         ('target', 'write', lambda **k: {'target_rules': [broken('write', **k)]})]


def policy_tests(side, operation, rules):
    option = f'on-{side}-error'

    @test(f'{side} EIO, policy report: the job fails and says so, the disk is whole')
    def _(t):
        p = Pair(t, **rules(errno=EIO, sector=BAD // 512))
        w = p.write_away_from_bad()
        w.wait(50)
        p.backup(**{option: 'report'})
        p.error_event(operation, 'report')
        p.fails('Input/output error')
        w.wait(50)
        p.settle(w, False)

    @test(f'{side} EIO once, policy ignore: the job tries again and the backup is right')
    def _(t):
        p = Pair(t, **rules(errno=EIO, sector=BAD // 512, once=True))
        w = p.write_away_from_bad()
        w.wait(50)
        p.backup(**{option: 'ignore'})
        p.error_event(operation, 'ignore')
        p.d.qmp.job_ok('j')
        p.settle(w, True)

    @test(f'{side} EIO once, policy stop: the job waits to be resumed and the backup is right')
    def _(t):
        p = Pair(t, **rules(errno=EIO, sector=BAD // 512, once=True))
        w = p.write_away_from_bad()
        w.wait(50)
        p.backup(**{option: 'stop'})
        p.error_event(operation, 'stop')
        w.wait(50)
        job = p.d.qmp.job('j')
        assert job['io-status'] == 'failed', job
        assert job['paused'], job
        p.d.qmp('block-job-resume', device='j')
        p.d.qmp.job_ok('j')
        p.settle(w, True)

    @test(f'{side} EIO for ever, policy stop: the stopped job can be cancelled')
    def _(t):
        p = Pair(t, **rules(errno=EIO, sector=BAD // 512))
        w = p.write_away_from_bad()
        p.backup(**{option: 'stop'})
        p.error_event(operation, 'stop')
        p.d.qmp('block-job-cancel', device='j', force=True)
        assert p.d.qmp.job_end('j')['event'] == 'BLOCK_JOB_CANCELLED'
        p.settle(w, False)

    @test(f'{side} EIO for ever, policy ignore: the job never claims success and can be cancelled')
    def _(t):
        p = Pair(t, **rules(errno=EIO, sector=BAD // 512))
        w = p.write_away_from_bad()
        p.backup(**{option: 'ignore'})
        for _ in range(3):
            p.error_event(operation, 'ignore')
        p.d.qmp('block-job-cancel', device='j')
        assert p.d.qmp.job_end('j')['event'] == 'BLOCK_JOB_CANCELLED'
        p.settle(w, False)

    @test(f'{side} EIO, policy enospc: an error that is not ENOSPC is reported')
    def _(t):
        p = Pair(t, **rules(errno=EIO, sector=BAD // 512))
        w = p.write_away_from_bad()
        p.backup(**{option: 'enospc'})
        p.error_event(operation, 'report')
        p.fails('Input/output error')
        p.settle(w, False)


for each in SIDES:
    policy_tests(*each)


@test('target ENOSPC, policy enospc: the job waits, and goes on when there is room')
def _(t):
    p = Pair(t, target_rules=[broken('write', ENOSPC, sector=BAD // 512, once=True)])
    w = p.write_away_from_bad()
    p.backup(**{'on-target-error': 'enospc'})
    p.error_event('write', 'stop')
    job = p.d.qmp.job('j')
    assert job['io-status'] == 'nospace', job
    p.d.qmp('block-job-resume', device='j')
    p.d.qmp.job_ok('j')
    p.settle(w, True)


@test('target ENOSPC, policy report: the job fails with the reason')
def _(t):
    p = Pair(t, target_rules=[broken('write', ENOSPC, sector=BAD // 512)])
    w = p.write_away_from_bad()
    p.backup()
    p.fails('No space left on device')
    p.settle(w, False)


@test('a target file system that is really full stops the job until it has room')
def _(t):
    room = t.path('room')
    os.mkdir(room)
    if os.geteuid() or subprocess.call(['mount', '-t', 'tmpfs', '-o', 'size=6m', 'tmpfs', room],
                                       stderr=subprocess.DEVNULL):
        raise Skip('a file system of six MiB needs the right to mount one')
    try:
        p = Pair(t, dst=t.image('room/dst.img', SIZE))
        p.backup(**{'on-target-error': 'enospc'})
        p.error_event('write', 'stop')
        # Here the old bytes are in the target already, so that a guest's write needs no room there.
        w = t.witness(p.d.uri(), writers=3, area=(0, MIB))
        w.wait(100)
        subprocess.check_call(['mount', '-o', 'remount,size=64m', room])
        p.d.qmp('block-job-resume', device='j')
        p.d.qmp.job_ok('j')
        p.settle(w, True)
    finally:
        subprocess.call(['umount', '-l', room])


@test('a target that is gone for good: the job fails, the disk is whole')
def _(t):
    p = Pair(t, target_rules=[broken('write', ENXIO), broken('write-zeroes', ENXIO),
                              broken('flush', ENXIO)])
    w = p.write_away_from_bad(survive=True)
    p.backup()
    p.fails('No such device or address')
    p.settle(w, False)


@test('a target that fails the last flush: the job does not report success')
def _(t):
    need_qblk('flushes the target before it reports success')
    p = Pair(t, target_rules=[broken('flush', EIO)])
    w = p.write_away_from_bad()
    p.backup()
    e = p.d.qmp.job_end('j')
    assert e['data'].get('error'), f'success without a flush: {e}'
    p.settle(w, False)


def guest_writes_where_copying_fails(t, policy, **rules):
    """The copy before a guest's write fails.  The write may fail, the backup may fail; none may lie."""
    p = Pair(t, **rules)
    w = t.witness(p.d.uri(), writers=3, survive=True)
    w.wait(3)
    p.backup(**{'on-source-error': policy, 'on-target-error': policy, 'speed': 4 * MIB})
    e = p.d.qmp.job_end('j')
    assert e['event'] == 'BLOCK_JOB_COMPLETED', e
    p.settle(w, 'error' not in e['data'])
    return e['data']


@test('a copy before a guest write that fails to read ends in no false backup')
def _(t):
    data = guest_writes_where_copying_fails(
        t, 'report', source_rules=[broken('read', EIO, sector=BAD // 512)])
    assert 'error' in data, data


@test('a copy before a guest write that fails to write ends in no false backup')
def _(t):
    data = guest_writes_where_copying_fails(
        t, 'report', target_rules=[broken('write', EIO, sector=BAD // 512)])
    assert 'error' in data, data


@test('a copy before a guest write that fails once ends in no false backup')
def _(t):
    for _ in range(4):
        t.fresh()
        guest_writes_where_copying_fails(
            t, 'ignore', source_rules=[broken('read', EIO, sector=BAD // 512, once=True)],
            target_rules=[broken('write', EIO, sector=MIB // 512, once=True)])


@test('kill -9 in the middle of a backup: every acknowledged write is on the disk')
def _(t):
    p = Pair(t)
    w = t.witness(p.d.uri(), writers=4, survive=True)
    p.backup(speed=2 * MIB)
    w.wait(t.random.randrange(100, 600))
    p.d.kill()
    w.stop()
    w.final([p.src], [p.initial])
    again = t.daemon()
    again.file('src', p.src)
    again.file('dst', p.dst)
    again.qmp('blockdev-backup', job_id='j', device='src', target='dst', sync='full')
    again.qmp.job_ok('j')
    again.close()
    assert same(p.src, p.dst)


@test('a request of a client that the storage fails is told to the client and to QMP')
def _(t):
    need_qblk('sends BLOCK_IO_ERROR for exports')
    p = Pair(t, source_rules=[broken('write', errno=ENOSPC, once=True), broken('read', errno=EIO)])
    with RawNbd(p.d.nbd_path, 'disk') as c:
        c.request(CMD_WRITE, 0, 4 * KIB, b'\x5a' * (4 * KIB))
        assert c.reply()[0] == ENOSPC
        c.request(CMD_READ, 0, 4 * KIB)
        assert c.reply()[0] == EIO
    for operation, word in (('write', 'space'), ('read', 'error')):
        e = p.d.qmp.event('BLOCK_IO_ERROR')['data']
        assert (e['operation'], e['action'], e['node-name']) == (operation, 'report', 'src'), e
        assert word in e['reason'], e


@test('a client that goes in the middle of a request harms neither disk nor backup')
def _(t):
    p = Pair(t)
    w = t.witness(p.d.uri(), writers=2, area=(0, 8 * MIB))
    p.backup(speed=8 * MIB)
    for i in range(16):
        h = nbd.NBD()
        h.connect_uri(p.d.uri())
        if i % 2:
            # Requests in flight, and nobody left to hear the answers.
            for j in range(8):
                h.aio_pread(nbd.Buffer(64 * KIB), 12 * MIB + j * 64 * KIB)
        else:
            # Half of a write: it must leave no trace.
            half_write(p.d.nbd_path)
        del h
    w.wait(50)
    assert p.d.alive()
    p.d.qmp('block-job-set-speed', device='j', speed=0)
    p.d.qmp.job_ok('j')
    p.settle(w, True)


def half_write(path):
    """A client of our own, as libnbd always finishes its sentences."""
    with RawNbd(path, 'disk') as c:
        c.request(CMD_WRITE, 10 * MIB, 64 * KIB, b'\x5a' * (32 * KIB))


@test('a QMP client that goes in the middle of a command harms nothing')
def _(t):
    need_qblk('serves several clients on one QMP socket')
    p = Pair(t)
    w = t.witness(p.d.uri(), writers=2)
    p.backup(speed=8 * MIB)
    for rest in (b'{"execute": "query-', b'{"execute": "query-jobs"}', b'{'):
        other = p.d.connect()
        other.send_raw(rest)
        other.close()
    p.d.qmp('block-job-set-speed', device='j', speed=0)
    p.d.qmp.job_ok('j')
    p.settle(w, True)


@test('the end of the daemon during a backup is an end without a success')
def _(t):
    p = Pair(t)
    w = t.witness(p.d.uri(), writers=2, survive=True)
    p.backup(speed=MIB)
    w.wait(50)
    p.d.qmp('quit')
    try:
        e = p.d.qmp.job_end('j')
        assert e['event'] == 'BLOCK_JOB_CANCELLED' or 'error' in e['data'], e
    except Gone:
        pass
    p.d.process.wait(5)
    w.stop()
    w.final([p.src], [p.initial])


if __name__ == '__main__':
    main()
