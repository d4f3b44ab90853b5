#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules M1 to M6 of the mirror job, and H1: a disk moves to another place while clients write.

The witness writes numbered sectors over NBD all along.  After the switch-over the target holds every
write that was acknowledged, and what was left behind is the disk at one instant of the command.
"""
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import KIB, MIB, SLOW, die_with_parent, have, same  # noqa: E402
from tap import Skip, main, need_command, need_qblk, test  # noqa: E402
from target import wait_for_socket  # noqa: E402
from witness import copy, fill  # noqa: E402

MODES = ['background', 'write-blocking']


class Story:
    """A disk with clients, and a target."""

    def __init__(self, t, iothread=False, writers=3, target=None):
        self.t = t
        self.d = t.daemon(*(['--object', 'iothread,id=io0'] if iothread else []))
        need_command(self.d, 'blockdev-mirror')
        self.size = t.random.randrange(8 * MIB, 48 * MIB, 512)
        self.src = fill(t.path('src.img'), self.size, t.random.randrange(1 << 32), holes=30)
        self.initial = copy(self.src, t.path('src.initial'))
        self.d.file('src', self.src)
        self.d.export('src', **({'iothread': 'io0'} if iothread else {}))
        self.dst = fill(t.path('dst.img'), self.size, t.random.randrange(1 << 32), holes=30)
        if target:
            self.d.add(driver='raw', node_name='dst', file=target(self.dst))
        else:
            self.d.file('dst', self.dst)
        self.witness = t.witness(self.d.uri(), writers=writers)
        self.witness.wait(100)

    def mirror(self, **options):
        self.d.qmp('blockdev-mirror', {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'full',
                                       **{k.replace('_', '-'): v for k, v in options.items()}})

    def ready(self):
        self.d.qmp.event('BLOCK_JOB_READY')
        self.witness.wait(100)

    def end(self, command):
        """Complete or cancel: the time of the switch-over."""
        self.d.qmp(command, {'device': 'j'})
        sent = self.d.qmp.sent_ns
        self.d.qmp.job_ok('j')
        window = sent, time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self.witness.wait(100)
        self.witness.stop()
        self.d.close()
        return window

    def pivoted(self):
        window = self.end('block-job-complete')
        self.witness.final([self.dst], [self.initial])
        self.witness.instant([self.src], [self.initial], *window)

    def kept(self):
        window = self.end('block-job-cancel')
        self.witness.final([self.src], [self.initial])
        self.witness.instant([self.dst], [self.initial], *window)


def each_mode(mode):
    @test(f'{mode}: clients go on with the target, which holds all they were told')
    def _(t):
        s = Story(t)
        s.mirror(copy_mode=mode, granularity=t.random.choice([4 * KIB, 64 * KIB, MIB]))
        s.ready()
        s.pivoted()

    @test(f'{mode}: the same in an iothread')
    def _(t):
        need_qblk('moves the target to the iothread of the source')
        s = Story(t, iothread=True)
        s.mirror(copy_mode=mode)
        s.ready()
        s.pivoted()

    @test(f'{mode}: a cancelled mirror that was ready is the disk at that instant')
    def _(t):
        s = Story(t)
        s.mirror(copy_mode=mode)
        s.ready()
        s.kept()


for each in MODES:
    each_mode(each)


class Server:
    """qemu-nbd with the target, which can be killed, stopped and started again."""

    def __init__(self, t):
        if not have('qemu-nbd'):
            raise Skip('qemu-nbd is not installed')
        self.path = t.path('server.sock')
        self.image = self.process = None

    def start(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.process = subprocess.Popen(
            ['qemu-nbd', '-t', '-e', '16', '-f', 'raw', '-k', self.path, self.image],
            stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
        wait_for_socket(self.process, self.path)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def target(self, image):
        self.image = image
        self.start()
        return {'driver': 'nbd', 'server': {'type': 'unix', 'path': self.path}, 'export': ''}


@test('the target is on an NBD server')
def _(t):
    s = Story(t, target=Server(t).target)
    s.mirror()
    s.ready()
    s.pivoted()


@test('the server of the target is killed and started again: nobody notices')
def _(t):
    need_qblk('connects again')
    server = Server(t)
    s = Story(t, target=server.target)
    s.mirror(speed=16 * MIB)
    s.witness.wait(200)
    server.kill()
    s.witness.wait(100)
    server.start()
    s.ready()
    server.kill()
    s.witness.wait(100)
    server.start()
    s.pivoted()


@test('the server of the target is silent: clients go on, and a forced cancel ends')
def _(t):
    need_qblk('gives up what it asked a silent server')
    for phase in ['running', 'ready', 'completing']:
        server = Server(t)
        s = Story(t, target=server.target)
        s.mirror(cancel_timeout=2, **({'speed': MIB} if phase == 'running' else {}))
        if phase != 'running':
            s.ready()
        server.process.send_signal(signal.SIGSTOP)
        if phase == 'completing':
            s.d.qmp('block-job-complete', {'device': 'j'})
        s.witness.wait(500)
        s.d.qmp('block-job-cancel', {'device': 'j', 'force': True})
        begun = time.monotonic()
        s.d.qmp.event('BLOCK_JOB_CANCELLED')
        assert time.monotonic() - begun < 2 + SLOW
        s.witness.wait(100)
        s.witness.stop()
        server.process.send_signal(signal.SIGCONT)
        s.d.close()
        server.kill()
        s.witness.final([s.src], [s.initial])
        s.t.fresh()


@test('drive-mirror makes a file of its own, and clients go on with it')
def _(t):
    need_command(t.daemon(nbd=False), 'drive-mirror')
    s = Story(t)
    s.dst = t.path('made.img')
    s.d.qmp('drive-mirror', {'job-id': 'j', 'device': 'src', 'target': s.dst, 'format': 'raw',
                             'sync': 'full'})
    s.ready()
    s.pivoted()


@test('the copy mode changes while it runs, and a mirror waits for job-finalize as long as it takes')
def _(t):
    need_qblk('changes the copy mode both ways')
    s = Story(t)
    s.mirror(**{'auto-finalize': False})
    for mode in ['write-blocking', 'background', 'write-blocking']:
        s.d.qmp('block-job-change', {'id': 'j', 'type': 'mirror', 'copy-mode': mode})
        s.witness.wait(50)
        assert s.d.qmp('query-block-jobs')[0]['copy-mode'] == mode
    s.ready()
    s.d.qmp('block-job-complete', {'device': 'j'})
    s.d.qmp.event('BLOCK_JOB_PENDING')
    s.witness.wait(500)
    s.d.qmp('job-finalize', {'id': 'j'})
    window = s.d.qmp.sent_ns
    s.d.qmp.job_ok('j')
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    s.witness.wait(100)
    s.witness.stop()
    s.d.close()
    s.witness.final([s.dst], [s.initial])
    s.witness.instant([s.src], [s.initial], window, after)


@test('a forced cancel leaves the disk with its clients')
def _(t):
    s = Story(t)
    s.mirror(speed=MIB)
    s.witness.wait(200)
    s.d.qmp('block-job-cancel', {'device': 'j', 'force': True})
    s.d.qmp.event('BLOCK_JOB_CANCELLED')
    s.witness.wait(100)
    s.witness.stop()
    s.d.close()
    s.witness.final([s.src], [s.initial])


@test('an idle disk: qemu-img finds both the same')
def _(t):
    if not have('qemu-img'):
        raise Skip('qemu-img is not installed')
    s = Story(t)
    s.witness.stop()
    s.mirror()
    s.d.qmp.event('BLOCK_JOB_READY')
    s.d.qmp('block-job-cancel', {'device': 'j'})
    s.d.qmp.job_ok('j')
    s.d.close()
    assert same(s.src, s.dst)
    subprocess.check_call(['qemu-img', 'compare', '-f', 'raw', '-F', 'raw', s.src, s.dst],
                          stdout=subprocess.DEVNULL)


main()
