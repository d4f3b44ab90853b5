#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""An FVD image over a slow base: what is read stays in it, and block-prefetch fills it while it is written."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import ImgTool  # noqa: E402
from qblk import MIB  # noqa: E402
from tap import main, need_command, need_qblk, test  # noqa: E402
from witness import copy, fill  # noqa: E402

SIZE = 24 * MIB
WHY = 'knows the format FVD'


def over_slow_base(t, rate, export=None, **options):
    """A daemon with an image over a base that gives @rate bytes a second; the image's path and the base's."""
    need_qblk(WHY)
    base = fill(t.path('base.img'), SIZE, 1)
    path = t.path('disk.fvd')
    ImgTool(t).ok('create', '-f', 'fvd', '-b', base, '-F', 'raw', path, str(SIZE))
    d = t.daemon('--object', 'iothread,id=io')
    need_command(d, 'block-prefetch')
    d.qmp('object-add', {'qom-type': 'throttle-group', 'id': 'slow', 'limits': {'bps-read': rate}})
    d.add(driver='throttle', node_name='base', throttle_group='slow', read_only=True,
          file={'driver': 'file', 'filename': base, 'read-only': True})
    d.add(driver='fvd', node_name='disk', backing='base', file={'driver': 'file', 'filename': path},
          **options)
    d.export('disk', **(export or {}))
    return d, path, base


def backing(d):
    node = [n for n in d.qmp('query-named-block-nodes') if n['node-name'] == 'disk'][0]
    return node.get('backing_file'), node['image']['format-specific']['data']


@test('an image is complete after a prefetch, whatever is written meanwhile, and its base can go')
def _(t):
    d, path, base = over_slow_base(t, 8 * MIB)
    initial = copy(base, t.path('initial'))
    w = t.witness(d.uri(), writers=2)
    w.wait(20)
    d.qmp('block-prefetch', {'job-id': 'fill', 'device': 'disk', 'bytes-per-slot': 256 * 1024,
                             'min-read-throughput': 0, 'min-write-throughput': 0})
    d.qmp('job-pause', id='fill')
    d.qmp.event('JOB_STATUS_CHANGE', where={'id': 'fill', 'status': 'paused'})
    w.wait(20)
    d.qmp('job-resume', id='fill')
    d.qmp.job_ok('fill')
    d.qmp.job_gone('fill')
    assert backing(d)[0] is None, backing(d)
    d.qmp('blockdev-del', {'node-name': 'base'})
    os.unlink(base)
    w.wait(50)
    w.stop()
    d.close()
    img = ImgTool(t)
    img.ok('check', path)
    img.ok('convert', '-f', 'fvd', '-O', 'raw', path, t.path('all.raw'))
    w.final([t.path('all.raw')], [initial])


@test('an image in an iothread is filled, and what was read twice was read once from the base')
def _(t):
    d, path, base = over_slow_base(t, 16 * MIB, {'iothread': 'io'}, copy_on_read=True)
    initial = copy(base, t.path('initial'))
    w = t.witness(d.uri(), writers=2)
    w.wait(20)
    d.qmp('block-prefetch', {'job-id': 'fill', 'device': 'disk', 'min-read-throughput': 0,
                             'min-write-throughput': 0})
    for _ in range(4):
        d.qmp('job-pause', id='fill')
        w.wait(10)
        d.qmp('job-resume', id='fill')
    d.qmp.job_ok('fill')
    assert backing(d)[0] is None, backing(d)
    w.stop()
    d.close()
    img = ImgTool(t)
    img.ok('check', path)
    img.ok('convert', '-f', 'fvd', '-O', 'raw', path, t.path('all.raw'))
    w.final([t.path('all.raw')], [initial])


@test('a prefetch that was cancelled leaves the image over its base, and a kill leaves it sound')
def _(t):
    d, path, base = over_slow_base(t, 4 * MIB)
    initial = copy(base, t.path('initial'))
    w = t.witness(d.uri(), writers=1)
    w.wait(20)
    d.qmp('block-prefetch', {'job-id': 'fill', 'device': 'disk', 'speed': 2 * MIB})
    w.wait(20)
    d.qmp('block-job-cancel', {'device': 'fill'})
    assert d.qmp.job_end('fill')['event'] == 'BLOCK_JOB_CANCELLED'
    assert backing(d)[0], backing(d)
    d.qmp('block-prefetch', {'job-id': 'again', 'device': 'disk', 'speed': 2 * MIB})
    w.wait(20)
    d.kill()
    w.kill()
    img = ImgTool(t)
    img.ok('check', path)
    img.ok('check', '-r', 'all', path)
    img.ok('convert', '-f', 'fvd', '-O', 'raw', path, t.path('all.raw'))
    assert os.path.getsize(t.path('all.raw')) == os.path.getsize(initial)


@test('what cannot be prefetched is refused with a reason')
def _(t):
    d, _, _ = over_slow_base(t, 8 * MIB)
    for words, more in (('does not support prefetching', {'device': 'base'}),
                        ("'slots' expects", {'slots': 100}), ("'speed' expects", {'speed': -1})):
        error = d.qmp.error('block-prefetch', {'job-id': 'fill', 'device': 'disk', **more})
        assert words in str(error), error


main()
