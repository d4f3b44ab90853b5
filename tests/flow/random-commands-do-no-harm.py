#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules H1, H5 and H6 against everybody at once: several QMP sessions say random things, right, nearly
right and wrong, while NBD clients read, write and hang up, and the NBD servers that nodes stand on are
killed, stopped and continued.

    SECONDS=3600 tests/flow/random-commands-do-no-harm.py      as long as that; --nightly: half an hour
    NBD_SERVERS=0 tests/flow/random-commands-do-no-harm.py     without servers that come and go (default: 2)

What must hold, whatever is said: every command is answered in time and in form, the disk "gold" holds
what was written to it, though it is moved to another place again and again, a copy of it that is made
while it stands still is equal to it, no sanitizer speaks, and "quit" ends the daemon soon and without a
leak.

Sessions are threads: the seed repeats what each says, not how the sessions interleave.
"""
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import nbd  # noqa: E402
import qblk  # noqa: E402
import target as qblk_target  # noqa: E402
from qblk import DEADLINE, KIB, MIB, Gone, Qmp  # noqa: E402
from speaker import BLOCK, EXPORTS, FILES, GOLD_SIZE, MOVE, PLACES, POLICIES, SERVERS, Speaker  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402

NIGHTLY = '--nightly' in sys.argv or int(os.environ.get('ROUNDS', '0')) > 1
SECONDS = float(os.environ.get('SECONDS', '1800' if NIGHTLY else '20'))
SESSIONS, CLIENTS = 4, 3


class Session(threading.Thread):
    """One QMP client: mostly it waits for its reply, sometimes it says much at once or just leaves."""

    def __init__(self, run, seed):
        super().__init__(daemon=True)
        self.run_ = run
        self.speaker = Speaker(seed, run.dir)
        self.said = []
        self.good = self.bad = 0

    def check(self, answer, expected):
        if 'event' in answer:
            assert set(answer) <= {'event', 'data', 'timestamp'} and 'timestamp' in answer, answer
            return False
        assert set(answer) in ({'return', 'id'}, {'error', 'id'}), answer
        assert answer['id'] == expected, (answer, expected)
        if 'error' in answer:
            assert set(answer['error']) == {'class', 'desc'} and answer['error']['desc'], answer
            assert '\n' not in answer['error']['desc'], answer
        self.good += 'return' in answer
        self.bad += 'error' in answer
        self.said[expected].append(answer.get('error', {}).get('desc', 'ok'))
        return True

    def say(self, qmp):
        name, arguments = self.speaker.command()
        while not self.speaker.harmless(name, arguments):
            name, arguments = self.speaker.command()
        message = {'execute': name, 'arguments': arguments, 'id': len(self.said)}
        self.said.append([round(time.monotonic() - self.run_.begin, 3), name, arguments])
        qmp.send_raw(json.dumps(message).encode() + b'\n')
        return message['id']

    def talk(self, qmp):
        waiting = []
        for _ in range(self.speaker.one(1, 1, 1, 1, 2, 8)):
            waiting.append(self.say(qmp))
        if self.speaker.r.random() < .01:
            for number in waiting:
                self.said[number].append('(did not wait)')
            raise Gone('this client leaves')
        for expected in waiting:
            while not self.check(qmp.read(), expected):
                pass

    def run(self):
        try:
            while not self.run_.over():
                qmp = self.run_.daemon.connect()
                try:
                    while not self.run_.over():
                        self.talk(qmp)
                except Gone as e:
                    assert 'leaves' in str(e), f'{e}, and has ended with {self.run_.daemon.process.wait(DEADLINE)}'
                finally:
                    qmp.close()
        except BaseException as e:  # pylint: disable=broad-except
            self.run_.fail(self, e)


class Gold(threading.Thread):
    """The verified writer.  A block of the disk holds what was acknowledged last, or what was being
    written when the connection broke."""

    def __init__(self, run, seed):
        super().__init__(daemon=True)
        self.run_ = run
        self.r = random.Random(seed)
        self.may_be = [{0} for _ in range(GOLD_SIZE // BLOCK)]
        self.stamp = 0
        self.writes = self.reads = 0
        self.said = []

    @staticmethod
    def content(stamp):
        return stamp.to_bytes(8, 'little') * (BLOCK // 8)

    def look(self, data, first):
        for i in range(len(data) // BLOCK):
            block = data[i * BLOCK:(i + 1) * BLOCK]
            stamp = int.from_bytes(block[:8], 'little')
            assert block == self.content(stamp), f'block {first + i} of the disk is torn'
            assert stamp in self.may_be[first + i], \
                f'block {first + i} holds {stamp}, not one of {self.may_be[first + i]}'
            self.may_be[first + i] = {stamp}

    def step(self, h):
        first = self.r.randrange(len(self.may_be))
        count = min(self.r.choice([1, 1, 4, 32]), len(self.may_be) - first)
        what = self.r.random()
        if what < .3:
            self.look(h.pread(count * BLOCK, first * BLOCK), first)
            self.reads += 1
            return
        if what < .35:
            h.flush()
            return
        self.stamp = 0 if what < .45 else self.writes + 1
        before = self.may_be[first:first + count]
        for i in range(first, first + count):
            self.may_be[i] = self.may_be[i] | {self.stamp}
        try:
            if self.stamp:
                h.pwrite(self.content(self.stamp) * count, first * BLOCK)
            else:
                h.zero(count * BLOCK, first * BLOCK)
        except nbd.Error as e:
            assert e.errnum in (0, None) or not h.aio_is_ready(), f'a write of the disk failed: {e}'
            raise
        del before
        self.writes += 1
        for i in range(first, first + count):
            self.may_be[i] = {self.stamp}

    def run(self):
        try:
            while not self.run_.over():
                h = nbd.NBD()
                try:
                    h.connect_uri(self.run_.daemon.uri('gold'))
                    while not self.run_.over():
                        with self.run_.gate:
                            pass
                        with self.run_.gold_lock:
                            self.step(h)
                    h.shutdown()
                except nbd.Error:
                    self.run_.broken = time.monotonic()
                    assert self.run_.daemon.alive(), 'the daemon is gone'
                    self.run_.offer_gold()
        except BaseException as e:  # pylint: disable=broad-except
            self.run_.fail(self, e)


class Mover(threading.Thread):
    """Mirrors the verified disk, while it is written, to one place after another: to a file, through a
    throttle, to a server that is killed and stopped; completes it, cancels it, or sees others end it."""

    def __init__(self, run, seed):
        super().__init__(daemon=True)
        self.run_ = run
        self.r = random.Random(seed)
        self.said = []
        self.moves = self.copies = self.failures = 0
        self.qmp = None
        self.server = None
        self.done, self.may_end = threading.Event(), threading.Event()

    def say(self, name, arguments):
        """The reply, or the error's words after "!"."""
        self.said.append([round(time.monotonic() - self.run_.begin, 3), name, arguments])
        try:
            answer = self.qmp(name, arguments)
        except qblk.QmpError as e:
            answer = '! ' + e.desc
        self.said[-1].append(answer if isinstance(answer, str) else 'ok')
        return answer

    def serve(self, image):
        self.server = self.server or qblk_target.Target(self.run_.t, image, 'gold-server')
        if self.server.image != image:
            self.server.kill()
            self.server.image = image
            self.server.start()
        return self.server.node()

    def where(self, image):
        """The node below the target."""
        kinds = ['file', 'file', 'throttle']
        if qblk.have('nbdkit') and not self.run_.home_is_far:
            kinds += ['nbd', 'nbd']
        kind = self.r.choice(kinds)
        if kind == 'nbd':
            return {**self.serve(image), 'reconnect-delay': 30, 'discard': 'unmap'}
        file = {'driver': 'file', 'filename': image, 'discard': 'unmap'}
        return file if kind == 'file' else {'driver': 'throttle', 'throttle-group': 'gold-slow',
                                            'file': file}

    def options(self):
        r = self.r
        return {'job-id': MOVE, 'device': self.run_.home, 'sync': 'full', **{
            k: v for k, v in {
                'copy-mode': r.choice(['background', 'write-blocking']),
                'granularity': r.choice([512, 4096, 65536, MIB, 64 * MIB]),
                'buf-size': r.choice([0, 1, 65536, 300000, MIB]),
                'speed': r.choice([0, 256 * KIB, MIB, 16 * MIB]),
                'on-source-error': r.choice(POLICIES), 'on-target-error': r.choice(POLICIES),
                'replaces': self.run_.home, 'auto-finalize': False, 'auto-dismiss': False}.items()
            if r.random() < (.15 if 'auto' in k else .5)}}

    def begin(self, node, image):
        """Whether the job runs."""
        options = self.options()
        if self.r.random() < .2:
            answer = self.say('drive-mirror', {**options, 'target': image, 'format': 'raw',
                                               'node-name': node})
            self.run_.target_is_far = False
            return not isinstance(answer, str)
        with open(image, 'wb') as f:
            # Whatever is there must be gone in the end.
            zero = self.r.random() < .5
            f.truncate(GOLD_SIZE)
            if not zero:
                f.write(self.r.randbytes(GOLD_SIZE))
        file = self.where(image)
        self.run_.target_is_far = file['driver'] == 'nbd'
        if isinstance(self.say('blockdev-add', {'driver': 'raw', 'node-name': node, 'discard': 'unmap',
                                                'file': file}), str):
            return False
        if zero and self.r.random() < .3:
            options['target-is-zero'] = True
        return not isinstance(self.say('blockdev-mirror', {**options, 'target': node}), str)

    def state(self):
        return next((j['status'] for j in self.qmp('query-jobs') if j['id'] == MOVE), 'null')

    def harass(self):
        """Something that the job must bear."""
        r = self.r
        what = r.choice(['pause', 'speed', 'change', 'server', 'nothing', 'nothing'])
        if what == 'pause':
            self.say('job-pause', {'id': MOVE})
            self.run_.stop.wait(r.choice([0, .01, .1]))
            self.say('job-resume', {'id': MOVE})
        elif what == 'speed':
            self.say('block-job-set-speed', {'device': MOVE, 'speed': r.choice([0, 65536, 16 * MIB])})
        elif what == 'change':
            self.say('block-job-change', {'id': MOVE, 'type': 'mirror', 'copy-mode': r.choice(
                ['background', 'write-blocking'])})
        elif what == 'server' and self.server:
            if r.random() < .5:
                self.server.kill()
                self.run_.stop.wait(r.choice([0, .05, .5]))
                self.server.start()
            else:
                self.server.stop()
                self.run_.stop.wait(r.choice([0, .05, .5]))
                self.server.go_on()
        self.run_.stop.wait(r.choice([0, .01, .1, .3]))

    def drive(self, until):
        """Until the job is in one of these states: who stopped it or slowed it down has had his time."""
        end = time.monotonic() + 2 * DEADLINE
        state = self.state()
        while state not in until:
            assert time.monotonic() < end, f'the mirror stays {state}: {self.qmp("query-block-jobs")}'
            help_on = {'pending': 'job-finalize', 'concluded': 'job-dismiss', 'paused': 'job-resume',
                       'standby': 'job-resume'}
            if state in help_on:
                self.say(help_on[state], {'id': MOVE})
            elif self.r.random() < .1:
                self.say('block-job-set-speed', {'device': MOVE, 'speed': 0})
            self.run_.stop.wait(.01)
            state = self.state()
        return state

    def outcome(self):
        """How the job has ended."""
        self.drive(['null'])
        e = self.qmp.job_end(MOVE)
        good = e['event'] == 'BLOCK_JOB_COMPLETED' and 'error' not in e['data']
        self.said.append([round(time.monotonic() - self.run_.begin, 3), e['event'], e['data'], 'ok'])
        self.failures += not good
        return good

    def complete(self, node, image):
        with self.run_.home_lock:
            command = self.r.choice([('job-complete', {'id': MOVE}), ('block-job-complete', {'device': MOVE})])
            asked = not isinstance(self.say(*command), str)
            if self.r.random() < .3:
                self.harass()
            if not asked:
                self.say('block-job-cancel', {'device': MOVE, 'force': True})
            if self.outcome() and asked:
                self.run_.home, self.run_.image = node, image
                self.run_.home_is_far = self.run_.target_is_far
                self.moves += 1

    def keep(self, image):
        """Cancelled when it was ready: equal, for nobody wrote meanwhile."""
        with self.run_.gate, self.run_.gold_lock:
            asked = not isinstance(self.say('block-job-cancel', {'device': MOVE}), str)
            sure = time.monotonic() - self.run_.broken > .5   # what was cut off then may still be written
            if self.outcome() and asked and sure:
                self.copies += 1
                with open(image, 'rb') as f, open(self.run_.image, 'rb') as g:
                    assert f.read() == g.read(), 'the copy of a disk that stood still is another one'

    def names(self):
        return [n['node-name'] for n in self.qmp('query-named-block-nodes')]

    def free_name(self):
        """Of a node that is not there: whoever still reads what was left may do so as long as he likes."""
        while not self.run_.over():
            used = self.names()
            for node in self.r.sample(PLACES, len(PLACES)):
                if node not in used and node != self.run_.home:
                    return node
                if node != self.run_.home:
                    self.say('blockdev-del', {'node-name': node})
            self.run_.stop.wait(.05)
        return None

    def turn(self):
        node = self.free_name()
        if not node:
            return
        image = os.path.join(self.run_.dir, node + '.img')
        if not self.begin(node, image):
            self.run_.pause()
            return
        for _ in range(self.r.randrange(4)):
            self.harass()
        what = self.r.choice(['complete', 'complete', 'complete', 'keep', 'keep', 'force'])
        if what != 'force':
            self.drive(['ready', 'concluded', 'null'])
            for _ in range(self.r.randrange(3)):
                self.harass()
        if what == 'complete':
            self.complete(node, image)
        elif what == 'keep':
            self.keep(image)
        else:
            self.say('block-job-cancel', {'device': MOVE, 'force': True})
            self.outcome()

    def work(self):
        try:
            self.qmp = self.run_.daemon.connect()
            while not self.run_.over():
                self.turn()
                self.qmp.events.clear()
        except BaseException as e:  # pylint: disable=broad-except
            self.run_.fail(self, e)

    def run(self):
        """The server dies with the thread that started it, and the disk may be there."""
        self.work()
        self.done.set()
        self.may_end.wait()

    def join(self, timeout=None):
        self.done.wait(timeout)

    def is_alive(self):
        return not self.done.is_set()

    def end(self):
        self.may_end.set()
        if self.server:
            self.server.kill()


