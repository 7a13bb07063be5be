"""Rotary positions under a key: the rows of the table follow the patches.

Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, arXiv 2104.09864; in two axes as
EVA-02 (arXiv 2303.11331) and DINOv3 (arXiv 2508.10104): queries and keys of patch j are turned by the angles in row j
of a table, in every block. Class and register tokens are not turned.

A cipher that permutes patches, c_j = x_{pi[j]}, brings to place j the patch whose angles are row pi[j]. With the rows
of the table in that order attention meets the queries and keys of the plain image, moved, and its sums are the same.
The table is computed from the grid alone and everybody knows it; what is kept is which row lies where, int64 (N,), part
of the model's state under `ROWS`. That is the key's pi itself: it belongs to the stem, stays home, and is no parameter.

Where frequencies are learned, block by block (Heo et al., "Rotary Position Embedding for Vision Transformer", ECCV
2024, arXiv 2403.13298), they belong to the trunk: the table is computed of them in the plain order and its rows are
moved after, so that a gradient comes back to them in the plain order too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from medveil.errors import ConfigError

if TYPE_CHECKING:
    from models.vits import VisionTransformer

ROWS = "rope.rows"
"""State-dict name of the order of rows."""
_FOURS = 4
"""A head's numbers are turned in pairs, as many by the patch's row as by its column."""


class MovedRows(nn.Module):
    """In the place of timm's rotary embedding: its table, with the rows in another order.

    Parameters
    ----------
    embedding
        timm's, of a fixed grid; its table is (N, numbers), or (depth, heads, N, numbers) where frequencies are learned.
    patches
        N.
    """

    rows: Tensor

    def __init__(self, embedding: Any, patches: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.feat_shape = embedding.feat_shape
        self.register_buffer("rows", torch.arange(patches))

    def get_embed(self, shape: list[int] | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """The table, as timm asks for it in every step."""
        table: Tensor = self.embedding.get_embed(shape, dtype)
        return table.index_select(-2, self.rows)

    def no_weight_decay(self) -> set[str]:
        """Names that timm leaves without weight decay: learned frequencies."""
        inner = getattr(self.embedding, "no_weight_decay", None)
        return {f"embedding.{name}" for name in inner()} if inner is not None else set()


def carry_rows(model: Any) -> None:
    """Let a model's rotary table have rows that can move, in place; a model without one is left as it is."""
    if is_rotary(model):
        model.rope = MovedRows(model.rope, model.patch_embed.num_patches)


def refuse_heads(width: int, heads: int) -> None:
    """Refuse heads that rotary positions do not fit (ConfigError): the angles of two axes come in fours."""
    if width // heads % _FOURS:
        problem = f"makes heads of {width // heads} numbers, and rotary positions take multiples of {_FOURS}"
        raise ConfigError(problem, where="model.heads", cure=f"a width of heads x 16, 32 or 64, as {heads * 32}")


def give_table_back(model: VisionTransformer) -> None:
    """Give a model whose rows lie in their own order timm's own embedding back, in place."""
    if isinstance(rope := getattr(model, "rope", None), MovedRows):
        # Moved rows would be lost, and with them the model.
        assert rope.rows.is_meta or bool(rope.rows.diff().eq(1).all())
        model.rope = rope.embedding


def is_rotary(model: Any) -> bool:
    """Whether attention is told places by rotation."""
    return getattr(model, "rope", None) is not None


def unfit_rows(rows: Tensor, patches: int) -> str | None:
    """Why numbers that came from elsewhere are no order of so many rows, in words; None where they are one."""
    whole = bool(torch.equal(rows.cpu().sort().values, torch.arange(patches)))
    return None if whole else "is no order of the model's patches"


def rows_of(model: VisionTransformer) -> Tensor | None:
    """The order of the table's rows, sharing storage with the model; None where there is no table."""
    rope = getattr(model, "rope", None)
    return rope.rows if isinstance(rope, MovedRows) else None
