"""Light updates whose mean is exact: what of a trunk trains where not all of it does.

A federated mean is right where the model is *linear in what travels*: the mean of what sites send then is the mean of
their models. Biases and norms are so as they are (BitFit: Ben Zaken et al., "BitFit: Simple Parameter-efficient
Fine-tuning for Transformer-based Masked Language-models", ACL 2022, arXiv 2106.10199). Two trained factors are not:
mean(B A) is no mean(B) mean(A), so LoRA (Hu et al., arXiv 2106.09685) is refused. Between two factors that stand still
a trained core is (Banaei et al., "LoRA-XS", arXiv 2405.17604; Singhal et al., "Fed-SB", arXiv 2502.15436)::

    W + B R A,    B (m, r) and A (r, n) frozen, R (r, r) trained from zero

Those papers take B and A from a singular value decomposition of W. Its last bits are each machine's own, and sites with
other frames would have no common mean; so here they are drawn from the run's seed (`frame`), and part of the hash of
the model that sites and server must agree on.
Rows of A and columns of B are orthogonal, their entries of size 1/sqrt(r): the gradient of R then is about as long as
that of W, and a step of AdamW or Muon moves the entries of W as far as a step on W would. One rate and one clipping
serve every scope. Weight decay draws R to zero, that is W to its public start.

Every linear layer of the blocks has a core, of attention and MLP alike: its bytes do not depend on the layer's size.
It is a parametrization of torch's, so that it is met by whoever reads a layer's weight, as timm's attention with biases
of its own does; and torch merges it. `peft` has no such core, and would wrap the model under names of its own.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from medveil.errors import ConfigError
from medveil.training import CORE

if TYPE_CHECKING:
    from models.vits import VisionTransformer

_PLACE = ".parametrizations.weight."
_ORIGINAL, _CORE = f"{_PLACE}original", f"{_PLACE}0.core"
_GRID = 2**26
"""Length of a frame's rows while they are whole numbers: what is between two fits 64 bits, and float32 afterwards."""
_DRAWS = 4
"""Numbers of 16 bits that one of a frame is the sum of: nearly a normal one."""


class Core(nn.Module):
    """The parametrization of one layer's weight; its numbers are zero at first, and change nothing."""

    left: Tensor
    right: Tensor

    def __init__(self, left: Tensor, right: Tensor) -> None:
        super().__init__()
        self.register_buffer("left", left)
        self.register_buffer("right", right)
        self.core = nn.Parameter(left.new_zeros(left.shape[1], right.shape[0]))

    def forward(self, weight: Tensor) -> Tensor:
        """A weight (m, n) to W + B R A, in its own precision: merged it must be what was trained."""
        # A weight without storage has no autocast to switch off.
        with torch.autocast("cpu" if weight.is_meta else weight.device.type, enabled=False):
            return weight + self.left @ (self.core @ self.right)


def lighten(model: VisionTransformer, scope: str, rank: int, *, seed: int, where: str = "train") -> VisionTransformer:
    """Give a model what its scope trains beside its own parameters, in place: cores for ``lora-core``, else nothing.

    Parameters
    ----------
    model
        A model of `models.vit.build_vit`, with storage or without.
    scope, rank
        Of the run.
    seed
        Of the run: the frames follow from it alone, the same bits on every machine.
    where
        Whose settings these are, for errors.

    Raises
    ------
    ConfigError
        No linear layer, or one narrower than the rank.
    """
    if scope != CORE:
        return model
    layers = _linear_layers(model)
    if not layers:
        problem = "'scope' is lora-core, and the blocks of this model have no linear layer"
        raise ConfigError(problem, where=where, cure="full, head or bias")
    narrowest = min(min(layer.weight.shape) for layer in layers.values())
    if not 1 <= rank <= narrowest:
        problem = f"'rank' is not 1 to {narrowest}, the width of the narrowest linear layer of the blocks"
        raise ConfigError(problem, where=where, cure=f"at most {narrowest}; some need no more than 16")
    for name, layer in layers.items():
        outs, ins = layer.weight.shape
        left = _placed(f"{seed}/{name}/left", rank, outs, layer.weight)
        right = _placed(f"{seed}/{name}/right", rank, ins, layer.weight)
        parametrize.register_parametrization(layer, "weight", Core(left.T.contiguous(), right))
    return model


