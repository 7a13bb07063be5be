"""Arrays as they travel; reading one that someone else sent: only what was asked for, and no header is evaluated.

An array travels as a ``.npy`` file (NumPy enhancement proposal 1). Its header is a Python literal: NumPy's own loader
evaluates it, follows whatever type, shape and order it names, and opens ZIP archives and pickles too. Whoever receives
an array here knows its type and shape beforehand. So the header is compared, as bytes, with the one NumPy writes for
that array, and the rest must be as long as the array is.
"""

from __future__ import annotations

import functools
import io
import math

import numpy as np
import numpy.typing as npt

from medveil.errors import FederationError

_HEADER_AT = 10
"""Where the header's text begins in version 1.0: after six bytes of magic, two of the version, two of the length."""
_PADDING = b" \n"
LONGEST_HEADER = 4096
"""Bytes of a header, padding included; NumPy's own are 128 long."""


def write_npy(array: npt.NDArray[np.generic]) -> bytes:
    """The bytes `numpy.save` writes of an array in C order; of one in another order, those of its copy in C order."""
    return _whole_header(array.dtype.str, array.shape) + array.tobytes()


def read_npy(
    data: bytes, *, dtype: npt.DTypeLike, shape: tuple[int, ...], what: str = "array"
) -> npt.NDArray[np.generic]:
    """Read one array of a known type and shape.

    Parameters
    ----------
    data
        What came.
    dtype, shape
        What it must hold, in C order.
    what
        What to call it in an error.

    Returns
    -------
    ndarray
        A view of `data`, which cannot be written to.

    Raises
    ------
    FederationError
        It is anything else.
    """
    wanted = np.dtype(dtype)
    size = math.prod(shape) * wanted.itemsize
    if not size < len(data) <= size + _HEADER_AT + LONGEST_HEADER:
        raise FederationError(f"{what} carries {len(data)} bytes, wanted about {size}")
    header, start = data[: len(data) - size], len(data) - size
    text = _text(wanted.str, tuple(shape))
    length = int.from_bytes(header[_HEADER_AT - 2 : _HEADER_AT], "little")
    if header[: _HEADER_AT - 2] != _beginning() or start != _HEADER_AT + length:
        raise FederationError(f"{what} is no single array")
    if header[_HEADER_AT:].rstrip(_PADDING) != text:
        raise FederationError(f"{what} is not {wanted} {shape} inside, or not in C order")
    return np.frombuffer(data, dtype=wanted, offset=start).reshape(shape)


@functools.lru_cache(maxsize=1024)
def _text(descr: str, shape: tuple[int, ...]) -> bytes:
    """The header NumPy writes, without its padding, which has changed between versions."""
    return _whole_header(descr, shape)[_HEADER_AT:].rstrip(_PADDING)


@functools.lru_cache(maxsize=1024)
def _whole_header(descr: str, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@functools.lru_cache(maxsize=1)
def _beginning() -> bytes:
    return np.lib.format.magic(1, 0)
