"""Images of an npz file that hold NaN or infinity: told of as it is opened, not one by one as a run reads them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_client.data.items import Item
from medveil.errors import DataError
from medveil.plain import shown

NOT_FINITE = "holds values that are not finite (NaN or infinity)"
WRITE_NUMBERS = "write numbers in their place, with numpy.nan_to_num for one, or leave the image out"
_MOST_TOLD = 3
_LONGEST = 80
_CHUNK = 2**22


def not_finite(images: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which of (n, ...) images hold a value that is not finite: (n,)."""
    found = np.zeros(len(images), dtype=np.bool_)
    if images.dtype.kind != "f":
        return found
    step = max(1, _CHUNK // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(images), step):
        chunk = images[start : start + step]
        found[start : start + step] = ~np.isfinite(chunk).reshape(len(chunk), -1).all(axis=1)
    return found


def refuse_lost(items: Sequence[Item], unfit: npt.NDArray[np.bool_], classes: Sequence[str], *, where: Path) -> None:
    """Refuse a file of which such values take every image, or every image of a class.

    A background written as NaN is in all images, and in those of one class where that one has a background.

    Parameters
    ----------
    items, unfit
        All images of the file, and (n,) which of them hold such values.

    Raises
    ------
    DataError
        Says of how many images, and of which class.
    """
    labels = np.array([item.label for item in items], dtype=np.int64)
    if not unfit.any():
        return
    told = f"{unfit.sum()} of {len(items)} images hold values that are not finite (NaN or infinity)"
    lost = sorted(set(labels.tolist()) - set(labels[~unfit].tolist()))
    if len(lost) == len(set(labels.tolist())):
        raise DataError(told, where=where, cure=WRITE_NUMBERS)
    if lost:
        named = shown(classes[lost[0]], most=_LONGEST)
        raise DataError(f"{told}: all of class '{named}'", where=where, cure=WRITE_NUMBERS)


def said_of_left(ids: Sequence[str], total: int) -> Iterator[str]:
    """One sentence on the images that are left out, with the first of them by name; none where there is none."""
    if ids:
        named = ", ".join(f"'{shown(name, most=_LONGEST)}'" for name in ids[:_MOST_TOLD])
        more = f" and {len(ids) - _MOST_TOLD} more" if len(ids) > _MOST_TOLD else ""
        told = f"{len(ids)} of {total} images hold values that are not finite (NaN or infinity) and are left out"
        yield f"{told}: {named}{more}; {WRITE_NUMBERS}"
