#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""query-blockstats: of nodes, what qemu-storage-daemon counts of them, with the same members."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import MIB, have, make_image  # noqa: E402
from tap import Skip, main, test  # noqa: E402

PEER = 'qemu-storage-daemon'


def story(t, program, discard):
    """What a daemon counts of a disk over another, by the names of the nodes."""
    if not have('qemu-io'):
        raise Skip('qemu-io is not installed')
    d = t.daemon(**({'program': program} if program else {}))
    path = make_image(t.path('disk.img'), 8 * MIB)
    d.qmp('blockdev-add', {'driver': 'raw', 'node-name': 'disk', 'discard': discard,
                           'file': {'driver': 'file', 'node-name': 'file', 'filename': path, 'discard': discard}})
    d.export('disk')
    subprocess.run(['qemu-io', '-f', 'raw', '-d', 'unmap', '-c', 'write 1M 64k', '-c', 'read 2M 4k', '-c', 'write -z 4M 64k',
                    '-c', 'discard 7M 1M', '-c', 'flush', d.uri()], check=True, stdout=subprocess.DEVNULL)
    assert d.qmp('query-blockstats') == []
    nodes = d.qmp('query-blockstats', query_nodes=True)
    d.close()
    return {n['node-name']: n for n in nodes}


for discard in ('ignore', 'unmap'):
    @test(f'a disk and its file, discard={discard}')
    def _(t, discard=discard):
        ours = story(t, None, discard)
        assert set(ours) == {'disk', 'file'}, ours
        disk, file = ours['disk'], ours['file']
        assert disk['stats']['wr_highest_offset'] == file['stats']['wr_highest_offset'] == 4 * MIB + 65536, ours
        assert disk['stats']['wr_operations'] == 0 and disk['stats']['timed_stats'] == [], disk
        assert disk['parent'] == file and 'parent' not in file and 'backing' not in disk, ours
        n = 1 if discard == 'unmap' else 0
        assert file['driver-specific'] == {'driver': 'file', 'discard-nb-ok': n, 'discard-nb-failed': 0,
                                           'discard-bytes-ok': n * MIB}, file
        if not have(PEER):
            raise Skip(f'{PEER} is not installed')
        theirs = story(t, PEER, discard)
        assert ours == theirs, f'{ours}\n{theirs}'


if __name__ == '__main__':
    main()
