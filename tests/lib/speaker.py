# SPDX-License-Identifier: GPL-2.0-or-later
"""QMP commands at random: right, nearly right and wrong, about a few nodes, jobs and exports that may be there.

The disk "gold" is verified by somebody else: what is said never writes to it.
"""
import json
import os
import random

from qblk import KIB, MIB

GOLD_SIZE, BLOCK = 4 * MIB, 4 * KIB

NODES = [f'n{i}' for i in range(8)]
FILES = [f'f{i}' for i in range(5)]
JOBS = [f'j{i}' for i in range(5)]
MOVE = 'move'           # the job that moves the verified disk
PLACES = [f'gold-{i}' for i in range(8)]
EXPORTS = [f'e{i}' for i in range(4)]
BITMAPS = [f'b{i}' for i in range(3)]
SERVERS = [f's{i}' for i in range(int(os.environ.get('NBD_SERVERS', '2')))]
GROUPS, IOTHREADS, ACCESSES = ['t0', 't1'], ['io0', 'io1'], ['a0', 'a1']
# What is no number, no name and no path that anything could want.
JUNK = [None, True, -1, 0, 1 << 62, 1 << 64, 1.5, '', 'a b', 'ghost', '\u00e9', [], {}, [1], {'a': 1},
        'x' * 3000]
POLICIES = ['report', 'ignore', 'stop', 'enospc', 'auto']


