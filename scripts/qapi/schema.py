# SPDX-License-Identifier: GPL-2.0-or-later
"""The checked schema: types with resolved references, commands, events.

Every mistake that can be seen without C is found here, so that the writers of C need no checks.
"""
from .names import c_name, c_enum_const
from .parser import Parser, SchemaError

# Built-in name: (type in C, JSON type in introspection, QType of a JSON value of it)
BUILTINS = {
    'str': ('char *', 'string', 'QTYPE_QSTRING'),
    'number': ('double', 'number', 'QTYPE_QNUM'),
    'int': ('int64_t', 'int', 'QTYPE_QNUM'),
    'int8': ('int8_t', 'int', 'QTYPE_QNUM'),
    'int16': ('int16_t', 'int', 'QTYPE_QNUM'),
    'int32': ('int32_t', 'int', 'QTYPE_QNUM'),
    'int64': ('int64_t', 'int', 'QTYPE_QNUM'),
    'uint8': ('uint8_t', 'int', 'QTYPE_QNUM'),
    'uint16': ('uint16_t', 'int', 'QTYPE_QNUM'),
    'uint32': ('uint32_t', 'int', 'QTYPE_QNUM'),
    'uint64': ('uint64_t', 'int', 'QTYPE_QNUM'),
    'size': ('uint64_t', 'int', 'QTYPE_QNUM'),
    'bool': ('bool', 'boolean', 'QTYPE_QBOOL'),
    'any': ('json_t *', 'value', None),
    'null': ('QNull', 'null', 'QTYPE_QNULL'),
}

KEYS = {
    'enum': {'data', 'prefix', 'features'},
    'struct': {'data', 'base', 'features'},
    'union': {'base', 'discriminator', 'data', 'features'},
    'alternate': {'data', 'features'},
    'command': {'data', 'boxed', 'returns', 'gen', 'coroutine', 'features'},
    'event': {'data', 'boxed', 'features'},
}


class Type:
    """What all types have; `qtype` is the kind of JSON value, None for any."""
    kind = None
    qtype = None
    pointer = False     # is held by a pointer where it is a member

    def __init__(self, name, module=None, doc=None, where=None, features=()):
        self.name = name
        self.module = module
        self.doc = doc
        self.where = where
        self.features = list(features)

    def c_type(self):
        return self.name + (' *' if self.pointer else '')

    def table(self):
        """The name of its description at run time."""
        return 'qapi_type_' + c_name(self.name, False)


class Builtin(Type):
    kind = 'builtin'

    def __init__(self, name):
        super().__init__(name)
        self.ctype, self.json_type, self.qtype = BUILTINS[name]
        self.pointer = self.ctype.endswith('*')

    def c_type(self):
        return self.ctype


class Enum(Type):
    kind = 'enum'
    qtype = 'QTYPE_QSTRING'

    def __init__(self, name, values, prefix, **rest):
        super().__init__(name, **rest)
        self.values = values            # of Member, type None
        self.prefix = prefix

    def const(self, value):
        return c_enum_const(self.name, value, self.prefix)

    def value_names(self):
        return [value.name for value in self.values]


class Member:
    def __init__(self, name, type_=None, optional=False, features=()):
        self.name = name
        self.type = type_
        self.optional = optional
        self.features = list(features)

    def c_name(self):
        return c_name(self.name)

    def has_flag(self):
        """Absence of a pointer is NULL; everything else needs has_NAME."""
        return self.optional and not self.type.pointer


class Object(Type):
    """A struct, a union, or the implicit struct of a command's or an event's data."""
    kind = 'object'
    qtype = 'QTYPE_QDICT'
    pointer = True

    def __init__(self, name, **rest):
        super().__init__(name, **rest)
        self.base = None
        self.local = []
        self.tag = None                 # Member of an enum type
        self.branches = {}              # value -> Object
        self.implicit = False

    def members(self):
        return (self.base.members() if self.base else []) + self.local


class Alternate(Type):
    kind = 'alternate'
    pointer = True

    def __init__(self, name, **rest):
        super().__init__(name, **rest)
        self.branches = []              # of Member


