#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the tests of power cuts bite: mistakes are put into the drivers, one at a time, and they must fail.

    tests/crash/mutants.py                  all of tests/crash/mutants/*.patch, some minutes
    tests/crash/mutants.py -k WORD ...      those whose names have one of the words
    tests/crash/mutants.py --seeds N        so many stories of each kind are told to find one (150)
    tests/crash/mutants.py --dir DIR        where the copy of the tree is made, and kept for the next time

The first lines of a patch say which rule it breaks (docs/formats/fvd.rst, "Order of writes" and "Dirty bitmaps";
others are at the heads of the driver's files; of a patch whose name begins with qcow2: docs/devel/qcow2.rst).  The tree without a mistake is built and tested first.  Stories are
told in batches, and the first one that fails is enough.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

TREE = pathlib.Path(__file__).resolve().parents[2]
TARGETS = {'fvd': 'tests/crash/crash-fvd-survives-power-cuts', 'qcow2': 'tests/crash/crash-qcow2-survives-power-cuts'}
# Stories of each kind that are told at once, one at first: what one kind finds early the others need not look for.
BATCH = 8
# A mutant that takes so many times as long as the tree without a mistake waits for ever, and that is a failure.
PATIENCE = 40


def copy_tree(to):
    """What git knows, and what is new; files that are the same keep their time, so that little is built again."""
    names = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], cwd=TREE, check=True,
                           capture_output=True, text=True).stdout.split('\n')
    for name in filter(None, names):
        source, copy = TREE / name, to / name
        if not source.is_file():
            copy.unlink(missing_ok=True)
        elif not copy.exists() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)


def target_of(patch):
    return TARGETS['qcow2' if patch.stem.startswith('qcow2-') else 'fvd']


def build(tree, target):
    if not (tree / 'build/build.ninja').exists():
        subprocess.run(['./configure'], cwd=tree, check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run(['ninja', '-C', 'build', target], cwd=tree, capture_output=True, text=True)
    return None if done.returncode == 0 else done.stdout[-2000:]


def tell(tree, target, seeds, seed, timeout):
    """What the test says when it fails; None when it does not."""
    try:
        done = subprocess.run(['build/' + target, '--tap'], cwd=tree, capture_output=True, text=True,
                              timeout=timeout, env={'SEEDS': str(seeds), 'SEED': str(seed)})
    except subprocess.TimeoutExpired:
        return f'nothing happened for {timeout:.0f} s'
    if done.returncode == 0:
        return None
    text = done.stdout + done.stderr
    found = re.search(r'SEED=\d+ moment.*|SEED=\d+: .*|.*[Aa]ssertion.*', text)
    return found.group(0) if found else text[-300:]


def test(tree, target, args, timeout):
    first, batch = 0, 1
    while first < args.seeds:
        says = tell(tree, target, min(batch, args.seeds - first), args.seed + first, timeout)
        if says:
            return says
        first += batch
        batch = min(2 * batch, BATCH)
    return None


def apply(tree, patch, *options):
    return subprocess.run(['patch', '-p1', '-s', '-F0', *options, '-i', patch], cwd=tree,
                          capture_output=True, text=True)


def one(tree, patch, args, timeouts):
    """Whether it was caught."""
    start = time.monotonic()
    tried = apply(tree, patch)
    if tried.returncode:
        apply(tree, patch, '-R', '-f')
        print(f'STALE     {patch.stem}: {tried.stdout.strip()}')
        return False
    target = target_of(patch)
    broken = build(tree, target)
    says = None if broken else test(tree, target, args, timeouts[target])
    copy_tree(tree)
    took = f'{time.monotonic() - start:.0f} s'
    if broken:
        print(f'BROKEN    {patch.stem}: {broken}')
    elif says:
        print(f'caught    {patch.stem} ({took}): {says}')
    else:
        print(f'SURVIVED  {patch.stem} ({took})')
    return not broken and says is not None


def sound(tree, target, args):
    """The tree without a mistake passes; how long a mutant is waited for."""
    broken = build(tree, target)
    start = time.monotonic()
    says = broken or tell(tree, target, BATCH, args.seed, None)
    if says:
        sys.exit(f'without a mistake it fails, too: {says}')
    return 60 + PATIENCE * (time.monotonic() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('-k', nargs='*', default=[])
    parser.add_argument('--seeds', type=int, default=150)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--dir', type=pathlib.Path)
    args = parser.parse_args()
    patches = [p for p in sorted((TREE / 'tests/crash/mutants').glob('*.patch'))
               if not args.k or any(word in p.stem for word in args.k)]
    with tempfile.TemporaryDirectory(prefix='mutants-') as made:
        tree = (args.dir or pathlib.Path(made)).resolve()
        tree.mkdir(exist_ok=True)
        copy_tree(tree)
        timeouts = {target: sound(tree, target, args) for target in sorted({target_of(p) for p in patches})}
        sys.stdout.reconfigure(line_buffering=True)
        caught = sum(one(tree, patch, args, timeouts) for patch in patches)
    print(f'{caught} of {len(patches)} caught')
    sys.exit(caught != len(patches))


if __name__ == '__main__':
    main()
