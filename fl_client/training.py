"""Local training and inference on a site's encrypted images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from fl_client.averaging import WeightAverage
from fl_client.batches import Batches, in_order, shuffled
from fl_client.class_shares import Adjustment, class_weights, logit_adjustment
from fl_client.config import TrainConfig
from fl_client.course import Course
from fl_client.masked import masked_loss
from fl_client.numbers import autocast, numbers_of, place_of, to_device
from fl_client.optimizers import (
    Moments,
    Optimizers,
    forget,
    fresh_optimizers,
    learning_rate,
    moments_of,
    remember,
    set_rate,
)
from medveil.errors import FederationError
from medveil.pretraining import MaskedConfig
from models.late_compiler import without_compiler
from models.patches import KeptPatches, draw_rows, leaving_out


@dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """Where one round stands in the whole run."""

    round: int
    rounds: int
    seed: int
    rng: np.random.Generator
    proximal_mu: float = 0.0
    pi: npt.NDArray[np.int64] | None = None
    """How the key permutes patches, for what is drawn in the plain image's order; None where it does not."""
    masked: MaskedConfig | None = None
    """How patches are masked where pixels are learned, and no classes."""


@dataclass(frozen=True)
class TrainResult:
    """What a round of local training measured on its own batches; no accuracy where there are no classes."""

    loss: float
    accuracy: float | None
    n: int


@without_compiler()
def train_round(
    model: nn.Module,
    part: Batches,
    config: TrainConfig,
    plan: RoundPlan,
    *,
    trainable: Iterable[str],
    moments: Moments | None = None,
    drawn_to: Mapping[str, Tensor] | None = None,
) -> TrainResult:
    """Train `model` in place for one round.

    The learning rate follows one cosine over the whole run, of which this is round ``plan.round`` of ``plan.rounds``.
    The order of images, MixUp and stochastic depth follow from the plan alone, so that a repeated round is the same
    round; unless it ends by the clock (`fl_client.course`).

    Parameters
    ----------
    model
        A ViT on its device; only `trainable` parameters change.
    part
        The site's encrypted training images.
    trainable
        Names of the parameters that train.
    moments
        What the optimiser remembers of the site's round before; what it remembers of this one takes its place. None:
        it begins fresh.
    drawn_to
        Where `plan.proximal_mu` draws the parameters to, by name; None: to where they begin.

    Raises
    ------
    FederationError
        The loss is not finite.
    """
    device, dtype = place_of(model)
    begun = Begun(model, part, config, plan, trainable=trainable, moments=moments)
    parameters, course = list(begun.parameters.values()), begun.course
    step = _Step(
        model=model,
        optimizers=begun.optimizers,
        parameters=parameters,
        anchors=_anchors(begun.parameters, drawn_to) if plan.proximal_mu > 0 else [],
        weights=class_weights(part.labels, _classes(model), config, device),
        adjustment=logit_adjustment(part.labels, _classes(model), config, device),
        config=config,
        plan=plan,
    )
    losses, hits, seen = torch.zeros((), device=device), torch.zeros((), device=device), 0

    with begun.training(plan) as kept:
        for epoch in course.epochs():
            for chosen in shuffled(len(part.labels), config.batch_size, plan.rng):
                if course.over:
                    break
                x = numbers_of(part, chosen, epoch, device, dtype)
                y = to_device(part.labels[chosen], device)
                leaves_out = begun.leaves_patches_out
                kept.rows = rows_that_stay(model, len(chosen), config, plan, device) if leaves_out else None
                loss, hit = step.take(x, y, lr=learning_rate(course.done, course.total, config))
                begun.average.add()
                losses += loss * len(chosen)
                hits += hit
                seen += len(chosen)
                course.step()
    begun.end()
    mean = float(losses) / seen
    if not math.isfinite(mean):
        raise FederationError(
            f"the training loss of round {plan.round} is not finite", cure="lower train.lr or switch clipping on"
        )
    accuracy = None if plan.masked is not None else float(hits) / seen
    return TrainResult(loss=mean, accuracy=accuracy, n=seen)


