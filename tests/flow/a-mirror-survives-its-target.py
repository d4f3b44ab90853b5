#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of a mirror when its target or its source fails, in each phase: the table of the manual.

Clients write all along.  Whatever happens each write of theirs ends well, is on the disk that they use then, and
the next mirror, to a healthy target, comes to its end.

    tests/flow/a-mirror-survives-its-target.py --nightly       all of phases, events and policies; else a few
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import MIB, SLOW  # noqa: E402
from tap import main, need_command, need_qblk, test  # noqa: E402
from target import Target  # noqa: E402
from witness import copy, fill  # noqa: E402

NIGHTLY = '--nightly' in sys.argv or int(os.environ.get('ROUNDS', '0')) > 1
if '--nightly' in sys.argv:
    sys.argv.remove('--nightly')
SIZE = 16 * MIB
PHASES = ['first pass', 'ready, idle', 'ready', 'completing', 'leaving', 'paused']
READY = PHASES[1:5]
# Seconds for which requests are held while the server is away for good.
RECONNECT = 2
CANCEL_TIMEOUT = 1


class Story:
    """A disk with clients, its mirror, and the servers of both."""

    def __init__(self, t, phase, side='target', error='EIO', reconnect=60, **options):
        need_qblk('promises what its manual says')
        self.t, self.phase = t, phase
        self.d = t.daemon()
        need_command(self.d, 'blockdev-mirror')
        self.src = fill(t.path('src.img'), SIZE, t.random.randrange(1 << 32), holes=0)
        self.initial = copy(self.src, t.path('src.initial'))
        self.dst = t.image('dst.img', SIZE)
        self.server = Target(t, self.dst if side == 'target' else self.src, error=error,
                             requests=('pwrite', 'zero') if side == 'target' else ('pread',))
        far = self.server.node(**{'reconnect-delay': reconnect})
        self.d.add(driver='raw', node_name='src',
                   file=far if side == 'source' else {'driver': 'file', 'filename': self.src})
        self.d.add(driver='raw', node_name='dst',
                   file=far if side == 'target' else {'driver': 'file', 'filename': self.dst})
        self.d.export('src')
        self.witness = None
        if phase != 'ready, idle':
            self.write()
        self.mirror(**options)

    def write(self):
        self.witness = self.t.witness(self.d.uri(), writers=2)
        self.witness.wait(20)

    def mirror(self, **options):
        speed = {'speed': 2 * MIB} if self.phase in ('first pass', 'paused') else {}
        self.d.qmp('blockdev-mirror', {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'full',
                                       'cancel-timeout': CANCEL_TIMEOUT, **speed, **options})
        if self.phase in READY:
            self.d.qmp.event('BLOCK_JOB_READY')

    def strike(self, event):
        """@event comes in the phase; in those of the end while the job waits for its target."""
        command = {'completing': 'block-job-complete', 'leaving': 'block-job-cancel'}.get(self.phase)
        if self.phase == 'paused':
            self.d.qmp('job-pause', id='j')
            self.d.qmp.event('JOB_STATUS_CHANGE', where={'id': 'j', 'status': 'paused'})
        if command:
            self.server.stop()
            self.d.qmp(command, device='j')
            self.witness.wait(20)
        event()
        if command and self.server.process.poll() is None:
            self.server.go_on()
        if not self.witness:
            self.write()
        if self.phase == 'paused':
            self.witness.wait(20)
            self.d.qmp('job-resume', id='j')

    def clients_go_on(self, count=50):
        self.witness.wait(count)

    def cure(self):
        self.server.fill_up(False)

    def resume_if_stopped(self, seconds):
        """Resumes the job as often as it has stopped, until its end or READY."""
        end = time.monotonic() + seconds * SLOW
        while time.monotonic() < end:
            job = self.d.qmp.job('j')
            if not job:
                return
            if job['paused'] and job['io-status'] != 'ok':
                self.d.qmp('job-resume', id='j')
            if job['ready'] and self.phase not in ('completing', 'leaving'):
                return
            time.sleep(0.05)

    def succeeds(self):
        """The job does what it was asked for."""
        if self.phase in ('first pass', 'paused'):
            self.d.qmp('block-job-set-speed', {'device': 'j', 'speed': 0})
            self.d.qmp.event('BLOCK_JOB_READY')
        if self.phase in ('completing', 'leaving'):
            self.d.qmp.job_ok('j')
        else:
            self.clients_go_on()
            self.d.qmp('block-job-complete', device='j')
            self.d.qmp.job_ok('j')
        self.settle(self.src if self.phase == 'leaving' else self.dst)

    def fails(self, words):
        e = self.d.qmp.job_end('j')
        assert e['event'] == 'BLOCK_JOB_COMPLETED' and words in e['data'].get('error', ''), e
        self.settle(self.src)

    def settle(self, disk):
        """Clients are on @disk; the daemon is well."""
        self.clients_go_on()
        if os.path.exists(self.server.full_sign):
            self.cure()
        if self.d.qmp.job('j'):
            self.d.qmp.job_gone('j')
        assert self.d.qmp('query-block-jobs') == []
        node = 'src' if disk == self.src else 'dst'
        self.d.file('healthy', self.t.image('healthy.img', SIZE))
        self.d.qmp('blockdev-mirror', {'job-id': 'k', 'device': node, 'target': 'healthy', 'sync': 'full'})
        self.d.qmp.event('BLOCK_JOB_READY', where={'device': 'k'})
        self.d.qmp('block-job-complete', device='k')
        self.d.qmp.job_ok('k')
        self.clients_go_on()
        self.witness.stop()
        self.d.close()
        self.server.kill()
        self.witness.final([self.t.path('healthy.img')], [self.initial])


