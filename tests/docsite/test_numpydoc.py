"""Docstrings on the API's pages: Markdown, with nothing of reStructuredText left raw."""

from __future__ import annotations

import ast
import re

import pytest
from docsite.numpydoc import as_markdown
from docsite.places import ROOT

RAW = re.compile(r"\]_(?!\w)|^\.\. \[|={3,}|(?<!:)::$", re.MULTILINE)
PAGES = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("api/*.md"))
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


@pytest.mark.parametrize("name", re.findall(r"^::: (\S+)", PAGES, re.MULTILINE))
def test_no_page_of_the_api_shows_marks_of_another_language(name: str) -> None:
    source = (ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        text = as_markdown(ast.get_docstring(node) or "") if isinstance(node, DOCUMENTED) else ""
        assert not RAW.search(text), text


def test_tables_references_and_code_are_markdowns() -> None:
    rows = "====  ====\na     b\n====  ====\none   two\n      more\n====  ===="
    text = f"Text [1]_, ::\n\n    code\n\n{rows}\n\n.. [1] A,\n   B.\n"
    made = "| a | b |\n| --- | --- |\n| one | two more |"
    assert as_markdown(text) == f"Text [1]:\n\n    code\n\n{made}\n\n1. A, B.\n"
