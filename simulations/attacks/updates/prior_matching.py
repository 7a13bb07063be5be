"""prior-matching: gradient matching over the images that an autoencoder of public ones can make."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np

from crypto.base import Reading
from simulations.attacks.networks.autoencoder import Decoder, Learning, learned
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.situation import Situation
from simulations.attacks.situations.update_attack import as_numbers, exchange_of
from simulations.attacks.study.attack import Knowledge
from simulations.attacks.study.cases import Seen
from simulations.attacks.study.setting import Setting
from simulations.attacks.updates.gradient_matching import GradientMatching, simulated
from simulations.attacks.updates.matched import Descent, Match, Target, descend


class PriorMatching(GradientMatching):
    """Gradient matching with a learned prior.

    Parameters
    ----------
    learning
        What is spent on the autoencoder, once for each key.
    """

    name = "prior-matching"
    knowledge = frozenset({Knowledge.WEIGHTS, Knowledge.PUBLIC})
    needs: ClassVar[frozenset[Capability]] = GradientMatching.needs | {Capability.SURROGATE}
    text = (
        "As gradient-matching, but what is searched for is not pixels: it is the code of an autoencoder that was "
        "trained on public images, so that only images of the kind are tried. A prior helps where an update says too "
        "little to find every pixel, and binds where what is hidden looks like nothing public. The public images are "
        "the other half of the source, or those of --public."
    )
    papers = (
        *GradientMatching.papers,
        "Jeon et al. 2021, arXiv:2110.14962 (gradient inversion with a generative prior)",
    )

    def __init__(self, *, learning: Learning | None = None, descent: Descent | None = None, **told: Any) -> None:
        super().__init__(descent=Descent(variation=0.0) if descent is None else descent, **told)
        self.learning = Learning() if learning is None else learning
        self._decoder: Decoder | None = None

    def quick(self) -> Self:
        """A third of the steps, on one update a key."""
        made = copy.copy(super().quick())
        made.learning = replace(self.learning, steps=self.learning.steps // 3)
        return made

    def notes(self, setting: Setting) -> list[str]:
        """What was spent, and whose images were public."""
        spent = self.learning
        told = f"The prior has codes of {spent.code} numbers at most and learned in {spent.steps} steps."
        return [*super().notes(setting), told, setting.public_text]

    def recover(self, seen: Seen, rng: np.random.Generator) -> Any:
        """Learn the prior, then match each update."""
        shape = exchange_of(seen).geometry
        self._decoder = learned(as_numbers(seen.public.pixels, Reading(shape.bits)), self.learning, rng)
        return super().recover(seen, rng)

    def searched(self, target: Target, shape: tuple[int, ...], here: Situation, rng: np.random.Generator) -> Match:
        """Search among codes."""
        assert self._decoder is not None
        decoder = self._decoder.double() if self.precision == "fp64" else self._decoder
        codes = (shape[0], decoder.linear.in_features)
        return descend(target, codes, simulated(self.descent, here), rng, decoder=decoder)