class Client(threading.Thread):
    """Uses any export in any way, and cares for no answer but that there is one."""

    def __init__(self, run, seed):
        super().__init__(daemon=True)
        self.run_ = run
        self.r = random.Random(seed)
        self.said = []
        self.requests = 0

    def burst(self, h, size):
        cookies = []
        for _ in range(self.r.choice([1, 4, 32])):
            count = min(self.r.choice([512, 4096, 65536, 262144, 1000]), size)
            at = self.r.randrange(size - count + 1)
            kind = self.r.choice(['read', 'write', 'write', 'zero', 'trim', 'flush'])
            if kind == 'read':
                cookies.append(h.aio_pread(nbd.Buffer(count), at))
            elif kind == 'write':
                cookies.append(h.aio_pwrite(self.r.randbytes(count), at))
            elif kind == 'flush':
                cookies.append(h.aio_flush())
            else:
                cookies.append(getattr(h, 'aio_' + kind)(count, at))
        return cookies

    def finish(self, h, cookies):
        end = time.monotonic() + DEADLINE
        left = set(cookies)
        while left:
            for cookie in list(left):
                try:
                    if h.aio_command_completed(cookie):
                        left.discard(cookie)
                except nbd.Error:
                    left.discard(cookie)    # answered with an error
            if left:
                h.poll(100)
                assert time.monotonic() < end, f'{len(left)} requests had no answer'
        self.requests += len(cookies)

    def visit(self):
        h = nbd.NBD()
        h.set_strict_mode(0)
        h.set_request_structured_replies(self.r.random() < .7)
        h.add_meta_context('base:allocation')
        h.connect_uri(self.run_.daemon.uri(self.r.choice(EXPORTS)))
        size = h.get_size()
        for _ in range(self.r.randrange(1, 30)):
            if size < 512 or self.run_.over():
                break
            cookies = self.burst(h, size)
            if self.r.random() < .05:
                return                      # hangs up in the middle
            self.finish(h, cookies)
        if self.r.random() < .5:
            h.shutdown()

    def run(self):
        try:
            while not self.run_.over():
                try:
                    self.visit()
                except nbd.Error:
                    # No such export, no server, or one that went: all of them are daily events here.
                    self.run_.pause()
        except BaseException as e:  # pylint: disable=broad-except
            self.run_.fail(self, e)


