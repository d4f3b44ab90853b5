#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Many small files made in a new file system on a new image: PostMark, format beside format.

    PostMark ──▶ fuse2fs (ext4) ──▶ nbdfuse ──▶ NBD ──▶ storage daemon ──▶ image

The parameters are those of the paper that FVD was published with (files of 10000 to 50000 bytes, no buffering), with
fewer files: --files.  Printed are the files created a second, the median of --runs, entry by entry in turn, and the
first entry's ratio to each of the others.  Needs root (/dev/fuse), postmark, fuse2fs, nbdfuse, mkfs.ext4; a quiet machine.

usage: postmark.py [--runs N] [--files N] [--dir DIR] NAME=DAEMON,IMGTOOL,FORMAT [...]
       e.g. qblk=build/qblk-storage-daemon,build/qblk-img,fvd qcow2=qemu-storage-daemon,qemu-img,qcow2
"""
import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import DEADLINE, Daemon, absolute, have  # noqa: E402

NEEDED = ('postmark', 'fuse2fs', 'nbdfuse', 'mkfs.ext4', 'umount')


def until(what, test):
    end = time.monotonic() + DEADLINE
    while not test():
        if time.monotonic() > end:
            sys.exit(f'postmark.py: {what} has not come about in {DEADLINE:.0f} s')
        time.sleep(0.01)


class Mount:
    """A FUSE program in the foreground, and its end."""

    def __init__(self, where, command, ready):
        self.where = where
        os.makedirs(where)
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until(' '.join(command), lambda: ready(where))

    def close(self):
        subprocess.check_call(['umount', self.where])
        self.process.wait(DEADLINE)


def postmark(folder, where, files):
    """Files created a second."""
    config = os.path.join(folder, 'postmark.cfg')
    with open(config, 'w') as f:
        f.write(f'set location {where}\nset size 10000 50000\nset number {files}\nset transactions 0\n'
                'set buffering false\nset seed 42\nrun\nquit\n')
    begun = time.monotonic()
    out = subprocess.check_output(['postmark', config], text=True)
    took = time.monotonic() - begun
    exact = re.search(r'Creation alone: (\d+) files \((\d+) per second\)', out) or \
        re.search(r'(\d+) created \((\d+) per second\)', out)
    if not exact:
        sys.exit('postmark.py: PostMark did not say how many files it made:\n' + out)
    return int(exact.group(2)), files / took


def one(folder, program, img, fmt, files):
    image = os.path.join(folder, 'image')
    subprocess.check_call([absolute(img), 'create', '-q', '-f', fmt, image, '8G'])
    d = Daemon(folder, program=program)
    mounts = []
    try:
        d.add(driver=fmt, node_name='src', file={'driver': 'file', 'filename': image, 'cache': {'direct': True}})
        d.export('src')
        mounts.append(Mount(os.path.join(folder, 'disk'), ['nbdfuse', os.path.join(folder, 'disk'), d.uri()],
                            lambda w: os.path.exists(os.path.join(w, 'nbd'))))
        disk = os.path.join(folder, 'disk', 'nbd')
        subprocess.check_call(['mkfs.ext4', '-q', '-F', disk])
        mounts.append(Mount(os.path.join(folder, 'files'), ['fuse2fs', '-f', '-o', 'rw', disk, os.path.join(folder, 'files')],
                            lambda w: os.path.exists(os.path.join(w, 'lost+found'))))
        return postmark(folder, os.path.join(folder, 'files'), files)
    finally:
        for m in reversed(mounts):
            m.close()
        d.close()


def main():
    ap = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    ap.add_argument('--runs', type=int, default=3)
    ap.add_argument('--files', type=int, default=5000)
    ap.add_argument('--dir', default=tempfile.gettempdir())
    ap.add_argument('entries', nargs='+')
    o = ap.parse_args()
    missing = [p for p in NEEDED if not have(p)]
    if missing:
        sys.exit('postmark.py: not installed: ' + ', '.join(missing))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    entries = [(n, *v.split(',')) for n, v in (e.split('=', 1) for e in o.entries)]
    rates = {e[0]: [] for e in entries}
    for _ in range(o.runs):
        for name, *how in entries:
            folder = tempfile.mkdtemp(prefix='postmark-', dir=o.dir)
            try:
                rate, whole = one(folder, *how, o.files)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            rates[name].append(rate)
            print(f'{name}: {rate} files created a second ({whole:.0f} with their removal)', flush=True)
    medians = {n: statistics.median(r) for n, r in rates.items()}
    first = entries[0][0]
    for name, median in medians.items():
        print(f'{name}: median {median:.0f}' + ('' if name == first else f', {first}/{name} {medians[first] / median:.2f}'))


main()
