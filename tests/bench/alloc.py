#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""First writes into an empty image, format beside format in one run; prints medians and ratios.

usage: tests/bench/alloc.py [--runs N] [--dir DIR] [NAME=DAEMON,IMGTOOL,FORMAT ...]

Without names: qblk's FVD, and QEMU's qcow2 and raw (tests/bench/get-peer installs them).  4 KiB random writes over NBD
for five seconds, one and 16 at a time, without and with an fsync after every so many.  A ratio is the first entry by
each other one; at a depth of 16 the goal is twice the writes of qcow2, 0.95 of raw's, and a p99.9 below qcow2's.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
from qblk import BUILD, DAEMON, Daemon, absolute  # noqa: E402

SECONDS = 5


def fio(uri, depth, fsync):
    out = subprocess.check_output(
        ['fio', '--name=a', '--ioengine=nbd', f'--uri={uri}', '--rw=randwrite', '--bs=4k', f'--iodepth={depth}',
         f'--runtime={SECONDS}', '--time_based', '--output-format=json', '--randrepeat=1', '--norandommap'] +
        ([f'--fsync={fsync}'] if fsync else []), stderr=subprocess.DEVNULL, text=True)
    w = json.loads(out[out.index('{'):])['jobs'][0]['write']
    p = w['clat_ns']['percentile']
    return {'iops': w['iops'], 'p50us': p['50.000000'] / 1e3, 'p99us': p['99.000000'] / 1e3,
            'p99.9us': p['99.900000'] / 1e3, 'max_ms': w['clat_ns']['max'] / 1e6}


def one(parent, daemon, img, fmt, depth, fsync):
    folder = tempfile.mkdtemp(prefix='alloc-', dir=parent)
    image = os.path.join(folder, 'image')
    subprocess.check_call([absolute(img), 'create', '-q', '-f', fmt, image, '8G'])
    d = Daemon(folder, program=daemon)
    try:
        d.add(driver=fmt, node_name='src', file={'driver': 'file', 'filename': image, 'cache': {'direct': True}})
        d.export('src')
        return fio(d.uri(), depth, fsync)
    finally:
        d.close()
        shutil.rmtree(folder)


def show(name, figures):
    print(name.ljust(30), '  '.join(f'{k}={v:.4g}' for k, v in figures.items()), flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    ap.add_argument('--runs', type=int, default=3)
    ap.add_argument('--dir', default=tempfile.gettempdir())
    ap.add_argument('entries', nargs='*',
                    default=[f'qblk={DAEMON},{BUILD}/qblk-img,fvd', 'qcow2=qemu-storage-daemon,qemu-img,qcow2',
                             'raw=qemu-storage-daemon,qemu-img,raw'])
    o = ap.parse_args()
    entries = [(n, *v.split(',')) for n, v in (e.split('=', 1) for e in o.entries)]
    for depth, fsync in ((1, 0), (16, 0), (1, 1), (16, 16)):
        runs = {e[0]: [] for e in entries}
        for _ in range(o.runs):
            for name, *how in entries:
                runs[name].append(one(o.dir, *how, depth, fsync))
        medians = {n: {k: statistics.median(r[k] for r in rs) for k in rs[0]} for n, rs in runs.items()}
        first = entries[0][0]
        for name, m in medians.items():
            show(f'depth {depth} fsync {fsync} {name}', m)
        for name, m in list(medians.items())[1:]:
            show(f'depth {depth} fsync {fsync} {first}/{name}', {k: medians[first][k] / v for k, v in m.items() if v})


main()
