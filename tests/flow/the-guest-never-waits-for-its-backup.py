#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules B2, B7, G5, G6, R2, H1 and H2: what a guest notices when the target of its backup is in trouble.

    ROUNDS=2 tests/flow/the-guest-never-waits-for-its-backup.py     with the whole minute; --nightly: too

The target is an NBD server that is stopped, killed or full; the scratch and the source fail.  Whatever
happens, no acknowledged write is lost, a backup that reports success is one instant, and the longest
write of the guest is bounded by cow-timeout, where it has to wait at all.
"""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbd  # noqa: E402
from qblk import DEADLINE, KIB, MIB, SLOW  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402
from target import Target  # noqa: E402
from witness import copy, fill  # noqa: E402

NIGHTLY = '--nightly' in sys.argv or int(os.environ.get('ROUNDS', '0')) > 1
SIZE = 24 * MIB
# So slow that whatever is done to the target is done in the middle.
SPEED = 8 * MIB
# The bytes of the disk that fail, or that a test writes to by itself: the sweep comes there last.
LATE = 22 * MIB
# For old data of the whole disk: three quarters of it go through the scratch.
AMPLE = {'ram': 8 * MIB, 'scratch': 32 * MIB}
# For one cluster.
TINY = {'ram': 64 * KIB, 'scratch': 0}
# What a write may take on a busy machine when it waits for nothing of the backup's.
AT_ONCE = 1.0 * SLOW
TIMEOUT = 3


def rule(kind, errno=5, once=False, sector=None):
    """One of blkdebug's: requests of this kind fail."""
    r = {'event': 'none', 'iotype': kind, 'errno': errno, 'once': once, 'immediately': False}
    return r if sector is None else dict(r, sector=sector)


def on_blkdebug(node, path, *rules):
    debug = {'driver': 'blkdebug', 'node-name': node + '-debug', 'inject-error': list(rules),
             'image': {'driver': 'file', 'node-name': node + '-file', 'filename': path}}
    return {'driver': 'raw', 'node_name': node, 'file': debug}


def nameless_files(pid, folder):
    """The files without a name that a process has open in a folder: the bytes that each takes."""
    taken = {}
    for fd in os.listdir(f'/proc/{pid}/fd'):
        path = f'/proc/{pid}/fd/{fd}'
        try:
            name = os.readlink(path)
            if name.startswith(folder + '/') and name.endswith(' (deleted)'):
                st = os.stat(path)
                taken[st.st_ino] = st.st_blocks * 512
        except FileNotFoundError:
            pass
    return list(taken.values())


class Story:
    """A disk that is written to by three writers, and its backup to an NBD server."""

    def __init__(self, t, size=SIZE, source_rules=(), writers=3, **options):
        need_qblk('has a stage for old data')
        self.t = t
        self.d = t.daemon()
        self.src = fill(t.path('src.img'), size, t.random.randrange(1 << 30), holes=0)
        self.initial = copy(self.src, t.path('src.initial'))
        self.dst = t.image('dst.img', size)
        self.target = Target(t, self.dst)
        self.folder = t.path('scratch')
        os.mkdir(self.folder)
        if source_rules:
            self.d.add(**on_blkdebug('src', self.src, *source_rules))
        else:
            self.d.file('src', self.src)
        self.d.export('src')
        self.d.add(driver='raw', node_name='dst', file=self.target.node(**options))
        self.window = None
        self.witness = None
        if writers:
            self.witness = t.witness(self.d.uri(), writers=writers, survive=True)
            self.witness.wait(50)

    def backup(self, stage, folder=True, **options):
        stage = dict(stage)
        if folder and stage.get('scratch') and 'scratch-node' not in stage:
            stage['scratch-folder'] = self.folder
        self.d.qmp('blockdev-backup', {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'full',
                                       'speed': SPEED, 'stage': stage, **options})
        self.window = self.d.qmp.sent_ns, self.d.qmp.replied_ns

    def until(self, offset):
        """The job says how far it is; to look is all there is."""
        while self.d.qmp.job('j')['offset'] < offset:
            time.sleep(0.01)

    def stop_target(self):
        self.until(4 * MIB)
        self.target.stop()

    def client(self):
        h = nbd.NBD()
        h.connect_uri(self.d.uri())
        return h

    def scratch_files(self):
        return nameless_files(self.d.process.pid, self.folder)

    def fails(self, words, timeout=None):
        e = self.d.qmp.job_end('j', timeout)
        assert e['event'] == 'BLOCK_JOB_COMPLETED', e
        assert words in e['data'].get('error', ''), f'the job did not fail with {words!r}: {e}'
        return e['data']['error']

    def error_event(self, operation, action, timeout=None):
        e = self.d.qmp.event('BLOCK_JOB_ERROR', timeout=timeout)['data']
        assert (e['operation'], e['action'], e['device']) == (operation, action, 'j'), e

    def job(self):
        return self.d.qmp.job('j')

    def end(self, good):
        """No acknowledged write is lost, and the backup is an instant.  The longest write in seconds."""
        self.witness.wait(50)
        result = self.witness.stop()
        assert not result['broken'], f'a client was thrown out: {self.witness.said()}'
        assert os.listdir(self.folder) == [], os.listdir(self.folder)
        self.d.close()
        self.target.go_on()
        self.target.kill()
        self.witness.final([self.src], [self.initial])
        if good:
            self.witness.instant([self.dst], [self.initial], *self.window)
        print(f'# longest write of {result["acked"]}: {result["longest_us"] / 1000:.1f} ms', flush=True)
        return result['longest_us'] / 1e6