class Begun:
    """What every round of training stands on, with noise or without: optimisers, their rate's course, the average.

    Parameters are those of `train_round`.

    Attributes
    ----------
    parameters
        Those that train, by name.
    optimizers
        Of them, with the moments of the round before.
    course
        How far the round has come.
    average
        Of the weights (`train.ema`).
    """

    def __init__(
        self,
        model: nn.Module,
        part: Batches,
        config: TrainConfig,
        plan: RoundPlan,
        *,
        trainable: Iterable[str],
        moments: Moments | None,
    ) -> None:
        self._model, self._config, self._moments = model, config, moments
        self.parameters = only_trainable(model, trainable)
        self._device, _ = place_of(model)
        self.optimizers = fresh_optimizers(model, self.parameters, config)
        if moments:
            remember(self.optimizers, self.parameters, moments)
        self.steps_an_epoch = math.ceil(len(part.labels) / config.batch_size)
        steps = self.steps_an_epoch
        self.course = Course(config, round_=plan.round, rounds=plan.rounds, steps=steps, device=self._device)
        self.average = WeightAverage(self.parameters.values(), config.ema)

    @contextmanager
    def training(self, plan: RoundPlan) -> Iterator[KeptPatches]:
        """Have the model train, and draw from the plan alone; gives the patches that stay."""
        if not self._model.training:
            # Of a model that trains already, each module would be told once more.
            self._model.train()
        forked = torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else [])
        with forked, attention_apart(self._model, self._config.precision), leaving_out(self._model) as kept:
            seed_here(self._device, plan.seed)
            yield kept

    @property
    def leaves_patches_out(self) -> bool:
        """Whether the step to come does (`train.patch_dropout`)."""
        config, course = self._config, self.course
        return config.patch_dropout > 0 and course.done < config.patch_dropout_steps * course.total

    def end(self) -> None:
        """Leave moments for the next round, and the average in the place of the weights."""
        if self._moments is not None:
            self._moments.clear()
            self._moments.update(moments_of(self.optimizers, self.parameters))
        forget(self.optimizers)
        self.average.settle()


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One optimisation step after another on one model."""

    model: nn.Module
    optimizers: Optimizers
    parameters: list[nn.Parameter]
    anchors: list[Tensor]
    weights: Tensor | None
    adjustment: Adjustment | None
    config: TrainConfig
    plan: RoundPlan

    def take(self, x: Tensor, y: Tensor, *, lr: float) -> tuple[Tensor, Tensor]:
        """Step on a batch; returns its loss and how many it got right."""
        if self.plan.masked is not None:
            return self._take_masked(x, self.plan.masked, lr), torch.zeros((), device=x.device)
        share, other = 1.0, None
        if self.config.mixup > 0:
            share = float(self.plan.rng.beta(self.config.mixup, self.config.mixup))
            other = torch.from_numpy(self.plan.rng.permutation(len(y))).to(y.device)
            # MixUp of normalised pixels commutes with a signed permutation: ciphertexts mix as their plaintexts do.
            x = share * x + (1 - share) * x[other]
        with autocast(x.device, self.config.precision):
            logits = self.model(x)
        logits = logits.float() if logits.dtype == torch.bfloat16 else logits
        loss = self._loss(logits, y)
        if other is not None:
            loss = share * loss + (1 - share) * self._loss(logits, y[other])
        self._descend(loss + self._proximal(), lr)
        truth = y if other is None or share >= 0.5 else y[other]
        return loss.detach(), (logits.detach().argmax(1) == truth).sum()

    def _take_masked(self, x: Tensor, masked: MaskedConfig, lr: float) -> Tensor:
        with autocast(x.device, self.config.precision):
            loss = masked_loss(self.model, x, masked, rng=self.plan.rng, pi=self.plan.pi)
        self._descend(loss + self._proximal(), lr)
        return loss.detach()

    def _loss(self, logits: Tensor, y: Tensor) -> Tensor:
        smoothing = self.config.label_smoothing
        if self.adjustment is not None:
            shares, added = (each.to(logits.dtype) for each in self.adjustment)
            # Mass moved to all classes alike would teach a site's rare class to be common.
            wanted = (1 - smoothing) * functional.one_hot(y, len(shares)).to(logits.dtype) + smoothing * shares
            return functional.cross_entropy(logits + added, wanted)
        if self.weights is None:
            return functional.cross_entropy(logits, y, label_smoothing=smoothing)
        # An image weighs by its own class; torch's weights would weigh the mass that smoothing moves by where it goes.
        weights = self.weights.to(logits.dtype)[y]
        each = functional.cross_entropy(logits, y, label_smoothing=smoothing, reduction="none")
        return (weights * each).sum() / weights.sum()

    def _proximal(self) -> Tensor | float:
        """FedProx's pull towards the incoming weights (Li et al., arXiv 1812.06127), and Ditto's."""
        if not self.anchors:
            return 0.0
        moved = [((p - a) ** 2).sum() for p, a in zip(self.parameters, self.anchors, strict=True)]
        return self.plan.proximal_mu / 2 * torch.stack(moved).sum()

    def _descend(self, objective: Tensor, lr: float) -> None:
        set_rate(self.optimizers, lr)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        objective.backward()
        if self.config.clip > 0:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        for optimizer in self.optimizers:
            optimizer.step()


def _anchors(parameters: Mapping[str, nn.Parameter], drawn_to: Mapping[str, Tensor] | None) -> list[Tensor]:
    found = parameters if drawn_to is None else drawn_to
    return [found[name].detach().to(each.device, each.dtype, copy=True) for name, each in parameters.items()]


def rows_that_stay(model: Any, images: int, config: TrainConfig, plan: RoundPlan, device: torch.device) -> Tensor:
    """The patches that a batch keeps, drawn in the order of the plain image."""
    rows = draw_rows(plan.rng, images, model.patch_embed.num_patches, config.patch_dropout, plan.pi)
    return to_device(rows, device)


def seed_here(device: torch.device, seed: int) -> None:
    """Seed what draws on a device.

    `torch.manual_seed` seeds every kind of device there could be: for one that is not here it notes the seed beside a
    stack trace each time.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def only_trainable(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Parameter]:
    """Let gradients flow to named parameters alone; returns them, by name in the order of the model."""
    wanted, found = set(names), {}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in wanted)
        if name in wanted:
            found[name] = parameter
    return found


