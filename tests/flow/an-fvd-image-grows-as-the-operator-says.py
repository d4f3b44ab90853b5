#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""FVD images on storage that a program of the operator's makes larger: storage-grow-command."""
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbd  # noqa: E402
from imgtool import ImgTool  # noqa: E402
from loop import Loop  # noqa: E402
from qblk import DEADLINE, KIB, MIB  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402

WHY = 'grows storage by a command'
SIZE = 64 * MIB
CHUNK = MIB


def program(t, script):
    """A program: its first argument is a file for its own use, and $@ what the daemon adds."""
    path = t.path('grow.sh')
    with open(path, 'w') as f:
        f.write('#!/bin/sh\nnotes=$1; shift\n' + script + '\n')
    os.chmod(path, 0o755)
    return [path, t.path('notes')]


def notes(t):
    try:
        with open(t.path('notes')) as f:
            return f.read().splitlines()
    except FileNotFoundError:
        return []


def wait_for_notes(t):
    end = time.monotonic() + DEADLINE
    while not notes(t):
        assert time.monotonic() < end, 'the program was not started'
        time.sleep(0.01)


def connect(d):
    h = nbd.NBD()
    h.set_strict_mode(0)
    h.connect_uri(d.uri())
    return h


def make(t, path):
    ImgTool(t).ok('create', '-f', 'fvd', '-o', 'chunk_size=1M,storage_grow_unit=4M', path, SIZE)


def start(t, driver, path, command, *args):
    d = t.daemon(*args)
    d.add(driver='fvd', node_name='disk', discard='unmap', storage_grow_command=command,
          file={'driver': driver, 'filename': path})
    d.export('disk')
    return d


def gone(pid):
    """Whether a process has ended; a zombie has."""
    try:
        with open(f'/proc/{pid}/stat') as f:
            return f.read().rsplit(')', 1)[1].split()[0] == 'Z'
    except FileNotFoundError:
        return True


@test('a block device is made larger while a guest writes, and what was on it before is not seen')
def _(t):
    need_qblk(WHY)
    img = ImgTool(t)
    with Loop(t, 'disk', 19 * MIB) as loop:
        img.ok('create', '-f', 'fvd', '-o', 'chunk_size=1M,storage_grow_unit=4M', loop.path, SIZE)
        # What is added to the device is not zeros, either.
        command = program(t, 'echo "$1 $2 $3" >> "$notes"\n'
                          f'have=$(stat -c %s "{loop.backing}")\n'
                          'head -c $(($2 - have)) /dev/zero | tr "\\0" "\\377" >> '
                          f'"{loop.backing}" && losetup --set-capacity "$1"')
        d = start(t, 'host_device', loop.path, command)
        h = connect(d)
        places = list(range(0, SIZE, CHUNK))
        t.random.shuffle(places)
        for at in places[:48]:
            h.pwrite(b'\x11' * 4096, at + 8192)
        h.flush()
        for at in places[:48]:
            data = h.pread(CHUNK, at)
            assert data == bytes(8192) + b'\x11' * 4096 + bytes(CHUNK - 12288), hex(at)
        for at in places[48:]:
            assert h.pread(CHUNK, at) == bytes(CHUNK), hex(at)
        runs = [line.split() for line in notes(t)]
        assert len(runs) >= 5 and all(r[0] == loop.path for r in runs), runs
        assert all(int(r[1]) >= int(r[2]) for r in runs), runs
        assert loop.size() == int(runs[-1][1]), runs
        h.shutdown()
        d.close()
        img.ok('check', loop.path)


