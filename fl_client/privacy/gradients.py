"""What each unit alone would do to a model, clipped, and the sum of that.

Gradients of single images come from `torch.func` (vmap over grad). It differentiates what the model computes, whatever
modules that takes: hooks on layers, opacus' usual way, find nothing of a parameter that is used outside the forward of
its own layer, as those of some of timm's attentions and of `models.light`'s cores are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from fl_client.numbers import autocast
from medveil.errors import ConfigError
from models.patches import KeptPatches

Gradients = dict[str, Tensor]
_MARGIN = 1e-6
"""By which a clip is smaller than what it may be, so that rounding to single precision never exceeds that."""


def check_apart(model: nn.Module) -> None:
    """Refuse a model in which the images of a batch meet: no gradient would be of one alone.

    Raises
    ------
    ConfigError
        It has layers that take statistics of a batch.
    """
    met = sorted({type(layer).__name__ for layer in model.modules() if isinstance(layer, _BatchNorm)})
    if met:
        problem = f"has {', '.join(met)}, which takes statistics of a batch: one image would be in every gradient of it"
        raise ConfigError(problem, where="privacy, model.name", cure="a model with LayerNorm or GroupNorm")


@dataclass(frozen=True)
class Loss:
    """What is minimised: cross-entropy, in the precision of the run."""

    label_smoothing: float
    precision: str


def of_each(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    x: Tensor,
    y: Tensor,
    loss: Loss,
    *,
    kept: KeptPatches,
    rows: Tensor | None = None,
) -> Gradients:
    """The gradient of each image's own loss, by name of the parameter: (b, ...).

    Parameters
    ----------
    model
        The model; other parameters than those named stand still.
    parameters
        Those that train.
    x, y
        Images (b, C, H, W) and their classes (b,).
    kept, rows
        Where the model leaves patches out, and those that stay: int64 (b, k), or None for all.
    """

    def own(trained: Gradients, image: Tensor, label: Tensor, own_rows: Tensor | None) -> Tensor:
        kept.rows = None if own_rows is None else own_rows[None]
        with autocast(image.device, loss.precision):
            logits = functional_call(model, trained, (image[None],))
        logits = logits.float() if logits.dtype == torch.bfloat16 else logits
        return functional.cross_entropy(logits, label[None], label_smoothing=loss.label_smoothing)

    trained = {name: parameter.detach() for name, parameter in parameters.items()}
    # What a model draws (stochastic depth) it draws for each image.
    each = vmap(grad(own), in_dims=(None, 0, 0, None if rows is None else 0), randomness="different")
    found: Gradients = each(trained, x, y, rows)
    kept.rows = None
    return found


class ClippedSum:
    """The sum over units of what each of them would do, held to a norm; in double precision.

    Parameters
    ----------
    like
        The parameters, by name.
    clip
        Largest L2 norm, over all parameters together, of what a unit adds.
    """

    def __init__(self, like: Mapping[str, Tensor], clip: float) -> None:
        self._clip = clip
        self.total = {name: torch.zeros_like(each, dtype=torch.float64) for name, each in like.items()}

    def add(self, gradients: Mapping[str, Tensor]) -> None:
        """Add some units: (u, ...) a parameter. One whose gradient is not finite adds nothing."""
        of_each = [torch.linalg.vector_norm(g.flatten(1), dim=1, dtype=torch.float64) for g in gradients.values()]
        norms = torch.stack(of_each).square().sum(0).sqrt()
        within = self._clip * (1 - _MARGIN) / norms.clamp(min=torch.finfo(torch.float64).tiny)
        shares = torch.where(norms.isfinite(), within.clamp(max=1.0), 0.0)
        for name, each in gradients.items():
            flat = torch.where(norms.isfinite()[:, None], each.flatten(1), 0.0)
            self.total[name] += (shares @ flat.double()).view_as(self.total[name])


def by_unit(gradients: Mapping[str, Tensor], unit: Tensor, units: int) -> Gradients:
    """Sum gradients of images to those of their units.

    Parameters
    ----------
    gradients
        (b, ...) a parameter.
    unit
        int64 (b,), below `units`: whose each is.
    """
    return {
        name: torch.zeros((units, *each.shape[1:]), dtype=each.dtype, device=each.device).index_add_(0, unit, each)
        for name, each in gradients.items()
    }


def added(pieces: Iterable[Gradients]) -> Gradients:
    """Gradients of the same units from several pieces of their images, together."""
    total: Gradients = {}
    for each in pieces:
        total = each if not total else {name: total[name] + value for name, value in each.items()}
    return total
