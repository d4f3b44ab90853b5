# SPDX-License-Identifier: GPL-2.0-or-later
"""An NBD client that can be rude: it speaks the fixed newstyle handshake by hand.

libnbd always says what the protocol wants; the tests of bad clients need one that does not.
"""
import socket
import struct

from qblk import DEADLINE

IHAVEOPT = b'IHAVEOPT'
OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_INFO, OPT_GO = 1, 2, 3, 6, 7
OPT_STRUCTURED_REPLY = 8
REP_ACK = 1
REQUEST_MAGIC, SIMPLE_MAGIC = 0x25609513, 0x67446698
CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM, CMD_ZEROES = 0, 1, 2, 3, 4, 6


class RawNbd:
    """A connection.  With an export's name it is taken through the handshake at once."""

    def __init__(self, path, export=None):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(path)
        self.size = self.flags = None
        if export is not None:
            self.greet()
            self.go(export)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def recv(self, count):
        data = b''
        while len(data) < count:
            more = self.sock.recv(count - len(data))
            if not more:
                raise EOFError(f'the server closed after {len(data)} of {count} bytes')
            data += more
        return data

    def closed(self):
        """Reads until the server hangs up."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass
        return True

    def greet(self, flags=3):
        magic, option, _flags = struct.unpack('>8s8sH', self.recv(18))
        assert (magic, option) == (b'NBDMAGIC', IHAVEOPT), (magic, option)
        self.send(struct.pack('>I', flags))

    def option(self, option, data=b'', length=None):
        self.send(struct.pack('>8sII', IHAVEOPT, option, len(data) if length is None else length)
                  + data)

    def option_reply(self):
        magic, _option, kind, length = struct.unpack('>QIII', self.recv(20))
        assert magic == 0x3e889045565a9, hex(magic)
        return kind, self.recv(length)

    def go(self, export):
        name = export.encode()
        self.option(OPT_GO, struct.pack('>I', len(name)) + name + struct.pack('>H', 0))
        while True:
            kind, data = self.option_reply()
            if kind == REP_ACK:
                return
            assert kind == 3, f'the server refuses the export: {data}'
            if data[:2] == b'\0\0':
                self.size, self.flags = struct.unpack('>QH', data[2:12])

    def request(self, command, offset, length, data=b'', flags=0, cookie=1, magic=REQUEST_MAGIC):
        self.send(struct.pack('>IHHQQI', magic, flags, command, cookie, offset, length) + data)

    def reply(self, payload=0):
        """(errno, data) of a simple reply."""
        magic, errno, _cookie = struct.unpack('>IIQ', self.recv(16))
        assert magic == SIMPLE_MAGIC, hex(magic)
        return errno, self.recv(payload) if payload and not errno else b''
