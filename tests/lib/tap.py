# SPDX-License-Identifier: GPL-2.0-or-later
"""A test is a function with a sentence; a file of them prints TAP.

    @test('a backup of an idle disk equals the disk')
    def _(t):
        d = t.daemon()
        ...

    if __name__ == '__main__':
        main()

Every test gets a directory and a random generator of its own.  The seed is printed, and SEED repeats
it; `-k WORDS` runs the tests whose sentence has the words in it.
"""
import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback

import qblk
from witness import Witness

TESTS = []
# A test that takes longer hangs: the slowest takes a quarter of this on two busy cores.
TEST_SECONDS = int(240 * qblk.SLOW)


class Skip(Exception):
    """The machine lacks what a test needs."""


def need_command(daemon, name):
    """The peer that the tests were proved on lacks a few commands; qblk must have them all."""
    if not qblk.is_qblk() and name not in [c['name'] for c in daemon.qmp('query-commands')]:
        raise Skip(f'this daemon has no {name}')


def need_qblk(what):
    """What qblk promises, and the peer that the tests were proved on does not."""
    if not qblk.is_qblk():
        raise Skip(f'only qblk {what}')


class Case:
    """What one test has: .dir, .random, daemons and writers that are ended with it."""

    def __init__(self, directory, seed):
        self.dir = directory
        self.seed = seed
        self.random = random.Random(seed)
        self.daemons = []
        self.witnesses = []

    def path(self, name):
        return os.path.join(self.dir, name)

    def daemon(self, *args, **options):
        where = self.path(f'daemon{len(self.daemons)}')
        os.makedirs(where)
        d = qblk.Daemon(where, args, **options)
        self.daemons.append(d)
        return d

    def image(self, name, size, data=()):
        return qblk.make_image(self.path(name), size, data)

    def witness(self, *uris, **options):
        w = Witness(self.path(f'witness{len(self.witnesses)}.log'), uris,
                    seed=self.random.randrange(1 << 40), **options)
        self.witnesses.append(w)
        return w

    def fresh(self):
        """For a test of several rounds: ends what the last round left and empties the directory."""
        self.end(False)
        self.daemons, self.witnesses = [], []
        for name in os.listdir(self.dir):
            path = os.path.join(self.dir, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

    def end(self, failed):
        error = None
        for w in self.witnesses:
            w.kill()
        for d in self.daemons:
            if failed:
                d.process.kill()
                d.process.wait()
                continue
            try:
                d.close()
            except Exception as e:  # pylint: disable=broad-except
                d.process.kill()
                error = error or e
        if error:
            raise error

    def said(self):
        return [f'daemon{i}: {line}' for i, d in enumerate(self.daemons)
                for line in d.said().splitlines()[-60:]]


def test(sentence):
    def add(function):
        TESTS.append((sentence, function))
        return function
    return add


def on_alarm(_signal, _frame):
    raise TimeoutError(f'the test took more than {TEST_SECONDS} s')


def run(number, sentence, function, seed):
    directory = tempfile.mkdtemp(prefix='qblk-')
    case = Case(directory, seed + number)
    signal.alarm(TEST_SECONDS)
    try:
        try:
            function(case)
        except BaseException:
            case.end(True)
            raise
        case.end(False)
    except Skip as e:
        print(f'ok {number} - {sentence} # SKIP {e}')
    except Exception:  # pylint: disable=broad-except
        for line in traceback.format_exc().splitlines() + case.said():
            print('# ' + line)
        print(f'not ok {number} - {sentence}')
        if os.environ.get('KEEP'):
            print('# kept: ' + directory)
            return False
        shutil.rmtree(directory, ignore_errors=True)
        return False
    else:
        print(f'ok {number} - {sentence}')
    finally:
        signal.alarm(0)
        sys.stdout.flush()
    shutil.rmtree(directory, ignore_errors=True)
    return True


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('-k', dest='words', default='', help='run the tests with these words')
    ap.add_argument('--list', action='store_true', help='say the sentences, run nothing')
    o = ap.parse_args()
    chosen = [(s, f) for s, f in TESTS if o.words in s]
    if o.list:
        print('\n'.join(s for s, _ in chosen))
        return
    if not os.access(qblk.DAEMON, os.X_OK):
        sys.exit(f'There is no daemon at {qblk.DAEMON}: build it first (./configure && ninja -C '
                 'build), or name one with QBLK_DAEMON')
    signal.signal(signal.SIGALRM, on_alarm)
    seed = int(os.environ.get('SEED') or random.randrange(1 << 32))
    print(f'# SEED={seed} {os.path.relpath(sys.argv[0], qblk.ROOT)}')
    print(f'1..{len(chosen)}', flush=True)
    good = [run(i + 1, s, f, seed) for i, (s, f) in enumerate(chosen)]
    sys.exit(0 if all(good) else 1)
