#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of scripts/check, and the count of what passed.

    build   gcc, clang, and clang with ASan, UBSan and libFuzzer; all warnings are errors
    house   the rules of the house, with the tests of the checker and of the generators
    unit    every room's tests, in all three builds; each TAP line counts
    flow    tests/flow, tests/interop, and the benchmarks that count: a daemon and its clients, with gcc's build and the sanitized
    fuzz    every libFuzzer target for a short while, from the kept corpus

A step that cannot run because the one before it failed is a failure, not a silence.
"""
import argparse
import concurrent.futures
import glob
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILDS = os.path.join(ROOT, 'build-check')
LOGS = os.path.join(BUILDS, 'logs')
STEPS = ['build', 'house', 'unit', 'flow', 'fuzz']
# More at once than this, and deadlines would measure the machine instead of the daemon.
JOBS = max(1, min(4, os.cpu_count() or 1))
# Benchmarks that count and do not time, and so can pass and fail.
COUNTED = [os.path.join(ROOT, 'tests/bench/alloc-cost.py')]
# Stories of each kind that a nightly run tells; a hundred are some 300,000 states.
NIGHTLY_STORIES = '300'
# Lines of a failed log that are shown; the whole log is kept.
SHOWN = 60

SANITIZER_ENV = {
    'ASAN_OPTIONS': 'detect_leaks=1:abort_on_error=0:exitcode=99:detect_stack_use_after_return=0',
    'UBSAN_OPTIONS': 'print_stacktrace=1:halt_on_error=1',
}


class Build:
    """One way to build: a directory, a compiler, and options of meson."""

    def __init__(self, name, cc, options=(), env=None, slow=1, targets=()):
        self.name = name
        self.targets = list(targets)  # of ninja; none: all
        self.dir = os.path.join(BUILDS, name)
        self.cc = cc
        self.options = list(options)
        self.env = dict(env or {}, CC=cc)
        self.slow = slow
        self.good = False

    @property
    def daemon(self):
        return os.path.join(self.dir, 'qblk-storage-daemon')


SANITIZED = ['-Db_sanitize=address,undefined', '-Db_lundef=false', '-Dfuzz=true']


def all_builds():
    return [Build('gcc', 'gcc'), Build('clang', 'clang'),
            Build('sanitized', 'clang', SANITIZED, SANITIZER_ENV, slow=4)]


def fuzz_build():
    """
    What is fuzzed tells libFuzzer of its branches, too, not only the target's own file.  A build of its own, at night: the
    tests would take up to three times as long with it.
    """
    return Build('fuzz', 'clang', [*SANITIZED, '-Dc_args=-fsanitize=fuzzer-no-link'], SANITIZER_ENV, slow=4,
                 targets=['fuzz-targets'])


class Count:
    """What passed and what failed, told as it happens."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.start = time.monotonic()
        self.lock = threading.Lock()

    def say(self, text):
        with self.lock:
            print(f'[{time.monotonic() - self.start:4.0f} s] {text}', flush=True)

    def add(self, passed, failed, skipped=0):
        with self.lock:
            self.passed += passed
            self.failed += failed
            self.skipped += skipped

    def step(self, name, passed, failed, skipped, seconds, log=None):
        """Tells of one program of tests; the log is shown if something in it failed."""
        self.add(passed, failed, skipped)
        text = f'{name}: {passed} passed'
        text += f', {failed} FAILED' if failed else ''
        text += f', {skipped} skipped' if skipped else ''
        self.say(f'{text} ({seconds:.0f} s)')
        if failed and log:
            self.show(log)

    def show(self, log):
        with open(log, errors='replace') as f:
            lines = f.read().splitlines()
        with self.lock:
            for line in interesting(lines):
                print('        ' + line)
            print(f'        the whole log: {os.path.relpath(log, ROOT)}', flush=True)


