"""The stem: how a Vision Transformer moves into a key's domain and back.

The stem is the patch embedding (weight, bias) and the position embedding. Everything after the first sum of the two
sees tokens, and a ViT without positions does not know the order of its patch tokens; so a cipher that permutes and
negates the L = C*B*B numbers of every patch alike, and permutes the N patches, ::

    c_j[i] = s_i x_{pi[j]}[rho[i]],    s_i = -1 where mask[i], else 1   (pixels normalised to [-1, 1])

is undone by W'[:, i] = s_i W[:, rho[i]] and pos'[j] = pos[pi[j]]: W' c_j + b + pos'[j] is the token the original model
makes of patch pi[j]. Patch numbers run row by row and i = (c*B + dy)*B + dx, which are timm's own orders. Rows of the
position embedding that belong to class or register tokens do not move. A norm inside the patch embedding or before
the blocks acts on each token alone and belongs to the trunk, as do class and register tokens.

A cipher that turns every patch by one orthogonal matrix, y_j = Q x_{pi[j]}, is undone likewise by W' = W Q^T, because
Q^T Q = 1 (`rotate`). Its ciphertexts are rounded to 16 bits about zero, so no offset enters the bias, and a model reads
them with the scale taken out (`models.vit.normalise`, `gain`), so none enters W'. What is left is the rounding: each
number of a patch is off by at most sqrt(L) / 65535, and a token by at most L / 65535 times the length of W's longest
row. Training by SGD on y then is training on x, because gradients turn as the weights do; training by Adam is not,
because its steps are taken axis by axis.

Where attention is told places by a rotary table, the table's rows follow the patches as those of the position embedding
do, beside it or in its place (`models.rotary`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from medveil.errors import ConfigError
from models.rotary import ROWS, rows_of
from models.vits import check_vit

if TYPE_CHECKING:
    from models.vits import VisionTransformer

_STEM = ("patch_embed.proj.weight", "patch_embed.proj.bias", "pos_embed", ROWS)
_TAIL = ("decoder.pos_embed", "decoder.out.weight", "decoder.out.bias")
_HEAD = "head."
_BLOCKS = ("blocks.", "decoder.blocks.")
_ORTHOGONAL = 1e-6
_SAME_CUT = "cipher.block must be the model's patch size, and channels and padded size the same"


def stem_names(model: VisionTransformer) -> list[str]:
    """State-dict names of the stem, in state-dict order."""
    return [name for name in model.state_dict() if name in _STEM]


def tail_names(model: VisionTransformer) -> list[str]:
    """State-dict names of what follows a key at the other end: see `models.autoencoder`; none without a decoder."""
    return [name for name in model.state_dict() if name in _TAIL]


def stem_that_travels(model: VisionTransformer) -> list[str]:
    """Names of what an averaged stem sends: not the order of rotary rows, which all sites have alike then."""
    return [name for name in stem_names(model) if name != ROWS]


def head_names(model: VisionTransformer) -> list[str]:
    """State-dict names of the classifier; the norms before it belong to the trunk."""
    return [name for name in model.state_dict() if name.startswith(_HEAD)]


def trunk_names(model: VisionTransformer) -> list[str]:
    """State-dict names of everything that is neither stem nor tail nor head."""
    return [name for name in model.state_dict() if name not in _STEM + _TAIL and not name.startswith(_HEAD)]


def block_matrices(names: Mapping[str, Tensor]) -> list[str]:
    """Of named tensors those that are matrices of transformer blocks: none of stem, tail, head, norms or biases."""
    return [name for name, tensor in names.items() if name.startswith(_BLOCKS) and tensor.ndim == 2]


def adapt(model: VisionTransformer, *, rho: Any, pi: Any, mask: Any) -> None:
    """Move the stem into a key's domain, in place: on ciphertext the model then gives its logits on plaintext.

    Parameters
    ----------
    model
        A model of `models.vit.build_vit`, any floating type, any device.
    rho
        Permutation of a patch's numbers, int64 (L,), L = C*B*B.
    pi
        Permutation of the patches, int64 (N,).
    mask
        Where a number is negated, bool (L,).

    Raises
    ------
    ConfigError
        An array is not a permutation, or not of the model's patch and grid.
    """
    weight = _weight(model)
    columns, rows, signs = _moves(model, rho, pi, mask)
    weight.copy_((weight.flatten(1)[:, columns] * signs).view(weight.shape))
    _move_places(model, rows)
    for each in _tail_pixels(model):
        each.copy_(each[columns] * signs.view(-1, *(1,) * (each.ndim - 1)))


def restore(model: VisionTransformer, *, rho: Any, pi: Any, mask: Any) -> None:
    """Move the stem back into the plaintext domain, in place: the exact inverse of `adapt`, bit for bit.

    Raises
    ------
    ConfigError
        As for `adapt`.
    """
    weight = _weight(model)
    columns, rows, signs = _moves(model, rho, pi, mask)
    weight.copy_((weight.flatten(1) * signs)[:, columns.argsort()].view(weight.shape))
    _move_places(model, rows.argsort())
    for each in _tail_pixels(model):
        each.copy_((each * signs.view(-1, *(1,) * (each.ndim - 1)))[columns.argsort()])


def rotate(model: VisionTransformer, *, matrix: Any, pi: Any) -> None:
    """Move the stem into the domain of an orthogonal cipher's key, in place.

    Parameters
    ----------
    model
        A model of `models.vit.build_vit`, any floating type, any device.
    matrix
        Orthogonal matrix that turns a patch's numbers, float64 (L, L), L = C*B*B.
    pi
        Permutation of the patches, int64 (N,).

    Raises
    ------
    ConfigError
        The matrix is not orthogonal, `pi` no permutation, or either not of the model's patch and grid.
    """
    weight = _weight(model)
    turn, rows = _turns(model, matrix, pi)
    weight.copy_((weight.flatten(1).double() @ turn.T).view(weight.shape))
    _move_places(model, rows)
    for each in _tail_pixels(model):
        each.copy_(turn @ each.double())


def unrotate(model: VisionTransformer, *, matrix: Any, pi: Any) -> None:
    """Move the stem back into the plaintext domain, in place: the inverse of `rotate` but for rounding of the weights.

    Raises
    ------
    ConfigError
        As for `rotate`.
    """
    weight = _weight(model)
    turn, rows = _turns(model, matrix, pi)
    weight.copy_((weight.flatten(1).double() @ turn).view(weight.shape))
    _move_places(model, rows.argsort())
    for each in _tail_pixels(model):
        each.copy_(turn.T @ each.double())


def absorb_bias(model: VisionTransformer) -> None:
    """Move the bias of the patch embedding into the patch rows of the position embedding, in place, and leave none.

    Both are added to the token of every patch, one after the other and with nothing in between, so that the tokens
    stay what they were: W x + b + pos[j] = W x + (b + pos[j]). Rows of class and register tokens, which no patch
    embedding made, do not move.
    """
    bias = model.patch_embed.proj.bias
    rows = _patch_rows(model)
    if bias is not None and rows is not None:
        rows.copy_(rows.double() + bias.detach().double())
        model.patch_embed.proj.bias = None


def secret_size(model: VisionTransformer) -> int:
    """How many normals `set_secret` takes."""
    return sum(part.numel() for part in _secret_parts(model))


def set_secret(model: VisionTransformer, normals: Any) -> None:
    """Replace the stem by one drawn in secret, in place.

    Weight, bias and patch rows of the position embedding take the normals in this order (each in C order), every
    tensor scaled to the standard deviation of the one it replaces, so that the trunk meets tokens of the size it was
    made for. Rows of class and register tokens stay as they are: they are no part of what a key moves. So do those of
    a rotary table: attention is told the places of the hidden image, which are nobody's secret.

    Parameters
    ----------
    model
        A model whose stem is the public one; its deviations are the scales.
    normals
        Standard normal numbers, float64 (`secret_size(model)`,).

    Raises
    ------
    ConfigError
        Their number is wrong, one is not finite, or the public weight is constant and gives no scale.
    """
    drawn = torch.as_tensor(np.asarray(normals, dtype=np.float64))
    parts = _secret_parts(model)
    sizes = [part.numel() for part in parts]
    if drawn.shape != (sum(sizes),):
        raise ConfigError(f"a secret stem takes {sum(sizes)} normals, not {tuple(drawn.shape)}", where="stem")
    if not bool(drawn.isfinite().all()):
        raise ConfigError("the normals of a secret stem are not finite", where="stem")
    scales = [float(part.double().std(correction=0)) for part in parts]
    if scales[0] == 0:
        raise ConfigError("the public patch weight is constant and gives a secret one no scale", where="stem")
    for part, piece, scale in zip(parts, drawn.split(sizes), scales, strict=True):
        part.copy_((piece * scale).view(part.shape))


def _weight(model: VisionTransformer) -> Tensor:
    """The patch weight (D, C, B, B), sharing storage with the parameter and outside autograd."""
    check_vit(model)
    weight: Tensor = model.patch_embed.proj.weight.detach()
    return weight


def _patch_rows(model: VisionTransformer) -> Tensor | None:
    """The position rows of patches (N, D), sharing storage with the parameter and outside autograd, if it has any."""
    prefix = 0 if model.no_embed_class else model.num_prefix_tokens
    position = cast("Tensor | None", model.pos_embed)
    return None if position is None else position.detach()[0, prefix:]


def _move_places(model: VisionTransformer, order: Tensor) -> None:
    """Bring the rows of all kinds of positions into another order."""
    for rows in (_patch_rows(model), rows_of(model), _tail_places(model)):
        if rows is not None:
            rows.copy_(rows[order.to(rows.device)])


def _tail_places(model: VisionTransformer) -> Tensor | None:
    """A decoder's table of positions (N, D'), outside autograd, if there is one."""
    decoder: Any = getattr(model, "decoder", None)
    return None if decoder is None else decoder.pos_embed.detach()[0]


def _tail_pixels(model: VisionTransformer) -> tuple[Tensor, ...]:
    """The weight (L, D') and bias (L,) of a decoder's last layer, outside autograd; none without a decoder."""
    decoder: Any = getattr(model, "decoder", None)
    return () if decoder is None else (decoder.out.weight.detach(), decoder.out.bias.detach())


def _secret_parts(model: VisionTransformer) -> list[Tensor]:
    bias, rows = model.patch_embed.proj.bias, _patch_rows(model)
    middle = [] if bias is None else [bias.detach()]
    return [_weight(model), *middle, *([] if rows is None else [rows])]


def _moves(model: VisionTransformer, rho: Any, pi: Any, mask: Any) -> tuple[Tensor, Tensor, Tensor]:
    weight = _weight(model)
    size = weight[0].numel()
    columns = _permutation(rho, size, "rho", "channels x patch x patch").to(weight.device)
    rows = _permutation(pi, model.patch_embed.num_patches, "pi", "patches")
    negated = np.asarray(mask)
    if negated.dtype != np.bool_ or negated.shape != (size,):
        raise ConfigError(f"'mask' is {negated.dtype} {negated.shape}, not bool ({size},)", where="stem permutation")
    signs = 1 - 2 * torch.as_tensor(negated).to(device=weight.device, dtype=weight.dtype)
    return columns, rows, signs


def _turns(model: VisionTransformer, matrix: Any, pi: Any) -> tuple[Tensor, Tensor]:
    weight = _weight(model)
    size = weight[0].numel()
    found = np.asarray(matrix)
    if found.shape != (size, size) or found.dtype != np.float64:
        raise ConfigError(
            f"'matrix' is {found.dtype} {found.shape} where the model has float64 ({size}, {size})",
            where="stem rotation",
            cure=_SAME_CUT,
        )
    off = float(np.abs(found @ found.T - np.eye(size)).max())
    if not off < _ORTHOGONAL:
        raise ConfigError("'matrix' is not orthogonal", where="stem rotation")
    rows = _permutation(pi, model.patch_embed.num_patches, "pi", "patches")
    return torch.as_tensor(found).to(weight.device), rows


def _permutation(values: Any, size: int, name: str, meaning: str) -> Tensor:
    found = np.asarray(values)
    if found.shape != (size,):
        raise ConfigError(
            f"'{name}' has shape {found.shape} where the model has {size} ({meaning})",
            where="stem permutation",
            cure=_SAME_CUT,
        )
    if not np.issubdtype(found.dtype, np.integer) or not np.array_equal(np.sort(found), np.arange(size)):
        raise ConfigError(f"'{name}' is no permutation of 0 to {size - 1}", where="stem permutation")
    return torch.as_tensor(found.astype(np.int64))
