"""Bytes that stand where an array should: what a hostile party may send, for all tests that ask what becomes of it."""

from __future__ import annotations

import io
import pickle
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from medveil.npy import LONGEST_HEADER


def npy(array: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def npz(**arrays: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def forged(shape: str, descr: str = "'<f4'", *, order: str = "False", more: str = "", body: bytes = b"") -> bytes:
    """An array whose header says what one likes, in front of bytes one likes."""
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, {more}}}".encode()
    text += b" " * ((-len(text) - 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) % 2**16) + text + body


def malformed(n: int) -> dict[str, bytes]:
    """Bytes in place of (n,) float32, by what is wrong with them."""
    array = np.zeros(n, np.float32)
    right = npy(array)
    header = right[: len(right) - 4 * n]
    body = bytes(4 * n)
    return {
        "a zip": npz(a=array),
        "a zip's first bytes": b"PK\x03\x04" + b"x" * 100,
        "an empty zip": b"PK\x05\x06" + bytes(18),
        "a zip as long as the array": b"PK\x03\x04" + bytes(len(right) - 4),
        "a pickle": pickle.dumps({"a": 1}),
        "a pickle as long as the array": pickle.dumps(bytes(4 * n + 60)),
        "objects": npy(np.array([{"x": 1}] * 3, dtype=object)),
        "a huge shape": forged(f"({2**60},)", body=body),
        "a shape past every integer": forged(f"({'9' * 40},)", body=body),
        "a negative shape": forged("(-1,)", body=body),
        "big endian": npy(array.astype(">f4")),
        "a structured type": npy(np.zeros(n, dtype=[("a", "<f4")])),
        "a void": forged(f"({n},)", "'|V4'", body=body),
        "a later version": b"\x93NUMPY\x09\x00" + right[8:],
        "version 2": b"\x93NUMPY\x02\x00" + right[8:],
        "an unclosed literal": forged("((((1L", body=body),
        "a bad token": forged("(1L,'", body=body),
        "parentheses without end": forged("(" * 500 + ")" * 500, body=body),
        "a literal too deep to parse": forged("(" * 60_000, body=b""),
        "an empty file": b"",
        "one byte": b"\x93",
        "a magic alone": header[:8],
        "a header alone": header,
        "a list for a type": forged(f"({n},)", "[('a',('<f4',(2,)))]", body=body),
        "a nested type": forged(f"({n},)", "('<f4',(1,2,3,4,99999999999999999999))", body=body),
        "dates": forged(f"({n},)", "'<M8[ns]'", body=bytes(8 * n)),
        "a bool for a shape": forged("(True,)", body=body),
        "text for a shape": forged("'abc'", body=body),
        "Fortran's order": forged(f"({n},)", order="True", body=body),
        "65 dimensions": forged("(" + "1," * 65 + ")", body=body),
        "a null in the header": forged(f"({n},)\x00", body=body),
        "a letter past ASCII": forged(f"({n},)", more="'é': 1", body=body),
        "an f-string": forged(f"({n},)", "f'{1}'", body=body),
        "a call": forged("__import__('os').getpid()", body=body),
        "one more key": forged(f"({n},)", more="'a': 1, ", body=body),
        "keys in another order": b"\x93NUMPY\x01\x00"
        + struct.pack("<H", 118)
        + f"{{'shape': ({n},), 'descr': '<f4', 'fortran_order': False, }}".encode().ljust(117)
        + b"\n"
        + bytes(4 * n),
        "padding without end": forged(f"({n},)", more=" " * (2 * LONGEST_HEADER), body=body),
        "a longer header than it says": right[:8] + struct.pack("<H", 54) + right[10:],
        "a shorter header than it says": right[:8] + struct.pack("<H", 182) + right[10:],
        "one byte more": right + b"\0",
        "one byte less": right[:-1],
        "twice": right + right,
        "float64": npy(np.zeros(n)),
        "uint32": npy(np.zeros(n, np.uint32)),
        "a column": npy(array.reshape(n, 1)),
    }
