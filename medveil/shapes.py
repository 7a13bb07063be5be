"""JSON documents of ours: read within bounds, and checked for what they look like inside; another type is our error.

A shape is written as the document is: a type (`int`: within 64 bits, signed or not, and no bool; `float`: any finite
number), a tuple of shapes of which one must fit (`None` among them where it may be null), a list with the shape of its
items, or a mapping of names to shapes. A name that ends in ``?`` may be missing, names that are not listed are let be,
and the one name `str` stands for any.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeAlias

from medveil.bounded import Bounds, parse_json
from medveil.errors import FormatError, IntegrityError
from medveil.files import check_format, read_head, read_json

Shape: TypeAlias = "Any"
_LEAST_WHOLE, _MOST_WHOLE = -(2**63), 2**64 - 1
"""Flower draws the ids of runs and nodes from all that 64 bits hold without a sign."""
_CURE = "restore it from a copy"
_BEGINNING = 128


def read_document(path: Path, shape: Shape, *, name: str, newest: int) -> dict[str, Any]:
    """Read a document of a format of ours.

    Parameters
    ----------
    path
        The file.
    shape
        What it must hold.
    name, newest
        As `medveil.files.check_format`.

    Raises
    ------
    StorageError, FormatError
        It cannot be read, or is of another format or of a newer version.
    IntegrityError
        It is not whole JSON, or a field is missing or of another type: it is named.
    """
    document = read_json(path)
    check_format(document, name=name, newest=newest, where=path)
    check_shape(document, shape, where=path)
    made: dict[str, Any] = document
    return made


def read_chosen(path: str | Path, *, name: str, newest: int, cure: str, bounds: Bounds) -> dict[str, Any]:
    """Read a document that a person named, so that the file may be anything; its fields are not checked yet.

    Parameters
    ----------
    path
        The file.
    name, newest
        As `medveil.files.check_format`.
    cure
        What to do where the file is something else.
    bounds
        Most it may hold; no more than that is read.

    Raises
    ------
    StorageError
        It is missing or unreadable.
    FormatError
        It is something else, or of a newer version.
    IntegrityError
        It is empty or cut short.
    """
    data = read_head(path, bounds.length + 1)
    if not data:
        raise IntegrityError("is empty", where=path, cure=_CURE)
    try:
        document = parse_json(data, where=path, bounds=bounds) if len(data) <= bounds.length else None
    except FormatError:
        if data[:1] == b"{" and f'"{name}"'.encode() in data[:_BEGINNING]:
            raise IntegrityError("is cut short or damaged", where=path, cure=_CURE) from None
        document = None
    if not isinstance(document, dict) or document.get("format") != name:
        raise FormatError(f"is not a {name} file", where=path, cure=cure)
    check_format(document, name=name, newest=newest, where=path)
    return document


def check_shape(document: Any, shape: Shape, *, where: str | Path, cure: str = _CURE) -> None:
    """Refuse a document of another shape (IntegrityError, which names the field and not what is in it)."""
    wrong = _wrong(document, shape, "")
    if wrong is not None:
        raise IntegrityError(f"its field '{wrong}' is missing or of another type", where=where, cure=cure)


def _wrong(value: Any, shape: Shape, at: str) -> str | None:
    """The first field that does not fit; None where all do."""
    if isinstance(shape, tuple):
        return None if any(_wrong(value, each, at) is None for each in shape) else at
    if isinstance(shape, list):
        return _wrong_items(value, shape[0], at)
    if isinstance(shape, dict):
        return _wrong_fields(value, shape, at)
    return None if _is(value, shape) else at


def _is(value: Any, kind: Any) -> bool:
    if kind is None or value is None:
        return kind is None and value is None
    if kind is Any:
        return True
    if kind is int:
        return type(value) is int and _LEAST_WHOLE <= value <= _MOST_WHOLE
    if kind is float:
        return _is(value, int) or (type(value) is float and math.isfinite(value))
    return isinstance(value, kind)


def _wrong_items(value: Any, shape: Shape, at: str) -> str | None:
    if not isinstance(value, list):
        return at
    found = (_wrong(each, shape, f"{at}[{number}]") for number, each in enumerate(value))
    return next((each for each in found if each is not None), None)


def _wrong_fields(value: Any, shape: dict[Any, Shape], at: str) -> str | None:
    if not isinstance(value, dict):
        return at
    if str in shape:
        found = (_wrong(each, shape[str], _below(at, name)) for name, each in value.items())
        return next((each for each in found if each is not None), None)
    for name, inner in shape.items():
        own = name.removesuffix("?")
        if own not in value:
            if own == name:
                return _below(at, own)
            continue
        wrong = _wrong(value[own], inner, _below(at, own))
        if wrong is not None:
            return wrong
    return None


def _below(at: str, name: str) -> str:
    return f"{at}.{name[:80]}" if at else name[:80]