def interesting(lines):
    """The end of a log, or of a TAP log the failures with what stands before them."""
    if not any(line.startswith('not ok') for line in lines):
        return lines[-SHOWN:]
    out, before = [], []
    for line in lines:
        if line.startswith('ok ') or line.startswith('# SEED'):
            before = []
            if line.startswith('# SEED'):
                out.append(line)
        elif line.startswith('not ok'):
            out += [*before[-SHOWN:], line]
            before = []
        else:
            before.append(line)
    return out + before[-SHOWN:]


def run_logged(command, log, env=None, timeout=None):
    """Runs a program with its output in a log; (exit status or None at a time-out, seconds)."""
    start = time.monotonic()
    with open(log, 'wb') as f:
        try:
            status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=f, stderr=f, cwd=ROOT,
                                    env=dict(os.environ, **(env or {})), timeout=timeout,
                                    check=False).returncode
        except subprocess.TimeoutExpired:
            f.write(b'\nnot ok - it did not end in time\n')
            status = None
        except OSError as e:
            f.write(f'\n{e}\n'.encode())
            status = 127
    return status, time.monotonic() - start


def tap_count(log, status):
    """(passed, failed, skipped) of a TAP log; an unexplained exit status is a failure more."""
    passed = failed = skipped = 0
    planned = None
    with open(log, errors='replace') as f:
        for line in f:
            if re.match(r'ok\b', line):
                if re.search(r'# SKIP', line, re.I):
                    skipped += 1
                else:
                    passed += 1
            elif re.match(r'not ok\b', line):
                failed += 1
            elif m := re.match(r'1\.\.(\d+)', line):
                planned = int(m.group(1))
                skipped += planned == 0
    seen = passed + failed + skipped
    if not failed and (status != 0 or (planned is not None and seen < planned)):
        failed += 1
    return passed, failed, skipped


def log_path(*words):
    os.makedirs(LOGS, exist_ok=True)
    return os.path.join(LOGS, '-'.join(words).replace('/', '-') + '.log')


def step_house(count, options):
    programs = [os.path.join(ROOT, 'scripts/house-check')]
    programs += sorted(glob.glob(os.path.join(ROOT, 'tests/unit/scripts/*-test.py')))
    for program in programs:
        name = os.path.relpath(program, ROOT)
        if options.words and options.words not in name:
            continue
        log = log_path('house', os.path.basename(name))
        status, seconds = run_logged(['/usr/bin/python3', program], log, timeout=240)
        count.step(name, *tap_count(log, status), seconds, log)


def step_build(count, builds):
    for build in builds:
        log = log_path('build', build.name)
        setup = ['meson', 'setup', build.dir, *build.options]
        if os.path.isdir(os.path.join(build.dir, 'meson-private')):
            setup.insert(2, '--reconfigure')
        status, seconds = run_logged(setup, log, build.env)
        if status:
            shutil.rmtree(build.dir, ignore_errors=True)
            status, more = run_logged(['meson', 'setup', build.dir, *build.options], log, build.env)
            seconds += more
        if status == 0:
            status, more = run_logged(['ninja', '-C', build.dir, *build.targets], log, build.env)
            seconds += more
        build.good = status == 0
        count.step(f'build with {build.name}', int(build.good), int(not build.good), 0, seconds, log)


def unit_names(build, words):
    listed = subprocess.check_output(['meson', 'introspect', '--tests', build.dir], text=True)
    return [t['name'] for t in json.loads(listed) if words in t['name']]


def unit_count(build):
    """Counts TAP lines; a program that died without saying so is a failure of its own."""
    passed = failed = skipped = 0
    bad = set()
    tree = xml.etree.ElementTree.parse(os.path.join(build.dir, 'meson-logs/testlog.junit.xml'))
    for suite in tree.getroot().iter('testsuite'):
        for case in suite.iter('testcase'):
            if case.find('failure') is not None or case.find('error') is not None:
                failed += 1
                bad.add(suite.get('name', '').split('.')[-1])
                bad.add(case.get('name', ''))
            elif case.find('skipped') is not None:
                skipped += 1
            else:
                passed += 1
    with open(os.path.join(build.dir, 'meson-logs/testlog.json')) as f:
        for line in f:
            t = json.loads(line)
            if t['result'] not in ('OK', 'SKIP', 'EXPECTEDFAIL') and \
                    not any(b and b in t['name'] for b in bad):
                failed += 1
    return passed, failed, skipped


