# SPDX-License-Identifier: GPL-2.0-or-later
"""qapi-introspect.h and .c: the answer to query-qmp-schema.

Types that have a name in the schema get a number instead, so that nobody relies on the name.
Integers of all widths are "int".  Types appear in the order in which they are first named.
"""
import json

from .types import HEAD


class Introspection:
    def __init__(self, schema):
        self.schema = schema
        self.entries = []
        self.queue = []
        self.numbers = {}
        for command in schema.commands.values():
            self._add(command, {'name': command.name, 'meta-type': 'command',
                                'arg-type': self._ref(command.arg),
                                'ret-type': self._ref(command.ret)})
        for event in schema.events.values():
            self._add(event, {'name': event.name, 'meta-type': 'event',
                              'arg-type': self._ref(event.arg)})
        while self.queue:
            self._type(*self.queue.pop(0))

    def _add(self, thing, entry):
        if thing is not None and thing.features:
            entry['features'] = thing.features
        self.entries.append(entry)

    def _ref(self, type_):
        """The masked name of a type; None is the type of no members."""
        if type_ is not None and type_.kind == 'builtin':
            key = name = 'int' if type_.json_type == 'int' else type_.name
        elif type_ is not None and type_.kind == 'array':
            name = '[' + self._ref(type_.element) + ']'
            key = name
        else:
            key = type_.name if type_ is not None and self._has_content(type_) else ''
            name = str(len([n for n in self.numbers.values() if n.isdigit()]))
        if key not in self.numbers:
            self.numbers[key] = name
            self.queue.append((name, type_))
        return self.numbers[key]

    @staticmethod
    def _has_content(type_):
        return type_.kind != 'object' or type_.members()

    def _type(self, name, type_):
        if type_ is None:
            self._add(None, {'name': name, 'meta-type': 'object', 'members': []})
            return
        entry = {'name': name, 'meta-type': type_.kind}
        if type_.kind == 'builtin':
            entry['json-type'] = type_.json_type
        elif type_.kind == 'enum':
            entry['members'] = [self._features(v, {'name': v.name}) for v in type_.values]
            entry['values'] = type_.value_names()
        elif type_.kind == 'array':
            entry['element-type'] = self._ref(type_.element)
        elif type_.kind == 'alternate':
            entry['members'] = [{'type': self._ref(b.type)} for b in type_.branches]
        else:
            entry['members'] = [self._member(m) for m in type_.members()]
            if type_.tag:
                entry['tag'] = type_.tag.name
                entry['variants'] = [{'case': value, 'type': self._ref(type_.branches.get(value))}
                                     for value in type_.tag.type.value_names()]
        self._add(type_, entry)

    @staticmethod
    def _features(thing, entry):
        if thing.features:
            entry['features'] = thing.features
        return entry

    def _member(self, member):
        entry = {'name': member.name, 'type': self._ref(member.type)}
        if member.optional:
            entry['default'] = None
        return self._features(member, entry)


def write_header(schema):
    text = HEAD % ('qapi-introspect.h', schema.root)
    return 'qapi-introspect.h', text + '''#ifndef QAPI_INTROSPECT_H
#define QAPI_INTROSPECT_H

#include <stddef.h>

/* The SchemaInfo list, one JSON text for each element, in order. */
extern const char *const qapi_introspect_items[];
extern const size_t qapi_introspect_count;

#endif
'''


def write_source(schema):
    text = HEAD % ('qapi-introspect.c', schema.root)
    text += '''#include "qapi/qapi-introspect.h"

const char *const qapi_introspect_items[] = {
'''
    entries = Introspection(schema).entries
    for entry in entries:
        literal = json.dumps(entry, separators=(',', ':')).replace('"', '\\"')
        text += f'    "{literal}",\n'
    text += f'}};\nconst size_t qapi_introspect_count = {len(entries)};\n'
    return 'qapi-introspect.c', text