class Speaker:
    """Makes commands.  Pure: what it says depends on its seed alone."""

    def __init__(self, seed, directory):
        self.r = random.Random(seed)
        self.dir = directory

    def one(self, *of):
        return self.r.choice(of)

    def maybe(self, chance, **members):
        return {k.replace('_', '-'): v for k, v in members.items()} if self.r.random() < chance else {}

    def node(self):
        return self.r.choice(NODES * 2 + ['gold', 'gold-file'] + PLACES)

    def other(self):
        """A node that may be written to: never the verified disk."""
        return self.r.choice(NODES)

    def path(self):
        return os.path.join(self.dir, self.r.choice(FILES))

    def size(self):
        return self.one(0, 512, 65536, MIB, 4 * MIB, 4 * MIB, 4 * MIB + 512, 12345, 1 << 40)

    def file(self):
        return {'driver': 'file', 'filename': self.path(), **self.common(),
                **self.maybe(.2, aio=self.one('threads', 'native', 'io_uring')),
                **self.maybe(.1, locking=self.one('on', 'off', 'auto'))}

    def common(self):
        return {**self.maybe(.2, read_only=self.one(True, False)),
                **self.maybe(.2, auto_read_only=True),
                **self.maybe(.2, discard=self.one('unmap', 'ignore')),
                **self.maybe(.1, detect_zeroes=self.one('on', 'off', 'unmap')),
                **self.maybe(.1, force_share=True),
                **self.maybe(.1, cache={'direct': self.one(True, False),
                                        'no-flush': self.one(True, False)})}

    def far(self):
        """A disk on one of the servers.  A quiesce of a node above it waits for as long as requests are
        held: less than the deadline, though a server may come back with another size and never be taken."""
        path = os.path.join(self.dir, self.r.choice(SERVERS + ['no-server']))
        return {'driver': 'nbd', 'server': {'type': 'unix', 'path': path}, **self.common(),
                'reconnect-delay': self.one(0, 1, 1, 5, 86401),
                **self.maybe(.3, open_timeout=self.one(0, 1)),
                **self.maybe(.3, connections=self.one(1, 2, 16, 17)),
                **self.maybe(.1, export=self.one('', 'ghost'))}

    def child(self, depth):
        return self.other() if self.r.random() < .4 else self.tree(depth + 1)

    def rule(self):
        return {'event': self.one('none', 'read_aio', 'write_aio', 'cow_read', 'cow_write', 'pwritev'),
                'errno': self.one(5, 28, 5, 22), **self.maybe(.7, once=True),
                **self.maybe(.4, sector=self.r.randrange(8192)), **self.maybe(.2, state=2),
                **self.maybe(.3, immediately=True),
                **self.maybe(.5, iotype=self.one('read', 'write', 'flush', 'discard', 'block-status',
                                                 'write-zeroes'))}

    def tree(self, depth=0):
        kind = self.r.choice(['file'] * 4 + ['null-co', 'example']) if depth > 2 else \
            self.one('file', 'raw', 'raw', 'throttle', 'blkdebug', 'null-co', 'example', 'nbd', 'nbd')
        name = self.maybe(.3 if depth else 1, node_name=self.other())
        if kind == 'file':
            return {**self.file(), **name}
        if kind == 'nbd':
            return {**self.far(), **name}
        if kind == 'null-co':
            return {'driver': kind, **name, **self.maybe(.8, size=self.size()), **self.common(),
                    **self.maybe(.3, latency_ns=self.r.randrange(1000000)),
                    **self.maybe(.5, read_zeroes=True)}
        if kind == 'example':
            return {'driver': kind, **name, **self.maybe(.8, size=self.size()), **self.common()}
        if kind == 'raw':
            return {'driver': kind, 'file': self.child(depth), **name, **self.common(),
                    **self.maybe(.2, offset=self.one(0, 512, 65536, MIB)),
                    **self.maybe(.2, size=self.size())}
        if kind == 'throttle':
            return {'driver': kind, 'file': self.child(depth), 'throttle-group': self.r.choice(GROUPS),
                    **name, **self.common()}
        return {'driver': kind, 'image': self.child(depth), **name, **self.common(),
                **self.maybe(.4, inject_error=[self.rule()]),
                **self.maybe(.1, set_state=[{'event': 'write_aio', 'new_state': 2}]),
                **self.maybe(.2, align=self.one(512, 4096, 1000)),
                **self.maybe(.2, max_transfer=self.one(65536, 262144))}

    def backup(self, drive=False):
        target = {'target': self.other()}
        if drive:
            target = {'target': self.path(), **self.maybe(.7, format=self.one('raw', 'raw', 'qcow2')),
                      **self.maybe(.7, mode=self.one('existing', 'absolute-paths'))}
        sync = self.one('full', 'full', 'top', 'none', 'none', 'incremental', 'bitmap')
        bitmap = sync in ('incremental', 'bitmap') or self.r.random() < .1
        mode = sync == 'bitmap' or self.r.random() < .1
        return {'device': self.node(), 'sync': sync, **target, 'job-id': self.r.choice(JOBS),
                **(self.maybe(.95, bitmap=self.r.choice(BITMAPS)) if bitmap else {}),
                **(self.maybe(.95, bitmap_mode=self.one('on-success', 'never', 'always'))
                   if mode else {}),
                **self.maybe(.3, speed=self.one(0, 1, 65536, MIB, 64 * MIB)),
                **self.maybe(.3, on_source_error=self.r.choice(POLICIES)),
                **self.maybe(.3, on_target_error=self.r.choice(POLICIES)),
                **self.maybe(.2, auto_finalize=False), **self.maybe(.2, auto_dismiss=False),
                **self.maybe(.05, compress=True),
                **self.maybe(.5, stage=self.stage()),
                **self.maybe(.1, latency_target=self.one(1, 500, 20000)),
                **self.maybe(.2, x_perf={**self.maybe(.5, max_workers=self.one(1, 2, 64)),
                                         **self.maybe(.5, max_chunk=self.one(0, 65536, 4096, MIB))})}

    def mirror(self, drive=False):
        """Never of the verified disk: whoever completes it would send its clients to a disk of everybody."""
        target = {'target': self.other(), **self.maybe(.1, target_is_zero=self.one(True, False))}
        if drive:
            target = {'target': self.path(), **self.maybe(.7, format=self.one('raw', 'raw', 'qcow2')),
                      **self.maybe(.7, mode=self.one('existing', 'absolute-paths')),
                      **self.maybe(.5, node_name=self.other()),
                      **self.maybe(.3, unmap=self.one(True, False))}
        sync = self.one('full', 'full', 'full', 'top', 'none', 'none', 'bitmap', 'incremental')
        bitmap = sync in ('bitmap', 'incremental') or self.r.random() < .05
        return {'device': self.other(), 'sync': sync, **target, 'job-id': self.r.choice(JOBS),
                **(self.maybe(.95, bitmap=self.r.choice(BITMAPS)) if bitmap else {}),
                **self.maybe(.2, replaces=self.other()),
                **self.maybe(.5, copy_mode=self.one('background', 'write-blocking')),
                **self.maybe(.3, granularity=self.one(512, 4096, 65536, MIB, 64 * MIB, 1000, 256)),
                **self.maybe(.3, buf_size=self.one(0, 1, 65536, MIB, 16 * MIB, 1 << 40)),
                **self.maybe(.3, speed=self.one(0, 1, 65536, MIB, 64 * MIB)),
                **self.maybe(.4, on_source_error=self.r.choice(POLICIES)),
                **self.maybe(.4, on_target_error=self.r.choice(POLICIES)),
                **self.maybe(.2, auto_finalize=False), **self.maybe(.2, auto_dismiss=False)}

    def change(self):
        return {'id': self.r.choice(JOBS + [MOVE]), 'type': 'mirror' if self.r.random() < .9 else 'backup',
                'copy-mode': self.one('background', 'write-blocking')}

    def stage(self):
        return {**self.maybe(.6, ram=self.one(65536, 65536, MIB, 16 * MIB, 1000)),
                **self.maybe(.6, scratch=self.one(0, MIB, 3 * MIB, 64 * MIB)),
                **self.maybe(.2, scratch_folder=self.one(self.dir, self.dir, '/nowhere')),
                **self.maybe(.2, scratch_node=self.other()),
                **self.maybe(.4, cow_timeout=self.one(0, 1, 2, 45)),
                **self.maybe(.2, when_full=self.one('break', 'block'))}

    def access(self):
        return {'disks': [{'device': self.node(), **self.maybe(.3, bitmap=self.r.choice(BITMAPS)),
                           **self.maybe(.2, export=self.one('v0', 'v1', ''))}
                          for _ in range(self.r.randrange(1, 3))],
                **self.maybe(.8, id=self.r.choice(ACCESSES)),
                **self.maybe(.3, ram=self.one(65536, MIB)),
                **self.maybe(.3, scratch=self.one(0, MIB, 64 * MIB)),
                **self.maybe(.2, scratch_folder=self.one(self.dir, '/nowhere'))}

    def bitmap(self):
        return {'node': self.node(), 'name': self.r.choice(BITMAPS)}

    def bitmap_add(self):
        return {**self.bitmap(), **self.maybe(.4, granularity=self.one(512, 4096, 65536, 1000)),
                **self.maybe(.2, disabled=True), **self.maybe(.1, persistent=False)}

    def bitmap_merge(self):
        return {'node': self.node(), 'target': self.r.choice(BITMAPS),
                'bitmaps': [self.one(self.r.choice(BITMAPS), self.bitmap())
                            for _ in range(self.r.randrange(3))]}

    def action(self):
        if self.r.random() < .03:
            return {'type': 'blockdev-mirror', 'data': self.mirror()}   # there is no such action
        kind = self.one('block-dirty-bitmap-add', 'block-dirty-bitmap-clear', 'blockdev-backup',
                        'block-dirty-bitmap-enable', 'block-dirty-bitmap-disable', 'drive-backup',
                        'block-dirty-bitmap-merge', 'block-dirty-bitmap-remove', 'blockdev-backup',
                        'abort' if self.r.random() < .3 else 'block-dirty-bitmap-add')
        make = {'abort': dict, 'blockdev-backup': self.backup,
                'drive-backup': lambda: self.backup(True), 'block-dirty-bitmap-add': self.bitmap_add,
                'block-dirty-bitmap-merge': self.bitmap_merge}.get(kind, self.bitmap)
        return {'type': kind, 'data': make()}

    def transaction(self):
        return {'actions': [self.action() for _ in range(self.r.randrange(1, 5))],
                **self.maybe(.4, properties={'completion-mode': self.one('grouped', 'individual')})}

    def export(self):
        # The verified disk has one writer only.
        e = self.r.choice(EXPORTS)
        return {'type': 'nbd', 'id': e, 'node-name': self.other(), 'name': e,
                **self.maybe(.7, writable=True), **self.maybe(.2, writethrough=True),
                **self.maybe(.3, iothread=self.r.choice(IOTHREADS)),
                **self.maybe(.2, fixed_iothread=self.one(True, False)),
                **self.maybe(.2, bitmaps=[self.r.choice(BITMAPS)]),
                **self.maybe(.2, allocation_depth=True)}

    def object(self):
        if self.r.random() < .5:
            return {'qom-type': 'iothread', 'id': self.r.choice(IOTHREADS),
                    **self.maybe(.2, poll_max_ns=self.one(0, 32768, -1))}
        # Slow enough to hold requests back, fast enough to let every one go within the deadline.
        limits = {k: v for k, v in (('iops-total', 2000), ('bps-write', 32 * MIB), ('bps-read', 64 * MIB),
                                    ('bps-total', 48 * MIB)) if self.r.random() < .3}
        return {'qom-type': 'throttle-group', 'id': self.r.choice(GROUPS),
                **self.maybe(.8, limits=limits)}

    def job(self, key):
        return {key: self.r.choice(JOBS * 3 + [MOVE])}

    def talk(self):
        """(command, arguments), as they should be."""
        r = self.r
        job_verb = self.one('pause', 'resume', 'resume', 'cancel', 'finalize', 'dismiss', 'complete',
                            'complete')
        by_id = job_verb in ('finalize', 'dismiss')
        return r.choices([
            lambda: ('blockdev-add', self.tree()),
            lambda: ('blockdev-del', {'node-name': self.other()}),
            lambda: ('blockdev-reopen', {'options': [self.tree() for _ in range(r.randrange(1, 3))]}),
            lambda: ('blockdev-backup', self.backup()),
            lambda: ('drive-backup', self.backup(True)),
            lambda: ('blockdev-mirror', self.mirror()),
            lambda: ('drive-mirror', self.mirror(True)),
            lambda: ('block-job-change', self.change()),
            lambda: ('job-' + job_verb, self.job('id')),
            lambda: ('block-job-' + job_verb, {**self.job('id' if by_id else 'device'), **(
                self.maybe(.5, force=self.one(True, False)) if job_verb == 'cancel' else {})}),
            lambda: ('block-job-set-speed', {**self.job('device'),
                                             'speed': self.one(0, 1, MIB, 1 << 50, -1)}),
            lambda: ('transaction', self.transaction()),
            lambda: ('block-dirty-bitmap-add', self.bitmap_add()),
            lambda: ('block-dirty-bitmap-' + self.one('clear', 'remove', 'enable', 'disable'),
                     self.bitmap()),
            lambda: ('block-dirty-bitmap-merge', self.bitmap_merge()),
            lambda: ('block-export-add', self.export()),
            lambda: ('block-export-del', {'id': r.choice(EXPORTS + ['export-gold']),
                                          **self.maybe(.7, mode=self.one('hard', 'safe'))}),
            lambda: ('object-add', self.object()),
            lambda: ('object-del', {'id': r.choice(GROUPS + IOTHREADS)}),
            lambda: ('backup-access-begin', self.access()),
            lambda: ('backup-access-end', {'id': r.choice(ACCESSES), 'success': self.one(True, False)}),
            lambda: ('block_resize', {'node-name': self.other(), 'size': self.size() % (1 << 30)}),
            lambda: ('query-' + self.one('backup-accesses', 'named-block-nodes', 'block-jobs', 'jobs', 'block-exports',
                                         'block', 'blockstats', 'iothreads', 'status'), {}),
            lambda: (self.one('nbd-server-stop', 'query-qmp-schema', 'query-commands', 'query-version',
                              'qmp_capabilities', 'no-such-command'), {}),
        ], weights=[16, 7, 5, 14, 5, 14, 5, 5, 10, 14, 3, 7, 5, 5, 2, 8, 5, 4, 2, 6, 5, 3, 5, 1])[0]()

    def spoil(self, value):
        """Something in @value is dropped, replaced or added."""
        if isinstance(value, list) and value and self.r.random() < .7:
            at = self.r.randrange(len(value))
            return value[:at] + [self.spoil(value[at])] + value[at + 1:]
        if not isinstance(value, dict) or not value:
            return self.r.choice(JUNK)
        value = dict(value)
        key = self.r.choice(sorted(value))
        what = self.r.random()
        if what < .25:
            del value[key]
        elif what < .4:
            value[self.one('bogus', 'id', 'size', 'file', '')] = self.r.choice(JUNK)
        else:
            value[key] = self.spoil(value[key])
        return value

    def command(self):
        name, arguments = self.talk()
        if self.r.random() < .12:
            arguments = self.spoil(arguments)
        return name, arguments

    def harmless(self, name, arguments):
        """Whether the verified disk is only read: a spoilt command must not become its writer."""
        text = json.dumps(arguments)
        if MOVE in arguments.values() if isinstance(arguments, dict) else False:
            # Whether it has moved is for its mover to know: others may end it by force only.
            return arguments.get('force') is True if 'cancel' in name else \
                'complete' not in name and 'dismiss' not in name
        if name in ('blockdev-add', 'blockdev-reopen', 'block-export-add', 'block_resize'):
            return 'gold' not in text
        return '"target": "gold' not in text