def show_failed_units(count, build):
    with open(os.path.join(build.dir, 'meson-logs/testlog.json')) as f:
        for line in f:
            t = json.loads(line)
            if t['result'] in ('OK', 'SKIP', 'EXPECTEDFAIL'):
                continue
            log = log_path('unit', build.name, t['name'].split(' / ')[-1].replace(' ', ''))
            with open(log, 'w') as out:
                out.write(t.get('stdout', '') + t.get('stderr', '') + f"\n{t['name']}: {t['result']}\n")
            count.show(log)


def nightly_power_cuts(count, build, options):
    """Some hundred thousand states of FVD images whose power was cut; and mistakes that this must find."""
    program = os.path.join(build.dir, 'tests/crash/crash-fvd-survives-power-cuts')
    log = log_path('unit', build.name, 'power-cuts')
    status, seconds = run_logged([program, '--tap', '-k'], log,
                                 dict(build.env, SEED=str(options.seed), SEEDS=NIGHTLY_STORIES))
    count.step('power cuts, many', *tap_count(log, status), seconds, log)
    log = log_path('unit', build.name, 'power-cuts-mutants')
    status, seconds = run_logged(['/usr/bin/python3', os.path.join(ROOT, 'tests/crash/mutants.py')], log)
    count.step('mistakes found by power cuts', int(status == 0), int(status != 0), 0, seconds, log)


def step_unit(count, builds, options):
    for build in builds:
        if not build.good:
            count.say(f'unit tests with {build.name}: not run, the build failed')
            continue
        names = unit_names(build, options.words)
        if not names:
            continue
        log = log_path('unit', build.name)
        for old in glob.glob(os.path.join(build.dir, 'meson-logs/testlog*')):
            os.unlink(old)
        env = dict(build.env, SEED=str(options.seed))
        _, seconds = run_logged(['meson', 'test', '-C', build.dir, '--no-rebuild', '--num-processes',
                                 str(JOBS), '--timeout-multiplier', str(build.slow * 2), *names],
                                log, env)
        try:
            passed, failed, skipped = unit_count(build)
        except (OSError, ValueError, xml.etree.ElementTree.ParseError) as e:
            count.say(f'the unit tests left no record: {e}')
            count.step(f'unit tests with {build.name}', 0, 1, 0, seconds, log)
            continue
        count.step(f'unit tests with {build.name}', passed, failed, skipped, seconds)
        if failed:
            show_failed_units(count, build)
    if options.nightly and builds[0].good and options.words in 'crash-fvd-survives-power-cuts':
        nightly_power_cuts(count, builds[0], options)


def flow_programs(words):
    """[(path, words for the program)]: by the file's name, or by the sentences in it."""
    found = []
    for path in sorted(glob.glob(os.path.join(ROOT, 'tests/flow/*.py')) +
                       glob.glob(os.path.join(ROOT, 'tests/interop/*.py')) + COUNTED):
        if words in os.path.basename(path):
            found.append((path, []))
            continue
        listed = subprocess.run(['/usr/bin/python3', path, '--list'], capture_output=True, text=True,
                                check=False).stdout
        if words in listed:
            found.append((path, ['-k', words]))
    return found


def flow_env(build, options):
    env = dict(build.env, QBLK_BUILD=os.path.relpath(build.dir, ROOT), QBLK_DAEMON=build.daemon,
               QBLK_SLOW=str(build.slow), SEED=str(options.seed))
    if build.name == 'sanitized':
        env['QBLK_SANITIZED'] = '1'
    if options.nightly:
        env['ROUNDS'] = '200'
        env['QBLK_SLOW'] = str(build.slow * 20)
    return env


