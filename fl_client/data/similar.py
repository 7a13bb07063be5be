"""Images that look alike: small grey versions that correlate above a threshold, and what a split makes of them.

Data sets on the web hold the same slice twice, or its neighbour, under another name and no patient to tell. Where one
of them is trained on and the other tested on, a figure says how well images were remembered. So two images count as
alike where the Pearson correlation of their grey versions of `SIDE` x `SIDE` pixels (ITU-R 601-2 luma, bilinear,
antialiased; of the decoded image, whatever size a run prepares) is above ``data.similar``.

Nothing depends on the order in which a matrix product adds: what lies within `_MARGIN` of the threshold is decided in
whole numbers. Memory is some 2.3 kB an image and a few blocks, however many images there are and however many look
alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crypto.imaging import preprocess

SIDE = 48
_BLOCK = 2048
"""Images whose correlations are looked at together: a table of 16 MiB."""
_MARGIN = 1e-3
"""More than single precision can be wrong by in a correlation of `SIDE` x `SIDE` pixels."""
_PIXELS = SIDE * SIDE

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class Block(NamedTuple):
    """Images, what is left of them without mean and length, and how much each varies (n^2 times the variance)."""

    small: Bytes
    unit: Floats
    varies: Ints


def small(pixels: Bytes) -> Bytes:
    """The small grey version of a decoded image, uint8 (H, W) or (H, W, 3): uint8 (`SIDE` * `SIDE`,)."""
    return preprocess.to_square(pixels, size=SIDE, channels=1).reshape(-1)


def components(images: Bytes, threshold: float, *, together: Sequence[object] | None = None) -> Ints:
    """Number the groups of images that look alike, directly or through others.

    Parameters
    ----------
    images
        uint8 (n, `SIDE` * `SIDE`). One of a single grey value is like no other.
    threshold
        Correlation above which two are alike.
    together
        (n,) what names the group an image belongs to already, None for none: these stay together too.

    Returns
    -------
    int64 (n,)
        The group of each image, from 0, in the order of their first images.
    """
    group = _first_groups(len(images), together)
    starts = range(0, len(images), _BLOCK)
    for start in starts:
        mine = _block(images[start : start + _BLOCK])
        for other in range(start, len(images), _BLOCK):
            theirs = mine if other == start else _block(images[other : other + _BLOCK])
            rows, columns = alike(mine, theirs, threshold)
            group = _joined(group, rows + start, columns + other)
    return _in_order(group)


def has_neighbour(images: Bytes, among: Bytes, threshold: float) -> npt.NDArray[np.bool_]:
    """(n,) whether each image looks like one of `among`; both uint8 (n, `SIDE` * `SIDE`)."""
    found = np.zeros(len(images), dtype=bool)
    for start in range(0, len(images), _BLOCK):
        mine = _block(images[start : start + _BLOCK])
        for other in range(0, len(among), _BLOCK):
            rows, _ = alike(mine, _block(among[other : other + _BLOCK]), threshold)
            found[rows + start] = True
    return found


def alike(mine: Block, theirs: Block, threshold: float) -> tuple[Ints, Ints]:
    """Which images of two blocks look alike: their rows in the one, and in the other."""
    correlation = mine.unit @ theirs.unit.T
    rows, columns = (each.astype(np.int64) for each in np.nonzero(correlation > threshold - _MARGIN))
    near = correlation[rows, columns] <= threshold + _MARGIN
    kept = np.ones(len(rows), dtype=bool)
    kept[near] = _exactly(mine, theirs, rows[near], columns[near], threshold)
    return rows[kept], columns[kept]


def _exactly(mine: Block, theirs: Block, rows: Ints, columns: Ints, threshold: float) -> npt.NDArray[np.bool_]:
    made = np.zeros(len(rows), dtype=bool)
    for start in range(0, len(rows), _BLOCK):
        i, j = rows[start : start + _BLOCK], columns[start : start + _BLOCK]
        a, b = mine.small[i].astype(np.int64), theirs.small[j].astype(np.int64)
        covaries = _PIXELS * (a * b).sum(axis=1) - a.sum(axis=1) * b.sum(axis=1)
        scale = np.sqrt(mine.varies[i].astype(np.float64)) * np.sqrt(theirs.varies[j].astype(np.float64))
        made[start : start + _BLOCK] = (scale > 0) & (covaries > threshold * scale)
    return made


def _block(images: Bytes) -> Block:
    whole = images.astype(np.int64)
    varies = _PIXELS * (whole**2).sum(axis=1) - whole.sum(axis=1) ** 2
    centred = images.astype(np.float64) - images.mean(axis=1, keepdims=True)
    # An image of one grey value has no direction: of no length, it correlates with none.
    length = np.sqrt(np.maximum(varies, 1) / _PIXELS)[:, None]
    unit = np.where(varies[:, None] > 0, centred / length, 0.0)
    return Block(images, unit.astype(np.float32), varies)


def _first_groups(n: int, together: Sequence[object] | None) -> Ints:
    if together is None:
        return np.arange(n, dtype=np.int64)
    first: dict[object, int] = {}
    named = [i if name is None else first.setdefault(name, i) for i, name in enumerate(together)]
    return np.array(named, dtype=np.int64)


def _joined(group: Ints, rows: Ints, columns: Ints) -> Ints:
    """The groups after images of `rows` were joined to those of `columns`."""
    a, b = group[rows], group[columns]
    apart = a != b
    if not apart.any():
        return group
    from scipy.sparse import coo_matrix  # noqa: PLC0415 - slow to import
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    n = len(group)
    touches = coo_matrix((np.ones(int(apart.sum()), dtype=np.int8), (a[apart], b[apart])), shape=(n, n))
    made: Ints = connected_components(touches, directed=False)[1].astype(np.int64)[group]
    return made


def _in_order(group: Ints) -> Ints:
    _, first, number = np.unique(group, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[number]
