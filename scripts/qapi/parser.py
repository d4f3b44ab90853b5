# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading a schema file: JSON with single quotes and comments, and `##` documentation blocks.

A file is a list of expressions.  A documentation block belongs to the expression that follows
it; a block whose first line is `# = Title` is a chapter heading and belongs to nothing.
"""
import os
import re


class SchemaError(Exception):
    """A mistake in the schema; `where` is "file:line"."""

    def __init__(self, where, message):
        super().__init__(f'{where}: {message}')


class Expr:
    """One top-level expression with its documentation."""

    def __init__(self, data, doc, where, module):
        self.data = data
        self.doc = doc
        self.where = where
        self.module = module


class Doc:
    """A documentation block, taken apart.

    body:     paragraphs that describe the thing
    members:  name -> text, from "@name: text"
    features: name -> text, those below a "Features:" line
    notes:    list of (tag, text) for Returns, Errors, Since, Example
    """

    TAGS = ('Returns', 'Errors', 'Since', 'Example', 'Note')

    def __init__(self, lines, where):
        self.where = where
        self.name = None
        self.title = None
        self.body = ''
        self.members = {}
        self.features = {}
        self.notes = []
        self._split(lines)

    def _split(self, lines):
        if lines and lines[0].startswith('= '):
            self.title = lines[0][2:].strip()
            self.body = '\n'.join(lines[1:]).strip()
            return
        while lines and not lines[0].strip():
            lines = lines[1:]
        match = re.match(r'@([\w.-]+):\s*$', lines[0]) if lines else None
        if not match:
            raise SchemaError(self.where, "a documentation block begins with '@name:' or '= Title'")
        self.name = match.group(1)
        parts = [('body', None, [])]
        into = 'member'
        for line in lines[1:]:
            member = re.match(r'@([\w.-]+):(?:\s+(.*))?$', line)
            tag = re.match(r'(%s):(?:\s+(.*))?$' % '|'.join(self.TAGS), line)
            if line.strip() == 'Features:':
                into = 'feature'
            elif member:
                parts.append((into, member.group(1), [member.group(2) or '']))
            elif tag:
                parts.append(('note', tag.group(1), [tag.group(2) or '']))
            else:
                parts[-1][2].append(line)
        for kind, name, text in parts:
            self._store(kind, name, dedent(text))

    def _store(self, kind, name, text):
        if kind == 'body':
            self.body = text
        elif kind == 'note':
            self.notes.append((name, text))
        else:
            table = self.members if kind == 'member' else self.features
            if name in table:
                raise SchemaError(self.where, f"'@{name}' is documented twice")
            table[name] = text


def dedent(lines):
    """Joins the lines of a section; its continuation lines lose their common indent."""
    first, rest = lines[0], lines[1:]
    margins = [len(line) - len(line.lstrip()) for line in rest if line.strip()]
    margin = min(margins) if margins else 0
    return '\n'.join([first] + [line[margin:] for line in rest]).strip()


def module_name(path):
    return os.path.splitext(os.path.basename(path))[0]


class Parser:
    """Parses one file, and what it includes, into `exprs`; each file is read once.

    modules: file name without its ending -> the modules it includes; shared by all files.
    """

    TOKEN = re.compile(r"\s*(?:(?P<punct>[{}\[\]:,])|'(?P<string>[^'\n]*)'|(?P<word>true|false))")

    def __init__(self, path, modules=None):
        self.path = path
        self.modules = modules if modules is not None else {}
        self.exprs = []
        self.module = module_name(path)
        self.modules[self.module] = []
        with open(path, encoding='utf-8') as source:
            self.lines = source.read().split('\n')
        self.line = 0
        self.text = ''
        self._parse()

    def where(self):
        return f'{self.path}:{self.line}'

    def _parse(self):
        doc = None
        while self._next_line():
            stripped = self.text.strip()
            if stripped == '##':
                if doc:
                    raise SchemaError(doc.where, 'a documentation block describes nothing')
                doc = self._doc_block()
                if doc.title:
                    self.exprs.append(Expr(None, doc, doc.where, self.module))
                    doc = None
            elif stripped and not stripped.startswith('#'):
                where = self.where()
                data = self._value()
                self._finish(Expr(data, doc, where, self.module))
                doc = None
        if doc:
            raise SchemaError(doc.where, 'a documentation block describes nothing')

    def _finish(self, expr):
        if not isinstance(expr.data, dict):
            raise SchemaError(expr.where, 'an expression is an object')
        if 'include' not in expr.data:
            self.exprs.append(expr)
            return
        path = os.path.join(os.path.dirname(self.path), expr.data['include'])
        self.modules[self.module].append(module_name(path))
        if module_name(path) not in self.modules:
            self.exprs += Parser(path, self.modules).exprs

    def _next_line(self):
        if self.line >= len(self.lines):
            return False
        self.text = self.lines[self.line]
        self.line += 1
        return True

    def _doc_block(self):
        where = self.where()
        lines = []
        while self._next_line():
            stripped = self.text.strip()
            if stripped == '##':
                return Doc(lines, where)
            if not stripped.startswith('#'):
                raise SchemaError(self.where(), "a documentation block ends with '##'")
            lines.append(stripped[2:] if stripped.startswith('# ') else stripped[1:])
        raise SchemaError(where, 'a documentation block has no end')

    def _token(self):
        while True:
            match = self.TOKEN.match(self.text)
            if match:
                self.text = self.text[match.end():]
                return match
            rest = self.text.strip()
            if rest and not rest.startswith('#'):
                raise SchemaError(self.where(), f"cannot read '{rest}'")
            if not self._next_line():
                raise SchemaError(self.where(), 'the file ends inside an expression')

    def _value(self, token=None):
        token = token or self._token()
        if token['string'] is not None:
            return token['string']
        if token['word']:
            return token['word'] == 'true'
        if token['punct'] == '{':
            return self._object()
        if token['punct'] == '[':
            return self._array()
        raise SchemaError(self.where(), f"unexpected '{token['punct']}'")

    def _object(self):
        result = {}
        token = self._token()
        if token['punct'] == '}':
            return result
        while True:
            key = token['string']
            if key is None or self._token()['punct'] != ':':
                raise SchemaError(self.where(), "expected 'name': value")
            if key in result:
                raise SchemaError(self.where(), f"'{key}' is given twice")
            result[key] = self._value()
            token = self._token()
            if token['punct'] == '}':
                return result
            if token['punct'] != ',':
                raise SchemaError(self.where(), "expected ',' or '}'")
            token = self._token()

    def _array(self):
        result = []
        token = self._token()
        if token['punct'] == ']':
            return result
        while True:
            result.append(self._value(token))
            token = self._token()
            if token['punct'] == ']':
                return result
            if token['punct'] != ',':
                raise SchemaError(self.where(), "expected ',' or ']'")
            token = self._token()
