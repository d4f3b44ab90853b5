# SPDX-License-Identifier: GPL-2.0-or-later
"""qapi-commands-MODULE.h and .c: prototypes of the handlers, and the functions that call them;
qapi-init-commands.h and .c: the table of all commands.

A handler qmp_NAME() is written by hand, in the monitor's command files.
"""
from .names import c_name
from .types import HEAD, guard, object_table, struct_body

NO_ARGS = '''typedef struct q_no_args {
    char qapi_empty;
} q_no_args;
static const QapiType qapi_type_no_args = {
    .name = "no arguments",
    .kind = QAPI_KIND_STRUCT,
    .size = sizeof(q_no_args),
};

'''


def c_const_param(type_):
    """A parameter's type: strings are borrowed and so const."""
    ctype = type_.c_type()
    return 'const char *' if ctype == 'char *' else ctype


def parameter(type_, name):
    ctype = c_const_param(type_)
    return f'{ctype}{"" if ctype.endswith("*") else " "}{name}'


def parameters(call):
    """The parameters of a handler or an event sender, without errp."""
    if call.arg is None:
        return []
    if call.boxed:
        return [f'{call.arg.name} *arg']
    result = []
    for member in call.arg.members():
        if member.has_flag():
            result.append(f'bool has_{c_name(member.name, False)}')
        result.append(parameter(member.type, member.c_name()))
    return result


def prototype(command):
    name = 'qmp_' + c_name(command.name, False)
    if not command.gen:
        return f'void coroutine_fn {name}(json_t *args, json_t **ret, Error **errp)'
    ret = command.ret.c_type() if command.ret else 'void'
    space = '' if ret.endswith('*') else ' '
    return f'{ret}{space}coroutine_fn {name}({", ".join(parameters(command) + ["Error **errp"])})'


def arguments(command):
    if command.arg is None:
        return []
    if command.boxed:
        return ['&arg']
    result = []
    for member in command.arg.members():
        if member.has_flag():
            result.append(f'arg.has_{c_name(member.name, False)}')
        result.append(f'arg.{member.c_name()}')
    return result


def to_json(type_, value):
    """An expression of C that makes JSON of a handler's result, and what frees the result."""
    if type_.kind in ('object', 'alternate', 'array'):
        return f'qapi_to_json(&{type_.table()}, {value})', f'qapi_free(&{type_.table()}, {value});'
    if type_.name == 'str':
        return f'json_string({value})', f'g_free({value});'
    if type_.name == 'bool':
        return f'json_boolean({value})', ''
    if type_.name == 'number':
        return f'json_real({value})', ''
    if type_.name == 'any':
        return f'{value}', ''
    if type_.kind == 'enum':
        return f'json_string({type_.name}_str({value}))', ''
    return f'json_integer({value})', ''


def marshal_prototype(command):
    return (f'void coroutine_fn qmp_marshal_{c_name(command.name, False)}'
            '(json_t *args, json_t **ret, Error **errp)')


def marshal(command):
    name = c_name(command.name, False)
    head = marshal_prototype(command) + '\n{\n'
    if not command.gen:
        return head + f'    qmp_{name}(args, ret, errp);\n}}\n\n'
    table = command.arg.table() if command.arg else 'qapi_type_no_args'
    struct = command.arg.name if command.arg else 'q_no_args'
    text = head + '    Error *err = NULL;\n'
    text += f'    {struct} arg = {{0}};\n'
    if command.ret:
        ctype = command.ret.c_type()
        text += f'    {ctype}{"" if ctype.endswith("*") else " "}result;\n'
    text += f'''
    if (!qapi_read_struct(&{table}, args, &arg, &err)) {{
        goto out;
    }}
'''
    call = f'qmp_{name}({", ".join(arguments(command) + ["&err"])});'
    if command.ret:
        made, freed = to_json(command.ret, 'result')
        text += f'    result = {call}\n    if (!err) {{\n        *ret = {made};\n'
        text += f'        {freed}\n    }}\n' if freed else '    }\n'
    else:
        text += f'    {call}\n'
    return text + f'''out:
    qapi_clear_struct(&{table}, &arg);
    error_propagate(errp, err);
}}

'''


def of_module(things, module):
    return [thing for thing in things.values() if thing.module == module]


def write_header(schema, module):
    filename = f'qapi-commands-{module}.h'
    text = HEAD % (filename, module)
    text += f'#ifndef {guard(filename)}\n#define {guard(filename)}\n\n#include "coro/coroutine.h"\n'
    text += f'#include "qapi/qapi-types-{module}.h"\n'
    for included in schema.modules[module]:
        text += f'#include "qapi/qapi-commands-{included}.h"\n'
    text += '''
/*
 * qmp_x() are the handlers, one for each command, written by hand.  Context: coroutine, main
 * AioContext.  Parameters are borrowed until the handler returns; a result is the caller's.  A handler
 * fails by setting *errp; its result is then ignored, and what it had made it has freed.
 */
'''
    for command in of_module(schema.commands, module):
        text += prototype(command) + ';\n' + marshal_prototype(command) + ';\n'
    return filename, text + '\n#endif\n'


def write_source(schema, module):
    filename = f'qapi-commands-{module}.c'
    text = HEAD % (filename, module)
    text += f'#include "qapi/qapi-commands-{module}.h"\n\n'
    commands = of_module(schema.commands, module)
    if [c for c in commands if c.gen and not c.arg]:
        text += NO_ARGS
    for command in commands:
        if command.arg and command.arg.implicit and command.gen:
            text += f'typedef struct {command.arg.name} {command.arg.name};\n'
            text += struct_body(command.arg) + object_table(command.arg, static=True)
        text += marshal(command)
    return filename, text


def write_init_header(schema):
    return 'qapi-init-commands.h', HEAD % ('qapi-init-commands.h', schema.root) + '''\
#ifndef QAPI_INIT_COMMANDS_H
#define QAPI_INIT_COMMANDS_H

#include "monitor/monitor.h"

/* All commands, in the order of the schema; for monitor_set_commands(). */
extern const QmpCommand qapi_commands[];
extern const size_t qapi_commands_count;

#endif
'''


def write_init_source(schema):
    text = HEAD % ('qapi-init-commands.c', schema.root) + '#include "qapi/qapi-init-commands.h"\n\n'
    for module in schema.modules:
        text += f'#include "qapi/qapi-commands-{module}.h"\n'
    text += '\nconst QmpCommand qapi_commands[] = {\n'
    for command in schema.commands.values():
        text += (f'    {{"{command.name}", qmp_marshal_{c_name(command.name, False)}, '
                 f'{"true" if command.coroutine else "false"}}},\n')
    text += '};\nconst size_t qapi_commands_count = G_N_ELEMENTS(qapi_commands);\n'
    return 'qapi-init-commands.c', text
