#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""quit and signals end the daemon within 5 s in order, whatever servers do, and nothing acknowledged is lost.

A witness writes to a healthy disk all along, and its writes are there afterwards.  What was given up is said.
"""
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbd  # noqa: E402
from qblk import DEADLINE, KIB, MIB, SLOW, Gone, QmpError  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402
from target import Target  # noqa: E402
from witness import copy, fill  # noqa: E402

SECONDS = 5 + 1 * SLOW  # with what it takes to begin
NIGHTLY = '--nightly' in sys.argv or int(os.environ.get('ROUNDS', '0')) > 1
if '--nightly' in sys.argv:
    sys.argv.remove('--nightly')
SIZE = 16 * MIB


class Story:
    """A healthy disk with clients, and servers that will hang."""

    def __init__(self, t, servers=1):
        need_qblk('ends whatever hangs')
        self.t = t
        self.d = t.daemon()
        self.src = fill(t.path('src.img'), SIZE, t.random.randrange(1 << 32))
        self.initial = copy(self.src, t.path('src.initial'))
        self.d.file('src', self.src)
        self.d.export('src')
        self.servers = [Target(t, t.image(f'far{i}.img', SIZE), f'far{i}') for i in range(servers)]
        for i, server in enumerate(self.servers):
            self.d.add(driver='raw', node_name=f'far{i}', file=server.node(**{'node-name': f'nbd{i}'}))
        self.witness = t.witness(self.d.uri(), writers=2, survive=True)
        self.witness.wait(50)
        self.beside = []

    def hang(self):
        for server in self.servers:
            server.stop()

    def in_background(self, command, arguments):
        """A command whose reply does not come."""
        qmp = self.d.connect()

        def run():
            try:
                qmp(command, arguments)
            except (QmpError, Gone, OSError):
                pass
        thread = threading.Thread(target=run)
        thread.start()
        self.beside.append(thread)
        return qmp

    def client(self, name):
        handle = nbd.NBD()
        handle.connect_uri(self.d.uri(name))
        return handle

    def end(self, how, *words):
        begun = time.monotonic()
        if how == 'quit':
            try:
                self.d.qmp('quit')
            except (Gone, OSError):
                pass
        else:
            self.d.process.send_signal(how)
        self.d.process.wait(DEADLINE)
        took = time.monotonic() - begun
        assert took < SECONDS, f'{took:.1f} s: {self.d.said()}'
        assert self.d.process.returncode == 0, f'{self.d.process.returncode}: {self.d.said()}'
        for word in words:
            assert word in self.d.said(), f'{word!r} is not in: {self.d.said()}'
        for thread in self.beside:
            thread.join(DEADLINE)
        self.witness.stop()
        self.witness.final([self.src], [self.initial])
        for server in self.servers:
            server.go_on()
            server.kill()


def job(command, **options):
    def prepare(s):
        s.d.qmp(command, {'job-id': 'j', 'device': 'src', 'target': 'far0', 'sync': 'full', **options})
        if command == 'blockdev-mirror' and 'speed' not in options:
            s.d.qmp.event('BLOCK_JOB_READY')
        s.witness.wait(20)
        s.hang()
        if 'copy-mode' not in options:  # else clients wait for the server, which is what they have asked for
            s.witness.wait(200)
            s.witness.wait(20)
        return ()
    return prepare


def mirror_at_its_end(command):
    def prepare(s):
        job('blockdev-mirror')(s)
        s.d.qmp(command, {'device': 'j'})
        return ()
    return prepare


def unflushed(s):
    for i, _ in enumerate(s.servers):
        s.d.export(f'far{i}', f'far{i}')
        client = s.client(f'far{i}')
        client.pwrite(b'x' * (64 * KIB), 0)
        client.shutdown()
    s.hang()
    return tuple(f'nbd{i}' for i, _ in enumerate(s.servers))


def client_waits(s):
    s.d.export('far0', 'far0')
    client = s.client('far0')
    s.hang()
    client.aio_pwrite(b'y' * (64 * KIB), 0)
    client.poll(0)
    s.keep = client
    return ()


def killed(s):
    job('blockdev-mirror')(s)
    s.servers[0].go_on()
    s.servers[0].kill()
    s.witness.wait(100)
    s.servers[0].start()
    s.servers[0].stop()
    s.witness.wait(100)
    return ()


def connecting(s):
    s.hang()
    s.in_background('blockdev-add', s.servers[0].node(**{'node-name': 'more'}))
    s.witness.wait(100)
    return ()


def removing(s):
    unflushed(s)
    s.d.qmp('block-export-del', {'id': 'export-far0'})
    s.d.qmp.event('BLOCK_EXPORT_DELETED')
    s.in_background('blockdev-del', {'node-name': 'far0'})
    s.witness.wait(100)
    return ()


def throttled(s):
    s.d.qmp('object-add', {'qom-type': 'throttle-group', 'id': 'g', 'limits': {'iops-total': 1}})
    s.d.add(driver='throttle', node_name='slow', throttle_group='g', file='far0')
    s.d.export('slow', 'slow')
    client = s.client('slow')
    for i in range(50):
        client.aio_pwrite(b'z' * 512, 512 * i)
    client.poll(0)
    s.keep = client
    return ()


CASES = [
    ('a mirror whose server hangs', job('blockdev-mirror', speed=4 * MIB), 1),
    ('a mirror that is ready, and its server hangs', job('blockdev-mirror'), 1),
    ('a mirror in write-blocking mode whose server hangs',
     job('blockdev-mirror', speed=MIB, **{'copy-mode': 'write-blocking'}), 1),
    ('a mirror that completes, and its server hangs', mirror_at_its_end('block-job-complete'), 1),
    ('a mirror that is cancelled, and its server hangs', mirror_at_its_end('block-job-cancel'), 1),
    ('a mirror with a long cancel-timeout', job('blockdev-mirror', **{'cancel-timeout': 3600}), 1),
    ('a mirror whose server was killed, and hangs when it is back', killed, 1),
    ('a backup whose server hangs', job('blockdev-backup', speed=4 * MIB), 1),
    ('writes that nobody flushed on a server that hangs', unflushed, 1),
    ('writes that nobody flushed on six servers that hang', unflushed, 6),
    ('a client that waits for a server that hangs', client_waits, 1),
    ('a command that connects to a server that hangs', connecting, 1),
    ('a command that removes a node whose server hangs', removing, 1),
    ('clients that wait for a throttle', throttled, 1),
]


def each(sentence, prepare, servers, how):
    name = how if how == 'quit' else how.name

    @test(f'{name}: {sentence}')
    def _(t):
        s = Story(t, servers)
        s.end(how, *prepare(s))


for number, (a_sentence, a_prepare, n) in enumerate(CASES):
    ways = ['quit', signal.SIGTERM, signal.SIGINT]
    for a_way in ways if NIGHTLY else ways[number % 3:][:1] if number % 2 else []:
        each(a_sentence, a_prepare, n, a_way)


@test('SIGTERM while the command line is being obeyed, and a server hangs')
def _(t):
    need_qblk('ends whatever hangs')
    server = Target(t, t.image('far.img', MIB))
    server.stop()
    import subprocess
    from qblk import DAEMON, die_with_parent
    p = subprocess.Popen([DAEMON, '--blockdev', 'driver=nbd,node-name=n,server.type=unix,server.path='
                          + server.path], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                         preexec_fn=die_with_parent)
    with open(f'/proc/{p.pid}/status') as f:
        mask = 0
    while not mask & (1 << (signal.SIGTERM - 1)):
        # Until it handles the signal.
        with open(f'/proc/{p.pid}/status') as f:
            mask = next(int(line.split()[1], 16) for line in f if line.startswith('SigCgt'))
    p.terminate()
    p.communicate(timeout=SECONDS)
    assert p.returncode == 0, p.returncode
    server.go_on()


main()
