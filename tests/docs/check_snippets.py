#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares the code in the documents with the code that the tests compile.

A document marks a block with <!-- snippet: FILE NAME --> on the line before its fence; the block must be what stands between
`// [NAME]` and `// [/NAME]` in tests/docs/FILE, less its indentation. Every snippet must be shown, and every C++ block marked.

usage: check_snippets.py ROOT [--fix]     --fix writes the snippets into the documents
"""
import pathlib
import re
import sys
import textwrap

SNIPPET = re.compile(r"^[ \t]*// \[([\w-]+)\]\n(.*?)^[ \t]*// \[/\1\]\n", re.MULTILINE | re.DOTALL)
SHOWN = re.compile(r"<!-- snippet: (\S+) (\S+) -->\n```cpp\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```(?:cpp|cuda|c\+\+|cxx)$", re.MULTILINE)


def main(root: pathlib.Path, fix: bool) -> int:
    code = {(file.name, name): textwrap.dedent(body).strip("\n") for file in sorted((root / "tests/docs").glob("*.c*"))
            for name, body in SNIPPET.findall(file.read_text())}
    problems, shown = [], set()
    for document in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        text = document.read_text()
        if fix:
            text = SHOWN.sub(lambda m: m[0].replace(f"```cpp\n{m[3]}```", f"```cpp\n{code.get((m[1], m[2]), '')}\n```"), text)
            document.write_text(text)
        found = SHOWN.findall(text)
        if len(FENCE.findall(text)) != len(found):
            problems.append(f"{document.name}: {len(FENCE.findall(text))} blocks of C++, of which {len(found)} are compiled by a test")
        for file, name, body in found:
            shown.add((file, name))
            if (file, name) not in code:
                problems.append(f"{document.name}: tests/docs/{file} has no snippet '{name}'")
            elif body.strip("\n") != code[file, name]:
                problems.append(f"{document.name}: '{name}' is not what tests/docs/{file} has")
    problems += [f"tests/docs/{file}: snippet '{name}' is in no document" for file, name in code if (file, name) not in shown]
    if not code:
        problems.append("tests/docs has no snippets")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(code)} snippets, {len(shown)} shown, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), "--fix" in sys.argv))
