#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rule H5 on QMP: a command that cannot be done is refused in words, and changes nothing."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import MIB, is_qblk  # noqa: E402
from tap import main, need_command, test  # noqa: E402


def two_disks(t, size=4 * MIB):
    d = t.daemon()
    for name in ('src', 'dst'):
        d.file(name, t.image(name + '.img', size))
    return d


def nodes(d):
    return sorted(n['node-name'] for n in d.qmp('query-named-block-nodes'))


def refuse(d, words, command, arguments=None, cls='GenericError'):
    """The command is refused with these words; no node and no job comes or goes."""
    before = nodes(d), d.qmp('query-jobs')
    error = d.qmp.error(command, arguments)
    assert error.cls == cls, error
    assert '\n' not in error.desc and error.desc, error
    if is_qblk():
        for word in words:
            assert word.lower() in error.desc.lower(), f'{word!r} is not in: {error.desc}'
    assert (nodes(d), d.qmp('query-jobs')) == before


BACKUP = {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'full'}


@test('a command that does not exist is CommandNotFound')
def _(t):
    d = t.daemon()
    refuse(d, ['make-coffee'], 'make-coffee', cls='CommandNotFound')


@test('missing, unknown and mistyped arguments are named')
def _(t):
    d = two_disks(t)
    for words, change in [(['sync'], {'sync': None}), (['bogus'], {'bogus': 1}),
                          (['speed', 'integer'], {'speed': 'fast'}), (['speed'], {'speed': 1.5}),
                          (['sync', 'half'], {'sync': 'half'}), (['device'], {'device': 7}),
                          (['on-source-error'], {'on-source-error': 'cry'}),
                          (['auto-finalize'], {'auto-finalize': 'yes'})]:
        arguments = {k: v for k, v in dict(BACKUP, **change).items() if v is not None}
        refuse(d, words, 'blockdev-backup', arguments)


@test('a backup to or from what is not there is refused')
def _(t):
    d = two_disks(t)
    for change in ({'device': 'ghost'}, {'target': 'ghost'}):
        refuse(d, ['ghost'], 'blockdev-backup', dict(BACKUP, **change))
        error = d.qmp.error('blockdev-backup', dict(BACKUP, **change))
        assert 'ghost' in error.desc, error


@test('a negative speed and a job id of a strange form are refused')
def _(t):
    d = two_disks(t)
    refuse(d, ['speed'], 'blockdev-backup', dict(BACKUP, speed=-1))
    refuse(d, ['1 2'], 'blockdev-backup', dict(BACKUP, **{'job-id': '1 2'}))
    refuse(d, ['speed'], 'blockdev-backup', dict(BACKUP, speed=1 << 70))


@test('a backup of a disk onto itself is refused')
def _(t):
    d = two_disks(t)
    refuse(d, [], 'blockdev-backup', dict(BACKUP, target='src'))


@test('a target smaller than its source is refused')
def _(t):
    d = two_disks(t)
    d.file('small', t.image('small.img', 3 * MIB))
    refuse(d, ['size'], 'blockdev-backup', dict(BACKUP, target='small'))


@test('an incremental backup wants a bitmap, and one that exists')
def _(t):
    d = two_disks(t)
    refuse(d, ['bitmap'], 'blockdev-backup', dict(BACKUP, sync='incremental'))
    refuse(d, ['ghost'], 'blockdev-backup', dict(BACKUP, sync='incremental', bitmap='ghost'))
    refuse(d, ['bitmap'], 'blockdev-backup', dict(BACKUP, **{'bitmap-mode': 'always'}))


@test('compress is refused where the target cannot')
def _(t):
    d = two_disks(t)
    refuse(d, ['compress'], 'blockdev-backup', dict(BACKUP, compress=True))


@test('a second job of the same id, and a resize during a job, are refused')
def _(t):
    d = two_disks(t)
    d.qmp('blockdev-backup', dict(BACKUP, **{'auto-finalize': False}))
    d.qmp.event('BLOCK_JOB_PENDING')
    d.file('more', t.image('more.img', 4 * MIB))
    before = nodes(d)
    error = d.qmp.error('blockdev-backup', dict(BACKUP, target='more'))
    assert "'j'" in error.desc, error
    error = d.qmp.error('block_resize', node_name='src', size=8 * MIB)
    assert error.cls == 'GenericError', error
    error = d.qmp.error('blockdev-del', node_name='dst')
    assert error.cls == 'GenericError', error
    assert nodes(d) == before
    d.qmp('job-finalize', id='j')
    d.qmp.job_ok('j')


@test('one bad action in a transaction undoes the others')
def _(t):
    d = two_disks(t)
    refuse(d, ['ghost'], 'transaction', {'actions': [
        {'type': 'block-dirty-bitmap-add', 'data': {'node': 'src', 'name': 'b'}},
        {'type': 'blockdev-backup', 'data': BACKUP},
        {'type': 'blockdev-backup', 'data': dict(BACKUP, **{'job-id': 'k', 'device': 'ghost'})}]})
    for n in d.qmp('query-named-block-nodes'):
        assert not n.get('dirty-bitmaps'), n


