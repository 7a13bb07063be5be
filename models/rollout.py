"""Attention rollout: how much of each patch reached what a ViT's classifier reads, by attention and residuals alone.

Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, arXiv 2005.00928. With A_l the attention of
block l, the mean over its heads, rows summing to 1, ::

    R_l = (A_l / 2 + I / 2) R_{l-1},    R_0 = I

where the halves stand for the residual. The classifier reads the row of the class token, the mean of the rows that are
pooled, or, where it pools by attention, the rows weighed so. Class and register tokens take part in every product; what
is returned are the columns of patches.

A stem that follows a key gives attention the tokens of the plain image in another place, so a rollout on ciphertext is
that of the plaintext twin but for the order of patches: `in_plain_order`.

Weights are read where they are used, at torch's scaled dot product, which all of timm's attention here calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from medveil.errors import ConfigError

if TYPE_CHECKING:
    from models.vits import VisionTransformer

_CURE = "see 'attention rollout' in docs/how-to/look.md for what it is known for"


@torch.no_grad()
def rollout(model: VisionTransformer, images: Tensor) -> Tensor:
    """How much of each patch reached the classifier.

    Parameters
    ----------
    model
        Of `models.vit.build_vit`; it is left in evaluation mode.
    images
        As the model takes them (`models.vit.normalise`), (b, C, H, W).

    Returns
    -------
    Tensor
        float64 (b, N), on the CPU, patches in the order the model met them. A row sums to 1 less what came from class
        and register tokens.

    Raises
    ------
    ConfigError
        The model's attention cannot be read so; the error says why.
    """
    refused = why_unread(model)
    if refused is not None:
        raise ConfigError(refused, where="attention rollout", cure=_CURE)
    model.eval()
    with _fused(model), _Weights() as seen:
        model(images)
    tokens = model.num_prefix_tokens + model.patch_embed.num_patches
    blocks = [each for each in seen.weights if each.shape[1:] == (tokens, tokens)]
    if len(blocks) != len(model.blocks):
        problem = f"{len(blocks)} tables of attention in {len(model.blocks)} blocks"
        raise ConfigError(problem, where="attention rollout", cure=_CURE)
    flowed = _read(model, seen.weights[-1], len(images))
    for attention in reversed(blocks):
        flowed = (flowed @ attention + flowed) / 2
    return flowed[:, 0, model.num_prefix_tokens :]


def in_plain_order(shares: Tensor, pi: npt.ArrayLike) -> Tensor:
    """Put what was found of each patch of a hidden image, (b, N), where the patch lies in the plain one.

    Parameters
    ----------
    pi
        int64 (N,): which patch of the plain image lies at each place of the hidden one, as the key has it.
    """
    plain = torch.empty_like(shares)
    plain[:, torch.as_tensor(pi)] = shares
    return plain


def why_unread(model: Any) -> str | None:
    """Why a model's attention is not rolled out, as a clause; None where it is."""
    odd = {type(each).__name__ for each in model.blocks} & {"ParallelThingsBlock", "DiffParallelScalingBlock"}
    if odd:
        return f"a {odd.pop()} has several attentions side by side"
    if any(type(each).__name__ == "DiffAttention" for each in model.modules()):
        return "differential attention subtracts one table from another, and a difference is no share"
    if getattr(model, "attn_pool", None) is None and model.global_pool not in {"token", "avg"}:
        return f"what pooling by '{model.global_pool}' reads differs from feature to feature"
    return None


def _read(model: Any, last: Tensor, images: int) -> Tensor:
    """What the classifier reads of the last block's tokens: float64 (b, 1, tokens), rows summing to 1."""
    prefix, patches = model.num_prefix_tokens, model.patch_embed.num_patches
    read = torch.zeros(images, 1, prefix + patches, dtype=torch.float64)
    if getattr(model, "attn_pool", None) is not None:
        if last.shape[2] not in {patches, prefix + patches} or last.shape[1] == last.shape[2]:
            problem = "the tokens it pools are not known"
            raise ConfigError(problem, where="attention rollout", cure=_CURE)
        read[:, 0, -last.shape[2] :] = last.mean(dim=1)
    elif model.global_pool == "token":
        read[:, 0, 0] = 1
    else:
        pooled = prefix + patches if getattr(model, "pool_include_prefix", False) else patches
        read[:, 0, -pooled:] = 1 / pooled
    return read


class _Weights(TorchFunctionMode):
    """Keeps the attention of every scaled dot product that is computed: float64 (b, queries, keys), mean over heads."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute what was asked for, and the table if it was a scaled dot product."""
        named = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            self.weights.append(_table(*args[:2], **_named(args, named)))
        return func(*args, **named)


def _named(args: Any, named: Any) -> dict[str, Any]:
    """What decides the weights of a scaled dot product, by name."""
    given = dict(zip(("attn_mask", "dropout_p", "is_causal", "scale"), args[3:], strict=False)) | named
    # In evaluation nothing is dropped, and no model here is causal.
    assert not given.get("dropout_p") and not given.get("is_causal")
    return {"attn_mask": given.get("attn_mask"), "scale": given.get("scale")}


def _table(query: Tensor, key: Tensor, *, attn_mask: Tensor | None, scale: float | None) -> Tensor:
    scores = query.double() @ key.double().transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1).mean(1).cpu()


@contextmanager
def _fused(model: Any) -> Iterator[None]:
    """Let attention go by the scaled dot product, whatever is faster here."""
    layers: list[Any] = [each for each in model.modules() if hasattr(each, "fused_attn")]
    before = [each.fused_attn for each in layers]
    for each in layers:
        each.fused_attn = True
    try:
        yield
    finally:
        for each, fused in zip(layers, before, strict=True):
            each.fused_attn = fused