class Servers(threading.Thread):
    """NBD servers of small images: at random moments one is killed, stopped or continued."""

    def __init__(self, run, seed):
        super().__init__(daemon=True)
        self.run_ = run
        self.r = random.Random(seed)
        self.said = []
        self.processes = {}
        for name in SERVERS:
            run.t.image(name + '.img', self.r.choice([MIB, 4 * MIB]))
            self.serve(name)

    def serve(self, name):
        path = os.path.join(self.run_.dir, name)
        if os.path.exists(path):
            os.unlink(path)
        self.processes[name] = subprocess.Popen(
            ['nbdkit', '-f', '-U', path, 'file', path + '.img'], stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, preexec_fn=qblk.die_with_parent)

    def turn(self, name):
        process = self.processes[name]
        what = self.r.choice(['kill', 'stop', 'stop', 'truncate'])
        process.send_signal(signal.SIGSTOP if what == 'stop' else signal.SIGKILL)
        self.said.append([round(time.monotonic() - self.run_.begin, 3), what, name, 'ok'])
        # Longer than a reconnect-delay, or not; this is what is tried.
        self.run_.stop.wait(self.r.choice([0, .05, .5, 2]))
        if what == 'stop':
            process.send_signal(signal.SIGCONT)
            return
        process.wait()
        if what == 'truncate':
            os.truncate(os.path.join(self.run_.dir, name + '.img'), self.r.choice([MIB, 4 * MIB]))
        self.serve(name)

    def run(self):
        try:
            while not self.run_.over():
                self.run_.stop.wait(self.r.random())
                self.turn(self.r.choice(SERVERS))
        except BaseException as e:  # pylint: disable=broad-except
            self.run_.fail(self, e)

    def end(self):
        for process in self.processes.values():
            process.kill()
            process.wait()