@test('a guest is told that there is no space when the program fails, and goes on when there is')
def _(t):
    need_qblk(WHY)
    path = t.path('disk.fvd')
    make(t, path)
    d = start(t, 'file', path, program(t, 'echo run >> "$notes"; test -e "$notes.room" || exit 5\n'
                                       'truncate -s "$2" "$1"'))
    h = connect(d)
    for _ in range(3):
        try:
            h.pwrite(b'x' * 4096, 0)
        except nbd.Error as e:
            assert e.errno == 'ENOSPC', e
        else:
            raise AssertionError('a write without space has succeeded')
    assert h.pread(4096, 0) == bytes(4096)
    h.flush()
    assert 'The storage of node \'disk\' is full' in d.said() and 'exit status 5' in d.said()
    with open(t.path('notes.room'), 'w'):
        pass
    end = time.monotonic() + DEADLINE
    while True:
        try:
            h.pwrite(b'x' * 4096, 0)
            break
        except nbd.Error as e:
            assert e.errno == 'ENOSPC' and time.monotonic() < end, e
            time.sleep(0.05)
    h.flush()
    h.shutdown()
    d.close()
    ImgTool(t).ok('check', path)


@test('a daemon that is told to end takes the program with it, and the image is sound')
def _(t):
    need_qblk(WHY)
    for iothread in (False, True):
        t.fresh()
        path = t.path('disk.fvd')
        make(t, path)
        d = start(t, 'file', path, program(t, 'sleep 1000 & echo "$$ $!" > "$notes"; wait'),
                  *(['--object', 'iothread,id=io0'] if iothread else []))
        if iothread:
            d.qmp('block-export-del', id='export-disk', mode='hard')
            d.qmp.event('BLOCK_EXPORT_DELETED')
            d.export('disk', iothread='io0')
        h = connect(d)
        outcome = []

        def write():
            try:
                h.pwrite(b'x' * 4096, 0)
                outcome.append('written')
            except nbd.Error as e:
                outcome.append(e.errno)
        writer = threading.Thread(target=write)
        writer.start()
        wait_for_notes(t)
        begun = time.monotonic()
        d.process.send_signal(signal.SIGTERM)
        d.process.wait(DEADLINE)
        assert time.monotonic() - begun < 10, 'it took long'
        writer.join()
        assert outcome and outcome[0] != 'written', outcome
        pids = notes(t)[0].split()
        assert all(gone(pid) for pid in pids), pids
        ImgTool(t).ok('check', path)
        ImgTool(t).ok('check', '-r', 'all', path)


@test('a quiesce waits for a program that runs, and the write goes on after it')
def _(t):
    need_qblk(WHY)
    path = t.path('disk.fvd')
    make(t, path)
    d = start(t, 'file', path, program(t, 'echo run >> "$notes"\n'
                                       'while ! test -e "$notes.go"; do sleep 0.02; done\n'
                                       'truncate -s "$2" "$1"'))
    h = connect(d)
    writer = threading.Thread(target=lambda: h.pwrite(b'y' * 4096, 4096))
    writer.start()
    wait_for_notes(t)
    assert d.qmp('query-block-exports')  # the monitor does not wait
    go = threading.Timer(0.3, lambda: open(t.path('notes.go'), 'w').close())
    go.start()
    t.image('target.img', SIZE)
    d.file('target', t.path('target.img'))
    d.qmp('blockdev-backup', job_id='j', device='disk', target='target', sync='full')
    d.qmp.job_ok('j')
    writer.join()
    assert h.pread(4096, 4096) == b'y' * 4096
    h.shutdown()


@test('what the image itself says is never run')
def _(t):
    need_qblk(WHY)
    path = t.path('disk.fvd')
    make(t, path)
    mark = t.path('was-run')
    with open(path, 'r+b') as f:
        f.seek(2168)
        f.write(f'touch {mark}'.encode() + b'\0')
    img = ImgTool(t)
    assert f'touch {mark}' in img.ok('info', path).out
    d = t.daemon()
    d.add(driver='fvd', node_name='disk', file={'driver': 'file', 'filename': path})
    d.export('disk')
    h = connect(d)
    h.pwrite(b'z' * 512 * KIB, 0)
    h.flush()
    h.shutdown()
    d.close()
    assert not os.path.exists(mark)


if __name__ == '__main__':
    main()
