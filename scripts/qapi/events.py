# SPDX-License-Identifier: GPL-2.0-or-later
"""qapi-events-MODULE.h and .c: one function for each event, which makes its data and sends it;
qapi-emit-events.h and .c: the enum of all events."""
from .commands import of_module, parameters
from .names import c_name
from .types import HEAD, guard, object_table, struct_body


def event_const(event):
    return 'QAPI_EVENT_' + c_name(event.name, False).upper()


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
        return text + f'    qapi_event_emit({event_const(event)}, "{event.name}", NULL);\n}}\n\n'
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
    return text + f'''    qapi_event_emit({event_const(event)}, "{event.name}",
                    qapi_to_json(&{event.arg.table()}, {value}));
}}

'''


def write_source(schema, module):
    filename = f'qapi-events-{module}.c'
    text = HEAD % (filename, module)
    text += f'#include "qapi/qapi-events-{module}.h"\n\n#include "qapi/qapi-emit-events.h"\n\n'
    for event in of_module(schema.events, module):
        text += sender(event)
    return filename, text


def write_emit_header(schema):
    text = HEAD % ('qapi-emit-events.h', schema.root)
    text += '#ifndef QAPI_EMIT_EVENTS_H\n#define QAPI_EMIT_EVENTS_H\n\n#include "qapi/type.h"\n\n'
    text += 'typedef enum QAPIEvent {\n'
    for event in schema.events.values():
        text += f'    {event_const(event)},\n'
    return 'qapi-emit-events.h', text + '''    QAPI_EVENT__MAX,
} QAPIEvent;

extern const QEnumLookup QAPIEvent_lookup;
static inline const char *QAPIEvent_str(QAPIEvent value)
{
    return qapi_enum_lookup(&QAPIEvent_lookup, value);
}

#endif
'''


def write_emit_source(schema):
    text = HEAD % ('qapi-emit-events.c', schema.root) + '#include "qapi/qapi-emit-events.h"\n\n'
    text += 'static const char *const words_QAPIEvent[] = {\n'
    for event in schema.events.values():
        text += f'    [{event_const(event)}] = "{event.name}",\n'
    text += '};\nconst QEnumLookup QAPIEvent_lookup = {words_QAPIEvent, QAPI_EVENT__MAX};\n'
    return 'qapi-emit-events.c', text
