"""Frozen weights that print patches into what little of a model trains: cores, or biases.

Sami et al., "Gradient Inversion Attacks on Parameter-Efficient Fine-Tuning", CVPR 2025 (arXiv 2506.04453), have a
server hand out a pre-trained trunk through which patches reach an adapter unchanged, with position embeddings that open
a neuron of it to one place alone. There are no adapters here. A core reads r numbers of a token where an adapter reads
all, so that a place takes cores of several blocks; a bias reads none, and what its gradient has of a token is the bend
of GELU.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import null_space, orth, qr
from scipy.stats import norm
from torch import Tensor, nn
from torch.nn.utils import parametrize

from medveil.training import CORE
from medveil.wire import Tensors
from simulations.attacks.solvers.imprint import Patches, between_neighbours, patches_of

if TYPE_CHECKING:
    from models.vits import VisionTransformer

Floats = npt.NDArray[np.float64]

_FC1 = "blocks.{}.mlp.fc1"
_LOUD = 4.0
"""How many times a position's code is as long as what the longest patch adds to it."""
_SPARE = 6
"""Numbers of a token beyond those of a patch and its norm: they say whether it was one token."""
_SHARP, _POSSIBLE = 40.0, 0.02
_OPEN, _BEND, _CONTENT = 20.0, 10.0, 2.8
"""How sharply a place opens a row, and a row on GELU's bend, and how much a patch moves that one: beside its code."""
_CODES = 3
"""Beside those of places: of tokens that are no patch, of what rows add, and one that all positions have."""
_FAINT, _STRONG = 1e-3, 100.0
"""What the rows add to a token, beside its code, and by how much the last block's values make more of it."""

_LIFT = 1e7
"""How many times as large what enters a layer is where its cores are summed, and its weights as small."""


class Gate(NamedTuple):
    """Rows (in each of some blocks) that answer to tokens of one place alone."""

    place: int
    blocks: tuple[int, ...]
    rows: tuple[int, ...]


class Sizes(NamedTuple):
    """Of a model and its patches: blocks, width, rows of an MLP, rank of a core, numbers of a patch, places."""

    depth: int
    width: int
    rows: int
    rank: int
    length: int
    places: int


def too_narrow(width: int, length: int, places: int) -> str | None:
    """Why a token cannot hold a patch and a code for its place; None where it can."""
    least = length + places + _CODES + 1
    return (
        None if width >= least else f"a token of {width} numbers does not hold a patch of {length} and {places} codes"
    )