def target_stands_still(seconds, timeout):
    more = {} if timeout is None else {'cow-timeout': timeout}

    @test(f'the target stands still for {seconds} s and there is room: no write waits, the backup is good')
    def _(t):
        s = Story(t)
        s.backup(dict(AMPLE, **more))
        s.stop_target()
        end = time.monotonic() + seconds  # this is what is tested: the time in which nothing happens
        while time.monotonic() < end:
            s.witness.wait(20)
        job = s.job()
        assert job['status'] == 'running', job
        s.target.go_on()
        s.d.qmp.job_ok('j')
        assert s.end(good=True) < AT_ONCE

    @test(f'the target stands still for {seconds} s and there is no room: the backup breaks, not the guest')
    def _(t):
        s = Story(t)
        s.backup(dict(TINY, **more))
        s.stop_target()
        limit = timeout or 45
        began = time.monotonic()
        s.error_event('write', 'report', limit + DEADLINE)
        took = time.monotonic() - began
        assert took < limit + 5 * SLOW, f'it took {took:.1f} s until the backup was given up'
        s.witness.wait(500)
        s.target.go_on()
        s.fails(f"A write to 'src' waited {limit} s for room for its old data")
        longest = s.end(good=False)
        assert limit * 0.9 < longest < limit + AT_ONCE, longest

    @test(f'the same under policy stop, for {seconds} s: a broken backup ends, it does not stop')
    def _(t):
        s = Story(t)
        s.backup(dict(TINY, **more), **{'on-target-error': 'stop'})
        s.stop_target()
        s.fails(f"A write to 'src' waited {timeout or 45} s", (timeout or 45) + DEADLINE)
        s.target.go_on()
        s.end(good=False)


target_stands_still(5, TIMEOUT)
if NIGHTLY:
    target_stands_still(60, None)


@test('the target stands still with when-full=block: the guest waits, and nothing fails')
def _(t):
    s = Story(t)
    s.backup(dict(TINY, **{'when-full': 'block'}))
    s.stop_target()
    time.sleep(4)  # the time in which nothing happens
    s.target.go_on()
    s.d.qmp.job_ok('j')
    assert s.end(good=True) > 2


@test('the target is dead and there is room: the backup says so, no write waits')
def _(t):
    s = Story(t, **{'reconnect-delay': 1})
    s.backup(AMPLE)
    s.until(4 * MIB)
    s.target.kill()
    s.error_event('write', 'report')
    s.fails('Input/output error')
    assert s.end(good=False) < AT_ONCE


@test('the target is dead and there is no room: the guest waits no longer than for the target')
def _(t):
    s = Story(t, **{'reconnect-delay': 1})
    s.backup(dict(TINY, **{'cow-timeout': 30}))
    s.until(4 * MIB)
    s.target.kill()
    s.fails('Input/output error')
    assert s.end(good=False) < 1 + AT_ONCE


