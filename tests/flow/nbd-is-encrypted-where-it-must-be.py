#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS of the NBD server: who is let in, what is told to others, and data that arrive."""
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbd  # noqa: E402
import qblk  # noqa: E402
from certs import Authority, keys  # noqa: E402
from nbdtool import PEER, NbdTool  # noqa: E402
from qblk import MIB  # noqa: E402
from tap import main, test  # noqa: E402

OURS = 'tls-creds-x509,id=tls0,endpoint=server,dir='


def client(socket_path, certificates=None, psk=None, user='alice'):
    h = nbd.NBD()
    h.set_tls(nbd.TLS_REQUIRE)
    if certificates:
        h.set_tls_certificates(certificates)
    else:
        h.set_tls_psk_file(os.path.join(psk, 'keys.psk'))
        h.set_tls_username(user)
    h.connect_unix(socket_path)
    return h


def refused(*args, **more):
    try:
        client(*args, **more)
    except nbd.Error:
        return
    raise AssertionError('was let in')


def world(t):
    ca, other = Authority(t.dir, 'ca'), Authority(t.dir, 'other')
    return {'server': ca.sign(t.path('srv'), 'server', '/CN=localhost', 'DNS:localhost,IP:127.0.0.1'),
            'good': ca.sign(t.path('good'), 'client', '/O=Some Org/CN=good'),
            'second': ca.sign(t.path('second'), 'client', '/O=Some Org/CN=second'),
            'stranger': other.sign(t.path('stranger'), 'client', '/CN=good')}


@test('certificates: of our CA come in, and every byte arrives; others, and who talks in clear, do not')
def _(t):
    tool, dirs = NbdTool(t), world(t)
    data = t.random.randbytes(40 * MIB)
    t.image('a.raw', 40 * MIB)
    s = tool.serve('-t', '-e', '0', '-f', 'raw', '--object', OURS + dirs['server'], '--tls-creds', 'tls0', 'a.raw')
    h = client(s.socket, dirs['good'])
    for at in range(0, 40 * MIB, 20 * MIB):
        h.pwrite(data[at:at + 20 * MIB], at)
    h.flush()
    with open(t.path('a.raw'), 'rb') as f:
        assert f.read() == data
    assert h.pread(30 * MIB, 7) == data[7:7 + 30 * MIB]
    refused(s.socket, dirs['stranger'])
    plain = nbd.NBD()
    try:
        plain.connect_unix(s.socket)
        raise AssertionError('was let in without TLS')
    except nbd.Error as e:
        assert 'TLS' in str(e), e
    assert h.pread(5, 100) == data[100:105]
    h.shutdown()
    assert s.end() == 0


@test('many requests at the same time, reads and writes, over one connection')
def _(t):
    tool, dirs = NbdTool(t), world(t)
    data = bytearray(t.random.randbytes(8 * MIB))
    t.image('a.raw', 8 * MIB, [(0, bytes(data))])
    s = tool.serve('-t', '-f', 'raw', '--object', OURS + dirs['server'], '--tls-creds', 'tls0', 'a.raw')
    h = client(s.socket, dirs['good'])
    reads = []
    for i in range(500):
        at = t.random.randrange(60) * 65536
        if i % 2:
            block = t.random.randbytes(t.random.randrange(1, 65536))
            at += 4 * MIB
            at -= at % 65536
            data[at:at + len(block)] = block
            h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(block)), at)
            while h.aio_in_flight() > 0:
                h.poll(-1)
        else:
            buf = nbd.Buffer(1 + t.random.randrange(65536))
            h.aio_pread(buf, at)
            reads.append((buf, at))
        while h.aio_in_flight() > 20:
            h.poll(-1)
    while h.aio_in_flight() > 0:
        h.poll(-1)
    h.flush()
    with open(t.path('a.raw'), 'rb') as f:
        assert f.read() == bytes(data)
    h.shutdown()
    s.end()


