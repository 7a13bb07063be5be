"""The page about formats: every constant of the program that names one, with its version and what its module says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from docsite.places import ROOT
from docsite.tables import code, safe, table

_PACKAGES = ("medveil", "crypto", "models", "fl_client", "fl_server", "simulations")
_NAME = re.compile(r"medveil-[a-z-]+\Z")


def page() -> str:
    """Every format that persists."""
    rows = sorted(row for package in _PACKAGES for path in (ROOT / package).rglob("*.py") for row in _formats(path))
    lines = [
        "# Formats",
        "",
        "What persists has `format` and `version` in it, and is written whole or not at all.",
        "A newer version than the one here is refused by name; an older one is read.",
        "",
        table(("format", "newest version", "what", "module"), rows),
    ]
    return "\n".join(lines)


def _formats(path: Path) -> Iterator[tuple[str, str, str, str]]:
    tree = ast.parse(path.read_text())
    given = dict(_constants(tree))
    text = (ast.get_docstring(tree) or "").split("\n\n")[0]
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for name, value in given.items():
        if "FORMAT" in name and isinstance(value, str) and _NAME.match(value):
            version = given.get("VERSION", given.get("_VERSION", ""))
            yield code(value), str(version), safe(text), code(module)


def _constants(tree: ast.Module) -> Iterator[tuple[str, object]]:
    for node in tree.body:
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            for each, value in zip(names, values, strict=False):
                if isinstance(each, ast.Name) and isinstance(value, ast.Constant):
                    yield each.id, value.value
