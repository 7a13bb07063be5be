"""inverse-network: train a network on pairs of public images, and let it read ciphertexts."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Self

import numpy as np

from simulations.attacks.study.attack import Knowledge
from simulations.attacks.study.cases import Seen
from simulations.attacks.study.image_attack import SSIM, ImageAttack
from simulations.attacks.study.scores import Pixels
from simulations.attacks.study.setting import Setting

if TYPE_CHECKING:
    from simulations.attacks.networks.training import Budget, Budgets


class InverseNetwork(ImageAttack):
    """Hide public images, and learn the way back.

    Parameters
    ----------
    budget
        What is spent on each training; None for the device's own: a minute of a CPU core for images of
        64x64, ten times as many steps of a net three times as wide on a GPU.
    """

    name = "inverse-network"
    knowledge = frozenset({Knowledge.CIPHERTEXTS, Knowledge.PUBLIC, Knowledge.CHOSEN})
    text = (
        "Public images are hidden, and a small convolutional network is trained to turn each ciphertext back into its "
        "image (inverse transformation network; mean squared error). Two attackers are measured. In the column target "
        "public images could be hidden under the attacked key itself: an upper bound, and a slow kind of "
        "chosen-plaintext. In the column wrong key they hide them under a key of their own, knowing the scheme alone, "
        "as is usually reported: that works as far as the network learns what does not depend on the key. One network "
        "reads all blocks alike and may move them, so an order of its own for each block is beyond it under any key: "
        "that is this network's limit, and no strength of such a scheme. Low figures bound this budget only."
    )
    papers = (
        "Ito, Kinoshita, Aprilpyone, Kiya 2021 (inverse transformation network; reference code ito-hiroki)",
        "arXiv:1912.04746 (pairs under one key and under several)",
    )
    main = SSIM.name
    margin = 0.1
    weight = 300.0
    control = "none"
    in_all = False

    def __init__(self, *, budget: Budget | None = None) -> None:
        self.budget = budget

    def quick(self) -> Self:
        """With few steps of a small network."""
        from simulations.attacks.networks.training import Budget  # noqa: PLC0415 - torch is slow to import

        made = copy.copy(self)
        made.budget = Budget(steps=100, batch_size=16, width=64)
        made.weight = 5.0
        return made

    def notes(self, setting: Setting) -> list[str]:
        """Say what was spent, and on which public images."""
        return [self._budgets().text(self.device), setting.public_text]

    def recover(self, seen: Seen, rng: np.random.Generator) -> Pixels:
        """Train on what the oracle hides, then open the ciphertexts."""
        from simulations.attacks.networks.training import inverted  # noqa: PLC0415 - torch is slow to import

        device, budget = self._budgets().on(self.device)
        public = seen.public.pixels
        hidden = seen.oracle(public).images
        return inverted(
            public, hidden, seen.ciphertexts.images, shape=seen.geometry, budget=budget, device=device, rng=rng
        )

    def _budgets(self) -> Budgets:
        from simulations.attacks.networks.training import Budget, Budgets  # noqa: PLC0415

        return Budgets(
            cpu=self.budget or Budget(steps=2000, batch_size=32, width=256),
            cuda=self.budget or Budget(steps=20_000, batch_size=64, width=768),
        )
