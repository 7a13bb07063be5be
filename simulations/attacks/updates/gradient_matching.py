"""gradient-matching: images are searched for that would have made the update."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.making import Exchange
from simulations.attacks.situations.situation import Situation
from simulations.attacks.situations.update_attack import UpdateImageAttack, exchange_of
from simulations.attacks.study.attack import Chance, Metric, Scores
from simulations.attacks.study.cases import Case, Seen
from simulations.attacks.study.setting import Setting
from simulations.attacks.updates.matched import Descent, Match, Target, descend, labels_from_head

Floats = npt.NDArray[np.float64]
LOSS = Metric(
    "matching_loss", "one minus the cosine of the update and what was matched to it", "share", "lower", Chance.NONE
)
MOST_STEPS = 4
"""Local steps that are simulated, at most: of a longer round the sum of its gradients is taken for one."""


class GradientMatching(UpdateImageAttack):
    """Geiping et al.'s attack on a ViT.

    Parameters
    ----------
    descent
        How images are searched for; what it simulates of the sites' training is filled in from the situation.
    precision
        ``fp32`` or ``fp64``.
    updates
        Updates attacked under each key, at most: one takes as long as hundreds of steps of training.
    """

    name = "gradient-matching"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.UPDATES, Capability.BASICS, Capability.TRAINING})
    text = (
        "Images are changed, step by step, until the update they would make points where the one that was sent does; "
        "that images are smooth helps (total variation). Labels are read off the classifier's bias first. Rounds of a "
        "few steps of SGD are simulated; of longer ones, and of Adam, the whole change is taken for one gradient. "
        "The attacker's model has what was sent, and for the rest the public initial weights, or a guess of them: "
        "where a stem was adapted to a key and stays home the public stem gives the same gradients and the attack goes "
        "through to the plain image, as if there were no cipher; a stem drawn in secret cannot be matched through. "
        "What it does not find a longer search, another beginning or a better prior may."
    )
    papers: ClassVar[tuple[str, ...]] = (
        "Geiping et al. 2020, arXiv:2003.14053 (Inverting Gradients)",
        "Zhu et al. 2019, arXiv:1906.08935 (Deep Leakage from Gradients)",
        "Zhao et al. 2020, arXiv:2001.02610 (labels from the classifier)",
    )
    margin = 0.1
    weight = 60.0

    def __init__(self, *, descent: Descent | None = None, precision: str = "fp32", updates: int = 4) -> None:
        self.descent = Descent() if descent is None else descent
        self.precision, self.updates = precision, updates

    def quick(self) -> Self:
        """A third of the steps, on one update a key."""
        made = copy.copy(self)
        made.descent = replace(self.descent, iterations=self.descent.iterations // 3, restarts=1)
        made.updates, made.weight = 1, 5.0
        return made

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those of images, and how well the update was matched."""
        return (*super().metrics, LOSS)

    def notes(self, setting: Setting) -> list[str]:
        """What was spent."""
        spent = self.descent
        return [
            *super().notes(setting),
            f"{spent.iterations} steps, {spent.restarts} beginning{'s' if spent.restarts > 1 else ''}, total variation "
            f"{spent.variation:g}, {self.precision}; {self.updates} updates under each key at most.",
        ]

    def invert(self, seen: Seen, place: int, rng: np.random.Generator) -> Floats:
        """Images (m, C, H, W) behind an update."""
        return self.matched(exchange_of(seen), place, rng).images

    def matched(self, exchange: Exchange, place: int, rng: np.random.Generator) -> Match:
        """The images that match an update best, and how well they do."""
        update, shape = exchange[place], exchange.geometry
        model = exchange.model(torch.float64 if self.precision == "fp64" else torch.float32)
        size = (shape.channels, *shape.padded)
        here = exchange.situation
        plain = here.train.optimizer == "sgd"
        moved = here.train.lr * here.steps if plain else None
        labels = labels_from_head(update.change, model, update.images, size, moved=moved)
        return self.searched(Target(model, update.change, labels), (update.images, *size), here, rng)

    def searched(self, target: Target, shape: tuple[int, ...], here: Situation, rng: np.random.Generator) -> Match:
        """Search for the images of a target; another prior overrides this."""
        return descend(target, shape, simulated(self.descent, here), rng)

    def recover(self, seen: Seen, rng: np.random.Generator) -> Any:
        """The match of each update."""
        exchange = exchange_of(seen)
        return [self.matched(exchange, place, rng) for place in range(len(exchange))]

    def score(self, found: Any, case: Case) -> Scores:
        """Compare images; the loss is the attacker's own, and tells it whether to believe them."""
        images = [each.images if isinstance(each, Match) else each for each in found]
        losses = [each.loss for each in found if isinstance(each, Match)]
        return super().score(images, case) | ({LOSS.name: float(np.mean(losses))} if losses else {})

    def pictures(self, found: Any, case: Case) -> Any:
        """As of other attacks that end in images."""
        return super().pictures([each.images for each in found], case)


def simulated(descent: Descent, here: Situation) -> Descent:
    """A descent that simulates what can be of the sites' training: a few steps of plain SGD."""
    few = here.train.optimizer == "sgd" and here.steps <= MOST_STEPS and here.sites == 1
    return replace(descent, steps=here.steps if few else 1, rate_of_sites=here.train.lr)
