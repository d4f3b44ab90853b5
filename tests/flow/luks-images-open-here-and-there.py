#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""luks: what one program encrypts the other reads, in every way that both know; key slots, and headers of strangers."""
import json
import os
import shutil
import signal
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import qblk  # noqa: E402
from imgtool import ImgTool, need_peer  # noqa: E402
from qblk import KIB, MIB  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402
from witness import fill as fill_disk  # noqa: E402

SECRET = ('--object', 'secret,id=s,data=hunter0')
SECRETS = SECRET + tuple(a for i in range(1, 4) for a in ('--object', f'secret,id=s{i},data=hunter{i}'))
SIZE = 300 * KIB + 512


def busy(pid):
    """Whether a process has computed for a while."""
    with open(f'/proc/{pid}/stat') as f:
        ticks = f.read().rsplit(')', 1)[1].split()[11]
    return int(ticks) > 30


def opened(name, key='s', more=''):
    return f'driver=luks,key-secret={key},file.filename={name}{more}'


def create(tool, name, *options, size=SIZE, key='s'):
    return tool('create', *SECRETS, '-q', '-f', 'luks', '-o', ','.join((f'key-secret={key}', 'iter-time=1') + options),
                name, size)


def same(tool, name, raw, key='s', more=''):
    r = tool('compare', *SECRETS, '--image-opts', opened(name, key, more), f'driver=raw,file.filename={raw}')
    assert r.status == 0, r


def fill(tool, name, raw, more=''):
    r = tool('convert', *SECRET, '-n', '--target-image-opts', '-f', 'raw', raw, opened(name, more=more))
    assert r.status == 0, r


@test('all ways to encrypt: what one writes the other reads')
def _(t):
    need_peer()
    img = ImgTool(t)
    ways = ['cipher-alg=aes-128', 'cipher-alg=aes-256,hash-alg=ripemd160', 'cipher-alg=serpent-128,hash-alg=sha1',
            'cipher-alg=serpent-256,cipher-mode=cbc', 'cipher-alg=twofish-128,hash-alg=sha512',
            'cipher-alg=twofish-256,cipher-mode=cbc,ivgen-alg=essiv', 'cipher-mode=cbc,ivgen-alg=plain,hash-alg=sha384',
            'cipher-mode=ecb', 'cipher-alg=cast5-128,cipher-mode=cbc', 'ivgen-alg=essiv',
            'ivgen-alg=plain,ivgen-hash-alg=md5,hash-alg=sha224',
            'cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=md5']
    with open(t.path('a.raw'), 'wb') as f:
        f.write(t.random.randbytes(SIZE))
    # Making a key takes the other program a second: it makes only the first.  Some of the ways each time.
    for number, way in enumerate(t.random.sample(ways, 4)):
        for maker, other in ((img.run, img.peer), (img.peer, img.run))[:2 if number == 0 else 1]:
            r = create(maker, 'a.luks', way)
            assert r.status == 0, r
            fill(maker, 'a.luks', 'a.raw')
            same(other, 'a.luks', 'a.raw')
            os.unlink(t.path('a.luks'))


@test('info says of an image what qemu-img says, with and without the key')
def _(t):
    img = ImgTool(t)
    need_peer()
    for way in ('cipher-alg=aes-256', 'cipher-mode=cbc,ivgen-alg=essiv,hash-alg=sha1'):
        img_result = create(img.run, 'a.luks', way)
        assert img_result.status == 0, img_result
        for args in ((), ('--output=json',)):
            img.as_peer('info', *args, 'a.luks')
            img.as_peer('info', *args, *SECRET, '--image-opts', opened('a.luks'))
            img.as_peer('info', *args, '--image-opts', 'driver=luks,file.filename=a.luks')
    for args in (('compare', 'a.luks', 'a.luks'), ('check', 'a.luks'), ('map', 'a.luks'),
                 ('compare', '--image-opts', opened('a.luks'), opened('a.luks')),
                 ('check', *SECRET, '--image-opts', opened('a.luks')),
                 ('map', '--output=json', *SECRET, '--image-opts', opened('a.luks')),
                 ('compare', *SECRETS, '--image-opts', opened('a.luks', 's1'), opened('a.luks')),
                 ('resize', *SECRET, '--image-opts', opened('a.luks'), '1M'),
                 ('resize', *SECRET, '--shrink', '--image-opts', opened('a.luks'), '100k'),
                 ('measure', *SECRET, '-O', 'luks', '-o', 'key-secret=s', '--size', '10M'),
                 ('measure', *SECRET, '-O', 'luks', '-o', 'key-secret=s,cipher-mode=cbc', '--size', '0')):
        img.as_peer(*args)


