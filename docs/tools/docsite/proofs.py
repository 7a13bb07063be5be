"""Tests that pages name: each is there, and a table of requirements names one in every row.

Such a table stands between ``<!-- proofs -->`` and ``<!-- /proofs -->``. A test is named as pytest names it,
``tests/PACKAGE/test_FILE.py::test_name``, or by its file alone.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable
from pathlib import Path

from docsite.places import ROOT, named

_NAMED = re.compile(r"`(tests/[\w/-]*test_\w+\.py)(?:::(\w+))?`")
_TABLE = re.compile(r"^<!-- proofs -->\n(.*?)^<!-- /proofs -->", re.DOTALL | re.MULTILINE)
_MARK = re.compile(r"^<!-- /?proofs -->", re.MULTILINE)
_HEADS = 2
"""Rows of a table's head: the names of its columns, and the rule below them."""


def wrong(pages: Iterable[Path]) -> list[str]:
    """Every test that is not there, and every row that names none."""
    found = []
    for page in pages:
        text = page.read_text()
        found += [f"{named(page)}: {why}" for file, test in _NAMED.findall(text) if (why := _why_not(file, test))]
        tables = _TABLE.findall(text)
        if 2 * len(tables) != len(_MARK.findall(text)):
            found.append(f"{named(page)}: a table of proofs has no end")
        for body in tables:
            rows = [line for line in body.splitlines() if line.startswith("|")][_HEADS:]
            found += [f"{named(page)}: names no test: {row[:80]}" for row in rows if not _NAMED.search(row)]
    return found


def _why_not(file: str, test: str) -> str:
    path = ROOT / file
    if not path.is_file():
        return f"{file}: no such file of tests"
    return f"{file}::{test}: no such test" if test and test not in tests_in(path) else ""


@functools.cache
def tests_in(path: Path) -> frozenset[str]:
    """The names of the tests in a file; nothing of it is run."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(
        each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
    )
