#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""qblk-io: output, messages and exit status of qemu-io, for good and for bad commands."""
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from imgtool import ImgTool  # noqa: E402
from iotool import IoTool  # noqa: E402
from qblk import MIB  # noqa: E402
from tap import main, test  # noqa: E402


def run(t, *args):
    r = ImgTool(t).run(*args)
    assert r.status == 0, r


class Both:
    """Commands for both programs, each with a fresh image of 8 MiB that has some data."""

    def __init__(self, t):
        self.t = t
        self.io = IoTool(t)

    def image(self):
        self.t.image('a.raw', 8 * MIB, [(0, b'first'), (MIB, b'later')])

    def each(self, args, *commands):
        """All commands in one session."""
        return self.io.as_peer(*args, commands=commands, before=self.image)

    def raw(self, *commands):
        return self.each(('-f', 'raw', 'a.raw'), *commands)


@test('read and readv: data, patterns, dumps, lengths')
def _(t):
    both = Both(t)
    both.raw('read 0 1k', 'read -P 0 8k 1k', 'read -v 0 40', 'read -vP 1 0 40', 'read -q 0 1k', 'read -C 0 1k',
             'read -qC 0 1k', 'read -qP 1 0 10', 'read -P 0 -s 1k 0 1k', 'read -P 1 -s 512 -l 7 0 1k',
             'read -P 0 -s 1k -l 0 0 1k', 'read 0 0', 'read 8M 0', 'read 0 1.5k', 'r 7 9', 'read -p 0 1',
             'readv 33 77 88', 'readv -v 1048570 10 10', 'readv -P 1 33 10 10', 'readv -q 0 1', 'readv -C 0 1 1',
             'read -P 0x66 0 1', 'read -P 0146 0 1', 'read  0   512  ', '', '   ')


@test('read and readv: what cannot be read')
def _(t):
    both = Both(t)
    both.raw('read -P 0 -l 2k 0 1k', 'read -P 0 -s 2k 0 1k', 'read -P 0 -s abc 0 1k', 'read -P 0 -l abc 0 1k',
             'read -P 256 0 1k', 'read -P abc 0 1k', 'read -P -1 0 1k', 'read 0', 'read', 'read -b 0 1', 'read a 1',
             'read 0 a', 'read -- -1 1', 'read -- 0 -1', 'read 0 3G', 'read 0 9M', 'read 100M 1', 'read 3x 1',
             'read 99999999999999999999 1', 'read 9E 1', 'readv 0', 'readv 0 a', 'readv a 0', 'readv 0 2G 2G',
             'readv 0 2000M 100M', 'readv 0 9M')


@test('write and writev: data, patterns, files, zeros')
def _(t):
    both = Both(t)
    with open(t.path('pattern'), 'w', encoding='ascii') as f:
        f.write('hello')
    both.raw('write -P 1 0 1k', 'write -s pattern 2k 1k', 'read -v 2k 32', 'write -z 4k 1k', 'write -zu 5k 1k',
             'write -zn 6k 1k', 'write -zf 64k 64k', 'write -r 0 64k', 'write -f 0 64k', 'write -q 0 64k',
             'write -C 0 64k', 'write 33 77', 'read -P 0xcd 33 77', 'write -z -c 0 1k', 'w 1 1',
             'writev -P 3 0 1k 2k', 'read -P 3 0 3k', 'writev -C 0 1k 2k', 'writev -q 0 1', 'writev -f 0 1k')


@test('write and writev: what cannot be written')
def _(t):
    both = Both(t)
    open(t.path('empty'), 'wb').close()
    both.raw('write -s empty 0 1k', 'write -s nosuch 0 1k', 'write -s a.raw -P 1 0 1k', 'write -z -P 1 0 1k',
             'write -z -s a.raw 0 1k', 'write -c 0 1k', 'write -c 0 1', 'write -b 0 1k', 'write -bz 0 1k',
             'write -bf 0 1k', 'write -cf 0 1k', 'write -n 0 1k', 'write -u 0 1k', 'write -zr 0 64k', 'write 0 9M',
             'write 0 3G', 'write -z 0 3G', 'write -zn 0 3G', 'write 0', 'write a 1', 'write 1 a', 'writev 0',
             'writev 0 a', 'writev 0 9M', 'writev a 1')
    both.each(('-r', '-f', 'raw', 'a.raw'), 'write 33 77', 'aio_write 33 77', 'aio_write -z 33 77', 'discard 33 77',
              'truncate 33', 'read 33 77', 'flush', 'write 0')


