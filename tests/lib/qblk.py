# SPDX-License-Identifier: GPL-2.0-or-later
"""The flow tests' hands: a daemon, a QMP client, and the paths of what was built.

    QBLK_BUILD    the build directory (build)
    QBLK_DAEMON   the daemon to test (QBLK_BUILD/qblk-storage-daemon); any other that takes the
                  command line of qemu-storage-daemon serves as well
    QBLK_SLOW     a factor for every deadline: 1, or more for a daemon under a sanitizer

Nothing here sleeps in the hope that something has happened by then: whoever waits, waits for a line
on a socket or for the end of a process, up to a deadline.
"""
import ctypes
import fcntl
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get('QBLK_BUILD', 'build'))
DAEMON = os.environ.get('QBLK_DAEMON', os.path.join(BUILD, 'qblk-storage-daemon'))
SLOW = float(os.environ.get('QBLK_SLOW', '1'))
SANITIZED = os.environ.get('QBLK_SANITIZED', '') == '1'

# A step that has not happened after this is a hang.  Ten times what a loaded machine was seen to need.
DEADLINE = 30 * SLOW
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


def is_qblk():
    """Whether the daemon is ours, and not the peer that the tests were proved on."""
    return 'qemu' not in os.path.basename(DAEMON)


def die_with_parent():
    """
    Between fork and exec: PR_SET_PDEATHSIG, so that a killed test leaves no daemon behind; and signals do what they do,
    also where the tests were started in the background by a shell, which has its jobs ignore them.
    """
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def open_files(pid):
    """The regular files that a process has open."""
    files = set()
    for fd in os.listdir(f'/proc/{pid}/fd'):
        try:
            path = os.readlink(f'/proc/{pid}/fd/{fd}')
        except OSError:
            continue
        if os.path.isfile(path):
            files.add(path)
    return files


def is_locked(path):
    """Whether anybody's open file has a lock on @path."""
    with open(path, 'rb') as f:
        whole = struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        return struct.unpack('hhqqi4x', fcntl.fcntl(f, fcntl.F_OFD_GETLK, whole))[0] != fcntl.F_UNLCK


def kill_and_wait(process):
    """
    Kills a process, and waits until its locks have gone: the kernel ends the ring of a killed process, and with it the
    locks, a moment after the process.  Locks that others have on the same files are not waited for long.
    """
    files = open_files(process.pid) if process.poll() is None else ()
    process.kill()
    process.wait()
    end = time.monotonic() + 2 * SLOW
    while any(is_locked(path) for path in files) and time.monotonic() < end:
        os.sched_yield()


class QmpError(Exception):
    """An error reply: its class and its words."""

    def __init__(self, command, reply):
        self.cls = reply['error']['class']
        self.desc = reply['error']['desc']
        super().__init__(f'{command}: {self.cls}: {self.desc}')


class Gone(Exception):
    """The other side has closed the connection."""


class Qmp:
    """One QMP connection.  Events are kept in arrival order until somebody waits for them."""

    def __init__(self, path, negotiate=True):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.buffer = b''
        self.events = []
        self.sent_ns = self.replied_ns = 0
        self.next_id = 0
        self.greeting = self.read()
        if negotiate:
            self('qmp_capabilities')

    def close(self):
        self.sock.close()

    def send_raw(self, data):
        self.sock.sendall(data)

    def read(self, timeout=None):
        """The next line as an object: a greeting, an event or a reply."""
        end = time.monotonic() + (timeout or DEADLINE)
        while b'\n' not in self.buffer:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                raise TimeoutError('nothing came on the QMP socket')
            try:
                data = self.sock.recv(65536)
            except ConnectionError:
                data = b''
            if not data:
                raise Gone('the daemon has closed the QMP socket')
            self.buffer += data
        line, self.buffer = self.buffer.split(b'\n', 1)
        return json.loads(line)

    def reply(self, command, timeout=None):
        """Waits for the reply of the last command; events that come first are kept."""
        while True:
            answer = self.read(timeout)
            if 'event' in answer:
                self.events.append(answer)
                continue
            self.replied_ns = time.monotonic_ns()
            if 'error' in answer:
                raise QmpError(command, answer)
            assert answer.get('id') == self.next_id, answer
            return answer['return']

    def __call__(self, command, arguments=None, **more):
        """qmp('block-job-cancel', device='j', force=True): '_' in a name stands for '-'."""
        self.next_id += 1
        arguments = dict(arguments or {}, **{k.replace('_', '-'): v for k, v in more.items()})
        message = {'execute': command, 'id': self.next_id}
        if arguments:
            message['arguments'] = arguments
        data = json.dumps(message).encode() + b'\n'
        self.sent_ns = time.monotonic_ns()
        self.send_raw(data)
        return self.reply(command)

    def error(self, command, arguments=None, **more):
        """The error a command must end with."""
        try:
            answer = self(command, arguments, **more)
        except QmpError as e:
            return e
        raise AssertionError(f'{command} should have been refused, and returned {answer}')

    def event(self, *names, timeout=None, where=None):
        """Takes the first event of one of these names (and with these data) out of the queue."""
        where = where or {}

        def fits(e):
            return e['event'] in names and all(e['data'].get(k) == v for k, v in where.items())

        end = time.monotonic() + (timeout or DEADLINE)
        seen = 0
        while True:
            for i in range(seen, len(self.events)):
                if fits(self.events[i]):
                    return self.events.pop(i)
            seen = len(self.events)
            answer = self.read(max(0.01, end - time.monotonic()))
            assert 'event' in answer, answer
            self.events.append(answer)

    def job_end(self, job, timeout=None):
        """The event that ends a block job."""
        return self.event('BLOCK_JOB_COMPLETED', 'BLOCK_JOB_CANCELLED', where={'device': job},
                          timeout=timeout)

    def job_ok(self, job, timeout=None):
        """Waits for a block job that must succeed."""
        e = self.job_end(job, timeout)
        assert e['event'] == 'BLOCK_JOB_COMPLETED', e
        assert 'error' not in e['data'], e
        return e['data']

    def job_gone(self, job):
        """Waits until a job has left the list: it holds no node any more."""
        self.event('JOB_STATUS_CHANGE', where={'id': job, 'status': 'null'})

    def job(self, name):
        for j in self('query-block-jobs'):
            if j['device'] == name:
                return j
        return None


