#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""qblk-nbd: an image for clients; how long it lives, what it shows, and what it leaves behind."""
import fcntl
import os
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbd  # noqa: E402
import qblk  # noqa: E402
from imgtool import ImgTool  # noqa: E402
from nbdtool import NBD, NbdTool, wait_for  # noqa: E402
from qblk import KIB, MIB  # noqa: E402
from tap import main, test  # noqa: E402


def content(path):
    with open(path, 'rb') as f:
        return f.read()


@test('it ends with the last of its clients, and its socket goes with it')
def _(t):
    tool = NbdTool(t)
    t.image('a.raw', MIB, [(4096, b'there')])
    s = tool.serve('-f', 'raw', '-e', '2', 'a.raw')
    first, second = s.connect(), s.connect()
    assert first.pread(5, 4096) == b'there'
    first.shutdown()
    second.pwrite(b'hello', 0)
    second.shutdown()
    assert s.ended() == 0
    assert not os.path.exists(s.socket)
    assert content(t.path('a.raw'))[:5] == b'hello'


@test('a client that only asks does not end it')
def _(t):
    tool = NbdTool(t)
    t.image('a.raw', MIB)
    s = tool.serve('-f', 'raw', 'a.raw')
    for _ in range(3):
        assert tool.run('-L', '-k', s.socket).status == 0
    s.connect().shutdown()
    assert s.ended() == 0


@test('with -t it stays, until a signal; each of three does')
def _(t):
    tool = NbdTool(t)
    t.image('a.raw', MIB)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        s = tool.serve('-t', '-f', 'raw', 'a.raw')
        for _ in range(3):
            s.connect().shutdown()
        h = s.connect()
        assert s.end(number) == 0
        assert not os.path.exists(s.socket)
        del h


@test('one client at a time, and no promise of several connections; -e says how many, 0 any number')
def _(t):
    tool = NbdTool(t)
    t.image('a.raw', MIB)
    s = tool.serve('-t', '-f', 'raw', 'a.raw')
    first = s.connect()
    assert not first.can_multi_conn()
    waiting = nbd.NBD()
    waiting.aio_connect_unix(s.socket)
    while waiting.poll(200):
        pass
    assert waiting.aio_is_connecting()
    first.shutdown()
    while not waiting.aio_is_ready():
        waiting.poll(-1)
    waiting.shutdown()
    s.end()
    s = tool.serve('-t', '-e', '0', '-f', 'raw', 'a.raw')
    several = [s.connect() for _ in range(20)]
    assert several[0].can_multi_conn()
    for h in several:
        h.shutdown()
    s.end()


@test('--fork is done when clients can come; the pid file goes with the process')
def _(t):
    tool = NbdTool(t)
    t.image('a.raw', MIB)
    path, pid_file = t.path('s'), t.path('pid')
    subprocess.run([NBD, '--fork', '--pid-file', 'pid', '-t', '-k', path, '-f', 'raw', 'a.raw'], cwd=t.dir,
                   check=True, timeout=qblk.DEADLINE, stdin=subprocess.DEVNULL)
    pid = int(content(pid_file))
    try:
        h = nbd.NBD()
        h.connect_unix(path)
        h.shutdown()
        with open(pid_file, 'rb') as f:
            try:
                fcntl.lockf(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
                raise AssertionError('the pid file is not locked')
            except BlockingIOError:
                pass
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not os.path.exists(pid_file), 'the pid file goes')
    assert not os.path.exists(path)
    r = tool.run('--fork', '-k', path, '-f', 'raw', 'nosuch.raw')
    assert r.status == 1 and 'No such file' in r.err, r


@test('-r: nothing is written; -s: what is written is forgotten')
def _(t):
    tool = NbdTool(t)
    t.image('a.raw', MIB, [(0, b'kept')])
    before = content(t.path('a.raw'))
    s = tool.serve('-r', '-f', 'raw', 'a.raw')
    h = s.connect()
    assert h.is_read_only()
    h.shutdown()
    assert s.ended() == 0
    s = tool.serve('-s', '-f', 'raw', 'a.raw', env=dict(os.environ, TMPDIR=t.dir))
    assert not [n for n in os.listdir(t.dir) if n.startswith('qblk-nbd')]
    h = s.connect()
    assert h.pread(4, 0) == b'kept'
    h.pwrite(b'gone' * KIB, 0)
    h.flush()
    assert h.pread(4, 4092) == b'gone' and h.pread(4, 512 * KIB) == bytes(4)
    h.shutdown()
    assert s.ended() == 0
    assert content(t.path('a.raw')) == before


@test('-o, -x, -D, -A: a piece of the image, under a name')
def _(t):
    tool = NbdTool(t)
    t.image('a.raw', MIB, [(512 * KIB, b'middle')])
    s = tool.serve('-t', '-o', 512 * KIB, '-x', 'disk', '-D', 'half of it', '-A', '-f', 'raw', 'a.raw')
    h = s.connect('disk', ['qemu:allocation-depth'])
    assert h.get_size() == 512 * KIB and h.pread(6, 0) == b'middle'
    extents = []
    h.block_status(64 * KIB, 0, lambda name, offset, entries, err: extents.append((name, entries)) or 0)
    assert extents == [('qemu:allocation-depth', [64 * KIB, 1])], extents
    h.pwrite(b'END', 512 * KIB - 3)
    h.shutdown()
    s.end()
    assert content(t.path('a.raw'))[-3:] == b'END'


