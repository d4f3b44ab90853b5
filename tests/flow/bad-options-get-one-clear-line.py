#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rule H5 on the command line: what cannot be done ends with 1 and one line that names it."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import MIB, is_qblk, run_daemon  # noqa: E402
from tap import main, test  # noqa: E402

IMAGE = 'driver=file,node-name=a,filename=@/a.img'

# What is typed, and the words that the line must have.
CASES = [
    ('an unknown option', ['--nonsense'], ['--nonsense']),
    ('an unknown letter before a known one', ['-xh'], ["'-x'"]),
    ('a value for a switch', ['--daemonize=1'], ['--daemonize', 'argument']),
    ('a stray word', ['stray'], ['stray']),
    ('an option without its value', ['--blockdev'], ['--blockdev']),
    ('a missing file', ['--blockdev', 'driver=file,node-name=a,filename=@/nowhere.img'],
     ['nowhere.img', 'No such file']),
    ('a directory for a disk', ['--blockdev', 'driver=file,node-name=a,filename=@'], ['@']),
    ('an unknown driver', ['--blockdev', 'driver=nope,node-name=a'], ['driver', 'nope']),
    ('no driver', ['--blockdev', 'node-name=a'], ['driver']),
    ('no filename', ['--blockdev', 'driver=file,node-name=a'], ['filename']),
    ('an unknown member', ['--blockdev', IMAGE + ',bogus=1'], ['bogus']),
    ('an unknown member of a child', ['--blockdev', 'driver=raw,node-name=a,file.driver=file,'
                                      'file.filename=@/a.img,file.bogus=1'], ['bogus']),
    ('a value that is no switch', ['--blockdev', IMAGE + ',read-only=perhaps'],
     ['read-only', 'perhaps']),
    ('an unknown aio engine', ['--blockdev', IMAGE + ',aio=magic'], ['aio', 'magic']),
    ('a negative size', ['--blockdev', 'driver=raw,node-name=a,size=-1,file.driver=file,'
                         'file.filename=@/a.img'], ['size', '-1']),
    ('an offset that is a word', ['--blockdev', 'driver=raw,node-name=a,offset=x,'
                                  'file.driver=file,file.filename=@/a.img'], ['offset']),
    ('an offset behind the end', ['--blockdev', 'driver=raw,node-name=a,offset=4194304,'
                                  'file.driver=file,file.filename=@/a.img'], ['offset']),
    ('a number for a name', ['--blockdev', '{"driver":"file","node-name":"a","filename":7}'],
     ['filename', 'string']),
    ('JSON that ends too soon', ['--blockdev', '{"driver":"file",'], ['JSON']),
    ('JSON that is no object', ['--blockdev', '{"driver": null}'], ['driver']),
    ('the same node twice', ['--blockdev', IMAGE, '--blockdev', 'driver=null-co,node-name=a'],
     ['a', 'node-name']),
    ('a node name with a space', ['--blockdev', 'driver=null-co,node-name=a b'], ['a b']),
    ('a child that is not there', ['--blockdev', 'driver=raw,node-name=a,file=ghost'], ['ghost']),
    ('an unknown kind of object', ['--object', 'nope,id=a'], ['nope']),
    ('the same object twice', ['--object', 'throttle-group,id=t', '--object',
                               'throttle-group,id=t'], ["'t'"]),
    ('an object without an id', ['--object', 'throttle-group'], ['id']),
    ('an unknown member of an object', ['--object', 'iothread,id=t,bogus=1'], ['bogus']),
    ('a batch that engines do not have', ['--object', 'iothread,id=t,aio-max-batch=8'],
     ['aio-max-batch', 'batch as they can']),
    ('keep-alive of a listener', ['--nbd-server', 'addr.type=inet,addr.host=localhost,addr.port=0,'
                                  'addr.keep-alive=on'], ['keep-alive']),
    ('a policy that a device does not have', ['--drive', 'id=d,file=ghost,werror=stop'], ['werror']),
    ('stable writes asked of a device', ['--drive', 'id=d,file=ghost,cache=writethrough'],
     ['cache', 'writethrough=on']),
    ('a monitor on no chardev', ['--monitor', 'chardev=zz'], ['zz']),
    ('an NBD server without a path', ['--nbd-server', 'addr.type=unix'], ['addr.path']),
    ('an export of no node', ['--nbd-server', 'addr.type=unix,addr.path=@/n', '--export',
                              'type=nbd,id=e,node-name=ghost'], ['ghost']),
    ('an export with no server', ['--blockdev', 'driver=null-co,node-name=n', '--export',
                                  'type=nbd,id=e,node-name=n'], ['NBD server']),
    ('an unknown kind of export', ['--blockdev', 'driver=null-co,node-name=n', '--export',
                                   'type=nope,id=e,node-name=n'], ['nope']),
    ('a pid file in no folder', ['--blockdev', 'driver=null-co,node-name=n', '--pidfile',
                                 '@/nowhere/x'], ['nowhere']),
]

# What the peer says otherwise, or takes.
PEER_DIFFERS = {'an object without an id', 'a node name with a space',
                'a batch that engines do not have'}


def one_line(t, words, expected):
    words = [w.replace('@', t.dir) for w in words]
    status, out, err = run_daemon(*words)
    assert status == 1, f'ended with {status}: {err}'
    assert out == '', out
    lines = err.splitlines()
    assert len(lines) == 1, f'{len(lines)} lines: {err}'
    for word in expected:
        assert word.replace('@', t.dir) in err, f'{word!r} is not in: {err}'
    assert 'ssert' not in err and 'ERROR:' not in err, err


def add(name, words, expected):
    @test(f'{name} ends with one line that names it')
    def _(t):
        t.image('a.img', MIB)
        one_line(t, words, [] if name in PEER_DIFFERS and not is_qblk() else expected)


for case in CASES:
    add(*case)


@test('every option explains itself')
def _(_t):
    status, out, err = run_daemon('--help')
    assert status == 0 and not err, err
    for option in ('--blockdev', '--object', '--chardev', '--monitor', '--nbd-server', '--export',
                   '--daemonize', '--pidfile', '--trace', '--version'):
        assert option in out, f'{option} is not in the help'
    for words, expected in (('--chardev help', 'socket'), ('--chardev socket,help', 'path='),
                            ('--chardev stdio,help', 'id='), ('--aio help', 'io_uring')):
        status, out, err = run_daemon(*words.split())
        if is_qblk():
            assert status == 0 and expected in out and not err, (words, out, err)
    status, out, err = run_daemon('--version')
    assert status == 0 and out.strip() and not err, (out, err)


if __name__ == '__main__':
    main()
