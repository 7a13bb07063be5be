"""Known pairs of any scheme, turned into something that opens other images of the key."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crypto.base import Geometry, StemPermutation
from crypto.config import CipherConfig
from simulations.attacks.solvers.blocks import Pixels, SignedPermutation, cut, signed_permutation
from simulations.attacks.solvers.matching import recover_key
from simulations.attacks.solvers.own_orders import block_states, recover_blocks, recover_pixels
from simulations.attacks.solvers.rotation import Rotation, recover_rotation
from simulations.attacks.solvers.schemes import Kind, kind_of, may_negate


@dataclass(frozen=True)
class Opened:
    """What pairs gave.

    Attributes
    ----------
    key : StemPermutation or None
        For schemes that treat all blocks alike.
    moved : SignedPermutation or None
        For schemes that move and negate values.
    rotation : Rotation or None
        For `orthogonal`.
    """

    largest: int
    key: StemPermutation | None = None
    moved: SignedPermutation | None = None
    rotation: Rotation | None = None

    def decrypt(self, hidden: Pixels) -> Pixels:
        """Open other images of the key."""
        if self.rotation is not None:
            return self.rotation.decrypt(hidden)
        assert self.moved is not None
        return self.moved.decrypt(hidden, self.largest)


def open_with(
    plain: Pixels, hidden: Pixels, config: CipherConfig, shape: Geometry, *, rng: np.random.Generator
) -> Opened:
    """Recover what can be recovered from pairs (m, C, H, W), by the public structure of the scheme."""
    kind, largest, negate = kind_of(config), shape.largest, may_negate(config)
    if kind is Kind.ROTATED:
        return Opened(largest, rotation=recover_rotation(plain, hidden, shape, rng=rng))
    if kind is Kind.PIXELS:
        return Opened(largest, moved=recover_pixels(plain, hidden, largest=largest, rng=rng))
    if kind in {Kind.OWN_ORDERS, Kind.OWN_STATES}:
        states = block_states(shape) if kind is Kind.OWN_STATES else None
        return Opened(largest, moved=recover_blocks(plain, hidden, shape, negate=negate, states=states, rng=rng))
    key = recover_key(cut(plain, shape.block), cut(hidden, shape.block), largest=largest, negate=negate, rng=rng)
    return Opened(largest, key=key, moved=signed_permutation(key, shape))