@test('the same node, object or export twice is refused')
def _(t):
    d = two_disks(t)
    refuse(d, ['src'], 'blockdev-add', {'driver': 'null-co', 'node-name': 'src'})
    d.qmp('object-add', qom_type='throttle-group', id='tg')
    refuse(d, ['tg'], 'object-add', {'qom-type': 'throttle-group', 'id': 'tg'})
    d.export('src')
    refuse(d, ['export-disk'], 'block-export-add',
           {'type': 'nbd', 'id': 'export-disk', 'node-name': 'dst', 'name': 'other'})
    refuse(d, ['NBD', 'disk'], 'block-export-add',
           {'type': 'nbd', 'id': 'other', 'node-name': 'dst', 'name': 'disk'})
    refuse(d, ['NBD', 'already'], 'nbd-server-start',
           {'addr': {'type': 'unix', 'data': {'path': t.path('again.sock')}}})


@test('a node that is in use is not deleted, a name that is in use is not taken')
def _(t):
    d = two_disks(t)
    refuse(d, ['src-file'], 'blockdev-del', {'node-name': 'src-file'})
    d.export('src')
    refuse(d, ['src'], 'blockdev-del', {'node-name': 'src'})
    refuse(d, ['ghost'], 'blockdev-del', {'node-name': 'ghost'})
    for command in ('block-export-del', 'object-del'):
        refuse(d, ['ghost'], command, {'id': 'ghost'})
    for command in ('job-cancel', 'job-dismiss', 'job-pause', 'job-resume', 'job-finalize'):
        refuse(d, ['job not found'], command, {'id': 'ghost'})


@test('block jobs that do not exist are DeviceNotActive')
def _(t):
    d = t.daemon()
    for command in ('block-job-cancel', 'block-job-pause', 'block-job-resume',
                    'block-job-complete'):
        refuse(d, ['ghost'], command, {'device': 'ghost'}, cls='DeviceNotActive')
    refuse(d, ['ghost'], 'block-job-set-speed', {'device': 'ghost', 'speed': 1},
           cls='DeviceNotActive')


@test('bitmaps: the same twice, on no node, a bad granularity, one that is busy')
def _(t):
    d = two_disks(t)
    d.qmp('block-dirty-bitmap-add', node='src', name='b')
    refuse(d, ['b'], 'block-dirty-bitmap-add', {'node': 'src', 'name': 'b'})
    refuse(d, ['ghost'], 'block-dirty-bitmap-add', {'node': 'ghost', 'name': 'c'})
    for granularity in (0, 3, 256, 65537, 1 << 40):
        refuse(d, ['granularity'], 'block-dirty-bitmap-add',
               {'node': 'src', 'name': 'c', 'granularity': granularity})
    refuse(d, [], 'block-dirty-bitmap-add', {'node': 'src', 'name': ''})
    refuse(d, ['ghost'], 'block-dirty-bitmap-remove', {'node': 'src', 'name': 'ghost'})
    d.qmp('blockdev-backup', dict(BACKUP, sync='incremental', bitmap='b',
                                  **{'auto-finalize': False}))
    d.qmp.event('BLOCK_JOB_PENDING')
    error = d.qmp.error('block-dirty-bitmap-remove', node='src', name='b')
    assert "'b'" in error.desc, error
    d.qmp('job-finalize', id='j')
    d.qmp.job_ok('j')


@test('drive-backup to a file that it cannot make is refused')
def _(t):
    d = two_disks(t)
    need_command(d, 'drive-backup')
    arguments = {'job-id': 'j', 'device': 'src', 'target': t.path('nowhere/x.img'), 'sync': 'full',
                 'format': 'raw'}
    refuse(d, ['nowhere'], 'drive-backup', arguments)
    refuse(d, ['none.img'], 'drive-backup',
           dict(arguments, target=t.path('none.img'), mode='existing'))
    refuse(d, ['nope'], 'drive-backup', dict(arguments, target=t.path('x'), format='nope'))


MIRROR = {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'full'}


@test('a mirror with an option that makes no sense is refused, and the option named')
def _(t):
    d = two_disks(t)
    d.qmp('block-dirty-bitmap-add', node='src', name='b')
    for words, change in [
            (['sync'], {'sync': None}), (['sync', 'half'], {'sync': 'half'}), (['device'], {'device': 7}),
            (['granularity', '512'], {'granularity': 256}), (['granularity', '64MB'], {'granularity': 1 << 27}),
            (['granularity', 'power of 2'], {'granularity': 5000}), (['granularity'], {'granularity': -1}),
            (['granularity'], {'granularity': 1 << 32}), (['granularity'], {'granularity': 4096.5}),
            (['buf-size'], {'buf-size': -1}), (['buf-size'], {'buf-size': 1 << 40}),
            (['buf-size'], {'buf-size': 1 << 62}), (['buf-size'], {'buf-size': '1M'}),
            (['speed'], {'speed': -1}), (['speed'], {'speed': 'fast'}), (['1 2'], {'job-id': '1 2'}),
            (['copy-mode', 'soon'], {'copy-mode': 'soon'}), (['unmap'], {'unmap': True}),
            (['on-source-error', 'cry'], {'on-source-error': 'cry'}),
            (['on-target-error', 'cry'], {'on-target-error': 'cry'}),
            (['auto-finalize'], {'auto-finalize': 'yes'}), (['auto-dismiss'], {'auto-dismiss': 1}),
            (['target-is-zero'], {'target-is-zero': 'x'}), (['filter-node-name'], {'filter-node-name': 'x'}),
            (['cancel-timeout'], {'cancel-timeout': -1}), (['bogus'], {'bogus': 1}),
            (['incremental'], {'sync': 'incremental'}), (['incremental'], {'sync': 'incremental', 'bitmap': 'b'}),
            (['bitmap'], {'sync': 'bitmap'}), (['ghost'], {'sync': 'bitmap', 'bitmap': 'ghost'}),
            (['bitmap'], {'bitmap': 'b'}), (['bitmap'], {'sync': 'none', 'bitmap': 'b'})]:
        refuse(d, words, 'blockdev-mirror',
               {k: v for k, v in dict(MIRROR, **change).items() if v is not None})


