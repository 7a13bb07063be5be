"""What takes a step: optimisers, their groups of parameters, and the learning rate over a run.

Muon is Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024, as torch has it. It makes the
update of a matrix nearly orthogonal, which is meant for the matrices inside transformer blocks: stem, head, positions,
norms and biases are AdamW's. Its step is scaled to the size AdamW's steps have (Liu et al., "Muon is Scalable for LLM
Training", arXiv 2502.16982), so that one learning rate serves both.

Blocks are the same in a site's model on hidden images and in its twin on plain ones, and so are their gradients but
for rounding: what Muon makes of them is the same too (on a GPU, but for the rounding to bfloat16 inside it).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fl_client.config import TrainConfig
from fl_client.muon import Muon
from medveil.errors import IntegrityError
from models.stem import block_matrices
from models.timm_import import OPTIMIZERS, import_timm

import_timm(OPTIMIZERS)

from timm.optim._param_groups import param_groups_layer_decay  # noqa: E402 - import_timm comes first

Optimizers: TypeAlias = "list[torch.optim.Optimizer]"
Group: TypeAlias = "dict[str, Any]"
Moments: TypeAlias = "dict[str, Tensor]"

MOMENTUM = 0.95
NEWTON_SCHULZ_STEPS = 5
_BETA_1 = 0.9
_SPARED = {"decoder.mask_token", "decoder.pos_embed"}
"""Tokens and positions that timm does not know of."""
_SCALE = "lr_scale"
"""Where timm writes by how much a group's rate is smaller."""


def make_optimizers(model: nn.Module, parameters: Mapping[str, nn.Parameter], config: TrainConfig) -> Optimizers:
    """Make what trains these parameters: one optimiser, or Muon for the matrices of blocks and AdamW for the rest.

    Weight decay spares biases, norms, tokens and position embeddings, as timm does.

    Parameters
    ----------
    model
        The model, which knows what weight decay spares.
    parameters
        Those that train, by name; no other needs a gradient.
    """
    groups = _groups(model, parameters, config)
    if config.optimizer == "sgd":
        return [torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)]
    betas = (_BETA_1, config.beta_2)
    # One kernel for all of a step: on a CPU a loop over small tensors costs several times as much.
    fused = all(parameter.device.type == "cpu" for parameter in parameters.values())
    if config.optimizer == "adamw":
        return [torch.optim.AdamW(groups, lr=config.lr, betas=betas, fused=fused)]
    chosen = {id(parameters[name]) for name in block_matrices(parameters)}
    inside, outside = _parted(groups, chosen)
    adamw = torch.optim.AdamW(outside, lr=config.lr, betas=betas, fused=fused)
    if not inside:
        # A stem that is warmed up trains with the head alone.
        return [adamw]
    muon = Muon(inside, lr=config.lr, momentum=MOMENTUM, ns_steps=NEWTON_SCHULZ_STEPS)
    return [muon, adamw]


_made: WeakKeyDictionary[nn.Module, tuple[list[int], TrainConfig, Optimizers]] = WeakKeyDictionary()


def fresh_optimizers(model: nn.Module, parameters: Mapping[str, nn.Parameter], config: TrainConfig) -> Optimizers:
    """`make_optimizers`, but those made last for this model where they suit, with nothing in their memory.

    Sites of a process take turns on one model: they take turns on what trains it too. Parameters are those of
    `make_optimizers`.
    """
    chosen = [id(each) for each in parameters.values()]
    kept = _made.get(model)
    if kept is None or kept[0] != chosen or kept[1] != config:
        kept = _made[model] = (chosen, replace(config), make_optimizers(model, parameters, config))
    forget(kept[2])
    return list(kept[2])


def forget(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Leave them as they were made: they hold no memory of any step."""
    for optimizer in optimizers:
        optimizer.state.clear()


def set_rate(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    """Give every group its learning rate, smaller for lower layers where `layer_decay` says so."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get(_SCALE, 1.0)


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """Learning rate at `step` of `total`: linear warm-up, then one cosine down to `min_lr`."""
    rising = int(config.lr_warmup * total)
    if step < rising:
        return config.lr * (step + 1) / rising
    progress = (step - rising) / max(1, total - rising)
    floor = min(config.min_lr, config.lr)
    return floor + (config.lr - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def _groups(model: nn.Module, parameters: Mapping[str, nn.Parameter], config: TrainConfig) -> list[Group]:
    if config.layer_decay < 1:
        decaying: list[Group] = param_groups_layer_decay(
            model,
            weight_decay=config.weight_decay,
            no_weight_decay_list=tuple(getattr(model, "no_weight_decay", set)()),
            layer_decay=config.layer_decay,
        )
        return decaying
    spared: set[str] = set(getattr(model, "no_weight_decay", set)()) | _SPARED
    decayed = [p for name, p in parameters.items() if p.ndim > 1 and name not in spared]
    plain = [p for name, p in parameters.items() if p.ndim <= 1 or name in spared]
    groups: list[Group] = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _parted(groups: list[Group], chosen: set[int]) -> tuple[list[Group], list[Group]]:
    """The groups of the chosen parameters (by identity), and of the others."""
    sides = []
    for side in (True, False):
        cut = [{**group, "params": [p for p in group["params"] if (id(p) in chosen) is side]} for group in groups]
        sides.append([group for group in cut if group["params"]])
    return sides[0], sides[1]


def moments_of(optimizers: Sequence[torch.optim.Optimizer], parameters: Mapping[str, nn.Parameter]) -> Moments:
    """What optimisers remember of their steps, as ``"what/parameter"``, on the CPU."""
    found = {}
    for name, parameter in parameters.items():
        for optimizer in optimizers:
            for what, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    found[f"{what}/{name}"] = value.detach().to("cpu", copy=True)
    return found


def remember(
    optimizers: Sequence[torch.optim.Optimizer], parameters: Mapping[str, nn.Parameter], moments: Moments
) -> None:
    """Give optimisers back what `moments_of` found; a parameter without any begins fresh.

    Raises
    ------
    IntegrityError
        Moments of another parameter, or of another shape.
    """
    owners = {id(p): optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for key, value in moments.items():
        what, _, name = key.partition("/")
        parameter = parameters.get(name)
        if parameter is None or value.shape not in (parameter.shape, torch.Size()):
            raise IntegrityError("kept moments are of another model", cure="start a new run")
        # Counts of steps stay on the CPU, where AdamW makes them.
        placed = value.clone() if value.ndim == 0 else value.to(parameter.device, parameter.dtype)
        owners[id(parameter)].state[parameter][what] = placed
