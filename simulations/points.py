"""The points of a sweep: which settings take which values, all combinations of them or some that are drawn.

As a command line has it: ``train.lr=1e-3,3e-3`` are values, of which a comma within quotes, brackets or parentheses
parts none; ``train.lr=log(1e-4,1e-2)``, ``model.drop_path=uniform(0,0.2)`` and ``model.depth=int(2,6)`` are ranges.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from medveil.bounded import word
from medveil.called import typed
from medveil.errors import ConfigError

KINDS = ("uniform", "log", "int")
MOST_RUNS = 4096
"""Runs of one sweep."""
_MOST_VALUES = 1024
_NUMBER = r"[-+]?(?:\.[0-9]{1,20}|[0-9]{1,20}(?:\.[0-9]{0,20})?)(?:[eE][-+]?[0-9]{1,3})?"
_RANGE = re.compile(rf"(\w{{1,20}})\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)")
_OPENS, _CLOSES = "([{", ")]}"
_FIGURES = 4
_LONGEST, _MOST_SHOWN = 60, 200
_TRIES = 100
_NOT_SWEPT = {
    "seed": "seeds are compare.seeds",
    "name": "the points have names of their own; quote a comma that is no end of a value",
}
_NOT_SECTIONS = {"compare": "it is about all points", "without_recipe": "it is what a recipe leaves"}


@typed
@dataclass(frozen=True)
class Range:
    """Numbers between two, both among them, of which some are drawn.

    Attributes
    ----------
    low, high : float
        The smallest and the largest.
    kind : str
        ``"uniform"``, ``"log"`` (uniform in the logarithm) or ``"int"`` (whole numbers).
    """

    low: float
    high: float
    kind: str = "uniform"

    @typed
    def check(self, key: str) -> None:
        """Refuse what is no range (ConfigError)."""
        if self.kind not in KINDS:
            raise ConfigError(f"has no range '{word(self.kind)}'", where=key, cure=f"one of {', '.join(KINDS)}")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError("has a range without numbers in it", where=key, cure="the smaller one first")
        if self.kind == "log" and self.low <= 0:
            raise ConfigError("has a logarithmic range from 0 or below", where=key, cure="above 0, or uniform(...)")
        if self.kind == "int" and not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise ConfigError("has an int range whose ends are not whole", where=key, cure="int(2,6), for example")

    @typed
    def at(self, share: float) -> float | int:
        """The number at a share of the way, in [0, 1); of four figures where it is not whole."""
        if self.kind == "int":
            return int(self.low) + int(share * (int(self.high) - int(self.low) + 1))
        if self.kind == "log":
            found = self.low * (self.high / self.low) ** share
        else:
            found = self.low + share * (self.high - self.low)
        return self.rounded(found)

    @typed
    def rounded(self, value: float) -> float:
        """A number of four figures, within the range."""
        return min(max(float(f"{value:.{_FIGURES}g}"), self.low), self.high)

    def __str__(self) -> str:
        ends = (int(each) if self.kind == "int" else each for each in (self.low, self.high))
        return f"{self.kind}({','.join(map(str, ends))})"


Axis: TypeAlias = Range | tuple[Any, ...]
"""The values that a setting takes, or the range they are drawn from."""


def axes_in(settings: Sequence[str]) -> tuple[dict[str, Axis], list[str]]:
    """What a command line sweeps, by setting, and the settings that all points share.

    Raises
    ------
    ConfigError
        A setting that cannot be swept, is named twice, or has an empty value or range.
    """
    axes: dict[str, Axis] = {}
    fixed: list[str] = []
    for each in settings:
        key, _, text = each.partition("=")
        found = _axis(key, text)
        if found is None:
            fixed.append(f"{key}={_unquoted(text)}" if "," in text else each)
            continue
        if key in axes or any(other.partition("=")[0] == key for other in fixed):
            raise ConfigError("is named twice", where=word(key), cure="all its values behind one '='")
        axes[key] = found
    twice = next((each for each in fixed if each.partition("=")[0] in axes), None)
    if twice is not None:
        raise ConfigError("is named twice", where=word(twice.partition("=")[0]), cure="all its values behind one '='")
    return axes, fixed


def check_axes(axes: Mapping[str, Axis]) -> None:
    """Refuse what cannot be swept (ConfigError)."""
    if not axes:
        cure = "for example train.lr=1e-3,3e-3"
        raise ConfigError("names no setting with several values", where="sweep", cure=cure)
    for key, axis in axes.items():
        why = _NOT_SWEPT.get(key) or _NOT_SECTIONS.get(key.partition(".")[0])
        if why:
            raise ConfigError("cannot be swept", where=word(key), cure=why)
        if isinstance(axis, Range):
            axis.check(key)
        elif not axis:
            raise ConfigError("has no value", where=word(key), cure="one or more")
        elif len(axis) > _MOST_VALUES:
            raise ConfigError(f"has {len(axis)} values", where=word(key), cure=f"{_MOST_VALUES} at most, or a range")


def grid(axes: Mapping[str, Axis], *, seeds: int) -> list[dict[str, Any]]:
    """All combinations, the last setting changing fastest (ConfigError for a range, or for more than can be run)."""
    ranges = [key for key, axis in axes.items() if isinstance(axis, Range)]
    if ranges:
        raise ConfigError("is a range", where=ranges[0], cure="random=N (--random N) draws from it, or name its values")
    values = [axis for axis in axes.values() if not isinstance(axis, Range)]
    _refuse_many(math.prod(map(len, values)), seeds)
    return [dict(zip(axes, each, strict=True)) for each in itertools.product(*values)]


def drawn(axes: Mapping[str, Axis], count: int, *, seed: int, seeds: int) -> list[dict[str, Any]]:
    """Some combinations drawn at random, no two alike; of more points the first are the same.

    Raises
    ------
    ConfigError
        There are not so many, or more than can be run.
    """
    if count < 1:
        raise ConfigError(f"is {count}", where="random", cure="at least 1")
    _refuse_many(count, seeds)
    found: dict[str, dict[str, Any]] = {}
    for point in itertools.islice(_draws(axes, seed), _TRIES * count):
        found.setdefault(repr(point), point)
        if len(found) == count:
            return list(found.values())
    raise ConfigError(f"there are not {count} points", where="random", cure=f"{len(found)} or fewer, or all of them")


def _draws(axes: Mapping[str, Axis], seed: int) -> Iterator[dict[str, Any]]:
    for number in itertools.count():
        shares = np.random.default_rng([seed % 2**63, number]).random(len(axes))
        yield {key: _at(axis, float(share)) for (key, axis), share in zip(axes.items(), shares, strict=True)}


def _at(axis: Axis, share: float) -> Any:
    return axis.at(share) if isinstance(axis, Range) else axis[int(share * len(axis))]


def _refuse_many(points: int, seeds: int) -> None:
    if points * seeds > MOST_RUNS:
        cure = f"{MOST_RUNS} at most; random=N (--random N) runs some of them"
        raise ConfigError(f"makes {points * seeds} runs", where="sweep", cure=cure)


def label_of(settings: Mapping[str, Any]) -> str:
    """What a point is called: its settings, as a command line takes them."""
    return " ".join(f"{key}={said(value)}" for key, value in settings.items())


def folder_of(settings: Mapping[str, Any]) -> str:
    """A folder's name for a point: readable, and no other's whatever else is swept."""
    exact = json.dumps(settings, sort_keys=True, default=str)
    readable = "-".join(f"{key.rpartition('.')[2]}-{said(settings[key])}" for key in sorted(settings))
    clean = re.sub(r"[^A-Za-z0-9]+", "-", readable)[:_LONGEST].strip("-")
    return f"{clean}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"


def said(value: Any) -> str:
    """A value as a command line would have it."""
    if isinstance(value, str):
        return word(value, _MOST_SHOWN)
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return "null" if value is None else word(json.dumps(value), _MOST_SHOWN)


def _axis(key: str, text: str) -> Axis | None:
    """What a setting's text sweeps; None where it is one value."""
    found = _RANGE.fullmatch(text)
    if found:
        # One of no kind there is looks like a range, and is refused as one.
        return Range(float(found[2]), float(found[3]), found[1])
    parts = list(_parts(text))
    if len(parts) == 1:
        return None
    if not all(parts):
        raise ConfigError("has an empty value", where=word(key), cure="no comma at the ends, or 'null'")
    return tuple(_unquoted(each) if "," in each else each for each in parts)


def _parts(text: str) -> Iterator[str]:
    """A text taken apart at its commas, but for those within quotes, brackets and parentheses."""
    part, quote, depth = "", "", 0
    for each in text:
        if quote:
            quote = "" if each == quote else quote
        elif each in "\"'":
            quote = each
        elif each in _OPENS:
            depth += 1
        elif each in _CLOSES:
            depth = max(0, depth - 1)
        elif each == "," and not depth:
            yield part.strip()
            part = ""
            continue
        part += each
    yield part.strip()


def _unquoted(text: str) -> str:
    """A value that was quoted for the sake of its commas."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text
