#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""FVD images in a daemon: made by blockdev-create, overlays and targets, and sound after a kill."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import ImgTool  # noqa: E402
from qblk import MIB  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402
from witness import fill  # noqa: E402

SIZE = 8 * MIB
WHY = 'knows the format FVD'


def create(d, options):
    d.qmp('blockdev-create', job_id='create', options=options)
    d.qmp.event('JOB_STATUS_CHANGE', where={'id': 'create', 'status': 'concluded'})
    info = [j for j in d.qmp('query-jobs') if j['id'] == 'create'][0]
    assert 'error' not in info, info
    d.qmp('job-dismiss', id='create')


def overlay(t, d, node, base, **options):
    """An FVD image over a file, made and opened by QMP."""
    path = t.image(node + '.fvd', 0)
    file = node + '-file'
    d.add(driver='file', node_name=file, filename=path)
    create(d, {'driver': 'fvd', 'file': file, 'size': SIZE, 'chunk-size': 65536,
               **({'backing-file': base, 'backing-fmt': 'raw'} if base else {}), **options})
    d.add(driver='fvd', node_name=node, file=file, discard='unmap')
    return path


@test('an overlay made by QMP shows its base, takes writes, and is sound after a kill')
def _(t):
    need_qblk(WHY)
    img = ImgTool(t)
    base = fill(t.path('base.img'), SIZE, 1)
    d = t.daemon()
    path = overlay(t, d, 'disk', 'base.img', **{'optimize-empty-block': True})
    node = [n for n in d.qmp('query-named-block-nodes') if n['node-name'] == 'disk'][0]
    specific = node['image']['format-specific']
    assert specific['type'] == 'fvd' and specific['data']['version'] == 'v2', specific
    assert specific['data']['need-zero-init'] and specific['data']['clean'], specific
    assert node['image']['backing-filename'] == 'base.img', node
    assert os.path.samefile(node['image']['full-backing-filename'], base), node
    d.export('disk')
    w = t.witness(d.uri(), writers=2)
    w.wait(100)
    w.kill()
    d.kill()
    img.ok('check', path)
    img.ok('check', '-r', 'all', path)
    assert 'clean: true' in img.ok('info', path).out
    img.ok('check', path)


@test('a backup with sync=full goes to a new FVD image, which is the disk')
def _(t):
    need_qblk(WHY)
    img = ImgTool(t)
    d = t.daemon()
    d.file('src', fill(t.path('src.img'), SIZE, 2))
    d.qmp('drive-backup', {'job-id': 'j', 'device': 'src', 'target': t.path('new.fvd'),
                           'format': 'fvd', 'sync': 'full'})
    d.qmp.job_ok('j')
    d.qmp.job_gone('j')
    d.close()
    img.ok('check', t.path('new.fvd'))
    img.ok('compare', t.path('src.img'), t.path('new.fvd'))


@test('a backup with sync=top of an overlay has its base below it, wherever it is made')
def _(t):
    need_qblk(WHY)
    img = ImgTool(t)
    fill(t.path('base.img'), SIZE, 3)
    d = t.daemon()
    path = overlay(t, d, 'disk', 'base.img')
    d.export('disk')
    w = t.witness(d.uri(), writers=2)
    w.wait(50)
    w.stop()
    os.mkdir(t.path('elsewhere'))
    target = os.path.join(t.path('elsewhere'), 'top.fvd')
    d.qmp('drive-backup', {'job-id': 'j', 'device': 'disk', 'target': target, 'format': 'fvd',
                           'sync': 'top'})
    d.qmp.job_ok('j')
    d.qmp.job_gone('j')
    d.close()
    assert os.path.samefile(img_base(img, target), t.path('base.img'))
    img.ok('check', target)
    img.ok('compare', path, target)


def img_base(img, path):
    return json.loads(img.ok('info', '--output', 'json', path).out)['full-backing-filename']


@test('a backup with sync=none has its source below it, though the source is written to')
def _(t):
    need_qblk(WHY)
    d = t.daemon()
    d.file('src', fill(t.path('src.img'), SIZE, 4))
    d.export('src')
    w = t.witness(d.uri(), writers=1)
    d.qmp('drive-backup', {'job-id': 'j', 'device': 'src', 'target': t.path('none.fvd'),
                           'format': 'fvd', 'sync': 'none'})
    w.wait(20)
    w.stop()
    d.qmp('job-cancel', id='j')
    d.qmp.job_gone('j')
    d.close()
    ImgTool(t).ok('check', t.path('none.fvd'))


if __name__ == '__main__':
    main()
