#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/tracetool names the file and the line of a mistake.  Called with the tool's path."""
import os
import subprocess
import sys
import tempfile
import unittest

TOOL = sys.argv.pop(1)


class Tracetool(unittest.TestCase):
    def run_tool(self, text, group='some-group'):
        with tempfile.TemporaryDirectory() as directory:
            source = os.path.join(directory, 'trace-events')
            with open(source, 'w', encoding='utf-8') as out:
                out.write(text)
            done = subprocess.run([TOOL, '--group', group, source, directory],
                                  capture_output=True, text=True, check=False)
            made = {}
            for name in os.listdir(directory):
                with open(os.path.join(directory, name), encoding='utf-8') as made_file:
                    made[name] = made_file.read()
            return done, made

    def refuse(self, line, words):
        done, made = self.run_tool('# comment\n\n' + line + '\n')
        self.assertEqual(done.returncode, 1, line)
        self.assertIn('trace-events:3: ', done.stderr)
        self.assertIn(words, done.stderr)
        self.assertEqual(list(made), ['trace-events'])

    def test_an_event_becomes_a_function(self):
        done, made = self.run_tool('a_b(const char *s, uint64_t n) "s %s n %-5" PRIu64 "%%"\n')
        self.assertEqual(done.stderr, '')
        self.assertIn('static inline void trace_a_b(const char *s, uint64_t n)',
                      made['trace-some-group.h'])
        self.assertIn('STAP_PROBE2(qblk, a_b, s, n)', made['trace-some-group.h'])
        self.assertIn('TraceEvent trace_event_a_b', made['trace-some-group.c'])

    def test_a_file_without_events_is_fine(self):
        done, made = self.run_tool('# none yet\n')
        self.assertEqual(done.returncode, 0)
        self.assertIn('trace-some-group.c', made)

    def test_mistakes_are_named(self):
        self.refuse('a(int x)', 'text must begin')
        self.refuse('a int x "x %d"', 'this is not')
        self.refuse('disable a(int x) "x %d"', 'this is not')
        self.refuse('a(int) "x %d"', 'not a type and a name')
        self.refuse('a(unsigned int) "x %d"', 'has no name')
        self.refuse('a() "x"', "'void'")
        self.refuse('a(struct x y) "x %d"', 'neither a number, a string nor')
        self.refuse('a(Widget y) "x %d"', 'neither a number, a string nor')
        self.refuse('a(Widget *y) "x %p"', 'neither a number, a string nor')
        self.refuse('a(int x, int x) "%d %d"', "called 'x'")
        self.refuse('a(int x) "x %d %d"', '1 arguments but 2 conversions')
        self.refuse('a(int x) "x"', '1 arguments but 0 conversions')
        self.refuse('a(int x) "x %*d"', 'not known')
        self.refuse('a(int x) "x %n"', 'not known')
        self.refuse('a(int x) "x %d\\n"', 'without')
        self.refuse('a(int x) "x %" WRONG', 'neither a string nor')
        self.refuse('a(%s) "%s"' % (', '.join('int x%d' % i for i in range(13)), '%d' * 13),
                    'at most 12')

    def test_a_name_twice_is_refused(self):
        done, _ = self.run_tool('a(void) "x"\nb(void) "x"\na(void) "y"\n')
        self.assertIn("trace-events:3: event 'a' is already in line 1", done.stderr)

    def test_a_bad_group_is_refused(self):
        done, _ = self.run_tool('', group='../x')
        self.assertEqual(done.returncode, 1)
        self.assertIn("not a group's name", done.stderr)


unittest.main()
