#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""QMP as a person types it: single quotes, CRLF, odd spaces, several lines, several on one line."""
import json
import os
import select
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import DEADLINE, MIB  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402


class Terminal:
    """Lines in, lines out: what `socat - UNIX:qmp.sock` shows."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.buffer = b''

    def line(self):
        end = time.monotonic() + DEADLINE
        while b'\n' not in self.buffer:
            assert select.select([self.sock], [], [], max(0, end - time.monotonic()))[0], 'silence'
            data = self.sock.recv(65536)
            assert data, 'hung up'
            self.buffer += data
        line, self.buffer = self.buffer.split(b'\n', 1)
        return line

    def type(self, text):
        self.sock.sendall(text)

    def answer(self):
        while True:
            answer = json.loads(self.line())
            if 'event' not in answer:
                return answer


def terminal(t):
    """The daemon with one monitor, and a person on it."""
    d = t.daemon()
    if d.qmp:
        d.qmp.close()
    q = Terminal(d.qmp_path)
    greeting = json.loads(q.line())
    assert set(greeting['QMP']) == {'version', 'capabilities'}, greeting
    assert set(greeting['QMP']['version']) == {'qemu', 'package'}, greeting
    q.type(b"{ 'execute' : 'qmp_capabilities' }\r\n")
    assert q.answer() == {'return': {}}
    d.expect_status = None
    return d, q


def leave(d, q):
    q.type(b'{"execute":"quit"}\n')
    d.process.wait(DEADLINE)
    assert d.process.returncode == 0, d.said()


@test('single quotes, CRLF and spaces are taken; one object a line comes back')
def _(t):
    d, q = terminal(t)
    q.type(b"  {'execute':'query-block-exports'}\r\n\r\n\n")
    assert q.answer() == {'return': []}
    q.type(b"{'execute': 'query-block-jobs', 'id': \"it's\"}\n")
    assert q.answer() == {'return': [], 'id': "it's"}
    leave(d, q)


@test('the id is echoed whatever it is')
def _(t):
    d, q = terminal(t)
    for text in ('7', '"a"', '[1, {"b": null}]', '{"x": [true, 1.5]}', 'null', '-3', '""'):
        q.type(b'{"execute": "query-jobs", "id": %s}\n' % text.encode())
        assert q.answer() == {'return': [], 'id': json.loads(text)}, text
        q.type(b'{"execute": "nothing", "id": %s}\n' % text.encode())
        answer = q.answer()
        assert answer['error']['class'] == 'CommandNotFound' and answer['id'] == json.loads(text)
    leave(d, q)


@test('a command over several lines, and several commands on one line')
def _(t):
    d, q = terminal(t)
    q.type(b'{\n  "execute":\n')
    q.type(b'  "query-jobs",\r\n"id": 1\n}\n')
    assert q.answer() == {'return': [], 'id': 1}
    q.type(b'{"execute":"query-jobs","id":2}{"execute":"query-jobs","id":3} '
           b'{"execute":"query-jobs","id":4}\n')
    assert [q.answer()['id'] for _ in range(3)] == [2, 3, 4]
    leave(d, q)


@test('bytes that come one at a time')
def _(t):
    d, q = terminal(t)
    for byte in b'{"execute": "query-jobs", "id": "\\u00fcber \xc3\xbc"}\n':
        q.type(bytes([byte]))
    assert q.answer() == {'return': [], 'id': '\u00fcber \u00fc'}
    leave(d, q)


@test('a typing error is told and forgotten')
def _(t):
    d, q = terminal(t)
    q.type(b'{"execute": "query-jobs",}\n')
    assert q.answer()['error']['class'] == 'GenericError'
    q.type(b'{"execute": "query-jobs", "id": "after"}\n')
    while True:
        answer = q.answer()
        if answer.get('id') == 'after':
            break
        assert 'error' in answer, answer
    assert answer['return'] == []
    leave(d, q)


@test('a whole backup by hand')
def _(t):
    d, q = terminal(t)
    a, b = t.image('a.img', MIB, [(0, b'data')]), t.image('b.img', MIB)
    for name, path in (('a', a), ('b', b)):
        q.type(f"{{'execute':'blockdev-add','arguments':{{'driver':'file','node-name':'{name}',"
               f"'filename':'{path}'}}}}\r\n".encode())
        assert q.answer() == {'return': {}}
    q.type(b"{'execute':'blockdev-backup','arguments':{'job-id':'j','device':'a','target':'b',"
           b"'sync':'full'}}\r\n")
    seen = []
    while 'BLOCK_JOB_COMPLETED' not in seen:
        answer = json.loads(q.line())
        if 'event' in answer:
            assert set(answer) == {'event', 'data', 'timestamp'}, answer
            assert set(answer['timestamp']) == {'seconds', 'microseconds'}, answer
            seen.append(answer['event'])
        else:
            assert answer == {'return': {}}, answer
    leave(d, q)


@test('query-qmp-schema describes every command of query-commands')
def _(t):
    d, q = terminal(t)
    q.type(b"{'execute':'query-commands'}\n")
    commands = {c['name'] for c in q.answer()['return']}
    q.type(b"{'execute':'query-qmp-schema'}\n")
    schema = q.answer()['return']
    names = {e['name'] for e in schema}
    assert {e['name'] for e in schema if e['meta-type'] == 'command'} == commands
    for entry in schema:
        for key in ('arg-type', 'ret-type', 'element-type'):
            assert entry.get(key, 'null') in names or key not in entry, entry
        for member in entry.get('members', []):
            assert isinstance(member, str) or member.get('type', 'int') in names, entry
    leave(d, q)


@test('several people at once, each with an own negotiation, all with the events')
def _(t):
    need_qblk('serves several clients on one QMP socket')
    d, q = terminal(t)
    other = Terminal(d.qmp_path)
    assert 'QMP' in json.loads(other.line())
    other.type(b"{'execute':'query-jobs'}\n")
    assert other.answer()['error']['class'] == 'CommandNotFound'
    other.type(b"{'execute':'qmp_capabilities'}{'execute':'query-jobs'}\n")
    assert other.answer() == {'return': {}} and other.answer() == {'return': []}
    a, b = t.image('a.img', MIB), t.image('b.img', MIB)
    for name, path in (('a', a), ('b', b)):
        q.type(json.dumps({'execute': 'blockdev-add', 'arguments': {
            'driver': 'file', 'node-name': name, 'filename': path}}).encode())
        assert q.answer() == {'return': {}}
    q.type(json.dumps({'execute': 'blockdev-backup', 'arguments': {
        'job-id': 'j', 'device': 'a', 'target': 'b', 'sync': 'full'}}).encode())
    for person in (q, other):
        while b'BLOCK_JOB_COMPLETED' not in person.line():
            pass
    leave(d, q)


if __name__ == '__main__':
    main()
