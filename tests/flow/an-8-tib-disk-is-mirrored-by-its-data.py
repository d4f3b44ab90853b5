#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A sparse disk of 8 TiB: an empty one is mirrored at once, one with 1 GiB of data in the time of that,
both in little memory; the target stays sparse, and clients go on with it."""
import os
import shutil
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbd  # noqa: E402
from qblk import GIB, KIB, MIB, SANITIZED, SLOW, TIB  # noqa: E402
from tap import Skip, main, need_qblk, test  # noqa: E402

SIZE = 8 * TIB
DATA = GIB
PIECE = 4 * MIB
# From the command to the end of the switch-over, nothing to be copied.
EMPTY_SECONDS = 1 * SLOW
# A server is asked for 4 GiB at a time: two thousand round trips between two processes.
FAR_SECONDS = 5 * SLOW
DATA_SECONDS = 15 * SLOW
BUF_SIZE = 16 * MIB
# Beside the buffers: one bit for 64 chunks each, of those that were ever dirty, and the daemon's own small things.
SLACK_KIB = 8 * KIB
# What a file system takes for its own records of the data.
FILE_SLACK = 16 * MIB


def two_disks(t, fill=lambda file: None, far=False):
    try:
        src, dst = t.image('src.img', SIZE), t.image('dst.img', SIZE)
    except OSError as e:
        raise Skip(f'the file system here has no files of 8 TiB: {e}') from None
    with open(src, 'r+b') as f:
        fill(f)
    d = t.daemon()
    d.file('src', src)
    if far:
        server = t.daemon()
        server.file('dst', dst)
        server.export('dst')
        d.add(driver='nbd', node_name='dst', discard='unmap', export='disk',
              server={'type': 'unix', 'path': server.nbd_path})
    else:
        d.file('dst', dst)
    d.export('src')
    return d


def mirror(d, **options):
    """Seconds of all of it, memory in KiB that it took."""
    before = d.memory_kib()
    d.forget_high_water()
    start = time.monotonic()
    d.qmp('blockdev-mirror', job_id='j', device='src', target='dst', sync='full', **options)
    d.qmp.event('BLOCK_JOB_READY', timeout=120 * SLOW)
    d.qmp('block-job-complete', device='j')
    d.qmp.job_ok('j')
    seconds = time.monotonic() - start
    memory = d.high_water_kib() - before
    print(f'# {options}: {seconds:.2f} s, {memory / 1024:.1f} MiB of memory', flush=True)
    return seconds, memory


def each_empty(words, far=False, **options):
    limit = FAR_SECONDS if far else EMPTY_SECONDS

    @test(f'8 TiB without data{words}: mirrored, and clients go on with it, in less than {limit:.0f} s')
    def _(t):
        need_qblk('goes by block status in long steps')
        d = two_disks(t, far=far)
        seconds, memory = mirror(d, **options)
        assert seconds < limit, f'{seconds:.2f} s'
        assert SANITIZED or memory < SLACK_KIB, f'{memory} KiB'
        assert os.stat(t.path('dst.img')).st_blocks * 512 < MIB
        h = nbd.NBD()
        h.connect_uri(d.uri())
        h.pwrite(b'the end!' * 64, SIZE - 512)
        h.shutdown()
        d.close()
        with open(t.path('dst.img'), 'rb') as f:
            assert os.pread(f.fileno(), 8, SIZE - 512) == b'the end!'


each_empty('')
each_empty(', write-blocking', copy_mode='write-blocking')
each_empty(', the smallest granularity', granularity=512)
each_empty(', the largest granularity', granularity=64 * MIB)
each_empty(', to an NBD server', far=True)


def content(block, i):
    return i.to_bytes(8, 'big') + block[8:]


def with_data(t, **options):
    need_qblk('skips holes, and leaves what reads as zeros already')
    if shutil.disk_usage(t.dir).free < 3 * GIB:
        raise Skip('needs 3 GiB of free space')
    places = sorted(t.random.sample(range(SIZE // PIECE), DATA // PIECE))
    places[0], places[-1] = 0, SIZE // PIECE - 1
    block = t.random.randbytes(PIECE)

    def fill(f):
        for i, place in enumerate(places):
            os.pwrite(f.fileno(), content(block, i), place * PIECE)
    d = two_disks(t, fill)
    seconds, memory = mirror(d, buf_size=BUF_SIZE, **options)
    d.close()
    blocks = os.stat(t.path('dst.img')).st_blocks * 512
    with open(t.path('dst.img'), 'rb') as f:
        assert os.fstat(f.fileno()).st_size == SIZE
        for i, place in enumerate(places):
            assert os.pread(f.fileno(), PIECE, place * PIECE) == content(block, i), place
    assert blocks <= DATA + FILE_SLACK, f'the target takes {blocks / MIB:.0f} MiB'
    assert seconds < DATA_SECONDS, f'{seconds:.1f} s'
    assert SANITIZED or memory < BUF_SIZE // KIB + SLACK_KIB, f'{memory} KiB'


@test('8 TiB with 1 GiB of data: its time is that of the data, and the target stays sparse')
def _(t):
    with_data(t)


@test('the same in the smallest chunks')
def _(t):
    with_data(t, granularity=512)


if __name__ == '__main__':
    main()
