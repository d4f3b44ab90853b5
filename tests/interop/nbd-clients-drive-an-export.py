#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Other people's NBD clients, unchanged: libnbd's tools, fio, qemu-img and qemu-io."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbd  # noqa: E402
from qblk import DEADLINE, KIB, MIB, have, is_qblk, same  # noqa: E402
from tap import Skip, main, test  # noqa: E402
from witness import fill  # noqa: E402

SIZE = 16 * MIB


def served(t, size=SIZE, **more):
    d = t.daemon()
    d.file('src', fill(t.path('src.img'), size, t.seed % 1000))
    d.export('src', **more)
    return d


def run(*command, status=0):
    if not have(command[0]):
        raise Skip(f'{command[0]} is not installed')
    p = subprocess.run(command, capture_output=True, text=True, errors='replace',
                       timeout=DEADLINE * 2, check=False)
    assert p.returncode == status, f'{command}: {p.returncode}\n{p.stdout}\n{p.stderr}'
    return p.stdout


@test('nbdinfo tells size, protocol and abilities')
def _(t):
    d = served(t)
    info = json.loads(run('nbdinfo', '--no-content', '--json', d.uri()))
    assert info['protocol'] == 'newstyle-fixed', info
    export = info['exports'][0]
    for key, value in {'export-size': SIZE, 'is_read_only': False, 'can_flush': True,
                       'can_fua': True, 'can_trim': True, 'can_zero': True, 'can_fast_zero': True,
                       'can_multi_conn': True, 'can_cache': True}.items():
        assert export[key] == value, (key, export)
    assert 'base:allocation' in export['contexts'], export
    listed = json.loads(run('nbdinfo', '--no-content', '--list', '--json',
                            d.uri()))
    assert [e['export-name'] for e in listed['exports']] == ['disk'], listed


@test('nbdinfo --map shows data and holes')
def _(t):
    t.image('src.img', MIB, [(256 * KIB, b'x' * 65536)])
    d = t.daemon()
    d.file('src', t.path('src.img'))
    d.export('src')
    spans = json.loads(run('nbdinfo', '--map', '--json', d.uri()))
    assert sum(s['length'] for s in spans) == MIB, spans
    data = [(s['offset'], s['length']) for s in spans if not s['type'] & 2]
    assert data == [(256 * KIB, 65536)], spans


@test('nbdcopy reads an export and writes one')
def _(t):
    d = served(t)
    run('nbdcopy', d.uri(), t.path('out.img'))
    assert same(t.path('src.img'), t.path('out.img'))
    d.file('dst', t.image('dst.img', SIZE))
    d.export('dst', 'dst')
    run('nbdcopy', '--flush', t.path('out.img'), d.uri('dst'))
    d.close()
    assert same(t.path('src.img'), t.path('dst.img'))


@test('nbdcopy of many connections')
def _(t):
    d = served(t)
    run('nbdcopy', '--connections=8', '--requests=64', d.uri(), t.path('out.img'))
    assert same(t.path('src.img'), t.path('out.img'))


@test('fio writes and verifies through its nbd engine')
def _(t):
    d = served(t)
    out = run('fio', '--name=a', '--ioengine=nbd', f'--uri={d.uri()}', '--rw=randrw', '--bs=4k',
              '--iodepth=32', '--size=8M', '--verify=crc32c', '--verify_state_save=0',
              '--output-format=json')
    job = json.loads(out[out.index('{'):])['jobs'][0]
    assert job['error'] == 0, job['error']


@test('qemu-img info, map, convert and compare over NBD')
def _(t):
    d = served(t)
    info = json.loads(run('qemu-img', 'info', '--output=json', d.uri()))
    assert info['virtual-size'] == SIZE, info
    run('qemu-img', 'map', '--output=json', '-f', 'raw', d.uri())
    run('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', d.uri(), t.path('out.img'))
    assert same(t.path('src.img'), t.path('out.img'))
    run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', d.uri(), t.path('out.img'))
    run('qemu-img', 'bench', '-f', 'raw', '-c', '500', '-d', '16', '-s', '4096', d.uri())


@test('qemu-io reads, writes, zeroes, discards and flushes over NBD')
def _(t):
    d = served(t)
    out = run('qemu-io', '-f', 'raw', '-c', 'write -P 7 4096 65536', '-c', 'read -P 7 4096 65536',
              '-c', 'write -z -u 8192 4096', '-c', 'read -P 0 8192 4096', '-c', 'write -f -P 9 0 512',
              '-c', 'discard 1048576 1048576', '-c', 'flush', '-c', 'read -P 9 0 512', d.uri())
    assert 'failed' not in out, out


@test('a backup of a raw disk compares equal with qemu-img')
def _(t):
    d = served(t)
    d.file('dst', t.image('dst.img', SIZE))
    d.qmp('blockdev-backup', job_id='j', device='src', target='dst', sync='full')
    d.qmp.job_ok('j')
    d.close()
    out = run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', t.path('src.img'), t.path('dst.img'))
    assert 'identical' in out, out


