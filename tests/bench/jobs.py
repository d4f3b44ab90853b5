#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Backups and NBD service, daemon beside daemon in one run; prints medians and ratios.

usage: tests/bench/jobs.py [--runs N] [--size MiB] [--dir DIR] [--only W,...] [NAME=DAEMON ...]

Without names: qblk=build/qblk-storage-daemon qsd=qemu-storage-daemon (tests/bench/get-peer installs the
latter).  Every workload runs once with each daemon, in turn, N times.  A ratio is the first daemon by
each other one, beside the goal where there is one.

    idle-backup   a full backup, raw to raw, nobody else there            seconds
    base-load     4 KiB random writes over NBD, one at a time, no job     iops, latencies
    load-backup   the same client while a full backup runs                seconds, iops, latencies
    during-backup the same, of the client's writes only those made while the backup runs: a client that
                  stands still writes too little for the percentiles of its whole run to show it
    slow-backup   the same, and the target takes 40 MiB a second only     latencies, iops
    pull-backup   the same client while two others read the disk of two instants (qblk only)
    small-backup  the same as load-backup with 8 clients at once
    nbd-rand      4 KiB random reads, 32 at a time, over NBD              iops, processor time an I/O
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import qblk  # noqa: E402
from qblk import MIB, Daemon  # noqa: E402

# (workload, figure): the ratio that qblk aims at, and on which side of it.
GOALS = {('idle-backup', 'job_s'): ('<=', 0.9), ('base-load', 'iops'): ('>=', 1.0),
         ('during-backup', 'p999_us'): ('<=', 1.0), ('during-backup', 'writes'): ('>=', 1.2),
         ('load-backup', 'iops'): ('>=', 1.2), ('load-backup', 'p999_us'): ('<=', 1.0),
         ('load-backup', 'max_ms'): ('<=', 0.1), ('load-backup', 'rss_mib'): ('<=', 1.0),
         ('idle-backup', 'rss_mib'): ('<=', 1.0), ('nbd-rand', 'iops'): ('>=', 1.15),
         ('nbd-rand', 'cpu_us'): ('<=', 0.8)}
# The same beside what the daemon's own client does without a job (base-load, which must be run first).
OWN_GOALS = {('load-backup', 'iops'): ('>=', 0.6), ('slow-backup', 'iops'): ('>=', 0.6),
             ('slow-backup', 'p999_us'): ('<=', 3), ('pull-backup', 'p999_us'): ('<=', 3)}
# And by themselves, in their unit.
PLAIN_GOALS = {('load-backup', 'max_ms'): ('<=', 30), ('slow-backup', 'max_ms'): ('<=', 30),
               ('pull-backup', 'max_ms'): ('<=', 30)}
LOAD_SECONDS = 5
SLOW_BYTES = 40 * MIB


