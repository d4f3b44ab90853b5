# SPDX-License-Identifier: GPL-2.0-or-later
"""qapi-events-MODULE.h and .c: one function for each event, which makes its data and sends it."""
from .commands import of_module, parameters
from .names import c_name
from .types import HEAD, guard, object_table, struct_body


def prototype(event):
    params = ', '.join(parameters(event)) or 'void'
    return f'void qapi_event_send_{c_name(event.name, False).lower()}({params})'


def write_header(schema, module):
    filename = f'qapi-events-{module}.h'
    text = HEAD % (filename, module)
    text += f'#ifndef {guard(filename)}\n#define {guard(filename)}\n\n#include "qapi/event.h"\n'
    text += f'#include "qapi/qapi-types-{module}.h"\n'
    for included in schema.modules[module]:
        text += f'#include "qapi/qapi-events-{included}.h"\n'
    text += '\n/* Parameters are borrowed.  Any thread; see qapi/event.h. */\n'
    for event in of_module(schema.events, module):
        text += prototype(event) + ';\n'
    return filename, text + '\n#endif\n'


def sender(event):
    text = ''
    if event.arg and event.arg.implicit:
        text += f'typedef struct {event.arg.name} {event.arg.name};\n'
        text += struct_body(event.arg) + object_table(event.arg, static=True)
    text += prototype(event) + '\n{\n'
    if event.arg is None:
        return text + f'    qapi_event_emit("{event.name}", NULL);\n}}\n\n'
    value = 'arg'
    if not event.boxed:
        value = '&arg'
        text += f'    {event.arg.name} arg = {{\n'
        for member in event.arg.members():
            if member.has_flag():
                has = 'has_' + c_name(member.name, False)
                text += f'        .{has} = {has},\n'
            cast = f'({member.type.c_type()})' if member.type.pointer else ''
            text += f'        .{member.c_name()} = {cast}{member.c_name()},\n'
        text += '    };\n\n'
    return text + f'''    qapi_event_emit("{event.name}", qapi_to_json(&{event.arg.table()}, {value}));
}}

'''


def write_source(schema, module):
    filename = f'qapi-events-{module}.c'
    text = HEAD % (filename, module)
    text += f'#include "qapi/qapi-events-{module}.h"\n\n'
    for event in of_module(schema.events, module):
        text += sender(event)
    return filename, text
