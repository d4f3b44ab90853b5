#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The second half of scripts/quickstart: a disk, a daemon, writers, a backup, and the proof.

      mkfs.ext4 -d --> disk.img --> qblk-storage-daemon --NBD--> four writers, all the time
                                          |                        (into one file's blocks only)
                                     one QMP command: drive-backup
                                          |
                                          v
                                     backup.img --> witness, e2fsck, file by file

The writers overwrite the blocks of one file in the file system, so that the file system itself stays
whole and e2fsck has something to say about the backup.
"""
import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, 'tests/lib'))
import qblk  # noqa: E402
from qblk import MIB  # noqa: E402
from witness import Mix, Witness, copy, fill  # noqa: E402

DISK = 512 * MIB
BUSY = 96 * MIB
WRITERS = 4
# Writes a second of each writer: a busy guest, and a log that stays small.
RATE = 400
# The backup would be done in a blink; at this speed it can be watched.
SPEED = 40 * MIB


def say(text):
    print(textwrap.fill(text, 96, subsequent_indent='   '), flush=True)


def make_files(tree):
    """What is on the disk: letters, pictures that are not compressible, and the busy file."""
    os.makedirs(os.path.join(tree, 'letters'))
    os.makedirs(os.path.join(tree, 'pictures'))
    for i in range(200):
        with open(os.path.join(tree, f'letters/letter-{i:03}.txt'), 'w') as f:
            f.write(f'Dear reader,\nthis is letter number {i}.\n' * (1 + i * 7 % 50))
    for i in range(16):
        with open(os.path.join(tree, f'pictures/picture-{i:02}.raw'), 'wb') as f:
            f.write(os.urandom(MIB))
    fill(os.path.join(tree, 'busy.bin'), BUSY, 1, holes=0)


def make_disk(tree, path):
    """An ext4 image with the files in it, and the longest run of the busy file's blocks."""
    with open(path, 'wb') as f:
        f.truncate(DISK)
    subprocess.check_call(['mkfs.ext4', '-q', '-F', '-b', '4096', '-L', 'quickstart',
                           '-E', 'lazy_itable_init=0,lazy_journal_init=0', '-d', tree, path])
    text = subprocess.check_output(['debugfs', '-R', 'dump_extents /busy.bin', path], text=True,
                                   stderr=subprocess.DEVNULL)
    best = (0, 0)
    for line in text.splitlines():
        # Level of its tree, entry, logical first - last, physical first - last, length.
        m = re.match(r'\s*(\d+)/\s*(\d+)\s+\d+/\s*\d+\s+\d+\s*-\s*\d+\s+(\d+)\s*-\s*\d+\s+(\d+)', line)
        if m and m.group(1) == m.group(2) and int(m.group(4)) > best[1]:
            best = int(m.group(3)), int(m.group(4))
    if not best[1]:
        raise SystemExit('debugfs does not say where the busy file lies on the disk')
    return best[0] * 4096, best[1] * 4096


class Bar:
    """A progress bar on a terminal; a line now and then elsewhere."""

    WIDTH = 40

    def __init__(self):
        self.terminal = sys.stdout.isatty()
        self.last = -1

    def show(self, part, text):
        tenth = int(part * 10)
        filled = int(part * self.WIDTH)
        line = f'   [{"#" * filled}{"." * (self.WIDTH - filled)}] {part * 100:3.0f} %  {text}'
        if self.terminal:
            print('\r' + line.ljust(96), end='', flush=True)
        elif tenth > self.last:
            print(line, flush=True)
        self.last = tenth

    def end(self):
        if self.terminal:
            print(flush=True)


def watch(daemon, witness, started):
    """Shows the job until it has ended; returns the event that ended it."""
    bar = Bar()
    while True:
        for e in daemon.qmp.events:
            if e['event'] in ('BLOCK_JOB_COMPLETED', 'BLOCK_JOB_CANCELLED'):
                bar.show(1, f'{witness.wait(0)} writes so far')
                bar.end()
                return e
        jobs = daemon.qmp('query-jobs')
        if jobs and jobs[0]['total-progress']:
            bar.show(min(1, jobs[0]['current-progress'] / jobs[0]['total-progress']),
                     f'{witness.wait(0)} writes so far, {time.monotonic() - started:.0f} s')
        try:
            daemon.qmp.events.append(daemon.qmp.read(0.1))
        except TimeoutError:
            pass


def digests(tree):
    found = {}
    for folder, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, 'rb') as f:
                found[os.path.relpath(path, tree)] = hashlib.sha256(f.read()).hexdigest()
    return found


