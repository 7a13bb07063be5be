"""Leaving patches out in training: fewer tokens make a step cheaper, and a small set of images lasts longer.

Liu et al., "PatchDropout: Economizing Vision Transformers Using Patch Dropout", WACV 2023. Which patches stay is drawn
in the order of the *plain* image and then moved as the key moves patches, c_j = x_{pi[j]}: patch k of the plain image
lies at that j of the hidden one for which pi[j] = k. So a model on hidden images meets the tokens that its twin on
plain ones meets, and training stays equal. Class and register tokens always stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Rows = npt.NDArray[np.int64]


def how_many_stay(patches: int, share: float) -> int:
    """Patches that stay where a share is left out, as timm's PatchDropout counts: at least one."""
    return max(1, int(patches * (1.0 - share)))


def draw_rows(
    rng: np.random.Generator, images: int, patches: int, share: float, pi: npt.ArrayLike | None = None
) -> Rows:
    """Which patches of each image stay.

    Parameters
    ----------
    rng
        The run's: one on plain images and its twin on hidden ones draw alike.
    images, patches, share
        Images of the batch, patches of an image, and the share of them that is left out.
    pi
        The key's permutation of patches, int64 (N,); None where patches lie as in the plain image.

    Returns
    -------
    int64 (images, kept)
        Rows of the image as the model sees it, those of equal place in the plain image in equal order.
    """
    drawn = rng.random((images, patches)).argsort(axis=1, kind="stable")[:, : how_many_stay(patches, share)]
    return drawn if pi is None else np.argsort(np.asarray(pi), kind="stable")[drawn]


class KeptPatches(nn.Module):
    """In the place of a ViT's ``patch_drop``: passes on the rows it was told; all of them where it was told None."""

    def __init__(self, prefix: int) -> None:
        super().__init__()
        self._prefix = prefix
        self.rows: Tensor | None = None

    def forward(self, tokens: Tensor) -> Any:
        """Tokens (B, prefix + N, D) to (B, prefix + kept, D)."""
        if self.rows is None:
            return tokens
        chosen = self.rows[:, :, None].expand(-1, -1, tokens.shape[-1])
        return torch.cat([tokens[:, : self._prefix], tokens[:, self._prefix :].gather(1, chosen)], dim=1)


class KeptPatchesAndRows(KeptPatches):
    """The same for timm's `Eva`, which asks for the rows too and takes those alone of its rotary table."""

    def forward(self, tokens: Tensor) -> Any:
        """The tokens, and the rows that stayed, int64 (B, kept), or None."""
        return super().forward(tokens), self.rows


@contextmanager
def leaving_out(model: Any) -> Iterator[KeptPatches]:
    """Put a `KeptPatches` into a model of `models.vit.build_vit` for the time of a block; no other is touched."""
    if not hasattr(model, "patch_drop"):
        yield KeptPatches(0)
        return
    # What leaves all patches in place is an identity in one of timm's classes, and None in the other.
    made = KeptPatchesAndRows if model.patch_drop is None else KeptPatches
    before, kept = model.patch_drop, made(model.num_prefix_tokens)
    model.patch_drop = kept
    try:
        yield kept
    finally:
        model.patch_drop = before
