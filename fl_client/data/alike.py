"""Pictures that are there twice, under two labels, of which one is wrong.

As files they differ where a picture was saved anew, as pixels they do not. So a store notes what it hides as it is
built; a simulation's data set, which sites share, is looked at by the contents of its files besides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fl_client.data.contents import UNREADABLE
from fl_client.data.items import Item
from medveil.basis import Basis, short_contents, short_id
from medveil.plain import shown

SHAPE = {"classes": int, "named": [[str]]}
"""Of what a store's header says of it; one of an older MedVeil says nothing."""
_MOST_NAMED = 3
_LONGEST = 80
_DIGEST_BYTES = 16
_CURE = "keep one of each, under its right label"


def is_blank(plain: npt.NDArray[np.uint8]) -> bool:
    """Whether an image is of a single value: no picture, which many may be without being copies."""
    return bool(plain.min() == plain.max())


class _Noted(NamedTuple):
    label: int
    id: str


class Alike:
    """What pictures a store holds more than once."""

    def __init__(self) -> None:
        self._first: dict[bytes, _Noted] = {}
        self._more: dict[bytes, list[_Noted]] = {}
        self._trained: set[bytes] = set()

    def note(self, item: Item, plain: npt.NDArray[np.uint8], *, trains: bool) -> bool:
        """Note an image, uint8 (C, S, S), as it was prepared; returns whether the same picture was noted to train."""
        if is_blank(plain):
            return False
        digest = hashlib.blake2b(np.ascontiguousarray(plain).data, digest_size=_DIGEST_BYTES).digest()
        noted = _Noted(item.label, item.id)
        if self._first.setdefault(digest, noted) is not noted:
            self._more.setdefault(digest, []).append(noted)
        if trains:
            self._trained.add(digest)
        return digest in self._trained

    def described(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """For the store's header: images whose picture stands in two classes, and the first of them by name."""
        every = ([self._first[digest], *more] for digest, more in self._more.items())
        groups = sorted((sorted(group, key=_name) for group in every), key=lambda group: group[0].id)
        twice = [group for group in groups if len({each.label for each in group}) > 1]
        pairs = [_pair(((each.id, each.label) for each in group), classes) for group in twice[:_MOST_NAMED]]
        return {"classes": sum(map(len, twice)), "named": [list(pair) for pair in pairs]}


def said_of_classes(count: int, named: Iterable[Iterable[str]]) -> str:
    """That pictures stand in two classes, how many, and the first by name: ``id, class, id, class`` of each."""
    told = [tuple(shown(text, most=_LONGEST) for text in each) for each in named]
    pairs = ", ".join(f"'{one}' of '{first}' is '{other}' of '{second}'" for one, first, other, second in told)
    return f"{count} images show the very picture of an image of another class: {pairs}; {_CURE}"


def in_two_classes(basis: Basis) -> int:
    """How many images of a basis have the very contents of an image of another class."""
    return sum(map(len, _twins(basis)))


def said_of_data_set(items: Iterable[Item], classes: tuple[str, ...], basis: Basis) -> Iterator[str]:
    """One sentence on files of a data set that stand in two classes; none where there is none."""
    twins = _twins(basis)
    if not twins:
        return
    wanted = {int(row["id"]) for rows in twins[:_MOST_NAMED] for row in rows}
    found = {digest: item for item in items if (digest := short_id(item.id)) in wanted}
    groups = [[found[int(row["id"])] for row in rows] for rows in twins[:_MOST_NAMED]]
    pairs = [_pair(((item.id, item.label) for item in group), classes) for group in groups]
    yield said_of_classes(sum(map(len, twins)), pairs)


def _twins(basis: Basis) -> list[npt.NDArray[np.void]]:
    """Rows of the same contents that are of more than one class, together."""
    found, times = np.unique(basis.rows["image"], return_counts=True)
    several = found[(times > 1) & (found != short_contents(UNREADABLE))]
    rows = basis.rows[np.isin(basis.rows["image"], several)]
    rows = rows[np.argsort(rows["image"], kind="stable")]
    groups = np.split(rows, np.flatnonzero(np.diff(rows["image"])) + 1)
    return [group for group in groups if len(set(group["label"].tolist())) > 1]


def _name(noted: _Noted) -> str:
    return noted.id


def _pair(group: Iterable[tuple[str, int]], classes: tuple[str, ...]) -> tuple[str, str, str, str]:
    """Two of a group that differ in their class, with its name."""
    every = sorted(group)
    one = every[0]
    other = next(each for each in every if each[1] != one[1])
    return one[0], classes[one[1]], other[0], classes[other[1]]
