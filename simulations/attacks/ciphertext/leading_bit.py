"""leading-bit: undo negation by assuming that every value was dark."""

from __future__ import annotations

import numpy as np

from simulations.attacks.solvers.schemes import PIXEL_WISE, no_flips
from simulations.attacks.study.attack import Knowledge, Target
from simulations.attacks.study.cases import Seen
from simulations.attacks.study.image_attack import EDGES, ImageAttack
from simulations.attacks.study.scores import Pixels


class LeadingBit(ImageAttack):
    """Set the leading bit of every value to 0."""

    name = "leading-bit"
    knowledge = frozenset({Knowledge.CIPHERTEXTS})
    text = (
        "Every value above the middle is replaced by its negative (v > 127 becomes 255 - v), pixel by pixel and "
        "channel by channel, which undoes a keyed negation wherever the original was dark and shows outlines "
        "elsewhere. It is made for ciphers that negate pixels where they stand. It knows nothing of moved pixels, so a "
        "cipher that moves them 'resists' it as it would resist any attack on another cipher: that is no finding."
    )
    papers = ("Chang, Case 2020, arXiv:2004.13263",)
    main = EDGES.name
    margin = 0.1
    control = PIXEL_WISE

    def applies_to(self, target: Target) -> str | None:
        """Only to schemes that negate values."""
        return no_flips(target.config)

    def recover(self, seen: Seen, rng: np.random.Generator) -> Pixels:
        """Fold every value into the dark half."""
        return leading_bit(seen.ciphertexts.images, largest=seen.geometry.largest)


def leading_bit(hidden: Pixels, *, largest: int) -> Pixels:
    """The smaller of each value and its negative."""
    made: Pixels = np.minimum(hidden, largest - hidden)
    return made
