#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules H5 and H6: what once ended or hung the daemon under random commands, one sentence each."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbd  # noqa: E402
from qblk import MIB, QmpError  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402


@test('an incremental backup of a disk without a byte is a backup')
def _(t):
    d = t.daemon()
    for name in ('src', 'dst'):
        d.file(name, t.image(name + '.img', 0))
    d.qmp('block-dirty-bitmap-add', node='src', name='b')
    d.qmp('blockdev-backup', {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'incremental',
                              'bitmap': 'b'})
    assert d.qmp.job_ok('j')['len'] == 0


@test('a disk without a byte is mirrored, whatever sync says')
def _(t):
    d = t.daemon()
    for name in ('src', 'dst'):
        d.file(name, t.image(name + '.img', 0))
    d.qmp('block-dirty-bitmap-add', node='src', name='b')
    for sync, more in (('full', {}), ('top', {}), ('none', {}), ('bitmap', {'bitmap': 'b'})):
        for mode in ('background', 'write-blocking'):
            try:
                d.qmp('blockdev-mirror', {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': sync,
                                          'copy-mode': mode, **more})
            except QmpError as e:
                assert 'not supported' in e.desc, e     # by some
                continue
            d.qmp.event('BLOCK_JOB_READY')
            d.qmp('block-job-cancel', device='j')
            d.qmp.job_ok('j')
            d.qmp.job_gone('j')


@test('nodes that are being closed are not listed, and nobody begins to use them')
def _(t):
    need_qblk('serves several clients on one QMP socket')
    d = t.daemon()
    d.add(driver='example', node_name='src', size=MIB, byte=7, read_only=True)
    t.image('dst.img', MIB)
    other = d.connect()
    for i in range(30):
        other.send_raw(b'{"execute": "query-named-block-nodes", "id": 1}' * 30)
        d.qmp('drive-backup', {'job-id': 'j', 'device': 'src', 'target': t.path('dst.img'),
                               'mode': 'existing', 'format': 'raw', 'sync': 'full'})
        d.qmp.job_gone('j')
        other.send_raw(b'{"execute": "query-block-jobs", "id": %d}' % (i + 2))
        while other.read().get('id') != i + 2:
            pass
    other.close()


@test('a disk with aio=native follows its export into an iothread, and is reopened there')
def _(t):
    d = t.daemon('--object', 'iothread,id=io0')
    path = t.image('a.img', MIB, [(0, b'first')])
    options = {'driver': 'file', 'node-name': 'a', 'filename': path, 'aio': 'native',
               'cache': {'direct': True}}
    d.qmp('blockdev-add', options)
    d.export('a', iothread='io0')
    h = nbd.NBD()
    h.connect_uri(d.uri())
    assert h.pread(4096, 0)[:5] == b'first'
    d.qmp('blockdev-reopen', options=[options])
    assert h.pread(4096, 0)[:5] == b'first'
    h.shutdown()


@test('a client that waits in an iothread keeps it, wherever its disk goes from there')
def _(t):
    d = t.daemon('--object', 'iothread,id=io0', '--object', 'iothread,id=io1')
    d.file('a', t.image('a.img', MIB, [(0, b'first')]))
    d.export('a', name='one', iothread='io0')
    d.export('a', name='two')
    h = nbd.NBD()
    h.connect_uri(d.uri('two'))
    assert h.pread(5, 0) == b'first'
    assert h.pread(5, 0) == b'first'
    d.export('a', name='three', iothread='io1')
    d.qmp('block-export-del', id='export-one')
    try:
        d.qmp('object-del', id='io0')
    except QmpError as e:
        assert 'in use' in e.desc, e
    assert h.pread(5, 0) == b'first'
    d.qmp('nbd-server-stop')
    d.qmp('object-del', id='io1')


@test('a descriptor that is no listening socket is refused and left open')
def _(t):
    d = t.daemon(nbd=False)
    # The QMP client's own connection: a socket of the daemon's that does not listen.
    fds = [int(fd) for fd in os.listdir(f'/proc/{d.process.pid}/fd')]
    for fd in fds:
        try:
            d.qmp('nbd-server-start', addr={'type': 'fd', 'data': {'str': str(fd)}})
            d.qmp('nbd-server-stop')
            break       # that was the QMP listener
        except QmpError as e:
            assert 'socket' in e.desc, e
    assert set(os.listdir(f'/proc/{d.process.pid}/fd')) >= {str(fd) for fd in fds if fd < 3}
    d.qmp('query-named-block-nodes')


