"""A round of private training: DP-SGD with whichever optimiser the run has.

Abadi et al., "Deep Learning with Differential Privacy", CCS 2016 (arXiv 1607.00133). Every unit is in a step by a
chance of its own (Poisson), its gradient is clipped, noise is added to the sum, and that is divided by the number of
units *expected*: the number drawn would tell of single ones. A step without any unit is a step with noise alone.

Of a unit with several images, a patient, the gradients of all of them are summed and clipped once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fl_client.batches import Batches
from fl_client.config import TrainConfig
from fl_client.numbers import numbers_of, place_of, to_device
from fl_client.optimizers import Moments, learning_rate, set_rate
from fl_client.privacy.accountant import Charge
from fl_client.privacy.chance import Chance
from fl_client.privacy.gradients import ClippedSum, Gradients, Loss, added, by_unit, of_each
from fl_client.training import Begun, RoundPlan, rows_that_stay
from medveil.errors import FederationError
from models.late_compiler import without_compiler
from models.patches import KeptPatches

HELD = 2**26
"""Most numbers of single gradients held at once: 256 MiB in single precision."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Hidden:
    """How a round hides its units.

    Parameters
    ----------
    clip
        Largest norm of what one does to a step.
    charge
        Noise, rate and steps, as they were charged.
    members
        Rows of the training part that are each unit's.
    chance
        What is drawn.
    """

    clip: float
    charge: Charge
    members: list[Indices]
    chance: Chance


@without_compiler()
def train_hidden(
    model: nn.Module,
    part: Batches,
    config: TrainConfig,
    plan: RoundPlan,
    hidden: Hidden,
    *,
    trainable: Iterable[str],
    moments: Moments | None = None,
) -> None:
    """Train `model` in place for one round, and say nothing of how it went: the loss of a batch is not hidden.

    Parameters are those of `fl_client.training.train_round`.

    Parameters
    ----------
    hidden
        How units are hidden.

    Raises
    ------
    FederationError
        A weight is not finite.
    """
    begun = Begun(model, part, config, plan, trainable=trainable, moments=moments)
    parameters, optimizers, course = begun.parameters, begun.optimizers, begun.course
    anchors = {name: each.detach().clone() for name, each in parameters.items()} if plan.proximal_mu > 0 else {}

    with begun.training(plan) as kept, warnings.catch_warnings():
        # On a CPU vmap takes images through fused attention one by one, which takes no longer than its parts do.
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        step = _Step(model, parameters, part, config, plan, hidden, kept)
        for epoch in course.epochs():
            for _ in range(begun.steps_an_epoch):
                gradients = step.gradients(course.done, epoch, leaves_out=begun.leaves_patches_out)
                _put(parameters, gradients, anchors, plan.proximal_mu)
                set_rate(optimizers, learning_rate(course.done, course.total, config))
                for optimizer in optimizers:
                    optimizer.step()
                begun.average.add()
                course.step()
    begun.end()
    if not all(torch.isfinite(each).all() for each in parameters.values()):
        raise FederationError(f"a weight is not finite after round {plan.round}", cure="lower train.lr")


@dataclass(frozen=True)
class _Step:
    """One noisy gradient after another."""

    model: nn.Module
    parameters: Mapping[str, nn.Parameter]
    part: Batches
    config: TrainConfig
    plan: RoundPlan
    hidden: Hidden
    kept: KeptPatches

    def gradients(self, step: int, epoch: int, *, leaves_out: bool) -> Gradients:
        """What the units of a step would do to the model, with noise, a unit expected."""
        hidden, charge = self.hidden, self.hidden.charge
        total = ClippedSum(self.parameters, hidden.clip)
        taken = hidden.chance.taken(step, len(hidden.members), charge.rate)
        for units in packed([hidden.members[unit] for unit in taken], self._at_once):
            total.add(added(self._pieces(units, epoch, leaves_out=leaves_out)))
        expected, deviation = charge.rate * len(hidden.members), charge.noise * hidden.clip
        found = {}
        for name, each in total.total.items():
            drawn = hidden.chance.normals(step, name, each.numel()) if deviation else np.zeros(each.numel())
            noise = torch.from_numpy(drawn).to(each.device).view_as(each)
            found[name] = ((each + deviation * noise) / expected).to(self.parameters[name].dtype)
        return found

    def _pieces(self, units: list[Indices], epoch: int, *, leaves_out: bool) -> Iterator[Gradients]:
        rows, whose = np.concatenate(units), np.repeat(np.arange(len(units)), [len(each) for each in units])
        loss = Loss(self.config.label_smoothing, self.config.precision)
        device, dtype = place_of(self.model)
        for start in range(0, len(rows), self._at_once):
            chosen = rows[start : start + self._at_once]
            x = numbers_of(self.part, chosen, epoch, device, dtype)
            y = to_device(self.part.labels[chosen], device)
            stay = rows_that_stay(self.model, len(chosen), self.config, self.plan, device) if leaves_out else None
            found = of_each(self.model, self.parameters, x, y, loss, kept=self.kept, rows=stay)
            yield by_unit(found, to_device(whose[start : start + self._at_once], device), len(units))

    @property
    def _at_once(self) -> int:
        """Images whose gradients are held at once: the same on every machine, as rounding follows from it."""
        numbers = sum(each.numel() for each in self.parameters.values())
        return max(1, min(self.config.batch_size, HELD // numbers))


def packed(units: list[Indices], most: int) -> Iterator[list[Indices]]:
    """Units that are computed together: as many as have no more than `most` images, or one that has more."""
    together: list[Indices] = []
    for each in units:
        if together and sum(map(len, together)) + len(each) > most:
            yield together
            together = []
        together.append(each)
    if together:
        yield together


def _put(parameters: Mapping[str, nn.Parameter], gradients: Gradients, anchors: Any, mu: float) -> None:
    """Give parameters their gradients; FedProx's pull needs no image, and no noise."""
    for name, parameter in parameters.items():
        pull = mu * (parameter.detach() - anchors[name]) if anchors else 0.0
        parameter.grad = gradients[name] + pull
