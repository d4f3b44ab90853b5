# SPDX-License-Identifier: GPL-2.0-or-later
"""The witness: numbered writes, and the proof that a copy is the disk after exactly k of them.

The writing and the checking are done by tests/lib/witness (C, over libnbd); this drives them.
"""
import json
import os
import select
import subprocess
import time

import qblk

PROGRAM = os.path.join(qblk.BUILD, 'tests/lib/witness/witness')


def fill(path, size, seed, holes=30):
    """A disk of numbered sectors, @holes per cent of it holes."""
    subprocess.check_call([PROGRAM, 'fill', path, str(size), str(seed), str(holes)])
    return path


def copy(path, to):
    subprocess.check_call(['cp', '--sparse=always', path, to])
    return to


class Mix(AssertionError):
    """The copy is not the disk at one instant."""


class Witness:
    """Writers at work on one or more disks, from the start of the object until stop()."""

    def __init__(self, log, uris, seed, writers=1, area=None, bytes_max=None, zero=10, discard=10,
                 rate=0, alternate=False, survive=False):
        self.log = log
        args = [PROGRAM, 'write', '--log', log, '--seed', str(seed), '--writers', str(writers),
                '--zero', str(zero), '--discard', str(discard), '--rate', str(rate)]
        for uri in uris:
            args += ['--uri', uri]
        if area:
            args += ['--area', f'{area[0]}:{area[1]}']
        if bytes_max:
            args += ['--bytes-max', str(bytes_max)]
        args += ['--alternate'] if alternate else []
        args += ['--survive'] if survive else []
        self.errors = open(log + '.errors', 'w+')
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, preexec_fn=qblk.die_with_parent)
        self.buffer = b''
        self.acked = 0
        self.result = None

    def _line(self, timeout):
        while b'\n' not in self.buffer:
            if not select.select([self.process.stdout], [], [], max(0.01, timeout))[0]:
                raise TimeoutError('the witness is silent')
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise AssertionError(f'the witness ended: {self.said()}')
            self.buffer += data
        line, self.buffer = self.buffer.split(b'\n', 1)
        return line

    def wait(self, more, timeout=None):
        """Waits until @more further writes have been acknowledged."""
        end = time.monotonic() + (timeout or qblk.DEADLINE)
        self._drain()
        goal = self.acked + more
        while self.acked < goal:
            self._take(self._line(end - time.monotonic()))
        return self.acked

    def _take(self, line):
        if line.startswith(b'acked '):
            self.acked = int(line[6:])
        else:
            self.result = json.loads(line)

    def _drain(self):
        while select.select([self.process.stdout], [], [], 0)[0]:
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                break
            self.buffer += data
        while b'\n' in self.buffer:
            self._take(self._line(0))

    def stop(self):
        """Ends the writing; the log is complete then."""
        self.process.stdin.close()
        while self.result is None:
            self._take(self._line(qblk.DEADLINE))
        self.acked = self.result['acked']
        status = self.process.wait(qblk.DEADLINE)
        assert status == 0, f'the witness ended with {status}: {self.said()}'
        return self.result

    def said(self):
        """Why writers ended, one line each."""
        self.errors.seek(0)
        return self.errors.read().strip()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _check(self, images, initials, more):
        args = [PROGRAM, 'check', '--log', self.log]
        for image, initial in zip(images, initials):
            args += ['--image', image, '--initial', initial]
        p = subprocess.run(args + more, capture_output=True, text=True, check=False)
        if p.returncode:
            raise Mix(p.stderr.strip())
        return json.loads(p.stdout)

    def instant(self, images, initials, from_ns, to_ns):
        """Proves that the copies are the disks at one instant in [from_ns, to_ns]; says each k."""
        return self._check(images, initials, ['--from', str(from_ns), '--to', str(to_ns)])

    def final(self, images, initials):
        """Proves that the disks hold every acknowledged write."""
        return self._check(images, initials, ['--final'])
