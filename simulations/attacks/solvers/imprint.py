"""Reading a planted layer: rows that differ by their threshold alone, so that neighbours differ by what lies between.

Fowl et al., "Robbing the Fed", ICLR 2022 (arXiv 2110.13057), put such a layer before a model. Here the layer is one
the model has: the first of a block's MLP, which reads tokens, and reads them through a LayerNorm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_NOTHING = 1e-6
"""A difference of neighbours so small beside the largest one is what rounding left of none."""


class Patches(NamedTuple):
    """What was read: patches (m, L), where in the image each stood, and how far from possible it is."""

    values: Floats
    places: Indices
    residuals: Floats


def between_neighbours(rows: Floats) -> Floats:
    """Each row less the next, the last as it is, without those that are nothing: (m, D), each along one token or a sum.

    Parameters
    ----------
    rows
        (bins, D), gradients of rows in the order of their thresholds.
    """
    apart = np.concatenate([rows[:-1] - rows[1:], rows[-1:]])
    sizes = np.linalg.norm(apart, axis=1)
    found: Floats = apart[sizes > _NOTHING * sizes.max(initial=0.0)]
    return found


def patches_of(tokens: Floats, embedding: Floats, offsets: Floats, *, mean: Floats | None = None) -> Patches:
    """The patches behind normalised tokens, each known up to a factor.

    A token x is (E p + o - m 1) / s of a patch p at a place with offset o. E p - s x - m 1 = -o is linear in p, s, m
    and solved at the right place alone, where the model is wider than a patch by more than two.

    Parameters
    ----------
    tokens
        (m, D).
    embedding
        (D, L), the patch embedding E.
    offsets
        (N, D), bias and position of each place.
    mean
        (D,), what a norm's mean is taken off along, where less than whole tokens is seen; None for ones.
    """
    width, length = embedding.shape
    values, places, residuals = [], [], []
    level = np.ones(width) if mean is None else mean
    size = np.linalg.norm(offsets, axis=1).mean()
    for token in tokens:
        scaled = token / np.linalg.norm(token) * np.sqrt(width)
        known = np.concatenate([embedding, -scaled[:, None], -level[:, None]], axis=1)
        solved, *_ = np.linalg.lstsq(known, -offsets.T, rcond=None)
        off = np.linalg.norm(known @ solved + offsets.T, axis=0) / size
        place = int(off.argmin())
        values.append(solved[:length, place])
        places.append(place)
        residuals.append(float(off[place]))
    return Patches(np.array(values).reshape(-1, length), np.array(places, np.intp), np.array(residuals))
