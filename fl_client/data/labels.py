"""Spellings of labels: which are one class, and which are no class of one image.

One rule for folders and tables. What is written in ``data.classes`` is meant as it is written. Other labels that differ
only in spaces, case, composed or combining letters, or as ``1`` and ``1.0`` do, are one class, and it is said. A label
that says nothing (``NaN``) or several things (``A|B``) is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from medveil.errors import DataError
from medveil.plain import shown

LONGEST = 256
"""Most characters of a class name, as the contract between server and sites has it."""
_SHOWN = 80
_MOST_TOLD = 5
_WHOLE = re.compile(r"([+-]?)0*(\d{1,18}?)(?:\.0*)?")
# As pandas reads them; 'none' is a class of many data sets, and None is what Python writes where nothing is.
_MISSING = {"nan", "+nan", "-nan", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "nat", "<na>", "na", "n/a"}
_MISSING |= {"#na", "#n/a", "#n/a n/a", "null", "nil", "undefined"}
_LIST = re.compile(r"\[.*\]|\{.*\}|\(.*,.*\)", re.DOTALL)
# The bar parts findings in every table that has it; the others stand in names as well.
_PARTS = "|"
_MAYBE_PARTS = ";,/+&"


class Spellings(NamedTuple):
    """The class of each label as it was written, and what is to be said of it."""

    of: dict[str, str]
    warnings: tuple[str, ...]


def tidy(text: str) -> str:
    """A text as it is seen: composed letters, no space around it, one between words, nothing invisible."""
    # What DICOM and C pad with, and marks of direction and order, are seen by nobody.
    seen = "".join(each for each in text if unicodedata.category(each) != "Cf" and each != "\0")
    return unicodedata.normalize("NFC", " ".join(seen.split()))


def group_name(text: object) -> str | None:
    """The name of a group, the same however it is padded; None for one that names nothing."""
    tidied = tidy(str(text))
    if not tidied or tidied.casefold() == "nan":
        return None
    # A column of numbers with a hole in it comes out of pandas as 12.0.
    whole = re.fullmatch(r"(\d+)\.0+", tidied)
    return whole[1] if whole else tidied


def spellings(
    labels: Mapping[str, str], counts: Counter[str], classes: Sequence[str] | None, *, where: Path
) -> Spellings:
    """Decide which labels are one class.

    Parameters
    ----------
    labels
        Each label as it is written, with where it stands first (``line 7``, ``folder 'NaN'``).
    counts
        Images of each label.
    classes
        ``data.classes``.
    where
        The folder or the table.

    Raises
    ------
    DataError
        A label says nothing, several things, or what cannot be printed.
    """
    meant = set(classes or ())
    others = {label: tidy(label) for label in labels if label not in meant}
    _refuse_odd(others, labels, where)
    _refuse_missing(others, labels, counts, where)
    _refuse_several(others, meant, labels, counts, where)
    alike: dict[str, list[str]] = {}
    for label in others:
        alike.setdefault(key(label), []).append(label)
    configured = _unique(meant)
    found = {label: label for label in labels if label in meant}
    warnings = []
    for one, written in sorted(alike.items()):
        name = configured.get(one) or _best(written, counts)
        found |= dict.fromkeys(written, name)
        if len(set(written) | ({name} if one in configured else set())) > 1:
            warnings.append(_said(sorted({*written, name} if one in configured else written), name))
    return Spellings(found, tuple(warnings))


def key(label: str) -> str:
    """What two spellings of one class have in common."""
    tidied = tidy(label)
    whole = _WHOLE.fullmatch(tidied)
    if whole and tidied.isascii():
        number = int(whole[2])
        return str(-number if whole[1] == "-" else number)
    folded = unicodedata.normalize("NFD", tidied).casefold()
    return unicodedata.normalize("NFC", folded)


def _unique(names: Iterable[str]) -> dict[str, str]:
    """Configured names by key, but for those that only their spelling tells apart: they are meant so."""
    names = list(names)
    times = Counter(key(name) for name in names)
    return {key(name): name for name in names if times[key(name)] == 1}


def _best(written: Sequence[str], counts: Counter[str]) -> str:
    """The spelling a class is called by: a whole number's own, else what most images bear, the first of equals."""
    together: Counter[str] = Counter()
    for label in written:
        together[tidy(label)] += counts[label]
    if len(together) > 1 and _WHOLE.fullmatch(tidy(written[0])) and tidy(written[0]).isascii():
        return key(written[0])
    return min(together, key=lambda name: (-together[name], name))


def _said(written: Sequence[str], name: str) -> str:
    told = _named(written)
    cure = "to tell them apart, list each in data.classes as it is written"
    return f"{told} are taken for one class, '{shown(name, most=_SHOWN)}': write them alike, or, {cure}"


def _refuse_odd(others: Mapping[str, str], labels: Mapping[str, str], where: Path) -> None:
    for label, tidied in others.items():
        if not tidied.isprintable() or len(tidied) > LONGEST:
            problem = f"{labels[label]} is labelled '{shown(label, most=_SHOWN)}', which can be no class's name"
            raise DataError(problem, where=where, cure=f"up to {LONGEST} printable characters, on one line")


def _refuse_missing(others: Mapping[str, str], labels: Mapping[str, str], counts: Counter[str], where: Path) -> None:
    empty = [label for label, tidied in others.items() if tidied.casefold() in _MISSING or tidied in {"None", ""}]
    if empty:
        times = sum(counts[label] for label in empty)
        problem = f"{times} {_have(times)} no label ({labels[empty[0]]} says '{shown(empty[0])}')"
        cure = "label them or leave them out; if it is the name of a class, list all classes in data.classes"
        raise DataError(problem, where=where, cure=cure)


def _refuse_several(
    others: Mapping[str, str], meant: set[str], labels: Mapping[str, str], counts: Counter[str], where: Path
) -> None:
    known = {key(label) for label in (*others, *meant)}
    several = [label for label, tidied in others.items() if _says_several(tidied, known - {key(label)})]
    if several:
        times = sum(counts[label] for label in several)
        told = shown(several[0], most=_SHOWN)
        problem = f"{times} {_have(times)} several labels ({labels[several[0]]} says '{told}')"
        cure = "give each image one label; where it is the name of one class, list all classes in data.classes"
        raise DataError(problem, where=where, cure=cure)


def _says_several(label: str, known: set[str]) -> bool:
    if _LIST.fullmatch(label):
        return True
    if len([part for part in label.split(_PARTS) if part.strip()]) > 1:
        return True
    for mark in _MAYBE_PARTS:
        parts = [part for part in label.split(mark) if part.strip()]
        if len(parts) > 1 and any(key(part) in known for part in parts):
            return True
    return False


def _named(written: Iterable[str]) -> str:
    """Labels for a person, those that look alike as their escapes."""
    every = list(written)
    looks = Counter(tidy(label) for label in every)
    told = [ascii(each) if looks[tidy(each)] > 1 and not each.isascii() else f"'{shown(each)}'" for each in every]
    more = f" and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
    return f"labels {', '.join(told[:_MOST_TOLD])}{more}"


def _have(images: int) -> str:
    return "image has" if images == 1 else "images have"
