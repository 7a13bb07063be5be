"""How tensors travel: fp32, or bfloat16 carried as uint16 bits, as weights or as deltas.

Flower's ArrayRecord refuses bfloat16, and its strategies compute in the dtype they are given; so bfloat16 travels as
its bit pattern and is decoded to fp32 before a strategy sees it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from medveil.errors import FederationError

Tensors = dict[str, npt.NDArray[np.float32]]
WIRES = ("fp32", "bf16")
KINDS = ("weights", "delta")
DTYPES: dict[str, np.dtype[Any]] = {"fp32": np.dtype(np.float32), "bf16": np.dtype(np.uint16)}
"""What an array of each wire format holds."""


def encode(tensors: Mapping[str, npt.NDArray[np.float32]], wire: str) -> dict[str, npt.NDArray[np.generic]]:
    """Encode fp32 tensors for the wire, sorted by name.

    Parameters
    ----------
    tensors
        Arrays of dtype float32, any shape.
    wire
        ``"fp32"`` (unchanged) or ``"bf16"`` (uint16 bit patterns, rounded to nearest, ties to even).
    """
    return {name: _encode_one(tensors[name], wire) for name in sorted(tensors)}


def decode(arrays: Mapping[str, npt.NDArray[np.generic]], wire: str, *, where: str = "message") -> Tensors:
    """Decode what `encode` made back to fp32.

    Raises
    ------
    FederationError
        An array has another dtype than the wire format sends.
    """
    return {name: _decode_one(name, array, wire, where) for name, array in arrays.items()}


def pack(arrays: Mapping[str, npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
    """All arrays of one dtype end to end, in the order of their names: one thing to send instead of many.

    Flower sends every array in requests of its own, four hops a round: for small arrays those are most of the time.

    Parameters
    ----------
    arrays
        At least one, all of one dtype.

    Returns
    -------
    ndarray
        (n,) of their dtype; `unpack` needs the shapes, which server and site have from the model.
    """
    return np.concatenate([arrays[name].reshape(-1) for name in sorted(arrays)])


def unpack(
    flat: npt.NDArray[np.generic], shapes: Mapping[str, tuple[int, ...]], *, where: str = "message"
) -> dict[str, npt.NDArray[np.generic]]:
    """Undo `pack`.

    Parameters
    ----------
    flat
        (n,) values.
    shapes
        The shape of every array that was packed.

    Raises
    ------
    FederationError
        There are more or fewer values than the shapes hold.
    """
    sizes = {name: math.prod(shapes[name]) for name in sorted(shapes)}
    if flat.shape != (sum(sizes.values()),):
        raise FederationError(f"packed tensors are {flat.shape}", where=where, cure=f"wanted ({sum(sizes.values())},)")
    made, start = {}, 0
    for name, size in sizes.items():
        made[name] = flat[start : start + size].reshape(shapes[name])
        start += size
    return made


def delta(tensors: Tensors, base: Tensors) -> Tensors:
    """What training changed: `tensors` - `base`, tensor by tensor."""
    return {name: tensors[name] - base[name] for name in tensors}


def add_delta(base: Tensors, change: Tensors) -> Tensors:
    """Undo `delta`: `base` + `change`, tensor by tensor."""
    return {name: base[name] + change[name] for name in change}


def size_in_bytes(arrays: Mapping[str, npt.NDArray[np.generic]]) -> int:
    """Bytes of the array payload, headers left out."""
    return sum(array.nbytes for array in arrays.values())


def _encode_one(array: npt.NDArray[np.float32], wire: str) -> npt.NDArray[np.generic]:
    # Not ascontiguousarray, which gives a scalar a dimension.
    array = np.asarray(array, dtype=np.float32, order="C")
    if wire == "fp32":
        return array
    bits = array.view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)
    # Rounding could carry a NaN's payload away and leave an infinity: a NaN stays a NaN.
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)


def _decode_one(name: str, array: npt.NDArray[np.generic], wire: str, where: str) -> npt.NDArray[np.float32]:
    if array.dtype != DTYPES[wire]:
        raise FederationError(
            f"tensor '{name}' travels as {array.dtype}", where=where, cure=f"wire format {wire} sends {DTYPES[wire]}"
        )
    if wire == "fp32":
        return array.view(np.float32)
    return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
