"""Train, validation and test as folders and tables name them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fl_client.data.config import DataConfig
from medveil.errors import DataError
from medveil.plain import shown
from medveil.written import setting

_WORDS = {
    "train": ("train", "training", "trn"),
    "validation": ("val", "valid", "validation", "validate", "dev"),
    "test": ("test", "testing", "tst"),
}
_PART_OF = {word: part for part, words in _WORDS.items() for word in words}
_BETWEEN = re.compile(r"[\s_.\-]+")
_ENDS = re.compile(r"(set|data|images|split|folder)$")
_SHOWN = 5
_LONGEST = 40
_CURE_OF_COLUMN = "write train, validation (val) or test for every image, or 'data.split=drawn' to deal them anew"


class Layout(NamedTuple):
    """Which part of a path names its class, and which its part of the split; None where none does."""

    label: int = 0
    part: int | None = None


def part_named(name: str) -> str | None:
    """``"train"``, ``"validation"`` or ``"test"`` where a name means one of them: ``Training``, ``val_set``."""
    word = _BETWEEN.sub("", name.casefold())
    return _PART_OF.get(word) or _PART_OF.get(_ENDS.sub("", word))


def layout(paths: Sequence[tuple[str, ...]], config: DataConfig, *, where: Path) -> Layout:
    """Tell folders of classes from folders of a split.

    Parameters
    ----------
    paths
        The files, each as the names on its way from the root.

    Raises
    ------
    DataError
        Both could be meant, or there are parts without classes.
    """
    inside = [parts for parts in paths if len(parts) > 1]
    tops = {parts[0] for parts in inside}
    meant = set(config.classes or ())
    parts = {name for name in tops if part_named(name) is not None and name not in meant}
    if not parts:
        return _parts_below(inside, where)
    found = _listed(parts)
    as_classes = f"if they are classes, write {setting('data.classes', sorted(tops))}"
    if tops - parts:
        problem = f"folders named as parts of a split ({found}) lie beside others ({_listed(tops - parts)})"
        raise DataError(problem, where=where, cure=f"move one kind out of data.path; {as_classes}")
    if all(part_named(name) != "train" for name in parts):
        problem = f"its folders are named as parts of a split ({found}), and none is for training"
        raise DataError(problem, where=where, cure=f"add a folder 'train'; {as_classes}")
    if all(len(each) < 3 for each in inside):
        problem = f"its folders are named as parts of a split ({found}), and hold no class folders"
        cure = f"put one folder a class into each, or name the labels in data.labels; {as_classes}"
        raise DataError(problem, where=where, cure=cure)
    return Layout(label=1, part=0)


def _parts_below(inside: Sequence[tuple[str, ...]], where: Path) -> Layout:
    """The layout of class folders: each may hold folders of a split."""
    deeper = [part_named(parts[1]) if len(parts) > 2 else None for parts in inside]
    named = set(deeper) - {None}
    if "train" not in named or len(named) < 2:
        return Layout()
    if None not in deeper:
        return Layout(label=0, part=1)
    outside = "/".join(inside[deeper.index(None)])
    problem = f"class folders hold folders of a split, and some images lie in none of them ('{shown(outside)}')"
    raise DataError(problem, where=where, cure="move each into one of the parts, or the parts' images out of them")


def said_of_layers(paths: Sequence[tuple[str, ...]]) -> str | None:
    """That class folders all hold folders of the same names, as folds or hospitals above the classes would."""
    inside = [parts for parts in paths if len(parts) > 1]
    below: dict[str, set[str]] = {}
    for parts in inside:
        below.setdefault(parts[0], set()).add(parts[1] if len(parts) > 2 else "")
    alike = {frozenset(names) for names in below.values()}
    if len(below) < 2 or len(alike) != 1:
        return None
    (names,) = alike
    if len(names) < 2 or "" in names:
        return None
    cure = "if those are the classes, name the labels in data.labels (path,label,site)"
    return f"class folders {_listed(below)} all hold the folders {_listed(names)}: {cure}"


def parts_of_column(cells: Sequence[tuple[int, str]], *, where: Path) -> list[str] | None:
    """The parts that a table's column ``split`` names; None where it is empty throughout.

    Parameters
    ----------
    cells
        Line and text of its cells, one for each image.
    where
        The table.

    Raises
    ------
    DataError
        A cell is empty or names no part, or none says train: whatever was dealt instead, it would not be that split.
    """
    if not any(text for _, text in cells):
        return None
    _refuse_cells([line for line, text in cells if not text], "is empty", where)
    parts = [part_named(text) for _, text in cells]
    odd = [(line, text) for (line, text), part in zip(cells, parts, strict=True) if part is None]
    if odd:
        same = [line for line, text in odd if text == odd[0][1]]
        _refuse_cells(same, f"says '{shown(odd[0][1], most=_LONGEST)}'", where)
    if "train" not in parts:
        raise DataError("the column 'split' never says train", where=where, cure=_CURE_OF_COLUMN)
    return [part for part in parts if part is not None]


def _refuse_cells(lines: Sequence[int], problem: str, where: Path) -> None:
    if lines:
        told = f"line {lines[0]}" + (f" and {len(lines) - 1} more" if len(lines) > 1 else "")
        raise DataError(f"the column 'split' {problem} ({told})", where=where, cure=_CURE_OF_COLUMN)


def said_of_split(parts: Iterable[str | None], *, validation: float) -> str | None:
    """One sentence on the split a data set brings; None where it brings none."""
    counts = Counter(part or "train" for part in parts)
    if set(counts) <= {"train"}:
        return None
    found = ", ".join(f"{counts[part]} {part}" for part in _WORDS if counts[part])
    missing = [part for part in ("validation", "test") if not counts[part]]
    if not validation and "validation" in missing:
        missing.remove("validation")
    drawn = f", {' and '.join(missing)} drawn from train" if missing else ""
    return f"the data set's own split is kept: {found} images{drawn}; 'data.split=drawn' would deal them anew"


def _listed(names: Iterable[str]) -> str:
    every = sorted(names)
    told = ", ".join(f"'{shown(name)}'" for name in every[:_SHOWN])
    return told if len(every) <= _SHOWN else f"{told}, ..."
