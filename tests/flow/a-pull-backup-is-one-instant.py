#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rule H2 for backup accesses: an export of one is the disk at one instant, whatever is written meanwhile.

The witness writes numbered sectors over NBD; nbdcopy reads the exports of the accesses meanwhile.  What it
has read must be the disk after exactly the first k writes of every writer, at one moment between the
sending of backup-access-begin and its reply.  And nothing is left of an access that has ended, one that
could not begin, or a daemon that was killed.
"""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import qblk  # noqa: E402
from qblk import KIB, MIB  # noqa: E402
from tap import Skip, main, test  # noqa: E402
from witness import copy, fill  # noqa: E402

ROUNDS = int(os.environ.get('ROUNDS', '3'))


def need(program):
    if not qblk.have(program):
        raise Skip(f'{program} is not installed')


def disk(t, d, name, size):
    """A numbered disk as an export: (its path, the copy that says how it began)."""
    path = fill(t.path(name + '.img'), size, t.random.randrange(1 << 32), t.random.randrange(80))
    initial = copy(path, t.path(name + '.initial'))
    d.file(name, path)
    d.export(name, name)
    return path, initial


def odd_size(t):
    """A size that is no multiple of a cluster: the last one is partial."""
    return t.random.randrange(8 * MIB, 48 * MIB, 512)


class Access:
    """An open access, and what its readers read."""

    def __init__(self, t, d, devices, **options):
        self.t, self.d = t, d
        disks = [dev if isinstance(dev, dict) else {'device': dev} for dev in devices]
        answer = d.qmp('backup-access-begin', dict(options, disks=disks))
        self.window = d.qmp.sent_ns, d.qmp.replied_ns
        self.id = answer['id']
        self.disks = answer['disks']
        assert [x['device'] for x in self.disks] == [x['device'] for x in disks], answer
        self.images, self.readers = [], []

    def read(self):
        """Starts an nbdcopy of each disk."""
        for i, one in enumerate(self.disks):
            image = self.t.path(f'{self.id}-{i}.copy')
            self.images.append(image)
            self.readers.append(subprocess.Popen(['nbdcopy', one['uri'], image],
                                                 preexec_fn=qblk.die_with_parent,
                                                 stderr=subprocess.PIPE))
        return self

    def join(self, ok=True):
        for reader in self.readers:
            said = reader.communicate(timeout=qblk.DEADLINE)[1].decode()
            assert (reader.returncode == 0) == ok, said
        self.readers = []
        return self

    def end(self, success=True):
        self.d.qmp('backup-access-end', id=self.id, success=success)

    def info(self):
        return next(a for a in self.d.qmp('query-backup-accesses') if a['id'] == self.id)


def nodes(d):
    return sorted(n['node-name'] for n in d.qmp('query-named-block-nodes'))


def exports(d):
    return sorted(e['id'] for e in d.qmp('query-block-exports'))


def bitmap(d, node, name):
    for n in d.qmp('query-named-block-nodes'):
        if n['node-name'] == node:
            return next(b for b in n['dirty-bitmaps'] if b['name'] == name)
    raise AssertionError(f'no node {node}')


def dirty_map(uri, name):
    """The bitmap as a client sees it: the offsets and lengths that are dirty."""
    out = subprocess.check_output(['nbdinfo', '--json', f'--map=qemu:dirty-bitmap:{name}', uri])
    return [(e['offset'], e['length']) for e in json.loads(out) if e['type'] == 1]


def unnamed_files(d):
    """Files without a name that the daemon has open."""
    where = f'/proc/{d.process.pid}/fd'
    found = []
    for fd in os.listdir(where):
        try:
            to = os.readlink(os.path.join(where, fd))
        except FileNotFoundError:
            continue
        if to.startswith('/') and to.endswith(' (deleted)'):
            found.append(to)
    return found


def write(d, pattern, offset, length, export='src'):
    subprocess.check_call(['qemu-io', '-f', 'raw', '-c', f'write -P {pattern} {offset} {length}',
                           d.uri(export)], stdout=subprocess.DEVNULL)


@test('two accesses of different instants are read under load, each one instant, and ended in any order')
def _(t):
    need('nbdcopy')
    for n in range(ROUNDS):
        t.fresh()
        d = t.daemon()
        path, initial = disk(t, d, 'src', odd_size(t))
        before = nodes(d), exports(d)
        w = t.witness(d.uri('src'), writers=t.random.randrange(1, 9),
                      bytes_max=t.random.choice([4 * KIB, 64 * KIB, MIB]))
        w.wait(t.random.randrange(50, 500))
        # The one keeps old data in memory, the other has next to none and a scratch file.
        older = Access(t, d, ['src'], ram=64 * MIB, id='older').read()
        w.wait(t.random.randrange(20, 200))
        younger = Access(t, d, ['src'], ram=16 * KIB, **{'scratch-folder': t.dir}).read()
        first, second = (older, younger) if n % 2 else (younger, older)
        first.join().end()
        w.wait(20)
        second.join().end(False)
        w.wait(20)
        assert (nodes(d), exports(d)) == before, (nodes(d), exports(d))
        assert d.qmp('query-backup-accesses') == []
        w.stop()
        d.close()
        for a in (older, younger):
            w.instant(a.images, [initial], *a.window)
        w.final([path], [initial])


@test('two disks of one access are one instant for both, beside a backup job, in an iothread')
def _(t):
    need('nbdcopy')
    for _ in range(ROUNDS):
        t.fresh()
        d = t.daemon('--object', 'iothread,id=io0')
        paths, initials = [], []
        for i in range(2):
            path = fill(t.path(f'src{i}.img'), odd_size(t), t.random.randrange(1 << 32), 30)
            paths.append(path)
            initials.append(copy(path, t.path(f'src{i}.initial')))
            d.file(f'src{i}', path)
            d.export(f'src{i}', f'src{i}', iothread='io0')
        t.image('dst.img', os.path.getsize(paths[0]))
        d.file('dst', t.path('dst.img'))
        w = t.witness(d.uri('src0'), d.uri('src1'), writers=t.random.randrange(1, 5),
                      alternate=True)
        w.wait(100)
        a = Access(t, d, ['src0', 'src1']).read()
        d.qmp('blockdev-backup', job_id='j', device='src0', target='dst', sync='full')
        w.wait(50)
        a.join().end()
        d.qmp.job_ok('j')
        w.stop()
        d.close()
        w.instant(a.images, initials, *a.window)
        w.final(paths, initials)


@test('the bitmap of the instant is offered, and success decides what remains of it')
def _(t):
    need('nbdinfo')
    d = t.daemon()
    t.image('src.img', 8 * MIB)
    d.file('src', t.path('src.img'))
    d.export('src', 'src')
    d.qmp('block-dirty-bitmap-add', node='src', name='b')
    write(d, 1, MIB, 128 * KIB)
    a = Access(t, d, [{'device': 'src', 'bitmap': 'b', 'export': 'mine'}])
    assert a.disks[0]['export'] == 'mine' and a.disks[0]['uri'] == d.uri('mine'), a.disks
    write(d, 2, 4 * MIB, 64 * KIB)
    assert dirty_map(a.disks[0]['uri'], 'b') == [(MIB, 128 * KIB)]
    assert bitmap(d, 'src', 'b')['busy']
    e = d.qmp.error('backup-access-begin', disks=[{'device': 'src', 'bitmap': 'b'}])
    assert 'in use' in e.desc, e.desc
    a.end(success=False)
    assert bitmap(d, 'src', 'b')['count'] == 192 * KIB
    a = Access(t, d, [{'device': 'src', 'bitmap': 'b'}])
    assert dirty_map(a.disks[0]['uri'], 'b') == [(MIB, 128 * KIB), (4 * MIB, 64 * KIB)]
    write(d, 3, 6 * MIB, 64 * KIB)
    a.end(success=True)
    assert bitmap(d, 'src', 'b') == dict(bitmap(d, 'src', 'b'), count=64 * KIB, busy=False,
                                         recording=True)


@test('an access without room breaks, says so once, and the guest goes on')
def _(t):
    need('nbdcopy')
    d = t.daemon()
    path, initial = disk(t, d, 'src', 16 * MIB)
    a = Access(t, d, ['src'], ram=64 * KIB, scratch=MIB, id='small')
    w = t.witness(d.uri('src'), writers=4)
    event = d.qmp.event('BACKUP_ACCESS_BROKEN')['data']
    assert event == {'id': 'small', 'device': 'src', 'error': a.info()['error']}, event
    assert 'No room is left' in event['error'], event
    a.read().join(ok=False)
    w.wait(100)
    assert not [e for e in d.qmp.events if e['event'] == 'BACKUP_ACCESS_BROKEN']
    a.end(success=False)
    w.stop()
    d.close()
    w.final([path], [initial])


@test('an access ends, and the daemon too, while clients are connected')
def _(t):
    need('nbdcopy')
    d = t.daemon()
    disk(t, d, 'src', 16 * MIB)
    a = Access(t, d, ['src'])
    b = Access(t, d, ['src'])
    # A client that is in the middle of something: it reads, and its pipe is full.
    clients = [subprocess.Popen(['nbdcopy', x.disks[0]['uri'], '-'], stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, preexec_fn=qblk.die_with_parent)
               for x in (a, b)]
    for c in clients:
        assert c.stdout.read(1)
    a.end()
    assert [x['id'] for x in d.qmp('query-backup-accesses')] == [b.id]
    d.close()
    for c in clients:
        c.stdout.read()
        assert c.wait(qblk.DEADLINE) != 0


@test('nobody writes below a disk of an access')
def _(t):
    d = t.daemon()
    t.image('src.img', MIB)
    d.file('src', t.path('src.img'))
    low = {'type': 'nbd', 'id': 'low', 'node-name': 'src-file', 'name': 'low', 'writable': True}
    a = Access(t, d, ['src'])
    e = d.qmp.error('block-export-add', low)
    assert 'Permission conflict' in e.desc, e.desc
    a.end()
    d.qmp('block-export-add', low)
    e = d.qmp.error('backup-access-begin', disks=[{'device': 'src'}])
    assert 'Permission conflict' in e.desc and "export 'low'" in e.desc, e.desc


@test('what cannot begin leaves nothing, and says why')
def _(t):
    d = t.daemon(nbd=False)
    t.image('src.img', MIB)
    d.file('src', t.path('src.img'))
    one = [{'device': 'src'}]
    e = d.qmp.error('backup-access-begin', disks=one)
    assert e.desc == 'NBD server not running: nbd-server-start first', e.desc
    d.qmp('nbd-server-start', addr={'type': 'unix', 'data': {'path': d.nbd_path}})
    d.export('src', 'taken')
    before = nodes(d), exports(d)
    for words, arguments in [
            ("Cannot find device='none'", {'disks': [{'device': 'none'}]}),
            ('1 to 256 disks', {'disks': []}),
            ('named twice', {'disks': one + one}),
            ("Bitmap 'b' of 'src' could not be found", {'disks': [{'device': 'src', 'bitmap': 'b'}]}),
            ("already has export named 'taken'", {'disks': [{'device': 'src', 'export': 'taken'}]}),
            ("'/nowhere'", {'disks': one, 'scratch-folder': '/nowhere'}),
            ("Invalid backup access id", {'disks': one, 'id': 'a b'}),
            ("ram must be", {'disks': one, 'ram': 0})]:
        e = d.qmp.error('backup-access-begin', arguments)
        assert words in e.desc, (words, e.desc)
        assert (nodes(d), exports(d)) == before, words
        assert d.qmp('query-backup-accesses') == [], words
    assert unnamed_files(d) == []
    e = d.qmp.error('backup-access-end', id='none', success=True)
    assert "Backup access 'none' not found" in e.desc, e.desc
    a = Access(t, d, ['src'], id='a')
    e = d.qmp.error('backup-access-begin', disks=one, id='a')
    assert 'already in use' in e.desc, e.desc
    for e in (d.qmp.error('blockdev-del', node_name='src'),
              d.qmp.error('block_resize', node_name='src', size=2 * MIB)):
        assert "in use by backup access 'a'" in e.desc, e.desc
    a.end()
    assert (nodes(d), exports(d)) == before


@test('no scratch file has a name, and none is left when the daemon is killed')
def _(t):
    d = t.daemon()
    disk(t, d, 'src', 32 * MIB)
    folder = t.path('scratch')
    os.mkdir(folder)
    a = Access(t, d, ['src'], ram=MIB, **{'scratch-folder': folder})
    write(d, 1, 0, 16 * MIB)
    assert a.info()['disks'][0]['scratch'] >= 8 * MIB, a.info()
    assert os.listdir(folder) == []
    assert unnamed_files(d)
    a.end()
    assert unnamed_files(d) == []
    a = Access(t, d, ['src'], ram=MIB, **{'scratch-folder': folder})
    write(d, 2, 0, 16 * MIB)
    assert unnamed_files(d)
    d.kill()
    assert os.listdir(folder) == []


if __name__ == '__main__':
    main()
