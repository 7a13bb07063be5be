"""Copies of one picture in a set of images: dealt together, so that none is tested on whose twin is trained on.

Copies are told by what is in their files. The same picture in two files that differ otherwise is found when a site's
store is built, among its own images: `fl_client.data.store_build`. An image of one value is no picture.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from fl_client.data.alike import is_blank
from fl_client.data.base import Source
from fl_client.data.contents import UNREADABLE, contents_of
from fl_client.data.documents import Documents
from fl_client.data.items import Item
from fl_client.data.splits import Indices
from medveil.errors import DataError

_TRAINED_ON = (None, "train")
_Name = tuple[str, str]


class Copies(NamedTuple):
    """A source's images, those that are copies of one another in one group.

    Attributes
    ----------
    items : sequence of Item
        For dealing alone: groups that share a picture bear one name.
    alike : tuple of tuple of int
        The images of each picture that is there more than once.
    """

    items: Sequence[Item]
    alike: tuple[tuple[int, ...], ...]

    def trained_on(self, judged: Indices, *, train: Indices, own: Indices) -> Indices:
        """Those of a site's validation or test images of which a copy is, or may be, trained on in the run.

        Parameters
        ----------
        judged, train, own : int64 (n,)
            The images of the part, those the site trains on, and all it has.
        """
        asked, here, ours = (set(each.tolist()) for each in (judged, train, own))

        def taught(index: int) -> bool:
            # What another site trains on is not known here: what is of no part for judging may be.
            return index in here or (index not in ours and self.items[index].split in _TRAINED_ON)

        found = [i for copies in self.alike if asked.intersection(copies) and any(map(taught, copies)) for i in copies]
        return np.array(sorted(asked.intersection(found)), dtype=np.int64)


_kept: WeakKeyDictionary[Source, Copies] = WeakKeyDictionary()


def copies_in(source: Source, *, kept: Documents | None = None) -> Copies:
    """Find the copies in an open source, once.

    Parameters
    ----------
    source
        The images.
    kept
        As for `fl_client.data.contents.contents_of`.
    """
    if source not in _kept:
        alike = _alike(source, kept)
        _kept[source] = Copies(_joined(source.items, alike) if alike else source.items, alike)
    return _kept[source]


def _alike(source: Source, kept: Documents | None) -> tuple[tuple[int, ...], ...]:
    found: dict[bytes, list[int]] = defaultdict(list)
    # Where digests are kept, those of all images are: whoever asks next would else find no others.
    asked = _of_one_size(source) if kept is None else range(len(source))
    for index, digest in contents_of(source, asked, kept=kept, named=False).items():
        found[digest].append(index)
    several = (copies for digest, copies in found.items() if len(copies) > 1 and digest != UNREADABLE)
    return tuple(tuple(copies) for copies in several if _shows_something(source, copies[0]))


def _shows_something(source: Source, index: int) -> bool:
    try:
        return not is_blank(source.read(index))
    except DataError:
        # Whoever builds the store leaves it out, and its copies.
        return False


def _of_one_size(source: Source) -> list[int]:
    """Images whose file is as large as another's: no other can be a copy, and most need not be read."""
    sizes = [_size(source, index) for index in range(len(source))]
    times = Counter(sizes)
    return [index for index, size in enumerate(sizes) if size is None or times[size] > 1]


def _size(source: Source, index: int) -> int | None:
    path = source.file_of(index)
    try:
        return None if path is None else path.stat().st_size
    except OSError:
        # As large as no other: it is left out once it is read.
        return -1 - index


def _joined(items: Sequence[Item], alike: Sequence[Sequence[int]]) -> tuple[Item, ...]:
    """Give groups that share a picture, within one official part, one name: that of the first."""
    from scipy.sparse import coo_matrix  # noqa: PLC0415 - most images have no copy
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    number: dict[_Name, int] = {}
    pairs: list[tuple[int, int]] = []
    for copies in alike:
        first: dict[str | None, int] = {}
        for index in copies:
            # Parts that the images bring stay as they are: there the copy is left out of what is judged.
            own = number.setdefault(_group(items[index], index), len(number))
            pairs.append((first.setdefault(items[index].split, own), own))
    one, other = zip(*pairs, strict=True)
    touches = coo_matrix((np.ones(len(pairs), dtype=np.int8), (one, other)), shape=(len(number), len(number)))
    part = connected_components(touches, directed=False)[1].tolist()
    name_of: dict[int, _Name] = {}
    for name, own in number.items():
        name_of.setdefault(part[own], name)
    names = (_group(item, index) for index, item in enumerate(items))
    # An image of no group gets one with others only.
    return tuple(
        item._replace(group=_called(name_of[part[number[name]]])) if name in number else item
        for item, name in zip(items, names, strict=True)
    )


def _group(item: Item, index: int) -> _Name:
    return ("image", str(index)) if item.group is None else ("group", item.group)


def _called(name: _Name) -> str:
    kind, which = name
    return which if kind == "group" else f"copies of image {which}"