def gates(sizes: Sizes, scope: str, *, bins: int) -> list[Gate]:
    """Which rows answer to which place, of as many places as the blocks before the last are enough for.

    Parameters
    ----------
    sizes
        Of the model.
    scope
        ``lora-core``, or one of the biases'.
    bins
        Thresholds of a place, for images of a batch to fall between; of biases there is one.
    """
    usable = sizes.depth - 1
    if scope == CORE:
        deep, each = -(-(sizes.length + 2 + _SPARE) // sizes.rank), bins
        groups = [tuple(range(at, at + deep)) for at in range(0, usable - deep + 1, deep)]
        wide = sizes.rank // bins
    else:
        each, groups = sizes.length + 1, [(at,) for at in range(usable)]
        wide = sizes.rows // each
    made = [(group, tuple(range(at * each, (at + 1) * each))) for group in groups for at in range(wide)]
    return [Gate(place, *chosen) for place, chosen in zip(range(sizes.places), made, strict=False)]


def spaces(embedding: Floats, places: int) -> tuple[Floats, Floats]:
    """Orthonormal columns of what patches span, without its mean (D, L), and codes across it (D, places and a few).

    Parameters
    ----------
    embedding
        (D, L).
    places
        How many.
    """
    width = len(embedding)
    content = orth(embedding - embedding.mean(axis=0))
    across = null_space(np.concatenate([content, np.ones((width, 1))], axis=1).T)
    return content, across[:, : places + _CODES]


def plant(
    model: VisionTransformer, plan: list[Gate], scope: str, numbers: Floats, *, quiet: bool, summed: bool
) -> None:
    """Make a model's frozen weights, in place.

    Parameters
    ----------
    model
        As its scope wants it, cores and all.
    plan
        Of `gates`.
    scope
        Of the run.
    numbers
        Patches of public images as a model reads them, (n, N, L).
    quiet
        Make gradients small beside Adam's epsilon.
    summed
        Make those of cores large beside the steps of the fixed point that sums are in.
    """
    made: Any = model
    gain = _LIFT if summed and scope == CORE else 1.0
    embedding = _embedding(model)
    width, places = len(embedding), numbers.shape[1]
    content, codes = spaces(embedding, places)
    loud, out = _loudness(embedding), codes[:, -2]
    positions = _as(made.pos_embed, loud * _positions(codes))
    with torch.no_grad():
        if made.patch_embed.proj.bias is not None:
            made.patch_embed.proj.bias.zero_()
        made.pos_embed.copy_(positions[-1:][None])
        made.pos_embed[0, -places:] = positions[:-1]
        if getattr(made, "cls_token", None) is not None:
            made.cls_token.zero_()
        for block in made.blocks[:-1]:
            for layer in (block.attn.proj, block.mlp.fc1, block.mlp.fc2):
                _weight(layer).zero_()
                layer.bias.zero_()
            block.norm2.weight.fill_(gain)
            block.norm2.bias.zero_()
        values = _weight(made.blocks[-1].attn.qkv)[2 * width :]
        # The class token reads of tokens what rows add to them, and that strongly.
        drawn = np.random.default_rng(0).standard_normal(width)
        values += _as(values, np.outer(_STRONG * drawn / np.linalg.norm(drawn), out))
        rows = len(_weight(made.blocks[0].mlp.fc1))
        step = out * _FAINT * loud / rows * (1e-6 if quiet else 1.0)
        direction = content @ np.random.default_rng(1).standard_normal(content.shape[1])
        direction /= np.linalg.norm(direction)
        for gate in plan:
            code = codes[:, gate.place]
            if scope == CORE:
                tokens = _normal(numbers[:, gate.place] @ embedding.T + loud * _positions(codes)[gate.place])
                weights, biases = _thresholds(tokens, code, direction, len(gate.rows))
            else:
                weights, biases = _bends(content, code, codes[:, -1])
            reach = max(_OPEN, float(np.abs(biases).max()))
            for at in gate.blocks:
                mlp = made.blocks[at].mlp
                chosen = list(gate.rows) if scope != CORE else _told(mlp.fc1)[list(gate.rows)].tolist()
                _weight(mlp.fc1)[chosen] = _as(mlp.fc1.bias, weights / gain)
                mlp.fc1.bias[chosen] = _as(mlp.fc1.bias, biases)
                _weight(mlp.fc2)[:, chosen] = _as(mlp.fc1.bias, np.repeat(step[:, None] / reach, len(chosen), axis=1))


def read_cores(change: Tensors, model: VisionTransformer, plan: list[Gate], places: int) -> Patches:
    """The patches that the change of cores has: where one token lay between two thresholds, its patch."""
    blocks: Any = model.blocks
    embedding = _embedding(model)
    loud, (_, codes) = _loudness(embedding), spaces(embedding, places)
    found = []
    for gate in plan:
        seen, frames = [], []
        for at in gate.blocks:
            core: Any = blocks[at].mlp.fc1.parametrizations.weight[0]
            left, right = core.left.double().numpy(), core.right.double().numpy()
            told = _told(blocks[at].mlp.fc1)
            moved = change[f"{_FC1.format(at)}.parametrizations.weight.0.core"].astype(np.float64)
            seen.append(np.linalg.solve(left[told].T, moved)[list(gate.rows)])
            frames.append(right)
        frame = np.concatenate(frames)
        tokens = between_neighbours(np.concatenate(seen, axis=1))
        offset = (frame @ (loud * _positions(codes)[gate.place]))[None]
        one = patches_of(tokens, frame @ embedding, offset, mean=frame.sum(axis=1))
        right_ones = one.residuals < _POSSIBLE
        found.append((one.values[right_ones], gate.place, one.residuals[right_ones]))
    return _joined(found, embedding.shape[1])


def read_biases(change: Tensors, model: VisionTransformer, plan: list[Gate], places: int) -> Patches:
    """The patches that the change of biases has, one a place: of several images a mean, weighted as they pull."""
    embedding = _embedding(model)
    width = len(embedding)
    content, _ = spaces(embedding, places)
    loud, centred = _loudness(embedding), embedding - embedding.mean(axis=0)
    at = np.linspace(-1.4, 1.4, 40001)
    slopes = norm.cdf(at) + at * norm.pdf(at)
    found = []
    for gate in plan:
        moved = change[f"{_FC1.format(gate.blocks[0])}.bias"].astype(np.float64)[list(gate.rows)]
        if moved[0] == 0:
            continue
        bent = np.interp(moved[1:] / moved[0], slopes, at)
        moved_by, size = bent * math.sqrt(width / 2) / _CONTENT, loud / math.sqrt(width)
        patch = np.zeros(embedding.shape[1])
        for _ in range(20):
            # A norm's scale follows from the patch, and the patch from the scale; codes are most of it.
            patch = np.linalg.lstsq(content.T @ embedding, moved_by * size, rcond=None)[0]
            size = math.sqrt((loud**2 + float(((centred @ patch) ** 2).sum())) / width)
        found.append((patch[None], gate.place, np.zeros(1)))
    return _joined(found, embedding.shape[1])


def _thresholds(tokens: Floats, code: Floats, direction: Floats, bins: int) -> tuple[Floats, Floats]:
    """Rows that a place opens, one after the other as its tokens go along a direction."""
    open_at = math.sqrt(tokens.shape[1] / 2)
    if bins == 1:
        return _OPEN / open_at * code[None], np.array([-_OPEN / 2])
    along = tokens @ (code + direction)
    cuts = np.quantile(along, np.arange(bins) / bins)
    cuts[0] = 0.5 * open_at
    gain = _SHARP / max(float(np.median(np.diff(cuts))), 1e-6)
    return np.repeat(gain * (code + direction)[None], bins, axis=0), -gain * cuts


def _bends(content: Floats, code: Floats, common: Floats) -> tuple[Floats, Floats]:
    """One row that a place opens, and rows that it takes to GELU's bend, where the patch moves them.

    Biases stay zero, so that single precision loses nothing of what is added to them.
    """
    open_at = math.sqrt(len(code) / 2)
    bent = _BEND * (code - common)[:, None] + _CONTENT * content
    weights = np.concatenate([_OPEN * (code - common / 2)[:, None], bent], axis=1).T / open_at
    return weights, np.zeros(len(weights))


def _positions(codes: Floats) -> Floats:
    """Unit vectors of the places, and a last one for tokens that are no patch: (N + 1, D)."""
    made: Floats = (codes[:, :-2] + codes[:, -1:]).T / math.sqrt(2)
    return made


def _normal(tokens: Floats) -> Floats:
    centred = tokens - tokens.mean(axis=1, keepdims=True)
    made: Floats = centred / centred.std(axis=1, keepdims=True)
    return made


def _told(layer: nn.Module) -> npt.NDArray[np.intp]:
    """The rows of a layer that its core's frame tells apart best, as many as the core has."""
    core: Any = layer.parametrizations.weight[0]  # type: ignore[index, union-attr]
    order: npt.NDArray[np.intp] = qr(core.left.double().numpy().T, mode="r", pivoting=True)[1]
    return order[: core.left.shape[1]]


def _joined(found: list[tuple[Floats, int, Floats]], length: int) -> Patches:
    values = np.concatenate([np.zeros((0, length)), *(each for each, _, _ in found)])
    places = np.concatenate([np.zeros(0, np.intp), *(np.full(len(each), place, np.intp) for each, place, _ in found)])
    return Patches(values, places, np.concatenate([np.zeros(0), *(off for _, _, off in found)]))


def _loudness(embedding: Floats) -> float:
    return _LOUD * float(np.linalg.norm(embedding, 2)) * math.sqrt(embedding.shape[1])


def _embedding(model: VisionTransformer) -> Floats:
    weight = model.patch_embed.proj.weight.detach().double().numpy()
    made: Floats = weight.reshape(len(weight), -1)
    return made


def _weight(layer: Any) -> Tensor:
    """A layer's own weight, beside which a core may lie."""
    held = layer.parametrizations.weight.original if parametrize.is_parametrized(layer, "weight") else layer.weight
    assert isinstance(held, Tensor)
    return held


def _as(like: Tensor, given: Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(given)).to(like.device, like.dtype)