@test('aio_read, aio_write, aio_flush')
def _(t):
    both = Both(t)
    for command in ('aio_read 0 1k', 'aio_read -P 3 0 1k', 'aio_read -v 0 20 20', 'aio_read -q 0 20 20',
                    'aio_read -C 0 20 20', 'aio_read 0 9M', 'aio_write 0 9M', 'aio_write 0 1k 1k', 'aio_write -q 0 1k',
                    'aio_write -C 0 1k', 'aio_write -f 0 1k'):
        both.raw(command)
        both.raw(command, 'aio_flush', 'length')
    both.raw('aio_read 0', 'aio_read 0 a', 'aio_read a 0', 'aio_read -i 0 20 20', 'aio_write -z 0 1k 1k',
             'aio_write -u 0 1k', 'aio_write -i 0 1k', 'aio_write -zi 0 1k', 'aio_write -zr 0 1k',
             'aio_write -P a 0 1k', 'aio_write 0', 'aio_flush a')


@test('discard, flush, length, truncate')
def _(t):
    both = Both(t)
    both.raw('discard 0 1k', 'discard -C 0 1k', 'discard -q 0 1k', 'd 0 1M', 'flush', 'f', 'length', 'l',
             'truncate 5.5M', 'length', 't 4G', 'length', 'truncate 3000G', 'length', 'truncate -m off 1M', 'length')
    both.raw('discard 0 9M', 'discard 0', 'discard a 1', 'discard 0 b', 'discard 0 3G', 'discard 9M 1k', 'truncate',
             'truncate -m nosuch 5M', 'truncate a', 'length 1', 'flush 1', 'length')


@test('alloc, map, info')
def _(t):
    both = Both(t)
    both.raw('alloc 0', 'alloc 0 1M', 'alloc 8M 1', 'alloc 7M 2M', 'alloc 100 100', 'alloc a', 'alloc 0 b', 'a',
             'alloc 0 1 2', 'map', 'map 1', 'info', 'i', 'info 1', 'truncate 0', 'map')


@test('open, close, and what cannot be opened')
def _(t):
    both = Both(t)
    both.raw('close', 'length', 'close', 'open -o driver=raw a.raw', 'l', 'c', 'open', 'o -o driver=raw,offset=512 a.raw',
             'length', 'open a.raw')
    for args in ((), ('nosuch',), ('-f', 'nosuch', 'a.raw'), ('-t', 'foo', 'a.raw'), ('-d', 'foo', 'a.raw'),
                 ('-i', 'foo', 'a.raw'), ('--image-opts', '-f', 'raw', 'a.raw'), ('-U', '-f', 'raw', 'a.raw'),
                 ('-U', '-r', '-f', 'raw', 'a.raw'), ('-n', '-f', 'raw', 'a.raw'), ('-d', 'off', '-f', 'raw', 'a.raw'),
                 ('-k', '-f', 'raw', 'a.raw'), ('-m', '-f', 'raw', 'a.raw'), ('a.raw',), ('--object', 'foo'),
                 ('--image-opts', 'driver=raw,file.filename=a.raw'), ('-f', 'raw', 'blkdebug::a.raw'),
                 ('-f', 'raw', 'blkdebug:a'), ('-f', 'raw', 'blkdebug:nosuch:a.raw'), ('-f', 'raw', 'null-co://')):
        both.each(args, 'length', 'read 0 5')
    for what in ('nosuch', '-t foo a.raw', '-d foo a.raw', '-i foo a.raw', '-o driver=file a.raw',
                 '-o driver=file,filename=a.raw a.raw', '-o driver=raw,file=a.raw', '-o driver=null-co',
                 '-Ur -o driver=raw a.raw', 'json:{"driver":"raw","file.filename":"a.raw"}',
                 '-o size=4k json:{"driver":"raw","file.filename":"a.raw"}',
                 '-o driver=raw,file.align=4k blkdebug::a.raw'):
        both.each((), 'open ' + what, 'length', 'read 0 512')
    both.each(('--image-opts',), 'open driver=raw,file.filename=a.raw', 'length')
    both.each(('--image-opts',), 'open -o driver=raw a.raw')


@test('reopen')
def _(t):
    both = Both(t)
    for commands in (['reopen'], ['reopen -r', 'write 0 1', 'reopen -w', 'write 0 1'], ['reopen -r -w'],
                     ['reopen -c foo'], ['reopen -c none', 'read 0 512'], ['reopen -r -o read-only=on', 'write 0 1'],
                     ['reopen -c none -o cache.direct=on'], ['reopen -o driver=raw', 'write 0 1'],
                     ['reopen -o discard=unmap', 'write 0 1'], ['reopen -o file.filename=foo', 'write 0 1']):
        both.raw(*commands)
    both.each(('-r', '-f', 'raw', 'a.raw'), 'reopen -w', 'write 0 1')
    both.each(('--image-opts', 'driver=raw,offset=512,size=512,file.filename=a.raw'),
              'reopen -o driver=raw,offset=1536,size=1024', 'length', 'write -P 3 0 1k', 'write 0 2k')
    both.each((), 'reopen')


