#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""An FVD image whose daemon is killed while clients write: sound, and what was flushed is there.

    ROUNDS    how often each image's daemon is killed (4)

The model: a place may be found as any request left it that was sent, or as it was before the round, unless
a later request is durable.  "Later" means sent after the other was acknowledged; durable is what was
acknowledged before a flush was sent that was acknowledged, or written with FUA and acknowledged.  Each
sector's part of a place is one of these, never a mix.  A discard is advice: zeros, or nothing has happened.
"""
import json
import os
import random
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import rawnbd  # noqa: E402
from imgtool import ImgTool  # noqa: E402
from qblk import DEADLINE, KIB, MIB, QmpError  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402

ROUNDS = int(os.environ.get('ROUNDS') or 4)
SECTOR = 512
SIZE = 2 * MIB + 3 * SECTOR
BASE_SIZE = MIB + 77 * SECTOR
AREA = 64 * KIB  # what most requests of a client are near, so that they meet
DEPTH_MAX = 8
FUA = 1


class Op:
    """A request: what it writes, and when; data is None for a flush or a read."""

    def __init__(self, command, offset=0, length=0, data=None, flags=0):
        self.command, self.offset, self.length = command, offset, length
        self.data, self.flags = data, flags
        self.sent = self.acked = None

    def __repr__(self):
        return f'command {self.command} of {self.offset}+{self.length} flags {self.flags} ' \
               f'sent {self.sent} acked {self.acked}'


class Model:
    """What each place of the disk may be.  Moments are numbers, of which none is another's."""

    def __init__(self, content):
        self.content = content
        self.writes = []
        self.flushed = -1  # what was acknowledged before is durable
        self.now = 0
        self.acks = 0
        self.lock = threading.Lock()

    def send(self, op):
        with self.lock:
            op.sent = self.now = self.now + 1
            if op.data is not None:
                self.writes.append(op)

    def ack(self, op, found):
        with self.lock:
            op.acked = self.now = self.now + 1
            self.acks += 1
            if op.command == rawnbd.CMD_FLUSH:
                self.flushed = max(self.flushed, op.sent)
            if op.command == rawnbd.CMD_READ:
                self.expect(op.offset, found, lambda w: w.acked is not None and w.acked < op.sent)

    def survives(self):
        """For expect(): what is durable."""
        return lambda w: w.acked is not None and (w.acked < self.flushed or w.flags & FUA)

    def expect(self, offset, found, counts):
        """@found, at @offset, is what may be there, if those count for which counts() is true."""
        end = offset + len(found)
        near = [w for w in self.writes if w.offset < end and w.offset + w.length > offset]
        cuts = {offset, end}
        for w in near:
            cuts |= {max(w.offset, offset), min(w.offset + w.length, end)}
        cuts = sorted(cuts)
        for a, b in zip(cuts, cuts[1:]):
            over = [w for w in near if w.offset <= a and w.offset + w.length >= b]
            last = [w.sent for w in over if w.command != rawnbd.CMD_TRIM and counts(w)]
            last = max(last, default=-1)
            may = [(w.data, a - w.offset) for w in over if w.acked is None or w.acked > last]
            may += [(self.content, a)] if last < 0 else []
            while a < b:
                # All of it at once where it can be, else sector by sector.
                part = found[a - offset:b - offset]
                if not any(data[at:at + b - a] == part for data, at in may):
                    part = part[:SECTOR - a % SECTOR]
                    assert any(data[at:at + len(part)] == part for data, at in may), \
                        f'{a}+{len(part)} is nothing that it may be: {over}, flushed {self.flushed}'
                a += len(part)
                may = [(data, at + len(part)) for data, at in may]


