#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A throttle group's limits are read and changed while clients wait for them."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import KIB, MIB, QmpError  # noqa: E402
from rawnbd import CMD_WRITE, RawNbd  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402


def group(t, **limits):
    d = t.daemon()
    d.qmp('object-add', {'qom-type': 'throttle-group', 'id': 'tg',
                         'limits': {k.replace('_', '-'): v for k, v in limits.items()}})
    return d


def limits(d, path='tg'):
    return d.qmp('qom-get', path=path, property='limits')


@test('limits that are given change, the others stay')
def _(t):
    d = group(t, iops_total=50, bps_read=1000)
    d.qmp('qom-set', path='tg', property='limits', value={'iops-total': 500})
    now = limits(d, '/objects/tg')
    assert (now['iops-total'], now['bps-read'], now['bps-write']) == (500, 1000, 0), now


@test('a change that makes no sense changes nothing')
def _(t):
    d = group(t, iops_total=50)
    d.qmp('object-add', {'qom-type': 'iothread', 'id': 'io'})
    for path, name, value, words in (
            ('tg', 'limits', {'iops-total': 5, 'iops-read': 7}, 'same time'),
            ('tg', 'limits', {'iops-total': -1}, ''), ('tg', 'limits', {'bogus': 1}, 'bogus'),
            ('tg', 'limits', 7, 'object'), ('tg', 'nope', {}, 'throttle-group.nope'),
            ('io', 'limits', {}, 'iothread.limits'), ('ghost', 'limits', {}, 'ghost')):
        try:
            d.qmp('qom-set', path=path, property=name, value=value)
        except QmpError as e:
            assert words in e.desc, e
            assert e.cls == ('DeviceNotFound' if path == 'ghost' else 'GenericError'), e
        else:
            raise AssertionError(f'{path}.{name} = {value} was taken')
    assert limits(d)['iops-total'] == 50


@test('a request that waits for years goes on when its limit is lifted')
def _(t):
    need_qblk('wakes those who wait')
    d = group(t, bps_total=1)
    d.file('disk', t.image('disk.img', MIB))
    d.add(driver='throttle', node_name='slow', throttle_group='tg', file='disk')
    d.export('slow')
    with RawNbd(d.nbd_path, 'disk') as c:
        for _i in range(2):  # the first is let through, and paid for by the second
            c.request(CMD_WRITE, 0, 64 * KIB, b'\x5a' * (64 * KIB))
        assert c.reply()[0] == 0
        d.qmp('qom-set', path='tg', property='limits', value={'bps-total': 0})
        assert c.reply()[0] == 0


if __name__ == '__main__':
    main()
