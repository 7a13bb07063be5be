"""From a stem that lies open to the key it was moved by: columns, rows and signs found again in the public weights.

A stem follows a key by W'[:, i] = s_i W[:, rho[i]] and pos'[j] = pos[pi[j]] (`models.stem`). Whoever has W, as all the
world has of a public initial stem, finds each column of W' among those of W up to its sign. What training moved since
is small beside how unlike columns are.

A stem that began public and *learned* in a cipher's domain holds no permuted columns; but what it learned is a sum of
images: dL/dW = G^T X, whose columns covary as the pixels of hidden blocks do. That is `layout`'s matter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from simulations.attacks.solvers import symmetries
from simulations.attacks.solvers.layout import Moments

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Matched(NamedTuple):
    """A key as stems show it: rho (L,), mask (L,), pi (N,), and how sure each match is, cosines (L,) and (N,)."""

    rho: Indices
    mask: Flags
    pi: Indices
    columns: Floats
    rows: Floats


def match_stem(weight: Floats, public: Floats, rows: Floats | None, public_rows: Floats | None) -> Matched:
    """Find a key that turns a public stem into a given one.

    Parameters
    ----------
    weight, public
        Patch weights, (D, L): the one that lies open and the public one.
    rows, public_rows
        Patch rows of the position embedding, (N, D); None where a model has none.
    """
    signed = _cosines(weight.T, public.T)
    _, rho = linear_sum_assignment(-np.abs(signed))
    chosen = signed[np.arange(len(rho)), rho]
    if rows is None or public_rows is None:
        pi, sure = np.zeros(0, np.int64), np.zeros(0)
    else:
        # What all places have in common tells none of them.
        likeness = _cosines(rows - rows.mean(axis=0), public_rows - public_rows.mean(axis=0))
        _, found = linear_sum_assignment(-likeness)
        pi, sure = found.astype(np.int64), likeness[np.arange(len(found)), found]
    return Matched(rho.astype(np.int64), chosen < 0, pi, np.abs(chosen), sure)


def moments_of(learned: Floats, largest: int) -> Moments:
    """What a stem learned, (D, L), as moments of positions: its rows stand for blocks.

    Parameters
    ----------
    learned
        What training changed of the patch weight.
    largest
        The largest value a pixel can have, to whose size rows are brought.
    """
    made = Moments(learned.shape[1], largest)
    values = learned / max(float(np.abs(learned).max()), 1e-12) * (largest / 2)
    made.count = len(values)
    made.first = values.sum(axis=0)
    made.second = values.T @ values
    steps = made.tones.shape[1]
    tone = np.minimum((np.abs(values) * (2 * steps / (largest + 1))).astype(np.int64), steps - 1)
    cells = (tone + steps * np.arange(learned.shape[1])).ravel()
    made.tones = np.bincount(cells, minlength=made.tones.size).reshape(made.tones.shape).astype(np.float64)
    return made


def near(found: Indices, true: Indices, edge: int, *, within: int = 1) -> float:
    """Share of places of a square put no more than `within` off in either direction, in the best of its orientations.

    Parameters
    ----------
    found, true
        Places 0 to ``edge**2 - 1``, (L,).
    """
    wanted = np.stack(np.divmod(true, edge))
    shares = []
    for turn in symmetries.places(edge):
        off = np.abs(np.stack(np.divmod(turn[found], edge)) - wanted).max(axis=0)
        shares.append(float((off <= within).mean()))
    return max(shares)


def likeness(rows: Floats) -> Floats:
    """Cosines (N, N) of rows (N, D), without what all of them have in common."""
    centred = rows - rows.mean(axis=0)
    return _cosines(centred, centred)


def _cosines(first: Floats, second: Floats) -> Floats:
    """Cosines (a, b) of rows (a, D) and (b, D)."""
    made: Floats = _unit(first) @ _unit(second).T
    return made


def _unit(rows: Floats) -> Floats:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    made: Floats = np.divide(rows, length, out=np.zeros_like(rows, dtype=np.float64), where=length > 0)
    return made
