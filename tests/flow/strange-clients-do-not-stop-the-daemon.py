#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rule H5 on the sockets: random bytes, half sentences, lies about lengths, and silence.

Whatever one client sends, the daemon lives, its other clients are served, and its memory is bounded.
"""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbd  # noqa: E402
from qblk import KIB, MIB, SANITIZED, Gone, QmpError  # noqa: E402
from rawnbd import (CMD_READ, CMD_WRITE, CMD_ZEROES, OPT_GO, OPT_INFO, OPT_LIST,  # noqa: E402
                    RawNbd)
from tap import main, need_qblk, test  # noqa: E402

# What strange clients may cost for good: a few connections' buffers, not their claims.
GROWTH_KIB = 64 * KIB


def served(t, size=4 * MIB):
    d = t.daemon()
    d.file('src', t.image('src.img', size, [(0, b'first' * 100)]))
    d.export('src')
    return d


def still_fine(d):
    """The daemon answers on QMP and on NBD."""
    assert d.alive(), d.said()
    d.qmp('query-status') if has(d, 'query-status') else d.qmp('query-block-exports')
    h = nbd.NBD()
    h.connect_uri(d.uri())
    assert h.pread(5, 0) == b'first'
    h.shutdown()


def has(d, command):
    return command in [c['name'] for c in d.qmp('query-commands')]


def send_until_closed(sock, data):
    """The other side may hang up at any byte of it."""
    try:
        for at in range(0, len(data), 4096):
            sock.sendall(data[at:at + 4096])
        return True
    except (BrokenPipeError, ConnectionResetError):
        return False


@test('a MiB of random bytes on the NBD socket is an end of that connection')
def _(t):
    d = served(t)
    for _ in range(4):
        c = RawNbd(d.nbd_path)
        send_until_closed(c.sock, t.random.randbytes(MIB))
        c.closed()
    still_fine(d)


@test('random bytes after the handshake, in the place of options or of requests')
def _(t):
    d = served(t)
    for _ in range(8):
        c = RawNbd(d.nbd_path)
        c.greet()
        send_until_closed(c.sock, t.random.randbytes(64 * KIB))
        c.sock.shutdown(1)
        c.closed()
        c = RawNbd(d.nbd_path, 'disk')
        send_until_closed(c.sock, t.random.randbytes(64 * KIB))
        c.sock.shutdown(1)
        c.closed()
    still_fine(d)


@test('options that lie about their length are refused')
def _(t):
    d = served(t)
    before = d.high_water_kib()
    for option in (OPT_GO, OPT_INFO, OPT_LIST, 0xfff0):
        c = RawNbd(d.nbd_path)
        c.greet()
        c.option(option, b'', length=0xffffffff)
        c.sock.shutdown(1)
        c.closed()
        c = RawNbd(d.nbd_path)
        c.greet()
        c.option(OPT_GO, struct.pack('>I', 0x7fffffff) + b'disk')
        kind, _ = c.option_reply()
        assert kind & 0x80000000, hex(kind)
    still_fine(d)
    assert SANITIZED or d.high_water_kib() - before < GROWTH_KIB


@test('an export that is not there is an answer, and the client may try another')
def _(t):
    d = served(t)
    c = RawNbd(d.nbd_path)
    c.greet()
    c.option(OPT_GO, struct.pack('>I', 5) + b'ghost' + struct.pack('>H', 0))
    kind, _ = c.option_reply()
    assert kind == 0x80000006, hex(kind)
    c.go('disk')
    assert c.size == 4 * MIB
    still_fine(d)


@test('requests outside of the disk, too long or unknown are errors before any buffer is taken')
def _(t):
    d = served(t)
    before = d.high_water_kib()
    c = RawNbd(d.nbd_path, 'disk')
    for offset, length in ((4 * MIB, 512), (4 * MIB - 512, 1024), (1 << 63, 512),
                           ((1 << 64) - 512, 1024)):
        c.request(CMD_READ, offset, length)
        assert c.reply()[0] == 22, (offset, length)
        c.request(CMD_WRITE, offset, length, bytes(length))
        assert c.reply()[0] in (22, 28), (offset, length)
        c.request(CMD_ZEROES, offset, length)
        assert c.reply()[0] in (22, 28), (offset, length)
    c.request(77, 0, 512)
    assert c.reply()[0] == 22
    c.request(CMD_READ, 0, 512, flags=0x8000)
    assert c.reply()[0] == 22
    c.request(CMD_READ, 0, 5)
    assert c.reply(5) == (0, b'first')
    for command in (CMD_READ, CMD_WRITE):
        for _ in range(32):
            big = RawNbd(d.nbd_path, 'disk')
            big.request(command, 0, 0xfffffe00)
            big.sock.shutdown(1)
            big.closed()
    still_fine(d)
    assert SANITIZED or d.high_water_kib() - before < GROWTH_KIB


def rude_visit(t, d):
    """Comes, gets to some phase, says something unfit, and does not wait; returns the connection."""
    c = RawNbd(d.nbd_path)
    phase = t.random.randrange(6)
    if phase == 0:
        return c
    c.greet()
    if phase == 1:
        c.send(b'IHAVEOPT'[:t.random.randrange(8)])
    elif phase == 2:
        c.option(t.random.randrange(12), t.random.randbytes(t.random.randrange(64)),
                 length=t.random.choice([None, MIB, 3]))
    else:
        c.go('disk')
        rude_requests(t, c)
    return c


def rude_requests(t, c):
    """One cookie for all, any command, place, length and flags; the last write may lack its payload."""
    for _ in range(t.random.randrange(1, 80)):
        command = t.random.choice([0, 1, 1, 3, 4, 5, 6, 7, 99])
        length = t.random.choice([512, 4096, 64 * KIB, MIB, 32 * MIB, 1 << 31])
        data = bytes(min(length, 64 * KIB)) if command == CMD_WRITE else b''
        try:
            c.request(command, t.random.choice([0, t.random.randrange(4 * MIB), 1 << 62]), length,
                      data[:t.random.choice([len(data), len(data) // 2])], cookie=7,
                      flags=t.random.choice([0, 1, 2, 255]))
        except (BrokenPipeError, ConnectionResetError):
            return
        if len(data) < length and command == CMD_WRITE:
            return


@test('while a backup runs, clients leave in every phase or stay for ever, and harm nobody')
def _(t):
    d = served(t)
    d.file('dst', t.image('dst.img', 4 * MIB))
    d.qmp('blockdev-backup', {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'none'})
    staying = []
    for _ in range(300):
        c = rude_visit(t, d)
        if t.random.random() < .2 and len(staying) < 50:
            staying.append(c)
        else:
            c.sock.close()
    assert d.alive(), d.said()
    # Each of those who stay may hold one payload, half sent.
    assert SANITIZED or d.high_water_kib() < 50 * 64 * KIB, d.high_water_kib()
    nbd.NBD().connect_uri(d.uri())
    d.qmp('block-job-cancel', device='j')
    d.qmp.job_gone('j')
    for c in staying:
        c.sock.close()


@test('a request with a wrong magic ends the connection')
def _(t):
    d = served(t)
    c = RawNbd(d.nbd_path, 'disk')
    c.request(CMD_READ, 0, 512, magic=0x12345678)
    assert c.closed()
    still_fine(d)


@test('clients that connect and say nothing keep nobody else out')
def _(t):
    d = served(t)
    silent = [RawNbd(d.nbd_path) for _ in range(20)]
    half = RawNbd(d.nbd_path)
    half.greet()
    half.send(b'IHAVE')
    still_fine(d)
    for c in [*silent, half]:
        c.sock.close()
    still_fine(d)


@test('a silent QMP client keeps no other client out')
def _(t):
    need_qblk('serves several clients on one QMP socket')
    d = served(t)
    silent = [d.connect(negotiate=False) for _ in range(8)]
    still_fine(d)
    for q in silent:
        assert q.greeting['QMP']['version'], q.greeting
        q.close()
    still_fine(d)


def qmp_talk(d, text):
    """Says @text after the negotiation; returns the replies until one to the id 'end'."""
    d.qmp.send_raw(text + b'\n{"execute": "query-block-exports", "id": "end"}\n')
    replies = []
    while True:
        answer = d.qmp.read()
        if answer.get('id') == 'end':
            return replies, answer
        replies.append(answer)


@test('a syntax error is an answer, and the next command is obeyed')
def _(t):
    d = served(t)
    for text in (b'{"execute": query}', b'{"execute" "x"}', b'}', b'{"a": 1e}', b'[}', b'\xff\xfe',
                 b'{"execute": "x", }', b'nonsense', b'{"execute": "\\ud800"}', b'"half'):
        replies, last = qmp_talk(d, text + b'\n')
        assert replies and 'error' in replies[0], (text, replies)
        assert 'return' in last, (text, last)
    still_fine(d)


@test('messages that are JSON and no command are refused with a reason')
def _(t):
    d = served(t)
    for text in (b'7', b'[]', b'"quit"', b'null', b'{}', b'{"execute": 7}', b'{"arguments": {}}',
                 b'{"execute": "query-jobs", "arguments": 7}', b'{"execute": "query-jobs", "x": 1}',
                 b'{"execute": "query-jobs", "exec-oob": "query-jobs"}'):
        replies, last = qmp_talk(d, text)
        assert len(replies) == 1 and replies[0]['error']['class'] == 'GenericError', (text, replies)
        assert 'return' in last, (text, last)
    still_fine(d)


@test('a message that nests too deep is refused and the next one is obeyed')
def _(t):
    d = served(t)
    text = b'{"execute": "query-jobs", "arguments": {"a": ' + b'[' * 100000 + b']' * 100000 + b'}}'
    replies, last = qmp_talk(d, text)
    assert replies and 'error' in replies[0], replies[:1]
    assert 'return' in last, last
    still_fine(d)


@test('a message without an end is bounded in memory')
def _(t):
    need_qblk('serves several clients on one QMP socket')
    d = served(t)
    before = d.high_water_kib()
    q = d.connect()
    send_until_closed(q.sock, b'{"execute": "' + b'a' * (128 * MIB))
    q.close()
    q = d.connect()
    send_until_closed(q.sock, b'[' * (128 * MIB))
    q.close()
    still_fine(d)
    assert SANITIZED or d.high_water_kib() - before < 160 * KIB, d.high_water_kib() - before


@test('a MiB of random bytes on the QMP socket, and the daemon goes on')
def _(t):
    need_qblk('serves several clients on one QMP socket')
    d = served(t)
    for _ in range(3):
        q = d.connect()
        q.sock.setblocking(False)
        data = t.random.randbytes(MIB)
        drain_while_sending(q.sock, data)
        q.close()
    still_fine(d)


def drain_while_sending(sock, data):
    """Random bytes are many syntax errors, hence many answers: read them, or both sides block."""
    import select
    at = 0
    while at < len(data):
        readable, writable, _ = select.select([sock], [sock], [], 30)
        assert readable or writable, 'the daemon neither reads nor writes'
        try:
            if readable and not sock.recv(1 << 16):
                return
            if writable:
                at += sock.send(data[at:at + 4096])
        except (BrokenPipeError, ConnectionResetError):
            return


@test('a client that reads none of its answers stops nobody else')
def _(t):
    need_qblk('serves several clients on one QMP socket')
    d = served(t)
    before = d.high_water_kib()
    q = d.connect()
    q.sock.setblocking(False)
    command = b'{"execute": "query-qmp-schema"}\n'
    try:
        for _ in range(100000):
            q.sock.send(command)
    except BlockingIOError:
        pass
    except (BrokenPipeError, ConnectionResetError):
        pass
    still_fine(d)
    q.close()
    still_fine(d)
    assert SANITIZED or d.high_water_kib() - before < 256 * KIB, d.high_water_kib() - before


@test('commands before the negotiation are refused')
def _(t):
    need_qblk('serves several clients on one QMP socket')
    d = served(t)
    q = d.connect(negotiate=False)
    assert q.greeting['QMP']['capabilities'] == ['backup-staging-events'], q.greeting
    try:
        q('query-jobs')
        raise AssertionError('obeyed before qmp_capabilities')
    except QmpError as e:
        assert e.cls == 'CommandNotFound', e
    try:
        q('qmp_capabilities', enable=['magic'])
        raise AssertionError('took a capability that does not exist')
    except QmpError as e:
        assert e.cls == 'GenericError', e
    error = q.error('qmp_capabilities', enable=['backup-staging-events', 'oob'])
    assert error.desc == "Capability 'oob' is not available", error
    q('qmp_capabilities', enable=['backup-staging-events'])
    q('query-jobs')
    q.close()


@test('hanging up in the middle of a JSON is no news')
def _(t):
    need_qblk('serves several clients on one QMP socket')
    d = served(t)
    for text in (b'{', b'{"execute": "quit', b'{"execute": "query-jobs", "arguments": {', b"'"):
        q = d.connect()
        q.send_raw(text)
        q.sock.shutdown(1)
        try:
            while True:
                q.read()
        except Gone:
            pass
        q.close()
    still_fine(d)


if __name__ == '__main__':
    main()
