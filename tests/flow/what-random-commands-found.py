#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules H5 and H6: what once ended or hung the daemon under random commands, one sentence each."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from tap import main, test  # noqa: E402


@test('an incremental backup of a disk without a byte is a backup')
def _(t):
    d = t.daemon()
    for name in ('src', 'dst'):
        d.file(name, t.image(name + '.img', 0))
    d.qmp('block-dirty-bitmap-add', node='src', name='b')
    d.qmp('blockdev-backup', {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'incremental',
                              'bitmap': 'b'})
    assert d.qmp.job_ok('j')['len'] == 0


if __name__ == '__main__':
    main()
