#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""H5: a mirror whose target is a server that says what no server should fails in words, or goes on.

Whatever it says: clients are served, memory is bounded, a forced cancel ends, and the next mirror is well.
"""
import os
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from hostile import (CONTEXT, DONE, REPLY_DATA, REPLY_ERROR, REPLY_STATUS, STATUS, Hangup,  # noqa: E402
                     Hostile, chunk)
from qblk import MIB, SANITIZED, SLOW  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402
from witness import copy, fill  # noqa: E402

SIZE = 8 * MIB
# What the daemon needs for itself, its clients and a mirror, and then some; a sanitizer needs more.
MEMORY_KIB = (1024 if SANITIZED else 192) * 1024


def says(make):
    """A misdeed that answers with these bytes."""
    def misdeed(_server, conn, request):
        conn.sendall(make(request))
        return True
    return misdeed


def hangs_up(make):
    def misdeed(_server, conn, request):
        conn.sendall(make(request))
        raise Hangup
    return misdeed


def status(*payloads):
    """Only answers to block status are bad."""
    def misdeed(_server, conn, request):
        if request.command != STATUS:
            return False
        conn.sendall(b''.join(payload(request) for payload in payloads))
        return True
    return misdeed


def extents(*pairs, context=CONTEXT):
    return lambda r: chunk(REPLY_STATUS, r, struct.pack('>I', context)
                           + b''.join(struct.pack('>II', *pair) for pair in pairs))


def error(number, text=b'', length=None):
    return lambda r: chunk(REPLY_ERROR, r, struct.pack('>IH', number, len(text) if length is None else length)
                           + text)


def one_byte_each(_server, conn, request):
    for byte in chunk(0, request):
        conn.sendall(bytes([byte]))
    return True


def without_end(_server, conn, request):
    """Chunks of a reply that is never done."""
    for _ in range(20000):
        conn.sendall(chunk(REPLY_ERROR, request, struct.pack('>IH', 5, 0), flags=0))
    raise Hangup


MISDEEDS = {
    'answers what nobody asked': says(lambda r: chunk(0, r, cookie=0xdeadbeef)),
    'answers everything twice': says(lambda r: chunk(0, r) * 2),
    'answers with noise': says(lambda r: os.urandom(4096)),
    'answers with zeros': says(lambda r: bytes(4096)),
    'answers a write with data': says(lambda r: chunk(REPLY_DATA, r, struct.pack('>Q', r.offset) + b'x' * 512)),
    'announces 4 GiB': says(lambda r: chunk(REPLY_DATA, r, b'x' * 4096, length=0xffffffff)),
    'announces 4 GiB of error': says(lambda r: chunk(REPLY_ERROR, r, b'x' * 4096, length=0xffffffff)),
    'answers with a kind that does not exist': says(lambda r: chunk(0x1234, r, b'?' * 16)),
    'answers with an error that does not exist': says(lambda r: chunk(0x8fff, r, struct.pack('>IH', 5, 0))),
    'fails with error 0': says(error(0)),
    'fails with a number that nobody knows': says(error(0x7fffffff)),
    'fails with a number that is negative': says(error(0x80000005, b'\xff' * 8)),
    'fails with a text longer than its chunk': says(error(5, b'abc', length=60000)),
    'sends simple replies with odd errors': says(lambda r: struct.pack('>IIQ', 0x67446698, 0xfffffff0, r.cookie)),
    'hangs up in the middle of an answer': hangs_up(lambda r: chunk(0, r)[:11]),
    'hangs up instead of an answer': hangs_up(lambda r: b''),
    'says one byte after the other': one_byte_each,
    'never comes to the end of an answer': without_end,
    'says nothing': says(lambda r: b''),
    'says status of no bytes': status(extents((0, 0))),
    'says no status': status(lambda r: chunk(REPLY_STATUS, r, struct.pack('>I', CONTEXT))),
    'says status beyond the disk': status(extents((0xffffffff, 3), (0xffffffff, 0))),
    'says status of another context': status(extents((65536, 3), context=CONTEXT + 1)),
    'says status with flags that do not exist': status(extents((1 << 20, 0xfffffffc))),
    'says status in half a number': status(lambda r: chunk(REPLY_STATUS, r, struct.pack('>IIH', CONTEXT, 65536, 3))),
    'says a hundred thousand extents': status(lambda r: chunk(REPLY_STATUS, r, struct.pack('>I', CONTEXT)
                                                              + struct.pack('>II', 512, 3) * 100000)),
    'says status twice': status(lambda r: chunk(REPLY_STATUS, r, struct.pack('>III', CONTEXT, 65536, 3), flags=0),
                                lambda r: chunk(REPLY_STATUS, r, struct.pack('>III', CONTEXT, 65536, 0), flags=DONE)),
}


def round_with(t, misdeed, ready):
    d = t.daemon()
    src = fill(t.path('src.img'), SIZE, t.random.randrange(1 << 32), holes=50)
    initial = copy(src, t.path('src.initial'))
    hostile = Hostile(t, SIZE)
    d.file('src', src)
    d.add(driver='raw', node_name='dst', file=hostile.node(**{'reconnect-delay': 1}))
    d.export('src')
    witness = t.witness(d.uri(), writers=2)
    witness.wait(20)
    if not ready:
        hostile.misdeed = misdeed
    d.qmp('blockdev-mirror', {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'full',
                              'cancel-timeout': 1})
    if ready:
        d.qmp.event('BLOCK_JOB_READY')
        hostile.misdeed = misdeed
    witness.wait(200)
    end = time.monotonic() + 1.5
    while d.qmp.job('j') and time.monotonic() < end:
        witness.wait(20)
    if d.qmp.job('j'):
        begun = time.monotonic()
        d.qmp('block-job-cancel', device='j', force=True)
        d.qmp.job_end('j')
        took = time.monotonic() - begun
        assert took < 2 + SLOW, f'{took:.1f} s'
    else:
        e = d.qmp.job_end('j')
        assert e['data'].get('error'), e
    d.qmp.job_gone('j')
    assert d.high_water_kib() < MEMORY_KIB, f'{d.high_water_kib()} KiB'
    healthy = t.image('healthy.img', SIZE)
    d.file('healthy', healthy)
    d.qmp('blockdev-mirror', {'job-id': 'k', 'device': 'src', 'target': 'healthy', 'sync': 'full'})
    d.qmp.event('BLOCK_JOB_READY', where={'device': 'k'})
    d.qmp('block-job-complete', device='k')
    d.qmp.job_ok('k')
    witness.wait(20)
    witness.stop()
    d.close()
    hostile.close()
    witness.final([healthy], [initial])


NIGHTLY = '--nightly' in sys.argv or int(os.environ.get('ROUNDS', '0')) > 1
if '--nightly' in sys.argv:
    sys.argv.remove('--nightly')
NAMES = list(MISDEEDS)


def each(name, ready):
    @test(f'the server {name}{", once the mirror is ready" if ready else ""}')
    def _(t):
        need_qblk('promises to end')
        round_with(t, MISDEEDS[name], ready)


# In the check an eighth of them.
for number, the_name in enumerate(NAMES):
    for is_ready in (False, True):
        if NIGHTLY or (2 * number + is_ready) % 8 == 0:
            each(the_name, is_ready)

main()