def ends_in_time(s):
    begun = time.monotonic()
    e = s.d.qmp.job_end('j')
    took = time.monotonic() - begun
    assert e['event'] == 'BLOCK_JOB_CANCELLED', e
    assert took < CANCEL_TIMEOUT + SLOW, f'{took:.1f} s'


def outage(t, phase):
    s = Story(t, phase)

    def event():
        s.server.kill()
        end = time.monotonic() + 5
        while time.monotonic() < end and phase != 'ready, idle':
            s.clients_go_on(1)
        time.sleep(max(end - time.monotonic(), 0))
        s.server.start()
    s.strike(event)
    s.succeeds()


def killed(t, phase):
    s = Story(t, phase, reconnect=RECONNECT)
    s.strike(s.server.kill)
    s.fails('Input/output error')


def stopped(t, phase):
    s = Story(t, phase)

    def event():
        s.server.stop()
        time.sleep(2)
        s.server.go_on()
    s.strike(event)
    s.succeeds()


def cancelled(t, phase):
    s = Story(t, phase)
    if phase in ('completing', 'leaving'):
        s.server.stop()
        s.d.qmp('block-job-complete' if phase == 'completing' else 'block-job-cancel', device='j')
    else:
        s.strike(s.server.stop)
    s.clients_go_on(100)
    s.d.qmp('block-job-cancel', device='j', force=True)
    ends_in_time(s)
    s.server.go_on()
    s.settle(s.src)


def failing(side, error, policy):
    words = {'EIO': 'Input/output error', 'ENOSPC': 'No space left on device'}[error]

    def run(t, phase):
        s = Story(t, phase, side=side, error=error, **{f'on-{side}-error': policy})
        s.strike(lambda: s.server.fill_up(True))
        s.clients_go_on()
        if policy == 'report' or (policy == 'enospc' and error != 'ENOSPC'):
            s.fails(words)
            return
        e = s.d.qmp.event('BLOCK_JOB_ERROR')
        action = e['data']['action']
        if policy == 'ignore':
            assert action in ('ignore', 'report'), e
        else:
            assert action in ('stop', 'report'), e
        if action == 'report':  # the switch-over had begun
            assert phase in ('completing', 'leaving'), e
            s.fails(words)
            return
        s.clients_go_on(100)
        s.cure()
        s.resume_if_stopped(60)
        s.succeeds()
    return run


EVENTS = {
    'an outage of 5 s is not noticed': (outage, PHASES),
    'the server is killed for good: the mirror fails when reconnect-delay is over': (killed, PHASES),
    'the server stands still for 2 s: it is not noticed': (stopped, PHASES),
    'the server stands still: a forced cancel ends within a second of cancel-timeout':
        (cancelled, PHASES[:5]),
}
for the_side, errors, the_phases in [('target', ('EIO', 'ENOSPC'), PHASES),
                                     ('source', ('EIO',), ['first pass', 'ready, idle', 'ready', 'paused'])]:
    for the_error in errors:
        for the_policy in ('report', 'ignore', 'stop', 'enospc'):
            if the_policy != 'enospc' or the_side == 'target':
                EVENTS[f'{the_error} of the {the_side}, policy {the_policy}'] = (
                    failing(the_side, the_error, the_policy), the_phases)

FEW = {('first pass', 'an outage of 5 s is not noticed'),
       ('completing', 'the server is killed for good: the mirror fails when reconnect-delay is over'),
       ('paused', 'the server stands still for 2 s: it is not noticed'),
       ('leaving', 'the server stands still: a forced cancel ends within a second of cancel-timeout'),
       ('ready', 'ENOSPC of the target, policy stop'),
       ('ready, idle', 'EIO of the target, policy report'),
       ('first pass', 'EIO of the source, policy ignore')}


def each(phase, name, run):
    @test(f'{phase}: {name}')
    def _(t):
        run(t, phase)


for the_name, (the_run, the_phases) in EVENTS.items():
    for the_phase in the_phases:
        if NIGHTLY or (the_phase, the_name) in FEW:
            each(the_phase, the_name, the_run)

main()