class Bench:
    """One run of one workload with one daemon: a source, an empty target, and what was measured."""

    def __init__(self, program, directory, size, slow=False):
        self.size = size
        self.dst = os.path.join(directory, 'dst.img')
        if os.path.exists(self.dst):
            os.unlink(self.dst)
        qblk.make_image(self.dst, size)
        self.src = src = os.path.join(directory, 'src.img')
        args = ['--blockdev', self.raw('src', src)]
        if slow:
            args += ['--object', f'throttle-group,id=tg,x-bps-total={SLOW_BYTES}',
                     '--blockdev', self.raw('dst-file', self.dst),
                     '--blockdev', 'driver=throttle,node-name=dst,file=dst-file,throttle-group=tg']
        else:
            args += ['--blockdev', self.raw('dst', self.dst)]
        self.daemon = Daemon(directory, args, program=program)
        self.daemon.export('src')

    @staticmethod
    def raw(node, path):
        return f'driver=file,node-name={node},filename={path},cache.direct=on,aio=io_uring'

    def cpu(self):
        with open(f'/proc/{self.daemon.process.pid}/stat') as f:
            fields = f.read().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def fio(self, rw='randwrite', depth=1, seconds=LOAD_SECONDS, jobs=1, log=None):
        return subprocess.Popen(
            ['fio', '--name=a', '--ioengine=nbd', f'--uri={self.daemon.uri()}', f'--rw={rw}',
             '--bs=4k', f'--iodepth={depth}', f'--runtime={seconds}', '--time_based',
             f'--numjobs={jobs}', '--group_reporting', '--output-format=json', '--randrepeat=1',
             '--norandommap'] + ([f'--write_lat_log={log}', '--log_unix_epoch=1'] if log else []),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def start_backup(self):
        self.daemon.qmp('blockdev-backup', job_id='j', device='src', target='dst', sync='full')

    def backup(self, result):
        start, used = time.monotonic(), self.cpu()
        self.start_backup()
        self.daemon.qmp.job_ok('j', timeout=900)
        result['job_s'] = time.monotonic() - start
        result['cpu_s'] = self.cpu() - used


def fio_result(process, kind='write'):
    out = process.communicate()[0].decode()
    j = json.loads(out[out.index('{'):])['jobs'][0][kind]
    p = j['clat_ns'].get('percentile', {})
    return {'iops': j['iops'], 'p50_us': p.get('50.000000', 0) / 1e3,
            'p99_us': p.get('99.000000', 0) / 1e3, 'p999_us': p.get('99.900000', 0) / 1e3,
            'max_ms': j['clat_ns'].get('max', 0) / 1e6}


def under_load(b, result, jobs=1):
    load = b.fio(jobs=jobs)
    while not written(b):
        pass    # the job begins when the client is at work: its first write shows in the statistics
    b.backup(result)
    result.update(fio_result(load))


def during(b, result, directory):
    log = os.path.join(directory, 'during')
    load = b.fio(log=log)
    while not written(b):
        pass
    start = time.time()
    b.backup(result)
    end = time.time()
    load.communicate()
    with open(log + '_clat.1.log') as rows:   # milliseconds since the epoch, nanoseconds it took
        rows = [[int(n) for n in row.split(',')[:2]] for row in rows]
    took = sorted(ns for ms, ns in rows if start <= ms / 1e3 <= end)
    result.update(writes=len(took), p50_us=took[len(took) // 2] / 1e3,
                  p999_us=took[len(took) * 999 // 1000] / 1e3, max_ms=took[-1] / 1e6)
    for kind in ('lat', 'slat', 'clat'):
        if os.path.exists(f'{log}_{kind}.1.log'):
            os.unlink(f'{log}_{kind}.1.log')


def pulled(b, result):
    """Two readers of different instants of the disk, from before the client begins to after it ends."""
    readers = []
    for i in range(2):
        access = b.daemon.qmp('backup-access-begin', {'id': f'a{i}', 'disks': [{'device': 'src'}]})
        readers.append(subprocess.Popen(['nbdcopy', access['disks'][0]['uri'], 'null:'],
                                        stderr=subprocess.DEVNULL))
        if i == 0:
            time.sleep(0.5)     # so that they are not side by side
    result.update(fio_result(b.fio(seconds=8)))
    for i, reader in enumerate(readers):
        reader.kill()
        reader.wait()
        b.daemon.qmp('backup-access-end', {'id': f'a{i}', 'success': False})


def written(b):
    return any(s['stats']['wr_highest_offset'] for s in
               b.daemon.qmp('query-blockstats', {'query-nodes': True}) if s['node-name'] == 'src')


def work(workload, program, directory, size):
    b = Bench(program, directory, size, workload == 'slow-backup')
    result = {}
    try:
        if workload == 'idle-backup':
            b.backup(result)
        elif workload == 'base-load':
            result.update(fio_result(b.fio()))
        elif workload == 'load-backup':
            under_load(b, result)
        elif workload == 'during-backup':
            during(b, result, directory)
        elif workload == 'small-backup':
            under_load(b, result, jobs=8)
        elif workload == 'slow-backup':
            b.start_backup()
            result.update(fio_result(b.fio(seconds=8)))
        elif workload == 'pull-backup':
            pulled(b, result)
        elif workload == 'nbd-rand':
            used = b.cpu()
            result['iops'] = fio_result(b.fio('randread', 32), 'read')['iops']
            result['cpu_us'] = (b.cpu() - used) * 1e6 / (result['iops'] * LOAD_SECONDS)
        result['rss_mib'] = b.daemon.high_water_kib() / 1024
    finally:
        b.daemon.kill()
    if workload == 'idle-backup' and not qblk.same(b.src, b.dst):
        raise AssertionError('the backup is not the source')
    return result


WORKLOADS = ['idle-backup', 'base-load', 'load-backup', 'during-backup', 'small-backup', 'slow-backup',
             'pull-backup', 'nbd-rand']


def make_sources(directory, size):
    src = os.path.join(directory, 'src.img')
    if not os.path.exists(src) or os.path.getsize(src) != size:
        subprocess.check_call(['dd', 'if=/dev/urandom', f'of={src}', 'bs=1M', f'count={size // MIB}',
                               'status=none'])


def medians(results):
    keys = sorted({k for r in results for k in r})
    return {k: statistics.median([r[k] for r in results if k in r]) for k in keys}


def judged(value, goal):
    good = not goal or (value <= goal[1] if goal[0] == '<=' else value >= goal[1])
    return f' (goal {goal[0]} {goal[1]}{"" if good else ": MISSED"})' if goal else ''


def tell_own(workload, name, median, base):
    """One daemon by itself: what it has to keep, and what it keeps of its own speed without a job."""
    parts = [f'{k}={v:.4g}' + judged(v, PLAIN_GOALS.get((workload, k)))
             for k, v in median.items() if (workload, k) in PLAIN_GOALS]
    parts += [f'{k}/base-load={v / base[k]:.3g}' + judged(v / base[k], OWN_GOALS.get((workload, k)))
              for k, v in median.items() if (workload, k) in OWN_GOALS and base.get(k)]
    if parts:
        print(f'{workload:13} {name:10}', '  '.join(parts))


def tell(workload, median, names, base):
    for name in names:
        print(f'{workload:13} {name:10}', '  '.join(f'{k}={v:.4g}' for k, v in median[name].items()))
    tell_own(workload, names[0], median[names[0]], base)
    first = names[0]
    for name in names[1:]:
        parts = []
        for key, value in median[name].items():
            if not value or key not in median[first]:
                continue
            ratio = median[first][key] / value
            parts.append(f'{key}={ratio:.3g}' + judged(ratio, GOALS.get((workload, key))))
        print(f'{workload:13} {first}/{name}', '  '.join(parts))
    sys.stdout.flush()


def main():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--runs', type=int, default=5)
    ap.add_argument('--size', type=int, default=2048, help='MiB of the source')
    ap.add_argument('--dir', default=os.path.join(tempfile.gettempdir(), 'qblk-bench'))
    ap.add_argument('--only', default=','.join(WORKLOADS))
    ap.add_argument('daemons', nargs='*', metavar='NAME=DAEMON')
    o = ap.parse_args()
    pairs = [d.split('=', 1) for d in o.daemons or [f'qblk={qblk.DAEMON}', 'qsd=qemu-storage-daemon']]
    os.makedirs(o.dir, exist_ok=True)
    make_sources(o.dir, o.size * MIB)
    base = {}
    for workload in o.only.split(','):
        results = {name: [] for name, _ in pairs}
        for _ in range(o.runs):
            for name, program in pairs[:1] if workload == 'pull-backup' else pairs:
                try:
                    results[name].append(work(workload, program, o.dir, o.size * MIB))
                except Exception as e:  # pylint: disable=broad-except
                    print(f'{workload:13} {name}: FAILED {e}')
        median = {name: medians(results[name]) for name, _ in pairs}
        if workload == 'base-load':
            base = median[pairs[0][0]]
        tell(workload, median, [name for name, _ in pairs], base)


if __name__ == '__main__':
    main()