class Array(Type):
    kind = 'array'
    qtype = 'QTYPE_QLIST'
    pointer = True

    def __init__(self, element):
        super().__init__(element.name + 'List', element.module)
        self.element = element

    def c_type(self):
        return self.name + ' *'


class Command:
    def __init__(self, name, expr, arg, ret):
        self.name = name
        self.arg = arg                  # Object or None
        self.ret = ret                  # Type or None
        self.boxed = expr.data.get('boxed', False)
        self.gen = expr.data.get('gen', True)
        self.coroutine = expr.data.get('coroutine', False)
        self.doc = expr.doc
        self.module = expr.module
        self.where = expr.where
        self.features = expr.data.get('features', [])


class Event(Command):
    def __init__(self, name, expr, arg):
        super().__init__(name, expr, arg, None)


class Schema:
    """types, commands, events: by name, in the order of the files; `sequence` is all of them and
    the headings, for the documentation."""

    def __init__(self, path):
        parser = Parser(path)
        self.modules = parser.modules
        self.root = parser.module
        self.types = {name: Builtin(name) for name in BUILTINS}
        self.arrays = {}
        self.commands = {}
        self.events = {}
        self.sequence = []
        exprs = [self._check_keys(expr) for expr in parser.exprs if expr.data]
        for meta, name, expr in exprs:
            self._declare(meta, name, expr)
        for meta, name, expr in exprs:
            self._define(meta, name, expr)
        for meta, name, expr in exprs:
            self._check(meta, name, expr)
        by_expr = {id(expr): self._thing(meta, name) for meta, name, expr in exprs}
        for expr in parser.exprs:
            self.sequence.append(by_expr[id(expr)] if expr.data else expr.doc)

    def _thing(self, meta, name):
        tables = {'command': self.commands, 'event': self.events}
        return tables.get(meta, self.types)[name]

    def _check_keys(self, expr):
        metas = [key for key in KEYS if key in expr.data]
        if len(metas) != 1:
            raise SchemaError(expr.where, 'not one of ' + ', '.join(KEYS))
        meta = metas[0]
        for key in expr.data:
            if key != meta and key not in KEYS[meta]:
                raise SchemaError(expr.where, f"a {meta} has no '{key}'")
        name = expr.data[meta]
        if not expr.doc or expr.doc.name != name:
            raise SchemaError(expr.where, f"'{name}' has no documentation block of its name")
        return meta, name, expr

    def _declare(self, meta, name, expr):
        if name in self.types or name in self.commands or name in self.events:
            raise SchemaError(expr.where, f"'{name}' is defined twice")
        rest = {'module': expr.module, 'doc': expr.doc, 'where': expr.where,
                'features': expr.data.get('features', [])}
        if meta == 'enum':
            values = [Member(v['name'], None, False, v.get('features', [])) if isinstance(v, dict)
                      else Member(v) for v in expr.data['data']]
            self.types[name] = Enum(name, values, expr.data.get('prefix'), **rest)
        elif meta in ('struct', 'union'):
            self.types[name] = Object(name, **rest)
        elif meta == 'alternate':
            self.types[name] = Alternate(name, **rest)

    def lookup(self, ref, where):
        if isinstance(ref, list):
            if len(ref) != 1:
                raise SchemaError(where, 'an array type names one element type')
            element = self.lookup(ref[0], where)
            if element.kind == 'array':
                raise SchemaError(where, 'an array of arrays is not supported')
            return self.arrays.setdefault(element.name, Array(element))
        if ref not in self.types:
            raise SchemaError(where, f"there is no type '{ref}'")
        return self.types[ref]

    def _members(self, data, where):
        result = []
        for name, spec in data.items():
            spec = spec if isinstance(spec, dict) else {'type': spec}
            optional = name.startswith('*')
            result.append(Member(name.lstrip('*'), self.lookup(spec['type'], where), optional,
                                 spec.get('features', [])))
        return result

    def _define(self, meta, name, expr):
        data = expr.data.get('data')
        if meta == 'struct':
            struct = self.types[name]
            if 'base' in expr.data:
                struct.base = self.lookup(expr.data['base'], expr.where)
            struct.local = self._members(data, expr.where)
        elif meta == 'union':
            self._define_union(self.types[name], expr)
        elif meta == 'alternate':
            self.types[name].branches = self._members(data, expr.where)
        elif meta in ('command', 'event'):
            arg = None
            if isinstance(data, str):
                arg = self.lookup(data, expr.where)
            elif data:
                arg = Object('q_obj_%s_arg' % c_name(name, False), module=expr.module,
                             doc=expr.doc, where=expr.where)
                arg.implicit = True
                arg.local = self._members(data, expr.where)
            if meta == 'event':
                self.events[name] = Event(name, expr, arg)
            else:
                ret = expr.data.get('returns')
                ret = self.lookup(ret, expr.where) if ret else None
                self.commands[name] = Command(name, expr, arg, ret)

    def _define_union(self, union, expr):
        base = expr.data['base']
        if isinstance(base, dict):
            union.local = self._members(base, expr.where)
        else:
            union.base = self.lookup(base, expr.where)
        tag = expr.data['discriminator']
        found = [m for m in (union.local or union.base.local) if m.name == tag]
        if len(found) != 1 or not isinstance(found[0].type, Enum) or found[0].optional:
            raise SchemaError(expr.where, f"discriminator '{tag}' is not an enum member")
        union.tag = found[0]
        for value, ref in expr.data['data'].items():
            if value not in union.tag.type.value_names():
                raise SchemaError(expr.where, f"branch '{value}' is not in the discriminator")
            union.branches[value] = self.lookup(ref, expr.where)
            if union.branches[value].kind != 'object':
                raise SchemaError(expr.where, f"branch '{value}' is not a struct")

    def _check(self, meta, name, expr):
        thing = self._thing(meta, name)
        if meta == 'enum':
            names = thing.value_names()
        elif meta == 'alternate':
            names = [branch.name for branch in thing.branches]
            self._check_alternate(thing, expr)
        elif meta in ('struct', 'union'):
            names = [member.name for member in thing.local]
            self._check_object(thing, expr)
        else:
            own = thing.arg and thing.arg.implicit
            names = [member.name for member in thing.arg.local] if own else []
            self._check_call(thing, expr)
        for missing in [n for n in names if n not in expr.doc.members]:
            raise SchemaError(expr.doc.where, f"'@{missing}' of '{name}' is not documented")
        for extra in [n for n in expr.doc.members if n not in names]:
            raise SchemaError(expr.doc.where, f"'{name}' has no '@{extra}'")

    @staticmethod
    def _check_object(thing, expr):
        for sub in [thing] + list(thing.branches.values()):
            names = [m.name for m in thing.members()]
            if sub is not thing:
                names += [m.name for m in sub.members()]
            for twice in [n for n in names if names.count(n) > 1]:
                raise SchemaError(expr.where, f"member '{twice}' appears twice")

    @staticmethod
    def _check_alternate(thing, expr):
        kinds = [branch.type.qtype for branch in thing.branches]
        if None in kinds or len(set(kinds)) != len(kinds):
            raise SchemaError(expr.where, 'the branches of an alternate differ in JSON type')
        scalars = [k for k in kinds if k in ('QTYPE_QSTRING', 'QTYPE_QNUM', 'QTYPE_QBOOL')]
        if len(scalars) > 1:
            raise SchemaError(expr.where, 'key=value input could not tell the branches apart')

    @staticmethod
    def _check_call(thing, expr):
        if thing.arg is not None and thing.arg.kind != 'object':
            raise SchemaError(expr.where, 'the data of a command or event is an object')
        if thing.arg is not None and thing.arg.tag and not thing.boxed:
            raise SchemaError(expr.where, "a union as data needs 'boxed': true")
        if thing.boxed and thing.arg is None:
            raise SchemaError(expr.where, "'boxed' needs data")
