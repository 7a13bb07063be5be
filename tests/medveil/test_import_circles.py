"""Modules that need each other: none, over all packages, but those listed here to be undone.

Read from the source, so that an import inside a function or for types alone counts as well: it keeps a circle from
failing at start, and two files from being understood or moved one by one.
"""

from __future__ import annotations

import ast
import importlib.util
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).parents[2]
PACKAGES = ("medveil", "crypto", "models", "fl_client", "fl_server", "simulations")
KNOWN: set[frozenset[str]] = set()
"""Circles still to be undone. This list only ever gets shorter."""

Circle = frozenset[str]


def sources(root: Path, packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Source by dotted name of every module of the packages below a folder."""
    found = {}
    for package in packages:
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts)] = file.read_text(encoding="utf-8")
    return found


def imported(name: str, source: str) -> Iterator[str]:
    """Every dotted name that a module may import, wherever in it: ``from a import b`` is ``a`` and ``a.b``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(relative, name.rpartition(".")[0])
            yield base
            yield from (f"{base}.{each.name}" for each in node.names)


def circles(modules: Mapping[str, str]) -> set[Circle]:
    """Groups of modules of which each leads to all others of the group."""
    # A package is its __init__.
    place = {name.removesuffix(".__init__"): number for number, name in enumerate(modules)}
    steps = [
        (number, place[target])
        for number, (name, source) in enumerate(modules.items())
        for target in imported(name, source)
        if target in place
    ]
    rows, columns = np.array(steps, dtype=np.intp).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(modules), len(modules)))
    groups = connected_components(graph, directed=True, connection="strong")[1]
    names = np.array(list(place))
    return {frozenset(names[groups == group].tolist()) for group in np.flatnonzero(np.bincount(groups) > 1)}


def words(found: set[Circle]) -> str:
    return "; ".join(sorted(" <-> ".join(sorted(circle)) for circle in found))


@pytest.fixture(scope="module")
def house() -> dict[str, str]:
    return sources(ROOT)


@pytest.fixture(scope="module")
def found(house: dict[str, str]) -> set[Circle]:
    return circles(house)


def test_there_is_no_circle_but_the_known_ones(found: set[Circle]) -> None:
    new = found - KNOWN
    assert not new, f"modules that need each other: {words(new)}; move what both need into a file of its own"


def test_a_known_circle_that_was_undone_is_struck_off_the_list(found: set[Circle]) -> None:
    gone = KNOWN - found
    assert not gone, f"no longer a circle, so strike it off KNOWN: {words(gone)}"


def test_all_packages_are_read_with_their_imports(house: dict[str, str]) -> None:
    """Or there would be no circle because there is no import."""
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    names = {name.removesuffix(".py").replace("/", ".") for name in tracked.split() if name.endswith(".py")}
    assert names
    assert names <= set(house)
    importing = {
        name.partition(".")[0] for name, source in house.items() if not house.keys().isdisjoint(imported(name, source))
    }
    assert importing == set(PACKAGES)


def test_circles_are_found_however_they_are_imported() -> None:
    late = "def run() -> None:\n    from p.one import x\n"
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import p.one\n"
    pair = frozenset({"p.one", "p.two"})
    for back in ("import p.one", "from p import one", "from p.one import x", "from . import one", late, typed):
        assert circles({"p.__init__": "", "p.one": "import p.two", "p.two": back}) == {pair}, back
    three = {"p.one": "import p.two", "p.two": "from p import three", "p.three": "from . import one", "p.four": late}
    assert circles(three) == {frozenset({"p.one", "p.two", "p.three"})}
    assert circles({"p.__init__": "from p import one", "p.one": "from p import x"}) == {frozenset({"p", "p.one"})}
    assert circles({"p.one": "import p.two, os", "p.two": "import numpy"}) == set()
    assert circles({"p.one": "", "p.two": ""}) == set()
