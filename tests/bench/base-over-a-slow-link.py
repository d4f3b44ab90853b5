#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""An FVD image over a base that is far away: the first N MiB are read twice, and prints a table.

usage: tests/bench/base-over-a-slow-link.py [--size MiB] [--read MiB] [--rate MiB] [--iops N] [--request KiB]

The base is served over NBD by a daemon of its own, through a throttle: so many MiB and so many requests a second.  One
client reads, one request at a time, each piece of the first N MiB once, scattered; then the same in another order.

    plain           every read of what is in the base goes there
    copy-on-read    what was read stays
    prefetch        block-prefetch runs from before the first read, and never gives way
    both            copy-on-read and prefetch
"""
import argparse
import os
import random
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import qblk  # noqa: E402
from qblk import KIB, MIB  # noqa: E402
from rawnbd import CMD_READ, RawNbd  # noqa: E402

IMG = os.path.join(qblk.BUILD, 'qblk-img')
KINDS = {'plain': (False, False), 'copy-on-read': (True, False), 'prefetch': (False, True), 'both': (True, True)}


def options():
    p = argparse.ArgumentParser()
    p.add_argument('--size', type=int, default=64)
    p.add_argument('--read', type=int, default=32)
    p.add_argument('--rate', type=int, default=10)
    p.add_argument('--iops', type=int, default=200)
    p.add_argument('--request', type=int, default=16)
    return p.parse_args()


def new_daemon(folder, name):
    path = os.path.join(folder, name)
    os.mkdir(path)
    return qblk.Daemon(path)


class Link:
    """A base that is far away."""

    def __init__(self, folder, args):
        base = os.path.join(folder, 'base')
        with open(base, 'wb') as f:
            for i in range(args.size):
                f.write(random.Random(i).randbytes(MIB))
        self.d = new_daemon(folder, 'server')
        limits = {'bps-read': args.rate * MIB, 'iops-read': args.iops}
        self.d.qmp('object-add', {'qom-type': 'throttle-group', 'id': 'link', 'limits': limits})
        self.d.add(driver='throttle', node_name='base', throttle_group='link', read_only=True,
                   file={'driver': 'file', 'filename': base, 'read-only': True, 'aio': 'threads'})
        self.d.export('base', 'base', writable=False)
        self.node = {'driver': 'nbd', 'server': {'type': 'unix', 'path': self.d.nbd_path}, 'export': 'base'}


def bytes_read(d):
    """By system calls of the daemon, which reads its file by nothing else."""
    with open(f'/proc/{d.process.pid}/io') as f:
        return int(f.readline().split()[1])


def one_pass(nbd, args, seed, base):
    """Seconds."""
    request = args.request * KIB
    places = list(range(0, args.read * MIB, request))
    random.Random(seed).shuffle(places)
    began = time.monotonic()
    for at in places:
        nbd.request(CMD_READ, at, request)
        error, data = nbd.reply(request)
        assert error == 0 and data == base[at:at + request], at
    return time.monotonic() - began


def run(kind, args):
    copy_on_read, prefetch = KINDS[kind]
    with tempfile.TemporaryDirectory() as folder:
        link = Link(folder, args)
        with open(os.path.join(folder, 'base'), 'rb') as f:
            base = f.read()
        image = os.path.join(folder, 'image')
        subprocess.check_call([IMG, 'create', '-q', '-f', 'fvd', '-u', '-F', 'raw', '-b', 'base', image,
                               str(args.size * MIB)])
        d = new_daemon(folder, 'client')
        d.add(node_name='base', read_only=True, **link.node)
        d.add(driver='fvd', node_name='disk', backing='base', copy_on_read=copy_on_read,
              file={'driver': 'file', 'filename': image})
        d.export('disk')
        before = bytes_read(link.d)
        began = time.monotonic()
        if prefetch:
            d.qmp('block-prefetch', {'job-id': 'fill', 'device': 'disk', 'bytes-per-slot': 256 * KIB,
                                     'min-read-throughput': 0, 'min-write-throughput': 0})
        with RawNbd(d.nbd_path, 'disk') as nbd:
            first = one_pass(nbd, args, 1, base)
            second = one_pass(nbd, args, 2, base)
        complete = ''
        if prefetch:
            d.qmp.job_ok('fill', timeout=600)
            complete = f'{time.monotonic() - began:.1f} s'
        read = bytes_read(link.d) - before
        d.close()
        link.d.close()
    return kind, f'{first:.1f} s', f'{second:.1f} s', f'{first + second:.1f} s', f'{read / MIB:.1f} MiB', complete


def table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    line = '  '.join('=' * w for w in widths)
    text = ['  '.join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]
    return '\n'.join([line, text[0], line, *text[1:], line])


def main():
    args = options()
    print(f'{args.size} MiB of base at {args.rate} MiB and {args.iops} requests a second; the first {args.read} MiB of it '
          f'read in pieces of {args.request} KiB\n')
    rows = [('', 'first time', 'second time', 'both', 'read of the base', 'complete after')]
    rows += [run(kind, args) for kind in KINDS]
    print(table(rows))


main()