def absolute(program):
    """A path stays what it is wherever the program is started; a bare name is looked up."""
    return os.path.abspath(program) if os.sep in program else program


class Daemon:
    """A storage daemon with a QMP socket and a unix NBD server, in a directory of its own."""

    def __init__(self, directory, args=(), nbd=True, program=None, env=None):
        self.dir = directory
        self.qmp_path = os.path.join(directory, 'qmp.sock')
        self.nbd_path = os.path.join(directory, 'nbd.sock')
        self.log_path = os.path.join(directory, 'daemon.log')
        self.expect_status = 0
        for path in (self.qmp_path, self.nbd_path):
            if os.path.exists(path):
                os.unlink(path)
        command = [absolute(program or DAEMON), *args,
                   '--chardev', f'socket,id=qmp0,path={self.qmp_path},server=on,wait=off',
                   '--monitor', 'chardev=qmp0']
        if nbd:
            command += ['--nbd-server', f'addr.type=unix,addr.path={self.nbd_path}']
        self.log = open(self.log_path, 'ab')
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, preexec_fn=die_with_parent,
                                        cwd=os.path.dirname(self.log_path),  # its litter goes there
                                        env=dict(os.environ, **(env or {})))
        self.qmp = self.connect()

    def connect(self, negotiate=True):
        """A QMP client.  The greeting comes when every option has been obeyed: readiness."""
        end = time.monotonic() + DEADLINE
        while True:
            try:
                return Qmp(self.qmp_path, negotiate)
            except (FileNotFoundError, ConnectionRefusedError):
                # The end of the process is an event; the birth of a socket is not one, so look again.
                try:
                    self.process.wait(0.005)
                except subprocess.TimeoutExpired:
                    if time.monotonic() > end:
                        raise TimeoutError('the daemon does not open its QMP socket') from None
                else:
                    raise AssertionError('the daemon ended at its start: ' + self.said()) from None

    def said(self):
        with open(self.log_path, errors='replace') as f:
            return f.read()

    def uri(self, export='disk'):
        return f'nbd+unix:///{export}?socket={self.nbd_path}'

    def add(self, **node):
        """blockdev-add: add(driver='file', node_name='src', filename=path)."""
        self.qmp('blockdev-add', {k.replace('_', '-'): v for k, v in node.items()})

    def file(self, node, path, **more):
        """A raw disk: a file node '<node>-file' with a raw node on it, discards passed through."""
        self.add(driver='raw', node_name=node,
                 file={'driver': 'file', 'node-name': node + '-file', 'filename': path,
                       'discard': 'unmap', **more}, discard='unmap')

    def export(self, node, name='disk', **more):
        self.qmp('block-export-add', {'type': 'nbd', 'id': 'export-' + name, 'node-name': node,
                                      'name': name, 'writable': True,
                                      **{k.replace('_', '-'): v for k, v in more.items()}})

    def status_kib(self, member):
        with open(f'/proc/{self.process.pid}/status') as f:
            return int(re.search(member + r':\s+(\d+) kB', f.read()).group(1))

    def memory_kib(self):
        """The memory the daemon has now."""
        return self.status_kib('VmRSS')

    def high_water_kib(self):
        """The most memory the daemon ever had, or has had since forget_high_water()."""
        return self.status_kib('VmHWM')

    def forget_high_water(self):
        with open(f'/proc/{self.process.pid}/clear_refs', 'w') as f:
            f.write('5')

    def kill(self):
        kill_and_wait(self.process)
        self.expect_status = None

    def alive(self):
        return self.process.poll() is None

    def close(self):
        """Ends the daemon; it must go by itself, soon, and with the status that is expected."""
        if self.process.poll() is None:
            try:
                self.qmp('quit')
            except (Gone, OSError):
                pass
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError('the daemon did not end after quit') from None
        self.qmp.close()
        self.log.close()
        if self.expect_status is not None:
            assert self.process.returncode == self.expect_status, \
                f'the daemon ended with {self.process.returncode}: {self.said()}'


def run_daemon(*args, timeout=None, program=None):
    """Runs the daemon to its end: (exit status, standard output, standard error)."""
    p = subprocess.run([program or DAEMON, *args], stdin=subprocess.DEVNULL, capture_output=True,
                       timeout=timeout or DEADLINE, preexec_fn=die_with_parent)
    return p.returncode, p.stdout.decode(errors='replace'), p.stderr.decode(errors='replace')


def make_image(path, size, data=()):
    """A sparse file of @size bytes; @data is a list of (offset, bytes)."""
    with open(path, 'wb') as f:
        f.truncate(size)
        for offset, content in data:
            f.seek(offset)
            f.write(content)
    return path


def same(a, b):
    return subprocess.call(['cmp', '-s', a, b]) == 0


def have(program):
    """Whether one of the helping programs is installed."""
    return any(os.access(os.path.join(d, program), os.X_OK)
               for d in os.environ.get('PATH', '').split(':') + ['/usr/sbin', '/sbin'])