@test('bad options of a new image are refused, and leave no image')
def _(t):
    need_qblk('has words of its own here')
    img = ImgTool(t)
    with open(t.path('noise'), 'wb') as f:
        f.write(b'\x3a\xff')
    img.fails('Data from secret n is not valid UTF-8', 'create', '--object', 'secret,id=n,file=noise', '-f', 'luks', '-o',
              'key-secret=n', 'new.luks', '1M')
    assert not os.path.exists(t.path('new.luks'))
    for options, words in (('hash-alg=sha1', "Parameter 'key-secret' is required for cipher"),
                           ('key-secret=nobody', "No secret with id 'nobody'"),
                           ('key-secret=s,cipher-alg=rot13', "does not accept value 'rot13'"),
                           ('key-secret=s,cipher-mode=foo', "Parameter 'cipher-mode' does not accept value 'foo'"),
                           ('key-secret=s,cipher-alg=cast5-128', "Cipher mode 'xts' needs a cipher with blocks"),
                           ('key-secret=s,ivgen-alg=essiv,ivgen-hash-alg=sha1', "cannot use hash 'sha1'"),
                           ('key-secret=s,iter-time=-1', "Parameter 'iter-time' must be from 0 to 60000"),
                           ('key-secret=s,preallocation=metadata', "Unsupported preallocation mode 'metadata'"),
                           ('key-secret=s,bogus=1', "Invalid parameter 'bogus'")):
        img.fails(words, 'create', *SECRET, '-f', 'luks', '-o', options, 'new.luks', '1M')
        assert not os.path.exists(t.path('new.luks')), options


REFUSE_ALL = 'All the active keyslots match the (old) password that was given and erasing them will erase all the data ' \
    'in the image irreversibly - refusing operation'
# With which passphrase, what, and the words of a refusal: those of qemu-img.
AMENDS = [
    ('s', 'state=active,new-secret=s1,iter-time=1', ''), ('s', 'state=active,new-secret=s2,iter-time=1,keyslot=5', ''),
    ('s2', 'state=active,new-secret=s3,keyslot=5', 'Refusing to overwrite active keyslot 5 - please erase it first'),
    ('s', 'new-secret=s1', "Parameter 'state' is missing"),
    ('s', 'state=active', "'new-secret' is required to activate a keyslot"),
    ('s', 'state=inactive', 'To erase keyslot(s), either explicit keyslot index or the password currently contained in '
                            'them must be given'),
    ('s', 'state=foo', "Parameter 'state' does not accept value 'foo'"),
    ('s', 'state=active,new-secret=s1,keyslot=8', 'Invalid keyslot 8 specified, must be between 0 and 7'),
    ('s', 'state=inactive,keyslot=8', 'Invalid keyslot 8 specified, must be between 0 and 7'),
    ('s', 'state=active,new-secret=s1,old-secret=s', "'old-secret' must not be given when activating keyslots"),
    ('s', 'state=inactive,keyslot=1,new-secret=s1', "'new-secret' must not be given when erasing keyslots"),
    ('s', 'state=inactive,keyslot=1,iter-time=1', "'iter-time' must not be given when erasing keyslots"),
    ('s', 'state=inactive,keyslot=3', 'Given keyslot 3 is already erased (inactive) '),
    ('s', 'state=inactive,keyslot=1,old-secret=s2', "Given keyslot 1 doesn't contain the given old password for erase "
                                                    'operation'),
    ('s', 'state=inactive,old-secret=s3', 'No keyslots match given (old) password for erase operation'),
    ('s', 'state=inactive,old-secret=nobody', "No secret with id 'nobody'"), ('s', 'foo=bar', "Invalid parameter 'foo'"),
    ('s', 'state=inactive,old-secret=s', ''), ('s1', 'state=inactive,keyslot=1,old-secret=s1', ''),
    ('s2', 'state=inactive,old-secret=s2', REFUSE_ALL),
    ('s2', 'state=inactive,keyslot=5', 'Attempt to erase the only active keyslot 5 which will erase all the data in the '
                                       'image irreversibly - refusing operation'),
    ('s2', 'state=active,new-secret=s3,keyslot=5,iter-time=1 --force', ''),
]


@test('key slots are filled and erased, and refusals have the words of qemu-img')
def _(t):
    img = ImgTool(t)
    with open(t.path('a.raw'), 'wb') as f:
        f.write(t.random.randbytes(SIZE))
    create(img.run, 'a.luks', 'cipher-alg=aes-128')
    fill(img.run, 'a.luks', 'a.raw')
    for key, options, words in AMENDS:
        options, *more = options.split()
        r = img.run('amend', *SECRETS, *more, '--image-opts', opened('a.luks', key), '-o', options)
        assert r.err == (f'PROGRAM: {words}\n' if words else '') and r.status == (1 if words else 0), r
    same(img.run, 'a.luks', 'a.raw', 's3')
    if qblk.have('qemu-img'):
        same(img.peer, 'a.luks', 'a.raw', 's3')
    for key in ('s', 's1', 's2'):
        img.fails('Invalid password, cannot unlock any keyslot', 'check', *SECRETS, '--image-opts',
                  opened('a.luks', key))
    img.ok('amend', *SECRETS, '--force', '--image-opts', opened('a.luks', 's3'), '-o', 'state=inactive,old-secret=s3')
    img.fails('Invalid password, cannot unlock any keyslot', 'check', *SECRETS, '--image-opts', opened('a.luks', 's3'))