def step_flow(count, builds, options):
    todo = []
    for build in builds:
        if build.name == 'clang' and not options.nightly:
            continue
        if not build.good or not os.access(build.daemon, os.X_OK):
            count.say(f'flow tests with {build.name}: not run, there is no daemon')
            count.add(0, 1)
            continue
        todo += [(build, path, more) for path, more in flow_programs(options.words)]

    def one(build, path, more):
        name = os.path.basename(path)[:-3]
        log = log_path('flow', build.name, name)
        status, seconds = run_logged([path, *more], log, flow_env(build, options),
                                     timeout=None if options.nightly else 300)
        count.step(f'{name} ({build.name})', *tap_count(log, status), seconds, log)

    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for done in [pool.submit(one, *job) for job in todo]:
            done.result()


def step_fuzz(count, build, options):
    if not build.good:
        count.say('fuzz targets: not run, the build failed')
        return
    seconds = 3600 if options.nightly else 20
    targets = [p for p in sorted(glob.glob(os.path.join(build.dir, 'tests/fuzz/fuzz-*')))
               if os.path.isfile(p) and os.access(p, os.X_OK) and not p.endswith('-replay') and
               options.words in os.path.basename(p)]

    def one(target):
        name = os.path.basename(target)[len('fuzz-'):]
        log = log_path('fuzz', name)
        kept = os.path.join(ROOT, 'tests/fuzz/corpus', name)
        with tempfile.TemporaryDirectory(prefix='qblk-fuzz-') as fresh:
            command = [target, f'-max_total_time={seconds}', f'-seed={options.seed % (1 << 31) or 1}',
                       '-timeout=10', '-rss_limit_mb=2048', '-print_final_stats=1',
                       f'-artifact_prefix={LOGS}/{name}-', fresh]
            if os.path.isdir(kept):
                command.append(kept)
            status, took = run_logged(command, log, build.env, timeout=seconds * 3 + 120)
        count.step(f'fuzz {name}', int(status == 0), int(status != 0), 0, took, log)

    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for done in [pool.submit(one, target) for target in targets]:
            done.result()


def parse():
    ap = argparse.ArgumentParser(prog='scripts/check', description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('-k', dest='words', default='', help='run the tests with these words')
    ap.add_argument('--seed', type=int, default=random.SystemRandom().randrange(1 << 31))
    ap.add_argument('--nightly', action='store_true', help='many more rounds')
    ap.add_argument('--only', help='some of ' + ','.join(STEPS))
    o = ap.parse_args()
    o.steps = o.only.split(',') if o.only else STEPS
    if set(o.steps) - set(STEPS):
        ap.error('--only wants some of ' + ','.join(STEPS))
    return o


def main():
    options = parse()
    count = Count()
    builds = all_builds()
    fuzz = fuzz_build() if options.nightly and 'fuzz' in options.steps else builds[-1]
    count.say(f'seed {options.seed} (scripts/check --seed {options.seed} repeats the random tests)')
    if set(options.steps) & {'build', 'unit', 'flow', 'fuzz'}:
        step_build(count, builds + [fuzz] * (fuzz not in builds))
    if 'house' in options.steps:
        step_house(count, options)
    if 'unit' in options.steps:
        step_unit(count, builds, options)
    if 'flow' in options.steps:
        step_flow(count, builds, options)
    if 'fuzz' in options.steps:
        step_fuzz(count, fuzz, options)
    if count.skipped:
        count.say(f'{count.skipped} skipped: the logs in build-check/logs say why')
    if options.words and not count.passed + count.failed:
        count.say(f'no test has {options.words!r} in its name')
        count.add(0, 1)
    print(f'{count.passed} passed, {count.failed} failed', flush=True)
    sys.exit(1 if count.failed else 0)


if __name__ == '__main__':
    main()
