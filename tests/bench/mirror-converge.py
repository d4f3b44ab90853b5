#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Does a mirror come to its end though guests write on, and what do they feel of it?

A disk of --size MiB, --rate MiB/s of random 4 KiB writes over NBD, a target throttled to --target MiB/s.
Prints for each daemon the seconds to READY, as a multiple of size / target, the longest write and the
longest of the switch-over.

usage: mirror-converge.py [--size MiB] [--rate MiB/s] [--target MiB/s] [--limit SECONDS] [DAEMON ...]
"""
import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import DAEMON, MIB, Daemon  # noqa: E402
from rawnbd import CMD_WRITE, RawNbd  # noqa: E402


class Writer(threading.Thread):
    """One write after the other, kept to a rate; late ones are made up for."""

    def __init__(self, path, size, rate):
        super().__init__(daemon=True)
        self.nbd = RawNbd(path, 'disk')
        self.size, self.interval = size, 4096 / rate
        self.over = False
        self.longest = 0.0
        self.count = 0

    def run(self):
        data = os.urandom(4096)
        due = time.monotonic()
        while not self.over:
            due += self.interval
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)  # the pace is what is asked for
            start = time.monotonic()
            self.nbd.request(CMD_WRITE, random.randrange(self.size // 4096) * 4096, 4096, data)
            self.nbd.reply()
            self.longest = max(self.longest, time.monotonic() - start)
            self.count += 1


def measure(program, o):
    folder = tempfile.mkdtemp(prefix='mirror-')
    size = o.size * MIB
    with open(os.path.join(folder, 'src.img'), 'wb') as f:
        for _ in range(o.size):
            f.write(os.urandom(MIB))
        os.fsync(f.fileno())  # its writing is not to be measured
    with open(os.path.join(folder, 'dst.img'), 'wb') as f:
        f.truncate(size)
    d = Daemon(folder, program=program,
               args=['--object', f'throttle-group,id=g,x-bps-total={o.target * MIB}'])
    try:
        d.file('src', os.path.join(folder, 'src.img'))
        d.export('src')
        d.add(driver='throttle', node_name='dst', throttle_group='g',
              file={'driver': 'file', 'filename': os.path.join(folder, 'dst.img')})
        writer = Writer(d.nbd_path, size, o.rate * MIB)
        writer.start()
        begun = time.monotonic()
        d.qmp('blockdev-mirror', {'job-id': 'j', 'device': 'src', 'target': 'dst', 'sync': 'full',
                                  'copy-mode': o.copy_mode})
        try:
            d.qmp.event('BLOCK_JOB_READY', timeout=o.limit)
            ready = time.monotonic() - begun
        except TimeoutError:
            ready = None
        to_ready, writer.longest = writer.longest, 0.0
        if ready:
            d.qmp('block-job-complete', {'device': 'j'})
            d.qmp.job_ok('j')
        writer.over = True
        writer.join()
        print(f'{program}: READY after {ready or float("inf"):.1f} s, '
              f'{(ready or float("inf")) / (o.size / o.target):.2f} of size/target; '
              f'{writer.count} writes, longest {to_ready * 1000:.0f} ms, '
              f'at the switch-over {writer.longest * 1000:.0f} ms', flush=True)
    finally:
        d.kill()
        shutil.rmtree(folder)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    ap.add_argument('--size', type=int, default=1024)
    ap.add_argument('--rate', type=int, default=8)
    ap.add_argument('--target', type=int, default=50)
    ap.add_argument('--limit', type=int, default=90)
    ap.add_argument('--copy-mode', default='background')
    ap.add_argument('daemons', nargs='*', default=[DAEMON])
    o = ap.parse_args()
    for program in o.daemons:
        measure(program, o)


main()
