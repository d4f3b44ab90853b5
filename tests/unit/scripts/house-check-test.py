#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/house-check must fail where a rule is broken: a small house, and one fault at a time."""
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
CHECK = os.path.join(ROOT, 'scripts/house-check')
LICENCE = 'SPDX-License-Identifier: GPL-2.0-or-later'
C = f'/* {LICENCE} */\n'

# A house with nothing wrong.
GOOD = {
    '.clang-format': 'DisableFormat: false\nBasedOnStyle: LLVM\n',
    'include/util/word.h': C + '/* A word. */\n#ifndef UTIL_WORD_H\n#define UTIL_WORD_H\n'
                               'int word(void);\n#endif\n',
    'include/block/io/io.h': C + '#ifndef IO_H\n#define IO_H\n#define coroutine_fn\n'
                                 '/* Reads; yields. */\nint coroutine_fn bdrv_co_x(void);\n#endif\n',
    'util/word.c': C + '/* A word. */\n#include "util/word.h"\n\nint word(void) { return 1; }\n',
    'util/meson.build': f"# {LICENCE}\nutil_lib = static_library('util', 'word.c')\n"
                        'util_dep = declare_dependency(link_with: util_lib)\n',
    'block/io/io.c': C + '/* Requests. */\n#include "block/io/io.h"\n\n#include "util/word.h"\n',
    'block/io/meson.build': f"# {LICENCE}\nio_lib = static_library('io', 'io.c')\n"
                            'io_dep = declare_dependency(dependencies: [util_dep])\n',
    'block/io/trace-events': '',
}

# What is broken: (sentence, rule, file, its text or None to take it away, words of the complaint).
FAULTS = [
    ('an include upward', 'floors', 'util/word.c',
     C + '/* A word. */\n#include "block/io/io.h"\n', 'util (floor 0) may not name block/io'),
    ('a link upward', 'floors', 'util/meson.build',
     f"# {LICENCE}\nstatic_library('util', 'word.c', dependencies: [io_dep])\n",
     'util may not link block/io'),
    ('a sibling', 'floors', 'block/dirty/d.c', C + '/* D. */\n#include "block/io/io.h"\n',
     'block/dirty (floor 4) may not name block/io'),
    ('a file in no room', 'floors', 'block/attic/a.c', C + '/* A. */\n', 'stands in no room'),
    ('a header that needs another one', 'headers', 'include/util/word.h',
     C + 'size_t word(uint8_t x);\n', 'does not compile alone'),
    ('a file that is too long', 'sizes', 'util/word.c', C + '/* A word. */\n' + '\n' * 800,
     '800 are the limit'),
    ('a function that is too long', 'sizes', 'util/word.c',
     C + '/* W. */\nint word(void)\n{\n' + '    word();\n' * 100 + '    return 1;\n}\n',
     'word() has 104 lines'),
    ('a missing licence', 'heads', 'util/word.c', '/* A word. */\n', 'does not begin with'),
    ('a file without its idea', 'heads', 'util/word.c', C + '#include "util/word.h"\nint x;\nint y;\n',
     'does not say what it is for'),
    ('a missing contract', 'contracts', 'include/block/io/io.h',
     C + '#define coroutine_fn\n\nint coroutine_fn bdrv_co_x(void);\n', 'says what it promises'),
    ('something left for later', 'words', 'util/word.c', C + '/* TO' + 'DO: a word. */\n',
     'do it now'),
    ('a word about the machinery', 'words', 'util/word.c', C + '/* by Chat' + 'GPT */\n',
     'is no word of this project'),
    ('another format', 'format', 'util/word.c', C + '/* A word. */\nint   word( void ){return 1;}\n',
     'clang-format would change'),
    ('a file that nobody builds', 'wiring', 'util/alone.c', C + '/* Alone. */\n',
     'is in no meson.build'),
    ('an event that nobody calls', 'wiring', 'block/io/trace-events',
     'io_start(int64_t offset) "offset %" PRId64\n', 'io_start is called nowhere'),
]


def build_house(root, path=None, text=None):
    files = dict(GOOD)
    if path:
        files[path] = text
    for name, content in files.items():
        full = os.path.join(root, name)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, 'w') as f:
            f.write(content)


def check(*rules, path=None, text=None):
    root = tempfile.mkdtemp(prefix='house-')
    try:
        build_house(root, path, text)
        p = subprocess.run([sys.executable, CHECK, '--root', root, *rules], capture_output=True,
                           text=True, check=False)
        return p.returncode, p.stdout + p.stderr
    finally:
        shutil.rmtree(root)


def tell(number, good, sentence, said):
    if not good:
        for line in said.splitlines():
            print('# ' + line)
    print(f'{"ok" if good else "not ok"} {number} - {sentence}', flush=True)
    return good


def main():
    print(f'1..{len(FAULTS) + 1}')
    status, said = check()
    good = [tell(1, status == 0, 'a good house passes', said)]
    for number, (sentence, rule, path, text, words) in enumerate(FAULTS, 2):
        status, said = check(rule, path=path, text=text)
        good.append(tell(number, status == 1 and words in said, f'{sentence} is found', said))
    sys.exit(0 if all(good) else 1)


if __name__ == '__main__':
    main()