def patched(t, patches):
    shutil.copy(t.path('good.luks'), t.path('bad.luks'))
    with open(t.path('bad.luks'), 'r+b') as f:
        for offset, data in patches:
            f.seek(offset)
            f.write(data)


@test('headers of strangers are refused as qemu-img refuses them')
def _(t):
    need_peer()
    img = ImgTool(t)
    create(img.run, 'good.luks')
    be = lambda value: struct.pack('>I', value)  # noqa: E731
    slot = lambda n: 208 + 48 * n  # noqa: E731
    for patches in ([(6, b'\0\2')], [(6, b'\0\3')], [(0, b'X')], [(8, b'a' * 32)], [(40, b'a' * 32)], [(72, b'a' * 32)],
                    [(8, b'foo\0')], [(40, b'foo-plain64\0')], [(40, b'xts\0')], [(40, b'xts-foo\0')],
                    [(40, b'cbc-essiv:foo\0')], [(72, b'foo\0')], [(104, be(1))], [(108, be(0))], [(164, be(0))],
                    [(slot(0), be(5))], [(slot(0) + 4, be(0))], [(slot(0) + 44, be(4001))], [(slot(1) + 44, be(1))],
                    [(slot(0) + 40, be(0))], [(slot(1) + 40, be(9))], [(slot(0) + 40, be(4030))],
                    [(104, be(0xffffffff))], [(slot(0) + 8, b'x')], [(4096, b'x' * 99)]):
        patched(t, patches)
        img.as_peer('compare', *SECRET, '--image-opts', opened('bad.luks'), opened('bad.luks'))
    for length in (0, 5, 512, 591, 4096, 100000, 262144):
        shutil.copy(t.path('good.luks'), t.path('bad.luks'))
        os.truncate(t.path('bad.luks'), length)
        r = img.run('compare', *SECRET, '--image-opts', opened('bad.luks'), opened('bad.luks'))
        assert r.status == 2 and r.err, r


@test('a header that asks for hours does not keep the tool, nor the daemon')
def _(t):
    need_qblk('can be interrupted there')
    img = ImgTool(t)
    create(img.run, 'good.luks')
    patched(t, [(212, b'\xff\xff\xff\xff')])
    status, _, err = img.interrupted('compare', *SECRET, '--image-opts', opened('bad.luks'), opened('bad.luks'),
                                     after=lambda p: busy(p.pid))
    assert status == -signal.SIGINT, (status, err)
    d = t.daemon('--object', 'secret,id=s,data=hunter0')
    add = {'execute': 'blockdev-add',
           'arguments': {'driver': 'luks', 'node-name': 'l', 'key-secret': 's',
                         'file': {'driver': 'file', 'filename': t.path('bad.luks')}}}
    d.qmp.send_raw(json.dumps(add).encode() + b'\n')
    while not busy(d.process.pid):
        pass
    other = d.connect()
    other('query-status')
    other('quit')
    assert d.process.wait(timeout=qblk.DEADLINE) == 0