class Client(threading.Thread):
    """Sends random requests, some at once, until the daemon is no more."""

    def __init__(self, daemon, model, seed, reads):
        super().__init__(daemon=True)
        self.random = random.Random(seed)
        self.model = model
        self.nbd = rawnbd.RawNbd(daemon.nbd_path, 'disk')
        self.reads = reads
        self.depth = self.random.randint(1, DEPTH_MAX)
        self.area = self.random.randrange(SIZE // AREA) * AREA
        self.ends = False  # it is no fault any more if the connection ends
        self.error = None
        self.flying = {}

    def place(self):
        r = self.random
        length = min(int(2 ** r.uniform(0, 17)), SIZE)
        start = r.randrange(SIZE) if r.random() < .3 else self.area + r.randrange(-AREA, AREA)
        unit = r.choice((1, SECTOR, SECTOR, 4 * KIB))
        length = max(unit, length // unit * unit)
        return min(max(0, start // unit * unit), SIZE - length), length

    def choose(self):
        r = self.random
        dice = r.random()
        if dice < .1:
            return Op(rawnbd.CMD_FLUSH)
        offset, length = self.place()
        if dice < .1 + self.reads:
            return Op(rawnbd.CMD_READ, offset, length)
        flags = FUA if r.random() < .05 else 0
        if dice > .9:
            return Op(rawnbd.CMD_TRIM, offset, length, bytes(length), flags)
        if dice > .8:
            return Op(rawnbd.CMD_ZEROES, offset, length, bytes(length), flags)
        return Op(rawnbd.CMD_WRITE, offset, length, r.randbytes(length), flags)

    def step(self):
        cookie = 0
        while cookie in self.flying:
            cookie += 1
        if cookie < self.depth:
            op = self.flying[cookie] = self.choose()
            self.model.send(op)
            self.nbd.request(op.command, op.offset, op.length,
                             op.data if op.command == rawnbd.CMD_WRITE else b'', op.flags, cookie)
            return
        magic, errno, cookie = struct.unpack('>IIQ', self.nbd.recv(16))
        op = self.flying.pop(cookie)
        assert magic == rawnbd.SIMPLE_MAGIC and errno == 0, (hex(magic), errno, op)
        found = self.nbd.recv(op.length) if op.command == rawnbd.CMD_READ else None
        self.model.ack(op, found)

    def run(self):
        try:
            while True:
                self.step()
        except (EOFError, OSError) as e:
            self.error = None if self.ends else e
        except Exception as e:  # pylint: disable=broad-except
            self.error = e


class Image:
    """An image, what is in it, and the daemon that has it."""

    def __init__(self, t, base, copy_on_read):
        need_qblk('knows the format FVD')
        r = t.random
        self.t, self.img = t, ImgTool(t)
        self.path = t.path('disk.fvd')
        self.copy_on_read = copy_on_read
        self.content = bytearray(SIZE)
        # Chunks whose records nobody flushed are free after a crash, and a leak if they are more than this.
        self.grow_unit = r.choice((64 * KIB, 16 * MIB))
        options = f'chunk_size={r.choice(("4k", "64k", "192k", "1M"))},block_size={r.choice(("512", "4k", "64k"))},' \
                  f'journal_size={r.choice(("8k", "16k", "1M"))},storage_grow_unit={self.grow_unit}'
        more = []
        if base:
            for _ in range(20):
                at = r.randrange(BASE_SIZE - AREA)
                self.content[at:at + AREA] = r.randbytes(AREA)
            more = ['-b', t.image('base.img', BASE_SIZE, [(0, self.content[:BASE_SIZE])]), '-F', 'raw']
        print(f'# {options}', flush=True)
        self.img.ok('create', '-q', '-f', 'fvd', '-o', options, *more, self.path, SIZE)
        self.daemon = None

    def node(self):
        r = self.t.random
        return {'driver': 'fvd', 'node-name': 'disk', 'discard': 'unmap',
                'copy-on-read': self.copy_on_read,
                'journal-buffer-size': r.choice((4 * KIB, 64 * KIB)),
                'journal-interval': r.choice((1, 20, 5000)),
                'file': {'driver': 'file', 'filename': self.path, 'discard': 'unmap'}}

    def when_unlocked(self, function):
        """The kernel ends the ring of a killed process, and with it the locks, a moment after the process."""
        end = time.monotonic() + DEADLINE
        while True:
            error = function()
            if 'Failed to get' not in error:
                assert not error, error
                return
            assert time.monotonic() < end, 'the image stays locked'

    def read_all(self):
        """As who only reads finds it."""
        raw = self.t.path('all.raw')
        self.img.ok('convert', '-f', 'fvd', '-O', 'raw', self.path, raw)
        with open(raw, 'rb') as f:
            return f.read()

    def open(self):
        def add():
            try:
                self.daemon.qmp('blockdev-add', self.node())
            except QmpError as e:
                return str(e)
            return ''

        self.daemon = self.t.daemon()
        self.when_unlocked(add)
        self.daemon.export('disk')

    def kill_in_recovery(self):
        """A daemon that is killed as soon as it was told to open the image."""
        self.daemon = self.t.daemon()
        add = json.dumps({'execute': 'blockdev-add', 'arguments': self.node()})
        self.daemon.qmp.send_raw(add.encode() + b'\n')
        end = time.monotonic() + self.t.random.uniform(0, .004)
        while time.monotonic() < end:
            pass
        self.daemon.kill()

    def check(self):
        def run():
            r = self.img.run('check', '-f', 'fvd', self.path)
            leaks = r.status == 3 and self.grow_unit < SIZE
            return '' if r.status == 0 or leaks else repr(r)

        self.when_unlocked(run)

    def expect_as_read(self, places):
        """The daemon that has recovered it shows what one saw who only read it."""
        with rawnbd.RawNbd(self.daemon.nbd_path, 'disk') as nbd:
            for offset, length in places:
                nbd.request(rawnbd.CMD_READ, offset, length)
                assert nbd.reply(length) == (0, self.content[offset:offset + length]), (offset, length)


def a_round(image):
    r = image.t.random
    model = Model(image.content)
    clients = [Client(image.daemon, model, r.randrange(1 << 40), .3 if image.copy_on_read else .1)
               for _ in range(r.randint(1, 2))]
    for c in clients:
        c.start()
    goal = r.randint(1, 250)
    end = time.monotonic() + DEADLINE
    while model.acks < goal and all(c.is_alive() for c in clients):
        assert time.monotonic() < end, 'the daemon does nothing'
        clients[0].join(.001)
    for c in clients:
        c.ends = True
    image.daemon.kill()
    for c in clients:
        c.join(DEADLINE)
        c.nbd.sock.close()
        assert not c.is_alive() and not c.error, repr(c.error)
    image.check()
    found = image.read_all()
    model.expect(0, found, model.survives())
    image.content = found
    while r.random() < .3:
        image.kill_in_recovery()
        image.check()
        assert image.read_all() == found, 'a recovery that was killed has changed the disk'
    image.open()
    image.expect_as_read([(w.offset, w.length) for w in model.writes])


def story(t, base=False, copy_on_read=False):
    image = Image(t, base, copy_on_read)
    image.open()
    for _ in range(ROUNDS):
        a_round(image)
    image.daemon.close()
    image.check()
    assert image.read_all() == image.content
    assert 'clean: true' in image.img.ok('info', image.path).out


@test('an image without a base is sound after each kill, and has what was flushed')
def _(t):
    story(t)


@test('an image over a raw base is sound after each kill, and has what was flushed')
def _(t):
    story(t, base=True)


@test('an image that keeps what is read of its base is sound after each kill, and has what was flushed')
def _(t):
    story(t, base=True, copy_on_read=True)


if __name__ == '__main__':
    main()
