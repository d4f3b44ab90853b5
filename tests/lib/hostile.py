# SPDX-License-Identifier: GPL-2.0-or-later
"""An NBD server that says what no server should.

It shakes hands as it should, with structured replies and base:allocation, and keeps its disk in memory.  From
the moment that `misdeed` is set each answer goes through it: misdeed(server, connection, request) returns True
when it has answered in its own way, False to have it answered well, and raises Hangup to close the connection.
"""
import os
import socket
import struct
import threading

READ, WRITE, DISC, FLUSH, TRIM, ZEROES, STATUS = 0, 1, 2, 3, 4, 6, 7
REPLY_DATA, REPLY_STATUS, REPLY_ERROR = 1, 5, 0x8001
DONE = 1
CONTEXT = 7  # our id of base:allocation


class Hangup(Exception):
    """Closes the connection."""


class Request:
    """One request of the client, with the data of a write."""

    def __init__(self, command, cookie, offset, length, data):
        self.command, self.cookie = command, cookie
        self.offset, self.length, self.data = offset, length, data


def receive(conn, count):
    data = b''
    while len(data) < count:
        more = conn.recv(min(count - len(data), 1 << 20))
        if not more:
            raise Hangup
        data += more
    return data


def chunk(kind, request, payload=b'', flags=DONE, length=None, cookie=None):
    return struct.pack('>IHHQI', 0x668e33ef, flags, kind,
                       request.cookie if cookie is None else cookie,
                       len(payload) if length is None else length) + payload


class Hostile:
    """The server, from the start of the object until close()."""

    def __init__(self, t, size, name='hostile'):
        self.path = t.path(name + '.sock')
        self.disk = bytearray(size)
        self.misdeed = None
        self.conns = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(16)
        threading.Thread(target=self.accept, daemon=True).start()

    def node(self, **more):
        return {'driver': 'nbd', 'server': {'type': 'unix', 'path': self.path}, 'export': '', **more}

    def close(self):
        self.listener.close()
        os.unlink(self.path)
        for conn in self.conns:
            conn.close()

    def accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            self.conns.append(conn)
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        try:
            self.greet(conn)
            while True:
                self.one(conn)
        except (Hangup, OSError):
            pass
        try:
            conn.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def greet(self, conn):
        conn.sendall(b'NBDMAGICIHAVEOPT' + struct.pack('>H', 3))
        receive(conn, 4)
        while True:
            _magic, option, length = struct.unpack('>QII', receive(conn, 16))
            receive(conn, length)

            def reply(kind, payload=b'', option=option):
                conn.sendall(struct.pack('>QIII', 0x3e889045565a9, option, kind, len(payload)) + payload)
            if option == 8:  # structured replies
                reply(1)
            elif option in (9, 10):  # list or set contexts
                reply(4, struct.pack('>I', CONTEXT) + b'base:allocation')
                reply(1)
            elif option in (6, 7):
                flags = 1 | 4 | 8 | 32 | 64  # flush, FUA, trim, zeroes
                reply(3, struct.pack('>HQH', 0, len(self.disk), flags))
                reply(1)
                if option == 7:
                    return
            elif option == 2:
                reply(1)
                raise Hangup
            else:
                reply(0x80000001)

    def one(self, conn):
        _magic, _flags, command, cookie, offset, length = struct.unpack('>IHHQQI', receive(conn, 28))
        data = receive(conn, length) if command == WRITE else b''
        if command == DISC:
            raise Hangup
        r = Request(command, cookie, offset, length, data)
        if self.misdeed and self.misdeed(self, conn, r):
            return
        if command == READ:
            conn.sendall(chunk(REPLY_DATA, r, struct.pack('>Q', offset) + self.disk[offset:offset + length]))
            return
        if command == STATUS:
            conn.sendall(chunk(REPLY_STATUS, r, struct.pack('>III', CONTEXT, length, 0)))
            return
        if command == WRITE:
            self.disk[offset:offset + length] = data
        elif command in (TRIM, ZEROES):
            self.disk[offset:offset + length] = bytes(length)
        conn.sendall(chunk(0, r))
