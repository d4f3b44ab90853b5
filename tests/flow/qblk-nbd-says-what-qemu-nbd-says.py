#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""qblk-nbd: the list of exports, messages and exit status of qemu-nbd."""
import os
import re
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbdtool  # noqa: E402
import qblk  # noqa: E402
from nbdtool import NbdTool  # noqa: E402
from qblk import KIB, MIB  # noqa: E402
from tap import Skip, main, test  # noqa: E402


@test('what is wrong is refused in the same words')
def _(t):
    tool = NbdTool(t)
    t.image('a.raw', MIB)
    raw, sock = ['-f', 'raw'], ['-k', t.path('s')]
    long = 'x' * 4097
    for args in ([], ['a', 'b'], ['-k', '', 'a.raw'], ['-k', 's', 'a.raw'], ['-e', '-1', 'a.raw'],
                 ['-e', 'x', 'a.raw'], ['-e', '1k', 'a.raw'], ['--cache=foo', 'a.raw'],
                 ['--cache=none', '-n', 'a.raw'], ['-n', '-n', 'a.raw'], ['--aio=foo', 'a.raw'],
                 ['--aio=native', '--aio=native', '-n', 'a.raw'], ['--discard=foo', 'a.raw'],
                 ['--discard=on', '--discard=off', 'a.raw'], ['--detect-zeroes=foo', 'a.raw'],
                 ['--detect-zeroes=unmap', 'a.raw'], ['-l', 'snapshot.foo=1', 'a.raw'], ['-o', 'x', 'a.raw'],
                 ['-o', '2M', 'a.raw'], ['-x', long, *raw, *sock, 'a.raw'], ['--handshake-limit=x', 'a.raw'],
                 ['--image-opts', '-f', 'raw', 'a.raw'], ['-z'], ['--tls-authz=y', 'a.raw'],
                 ['--tls-hostname=x', 'a.raw'], ['--tls-creds=x', *raw, 'a.raw'], [*raw, 'nosuch.raw'], ['nosuch.raw'],
                 ['-f', 'nosuch', 'a.raw'], ['--image-opts', 'driver=raw,file.filename=nosuch'],
                 ['-d', '/dev/nosuch'], ['-c', '/dev/nosuch', *raw, 'a.raw'], ['-l', 's1', *raw, *sock, 'a.raw'],
                 ['-o', 2 * MIB, *raw, *sock, 'a.raw'], ['--pid-file=/nosuch/p', *raw, *sock, 'a.raw'],
                 ['--fork', '--pid-file=/nosuch/p', *raw, *sock, 'a.raw'], ['-B', 'b', *raw, *sock, 'a.raw'],
                 ['-L', 'a.raw'], ['-L', '-k', t.path('nosuch')], ['-L', '--fork'],
                 *(['-L', *more] for more in (['-x', 'x'], ['-o', '3'], ['-D', 'd'], ['-B', 'b'], ['-A'], raw, ['-n'],
                                              ['--aio=threads'], ['--discard=off'], ['-c', 'x'], ['-l', 's']))):
        tool.as_peer(*args)


@test('the list of a server with one export')
def _(t):
    tool = NbdTool(t)
    t.image('a.raw', 3 * MIB)
    for options in ([], ['-r', '-e', '3', '-x', 'disk', '-D', 'some words', '-A'], ['-e', '0', '-o', '512']):
        for serve in (tool.serve, tool.serve_peer):
            s = serve('-t', '-f', 'raw', *options, 'a.raw')
            tool.as_peer('-L', '-k', s.socket)
            s.end()


@test('the list of one server is that of the other, but for a flag that only one has')
def _(t):
    tool = NbdTool(t)
    t.image('a.raw', 3 * MIB)
    for options in ([], ['-r'], ['-e', '3', '-x', 'disk', '-D', 'some words', '-A'], ['-o', '512']):
        lists = []
        for serve in (tool.serve_peer, tool.serve):
            s = serve('-t', '-f', 'raw', *options, 'a.raw')
            text = tool.run('-L', '-k', s.socket).out
            lists.append(re.sub(r'flags: 0x[0-9a-f]+ ', 'flags: ', text).replace('block-status-payload ', ''))
            s.end()
        assert lists[0] == lists[1], lists


@test('the list of a daemon with several exports, some of them with bitmaps')
def _(t):
    tool = NbdTool(t)
    d = t.daemon()
    d.file('n', t.image('a.raw', MIB))
    d.qmp('block-dirty-bitmap-add', node='n', name='b0')
    d.qmp('block-export-add', type='nbd', id='e1', node_name='n', name='one', bitmaps=['b0'], writable=True)
    d.qmp('block-export-add', type='nbd', id='e2', node_name='n', name='two', description='the second')
    out = tool.as_peer('-L', '-k', d.uri().split('socket=')[1]).out
    assert 'exports available: 2' in out and 'qemu:dirty-bitmap:b0' in out and 'the second' in out, out


@test('the list of a server of another make, and of an old one')
def _(t):
    tool = NbdTool(t)
    tool.need_peer()
    if not qblk.have('nbdkit'):
        raise Skip('nbdkit is not installed')
    for options in (['memory', '64k'], ['--no-sr', 'memory', '64k'], ['-r', '--mask-handshake=0', 'memory', '64k']):
        path = t.path('kit')
        p = subprocess.Popen(['nbdkit', '-f', '-U', path, *options], preexec_fn=qblk.die_with_parent,
                             stderr=subprocess.DEVNULL)
        try:
            while not os.path.exists(path):
                assert p.poll() is None
            theirs, ours = (tool.run('-L', '-k', path, program=x) for x in (nbdtool.PEER, nbdtool.NBD))
            assert (ours.status, ours.out) == (theirs.status, theirs.out), (ours, theirs)
            assert bool(ours.err) == bool(theirs.err)
        finally:
            p.kill()
            p.wait()
            os.unlink(path)


@test('a server that breaks off, or sends nonsense, is told of in a line')
def _(t):
    tool = NbdTool(t)
    hello = b'NBDMAGICIHAVEOPT\0\3'
    no_mode = b''.join((0x3e889045565a9).to_bytes(8, 'big') + n.to_bytes(4, 'big') +
                       (0x80000001).to_bytes(4, 'big') + bytes(4) for n in (11, 8))
    list_head = (0x3e889045565a9).to_bytes(8, 'big') + (3).to_bytes(4, 'big')
    for words in (b'', b'NBDMAGIC', b'x' * 18, hello[:-2] + b'\0\0', hello, hello + b'y' * 20, hello + no_mode,
                  hello + no_mode + list_head + (2).to_bytes(4, 'big') + (1 << 31).to_bytes(4, 'big'),
                  hello + no_mode + list_head + (2).to_bytes(4, 'big') + (4).to_bytes(4, 'big') + b'\xff' * 4,
                  hello + no_mode + list_head + (7).to_bytes(4, 'big') + bytes(4)):
        path = t.path('evil')
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        pid = os.fork()
        if pid == 0:
            qblk.die_with_parent()
            peer = listener.accept()[0]
            peer.sendall(words)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(4 * KIB):
                pass
            os._exit(0)
        r = tool.run('-L', '-k', path)
        os.waitpid(pid, 0)
        listener.close()
        os.unlink(path)
        assert r.status == 1 and r.out == '' and r.err.count('\n') == 1, (words, r)


if __name__ == '__main__':
    main()
