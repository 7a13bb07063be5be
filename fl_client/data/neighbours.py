"""Images of a source that look alike: kept together where ``data.group_by`` says so, and counted where nothing is.

Looking decodes every image once. What was found is kept by this process, and in the folders that are named for it, as a
site's own and that of a comparison: which images are alike, never a picture.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fl_client.data.base import Source
from fl_client.data.config import SIMILAR_FILE, DataConfig
from fl_client.data.documents import Documents
from fl_client.data.partition import Parts
from fl_client.data.similar import SIDE, Bytes, components, has_neighbour, small
from fl_client.data.site_shares import grouped_by
from medveil.errors import DataError, MedVeilError
from medveil.log import logger

FORMAT = "medveil-similar"
VERSION = 1
FILE = SIMILAR_FILE
MOST_COUNTED = 10_000
"""More images than this are not looked through unasked: decoding them would take minutes."""
_SHAPE = {"found": {str: [int]}}
_MOST_KEPT = 4
_found: dict[str, list[int]] = {}
"""What this process found: a run opens its source more than once."""
_log = logger("similar")


class Near(NamedTuple):
    """How many test images look like one that is trained on; `skipped` says why they were not counted."""

    threshold: float
    test: int
    near: int
    skipped: str = ""

    def __str__(self) -> str:
        alike = f"a correlation above {self.threshold:g} of grey {SIDE}x{SIDE} versions"
        if self.skipped:
            return f"near duplicates across the split were not counted: {self.skipped}"
        cure = "" if not self.near else "; data.group_by=similar keeps such images together"
        return f"{self.near} of {self.test} test images look like a training image ({alike}){cure}"


def join_similar(source: Source, config: DataConfig, *, kept_in: Sequence[Documents] = ()) -> None:
    """Join the images of a source that look alike, and those of one patient or group with them; changes the source.

    An image that cannot be read joins none.

    Parameters
    ----------
    kept_in
        Where to keep what was found, for the next time.
    """
    named = [item.group for item in source.items]

    def look() -> list[int]:
        images, read = _small(source, range(len(source)))
        # One that could not be read is all zeros, which is like nothing.
        _tell_unread(source, int((~read).sum()))
        return [int(each) for each in components(images, config.similar, together=named)]

    about = ["groups", source.identity(), float(config.similar), _digest(json.dumps(named))]
    source.take_groups(_kept(about, look, kept_in, numbers=len(source)), config.similar)


def near_training(
    source: Source, parts: Sequence[Parts], config: DataConfig, *, kept_in: Sequence[Documents] = ()
) -> Near | None:
    """Count the test images of some sites that look like an image that any of them trains on.

    Parameters
    ----------
    source, parts
        The images, and how each site splits its share.
    kept_in
        Where to keep what was found, for the next time.

    Returns
    -------
    Near or None
        None where images are hidden or drawn, where a patient or a group keeps some together, or where none is tested.
    """
    train, test = (_union(getattr(each, name) for each in parts) for name in ("train", "test"))
    grouped = grouped_by(config) is not None and any(item.group is not None for item in source.items)
    if source.hidden is not None or source.drawn or grouped or not len(test) or not len(train):
        return None
    if len(train) + len(test) > MOST_COUNTED:
        return Near(config.similar, len(test), 0, f"there are more than {MOST_COUNTED} images")

    def look() -> list[int]:
        images, _ = _small(source, [*train.tolist(), *test.tolist()])
        return [int(has_neighbour(images[len(train) :], images[: len(train)], config.similar).sum())]

    split = _digest(json.dumps([train.tolist(), test.tolist()]))
    found = _kept(["near", source.identity(), float(config.similar), split], look, kept_in, numbers=1)
    return Near(config.similar, len(test), found[0])


def _union(indices: Iterable[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    return np.unique(np.concatenate(list(indices)))


def _small(source: Source, indices: Sequence[int]) -> tuple[Bytes, npt.NDArray[np.bool_]]:
    """Small versions uint8 (n, `SIDE` * `SIDE`), zeros where an image cannot be read, and which could be."""
    made = np.zeros((len(indices), SIDE * SIDE), dtype=np.uint8)
    read = np.zeros(len(indices), dtype=bool)
    for row, index in enumerate(indices):
        try:
            made[row] = small(source.decoded(index))
            read[row] = True
        except DataError:
            # Whoever builds the store says so.
            continue
    return made, read


def _tell_unread(source: Source, count: int) -> None:
    if count:
        _log.info("%s: %d images cannot be read and are like none", source.path, count)


def _kept(
    about: Sequence[Any], look: Callable[[], list[int]], kept_in: Sequence[Documents], *, numbers: int
) -> list[int]:
    """What `look` finds, so many numbers, looked for where neither this process nor a folder knows it."""
    key = _digest(json.dumps([VERSION, *about]))
    known = [_read(documents) for documents in kept_in]
    told = [_found.get(key, []), *(each.get(key, []) for each in known)]
    found = next((each for each in told if len(each) == numbers), None)
    if found is None:
        found = look()
    for documents, each in zip(kept_in, known, strict=True):
        if each.get(key) != found:
            _keep(documents, {**each, key: found})
    if len(_found) >= _MOST_KEPT:
        _found.clear()
    _found[key] = found
    return found


def _keep(documents: Documents, known: Mapping[str, list[int]]) -> None:
    newest = dict([*known.items()][-_MOST_KEPT:])
    documents.write(FILE, {"format": FORMAT, "version": VERSION, "found": newest})


def _read(documents: Documents) -> dict[str, list[int]]:
    """What was found before; nothing where that cannot be told: then it is looked for again."""
    if documents.find(FILE) is None:
        return {}
    try:
        found: dict[str, list[int]] = documents.read(FILE, _SHAPE, format_=FORMAT, newest=VERSION)["found"]
    except MedVeilError as error:
        _log.info("looks for similar images again: %s", error)
        return {}
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
