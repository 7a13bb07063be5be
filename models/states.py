"""State dicts as people have them: under the names of what wrapped them, with tokens and heads of a teacher.

A training script saves what it trained in its own wrappings: ``module.`` of parallel training, ``_orig_mod.`` of
compilation, ``backbone.`` of a self-supervised pair, ``teacher.`` and ``student.`` of both its halves. A wrapping is
taken off where it stands before the patch embedding; what stands outside it is of another network, and left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medveil.bounded import word
from medveil.errors import FormatError

if TYPE_CHECKING:
    from models.vits import VisionTransformer

_KERNEL = "patch_embed.proj.weight"
_HEAD = ("head.weight", "head.bias")
_WRAPPINGS = (
    *("state_dict_ema", "model_ema", "ema", "teacher", "state_dict", "model", "module", "_orig_mod", "backbone"),
    *("encoder", "trunk", "vit", "student"),
)
"""Those that say whose weights they are, the ones to prefer first."""
_WRAPPED = re.compile(rf"(?:(?:{'|'.join(_WRAPPINGS)})\.)+")
_DISTILLED = ("dist_token", "head_dist.")
_NUMBERS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Unwrapped:
    """A state dict under the names of the model alone, and what was done to it, in words."""

    state: dict[str, Tensor]
    said: tuple[str, ...] = ()


def unwrapped(state: Mapping[str, Tensor]) -> Unwrapped:
    """Take off wrappings of names; a state without a patch embedding under one is left as it is."""
    prefix = _prefix(state)
    if not prefix:
        return Unwrapped(dict(state))
    inner = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    head = state.get(_HEAD[0])
    if head is not None and head.ndim == 2 and head.shape[1:] == inner[_KERNEL].shape[:1] and _HEAD[0] not in inner:
        # A classifier trained upon a backbone stands beside it.
        inner |= {name: state[name] for name in _HEAD if name in state}
    beside = sorted(name for name in state if not name.startswith(prefix) and name not in inner)
    if not beside:
        return Unwrapped(inner)
    more = f" and {len(beside) - 1} more" if len(beside) > 1 else ""
    return Unwrapped(inner, (f"'{word(beside[0])}'{more} outside '{word(prefix)}' are of another network, left out",))


def without_distillation(given: Unwrapped, outline: VisionTransformer) -> Unwrapped:
    """A DeiT that was distilled, for a model without the token and head that learned from the teacher."""
    state = given.state
    left = [name for name in state if name == _DISTILLED[0] or name.startswith(_DISTILLED[1])]
    if not left or hasattr(outline, _DISTILLED[0]):
        return given
    kept = {name: tensor for name, tensor in state.items() if name not in left}
    rows = kept.get("pos_embed")
    if _DISTILLED[0] in left and rows is not None and rows.ndim == 3 and rows.shape[1] > 2:
        # Class token, distillation token, patches.
        kept["pos_embed"] = torch.cat([rows[:, :1], rows[:, 2:]], dim=1)
    return Unwrapped(kept, (*given.said, "its distillation token and head are left out"))


def refuse_other_types(state: Mapping[str, Tensor], outline: VisionTransformer, *, where: Path) -> None:
    """Refuse numbers that weights are not made of, such as those of a quantised model.

    Raises
    ------
    FormatError
        It names the tensor.
    """
    wanted = outline.state_dict()
    for name, tensor in state.items():
        if name in wanted and tensor.dtype not in _NUMBERS:
            kind = str(tensor.dtype).removeprefix("torch.")
            cure = "give weights in float32, float16 or bfloat16"
            raise FormatError(f"its tensor '{word(name)}' is of {kind}", where=where, cure=cure)


def _prefix(state: Mapping[str, Tensor]) -> str:
    """What stands before the names of the model that is to be taken, of several the preferred one."""
    found = [name.removesuffix(_KERNEL) for name in state if name.endswith(_KERNEL)]
    known = [each for each in found if not each or _WRAPPED.fullmatch(each)]
    return min(known, key=_preference, default="")


def _preference(prefix: str) -> tuple[int, int]:
    return (min((_WRAPPINGS.index(each) for each in prefix.split(".") if each), default=-1), len(prefix))
