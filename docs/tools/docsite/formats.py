"""The page about formats: every constant of the program that names one, with its version and what its module says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from docsite.places import ROOT
from docsite.tables import code, safe, table

_PACKAGES = ("medveil", "crypto", "models", "fl_client", "fl_server", "simulations")
_NAME = re.compile(r"medveil-[a-z-]+\Z")


def page() -> str:
    """Every format that persists."""
    trees = {_module(path): ast.parse(path.read_text()) for name in _PACKAGES for path in (ROOT / name).rglob("*.py")}
    rows = sorted(row for module, tree in trees.items() for row in _formats(module, tree, trees))
    lines = [
        "# Formats",
        "",
        "What persists has `format` and `version` in it, and is written whole or not at all.",
        "A newer version than the one here is refused by name; an older one is read.",
        "",
        table(("format", "newest version", "what", "module"), rows),
    ]
    return "\n".join(lines)


def _formats(module: str, tree: ast.Module, trees: Mapping[str, ast.Module]) -> Iterator[tuple[str, str, str, str]]:
    text = (ast.get_docstring(tree) or "").split("\n\n")[0]
    for name, value in _constants(tree):
        if "FORMAT" in name and isinstance(value, str) and _NAME.match(value):
            versions = [_version(tree), *(_version(each) for each in trees.values() if _imports(each, module, name))]
            yield code(value), next(filter(None, versions), ""), safe(text), code(module)


def _version(tree: ast.Module) -> str:
    given = dict(_constants(tree))
    return str(given.get("VERSION", given.get("_VERSION", "")))


def _imports(tree: ast.Module, module: str, name: str) -> bool:
    """Whether a module takes a format's name from another, as one does that writes what others only recognise."""
    taken = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == module]
    return any(each.name == name for node in taken for each in node.names)


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


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
