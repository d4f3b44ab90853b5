#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's life: signals, pid file, daemonize, readiness, socket activation, --drive, --trace."""
import os
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbd  # noqa: E402
import qblk  # noqa: E402
from qblk import DAEMON, DEADLINE, MIB, SLOW, Qmp, die_with_parent  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402
from witness import copy, fill  # noqa: E402

SECONDS = 5 * SLOW


def ends_by(number):
    @test(f'{number.name} ends the daemon within 5 s while a job runs and clients write')
    def _(t):
        d = t.daemon()
        src = fill(t.path('src.img'), 32 * MIB, 1)
        initial = copy(src, t.path('initial'))
        d.file('src', src)
        d.file('dst', t.image('dst.img', 32 * MIB))
        d.export('src')
        w = t.witness(d.uri(), writers=4, survive=True)
        w.wait(50)
        d.qmp('blockdev-backup', job_id='j', device='src', target='dst', sync='full', speed=MIB)
        w.wait(50)
        d.process.send_signal(number)
        d.process.wait(SECONDS)
        w.stop()
        w.final([src], [initial])


for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    ends_by(each)


@test('SIGTERM ends the daemon within 5 s while a job is paused')
def _(t):
    d = t.daemon()
    d.file('src', t.image('src.img', 8 * MIB))
    d.file('dst', t.image('dst.img', 8 * MIB))
    d.qmp('blockdev-backup', job_id='j', device='src', target='dst', sync='none')
    d.qmp('job-pause', id='j')
    d.process.terminate()
    d.process.wait(SECONDS)


@test('quit says SHUTDOWN and ends with 0; the sockets are gone')
def _(t):
    need_qblk('removes all its sockets')
    d = t.daemon()
    d.qmp('quit')
    d.qmp.event('SHUTDOWN')
    d.process.wait(SECONDS)
    assert d.process.returncode == 0, d.said()
    assert not os.path.exists(d.qmp_path) and not os.path.exists(d.nbd_path)


@test('a daemon with nothing on its standard error said nothing')
def _(t):
    d = t.daemon()
    d.file('src', t.image('src.img', MIB))
    d.export('src')
    h = nbd.NBD()
    h.connect_uri(d.uri())
    h.pwrite(b'x' * 512, 0)
    h.flush()
    h.shutdown()
    d.close()
    noise = [line for line in d.said().splitlines() if 'io_uring' not in line]
    assert not noise, noise


@test('--daemonize returns when the sockets are there; the pid file names the daemon')
def _(t):
    where, pid = t.path('qmp.sock'), t.path('pid')
    p = subprocess.run([DAEMON, '--daemonize', '--pidfile', pid, '--chardev',
                        f'socket,id=c,path={where},server=on,wait=off', '--monitor', 'chardev=c'],
                       stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE)
    assert p.returncode == 0, p.stderr
    q = Qmp(where)
    with open(pid) as f:
        number = int(f.read())
    os.kill(number, 0)
    end = os.pidfd_open(number)
    q('quit')
    import select
    assert select.select([end], [], [], DEADLINE)[0], 'it does not end'
    os.close(end)
    assert not os.path.exists(pid)


@test('--daemonize of what cannot be opened fails before it goes to the background')
def _(t):
    p = subprocess.run([DAEMON, '--daemonize', '--blockdev',
                        f'driver=file,node-name=a,filename={t.path("nowhere")}'],
                       stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE)
    assert p.returncode == 1 and b'nowhere' in p.stderr, p


@test('QMP on standard input and output')
def _(_t):
    p = subprocess.run([DAEMON, '--chardev', 'stdio,id=c', '--monitor', 'chardev=c'],
                       input=b"{'execute': 'qmp_capabilities'}\r\n{'execute': 'quit', 'id': [1]}\r\n",
                       capture_output=True, timeout=DEADLINE)
    assert p.returncode == 0, p
    lines = p.stdout.splitlines()
    assert b'"QMP"' in lines[0] and b'"return"' in lines[1], lines
    assert any(b'"id": [1]' in line for line in lines), lines


@test('--drive is a disk in one word')
def _(t):
    need_qblk('has --drive')
    t.image('a.img', 2 * MIB, [(0, b'hello')])
    d = t.daemon('--drive', f'id=disk0,file={t.path("a.img")},format=raw')
    assert [b for b in d.qmp('query-block') if b.get('device') == 'disk0'], d.qmp('query-block')
    d.qmp('drive-backup', device='disk0', target=t.path('b.img'), sync='full', format='raw')
    d.qmp.job_ok('disk0')
    d.close()
    assert qblk.same(t.path('a.img'), t.path('b.img'))


@test('sd_notify: READY=1 when the daemon is ready, STOPPING=1 when it ends')
def _(t):
    need_qblk('speaks to systemd')
    where = t.path('notify')
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.settimeout(DEADLINE)
    s.bind(where)
    d = t.daemon(env={'NOTIFY_SOCKET': where})
    assert b'READY=1' in s.recv(4096)
    d.qmp('quit')
    assert b'STOPPING=1' in s.recv(4096)


@test('socket activation: the service manager hands over the NBD socket')
def _(t):
    need_qblk('takes sockets of a service manager')
    where, qmp = t.path('nbd.sock'), t.path('qmp.sock')
    s = socket.socket(socket.AF_UNIX)
    s.bind(where)
    s.listen(8)

    def hand_over():
        die_with_parent()
        os.dup2(s.fileno(), 3)
        os.environ['LISTEN_PID'] = str(os.getpid())

    t.image('a.img', MIB, [(0, b'hello')])
    shell = ('LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" --blockdev '
             f'driver=file,node-name=a,filename={t.path("a.img")} '
             f'--chardev socket,id=c,path={qmp},server=on,wait=off --monitor chardev=c '
             '--export type=nbd,id=e,node-name=a,name=disk')
    p = subprocess.Popen(['/bin/sh', '-c', shell, DAEMON], pass_fds=[3] if s.fileno() == 3 else [3],
                         preexec_fn=hand_over, stdin=subprocess.DEVNULL)
    try:
        h = nbd.NBD()
        h.connect_uri(f'nbd+unix:///disk?socket={where}')
        assert h.pread(5, 0) == b'hello'
        h.shutdown()
        p.terminate()
        assert p.wait(SECONDS) == 0
    finally:
        if p.poll() is None:
            p.kill()
            p.wait()


@test('--trace writes the events of a pattern to a file')
def _(t):
    need_qblk('has these trace events built in')
    log = t.path('trace.log')
    d = t.daemon('--trace', f'enable=backup_*,file={log}')
    d.file('src', fill(t.path('src.img'), 4 * MIB, 1))
    d.file('dst', t.image('dst.img', 4 * MIB))
    d.qmp('blockdev-backup', job_id='j', device='src', target='dst', sync='full')
    d.qmp.job_ok('j')
    d.close()
    with open(log) as f:
        text = f.read()
    for event in ('backup_do_cow_enter', 'backup_do_cow_return', 'backup_do_cow_process'):
        assert event in text, text[:2000]


if __name__ == '__main__':
    main()
