"""min-difference: undo negation and channel shuffling pixel by pixel, by likeness to the neighbour before."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import numpy.typing as npt

from simulations.attacks.ciphertext.leading_bit import leading_bit
from simulations.attacks.solvers.schemes import PIXEL_WISE, no_flips
from simulations.attacks.study.attack import Knowledge, Target
from simulations.attacks.study.cases import Seen
from simulations.attacks.study.image_attack import EDGES, ImageAttack
from simulations.attacks.study.scores import Pixels

_SHUFFLED = 3
"""Channels that a scheme may shuffle; with any other number of channels only flips are tried."""

Values = npt.NDArray[np.int32]


class MinDifference(ImageAttack):
    """Raster scan: of all channel orders and flips of a pixel, take the one nearest to the recovered neighbour."""

    name = "min-difference"
    knowledge = frozenset({Knowledge.CIPHERTEXTS})
    text = (
        "A raster scan: of the 48 ways a pixel may have been hidden (6 channel orders, 8 negations; 2 for grey) the "
        "one is taken whose L1 distance to the recovered neighbour is least, the upper one, in the first row the left "
        "one. The first pixel is guessed dark. Of v and 255 - v the nearer to a neighbour always lies on its "
        "side of the middle, so a channel stays in the half it begins in: this adds the order of channels to "
        "leading-bit, and images that cross the middle come out folded. Like leading-bit it is made for ciphers that "
        "leave pixels where they stand, and says nothing about one that moves them."
    )
    papers = ("Chang, Case 2020, arXiv:2004.13263",)
    main = EDGES.name
    margin = 0.1
    control = PIXEL_WISE

    def applies_to(self, target: Target) -> str | None:
        """Only to schemes that negate values."""
        return no_flips(target.config)

    def recover(self, seen: Seen, rng: np.random.Generator) -> Pixels:
        """Scan all images side by side."""
        return minimum_difference(seen.ciphertexts.images, largest=seen.geometry.largest)


def minimum_difference(hidden: Pixels, *, largest: int) -> Pixels:
    """Scan images (n, C, H, W): the first row pixel by pixel, every later row at once, since it looks up only."""
    values = hidden.astype(np.int32)
    made = np.empty_like(values)
    made[:, :, 0, 0] = leading_bit(values[:, :, 0, 0], largest=largest)
    for x in range(1, values.shape[3]):
        made[:, :, 0, x] = nearest(values[:, :, 0, x], made[:, :, 0, x - 1], largest=largest)
    for y in range(1, values.shape[2]):
        made[:, :, y] = nearest(values[:, :, y], made[:, :, y - 1], largest=largest)
    return made.astype(hidden.dtype)


def nearest(values: Values, neighbour: Values, *, largest: int) -> Values:
    """The channel order and negation of each pixel nearest to its neighbour: (n, C, ...) each.

    The L1 distance is a sum over channels, so the best negation of a channel does not depend on the others: 2 C*C
    distances and C! sums instead of C! 2**C sums of C.
    """
    channels = values.shape[1]
    direct: Values = np.abs(values[:, :, None] - neighbour[:, None])
    turned: Values = np.abs((largest - values)[:, :, None] - neighbour[:, None])
    least = np.minimum(direct, turned)
    every = list(permutations(range(channels))) if channels == _SHUFFLED else [tuple(range(channels))]
    orders = np.array(every)
    total = np.stack([sum(least[:, a, c] for c, a in enumerate(order)) for order in every])
    order = np.moveaxis(orders[total.argmin(axis=0)], -1, 1)
    picked: Values = np.take_along_axis(values, order, axis=1)
    negated: Values = largest - picked
    made: Values = np.where(np.abs(picked - neighbour) <= np.abs(negated - neighbour), picked, negated)
    return made
