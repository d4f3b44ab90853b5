#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rule M7 of the mirror job: its memory is buf-size and what it remembers of the disk, whatever guests and
target do. Measured: the most memory that the daemon had while it mirrored, less what it had before."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbd  # noqa: E402
from qblk import DEADLINE, GIB, KIB, MIB, SANITIZED  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402
from target import Target  # noqa: E402

SIZE = 96 * MIB
DEFAULT = 16 * MIB
DEPTH, WRITE = 16, 256 * KIB
# The C library gives back what is freed, at once: what it would keep is neither the job's nor of any use.
ALLOCATOR = {'GLIBC_TUNABLES': 'glibc.malloc.mmap_threshold=65536:glibc.malloc.trim_threshold=65536:'
                               'glibc.malloc.arena_max=1'}
# What is not the job's: the guests' own data while their writes wait, which their export holds. And small
# things: an arena that is rounded to huge pages of 2 MiB, stacks and requests.
SLACK = DEPTH * WRITE + 3 * MIB
# Which parts of a chunk are dirty, and the mirror's bitmaps: at most as much, here far less.
FINE = 16 * MIB


class Guest:
    """A client with sixteen writes in flight, all of them random data."""

    def __init__(self, d, random):
        self.h = nbd.NBD()
        self.h.connect_uri(d.uri())
        self.random = random
        self.data = random.randbytes(MIB)
        self.cookies = []
        self.written = 0

    def step(self, bytes_min=512, bytes_max=WRITE, depth=DEPTH):
        """Answers are taken, then there are @depth writes in flight again."""
        self.cookies = [c for c in self.cookies if not self.h.aio_command_completed(c)]
        while len(self.cookies) < depth:
            n = self.random.randrange(bytes_min, bytes_max + 1, 512)
            at = self.random.randrange(0, SIZE - n + 1, 512)
            self.cookies.append(self.h.aio_pwrite(self.data[:n], at))
            self.written += n
        self.h.poll(10)

    def until(self, done, **options):
        end = time.monotonic() + 4 * DEADLINE
        while not done():
            assert time.monotonic() < end, 'it takes too long'
            self.step(**options)

    def finish(self):
        while self.cookies:
            self.step(depth=0)
        self.h.shutdown()