@test('a mirror of what is not there, into itself, or into a disk of another size is refused')
def _(t):
    d = two_disks(t)
    d.file('small', t.image('small.img', 3 * MIB))
    d.file('large', t.image('large.img', 5 * MIB))
    for words, change in [(['ghost'], {'device': 'ghost'}), (['ghost'], {'target': 'ghost'}),
                          (['itself'], {'target': 'src'}), (['src'], {'target': 'src-file'}),
                          (['src'], {'device': 'src-file', 'target': 'src'}),
                          (['different sizes'], {'target': 'small'}), (['different sizes'], {'target': 'large'}),
                          (['ghost'], {'replaces': 'ghost'}), (['dst'], {'replaces': 'dst'}),
                          (['small'], {'replaces': 'small'})]:
        refuse(d, words, 'blockdev-mirror', dict(MIRROR, **change))


@test('a mirror to a read-only node, and of disks that jobs use, is refused')
def _(t):
    d = two_disks(t)
    d.add(driver='file', node_name='fixed', filename=t.image('fixed.img', 4 * MIB), read_only=True)
    d.file('more', t.image('more.img', 4 * MIB))
    refuse(d, ['read-only'], 'blockdev-mirror', dict(MIRROR, target='fixed'))
    d.qmp('blockdev-mirror', MIRROR)
    d.qmp.event('BLOCK_JOB_READY')
    for words, change in [(['src'], {'target': 'more'}), (['dst'], {'device': 'more'}),
                          (['dst'], {'device': 'dst', 'target': 'more'}),
                          (['src'], {'device': 'more', 'target': 'src'})]:
        refuse(d, words, 'blockdev-mirror', dict(MIRROR, **change, **{'job-id': 'k'}))
    d.file('one-more', t.image('one-more.img', 4 * MIB))
    refuse(d, ["'j'"], 'blockdev-mirror', dict(MIRROR, device='more', target='one-more'))
    refuse(d, ['dst'], 'blockdev-backup', dict(MIRROR, device='more', **{'job-id': 'k'}))
    for node in ('src', 'dst'):
        refuse(d, ['mirror'], 'block_resize', {'node-name': node, 'size': 8 * MIB})
        refuse(d, [node], 'blockdev-del', {'node-name': node})
    refuse(d, ['backup'], 'block-job-change', {'id': 'j', 'type': 'backup'})
    refuse(d, ['soon'], 'block-job-change', {'id': 'j', 'type': 'mirror', 'copy-mode': 'soon'})
    refuse(d, ['copy-mode'], 'block-job-change', {'id': 'j', 'type': 'mirror'})
    refuse(d, ['ghost'], 'block-job-change', {'id': 'ghost', 'type': 'mirror', 'copy-mode': 'background'},
           cls='DeviceNotActive')
    d.qmp('block-job-cancel', device='j')
    d.qmp.job_ok('j')


@test('drive-mirror to a file that it cannot make, or by a name that it is not told, is refused')
def _(t):
    d = two_disks(t)
    need_command(d, 'drive-mirror')
    arguments = {'job-id': 'j', 'device': 'src', 'target': t.path('nowhere/x.img'), 'sync': 'full',
                 'format': 'raw'}
    refuse(d, ['nowhere'], 'drive-mirror', arguments)
    refuse(d, ['none.img'], 'drive-mirror', dict(arguments, target=t.path('none.img'), mode='existing'))
    refuse(d, ['nope'], 'drive-mirror', dict(arguments, target=t.path('x'), format='nope'))
    refuse(d, ['node-name'], 'drive-mirror', dict(arguments, target=t.path('x'), replaces='src'))
    refuse(d, ['in use'], 'drive-mirror', dict(arguments, target=t.path('src.img')))
    refuse(d, ['dst'], 'drive-mirror', dict(arguments, target=t.path('x'), **{'node-name': 'dst'}))
    refuse(d, ['different sizes'], 'drive-mirror', dict(arguments, mode='existing',
                                                        target=t.image('small.img', 3 * MIB)))


if __name__ == '__main__':
    main()