@test('a list decides whose certificate comes in')
def _(t):
    tool, dirs = NbdTool(t), world(t)
    t.image('a.raw', MIB)
    for authz in ('authz-simple,id=who,identity=O=Some Org,,CN=good',
                  'authz-list,id=who,rules.0.match=*CN=second,rules.0.policy=deny,rules.0.format=glob,policy=allow',
                  'authz-list,id=who,rules.0.match=O=Some Org,,CN=good,rules.0.policy=allow'):
        s = tool.serve('-t', '-e', '0', '-f', 'raw', '--object', OURS + dirs['server'], '--object', authz,
                       '--tls-creds', 'tls0', '--tls-authz', 'who', 'a.raw')
        client(s.socket, dirs['good']).shutdown()
        refused(s.socket, dirs['second'])
        s.end()
    s = tool.serve('-t', '-e', '0', '-f', 'raw', '--object', OURS + dirs['server'],
                   '--tls-creds', 'tls0', '--tls-authz', 'nosuch', 'a.raw')
    refused(s.socket, dirs['good'])
    s.end()


@test('keys that both ends have')
def _(t):
    tool = NbdTool(t)
    t.image('a.raw', MIB, [(0, b'secret')])
    good, bad = keys(t.path('good'), 'alice', 'bob'), keys(t.path('bad'), 'alice')
    s = tool.serve('-t', '-e', '0', '-f', 'raw', '--object', f'tls-creds-psk,id=tls0,endpoint=server,dir={good}',
                   '--tls-creds', 'tls0', 'a.raw')
    for user in ('alice', 'bob'):
        h = client(s.socket, psk=good, user=user)
        assert h.pread(6, 0) == b'secret'
        h.shutdown()
    refused(s.socket, psk=bad)
    refused(s.socket, psk=good, user='eve')
    assert tool.run('-L', '-k', s.socket, '--object', f'tls-creds-psk,id=t,dir={good},username=alice',
                    '--tls-creds', 't').status == 0
    assert tool.run('-L', '-k', s.socket, '--object', f'tls-creds-psk,id=t,dir={bad},username=alice',
                    '--tls-creds', 't').status == 1
    s.end()


@test('-L checks who the server is, in the words of qemu-nbd')
def _(t):
    tool, dirs = NbdTool(t), world(t)
    t.image('a.raw', MIB)
    s = tool.serve('-t', '-e', '0', '-f', 'raw', '--object', OURS + dirs['server'], '--tls-creds', 'tls0', 'a.raw')

    def creds(name):
        return ['--object', f'tls-creds-x509,id=t,endpoint=client,dir={dirs[name]}', '--tls-creds', 't']

    for args, words in (([], 'TLS negotiation required'), (creds('good'), 'No hostname'),
                        ([*creds('good'), '--tls-hostname', 'elsewhere'], 'does not match the hostname elsewhere'),
                        ([*creds('stranger'), '--tls-hostname', 'localhost'], 'known issuer'),
                        ([*creds('good'), '--tls-hostname', 'localhost'], '')):
        r = tool.run('-L', '-k', s.socket, *args)
        assert words in r.err and r.status == (1 if words else 0), r
        if qblk.have(PEER):
            theirs = tool.run('-L', '-k', s.socket, *args, program=PEER)
            assert (r.status, r.out) == (theirs.status, theirs.out), (r, theirs)
            assert r.err.split('\n')[0] == theirs.err.split('\n')[0], (r, theirs)
    s.end()


@test('a handshake that does not go on keeps nobody else waiting')
def _(t):
    tool, dirs = NbdTool(t), world(t)
    t.image('a.raw', MIB)
    s = tool.serve('-t', '-e', '0', '--handshake-limit', '2', '-f', 'raw', '--object', OURS + dirs['server'],
                   '--tls-creds', 'tls0', 'a.raw')
    silent = []
    for rest in (b'', b'\x16\x03', t.random.randbytes(300)):
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(qblk.DEADLINE)
        peer.connect(s.socket)
        peer.sendall((3).to_bytes(4, 'big') + b'IHAVEOPT' + (5).to_bytes(4, 'big') + bytes(4) + rest)
        silent.append(peer)
    client(s.socket, dirs['good']).shutdown()
    for peer in silent:
        try:
            while peer.recv(4096):
                pass
        except ConnectionResetError:
            pass
    assert s.end() == 0