@test('a quiesce of the target and of a node above the source ends, with writes on their way')
def _(t):
    d = t.daemon('--object', 'throttle-group,id=t0,x-iops-total=5')
    d.add(driver='throttle', node_name='top', throttle_group='t0',
          file={'driver': 'file', 'node-name': 'src', 'filename': t.image('src.img', 4 * MIB)})
    d.add(driver='null-co', node_name='dst', size=4 * MIB)
    d.export('top')
    for node in ('top', 'dst'):
        d.qmp('block-dirty-bitmap-add', node=node, name='b')
    d.qmp('blockdev-backup', {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'none'})
    h = nbd.NBD()
    h.connect_uri(d.uri())
    for order in (('dst', 'top'), ('top', 'dst')):
        writes = [h.aio_pwrite(b'x' * 4096, i * 65536) for i in range(8)]
        h.pread(512, 0)     # they are in the daemon: the throttle holds them in order
        d.qmp('transaction', actions=[{'type': 'block-dirty-bitmap-clear',
                                       'data': {'node': node, 'name': 'b'}} for node in order])
        while writes:
            writes = [c for c in writes if not h.aio_command_completed(c)]
            h.poll(10 if writes else 0)
    h.shutdown()


def contexts(d, name):
    """What a client of the export is told by each bitmap: {name: [length, flags, ...]}."""
    said = {}
    h = nbd.NBD()
    h.add_meta_context('qemu:dirty-bitmap:b')
    h.connect_uri(d.uri(name))
    h.block_status(h.get_size(), 0, lambda context, _at, extents, _error: said.update(
        {context: list(extents)}) or 0)
    h.shutdown()
    return said


@test('the node of a bitmap that is exported is in use as long as the export is there')
def _(t):
    d = t.daemon()
    d.file('a', t.image('a.img', MIB))
    d.file('other', t.image('other.img', MIB))
    d.qmp('block-dirty-bitmap-add', node='other', name='b')
    d.export('a', 'a', bitmaps=[{'node': 'other', 'name': 'b'}])
    assert 'in use' in d.qmp.error('blockdev-del', {'node-name': 'other'}).desc
    assert contexts(d, 'a') == {'qemu:dirty-bitmap:b': [MIB, 0]}
    d.qmp('block-export-del', id='export-a')
    d.qmp.event('BLOCK_EXPORT_DELETED')
    d.qmp('blockdev-del', {'node-name': 'other'})


@test('a mirror is completed under an export with a bitmap, which stays')
def _(t):
    d = t.daemon()
    for name in ('src', 'dst'):
        d.file(name, t.image(name + '.img', MIB))
    d.qmp('block-dirty-bitmap-add', node='src', name='b')
    d.export('src', 'a', bitmaps=['b'])
    d.qmp('blockdev-mirror', {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'full'})
    d.qmp.event('BLOCK_JOB_READY')
    d.qmp('block-job-complete', device='j')
    d.qmp.job_gone('j')
    assert 'in use' in d.qmp.error('blockdev-del', {'node-name': 'src'}).desc
    assert contexts(d, 'a') == {'qemu:dirty-bitmap:b': [MIB, 0]}
    d.qmp('block-export-del', id='export-a')
    d.qmp.event('BLOCK_EXPORT_DELETED')
    d.qmp('blockdev-del', {'node-name': 'src'})


@test('a mirror is cancelled, and again while it closes the target that it made')
def _(t):
    d = t.daemon('--object', 'iothread,id=io0')
    d.file('src', t.image('src.img', MIB))
    d.export('src', 'a', iothread='io0')
    for i in range(40):
        d.qmp('drive-mirror', {'job-id': 'j', 'device': 'src', 'target': t.path('dst.img'),
                               'format': 'raw', 'sync': 'full'})
        cancel = b'{"execute": "block-job-cancel", "arguments": {"device": "j", "force": true}}'
        d.qmp.send_raw(cancel * 2 + b'{"execute": "query-jobs", "id": %d}' % (1000 + i))
        while (answer := d.qmp.read()).get('id') != 1000 + i:
            d.qmp.events += [answer] if 'event' in answer else []
        d.qmp.job_gone('j')


if __name__ == '__main__':
    main()