class Run:
    """One daemon, everybody on it, and the end of it all."""

    def __init__(self, t):
        self.t, self.dir = t, t.dir
        self.begin = time.monotonic()
        self.stop = threading.Event()
        self.failure = None
        # Where the verified disk is; who holds the lock is moving it.
        self.home, self.image, self.home_is_far = 'gold', t.path('gold.img'), False
        self.target_is_far = False
        self.home_lock = threading.Lock()
        # Its writer waits at the gate while somebody wants it to stand still.
        self.gate, self.gold_lock = threading.Lock(), threading.Lock()
        self.broken = self.begin
        # A spoilt file name may be a relative one: what it makes goes with the test.
        qblk.DAEMON = os.path.abspath(qblk.DAEMON)
        os.chdir(self.dir)
        for name in FILES:
            t.image(name, t.random.choice([MIB, 4 * MIB, 4 * MIB, 5 * MIB]))
        self.daemon = t.daemon('--object', 'iothread,id=io0', '--object', 'throttle-group,id=t0',
                               '--object', 'throttle-group,id=gold-slow,x-bps-write=16777216,x-iops-total=1000',
                               env={'UBSAN_OPTIONS': 'print_stacktrace=1', 'ASAN_OPTIONS': 'handle_abort=1'})
        self.daemon.file('gold', t.image('gold.img', GOLD_SIZE))
        self.daemon.export('gold', 'gold')

    def over(self):
        return self.stop.is_set()

    def pause(self):
        """Whoever finds nothing to do lets others work."""
        self.stop.wait(0.01)

    def fail(self, who, error):
        self.failure = self.failure or (who, error)
        self.stop.set()

    def offer_gold(self):
        """The server, the export or the node that nobody else used was taken away: bring them back."""
        qmp = self.daemon.connect()
        iothread = {'iothread': 'io0'} if random.random() < .3 else {}
        with self.home_lock:
            for name, arguments in (
                    ('nbd-server-start', {'addr': {'type': 'unix', 'data': {'path': self.daemon.nbd_path}}}),
                    ('blockdev-add', {'driver': 'raw', 'node-name': self.home, 'discard': 'unmap', 'file': {
                        'driver': 'file', 'filename': self.image, 'discard': 'unmap'}}),
                    ('block-export-add', {'type': 'nbd', 'id': 'export-gold', 'node-name': self.home,
                                          'name': 'gold', 'writable': True, **iothread})):
                qmp.send_raw(json.dumps({'execute': name, 'arguments': arguments, 'id': 1}).encode())
                while 'event' in qmp.read():
                    pass
        qmp.close()
        self.pause()

    def autopsy(self):
        """ON_FAILURE=PROGRAM is given the daemon's process id."""
        if os.environ.get('ON_FAILURE'):
            os.system(f'{os.environ["ON_FAILURE"]} {self.daemon.process.pid}')

    def quit(self):
        """Soon, whatever is under way."""
        d = self.daemon
        d.qmp.close()
        d.qmp = Qmp(d.qmp_path)
        d.qmp('quit')
        try:
            d.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.autopsy()
            raise

    @staticmethod
    def unanswered(threads):
        return [['unanswered', *next(s for s in thread.said if len(s) == 3)] for thread in threads
                if any(len(s) == 3 for s in thread.said)]

    def watch(self, threads):
        for thread in threads:
            thread.start()
        self.stop.wait(SECONDS)
        self.stop.set()
        end = time.monotonic() + 2 * DEADLINE
        for thread in threads:
            thread.join(max(0.01, end - time.monotonic()))
            if thread.is_alive() and not self.failure:
                self.failure = thread, AssertionError('it waits for an answer for ever')
        if self.failure:
            self.autopsy()
            who, error = self.failure
            last = '\n'.join(json.dumps(s) for s in who.said[-6:] + self.unanswered(threads))
            raise AssertionError(f'{type(who).__name__}: {type(error).__name__}: {error}\n{last}') \
                from error


