#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A sparse disk of 8 TiB with 1 GiB of data: quick, in little memory, and the target stays sparse."""
import os
import shutil
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import GIB, MIB, SANITIZED, SLOW, TIB  # noqa: E402
from tap import Skip, main, need_qblk, test  # noqa: E402

SIZE = 8 * TIB
DATA = GIB
PIECE = 4 * MIB
SECONDS = 15 * SLOW
MEMORY_KIB = 120 * 1024
# What a file system takes for its own records of the data.
SLACK = 16 * MIB


def scattered(t, path):
    """1 GiB of data in pieces all over the disk; returns where."""
    places = sorted(t.random.sample(range(SIZE // PIECE), DATA // PIECE))
    places[0], places[-1] = 0, SIZE // PIECE - 1
    block = t.random.randbytes(PIECE)
    with open(path, 'wb') as f:
        f.truncate(SIZE)
        for i, place in enumerate(places):
            os.pwrite(f.fileno(), i.to_bytes(8, 'big') + block[8:], place * PIECE)
    return places, block


def check_copy(path, places, block):
    with open(path, 'rb') as f:
        assert os.fstat(f.fileno()).st_size == SIZE
        for i, place in enumerate(places):
            assert os.pread(f.fileno(), PIECE, place * PIECE) == i.to_bytes(8, 'big') + block[8:], place


@test('8 TiB with 1 GiB of data: under 15 s, under 120 MiB of memory, and the target stays sparse')
def _(t):
    need_qblk('skips holes, and leaves what reads as zeros already')
    if shutil.disk_usage(t.dir).free < 3 * GIB:
        raise Skip('needs 3 GiB of free space')
    src, dst = t.path('src.img'), t.path('dst.img')
    try:
        places, block = scattered(t, src)
        t.image('dst.img', SIZE)
    except OSError as e:
        raise Skip(f'the file system here has no files of 8 TiB: {e}') from None
    d = t.daemon()
    d.file('src', src)
    d.file('dst', dst)
    start = time.monotonic()
    d.qmp('blockdev-backup', job_id='j', device='src', target='dst', sync='full')
    d.qmp.job_ok('j', timeout=SECONDS * 4)
    seconds = time.monotonic() - start
    memory = d.high_water_kib()
    d.close()
    blocks = os.stat(dst).st_blocks * 512
    print(f'# {seconds:.2f} s, {memory / 1024:.1f} MiB of memory, {blocks / MIB:.1f} MiB on disk')
    check_copy(dst, places, block)
    assert blocks <= DATA + SLACK, f'the target takes {blocks / MIB:.0f} MiB'
    assert seconds < SECONDS, f'{seconds:.1f} s'
    assert SANITIZED or memory < MEMORY_KIB, f'{memory / 1024:.0f} MiB'


if __name__ == '__main__':
    main()