@test('a disk through the daemon: made by a job, used by clients, its keys changed meanwhile')
def _(t):
    need_qblk('the order of its events is ours')
    d = t.daemon(*[a for i in range(4) for a in ('--object', f'secret,id=s{i},data=hunter{i}')])

    def job(command, **args):
        d.qmp(command, job_id='j', **args)
        d.qmp.event('JOB_STATUS_CHANGE', where={'id': 'j', 'status': 'concluded'})
        info = [j for j in d.qmp('query-jobs') if j['id'] == 'j'][0]
        d.qmp('job-dismiss', id='j')
        d.qmp.event('JOB_STATUS_CHANGE', where={'id': 'j', 'status': 'null'})
        d.qmp.events.clear()
        return info.get('error')

    def amend(**options):
        force = options.pop('force', False)
        return job('x-blockdev-amend', node_name='disk', force=force,
                   options={'driver': 'luks', **{k.replace('_', '-'): v for k, v in options.items()}})

    path = t.path('a.luks')
    assert not job('blockdev-create', options={'driver': 'file', 'filename': path, 'size': 0})
    assert not job('blockdev-create',
                   options={'driver': 'luks', 'file': {'driver': 'file', 'filename': path}, 'key-secret': 's0',
                            'size': 4 * MIB, 'iter-time': 1, 'preallocation': 'full'})
    assert os.path.getsize(path) == 4 * MIB + 2068480
    e = d.qmp.error('blockdev-add', driver='luks', node_name='disk', key_secret='s1',
                    file={'driver': 'file', 'filename': path})
    assert e.desc == 'Invalid password, cannot unlock any keyslot', e.desc
    e = d.qmp.error('blockdev-add', driver='luks', node_name='disk', file={'driver': 'file', 'filename': path})
    assert e.desc == "Parameter 'key-secret' is required for cipher", e.desc
    fill_disk(t.path('before.raw'), 4 * MIB, 1)
    img = ImgTool(t)
    img.ok('convert', '--object', 'secret,id=s0,data=hunter0', '-n', '--target-image-opts', '-f', 'raw', 'before.raw',
           opened('a.luks', 's0'))
    d.qmp('object-add', qom_type='iothread', id='thread0')
    d.qmp('blockdev-add', driver='luks', node_name='disk', key_secret='s0',
          file={'driver': 'file', 'filename': path})
    d.qmp('block-export-add', type='nbd', id='e', node_name='disk', name='disk', writable=True, iothread='thread0')
    w = t.witness(d.uri('disk'), discard=0)
    w.wait(20)
    assert not amend(state='active', new_secret='s1', iter_time=1)
    assert not amend(state='active', new_secret='s2', iter_time=1, keyslot=5)
    assert amend(state='active', new_secret='s2', keyslot=5) == \
        'Refusing to overwrite active keyslot 5 - please erase it first'
    assert not amend(state='inactive', old_secret='s0')
    assert amend(state='active', new_secret='s3') == 'Invalid password, cannot unlock any keyslot'
    assert not amend(state='active', new_secret='s3', secret='s1', iter_time=1)
    w.wait(20)
    w.stop()
    node = [n for n in d.qmp('query-named-block-nodes') if n['node-name'] == 'disk'][0]
    assert node['encrypted'] and node['image']['encrypted'], node
    slots = node['image']['format-specific']['data']['slots']
    assert [s['active'] for s in slots] == [True, True, False, False, False, True, False, False], slots
    d.qmp('block-export-del', id='e')
    d.qmp.event('BLOCK_EXPORT_DELETED')
    d.qmp('blockdev-del', node_name='disk')
    img.ok('convert', '--object', 'secret,id=s3,data=hunter3', '--image-opts', '-O', 'raw', opened('a.luks', 's3'),
           'after.raw')
    w.final([t.path('after.raw')], [t.path('before.raw')])
    d.qmp('blockdev-add', driver='luks', node_name='disk', key_secret='s3', file={'driver': 'file', 'filename': path})


@test('a detached header: made, filled and read, here and there')
def _(t):
    img = ImgTool(t)
    with open(t.path('a.raw'), 'wb') as f:
        f.write(t.random.randbytes(SIZE))
    img.ok('create', *SECRET, '-f', 'luks', '-o', 'key-secret=s,iter-time=1,detached-header=on', 'head')
    with open(t.path('body'), 'wb') as f:
        f.truncate(SIZE)
    fill(img.run, 'body', 'a.raw', ',header.filename=head')
    same(img.run, 'body', 'a.raw', more=',header.filename=head')
    name = json.dumps({'driver': 'luks', 'file': {'filename': 'body'}, 'header': {'filename': 'head'}})
    info = json.loads(img.ok('info', '--output=json', 'json:' + name).out)
    assert info['format-specific']['data']['detached-header'] is True, info
    need_peer()
    same(img.peer, 'body', 'a.raw', more=',header.driver=file,header.filename=head')


@test('convert and dd make luks images, and copy out of them; zeros too')
def _(t):
    img = ImgTool(t)
    t.image('a.raw', MIB, [(0, b'x' * 5000), (700000, b'y' * 9000)])
    img.ok('convert', *SECRET, '-O', 'luks', '-o', 'key-secret=s,iter-time=1', '-f', 'raw', 'a.raw', 'a.luks')
    same(img.run, 'a.luks', 'a.raw')
    img.ok('convert', *SECRET, '--image-opts', '-O', 'raw', opened('a.luks'), 'b.raw')
    img.ok('compare', '-f', 'raw', '-F', 'raw', 'a.raw', 'b.raw')
    img.ok('resize', *SECRET, '--image-opts', opened('a.luks'), '2M')
    img.ok('resize', *SECRET, '--shrink', '--image-opts', opened('a.luks'), '1M')
    same(img.run, 'a.luks', 'a.raw')
    if qblk.have('qemu-img'):
        same(img.peer, 'a.luks', 'a.raw')


if __name__ == '__main__':
    main()
