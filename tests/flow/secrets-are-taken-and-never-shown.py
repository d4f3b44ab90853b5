#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Secrets are taken in every form, used by id, and shown nowhere: not in messages, not in traces."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import qblk  # noqa: E402
from imgtool import ImgTool  # noqa: E402
from qblk import MIB  # noqa: E402
from tap import main, need_qblk, test  # noqa: E402

PASSPHRASE = 'hunter2hunter2'
IV = 'MDEyMzQ1Njc4OWFiY2RlZg=='


@test('--object of the tool: what is refused is refused in the words of qemu-img')
def _(t):
    img = ImgTool(t)
    t.image('a.raw', MIB)
    key = 'secret,id=k,data=0123456789abcdef0123456789abcdef'
    for objects in (['secret,id=a'], ['secret,id=a,data=x,file=y'], ['secret,id=a,data=x,keyid=b'], ['foo,id=b'],
                    ['secret,data=x'], ['secret,id=a,data=x,format=foo'], ['secret,id=1 2,data=x'],
                    ['secret,id=k,data=x', f'secret,id=a,data=eHh4,keyid=k,format=base64,iv={IV}'],
                    [key, f'secret,id=a,data=eHh4,keyid=k,format=base64,iv={IV}'],
                    [key, 'secret,id=a,data=eHh4,keyid=k,format=base64,iv=MDEyMzQ1Njc4'], ['iothread,id=b'],
                    ['secret,id=a,data=x', 'secret,id=a,data=y'], ['{"qom-type":"secret","id":"q"}']):
        args = [arg for o in objects for arg in ('--object', o)]
        img.as_peer('compare', *args, '-f', 'raw', '-F', 'raw', 'a.raw', 'a.raw',
                    words='1 2' not in objects[0])
    for objects in (['secret,id=a,data=x'], ['secret,id=a,data='], ['{"qom-type":"secret","id":"q","data":"x"}'],
                    ['throttle-group,id=g'], ['secret,id=a,file=a.raw']):
        args = [arg for o in objects for arg in ('--object', o)]
        img.as_peer('compare', *args, '-f', 'raw', '-F', 'raw', 'a.raw', 'a.raw')


@test('object-add and object-del: a secret comes and goes, and cannot be read')
def _(t):
    need_qblk('has a secret that is not shown by qom-get')
    d = t.daemon()
    d.qmp('object-add', qom_type='secret', id='s', data=PASSPHRASE)
    e = d.qmp.error('object-add', qom_type='secret', id='s', data=PASSPHRASE)
    assert 'duplicate' in e.desc and PASSPHRASE not in e.desc, e.desc
    for name in ('data', 'file', 'format'):
        e = d.qmp.error('qom-get', path='s', property=name)
        assert PASSPHRASE not in e.desc, e.desc
    e = d.qmp.error('object-add', qom_type='secret', id='x', data=PASSPHRASE, keyid='s', iv=IV)
    assert 'Key should be 32 bytes in length' in e.desc, e.desc
    d.qmp('object-del', id='s')
    e = d.qmp.error('object-add', qom_type='secret', id='x', data=PASSPHRASE, keyid='s', iv=IV)
    assert "No secret with id 's'" in e.desc, e.desc


@test('a secret is in no message and in no trace')
def _(t):
    need_qblk('has these options')
    for text in (f'secret,id=a,data={PASSPHRASE},file=x', f'secret,id=a,data={PASSPHRASE},format=base65',
                 f'secret,data={PASSPHRASE}', f'secret,id=a,data={PASSPHRASE},bogus=1',
                 f'secret,id=a,data={PASSPHRASE}x,keyid=none,iv={IV}',
                 '{"qom-type":"secret","id":"a","data":"%s","bogus":1}' % PASSPHRASE,
                 '{"qom-type":"secret","id":"a","data":"%s",' % PASSPHRASE):
        for program in (qblk.DAEMON, os.path.join(qblk.BUILD, 'qblk-img')):
            args = ['compare', '--object', text, 'x', 'y'] if 'img' in program else ['--object', text]
            p = subprocess.run([qblk.absolute(program), *args], capture_output=True, text=True, cwd=t.dir,
                               timeout=qblk.DEADLINE, check=False, preexec_fn=qblk.die_with_parent)
            assert p.returncode > 0 and p.stderr, p
            assert PASSPHRASE not in p.stderr + p.stdout, p
    d = t.daemon('--object', f'secret,id=cmdline,data={PASSPHRASE}', '--trace', 'enable=*')
    d.qmp('object-add', qom_type='secret', id='s', data=PASSPHRASE)
    d.qmp('query-qmp-schema')
    with open(d.log_path, errors='replace') as f:
        log = f.read()
    assert 'object-add' in log and PASSPHRASE not in log, log


if __name__ == '__main__':
    main()