def check_files(backup, tree, work):
    """Takes every file out of the backup and compares it; the busy file has changed, of course."""
    out = os.path.join(work, 'out')
    os.makedirs(out)
    for folder in ('letters', 'pictures'):
        subprocess.check_call(['debugfs', '-R', f'rdump /{folder} {out}', backup],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    want = {name: digest for name, digest in digests(tree).items() if '/' in name}
    return len(want) if digests(out) == want else None


def back_up(work, target):
    """Everything up to the end of the daemon: (witness, initial copy, window in ns, area)."""
    disk, tree = os.path.join(work, 'disk.img'), os.path.join(work, 'files')
    make_files(tree)
    area = make_disk(tree, disk)
    initial = copy(disk, os.path.join(work, 'initial.img'))
    say(f'3. Made a disk of {DISK // MIB} MiB with an ext4 file system and '
        f'{len(digests(tree))} files in it')

    where = os.path.join(work, 'daemon')
    os.makedirs(where)
    daemon = qblk.Daemon(where, ['--blockdev', f'driver=file,node-name=disk0,filename={disk}'])
    try:
        daemon.export('disk0')
        witness = Witness(os.path.join(work, 'witness.log'), [daemon.uri()], seed=1, area=area,
                          writers=WRITERS, rate=RATE, zero=5, discard=0)
        say('4. Started qblk-storage-daemon on it. From now on four programs write to one of its '
            'files over the network block device protocol (NBD), all the time')
        witness.wait(WRITERS * RATE // 2)
        say('5. Backing it up while they write, by one command:')
        print(f'   {{"execute": "drive-backup", "arguments": {{"device": "disk0", "sync": "full",\n'
              f'    "format": "raw", "target": "{target}"}}}}\n', flush=True)
        started = time.monotonic()
        daemon.qmp('drive-backup', {'job-id': 'quickstart', 'device': 'disk0', 'sync': 'full',
                                    'format': 'raw', 'target': target, 'speed': SPEED})
        window = daemon.qmp.sent_ns, daemon.qmp.replied_ns
        end = watch(daemon, witness, started)
        if end['event'] != 'BLOCK_JOB_COMPLETED' or 'error' in end['data']:
            raise SystemExit(f'the backup has failed: {end}')
        witness.wait(WRITERS * RATE // 4)
        result = witness.stop()
        daemon.close()
    finally:
        if daemon.alive():
            daemon.kill()
    return witness, result, disk, initial, window, tree


def prove(work, target, told):
    witness, result, disk, initial, window, tree = told
    say('6. Is the backup good? Three questions:')
    try:
        k = witness.instant([target], [initial], *window)['k']
        witness.final([disk], [initial])
    except Mix as e:
        raise SystemExit(f'   NO: {e}') from None
    total = sum(k)
    say(f'   - Is it the disk at ONE instant? Yes: it is exactly the disk after the first '
        f'{" + ".join(map(str, k))} = {total} writes of the four writers, and that moment lies '
        'between the command and its reply. All the other bytes are as they were')
    p = subprocess.run(['e2fsck', '-fn', target], capture_output=True, text=True, check=False)
    if p.returncode:
        raise SystemExit(f'   NO: e2fsck finds faults in the backup:\n{p.stdout}')
    say('   - Is the file system in it whole? Yes: e2fsck finds no fault')
    files = check_files(target, tree, work)
    if not files:
        raise SystemExit('   NO: a file in the backup is not what it was')
    say(f'   - Are the files right? Yes: {files} files taken out of the backup, all as they were')
    say(f'   Meanwhile the writers went on to {result["acked"]} writes, none was lost, and the longest '
        f'of them took {result["longest_us"] / 1000:.1f} ms')


def restore_help(target):
    size = os.stat(target).st_blocks * 512 / MIB
    print(f'''
The backup is an ordinary raw disk image ({size:.0f} MiB on your disk):

    {target}

Look into it:      debugfs -R 'ls -l /letters' {target}
                   (or, as root:  mount -o loop,ro {target} /mnt)
One file of it:    debugfs -R 'dump /letters/letter-007.txt letter-007.txt' {target}
The whole disk:    stop what uses the disk, then
                   cp --sparse=always {target} DISK.img
Serve it, to read: build/qblk-storage-daemon \\
                     --blockdev driver=file,node-name=disk0,read-only=on,filename={target} \\
                     --nbd-server addr.type=unix,addr.path=nbd.sock \\
                     --export type=nbd,id=e0,node-name=disk0,name=disk

Next: README.md says what else there is, docs/devel/first-hour.rst how to change it.''', flush=True)


def main():
    ap = argparse.ArgumentParser(prog='scripts/quickstart')
    ap.add_argument('--to', default=os.path.join(ROOT, 'build/quickstart/backup.img'),
                    help='where the backup goes')
    target = os.path.abspath(ap.parse_args().to)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.exists(target):
        os.unlink(target)
    work = tempfile.mkdtemp(prefix='qblk-quickstart-')
    try:
        prove(work, target, back_up(work, target))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    restore_help(target)


if __name__ == '__main__':
    main()
