"""chain: from updates to ciphertexts, and from ciphertexts to images."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from crypto.base import Geometry
from simulations.attacks.ciphertext.jigsaw import Jigsaw
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.situation import Situation
from simulations.attacks.situations.update_attack import UpdateAttack, as_pixels, exchange_of
from simulations.attacks.solvers.schemes import one_order_for_all_blocks
from simulations.attacks.study.attack import Knowledge, Metric, Picture, Scores, Target
from simulations.attacks.study.cases import Case, Hidden, Seen
from simulations.attacks.study.controls import BlockShuffle
from simulations.attacks.study.setting import Setting
from simulations.attacks.updates.stem_closed_form import solved


class Chain(UpdateAttack):
    """stem-closed-form, then jigsaw.

    Parameters
    ----------
    images
        Updates, each of one image, that ciphertexts are recovered from.
    """

    name = "chain"
    needs = frozenset({Capability.UPDATES, Capability.STEM_UPDATE, Capability.ONE_IMAGE})
    text = (
        "Where hospitals share a key and a public stem travels, what an update gives away is a ciphertext, the one the "
        "model read. All of a key's ciphertexts have one order of pixels and blocks, so that the ciphertexts recovered "
        "from several updates go to the attack jigsaw, which takes ciphertexts alone, and what it lays out is scored "
        "against the plain images. The whole way needs nothing but updates. The control is the same way under a key "
        "that moves whole blocks only, jigsaw's own."
    )
    papers = ("Lu et al. 2022, arXiv:2112.14087", "arXiv:2211.02369 (jigsaws of several images under one key)")
    margin = Jigsaw.margin
    weight = 10.0
    control = BlockShuffle

    def __init__(self, *, images: int = 30) -> None:
        self.updates = self.wanted = images
        self._jigsaw = Jigsaw(images=(images,), looked_at=images)
        self.main = self._jigsaw.main

    def within(self, images: int) -> Self:
        """From as many updates as there may be."""
        made = copy.copy(self)
        made.__init__(images=min(images, self.updates))  # type: ignore[misc]
        return made

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Jigsaw's."""
        return self._jigsaw.metrics

    def unfit(self, situation: Situation, geometry: Geometry) -> str | None:
        """Nothing is hidden; or not by a scheme that jigsaw is built for."""
        return None if situation.hides else "nothing is hidden: what stem-closed-form recovers is the image itself"

    def refusal(self, setting: Setting) -> str | None:
        """As of other attacks on updates, and of jigsaw."""
        return super().refusal(setting) or one_order_for_all_blocks(Target(setting.config, setting.geometry).config)

    def recover(self, seen: Seen, rng: np.random.Generator) -> Any:
        """Ciphertexts of all updates, laid out."""
        exchange = exchange_of(seen)
        found = [solved(update, exchange.geometry) for update in exchange]
        images = as_pixels(np.concatenate(found), bits=exchange.geometry.bits)
        return self._jigsaw.recover(
            Seen(seen.config, seen.geometry, {Knowledge.CIPHERTEXTS: Hidden(images, None)}, number=seen.number), rng
        )

    def score(self, found: Any, case: Case) -> Scores:
        """As jigsaw's."""
        return self._jigsaw.score(found, case)

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """As jigsaw's."""
        return self._jigsaw.guesses(case, rng)

    def pictures(self, found: Any, case: Case) -> list[Picture]:
        """As jigsaw's."""
        return self._jigsaw.pictures(found, case)
