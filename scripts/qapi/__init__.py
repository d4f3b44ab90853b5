# SPDX-License-Identifier: GPL-2.0-or-later
"""The QAPI generator: reads the schema in qapi/*.json, writes C and documentation.

    lexer/parser (parser.py) -> checked schema (schema.py) -> one module per output:
    types.py, commands.py, events.py, introspect.py, docs.py
"""