@test('-B: the dirty bitmap of an image')
def _(t):
    tool, img = NbdTool(t), ImgTool(t)
    img.ok('create', '-q', '-f', 'fvd', 'a.fvd', '1M')
    d = t.daemon()
    d.qmp('blockdev-add', node_name='a', driver='fvd', file={'driver': 'file', 'filename': t.path('a.fvd')})
    d.qmp('block-dirty-bitmap-add', node='a', name='b0', persistent=True, granularity=64 * KIB)
    d.qmp('quit')
    d.process.wait(qblk.DEADLINE)
    s = tool.serve('-B', 'b0', '-f', 'fvd', 'a.fvd')
    h = s.connect(contexts=['qemu:dirty-bitmap:b0'])
    h.pwrite(b'x' * 1000, 200 * KIB)
    extents = []
    h.block_status(MIB, 0, lambda name, offset, entries, err: extents.extend(entries) or 0)
    assert extents == [192 * KIB, 0, 64 * KIB, 1, 768 * KIB, 0], extents
    h.shutdown()
    assert s.ended() == 0
    r = tool.run('-k', t.path('s'), '-B', 'nosuch', '-f', 'fvd', 'a.fvd')
    assert r.status == 1 and "Bitmap 'nosuch' is not found" in r.err, r


@test('--discard and --detect-zeroes: space is given back where that was asked for')
def _(t):
    tool = NbdTool(t)

    def blocks_after(action, *options):
        t.image('a.raw', MIB, [(0, b'\xff' * MIB)])
        os.sync()
        s = tool.serve('-f', 'raw', *options, 'a.raw')
        h = s.connect()
        action(h)
        h.flush()
        h.shutdown()
        assert s.ended() == 0
        return os.stat(t.path('a.raw')).st_blocks * 512

    def trim(h):
        h.trim(MIB, 0)

    def zeroes(h):
        h.pwrite(bytes(MIB), 0)

    assert blocks_after(trim) >= MIB
    assert blocks_after(trim, '--discard=unmap') < MIB // 2
    assert blocks_after(zeroes, '--discard=unmap') >= MIB
    assert blocks_after(zeroes, '--discard=unmap', '--detect-zeroes=unmap') < MIB // 2


@test('another program may read what it serves, and not write it')
def _(t):
    tool, img = NbdTool(t), ImgTool(t)
    t.image('a.raw', MIB)
    for options in ([], ['-r']):
        s = tool.serve('-t', '-f', 'raw', *options, 'a.raw')
        img.fails('lock', 'bench', '-f', 'raw', '-w', '-c', '1', 'a.raw')
        s.end()
    s = tool.serve('-t', '-r', '-f', 'raw', 'a.raw')
    img.ok('compare', '-f', 'raw', '-F', 'raw', 'a.raw', 'a.raw')
    s.end()


@test('an image is made in what a server has, as in a device: if it has the room')
def _(t):
    tool, img = NbdTool(t), ImgTool(t)
    t.image('a.raw', 64 * MIB, [(0, b'old' * MIB)])
    s = tool.serve('-t', '-f', 'raw', 'a.raw')
    for fmt in ('fvd', 'qcow2'):
        img.ok('create', '-q', '-f', fmt, s.uri(), '32M')
        assert f'file format: {fmt}' in img.ok('info', s.uri()).out
    img.ok('create', '-q', '-f', 'fvd', s.uri(), '32M')
    img.ok('bench', '-f', 'fvd', '-w', '-c', '100', '--pattern', '7', s.uri())
    img.ok('check', '-f', 'fvd', s.uri())
    t.image('b.raw', MIB, [(4096, b'new')])
    img.ok('convert', '-f', 'raw', '-O', 'raw', 'b.raw', s.uri())
    with open(t.path('a.raw'), 'rb') as f:
        assert f.read(5000) == content(t.path('b.raw'))[:5000]
    img.fails('Cannot grow NBD nodes', 'create', '-f', 'raw', s.uri(), '65M')
    s.end()


@test('a socket of a service manager is served')
def _(t):
    t.image('a.raw', MIB, [(0, b'activated')])
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(t.path('s'))
    listener.listen()
    command = ['sh', '-c', f'exec 3<&{listener.fileno()}; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"', 'sh', NBD]
    p = subprocess.Popen([*command, '-f', 'raw', 'a.raw'], cwd=t.dir, pass_fds=[listener.fileno()],
                         preexec_fn=qblk.die_with_parent)
    h = nbd.NBD()
    h.connect_unix(t.path('s'))
    assert h.pread(9, 0) == b'activated'
    h.shutdown()
    assert p.wait(qblk.DEADLINE) == 0
    assert os.path.exists(t.path('s'))
    r = subprocess.run([*command, '-p', '10810', 'a.raw'], cwd=t.dir, pass_fds=[listener.fileno()],
                       capture_output=True, timeout=qblk.DEADLINE)
    assert r.returncode == 1 and b'service manager' in r.stderr, r


@test('a client that says nothing is sent away')
def _(t):
    tool = NbdTool(t)
    t.image('a.raw', MIB)
    s = tool.serve('-t', '--handshake-limit', '1', '-f', 'raw', 'a.raw')
    silent = socket.socket(socket.AF_UNIX)
    silent.settimeout(qblk.DEADLINE)
    silent.connect(s.socket)
    while silent.recv(100):
        pass
    s.end()


@test('what another server does not answer any more does not keep it from ending')
def _(t):
    tool = NbdTool(t)
    t.image('a.raw', MIB)
    other = NbdTool(t).serve('-t', '-f', 'raw', 'a.raw')
    inner = t.path('inner')
    os.rename(other.socket, inner)
    s = tool.serve('-t', '-f', 'raw', f'nbd+unix:///?socket={inner}')
    h = s.connect()
    h.pread(512, 0)
    other.process.send_signal(signal.SIGSTOP)
    h.aio_pread(nbd.Buffer(512), 0)
    h.poll(100)
    assert s.end() == 0
    other.process.kill()
    other.ended()


if __name__ == '__main__':
    main()