@test('libnbd sees the marks of a dirty bitmap')
def _(t):
    d = t.daemon()
    d.file('src', t.image('src.img', SIZE))
    d.qmp('block-dirty-bitmap-add', node='src', name='b', granularity=65536)
    d.export('src', bitmaps=['b'])
    h = nbd.NBD()
    h.add_meta_context('qemu:dirty-bitmap:b')
    h.add_meta_context('base:allocation')
    h.connect_uri(d.uri())
    assert h.can_meta_context('qemu:dirty-bitmap:b') and h.can_meta_context('base:allocation')
    h.pwrite(b'x' * 512, 3 * MIB + 1024)
    spans = {}

    def extent(context, offset, entries, _error):
        spans.setdefault(context, []).extend(zip(entries[::2], entries[1::2]))

    h.block_status(SIZE, 0, extent)
    marks, at = [], 0
    for length, flags in spans['qemu:dirty-bitmap:b']:
        if flags:
            marks.append((at, length))
        at += length
    assert marks == [(3 * MIB, 65536)], spans
    assert spans['base:allocation'], spans
    h.shutdown()


@test('a backup target that is exported can be read while sync=none runs: the old state')
def _(t):
    d = served(t)
    d.file('dst', t.image('dst.img', SIZE))
    d.qmp('blockdev-backup', job_id='j', device='src', target='dst', sync='none')
    h = nbd.NBD()
    h.connect_uri(d.uri())
    old = h.pread(65536, MIB)
    h.pwrite(b'new' * 1024, MIB)
    h.shutdown()
    d.export('dst', 'fleece', writable=False)
    h = nbd.NBD()
    h.connect_uri(d.uri('fleece'))
    assert h.is_read_only()
    assert h.pread(65536, MIB) == old
    h.shutdown()
    d.qmp('block-export-del', {'id': 'export-fleece', 'mode': 'hard'})
    d.qmp.event('BLOCK_EXPORT_DELETED', where={'id': 'export-fleece'})
    d.qmp('block-job-cancel', device='j')
    d.qmp.job_end('j')


@test('every order of structured replies, extended headers and simple replies is served')
def _(t):
    d = served(t)
    for structured, extended in ((True, True), (True, False), (False, False)):
        h = nbd.NBD()
        h.set_request_structured_replies(structured)
        if hasattr(h, 'set_request_extended_headers'):
            h.set_request_extended_headers(extended)
        h.connect_uri(d.uri())
        assert h.get_structured_replies_negotiated() == structured
        if is_qblk() and extended and hasattr(h, 'get_extended_headers_negotiated'):
            assert h.get_extended_headers_negotiated()
        h.pwrite(b'y' * 1000, 24)
        assert h.pread(1000, 24) == b'y' * 1000
        if h.can_fast_zero():
            h.zero(4096, 0, nbd.CMD_FLAG_NO_HOLE)
        h.trim(4096, 8192)
        h.cache(65536, 0)
        h.flush()
        h.pwrite(b'z' * 512, 0, nbd.CMD_FLAG_FUA)
        h.shutdown()


@test('a read-only export refuses every change')
def _(t):
    d = served(t, writable=False)
    h = nbd.NBD()
    h.set_strict_mode(0)
    h.connect_uri(d.uri())
    assert h.is_read_only()
    for change in (lambda: h.pwrite(b'x' * 512, 0), lambda: h.zero(512, 0), lambda: h.trim(512, 0)):
        try:
            change()
        except nbd.Error as e:
            assert e.errno in ('EPERM', 'EROFS', 'EINVAL'), e
        else:
            raise AssertionError('a read-only export was changed')
    h.pread(512, 0)
    h.shutdown()


@test('exports come and go while clients are there')
def _(t):
    d = served(t)
    h = nbd.NBD()
    h.connect_uri(d.uri())
    error = d.qmp.error('block-export-del', id='export-disk')
    assert error.cls == 'GenericError', error
    h.shutdown()
    h = nbd.NBD()
    h.connect_uri(d.uri())
    d.qmp('block-export-del', {'id': 'export-disk', 'mode': 'hard'})
    d.qmp.event('BLOCK_EXPORT_DELETED', where={'id': 'export-disk'})
    assert d.qmp('query-block-exports') == []
    d.export('src', 'again')
    h = nbd.NBD()
    h.connect_uri(d.uri('again'))
    h.shutdown()
    d.qmp('nbd-server-stop')
    d.qmp.event('BLOCK_EXPORT_DELETED', where={'id': 'export-again'})
    d.qmp('nbd-server-start', {'addr': {'type': 'inet', 'data': {'host': '127.0.0.1', 'port': '0'}}})


@test('a resize is seen by clients that connect after it')
def _(t):
    d = t.daemon()
    d.file('src', t.image('src.img', MIB))
    d.qmp('block_resize', node_name='src', size=2 * MIB)
    d.export('src')
    h = nbd.NBD()
    h.connect_uri(d.uri())
    assert h.get_size() == 2 * MIB
    h.pwrite(b'x' * 512, 2 * MIB - 512)
    h.shutdown()


@test('TCP: an export on the loopback address')
def _(t):
    import socket
    s = socket.socket()
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
    s.close()
    fill(t.path('src.img'), MIB, 3)
    d = t.daemon('--nbd-server', f'addr.type=inet,addr.host=127.0.0.1,addr.port={port}', nbd=False)
    d.file('src', t.path('src.img'))
    d.export('src')
    run('nbdcopy', f'nbd://127.0.0.1:{port}/disk', t.path('out.img'))
    assert same(t.path('src.img'), t.path('out.img'))


if __name__ == '__main__':
    main()