@contextmanager
def attention_apart(model: nn.Module, precision: str) -> Iterator[None]:
    """For bf16 on a CPU, where the fused kernel of attention is the slower one: its parts one after the other."""
    apart = precision == "bf16" and next(model.parameters()).device.type == "cpu"
    layers: list[Any] = [each for each in model.modules() if hasattr(each, "fused_attn")] if apart else []
    before = [each.fused_attn for each in layers]
    for each in layers:
        each.fused_attn = False
    try:
        yield
    finally:
        for each, fused in zip(layers, before, strict=True):
            each.fused_attn = fused


@torch.no_grad()
def predict(model: nn.Module, part: Batches, config: TrainConfig, *, batch_size: int = 128) -> npt.NDArray[np.float32]:
    """Class probabilities (n, K) of a part's images, un-augmented, in order."""
    device, dtype = place_of(model)
    model.eval()
    rows = []
    with attention_apart(model, config.precision):
        for chosen in in_order(len(part.labels), batch_size):
            x = numbers_of(part, chosen, 0, device, dtype)
            with autocast(device, config.precision):
                logits = model(x)
            rows.append(logits.double().softmax(1).float().cpu().numpy())
    return np.concatenate(rows) if rows else np.zeros((0, _classes(model)), np.float32)


def _classes(model: nn.Module) -> int:
    return int(model.num_classes)  # type: ignore[arg-type]
