"""Training the networks of attacks: what may be spent, on pairs, and without pairs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crypto.base import Geometry
from fl_client.workbench import pick_device
from models.late_compiler import without_compiler
from simulations.attacks.networks.nets import BlockNet, Critic, Pixels, Scale, as_numbers, opened


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may be spent on one network: optimiser steps, images in each, and channels of the net."""

    steps: int
    batch_size: int
    width: int


@dataclass(frozen=True)
class Budgets:
    """A budget for each kind of device."""

    cpu: Budget
    cuda: Budget

    def on(self, device: str) -> tuple[torch.device, Budget]:
        """The device of a name, and what may be spent there."""
        placed = pick_device(device)
        return placed, self.cuda if placed.type == "cuda" else self.cpu

    def text(self, device: str) -> str:
        """Say what is spent there."""
        placed, budget = self.on(device)
        return (
            f"Each network is trained on {placed.type}: {budget.steps} steps of {budget.batch_size} images, "
            f"{budget.width} channels."
        )


@without_compiler()
def inverted(
    public: Pixels,
    hidden: Pixels,
    asked: Pixels,
    *,
    shape: Geometry,
    budget: Budget,
    device: torch.device,
    rng: np.random.Generator,
) -> Pixels:
    """What a net trained on pairs makes of other ciphertexts.

    Parameters
    ----------
    public, hidden
        Images and their ciphertexts, (n, C, H, W).
    asked
        Ciphertexts to open, (m, C, H, W).

    Returns
    -------
    uint8 (m, C, H, W)
    """
    scale = Scale.of(hidden)
    given, wanted = scale(hidden, device), as_numbers(public, device)
    with _seeded(rng, device):
        net = BlockNet(shape, budget.width).to(device)
        optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=budget.steps)
        for chosen in _batches(len(given), budget, rng):
            loss = functional.mse_loss(net(given[chosen]), wanted[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        return opened(net, scale(asked, device))


@without_compiler()
def translated(
    hidden: Pixels,
    public: Pixels,
    asked: Pixels,
    *,
    shape: Geometry,
    budget: Budget,
    device: torch.device,
    rng: np.random.Generator,
    tones: str | None,
) -> Pixels:
    """What a net makes of ciphertexts that was trained until a critic took its work for public images.

    Hinge losses, and a spectrally normalised critic (arXiv:1802.05957). Where hiding only moves values, an image has
    those of its ciphertext, so the sorted values of both are drawn together.

    Parameters
    ----------
    hidden, public
        Ciphertexts of one key, and images of the kind; no pairs.
    asked
        Ciphertexts to open.
    tones
        ``"moved"`` or ``"negated"``: what hiding does to values. None where it does anything else to them.
    """
    scale = Scale.of(hidden)
    given, sorted_tones = scale(hidden, device), _tones(as_numbers(hidden, device), tones)
    real = as_numbers(public, device)
    with _seeded(rng, device):
        net, critic = BlockNet(shape, budget.width).to(device), Critic(shape.channels, budget.width // 4).to(device)
        painter = torch.optim.Adam(net.parameter_groups(1e-3), betas=(0.5, 0.9))
        judge = torch.optim.Adam(critic.parameters(), lr=5e-4, betas=(0.5, 0.9))
        for chosen, shown in zip(_batches(len(given), budget, rng), _batches(len(real), budget, rng), strict=True):
            made = net(given[chosen]).tanh()
            doubt = functional.relu(1 - critic(real[shown])).mean() + functional.relu(1 + critic(made.detach())).mean()
            judge.zero_grad(set_to_none=True)
            doubt.backward()
            judge.step()
            loss = -critic(made).mean()
            if tones is not None:
                loss = loss + 10 * functional.mse_loss(_tones(made, tones), sorted_tones[chosen])
            painter.zero_grad(set_to_none=True)
            loss.backward()
            painter.step()
        return opened(torch.nn.Sequential(net, torch.nn.Tanh()), scale(asked, device))


def _tones(images: Tensor, kind: str | None) -> Tensor:
    """Sorted values of each image; of negated ones, distances from the middle."""
    flat = images.flatten(1)
    return (flat.abs() if kind == "negated" else flat).sort(dim=1)[0]


def _batches(n: int, budget: Budget, rng: np.random.Generator) -> Iterator[Tensor]:
    """Indices of as many random batches as there are steps."""
    for _ in range(budget.steps):
        yield torch.from_numpy(rng.choice(n, size=min(n, budget.batch_size), replace=False))


@contextlib.contextmanager
def _seeded(rng: np.random.Generator, device: torch.device) -> Iterator[None]:
    """Draw weights from the attack's own generator, and leave torch's as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(rng.integers(2**63)))
        yield
