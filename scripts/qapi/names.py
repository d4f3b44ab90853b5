# SPDX-License-Identifier: GPL-2.0-or-later
"""Names in C for names in the schema."""
import re

# Words that C or a system header has taken; they get "q_" in front.
TAKEN = set('''
    auto break case char const continue default do double else enum extern float for goto if inline
    int long register restrict return short signed sizeof static struct switch typedef union unsigned
    void volatile while asm typeof bool errno linux unix sun
'''.split())


def c_name(name, protect=True):
    """'node-name' -> node_name, 'unix' -> q_unix"""
    result = re.sub(r'[^A-Za-z0-9_]', '_', name)
    if protect and (result in TAKEN or result[0].isdigit()):
        result = 'q_' + result
    return result


def camel_to_upper(name):
    """'BlkdebugIOType' -> BLKDEBUG_IO_TYPE"""
    name = re.sub(r'([a-z0-9])([A-Z])', r'\1_\2', name)
    name = re.sub(r'([A-Z])([A-Z][a-z])', r'\1_\2', name)
    return name.upper()


def c_enum_const(type_name, value, prefix=None):
    """('MirrorSyncMode', 'full') -> MIRROR_SYNC_MODE_FULL"""
    return (prefix or camel_to_upper(type_name)) + '_' + c_name(value, False).upper()
