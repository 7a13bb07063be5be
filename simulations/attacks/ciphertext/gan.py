"""gan: learn to read ciphertexts from ciphertexts and unrelated public images, without any pair."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Self

import numpy as np

from simulations.attacks.solvers.schemes import Kind, kind_of, may_negate
from simulations.attacks.study.attack import Knowledge, Scores
from simulations.attacks.study.cases import Case, Seen
from simulations.attacks.study.image_attack import EITHER, ImageAttack
from simulations.attacks.study.scores import Pixels
from simulations.attacks.study.setting import Setting

if TYPE_CHECKING:
    from simulations.attacks.networks.training import Budget, Budgets


class Gan(ImageAttack):
    """Train a network until a critic takes what it makes of ciphertexts for images of the kind.

    Parameters
    ----------
    budget
        What is spent on each training; None for the device's own: two minutes of a CPU core for images of
        64x64, twenty times as many steps of a net four times as wide on a GPU.
    ciphertexts
        Ciphertexts of the key it is trained on, at most.
    """

    name = "gan"
    knowledge = frozenset({Knowledge.CIPHERTEXTS, Knowledge.PUBLIC})
    text = (
        "The attacker has ciphertexts of one key and public images of the kind, none of them behind a ciphertext. A "
        "network turns ciphertexts into images, and a critic learns to tell those from public ones, patch by patch; "
        "each is trained against the other. Where hiding moves values, the sorted values of ciphertext and image are "
        "held together. The control, images in plain, starts from random weights as the target does: the network must "
        "find by itself that there is nothing to undo. What a network of this size and budget does not recover, a "
        "larger one may."
    )
    papers = (
        "Madono, Tanaka, Onishi, Ogawa 2021, IEEE Access (SIA-GAN)",
        "Sirichotedumrong, Kiya 2020, arXiv:2010.06198 (GAN-based attack)",
    )
    main = EITHER.name
    margin = 0.1
    weight = 300.0
    control = "none"
    in_all = False

    def __init__(self, *, budget: Budget | None = None, ciphertexts: int = 1000) -> None:
        self.budget, self.ciphertexts = budget, ciphertexts
        self.wanted = ciphertexts

    def quick(self) -> Self:
        """With few steps of a small network."""
        from simulations.attacks.networks.training import Budget  # noqa: PLC0415 - torch is slow to import

        made = copy.copy(self)
        made.budget = Budget(steps=100, batch_size=8, width=32)
        made.weight = 15.0
        return made

    def notes(self, setting: Setting) -> list[str]:
        """Say what was spent, and on which public images."""
        return [self._budgets().text(self.device), setting.public_text]

    def case(self, setting: Setting, key: int) -> Case:
        """As many ciphertexts as there are; the first of them are scored."""
        case = setting.case(key)
        more = setting.case(key, images=max(setting.images, self.ciphertexts), fewest=setting.images)
        case.extra = {Knowledge.CIPHERTEXTS: more.hidden}
        return case

    def recover(self, seen: Seen, rng: np.random.Generator) -> Pixels:
        """Train on all ciphertexts, then open them."""
        from simulations.attacks.networks.training import translated  # noqa: PLC0415 - torch is slow to import

        device, budget = self._budgets().on(self.device)
        hidden, shape = seen.ciphertexts.images, seen.geometry
        moves = kind_of(seen.config) not in {Kind.ROTATED, Kind.UNKNOWN}
        return translated(
            hidden,
            seen.public.pixels,
            hidden,
            shape=shape,
            budget=budget,
            device=device,
            rng=rng,
            tones=("negated" if may_negate(seen.config) else "moved") if moves else None,
        )

    def score(self, found: Pixels, case: Case) -> Scores:
        """Compare those recovered images that are scored with their originals."""
        return super().score(found[: len(case.targets.labels)], case)

    def _budgets(self) -> Budgets:
        from simulations.attacks.networks.training import Budget, Budgets  # noqa: PLC0415

        return Budgets(
            cpu=self.budget or Budget(steps=1500, batch_size=16, width=128),
            cuda=self.budget or Budget(steps=30_000, batch_size=32, width=512),
        )