def target_comes_back(policy):
    @test(f'the target is dead, policy {policy}: it is started again, and the backup is good')
    def _(t):
        s = Story(t, **{'reconnect-delay': 1})
        s.backup(AMPLE, **{'on-target-error': policy})
        s.until(4 * MIB)
        s.target.kill()
        s.error_event('write', policy)
        s.witness.wait(200)
        if policy == 'stop':
            assert s.job()['io-status'] == 'failed', s.job()
        s.target.start()
        s.d.qmp.event('NBD_CONNECTION', where={'state': 'restored'})
        if policy == 'stop':
            s.d.qmp('block-job-resume', device='j')
        s.d.qmp.job_ok('j')
        assert s.end(good=True) < AT_ONCE


target_comes_back('stop')
target_comes_back('ignore')


@test('the target is dead, policy stop, no room: the guest waits for cow-timeout, then the backup breaks')
def _(t):
    s = Story(t, **{'reconnect-delay': 1})
    s.backup(dict(TINY, **{'cow-timeout': TIMEOUT}), **{'on-target-error': 'stop'})
    s.until(4 * MIB)
    s.target.kill()
    s.error_event('write', 'stop')
    s.witness.wait(200)  # it has waited, and goes on; the job says so though it is stopped
    s.fails('for room for its old data')
    assert TIMEOUT * 0.9 < s.end(good=False) < TIMEOUT + AT_ONCE


def full_target(policy, action, resume):
    @test(f'the target is full for a while, policy {policy}: nothing that was staged is lost')
    def _(t):
        s = Story(t)
        s.backup(AMPLE, **{'on-target-error': policy})
        s.until(4 * MIB)
        s.target.fill_up(True)
        s.error_event('write', action)
        s.witness.wait(500)
        if resume:
            assert s.job()['io-status'] == 'nospace', s.job()
            assert s.job()['paused'], s.job()
        s.target.fill_up(False)
        if resume:
            s.d.qmp('block-job-resume', device='j')
        s.d.qmp.job_ok('j')
        assert s.end(good=True) < AT_ONCE


full_target('enospc', 'stop', True)
full_target('stop', 'stop', True)
full_target('ignore', 'ignore', False)


@test('the target is full, policy report: the backup says so')
def _(t):
    s = Story(t)
    s.backup(AMPLE)
    s.until(4 * MIB)
    s.target.fill_up(True)
    s.fails('No space left on device')
    assert s.end(good=False) < AT_ONCE


@test('the scratch is full: writes wait for cow-timeout, then the backup breaks and says how large it is')
def _(t):
    s = Story(t)
    s.backup({'ram': 64 * KIB, 'scratch': 2 * MIB, 'cow-timeout': TIMEOUT})
    s.stop_target()
    s.error_event('write', 'report')
    s.witness.wait(200)
    s.target.go_on()
    error = s.fails('2048 KiB of scratch')
    assert 'which failed' not in error, error
    assert s.end(good=False) < TIMEOUT + AT_ONCE


class ScratchNode(Story):
    """The scratch is a node of the user's, on a blkdebug with a rule."""

    def __init__(self, t, *rules, **more):
        super().__init__(t, **more)
        self.d.add(**on_blkdebug('scratch', t.image('scratch.img', 32 * MIB), *rules))

    def stage(self, **more):
        return {'scratch-node': 'scratch', 'ram': MIB, **{k.replace('_', '-'): v
                                                          for k, v in more.items()}}


@test('a scratch that cannot be written: what there is of memory does, and the backup is good')
def _(t):
    s = ScratchNode(t, rule('write'))
    s.backup(s.stage(when_full='block'))
    s.until(4 * MIB)
    assert s.job()['staged-scratch-limit'] == 32 * MIB, s.job()
    s.d.qmp.job_ok('j')
    s.end(good=True)


@test('a scratch that cannot be written, and then memory is full: the error says what failed')
def _(t):
    s = ScratchNode(t, rule('write'))
    s.backup(s.stage(cow_timeout=TIMEOUT))
    s.stop_target()
    s.error_event('write', 'report')
    s.target.go_on()
    s.fails('32768 KiB of scratch, which failed: Input/output error')
    assert s.end(good=False) < TIMEOUT + AT_ONCE


@test('a scratch that cannot be read back: the backup breaks, the guest goes on')
def _(t):
    s = ScratchNode(t, rule('read'))
    s.target.stop()
    s.backup(s.stage())
    while (s.job() or {'staged-scratch': -1})['staged-scratch'] == 0:
        s.witness.wait(10)  # or it has been read back, in vain, already
    s.target.go_on()
    s.fails("Old data of 'src' could not be read back from the scratch: Input/output error")
    assert s.end(good=False) < AT_ONCE


