"""The eight symmetries of the square, on places and on images: what a viewer sees through.

An attack on ciphertexts alone cannot tell which way is up: pieces that are turned make up an image that is turned, and
every seam fits as well. Scores that say "in any orientation" take the best of the eight, for chance as for the attack.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from simulations.attacks.solvers.blocks import Indices, Pixels

Floats = npt.NDArray[np.float64]

COUNT = 8
_TRIED = 8
"""Images a view is chosen by."""


def turned(arrays: Pixels, symmetry: int) -> Pixels:
    """Apply symmetry 0 to 7 to the last two axes: mirrored left to right from 4 on, then quarter turns."""
    mirrored = arrays[..., ::-1] if symmetry >= COUNT // 2 else arrays
    return np.rot90(mirrored, symmetry % (COUNT // 2), axes=(-2, -1))


def places(edge: int) -> Indices:
    """Where each place of a square comes from under each symmetry: intp (8, edge**2)."""
    square = np.arange(edge**2, dtype=np.intp).reshape(edge, edge)
    return np.stack([turned(square, symmetry).ravel() for symmetry in range(COUNT)])


def in_any_orientation(score: Callable[[Indices], float], layout: Indices) -> float:
    """The best score of a square layout (edge, edge) over its eight orientations."""
    return max(score(turned(layout, symmetry)) for symmetry in range(COUNT))


def viewed(score: Callable[[Pixels, Pixels], Floats], guess: Pixels, truth: Pixels, *, largest: int) -> Floats:
    """Scores in grey of each image (n,), as a viewer sees it: in the orientation and polarity that fit best.

    One orientation and one polarity for all images, chosen by the first eight. Channels are averaged, since nobody
    told the attacker which is red.
    """
    ours, theirs = (images.mean(axis=1, keepdims=True) for images in (guess, truth))
    views = [(symmetry, negative) for symmetry in range(COUNT) for negative in (False, True)]
    tried = [score(_view(ours[:_TRIED], *each, largest), theirs[:_TRIED]).mean() for each in views]
    return score(_view(ours, *views[int(np.argmax(tried))], largest), theirs)


def _view(images: Pixels, symmetry: int, negative: bool, largest: int) -> Pixels:
    return turned(largest - images if negative else images, symmetry)
