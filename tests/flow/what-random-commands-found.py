#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules H5 and H6: what once ended or hung the daemon under random commands, one sentence each."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import MIB  # noqa: E402
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


if __name__ == '__main__':
    main()