@test('commands that are none, and those for the program itself')
def _(t):
    both = Both(t)
    both.raw('nonsense 0 1', 'help nosuch', 'help a b', 'sleep 10', 'sleep', 'sleep a', 'sleep -1', 'sigraise',
             'sigraise a', 'sigraise 300', 'sigraise -1', 'sigraise 15x', 'zone_report 0 1', 'zone_open 0 1',
             'zone_reset 0 4k', 'zone_reset 0', 'break write_aio A', 'resume A', 'remove_break A', 'wait_break')
    both.each((), 'length a', 'read', 'read 0 1', 'write 0 1', 'aio_flush', 'flush', 'map', 'alloc 0', 'info', 'reopen',
              'break a b', 'discard 0 1', 'close', 'open')
    both.raw('length', 'quit', 'length')
    for number in (signal.SIGTERM, signal.SIGKILL):
        assert both.raw('length', f'sigraise {int(number)}').status == -number
    assert both.raw('length', 'abort').status == -signal.SIGABRT


@test('commands on the standard input, with the prompt')
def _(t):
    both = Both(t)
    for text in ('length\n\nread 0 1k\nfoo\n', 'length\nquit\nlength', 'length', 'read 0 1x\n', ''):
        both.io.as_peer('-f', 'raw', 'a.raw', stdin=text, before=both.image)


@test('breakpoints hold requests until they are let go')
def _(t):
    both = Both(t)
    node = 'driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename=a.raw'
    for text in ('break write_aio A\naio_write 0 1k\naio_write 4k 1k\nsleep 50\nwait_break A\nresume A\naio_flush\n',
                 'break write_aio A\nbreak write_aio B\naio_write 0 1k\nwait_break A\nwait_break B\nresume A\nresume B\n'
                 'aio_flush\n',
                 'break write_aio A\naio_write 0 1k\nwait_break A\nremove_break A\naio_flush\nlength\n',
                 'break foo A\nbreak write_aio\nresume A\nremove_break A\nbreak write_aio A\nremove_break A\n'
                 'remove_break B\nwrite 0 1\n'):
        both.io.as_peer('--image-opts', node, stdin=text, before=both.image)
    both.image()
    r = both.io.run('--image-opts', node, stdin='break write_aio A\naio_write 0 1k\nwait_break A\n')
    assert r.status == 0 and 'wrote 1024' in r.out, r  # the end lets it go


@test('what is written to a snapshot is forgotten; what is read through copy-on-read stays')
def _(t):
    both = Both(t)
    both.image()
    r = both.io.run('-s', '-f', 'raw', '-c', 'write -P 7 0 4k', '-c', 'read -P 7 0 4k', '-c', 'read 1M 4k', 'a.raw')
    assert r.status == 0, r
    assert both.io.run('-f', 'raw', '-c', 'read -P 7 0 4k', 'a.raw').status == 1
    with open(t.path('a.raw'), 'rb') as f:
        assert f.read(5) == b'first'
    t.image('base.raw', 1 * MIB, [(0, b'base')])
    run(t, 'create', '-q', '-f', 'fvd', '-b', 'base.raw', '-F', 'raw', 'top.fvd')
    assert 'not allocated at offset 0 bytes' in both.io.run('-f', 'fvd', '-c', 'map', 'top.fvd').out
    r = both.io.run('-C', '-f', 'fvd', '-c', 'read -v 0 4', '-c', 'alloc 0 4k', 'top.fvd')
    assert '62 61 73 65  base' in r.out and '4096/4096 bytes allocated' in r.out, r
    r = both.io.run('-C', '-r', '-f', 'fvd', '-c', 'read -v 0 4', 'top.fvd')
    assert r.status == 1 and "Can't use copy-on-read on read-only device" in r.err, r


@test('help has each command, and each option of its arguments')
def _(t):
    both = Both(t)
    theirs = both.io.peer('-c', 'help')
    ours = both.io.run('-c', 'help')
    names = re.findall(r'^(\w+).* -- ', ours.out, re.M)
    assert names == re.findall(r'^(\w+).* -- ', theirs.out, re.M), names
    for name in names:
        text = both.io.run('-c', f'help {name}').out
        letters = re.search(r'\[-(\w+)\]', text.splitlines()[0])
        for letter in letters.group(1) if letters else ():
            assert f' -{letter} -- ' in text, (name, letter)


if __name__ == '__main__':
    main()
