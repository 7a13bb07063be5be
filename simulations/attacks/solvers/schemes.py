"""What the attacks need to know of each scheme, and what they say where they do not apply.

All of it is public. A scheme that is not named here is attacked like any other: no reason is known not to.
"""

from __future__ import annotations

import math
from enum import Enum

from crypto.base import Geometry
from crypto.config import CipherConfig

PIXEL_WISE = "pixel-wise"


class Kind(Enum):
    """The public structure of a scheme, as far as an attack makes use of it."""

    ALIKE = "all blocks are treated alike: one in-block order, one order of blocks"
    OWN_ORDERS = "every block has an in-block order of its own"
    OWN_STATES = "blocks are rotated, flipped and their channels shuffled, each in its own way"
    PIXELS = "pixels stay where they are"
    ROTATED = "values are sums of all values of a block, not moved values"
    UNKNOWN = "nothing is known of the structure"


_KINDS = {
    "none": Kind.ALIKE,
    "block-pixel": Kind.ALIKE,
    "integer-seeded": Kind.ALIKE,
    "block-shuffle": Kind.ALIKE,
    "pixel-shuffle": Kind.ALIKE,
    "per-block": Kind.OWN_ORDERS,
    "etc": Kind.OWN_STATES,
    PIXEL_WISE: Kind.PIXELS,
    f"{PIXEL_WISE}-fresh": Kind.PIXELS,
    "orthogonal": Kind.ROTATED,
}
_IN_PLACE = {"none", "pixel-shuffle"}
"""Schemes that leave blocks where they are."""
_UPRIGHT = {"block-shuffle"}
"""Schemes that move blocks and nothing inside them."""
_NEGATING = {PIXEL_WISE, f"{PIXEL_WISE}-fresh", "etc", "aes-ctr"}
"""Schemes that may invert a value's leading bit whatever their settings."""
_NEGATING_BY_SETTING = {"block-pixel", "per-block"}
_MOST_TURNED = 400
"""Blocks whose edges are compared in all their states, at most: tables grow with the square."""
_NEVER_NEGATING = {"none", "orthogonal", *_NEGATING_BY_SETTING}
"""Schemes without negation, or without it unless it is asked for."""


def kind_of(config: CipherConfig) -> Kind:
    """The structure of a scheme."""
    return _KINDS.get(config.scheme, Kind.UNKNOWN)


def one_order_for_all_blocks(config: CipherConfig) -> str | None:
    """Why a scheme has no in-block order that all blocks share; None where it has one, or is not known."""
    kind = kind_of(config)
    if kind in {Kind.ALIKE, Kind.UNKNOWN}:
        return None
    return f"it looks for one in-block order shared by all blocks; in {config.scheme}, {kind.value}"


def no_jigsaw(config: CipherConfig, geometry: Geometry) -> str | None:
    """Why blocks cannot be laid by their seams; None where they can be tried to."""
    if kind_of(config) is not Kind.OWN_STATES:
        return one_order_for_all_blocks(config)
    if geometry.channels > 1:
        return f"{config.scheme} shuffles the channels of each block, and seams of colours are not tried"
    if geometry.blocks > _MOST_TURNED:
        return f"{geometry.blocks} blocks that are each turned are too many to compare: at most {_MOST_TURNED}"
    return None


def blocks_stay(config: CipherConfig) -> bool:
    """Whether a scheme leaves every block in its place."""
    return config.scheme in _IN_PLACE


def blocks_are_whole(config: CipherConfig) -> bool:
    """Whether a scheme leaves the inside of every block alone."""
    return config.scheme in _UPRIGHT


def no_flips(config: CipherConfig) -> str | None:
    """Why there is no negation to undo in a scheme; None where there may be."""
    if may_negate(config) or config.scheme not in _NEVER_NEGATING:
        return None
    setting = " without negation" if config.scheme in _NEGATING_BY_SETTING else ""
    return f"it undoes negated values, and {config.scheme}{setting} negates none"


def may_negate(config: CipherConfig) -> bool:
    """Whether a scheme may replace a value by its negative."""
    return config.scheme in _NEGATING or (config.negate and config.scheme not in {"none", "orthogonal"})


def log2_arrangements(scheme: str, shape: Geometry, *, negate: bool) -> float | None:
    """Bits of all arrangements a scheme can make of an image; None where they are no finite number of a known form."""
    inner, order = _log2_factorial(shape.block_length), _log2_factorial(shape.blocks)
    flips = shape.block_length if negate else 0
    each = _log2_factorial(shape.channels) + math.log2(8) + 1
    known = {
        "none": 0.0,
        "integer-seeded": inner + order,
        "block-pixel": inner + order + flips,
        "per-block": shape.blocks * (inner + flips) + order,
        "etc": shape.blocks * each + order,
        PIXEL_WISE: shape.height * shape.width * (_log2_factorial(shape.channels) + shape.channels),
    }
    return known.get(scheme)


def _log2_factorial(n: int) -> float:
    return math.lgamma(n + 1) / math.log(2)
