"""The tensors of a message from the other side, which must be exactly the ones that were asked for.

Server and sites read with the same strictness: what a message says of its arrays is compared with what is wanted, and
what their bytes hold is read by `medveil.npy`, never by a loader that follows a stranger's header.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord

from medveil.contract import PACKED
from medveil.errors import FederationError
from medveil.npy import read_npy
from medveil.sent import NUMPY, named
from medveil.values import LONGEST, shown_value
from medveil.wire import DTYPES, Tensors, decode, unpack


def tensors_of(
    record: ArrayRecord, shapes: Mapping[str, tuple[int, ...]], wire: str, *, packed: bool, where: str | None = None
) -> Tensors:
    """Read the tensors of a message as fp32.

    Parameters
    ----------
    record
        What came.
    shapes
        Shape of every tensor that must be there, by name.
    wire
        Wire format, ``"fp32"`` or ``"bf16"``.
    packed
        Whether all of them travel as one array (`medveil.wire.pack`).
    where
        What to call it in an error.

    Returns
    -------
    dict
        Arrays of float32 by name. Those of wire format fp32 are views that cannot be written to.

    Raises
    ------
    FederationError
        The message carries anything else.
    """
    if not packed:
        return decode(arrays_of(record, shapes, DTYPES[wire], where=where), wire)
    length = sum(math.prod(shape) for shape in shapes.values())
    flat = arrays_of(record, {PACKED: (length,)}, DTYPES[wire], where=where)
    return decode(unpack(flat[PACKED], shapes), wire)


def arrays_of(
    record: ArrayRecord, shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype[Any], *, where: str | None = None
) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of a message as they are: these and no other, each of its shape and all of one type.

    Raises
    ------
    FederationError
        The message carries anything else.
    """
    missing, extra = sorted(set(shapes) - set(record)), sorted(set(record) - set(shapes))
    if missing:
        raise FederationError(f"{len(missing)} tensors are missing, '{missing[0]}' first", where=where)
    if extra:
        raise FederationError(f"{len(extra)} tensors were not asked for, {shown_value(extra[0])} first", where=where)
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for name, shape in shapes.items():
        array, what = record[name], f"tensor '{name}'"
        if tuple(array.shape) != shape:
            raise FederationError(f"{what} has shape {shown_value(tuple(array.shape))}, wanted {shape}", where=where)
        if array.dtype != named(dtype):
            raise FederationError(f"{what} is {_word(array.dtype)}, wanted {named(dtype)}", where=where)
        if array.stype != NUMPY:
            raise FederationError(f"{what} is no NumPy array", where=where)
        try:
            arrays[name] = read_npy(array.data, dtype=dtype, shape=shape, what=what)
        except FederationError as error:
            raise FederationError(error.problem, where=where) from error
    return arrays


def _word(said: str) -> str:
    """The type a message says an array has, as it is where it is a word."""
    return said if said.isascii() and said.isalnum() and len(said) <= LONGEST else shown_value(said)
