"""Fixed point: updates as numbers modulo 2^bits, whose sum is exact whatever their order.

A site's update counts with a weight, the weights of all sites add up to at most 1, and no coordinate is beyond the
clip: so the weighted sum never leaves the range, and none of the bits goes to the number of sites.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medveil.errors import ConfigError, FederationError
from medveil.training import LEAST_CLIP, MOST_CLIP

Update = npt.NDArray[np.float32]
"""(d,), finite."""
Residues = npt.NDArray[np.uint32]
"""(d,), numbers modulo 2^bits."""
WIDTHS = (24, 32)
"""Bits of a number. With fewer, a late round's small updates are lost in the rounding."""
CHUNK = 2**16
"""Numbers at a time: half a MiB in double precision stays in a processor's cache."""


@dataclass(frozen=True)
class FixedPoint:
    """How updates of one run are written.

    Parameters
    ----------
    clip
        The L2 norm no update is beyond, and so no coordinate.
    bits
        24 or 32.
    sites
        Most sites of a sum: room for the rounding of each.

    Raises
    ------
    ConfigError
        One of them cannot be.
    """

    clip: float
    bits: int
    sites: int

    def __post_init__(self) -> None:
        if self.bits not in WIDTHS:
            cure = f"of {', '.join(map(str, WIDTHS))}; with fewer, small updates are lost in the rounding"
            raise ConfigError("is no width of a number", where="secagg.bits", cure=cure)
        if not LEAST_CLIP <= self.clip <= MOST_CLIP:
            raise ConfigError("is no norm", where="secagg.clip", cure=f"{LEAST_CLIP:g} to {MOST_CLIP:g}")
        if not 1 <= self.sites < 2 ** (self.bits - 2):
            raise ConfigError("is no number of sites", where="secagg", cure="at least 1")

    @property
    def scale(self) -> float:
        """What 1 becomes."""
        return ((1 << (self.bits - 1)) - 1 - self.sites) / self.clip

    @property
    def mask(self) -> np.uint32:
        """The bits that count."""
        return np.uint32(2**self.bits - 1)

    def encode(self, update: Update, weight: float) -> Residues:
        """What a site adds to the sum.

        Parameters
        ----------
        update
            (d,) fp32; beyond the clip it is cut off.
        weight
            Of this site, 0 to 1.

        Raises
        ------
        FederationError
            A value is not finite: cast to a whole number it would be anything.
        """
        if not 0 <= weight <= 1:
            raise FederationError(f"the weight {weight} is none", cure="from 0 to 1")
        made = np.empty(len(update), np.uint32)
        for start in range(0, len(update), CHUNK):
            part = update[start : start + CHUNK]
            if not np.isfinite(part).all():
                raise FederationError("the update is not finite")
            wide = part.astype(np.float64)
            np.clip(wide, -self.clip, self.clip, out=wide)
            wide *= weight * self.scale
            # Below 2^31 by the choice of the scale, so that 32 bits with a sign hold it.
            made[start : start + CHUNK] = np.rint(wide, out=wide).astype(np.int32).view(np.uint32)
        made &= self.mask
        return made

    def decode(self, summed: Residues, weight: float) -> Update:
        """The mean of what was encoded, fp32.

        Parameters
        ----------
        summed
            (d,), the sum modulo 2^bits.
        weight
            Sum of the weights of the sites in it, above 0.
        """
        shift, made = 32 - self.bits, np.empty(len(summed), np.float32)
        for start in range(0, len(summed), CHUNK):
            signed = (summed[start : start + CHUNK] << np.uint32(shift)).view(np.int32) >> np.int32(shift)
            made[start : start + CHUNK] = signed.astype(np.float64) / (self.scale * weight)
        return made

    def rounding(self, count: int, sites: int, weight: float) -> float:
        """The L2 norm that rounding is expected to add to a mean of `count` numbers of so many sites.

        Each site rounds each number by itself, evenly within half a step to either side; where numbers of sites are
        alike, so is what rounding does to them, and the norm up to sqrt(sites) times as long.

        Parameters
        ----------
        weight
            As in `decode`.
        """
        return math.sqrt(count * sites / 12) / (self.scale * weight)


def clipped(update: Update, clip: float) -> tuple[Update, bool]:
    """An update scaled down to an L2 norm, and whether it had to be.

    Raises
    ------
    FederationError
        A value is not finite.
    """
    norm = norm_of(update)
    if not math.isfinite(norm):
        raise FederationError("the update is not finite")
    if norm <= clip:
        return update, False
    return (update.astype(np.float64) * (clip / norm)).astype(np.float32), True


def norm_of(update: Update) -> float:
    """The L2 norm, in double precision; not finite where a value is not.

    Added up by one core, and so in one order: BLAS shares so short a sum among all cores, which take turns in waiting
    for each other.
    """
    parts = (update[start : start + CHUNK].astype(np.float64) for start in range(0, len(update), CHUNK))
    return math.sqrt(sum(float(np.einsum("i,i->", part, part)) for part in parts))


def packed_bytes(bits: int, count: int) -> int:
    """Bytes of `count` numbers, packed."""
    return count * bits // 8


def pack(residues: Residues, bits: int) -> npt.NDArray[np.uint8]:
    """The low 24 or 32 bits of each number, least byte first."""
    ordered = residues.astype("<u4", copy=False).view(np.uint8)
    if bits == 32:
        return ordered
    return np.ascontiguousarray(ordered.reshape(-1, 4)[:, : bits // 8]).reshape(-1)


def unpack(data: npt.NDArray[np.uint8], bits: int, count: int) -> Residues:
    """The numbers that `pack` packed.

    Raises
    ------
    FederationError
        There are more or fewer bytes than so many numbers take, or something else than bytes.
    """
    if data.dtype != np.uint8 or data.shape != (packed_bytes(bits, count),):
        raise FederationError(f"is not {count} numbers of {bits} bits")
    wide = np.zeros((count, 4), np.uint8)
    wide[:, : bits // 8] = data.reshape(count, bits // 8)
    return wide.reshape(-1).view("<u4").astype(np.uint32, copy=False)