def plain_tensors(model: VisionTransformer) -> dict[str, Tensor]:
    """The whole model under timm's own names, on the CPU: cores merged into the weights they belong to."""
    merged = {
        f"{name}.weight": layer.weight
        for name, layer in model.named_modules()
        if parametrize.is_parametrized(layer, "weight")
    }
    found = {}
    for name, tensor in model.state_dict().items():
        plain = f"{name.removesuffix(_ORIGINAL)}.weight" if name.endswith(_ORIGINAL) else name
        if _PLACE not in name or plain != name:
            found[plain] = merged.get(plain, tensor).detach().to("cpu", copy=True)
    return found


def core_names(model: VisionTransformer) -> list[str]:
    """State-dict names of the cores."""
    return [name for name in model.state_dict() if name.endswith(_CORE)]


def bias_names(model: VisionTransformer) -> list[str]:
    """State-dict names of the biases: those of layers, and those that a layer keeps by a name of its own."""
    return [name for name, _ in model.named_parameters() if name.endswith(("bias", "_bias"))]


def scale_names(model: VisionTransformer) -> list[str]:
    """State-dict names of the weights of norms, and of layer scale."""
    found = []
    for name, layer in model.named_modules():
        own = [each for each, parameter in layer.named_parameters(recurse=False) if parameter.ndim == 1]
        is_norm = "norm" in type(layer).__name__.lower()
        found += [
            f"{name}.{each}" for each in own if (is_norm and each == "weight") or each.partition("_")[0] == "gamma"
        ]
    return found


def norm_names(model: VisionTransformer) -> list[str]:
    """State-dict names of everything a norm has, weights and biases."""
    norms = [f"{name}." for name, layer in model.named_modules() if "norm" in type(layer).__name__.lower()]
    return [name for name in model.state_dict() if name.startswith(tuple(norms))] if norms else []


def frame(label: str, rank: int, length: int) -> npt.NDArray[np.float64]:
    """Orthogonal rows, float64 (rank, length), with entries of size 1/sqrt(rank), as a label decides.

    Drawn by SHAKE-256 and made orthogonal one after another (Gram and Schmidt, twice), in whole numbers and single
    operations of IEEE 754: no library, processor or number of threads changes a bit. Orthogonal to some 1e-7.

    Parameters
    ----------
    label
        What is drawn for.
    rank, length
        Rows, and numbers of a row; no more rows than numbers.
    """
    text = f"medveil-frame/1/{label}/{rank}/{length}".encode()
    drawn = np.frombuffer(hashlib.shake_256(text).digest(2 * _DRAWS * rank * length), "<i2")
    numbers = 2 * drawn.reshape(rank, length, _DRAWS).sum(-1, dtype=np.int64) + 1
    rows = np.zeros((rank, length), np.int64)
    for index, row in enumerate(numbers):
        once = _without(_on_grid(row), rows[:index])
        rows[index] = _on_grid(_without(_on_grid(once), rows[:index]))
    found: npt.NDArray[np.float64] = rows / _GRID * math.sqrt(length / rank)
    return found


def _without(row: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """What of a row is in none of the others; sums are of whole numbers, so no order of adding changes them."""
    shares = (others @ row) / _GRID**2
    found: npt.NDArray[np.int64] = row - np.rint(shares[:, None] * others).astype(np.int64).sum(0)
    return found


def _on_grid(row: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = np.rint(row * (_GRID / math.sqrt(int(row @ row)))).astype(np.int64)
    return found


def _placed(label: str, rank: int, length: int, like: Tensor) -> Tensor:
    if like.is_meta:
        return like.new_empty(rank, length)
    return torch.from_numpy(frame(label, rank, length)).to(like.device, like.dtype)


def _linear_layers(model: VisionTransformer) -> dict[str, Any]:
    """Linear layers of the blocks, by name."""
    return {f"blocks.{name}": layer for name, layer in model.blocks.named_modules() if isinstance(layer, nn.Linear)}
