#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""FVD images on real block devices, which held something else before; where the machine has loop devices."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbd  # noqa: E402
from imgtool import ImgTool  # noqa: E402
from loop import Loop  # noqa: E402
from qblk import KIB, MIB  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402
from witness import fill  # noqa: E402

WHY = 'knows the format FVD'
SIZE = 24 * MIB
CHUNK = 64 * KIB


def serve(t, path, *args, **node):
    d = t.daemon(*args)
    d.add(driver='fvd', node_name='disk', discard='unmap',
          file={'driver': 'host_device', 'filename': path, **node})
    d.export('disk')
    return d


def connect(d):
    h = nbd.NBD()
    h.set_strict_mode(0)
    h.connect_uri(d.uri())
    return h


@test('new chunks read as zeros beside what is written, now and after a kill, whatever the engine')
def _(t):
    need_qblk(WHY)
    img = ImgTool(t)
    for node in ({}, {'aio': 'threads'}, {'aio': 'native', 'cache': {'direct': True}}):
        with Loop(t, 'disk', 20 * MIB) as loop:
            img.ok('create', '-q', '-f', 'fvd', '-o', 'chunk_size=64k,journal_size=64k', loop.path, SIZE)
            d = serve(t, loop.path, **node)
            h = connect(d)
            places = t.random.sample(range(0, SIZE, CHUNK), 40)
            for at in places:
                h.pwrite(b'\x22' * 512, at + 1024)
            h.flush()
            for again in range(2):
                for at in range(0, SIZE, CHUNK):
                    want = bytes(1024) + b'\x22' * 512 + bytes(CHUNK - 1536) if at in places else bytes(CHUNK)
                    assert h.pread(CHUNK, at) == want, (hex(at), again)
                if again == 0:
                    d.kill()
                    img.ok('check', loop.path)
                    d = serve(t, loop.path, **node)
                    h = connect(d)
            h.shutdown()
            d.close()
            img.ok('check', loop.path)


@test('an overlay on a device, made over an old image, is what clients wrote after a kill')
def _(t):
    need_qblk(WHY)
    img = ImgTool(t)
    fill(t.path('base.img'), 8 * MIB, 3)
    with Loop(t, 'disk', 40 * MIB) as loop:
        for _ in range(2):
            img.ok('create', '-q', '-f', 'fvd', '-b', t.path('base.img'), '-F', 'raw', '-o',
                   'chunk_size=64k,block_size=16k,journal_size=64k', loop.path, 8 * MIB)
            d = serve(t, loop.path)
            w = t.witness(d.uri(), writers=3, zero=15, discard=15)
            w.wait(150)
            w.stop()
            connect(d).flush()
            d.kill()
            img.ok('check', loop.path)
            img.ok('check', '-r', 'all', loop.path)
            img.ok('convert', '-O', 'raw', loop.path, t.path('seen.img'))
            w.final([t.path('seen.img')], [t.path('base.img')])


@test('a full device is told as such, keeps what it has, and takes what is given back')
def _(t):
    need_qblk(WHY)
    img = ImgTool(t)
    with Loop(t, 'disk', 2 * MIB) as loop:
        img.ok('create', '-q', '-f', 'fvd', '-o', 'chunk_size=64k,journal_size=64k', loop.path, SIZE)
        d = serve(t, loop.path)
        h = connect(d)
        written = 0
        try:
            for at in range(0, SIZE, CHUNK):
                h.pwrite(b'\x33' * CHUNK, at)
                written += CHUNK
        except nbd.Error as e:
            assert e.errno == 'ENOSPC', e
        assert MIB < written < 2 * MIB, written
        h.trim(CHUNK, 0)
        h.flush()
        h.pwrite(b'\x44' * 512, 16 * MIB)
        h.flush()
        assert h.pread(CHUNK, 16 * MIB) == b'\x44' * 512 + bytes(CHUNK - 512)
        assert h.pread(CHUNK, 0) == bytes(CHUNK)
        assert h.pread(written - CHUNK, CHUNK) == b'\x33' * (written - CHUNK)
        h.shutdown()
        d.close()
        img.ok('check', loop.path)


@test('a disk on a device grows and shrinks, and no further than its table has room')
def _(t):
    need_qblk(WHY)
    img = ImgTool(t)
    with Loop(t, 'disk', 16 * MIB) as loop:
        img.ok('create', '-q', '-f', 'fvd', '-o', 'chunk_size=64k,journal_size=64k', loop.path, 4 * MIB)
        img.ok('bench', '-q', '-f', 'fvd', '-w', '--pattern', '5', '-c', '64', '-s', '64k', loop.path)
        img.ok('resize', '-q', '-f', 'fvd', '--shrink', loop.path, '1M')
        img.ok('resize', '-q', '-f', 'fvd', '--preallocation', 'falloc', loop.path, '8M')
        img.ok('check', loop.path)
        d = serve(t, loop.path)
        h = connect(d)
        assert h.pread(MIB, 0) == b'\x05' * MIB
        assert h.pread(7 * MIB, MIB) == bytes(7 * MIB)
        h.shutdown()
        d.close()
        r = img.run('resize', '-q', '-f', 'fvd', loop.path, '64G')
        assert r.status == 1 and 'No space left' in r.err, r
        img.ok('check', loop.path)
        assert '"virtual-size": 8388608' in img.ok('info', '--output=json', loop.path).out


if __name__ == '__main__':
    main()
