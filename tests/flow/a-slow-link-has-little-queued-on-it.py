#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules W1 to W3 of the nbd driver: a server on a slow link is sent as much as the link carries.

nbdkit holds the rate and keeps a log of what is under way; a client of the daemon sends as much as it can.
"""
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbd  # noqa: E402
from qblk import DEADLINE, KIB, MIB, die_with_parent, have  # noqa: E402
from tap import Skip, main, need_qblk, test  # noqa: E402

RATE = 40 * MIB
SIZE = 64 * MIB
REQUEST = 256 * KIB
# nbdkit lets a link that was idle carry as much at once.
BURST = 2 * RATE


def serve(t, *filters):
    """nbdkit with a log of requests, above whatever makes it slow."""
    if not have('nbdkit'):
        raise Skip('nbdkit is not installed')
    path, log = t.path('slow.sock'), t.path('slow.log')
    server = subprocess.Popen(['nbdkit', '-f', '-U', path, '--filter=log', *filters[:1], 'memory',
                               str(SIZE), f'logfile={log}', *filters[1:]],
                              stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
    return server, path, log


def most_under_way(log, after=0):
    """Bytes of writes that the server had at once, when it had seen the first @after bytes."""
    under_way, most, seen, sizes = 0, 0, 0, {}
    with open(log, encoding='utf-8') as f:
        for line in f:
            begun = re.search(r'connection=(\d+) Write id=(\d+) offset=\S+ count=(0x[0-9a-f]+)', line)
            ended = re.search(r'connection=(\d+) \.\.\.Write id=(\d+) ', line)
            if begun:
                size = sizes[begun[1], begun[2]] = int(begun[3], 16)
                under_way += size
                seen += size
                most = max(most, under_way if seen > after else 0)
            elif ended:
                under_way -= sizes.pop((ended[1], ended[2]))
    assert seen > after, 'the log says nothing'
    return most


def write_all(uri, total):
    """Writes @total bytes, 16 MiB of them at a time.  Seconds."""
    h = nbd.NBD()
    h.connect_uri(uri)
    data = bytes(REQUEST)
    began, sent = time.monotonic(), 0
    while sent < total or h.aio_in_flight() > 0:
        while sent < total and h.aio_in_flight() < 16 * MIB // REQUEST:
            h.aio_pwrite(b'x' * REQUEST, sent % SIZE, completion=lambda error: 1)
            sent += len(data)
        assert h.poll(int(1000 * DEADLINE)) > 0, 'no answer'
    h.shutdown()
    return time.monotonic() - began


def story(t, server, path):
    """A daemon between the client and @server."""
    d = t.daemon()
    d.add(driver='nbd', node_name='far', open_timeout=int(DEADLINE),
          server={'type': 'unix', 'path': path})
    d.export('far')
    return d


@test('a link of 40 MiB/s is full, and hardly more than 1 MiB waits on it')
def _(t):
    need_qblk('has this nbd driver')
    server, path, log = serve(t, '--filter=rate', f'rate={RATE * 8}')
    d = story(t, server, path)
    total = BURST + 3 * RATE
    seconds = write_all(d.uri(), total)
    d.close()
    server.send_signal(signal.SIGTERM)
    server.wait()
    # The burst opens the window, and what it was is forgotten after some seconds: only what is certain.
    most = most_under_way(log, after=total - RATE)
    print(f'# {total / MIB / seconds:.0f} MiB/s, at most {most / MIB:.1f} MiB under way')
    assert most <= 4 * MIB, f'{most} bytes under way'
    assert seconds <= 1.3 * (total - BURST) / RATE + 2, f'{seconds} s'


@test('a server that takes its time is given enough to do')
def _(t):
    need_qblk('has this nbd driver')
    server, path, log = serve(t, '--filter=delay', 'delay-write=20ms')
    d = story(t, server, path)
    total = 8 * SIZE
    seconds = write_all(d.uri(), total)
    d.close()
    server.send_signal(signal.SIGTERM)
    server.wait()
    most = most_under_way(log)
    print(f'# {total / MIB / seconds:.0f} MiB/s, at most {most / MIB:.1f} MiB under way')
    assert most > 6 * MIB, f'only {most} bytes were ever under way'


if __name__ == '__main__':
    main()
