#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What qblk-img and qblk-io print for bash completes their command lines; what they print for zsh is a script."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import qblk  # noqa: E402
from imgtool import IMG  # noqa: E402
from iotool import IO  # noqa: E402
from tap import main, test  # noqa: E402


def printed(program, shell):
    return subprocess.run([program, '--completion', shell], capture_output=True, text=True, check=True).stdout


def completed(t, program, *words):
    """What bash offers for the last word."""
    script = t.path('completion')
    with open(script, 'w', encoding='utf-8') as f:
        f.write(printed(program, 'bash'))
    name = os.path.basename(program)
    line = f'. {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _{name.replace("-", "_")}; ' \
        'printf "%s\\n" "${COMPREPLY[@]}"'
    p = subprocess.run(['bash', '-c', line, 'bash', name, *words], cwd=t.dir, capture_output=True, text=True, check=True)
    assert not p.stderr, p.stderr
    return p.stdout.split()


@test('bash: commands, options, their words, and files')
def _(t):
    t.image('disk.raw', 512)
    assert 'convert' in completed(t, IMG, '') and completed(t, IMG, 'reb') == ['rebase']
    assert completed(t, IMG, 'info', '--ba') == ['--backing-chain']
    assert completed(t, IMG, 'info', '--output', '') == ['human', 'json']
    assert completed(t, IMG, 'info', '-f', 'ra') == ['raw']
    assert completed(t, IMG, 'info', 'di') == ['disk.raw']
    assert completed(t, IO, '--im') == ['--image-opts'] and completed(t, IO, '-c', 'aio_w') == ['aio_write']
    assert completed(t, IO, '-t', 'writeb') == ['writeback'] and completed(t, IO, 'di') == ['disk.raw']


@test('bash: each long option that help shows is offered')
def _(t):
    for command in ('create', 'convert', 'bench'):
        text = subprocess.run([IMG, command, '--help'], capture_output=True, text=True, check=True).stdout
        shown = set(re.findall(r'^  (?:-\w, |    )(--[\w-]+)', text, re.M)) - {'--object'}
        assert shown <= set(completed(t, IMG, command, '-')), (command, shown)


@test('zsh: a script without mistakes; another shell is refused in words')
def _(t):
    for program in (IMG, IO):
        text = printed(program, 'zsh')
        assert text.startswith(f'#compdef {os.path.basename(program)}\n')
        if qblk.have('zsh'):
            subprocess.run(['zsh', '-n'], input=text, text=True, check=True)
        p = subprocess.run([program, '--completion', 'fish'], capture_output=True, text=True, check=False)
        assert p.returncode == 1 and "No completion for the shell 'fish'" in p.stderr, p


if __name__ == '__main__':
    main()