def keep_record(run, threads):
    """What was said, by whom and when: RECORD=FILE."""
    path = os.environ.get('RECORD')
    if path:
        with open(path, 'w') as f:
            lines = sorted(((said[0], i, said[1:]) for i, s in enumerate(threads) for said in s.said),
                           key=lambda line: line[:2])
            f.writelines(json.dumps(line) + '\n' for line in lines)
            f.write(run.daemon.said())


@test('random commands from several sessions harm neither the daemon nor the disk')
def _(t):
    need_qblk('serves several clients on one QMP socket')
    signal.alarm(int(SECONDS + 6 * DEADLINE))
    run = Run(t)
    gold = Gold(run, t.random.randrange(1 << 40))
    sessions = [Session(run, t.random.randrange(1 << 40)) for _ in range(SESSIONS)]
    clients = [Client(run, t.random.randrange(1 << 40)) for _ in range(CLIENTS)]
    servers = [Servers(run, t.random.randrange(1 << 40))] if SERVERS and qblk.have('nbdkit') else []
    mover = Mover(run, t.random.randrange(1 << 40))
    try:
        run.watch([gold, mover, *sessions, *clients, *servers])
    finally:
        os.chdir(qblk.ROOT)
        keep_record(run, [mover, *sessions])
    d = run.daemon
    run.quit()
    d.close()
    for server in [mover, *servers]:
        server.end()
    with open(run.image, 'rb') as f:
        gold.look(f.read(), 0)
    for word in ('Sanitizer', 'runtime error', 'ssertion'):
        assert word not in d.said(), d.said()
    print(f'# {sum(s.good for s in sessions)} commands obeyed, {sum(s.bad for s in sessions)} refused, '
          f'{gold.writes} verified writes, {sum(c.requests for c in clients)} other requests, the disk '
          f'moved {mover.moves} times and copied {mover.copies} times, {mover.failures} were cancelled or failed')


if __name__ == '__main__':
    sys.argv = [a for a in sys.argv if a != '--nightly']
    main()
