"""Whether the weights in a file are those of the model that is asked for, and in what they differ."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from medveil.bounded import word
from medveil.errors import ConfigError

_RESAMPLED = {"pos_embed", "patch_embed.proj.weight"}
"""timm brings these to the model's size."""
_HEAD = {"head.weight", "head.bias"}
_SEARCHED, _LONGEST = 1024, 128


def sizes_of(state: Mapping[str, Any]) -> dict[str, int]:
    """Width and number of blocks that a state dict in timm's names tells; what it does not tell is left out."""
    found: dict[str, int] = {}
    weight = state.get("patch_embed.proj.weight")
    if isinstance(weight, torch.Tensor) and weight.ndim == 4:
        found["width"] = int(weight.shape[0])
    blocks = {name.split(".")[1] for name in state if name.startswith("blocks.") and name.count(".") > 1}
    if blocks:
        found["depth"] = len(blocks)
    return found


def refuse_other_sizes(found: Mapping[str, int], model: Any, name: str, *, where: Path) -> None:
    """Refuse weights of another width or depth than the model's, and say how to have theirs.

    Raises
    ------
    ConfigError
        With both sizes.
    """
    wanted = {"width": model.embed_dim, "depth": len(model.blocks)}
    differing = {size: found[size] for size in wanted if found.get(size, wanted[size]) != wanted[size]}
    if not differing:
        return
    theirs = " and ".join(f"{size} {value}" for size, value in differing.items())
    ours = " and ".join(f"{size} {wanted[size]}" for size in differing)
    settings = " ".join(f"model.{size}={value}" for size, value in differing.items())
    raise ConfigError(
        f"does not fit '{name}': it holds a model of {theirs}, and the run's has {ours}",
        where=where,
        cure=f"set {settings} (and model.heads), name its architecture, or set model.pretrained=false",
    )


def difference(state: Mapping[str, Any], model: Any) -> str | None:
    """The first tensor in which a state dict is not the model's, in words; None where their names and shapes agree."""
    wanted = model.state_dict()
    given = {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
    missing = [name for name in wanted if name not in given and name not in _HEAD]
    more = [name for name in given if name not in wanted]
    if missing:
        return f"it has no tensor '{missing[0]}'{_others(missing)}{_nearest(missing[0], more, 'it has')}"
    for name, tensor in wanted.items():
        if name in given and name not in _RESAMPLED | _HEAD and given[name].shape != tensor.shape:
            return f"its tensor '{name}' is {_shown(given[name].shape)}, and the model's {_shown(tensor.shape)}"
    if more:
        near = _nearest(more[0], list(wanted), "the model has")
        return f"it has a tensor '{word(more[0])}'{_others(more)}, and the model has none of that name{near}"
    return None


def _others(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _nearest(name: str, among: Sequence[str], whose: str) -> str:
    """The name that is meant, if one is near; long lists are not searched, nor long names."""
    few = [each for each in among[:_SEARCHED] if len(each) <= _LONGEST]
    found = difflib.get_close_matches(name[:_LONGEST], few, n=1, cutoff=0.8)
    return f" ({whose} '{word(found[0])}')" if found else ""


def _shown(shape: Sequence[int]) -> str:
    return " x ".join(str(each) for each in shape) or "a single number"
