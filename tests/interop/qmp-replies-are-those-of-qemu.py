#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The same lines to qblk-storage-daemon and qemu-storage-daemon: the replies must say the same.

usage: qmp-replies-are-those-of-qemu.py [--verbose] [QBLK [QEMU]]

Without QBLK it is QBLK_DAEMON, or build/qblk-storage-daemon.

Compared are the members of each reply, with numbers of versions and made-up names left out. Where the
two differ on purpose the case names both answers. Prints TAP; without a qemu-storage-daemon
of QEMU 10 it skips.
"""
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile

# Each session starts fresh and negotiated unless it begins with RAW.  A line is text as it is sent.
RAW = object()


class WAIT:
    """A line, and then all events until one of this name (and this status): they must be the same."""

    def __init__(self, line, event, status=None):
        self.line, self.event, self.status = line, event, status

    def is_over(self, message):
        return message.get('event') == self.event and (
            not self.status or message['data']['status'] == self.status)


# Members of query-block-jobs that say more of a mirror than QEMU's.
EXTRA = ['copy-mode', 'dirty', 'dirty-rate', 'copy-rate', 'write-through',
         'write-through-bytes', 'estimated-ready-seconds', 'not-converging', 'rate']


def mirror(change):
    arguments = dict({'job-id': 'j', 'device': 'a', 'target': 'b', 'sync': 'full'}, **change)
    return json.dumps({'execute': 'blockdev-mirror',
                       'arguments': {k: v for k, v in arguments.items() if v is not None}})


def mirrors(*changes):
    return [mirror(change) for change in changes]


ABC_NODES = [json.dumps({'execute': 'blockdev-add', 'arguments': {
    'driver': 'file', 'node-name': name, 'filename': name + '.img'}}) for name in 'abc']
SESSIONS = {
    'negotiation comes first, once': [
        RAW,
        '{"execute": "query-version"}',
        '{"execute": "qmp_capabilities", "id": {"a": [1, null, "x"]}}',
        '{"execute": "qmp_capabilities", "id": 2}',
        '{"execute": "qmp_capabilities"}',
    ],
    'requests of the wrong shape': [
        '[1, 2]', '"x"', '17', 'null', '{"execute": 3}', '{"foo": 1}', '{}',
        '{"execute": "query-version", "foo": 1}', '{"execute": "query-version", "arguments": 3}',
        '{"execute": "query-version", "arguments": {"a": 1}}', '{"execute": "nope", "id": 5}',
        "{'execute': 'nope', 'id': '\\u00e9'}", '{"execute": "nope", "id": "\u00e9\U0001f600"}',
        '{"execute": "nope", "id": -9223372036854775808}',
        '{"execute": "nope", "id": [1, 2.5, true, {}]}',
    ],
    'garbage, and the request after it': [
        'garbage', '{"execute": "nope", "id": 1}', '}', '{"execute": "nope", "id": 2}', ']',
        '{"execute": "nope", "id": 3}', '{"execute": "nope" "id"}', '{"execute": "nope", "id": 4}',
        '{"a": 1, "a": 2}', '{"execute": "nope", "id": 5}', '{"a": "\\q"}',
        '{"execute": "nope", "id": 6}', '{1: 2}', '{"execute": "nope", "id": 7}', '{"a": 01}',
        '{"execute": "nope", "id": 8}', '{"a": tru}', '{"execute": "nope", "id": 9}',
    ],
    'blockdev-add': [
        '{"execute": "blockdev-add", "arguments": {}}',
        '{"execute": "blockdev-add", "arguments": {"driver": "x"}}',
        '{"execute": "blockdev-add", "arguments": {"driver": 3}}',
        '{"execute": "blockdev-add", "arguments": {"driver": "null-co"}}',
        '{"execute": "blockdev-add", "arguments": {"driver": "null-co", "zz": 3}}',
        '{"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "1x"}}',
        '{"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "n"}}',
        '{"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "n"}}',
        '{"execute": "blockdev-add", "arguments": {"driver": "file", "node-name": "f"}}',
        '{"execute": "blockdev-add", "arguments": {"driver": "file", "node-name": "f", '
        '"filename": "nope.img"}}',
        '{"execute": "blockdev-add", "arguments": {"driver": "raw", "node-name": "r", "file": "nope"}}',
        '{"execute": "blockdev-add", "arguments": {"driver": "raw", "node-name": "r", "file": "n"}}',
        '{"execute": "blockdev-del", "arguments": {"node-name": "n"}}',
        '{"execute": "blockdev-del", "arguments": {"node-name": "nope"}}',
        '{"execute": "blockdev-del", "arguments": {"node-name": "r"}}',
        '{"execute": "blockdev-del", "arguments": {"node-name": "n"}}',
        '{"execute": "blockdev-reopen", "arguments": {"options": [{"driver": "null-co", '
        '"node-name": "nope"}]}}',
    ],
    'block_resize': [
        '{"execute": "blockdev-add", "arguments": {"driver": "file", "node-name": "c", '
        '"filename": "c.img"}}',
        '{"execute": "block_resize", "arguments": {"node-name": "c", "size": -1}}',
        '{"execute": "block_resize", "arguments": {"size": 4096}}',
        '{"execute": "block_resize", "arguments": {"device": "c", "size": 4096}}',
        '{"execute": "block_resize", "arguments": {"node-name": "c", "size": 1048576}}',
    ],
    'dirty bitmaps': [
        '{"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "a"}}',
        '{"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "b"}}',
        '{"execute": "block-dirty-bitmap-add", "arguments": {"node": "a", "name": "z"}}',
        '{"execute": "block-dirty-bitmap-add", "arguments": {"node": "a", "name": "z"}}',
        '{"execute": "block-dirty-bitmap-add", "arguments": {"node": "a", "name": ""}}',
        '{"execute": "block-dirty-bitmap-add", "arguments": {"node": "a", "name": "y", '
        '"granularity": 3}}',
        '{"execute": "block-dirty-bitmap-add", "arguments": {"node": "a", "name": "y", '
        '"persistent": true}}',
        '{"execute": "block-dirty-bitmap-add", "arguments": {"node": "a", "name": "y", '
        '"granularity": 4096, "disabled": true}}',
        '{"execute": "block-dirty-bitmap-clear", "arguments": {"node": "a", "name": "q"}}',
        '{"execute": "block-dirty-bitmap-remove", "arguments": {"node": "q", "name": "q"}}',
        '{"execute": "block-dirty-bitmap-enable", "arguments": {"node": "a", "name": "y"}}',
        '{"execute": "block-dirty-bitmap-disable", "arguments": {"node": "a", "name": "y"}}',
        '{"execute": "block-dirty-bitmap-merge", "arguments": {"node": "a", "target": "y", '
        '"bitmaps": ["z", "q"]}}',
        '{"execute": "block-dirty-bitmap-merge", "arguments": {"node": "a", "target": "y", '
        '"bitmaps": ["z", {"node": "b", "name": "q"}]}}',
        '{"execute": "block-dirty-bitmap-merge", "arguments": {"node": "a", "target": "y", '
        '"bitmaps": ["z"]}}',
        '{"execute": "block-dirty-bitmap-remove", "arguments": {"node": "a", "name": "y"}}',
    ],
    'backups that are refused': [
        '{"execute": "blockdev-add", "arguments": {"driver": "file", "node-name": "a", '
        '"filename": "a.img"}}',
        '{"execute": "blockdev-add", "arguments": {"driver": "file", "node-name": "b", '
        '"filename": "b.img"}}',
        '{"execute": "blockdev-add", "arguments": {"driver": "file", "node-name": "c", '
        '"filename": "c.img"}}',
        '{"execute": "blockdev-backup", "arguments": {"device": "a", "target": "a", "sync": "full", '
        '"job-id": "j"}}',
        '{"execute": "blockdev-backup", "arguments": {"device": "a", "target": "b", "sync": "full"}}',
        '{"execute": "blockdev-backup", "arguments": {"device": "a", "target": "b", "sync": "full", '
        '"job-id": "@j"}}',
        '{"execute": "blockdev-backup", "arguments": {"device": "a", "target": "c", "sync": "full", '
        '"job-id": "j"}}',
        '{"execute": "blockdev-backup", "arguments": {"device": "x", "target": "c", "sync": "full", '
        '"job-id": "j"}}',
        '{"execute": "blockdev-backup", "arguments": {"device": "a", "target": "x", "sync": "full", '
        '"job-id": "j"}}',
        '{"execute": "blockdev-backup", "arguments": {"device": "a", "target": "b", '
        '"sync": "incremental", "job-id": "j"}}',
        '{"execute": "blockdev-backup", "arguments": {"device": "a", "target": "b", '
        '"sync": "incremental", "job-id": "j", "bitmap": "z"}}',
        '{"execute": "blockdev-backup", "arguments": {"device": "a", "target": "b", "sync": "full", '
        '"job-id": "j", "bitmap-mode": "never"}}',
        '{"execute": "block-dirty-bitmap-add", "arguments": {"node": "a", "name": "z"}}',
        '{"execute": "blockdev-backup", "arguments": {"device": "a", "target": "b", '
        '"sync": "bitmap", "job-id": "j", "bitmap": "z"}}',
        '{"execute": "blockdev-backup", "arguments": {"device": "a", "target": "b", '
        '"sync": "incremental", "job-id": "j", "bitmap": "z", "bitmap-mode": "always"}}',
        '{"execute": "blockdev-backup", "arguments": {"device": "a", "target": "b", '
        '"sync": "none", "job-id": "j", "bitmap": "z", "bitmap-mode": "always"}}',
        '{"execute": "blockdev-backup", "arguments": {"device": "a", "target": "b", '
        '"sync": "full", "job-id": "j", "bitmap": "z", "bitmap-mode": "never"}}',
        '{"execute": "blockdev-backup", "arguments": {"device": "a", "target": "b", '
        '"sync": "nope", "job-id": "j"}}',
        '{"execute": "drive-backup", "arguments": {"device": "a", "target": "n1", "sync": "full", '
        '"job-id": "j", "format": "nope"}}',
        '{"execute": "drive-backup", "arguments": {"device": "a", "target": "n1", "sync": "full", '
        '"job-id": "j", "format": "null-co"}}',
        '{"execute": "drive-backup", "arguments": {"device": "a", "target": "nope", "sync": "full", '
        '"job-id": "j", "mode": "existing"}}',
        '{"execute": "drive-backup", "arguments": {"device": "a", "target": "/nope/n", '
        '"sync": "full", "job-id": "j"}}',
    ],
    'a backup, its verbs and its events': [
        '{"execute": "blockdev-add", "arguments": {"driver": "file", "node-name": "a", '
        '"filename": "a.img"}}',
        '{"execute": "blockdev-add", "arguments": {"driver": "file", "node-name": "b", '
        '"filename": "b.img"}}',
        '{"execute": "blockdev-backup", "arguments": {"device": "a", "target": "b", "sync": "none", '
        '"job-id": "j"}}',
        '{"execute": "block-job-set-speed", "arguments": {"device": "j", "speed": -1}}',
        '{"execute": "block-job-set-speed", "arguments": {"device": "k", "speed": 1}}',
        '{"execute": "block-job-pause", "arguments": {"device": "j"}}',
        '{"execute": "block-job-pause", "arguments": {"device": "j"}}',
        '{"execute": "block-job-cancel", "arguments": {"device": "j"}}',
        '{"execute": "block-job-resume", "arguments": {"device": "j"}}',
        '{"execute": "block-job-resume", "arguments": {"device": "j"}}',
        '{"execute": "block-job-complete", "arguments": {"device": "j"}}',
        '{"execute": "block-job-finalize", "arguments": {"id": "j"}}',
        '{"execute": "block-job-dismiss", "arguments": {"id": "j"}}',
        '{"execute": "job-pause", "arguments": {"id": "k"}}',
        '{"execute": "job-dismiss", "arguments": {"id": "j"}}',
        '{"execute": "block_resize", "arguments": {"node-name": "b", "size": 4096}}',
        '{"execute": "blockdev-del", "arguments": {"node-name": "b"}}',
        # How long the job takes to be gone is no matter of replies.
        '{"execute": "block-job-cancel", "arguments": {"device": "j"}}',
    ],
    'mirrors that are refused': [
        *ABC_NODES,
        *mirrors(
            {'target': 'a'}, {'job-id': None}, {'job-id': '@j'}, {'job-id': '1 2'},
            {'device': 'x'}, {'target': 'x'}, {'sync': 'nope'}, {'sync': None}, {'sync': 'incremental'},
            {'granularity': 3}, {'granularity': 256}, {'granularity': 100000}, {'granularity': -1},
            {'granularity': 1 << 27}, {'granularity': 1 << 33}, {'buf-size': -1},
            {'buf-size': 'x'}, {'speed': -1}, {'speed': 'x'}, {'replaces': 'x'}, {'replaces': 'b'},
            {'on-source-error': 'cry'}, {'on-target-error': 3}, {'copy-mode': 'nope'}, {'copy-mode': 1},
            {'auto-finalize': 'yes'}, {'auto-dismiss': 1}, {'unmap': True}, {'bogus': 1}),
        '{"execute": "drive-mirror", "arguments": {"device": "a", "target": "n1", "sync": "full", '
        '"job-id": "j", "format": "nope"}}',
        '{"execute": "drive-mirror", "arguments": {"device": "a", "target": "n1", "sync": "full", '
        '"job-id": "j", "format": "null-co"}}',
        '{"execute": "drive-mirror", "arguments": {"device": "a", "target": "nope", "sync": "full", '
        '"job-id": "j", "mode": "existing"}}',
        '{"execute": "drive-mirror", "arguments": {"device": "a", "target": "/nope/n", '
        '"sync": "full", "job-id": "j"}}',
        '{"execute": "drive-mirror", "arguments": {"device": "a", "target": "n1", '
        '"sync": "full", "job-id": "j", "replaces": "a"}}',
        '{"execute": "drive-mirror", "arguments": {"device": "a", "target": "n1", '
        '"sync": "full", "job-id": "j", "mode": "nope"}}',
        '{"execute": "block-job-change", "arguments": {"id": "j", "type": "mirror", '
        '"copy-mode": "background"}}',
        '{"execute": "block-job-complete", "arguments": {"device": "j"}}',
        '{"execute": "transaction", "arguments": {"actions": [{"type": "blockdev-mirror", "data": {}}]}}',
    ],
    'a mirror, its verbs and its events': [
        *ABC_NODES,
        WAIT(mirror({'auto-finalize': False, 'auto-dismiss': False}), 'BLOCK_JOB_READY'),
        '{"execute": "query-block-jobs"}',
        '{"execute": "query-jobs"}',
        '{"execute": "block-job-set-speed", "arguments": {"device": "j", "speed": -1}}',
        '{"execute": "block-job-set-speed", "arguments": {"device": "k", "speed": 1}}',
        '{"execute": "block-job-change", "arguments": {"id": "j", "type": "mirror"}}',
        '{"execute": "block-job-change", "arguments": {"id": "j", "type": "nope"}}',
        '{"execute": "block-job-change", "arguments": {"id": "j", "type": "mirror", '
        '"copy-mode": "nope"}}',
        '{"execute": "block-job-change", "arguments": {"id": "k", "type": "mirror", '
        '"copy-mode": "background"}}',
        '{"execute": "block-job-change", "arguments": {"id": "j", "type": "mirror", '
        '"copy-mode": "background"}}',
        '{"execute": "block-job-change", "arguments": {"id": "j", "type": "mirror", '
        '"copy-mode": "write-blocking"}}',
        '{"execute": "job-finalize", "arguments": {"id": "j"}}',
        '{"execute": "job-dismiss", "arguments": {"id": "j"}}',
        '{"execute": "block_resize", "arguments": {"node-name": "a", "size": 4096}}',
        '{"execute": "block_resize", "arguments": {"node-name": "b", "size": 4096}}',
        '{"execute": "blockdev-del", "arguments": {"node-name": "a"}}',
        '{"execute": "block-job-resume", "arguments": {"device": "j"}}',
        WAIT('{"execute": "block-job-pause", "arguments": {"device": "j"}}', 'JOB_STATUS_CHANGE'),
        '{"execute": "block-job-pause", "arguments": {"device": "j"}}',
        '{"execute": "block-job-complete", "arguments": {"device": "j"}}',
        WAIT('{"execute": "block-job-resume", "arguments": {"device": "j"}}', 'JOB_STATUS_CHANGE'),
        WAIT('{"execute": "block-job-complete", "arguments": {"device": "j"}}', 'BLOCK_JOB_PENDING'),
        '{"execute": "block-job-complete", "arguments": {"device": "j"}}',
        '{"execute": "block-job-pause", "arguments": {"device": "j"}}',
        '{"execute": "query-jobs"}',
        WAIT('{"execute": "job-finalize", "arguments": {"id": "j"}}', 'BLOCK_JOB_COMPLETED'),
        '{"execute": "query-jobs"}',
        '{"execute": "job-cancel", "arguments": {"id": "j"}}',
        '{"execute": "block-job-dismiss", "arguments": {"id": "j"}}',
        '{"execute": "query-jobs"}',
        '{"execute": "blockdev-del", "arguments": {"node-name": "a"}}',
        '{"execute": "blockdev-del", "arguments": {"node-name": "b"}}',
    ],
    'a mirror that is ready is cancelled': [
        *ABC_NODES,
        WAIT(mirror({}), 'BLOCK_JOB_READY'),
        WAIT('{"execute": "block-job-cancel", "arguments": {"device": "j"}}', 'JOB_STATUS_CHANGE', 'null'),
        WAIT(mirror({}), 'BLOCK_JOB_READY'),
        WAIT('{"execute": "block-job-cancel", "arguments": {"device": "j", "force": true}}',
             'JOB_STATUS_CHANGE', 'null'),
        WAIT(mirror({}), 'BLOCK_JOB_READY'),
        WAIT('{"execute": "job-cancel", "arguments": {"id": "j"}}', 'JOB_STATUS_CHANGE', 'null'),
        WAIT(mirror({'sync': 'none'}), 'BLOCK_JOB_READY'),
        WAIT('{"execute": "job-complete", "arguments": {"id": "j"}}', 'JOB_STATUS_CHANGE', 'null'),
    ],
    'a mirror that is not ready': [
        *ABC_NODES,
        mirror({'speed': 1}),
        '{"execute": "block-job-complete", "arguments": {"device": "j"}}',
        # How far it has come is no matter of replies.
        '{"execute": "block-job-cancel", "arguments": {"device": "j"}}',
    ],
    'transactions': [
        '{"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "a"}}',
        '{"execute": "transaction", "arguments": {"actions": []}}',
        '{"execute": "transaction", "arguments": {"actions": [{"type": "foo", "data": {}}]}}',
        '{"execute": "transaction", "arguments": {"actions": [{"type": "abort", "data": {}}]}}',
        '{"execute": "transaction", "arguments": {"actions": [{"type": "block-dirty-bitmap-add", '
        '"data": {"node": "a", "name": "t"}}, {"type": "abort", "data": {}}]}}',
        '{"execute": "block-dirty-bitmap-remove", "arguments": {"node": "a", "name": "t"}}',
        '{"execute": "transaction", "arguments": {"actions": [{"type": "block-dirty-bitmap-add", '
        '"data": {"node": "a", "name": "t"}}], "properties": {"completion-mode": "grouped"}}}',
        '{"execute": "transaction", "arguments": {"actions": [{"type": "block-dirty-bitmap-add", '
        '"data": {"node": "a", "name": "t"}}, {"type": "block-dirty-bitmap-disable", '
        '"data": {"node": "a", "name": "t"}}]}}',
        '{"execute": "block-dirty-bitmap-remove", "arguments": {"node": "a", "name": "t"}}',
    ],
    'objects': [
        '{"execute": "object-add", "arguments": {"qom-type": "iothread", "id": "t"}}',
        '{"execute": "object-add", "arguments": {"qom-type": "iothread", "id": "t"}}',
        '{"execute": "object-add", "arguments": {"qom-type": "throttle-group", "id": "1t"}}',
        '{"execute": "object-add", "arguments": {"qom-type": "nope", "id": "x"}}',
        '{"execute": "object-add", "arguments": {"qom-type": "throttle-group", "id": "g", '
        '"limits": {"iops-total": 1, "iops-read": 1}}}',
        '{"execute": "object-del", "arguments": {"id": "nope"}}',
        '{"execute": "object-del", "arguments": {"id": "t"}}',
    ],
    'exports': [
        '{"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "a"}}',
        '{"execute": "nbd-server-stop"}',
        '{"execute": "block-export-add", "arguments": {"type": "nbd", "id": "e", "node-name": "a"}}',
        '{"execute": "nbd-server-start", "arguments": {"addr": {"type": "unix", "data": '
        '{"path": "n.sock"}}}}',
        '{"execute": "nbd-server-start", "arguments": {"addr": {"type": "unix", "data": '
        '{"path": "n.sock"}}}}',
        '{"execute": "block-export-add", "arguments": {"type": "nbd", "id": "@", "node-name": "a"}}',
        '{"execute": "block-export-add", "arguments": {"type": "nbd", "id": "e", "node-name": "a", '
        '"iothread": "nope"}}',
        '{"execute": "block-export-add", "arguments": {"type": "nbd", "id": "e", "node-name": "a", '
        '"bitmaps": ["nope"]}}',
        '{"execute": "block-export-add", "arguments": {"type": "nbd", "id": "e", "node-name": "a"}}',
        '{"execute": "block-export-add", "arguments": {"type": "nbd", "id": "e", "node-name": "a"}}',
        '{"execute": "block-export-add", "arguments": {"type": "nbd", "id": "e2", "node-name": "q"}}',
        '{"execute": "query-block-exports"}',
        '{"execute": "block-export-del", "arguments": {"id": "nope"}}',
        '{"execute": "block-export-del", "arguments": {"id": "e"}}',
        '{"execute": "nbd-server-stop"}',
    ],
}


class Session:
    def __init__(self, binary, directory):
        path = os.path.join(directory, 'qmp.sock')
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        os.set_inheritable(listener.fileno(), True)
        self.process = subprocess.Popen(
            [binary, '--chardev', f'socket,id=c,fd={listener.fileno()},server=on,wait=off',
             '--monitor', 'chardev=c'],
            pass_fds=[listener.fileno()], cwd=directory, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        listener.close()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(path)
        self.file = self.socket.makefile('rwb')
        self.greeting = json.loads(self.file.readline())
        # The peer does when a client is taken while its monitor is still being made.
        self.may_greet_twice = 'qemu' in os.path.basename(binary)

    def send(self, line):
        """All messages until the reply, the reply last."""
        self.file.write(line.encode() + b'\n')
        self.file.flush()
        messages = []
        while True:
            text = self.file.readline()
            if not text:
                return messages + ['the daemon is gone']
            assert text.endswith(b'\r\n'), text
            message = json.loads(text)
            if 'QMP' in message and self.may_greet_twice:
                continue
            messages.append(message)
            if 'event' not in message:
                return messages

    def receive(self):
        return json.loads(self.file.readline())

    def close(self):
        self.file.close()
        self.socket.close()
        self.process.terminate()
        return self.process.wait(20)


def plain(value):
    """Without what may differ: times, and the members that qblk has beyond those of QEMU."""
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in ('timestamp', *EXTRA)}
    return value


def normalise(messages):
    """Reply without what may differ: versions, made-up names, events in between."""
    text = json.dumps(plain(messages), sort_keys=True)
    return re.sub(r'#block\d+', '#blockN', text)


def converse(session, line):
    """The reply; and where events are waited for, they and it in order of their kinds."""
    if not isinstance(line, WAIT):
        return normalise(session.send(line)[-1])
    messages = session.send(line.line)
    while not any(line.is_over(m) for m in messages if m is not messages[-1] or 'event' in m):
        messages.append(session.receive())
    events = [m for m in messages if 'event' in m]
    return normalise([m for m in messages if 'event' not in m] + events)


def run(binary, lines, directory):
    for name, size in (('a.img', 1 << 20), ('b.img', 1 << 20), ('c.img', 2 << 20)):
        with open(os.path.join(directory, name), 'wb') as image:
            image.truncate(size)
            if name == 'a.img':
                image.write(b'x' * size)    # to QEMU's mirror zeros are data too
    session = Session(binary, directory)
    try:
        replies = []
        if lines[0] is RAW:
            lines = lines[1:]
        else:
            session.send('{"execute": "qmp_capabilities"}')
        for line in lines:
            replies.append(converse(session, line))
        status = session.close()
        return lines, replies, status
    finally:
        session.process.kill()


def run_peer(binary, lines):
    """The peer, which now and then loses the first request of a client that came early, is asked again."""
    for _ in range(3):
        with tempfile.TemporaryDirectory() as directory:
            try:
                return run(binary, lines, directory)
            except TimeoutError:
                print(f'# {binary} did not answer: once more', flush=True)
    raise TimeoutError(f'{binary} did not answer three times')


def compare(name, lines, qblk, qemu, verbose):
    with tempfile.TemporaryDirectory() as directory:
        try:
            results = [run(qblk, lines, directory)]
        except TimeoutError:
            return [f'{qblk} did not answer']
    results.append(run_peer(qemu, lines))
    sent, ours, status = results[0]
    theirs = results[1][1]
    bad = [] if status == 0 else [f'exit status {status}']
    for line, one, other in zip(sent, ours, theirs):
        if verbose:
            print(f'# > {getattr(line, "line", line)}\n#   {one}')
        if one != other:
            bad.append(f'{getattr(line, "line", line)}\n#     qblk {one}\n#     qemu {other}')
    return bad


def main():
    args = [a for a in sys.argv[1:] if a != '--verbose']
    qblk = os.path.abspath(args[0] if args else
                           os.environ.get('QBLK_DAEMON', 'build/qblk-storage-daemon'))
    qemu = shutil.which(args[1] if len(args) > 1 else 'qemu-storage-daemon')
    if not qemu:
        print('1..0 # SKIP no qemu-storage-daemon')
        return 0
    version = subprocess.run([qemu, '--version'], capture_output=True, text=True).stdout
    if not re.search(r'version 10\.', version):
        print('1..0 # SKIP the replies are those of QEMU 10; this is ' + version.split('\n')[0])
        return 0
    failed = 0
    print(f'1..{len(SESSIONS)}')
    for number, (name, lines) in enumerate(SESSIONS.items(), 1):
        bad = compare(name, lines, qblk, qemu, '--verbose' in sys.argv)
        failed += bool(bad)
        print(f'{"not ok" if bad else "ok"} {number} - {name}')
        for text in bad:
            print(f'#   {text}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