def unreadable_source(policy):
    @test(f'old data that cannot be read, policy {policy}: the backup breaks, the write is done')
    def _(t):
        s = Story(t, writers=0, source_rules=[rule('read', once=True, sector=LATE // 512)])
        s.backup(AMPLE, speed=MIB, **{'on-source-error': policy})
        h = s.client()
        h.pwrite(b'\x5a' * (4 * KIB), LATE)
        s.error_event('read', 'report')
        s.fails("The old data in front of a write to 'src' could not be read: Input/output error")
        assert h.pread(4 * KIB, LATE) == b'\x5a' * (4 * KIB)
        h.pwrite(b'\xa5' * (4 * KIB), LATE + MIB)
        h.shutdown()
        s.d.close()
        with open(s.src, 'rb') as f:
            f.seek(LATE)
            assert f.read(4 * KIB) == b'\x5a' * (4 * KIB)


unreadable_source('report')
unreadable_source('ignore')


class Hose:
    """A guest that overwrites a disk from its start, so many requests at a time."""

    BYTES, DEPTH = 64 * KIB, 8

    def __init__(self, h, size):
        self.h, self.size, self.at, self.acked = h, size, 0, 0

    def run(self, until):
        """Goes on until until() says so, or all is overwritten; what is under way stays so."""
        while self.at < self.size and not until():
            while self.h.aio_in_flight() < self.DEPTH and self.at < self.size:
                buf = nbd.Buffer.from_bytearray(bytearray(b'\xc3' * self.BYTES))
                self.h.aio_pwrite(buf, self.at, self._done)
                self.at += self.BYTES
            self.h.poll(10)

    def _done(self, error):
        assert error.value == 0, error.value
        self.acked += self.BYTES
        return 1

    def finish(self):
        while self.h.aio_in_flight():
            self.h.poll(-1)


@test('memory and scratch stay within what was said, however much the guest overwrites')
def _(t):
    ram, scratch, size = 4 * MIB, 64 * MIB, 160 * MIB
    s = Story(t, size=size, writers=0)
    h = s.client()
    hose = Hose(h, 32 * MIB)
    hose.run(lambda: False)  # what the export needs is not the backup's
    hose.finish()
    before = s.d.high_water_kib()
    s.backup({'ram': ram, 'scratch': scratch, 'when-full': 'block'}, speed=0)
    s.stop_target()
    hose = Hose(h, size)
    taken = []

    def full():
        taken.append(max(s.scratch_files(), default=0))
        assert os.listdir(s.folder) == []
        job = s.job()
        assert job['staged-ram'] <= ram and job['staged-scratch'] <= scratch, job
        return job['staged-ram'] + job['staged-scratch'] >= ram + scratch
    hose.run(full)
    grown = s.d.high_water_kib() - before
    print(f'# {grown} KiB of memory for {ram // KIB} KiB; {max(taken) // KIB} KiB of scratch', flush=True)
    assert grown * KIB < ram + 16 * MIB or os.environ.get('QBLK_SANITIZED'), grown
    # And a block more, where the file system keeps the map of a file in one.
    assert scratch / 2 < max(taken) <= scratch + 64 * KIB, max(taken)
    s.target.go_on()
    hose.run(lambda: False)
    hose.finish()
    s.d.qmp.job_ok('j')
    s.d.qmp.job_gone('j')
    assert s.scratch_files() == []
    grown = s.d.high_water_kib() - before
    assert grown * KIB < ram + 16 * MIB or os.environ.get('QBLK_SANITIZED'), grown
    h.shutdown()
    s.d.close()
    assert os.listdir(s.folder) == []
    s.target.kill()
    # The first 32 MiB were overwritten before the instant.
    with open(s.dst, 'rb') as b, open(s.initial, 'rb') as i, open(s.src, 'rb') as a:
        assert b.read(32 * MIB) == b'\xc3' * (32 * MIB)
        i.seek(32 * MIB)
        assert b.read() == i.read()
        assert a.read().count(b'\xc3') == size


@test('while the target stands still the numbers tell, and who asked for it gets one event')
def _(t):
    s = Story(t, writers=0)
    asked = s.d.connect(negotiate=False)
    assert 'backup-staging-events' in asked.greeting['QMP']['capabilities'], asked.greeting
    asked('qmp_capabilities', enable=['backup-staging-events'])
    s.backup({'ram': MIB, 'scratch': 4 * MIB, 'cow-timeout': 40})
    s.stop_target()
    h, at, job = s.client(), 8 * MIB, s.job()
    assert (job['staged-ram-limit'], job['staged-scratch-limit']) == (MIB, 4 * MIB), job
    while job['staged-ram'] + job['staged-scratch'] < 0.9 * 5 * MIB:
        h.pwrite(b'\x5a' * (64 * KIB), at)
        at += 64 * KIB
        job = s.job()
    e = asked.event('BACKUP_STAGING')['data']
    assert e['device'] == 'j' and e['limit'] == 5 * MIB, e
    assert 80 <= e['percent'] <= 100 and 0.8 * e['limit'] <= e['staged'] <= e['limit'], e
    asked('query-block-jobs')
    s.d.qmp('query-block-jobs')
    for client in (asked, s.d.qmp):
        assert 'BACKUP_STAGING' not in [e['event'] for e in client.events], client.events
    assert job['captured'] >= 0.9 * (at - 8 * MIB) and job['captured'] <= at, job
    assert 0 < job['guest-wait-p99-us'] <= job['guest-wait-max-us'] < AT_ONCE * 1e6, job
    assert job['staged-ram'] > 0 and job['staged-scratch'] > 0, job
    s.target.go_on()
    s.d.qmp.job_ok('j')
    assert 'BACKUP_STAGING' not in [e['event'] for e in s.d.qmp.events]
    asked.close()
    h.shutdown()
    s.d.close()
    s.target.kill()
    with open(s.dst, 'rb') as b, open(s.initial, 'rb') as i:
        assert b.read() == i.read()


def ended_by_a_signal(when_full, **more):
    @test(f'SIGTERM while the target stands still and there is no room, when-full={when_full}')
    def _(t):
        s = Story(t)
        s.backup(dict(TINY, **{'when-full': when_full}, **more))
        s.stop_target()
        while not s.d.qmp.job('j')['guest-wait-max-us']:
            time.sleep(0.01)
        time.sleep(1)  # nothing happens any more
        s.d.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        s.d.process.wait(DEADLINE)
        took = time.monotonic() - began
        print(f'# status {s.d.process.returncode} after {took:.2f} s', flush=True)
        s.d.expect_status = None
        s.witness.stop()
        s.target.go_on()
        s.target.kill()
        assert os.listdir(s.folder) == []
        s.witness.final([s.src], [s.initial])
        assert took < 5 + SLOW, took
        # The target may be what hung; a guest, or a job, must not be.
        assert 'exports' not in s.d.said() and 'jobs' not in s.d.said(), s.d.said()


ended_by_a_signal('break')
ended_by_a_signal('block')


def ends_without_trace(how):
    @test(f'nothing is left in the scratch folder: {how}')
    def _(t):
        s = Story(t)
        s.backup({'ram': 64 * KIB, 'scratch': 32 * MIB})
        s.stop_target()
        while not s.job()['staged-scratch']:
            s.witness.wait(10)
        assert len(s.scratch_files()) == 1
        assert os.listdir(s.folder) == []
        if how == 'kill -9':
            s.d.kill()
            s.witness.stop()
            assert os.listdir(s.folder) == []
            s.target.go_on()
            s.target.kill()
            s.witness.final([s.src], [s.initial])
            return
        if how == 'cancel':
            s.d.qmp('block-job-cancel', device='j', force=True)
            assert s.d.qmp.job_end('j')['event'] == 'BLOCK_JOB_CANCELLED'
            s.target.go_on()
        else:
            if how == 'failure':
                s.target.fill_up(True)
            s.target.go_on()
            e = s.d.qmp.job_end('j')
            assert ('error' in e['data']) == (how == 'failure'), e
        s.d.qmp.job_gone('j')
        assert s.scratch_files() == []
        s.end(good=how == 'success')


for each in ('success', 'failure', 'cancel', 'kill -9'):
    ends_without_trace(each)


if __name__ == '__main__':
    sys.argv = [a for a in sys.argv if a != '--nightly']
    main()
