# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates and keys for tests, made with openssl."""
import os
import secrets
import subprocess

import qblk
from tap import Skip


def _openssl(*args):
    subprocess.run(['openssl', *args], check=True, capture_output=True, timeout=qblk.DEADLINE)


class Authority:
    """A CA in a directory of its own."""

    def __init__(self, directory, name):
        if not qblk.have('openssl'):
            raise Skip('openssl is not installed')
        self.dir = os.path.join(directory, name)
        os.mkdir(self.dir)
        _openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', self.path('ca-key.pem'),
                 '-out', self.path('ca-cert.pem'), '-days', '2', '-subj', f'/CN={name}',
                 '-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign')

    def path(self, name):
        return os.path.join(self.dir, name)

    def sign(self, directory, who, subject, names=''):
        """A directory with the credentials of a 'server' or a 'client'."""
        os.mkdir(directory)
        request, extensions = (os.path.join(directory, n) for n in ('request.pem', 'extensions'))
        _openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', os.path.join(directory, f'{who}-key.pem'),
                 '-out', request, '-subj', subject)
        with open(extensions, 'w', encoding='ascii') as f:
            f.write(f'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\n'
                    f'extendedKeyUsage={who}Auth\n' + (f'subjectAltName={names}\n' if names else ''))
        _openssl('x509', '-req', '-in', request, '-CA', self.path('ca-cert.pem'), '-CAkey', self.path('ca-key.pem'),
                 '-CAcreateserial', '-days', '1', '-extfile', extensions,
                 '-out', os.path.join(directory, f'{who}-cert.pem'))
        with open(self.path('ca-cert.pem'), 'rb') as a, open(os.path.join(directory, 'ca-cert.pem'), 'wb') as b:
            b.write(a.read())
        return directory


def keys(directory, *names):
    os.mkdir(directory)
    with open(os.path.join(directory, 'keys.psk'), 'w', encoding='ascii') as f:
        f.writelines(f'{name}:{secrets.token_hex(32)}\n' for name in names)
    return directory
