#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules N3 to N6 of the nbd driver, H1, H2 and H6: the target of a backup is an NBD server.

Whatever the server is (nbdkit, qemu-nbd, a daemon of ours) and whatever becomes of it: a backup that
reports success is one instant, one that cannot be made says why, a cancel ends, and the disk is whole.
"""
import os
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import DEADLINE, MIB, die_with_parent, have, same  # noqa: E402
from tap import Skip, main, need_qblk, test  # noqa: E402
from target import wait_for_socket  # noqa: E402
from witness import copy, fill  # noqa: E402

SIZE = 24 * MIB
# So slow that whatever is done to the server is done in the middle.
SPEED = 8 * MIB


class Server:
    """An NBD server of one raw image, which can be killed, stopped and started again."""

    def __init__(self, t, kind, image):
        self.path = t.path('server.sock')
        self.image = image
        self.kind = kind
        self.process = None
        self.start()

    def start(self):
        if not have(self.kind):
            raise Skip(f'{self.kind} is not installed')
        if os.path.exists(self.path):
            os.unlink(self.path)
        command = {
            'nbdkit': ['nbdkit', '-f', '-U', self.path, 'file', self.image],
            'qemu-nbd': ['qemu-nbd', '-t', '-e', '16', '-f', 'raw', '-k', self.path, self.image],
        }[self.kind]
        with open(self.path + '.log', 'ab') as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=die_with_parent)
        wait_for_socket(self.process, self.path)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def signal(self, number):
        self.process.send_signal(number)

    def node(self, **more):
        return {'driver': 'nbd', 'server': {'type': 'unix', 'path': self.path}, 'export': '', **more}

    def uri(self):
        return f'nbd+unix:///?socket={self.path}'


class Story:
    """A disk that is written to, and a server for its backup."""

    def __init__(self, t, kind='nbdkit', export='disk', add=True, **options):
        need_qblk('has this nbd driver')
        self.d = t.daemon()
        self.src = fill(t.path('src.img'), SIZE, t.random.randrange(1 << 30), holes=0)
        self.initial = copy(self.src, t.path('src.initial'))
        self.dst = t.image('dst.img', SIZE)
        self.server = Server(t, kind, self.dst)
        self.d.file('src', self.src)
        self.d.export('src', export)
        if add:
            self.d.add(driver='raw', node_name='dst', file=self.server.node(**options))
        self.witness = t.witness(self.d.uri(export), writers=3)
        self.witness.wait(50)
        self.window = None

    def backup(self, speed=SPEED, **options):
        self.d.qmp('blockdev-backup', {'job-id': 'j', 'device': 'src', 'target': 'dst',
                                       'sync': 'full', 'speed': speed, **options})
        self.window = self.d.qmp.sent_ns, self.d.qmp.replied_ns

    def until_half(self):
        """The job says how far it is; to look is all there is."""
        while self.d.qmp.job('j')['offset'] < SIZE / 3:
            time.sleep(0.01)

    def good(self):
        """The backup has succeeded: it is an instant, and the disk is whole."""
        self.witness.stop()
        self.d.close()
        self.witness.final([self.src], [self.initial])
        self.witness.instant([self.dst], [self.initial], *self.window)

    def whole(self):
        """There is no backup, and the disk is whole, also while clients write on."""
        self.witness.wait(50)
        self.witness.stop()
        self.witness.final([self.src], [self.initial])


def every_server(kind):
    @test(f'a backup to {kind} while clients write is one instant')
    def _(t):
        s = Story(t, kind)
        s.backup(speed=0)
        s.d.qmp.job_ok('j')
        s.good()

    @test(f'{kind} is killed and started again in the middle: nobody notices')
    def _(t):
        s = Story(t, kind)
        s.backup()
        s.until_half()
        s.server.kill()
        s.server.start()
        s.d.qmp.job_ok('j')
        s.good()


every_server('nbdkit')
every_server('qemu-nbd')


@test('drive-backup takes the URI of a server')
def _(t):
    s = Story(t, 'qemu-nbd', add=False)
    s.d.qmp('drive-backup', {'job-id': 'j', 'device': 'src', 'target': s.server.uri(),
                             'format': 'raw', 'mode': 'existing', 'sync': 'full'})
    s.window = s.d.qmp.sent_ns, s.d.qmp.replied_ns
    s.d.qmp.job_ok('j')
    s.good()


@test('a server cannot be made by drive-backup')
def _(t):
    s = Story(t, add=False)
    e = s.d.qmp.error('drive-backup', {'job-id': 'j', 'device': 'src', 'target': s.server.uri(),
                                       'format': 'raw', 'sync': 'full'})
    assert 'mode' in e.desc, e.desc
    assert not os.path.exists(s.server.uri()), 'a file of that name was made'
    s.whole()


@test('a backup from one daemon to another, in an iothread')
def _(t):
    need_qblk('has this nbd driver')
    other = t.daemon()
    dst = t.image('dst.img', SIZE)
    other.file('dst', dst)
    other.export('dst', 'backup')
    d = t.daemon('--object', 'iothread,id=io0')
    src = fill(t.path('src.img'), SIZE, t.random.randrange(1 << 30), holes=0)
    initial = copy(src, t.path('src.initial'))
    d.file('src', src)
    d.export('src', iothread='io0')
    d.add(driver='nbd', node_name='dst', export='backup', discard='unmap',
          server={'type': 'unix', 'path': other.nbd_path})
    w = t.witness(d.uri(), writers=3)
    w.wait(50)
    d.qmp('blockdev-backup', {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'full'})
    window = d.qmp.sent_ns, d.qmp.replied_ns
    d.qmp.job_ok('j')
    w.stop()
    d.close()
    other.close()
    w.final([src], [initial])
    w.instant([dst], [initial], *window)


@test('a backup over TCP, to a host by its name')
def _(t):
    need_qblk('has this nbd driver')
    if not have('nbdkit'):
        raise Skip('nbdkit is not installed')
    try:
        socket.getaddrinfo('localhost', 0, type=socket.SOCK_STREAM)
    except socket.gaierror:
        raise Skip('this machine does not know the name localhost') from None
    dst = t.image('dst.img', SIZE)
    with socket.create_server(('127.0.0.1', 0)) as listener:
        port = listener.getsockname()[1]
        # nbdkit takes the socket as a service manager hands it over: nobody else can have the port.
        command = 'exec 3<&$1; export LISTEN_FDS=1 LISTEN_PID=$$; exec nbdkit -f file "$0"'
        server = subprocess.Popen(['sh', '-c', command, dst, str(listener.fileno())],
                                  stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  pass_fds=[listener.fileno()], preexec_fn=die_with_parent)
    d = t.daemon()
    src = fill(t.path('src.img'), SIZE, t.random.randrange(1 << 30), holes=0)
    d.file('src', src)
    d.add(driver='nbd', node_name='dst', open_timeout=10,
          server={'type': 'inet', 'host': 'localhost', 'port': str(port), 'keep-alive': True})
    d.qmp('blockdev-backup', {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'full'})
    d.qmp.job_ok('j')
    d.close()
    server.kill()
    server.wait()
    assert same(src, dst)


@test('a server that stands still for a while is waited for')
def _(t):
    s = Story(t)
    s.backup()
    s.until_half()
    s.server.signal(signal.SIGSTOP)
    time.sleep(3)  # this is what is tested: the time in which nothing happens
    s.server.signal(signal.SIGCONT)
    s.d.qmp.job_ok('j')
    s.good()


@test('a server that is gone for good: the backup says so, the disk goes on')
def _(t):
    s = Story(t, **{'reconnect-delay': 1})
    s.backup()
    s.until_half()
    s.server.kill()
    e = s.d.qmp.job_end('j')
    assert e['event'] == 'BLOCK_JOB_COMPLETED', e
    assert 'Input/output error' in e['data'].get('error', ''), e
    s.whole()


@test('a server that comes back with another size is not taken')
def _(t):
    s = Story(t, **{'reconnect-delay': 1})
    s.backup()
    s.until_half()
    s.server.kill()
    os.truncate(s.dst, SIZE + MIB)
    s.server.start()
    e = s.d.qmp.job_end('j')
    assert 'Input/output error' in e['data'].get('error', ''), e
    with open(s.dst, 'rb') as f:
        f.seek(SIZE)
        assert f.read() == bytes(MIB)
    s.whole()


@test('a job whose server stands still can be cancelled, and the disk goes on')
def _(t):
    s = Story(t)
    s.backup()
    s.until_half()
    s.server.signal(signal.SIGSTOP)
    time.sleep(0.2)  # requests go out into the silence
    s.d.qmp('block-job-cancel', device='j', force=True)
    e = s.d.qmp.job_end('j')
    assert e['event'] == 'BLOCK_JOB_CANCELLED', e
    s.whole()
    s.server.signal(signal.SIGCONT)


@test('a job whose server is away can be cancelled at once')
def _(t):
    s = Story(t, **{'reconnect-delay': 3600})
    s.backup()
    s.until_half()
    s.server.kill()
    time.sleep(0.2)  # requests come to be held
    s.d.qmp('block-job-cancel', device='j', force=True)
    e = s.d.qmp.job_end('j', timeout=DEADLINE / 3)
    assert e['event'] == 'BLOCK_JOB_CANCELLED', e
    s.whole()
    s.d.qmp.job_gone('j')
    s.d.qmp('blockdev-del', node_name='dst')


@test('a disk on a server survives the restart of the server')
def _(t):
    need_qblk('has this nbd driver')
    img = fill(t.path('disk.img'), SIZE, t.random.randrange(1 << 30), holes=20)
    initial = copy(img, t.path('initial'))
    server = Server(t, 'nbdkit', img)
    d = t.daemon()
    d.add(driver='raw', node_name='disk', discard='unmap', file=server.node())
    d.export('disk')
    w = t.witness(d.uri(), writers=4)
    for _ in range(4):
        w.wait(100)
        server.kill()
        server.start()
    w.wait(100)
    w.stop()
    d.close()
    server.kill()
    w.final([img], [initial])


@test('an open of a server that is not there waits as long as it is told')
def _(t):
    need_qblk('has this nbd driver')
    d = t.daemon()
    node = {'driver': 'nbd', 'node-name': 'n',
            'server': {'type': 'unix', 'path': t.path('nothing')}}
    assert 'No such file or directory' in d.qmp.error('blockdev-add', node).desc
    began = time.monotonic()
    assert 'No such file' in d.qmp.error('blockdev-add', dict(node, **{'open-timeout': 1})).desc
    assert time.monotonic() - began >= 0.5
    assert 'tls-creds' in d.qmp.error('blockdev-add', dict(node, **{'tls-creds': 'tls0'})).desc
    node['server']['path'] = 'x' * 200
    assert 'UNIX socket path' in d.qmp.error('blockdev-add', node).desc
    assert [n for n in d.qmp('query-named-block-nodes') if n['node-name'] == 'n'] == []


if __name__ == '__main__':
    main()