class Story:
    def __init__(self, t, far=False, throttle=None):
        self.t = t
        self.d = t.daemon('--object', f'throttle-group,id=slow,x-bps-write={throttle or 0}',
                          env=ALLOCATOR)
        t.image('src.img', SIZE)
        with open(t.path('src.img'), 'r+b') as f:
            block = t.random.randbytes(MIB)
            for i in range(SIZE // MIB):
                f.write(block)
        t.image('dst.img', SIZE)
        self.d.file('src', t.path('src.img'))
        self.d.export('src')
        self.server = Target(t, t.path('dst.img')) if far else None
        below = self.server.node() if far else {'driver': 'file', 'filename': t.path('dst.img')}
        if throttle:
            below = {'driver': 'throttle', 'throttle-group': 'slow', 'file': below}
        self.d.add(driver='raw', node_name='dst', file=below)
        self.guest = Guest(self.d, t.random)
        # What export, node and engine take for these guests is not the mirror's.
        self.guest.until(self.after(64 * MIB), bytes_min=WRITE)
        self.before = self.d.memory_kib()
        self.d.forget_high_water()

    def mirror(self, **options):
        self.buf_size = options.get('buf_size', DEFAULT)
        self.d.qmp('blockdev-mirror', job_id='j', device='src', target='dst', sync='full', **options)

    def is_ready(self):
        return self.d.qmp.job('j')['ready']

    def after(self, bytes_more):
        end = self.guest.written + bytes_more
        return lambda: self.guest.written >= end

    def end(self):
        """It has ended, and the memory is given back."""
        self.guest.finish()
        self.d.qmp('block-job-cancel', device='j', force=True)
        self.d.qmp.event('BLOCK_JOB_CANCELLED', 'BLOCK_JOB_COMPLETED')
        self.d.qmp.job_gone('j')
        most = (self.d.high_water_kib() - self.before) * KIB
        left = (self.d.memory_kib() - self.before) * KIB
        print(f'# {most / MIB:.1f} MiB for buf-size {self.buf_size / MIB:.0f} MiB; {left / MIB:.1f} MiB '
              'stay', flush=True)
        assert SANITIZED or most <= self.buf_size + SLACK, f'{most / MIB:.1f} MiB'
        assert SANITIZED or left <= 2 * MIB, f'{left / MIB:.1f} MiB stay'
        self.d.close()
        if self.server:
            self.server.kill()


def each(words, buf_size, mode):
    options = dict({'buf_size': buf_size} if buf_size else {}, copy_mode=mode)

    @test(f'{words} to a file, {mode}')
    def _(t):
        s = Story(t)
        s.mirror(**options)
        s.guest.until(s.is_ready)
        s.guest.until(s.after(32 * MIB))
        s.end()

    @test(f'{words} to a server behind a throttle, {mode}')
    def _(t):
        s = Story(t, far=True, throttle=64 * MIB)
        s.mirror(**options)
        s.guest.until(s.after(32 * MIB))
        s.end()

    @test(f'{words} to a server that stands still while guests write, {mode}')
    def _(t):
        s = Story(t, far=True)
        s.mirror(**options)
        s.guest.until(s.after(16 * MIB))
        s.server.stop()
        if mode == 'background':
            s.guest.until(s.after(32 * MIB))
        else:
            begun = time.monotonic()
            s.guest.until(lambda: time.monotonic() > begun + 1)     # guests wait as well
        s.server.go_on()
        s.guest.until(s.after(16 * MIB))
        s.end()


for each_words, each_size in (('1 MiB', MIB), ('as much as it likes', 0), ('64 MiB', 64 * MIB)):
    for each_mode in ('background', 'write-blocking') if each_size != 64 * MIB else ('background',):
        each(each_words, each_size, each_mode)


@test('guests that write faster than the target takes it, until they go through')
def _(t):
    s = Story(t, far=True, throttle=16 * MIB)
    s.mirror(buf_size=MIB)
    s.guest.until(lambda: s.d.qmp.job('j')['copy-rate'] > 0)
    s.guest.until(s.after(64 * MIB), bytes_max=8 * KIB)
    s.end()


@test('small writes all over a disk of 64 GiB: what is remembered of them is bounded')
def _(t):
    need_qblk('remembers parts of chunks')
    d = t.daemon(env=ALLOCATOR)
    d.add(driver='null-co', node_name='src', size=64 * GIB, read_zeroes=True)
    d.add(driver='null-co', node_name='dst', size=64 * GIB, read_zeroes=True)
    d.export('src')
    h = nbd.NBD()
    h.connect_uri(d.uri())
    d.qmp('blockdev-mirror', job_id='j', device='src', target='dst', sync='none', speed=1)
    before = d.memory_kib()
    d.forget_high_water()
    cookies = []
    for i in range(400000):     # each a chunk of its own: more than there are maps for
        cookies.append(h.aio_pwrite(b'x' * 512, i * 2 * 64 * KIB))
        if len(cookies) == 64:
            while cookies:
                cookies = [c for c in cookies if not h.aio_command_completed(c)]
                h.poll(1 if cookies else 0)
    grown = (d.high_water_kib() - before) * KIB
    print(f'# {grown / MIB:.1f} MiB', flush=True)
    assert SANITIZED or grown <= FINE + SLACK, f'{grown / MIB:.1f} MiB'
    h.shutdown()
    d.qmp('block-job-cancel', device='j', force=True)
    d.qmp.event('BLOCK_JOB_CANCELLED')


if __name__ == '__main__':
    main()