@test('what came in clear before TLS counts for nothing')
def _(t):
    tool, dirs = NbdTool(t), world(t)
    t.image('a.raw', MIB)
    s = tool.serve('-t', '-e', '0', '-f', 'raw', '--object', OURS + dirs['server'], '--tls-creds', 'tls0', 'a.raw')
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(qblk.DEADLINE)
    peer.connect(s.socket)
    peer.sendall((3).to_bytes(4, 'big'))
    with peer.makefile('rb') as f:
        f.read(18)
        for option in (3, 6, 7, 8, 9, 10, 11):
            peer.sendall(b'IHAVEOPT' + option.to_bytes(4, 'big') + bytes(4))
            head = f.read(20)
            assert head[12:16] == bytes.fromhex('80000005'), (option, head)
            f.read(int.from_bytes(head[16:20], 'big'))
        peer.sendall(b'IHAVEOPT' + (1).to_bytes(4, 'big') + bytes(4))
        assert f.read() == b''
    assert s.end() == 0


@test('the daemon: nbd-server-start with tls-creds; credentials in use stay; words for what is wrong')
def _(t):
    dirs = world(t)
    d = t.daemon()
    d.file('n', t.image('a.raw', MIB, [(0, b'here')]))
    d.qmp('nbd-server-stop')
    path = t.path('tls.sock')
    address = {'type': 'unix', 'data': {'path': path}}
    d.qmp('object-add', {'qom-type': 'tls-creds-x509', 'id': 'tls0', 'endpoint': 'server', 'dir': dirs['server']})
    d.qmp('object-add', {'qom-type': 'tls-creds-x509', 'id': 'wrong', 'endpoint': 'client', 'dir': dirs['good']})
    d.qmp('object-add', {'qom-type': 'authz-list', 'id': 'who', 'policy': 'deny',
                         'rules': [{'match': '*CN=good', 'policy': 'allow', 'format': 'glob'}]})
    for creds, words in (('nosuch', 'No TLS credentials'), ('who', 'is not TLS credentials'),
                         ('wrong', 'server endpoint')):
        assert words in d.qmp.error('nbd-server-start', {'addr': address, 'tls-creds': creds}).desc
    assert 'tls-authz' in d.qmp.error('nbd-server-start', {'addr': address, 'tls-authz': 'who'}).desc
    d.qmp('nbd-server-start', {'addr': address, 'tls-creds': 'tls0', 'tls-authz': 'who'})
    d.qmp('block-export-add', type='nbd', id='e', node_name='n', name='')
    h = client(path, dirs['good'])
    assert h.pread(4, 0) == b'here'
    refused(path, dirs['second'])
    assert 'in use' in d.qmp.error('object-del', id='tls0').desc
    h.shutdown()
    d.qmp('nbd-server-stop')
    d.qmp('object-del', id='tls0')
    for files, words in (({}, "Missing 'dir'"), ({'dir': t.path('nosuch')}, 'Unable to access credentials'),
                         ({'dir': dirs['good']}, 'Unable to access credentials')):
        e = d.qmp.error('object-add', {'qom-type': 'tls-creds-x509', 'id': 'x', 'endpoint': 'server', **files})
        assert words in e.desc, e.desc


@test('an export in an iothread')
def _(t):
    dirs = world(t)
    d = t.daemon('--object', 'iothread,id=io0', '--object', OURS + dirs['server'])
    data = t.random.randbytes(4 * MIB)
    d.file('n', t.image('a.raw', 4 * MIB))
    d.qmp('nbd-server-stop')
    path = t.path('tls.sock')
    d.qmp('nbd-server-start', {'addr': {'type': 'unix', 'data': {'path': path}}, 'tls-creds': 'tls0'})
    d.qmp('block-export-add', type='nbd', id='e', node_name='n', name='', writable=True, iothread='io0')
    handles = [client(path, dirs['good']) for _ in range(3)]
    for i in range(64):
        handles[i % 3].pwrite(data[i * 65536:(i + 1) * 65536], i * 65536)
    for h in handles:
        assert h.pread(4 * MIB, 0) == data
        h.shutdown()


if __name__ == '__main__':
    main()
