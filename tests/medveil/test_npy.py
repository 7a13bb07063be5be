"""Arrays from a stranger: the one that was asked for is read, and nothing else is, by the same reader at both ends."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from flwr.app import Array, ArrayRecord
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from malformed import forged, malformed, npy

from medveil.contract import PACKED
from medveil.errors import FederationError
from medveil.npy import read_npy, write_npy
from medveil.received import tensors_of
from medveil.sent import record_of

N = 1000
ZEROS = np.zeros(N, np.float32)
RIGHT = npy(ZEROS)
HEADER = RIGHT[: len(RIGHT) - 4 * N]
MALFORMED = malformed(N)


def message(
    data: bytes, *, dtype: str = "float32", shape: tuple[int, ...] = (N,), stype: str = "numpy.ndarray"
) -> ArrayRecord:
    return ArrayRecord({"head": Array(dtype=dtype, shape=shape, stype=stype, data=data)})


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_what_is_not_the_array_is_refused_as_ours(data: bytes) -> None:
    with pytest.raises(FederationError, match="tensor 'head'"):
        tensors_of(message(data), {"head": (N,)}, "fp32", packed=False)


def test_a_header_of_any_size_costs_no_memory() -> None:
    tracemalloc.start()
    for data in (forged(f"({2**40},)"), forged("(" * 60_000, body=b"")):
        with pytest.raises(FederationError):
            read_npy(data, dtype=np.float32, shape=(N,))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("array", [np.arange(6, dtype=np.float32).reshape(2, 3), np.float32(3), np.zeros(0, np.uint16)])
def test_what_numpy_writes_is_read(array: Any) -> None:
    array = np.asarray(array)
    made = read_npy(npy(array), dtype=array.dtype, shape=array.shape)
    np.testing.assert_array_equal(made, array)
    assert made.shape == array.shape
    assert not made.flags.writeable


def test_what_is_sent_is_what_numpy_and_flower_would_send() -> None:
    wide = np.arange(6, dtype=np.float32).reshape(2, 3)
    arrays = {
        "a": wide,
        "b": np.asarray(np.float32(3)),
        "c": np.zeros(0, np.uint16),
        "d": np.arange(5, dtype=np.uint16),
    }
    assert all(write_npy(each) == npy(each) for each in arrays.values())
    assert write_npy(wide.T) == npy(np.ascontiguousarray(wide.T))
    theirs = ArrayRecord({name: Array(each) for name, each in arrays.items()})
    assert record_of(arrays) == theirs
    assert record_of(arrays).object_id == theirs.object_id


def test_numpy_may_pad_its_header_otherwise() -> None:
    # NumPy before 1.23 padded to 16 or 64 bytes and left no room to grow.
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({N},), }}".encode()
    for multiple in (16, 64):
        padded = text + b" " * (-(len(text) + 11) % multiple) + b"\n"
        data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + bytes(4 * N)
        np.testing.assert_array_equal(read_npy(data, dtype="<f4", shape=(N,)), ZEROS)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stype": "torch"}, "no NumPy array"),
        ({"dtype": "float64"}, "is float64, wanted float32"),
        ({"dtype": "\x1b[31m" * 10_000}, "wanted float32"),
        ({"shape": (N, 1)}, "has shape"),
        ({"shape": tuple([1] * 100_000)}, "100000 in all"),
        ({"shape": (10**9000,)}, "a number of 29898 bits"),
        ({"shape": (-N,)}, "has shape"),
    ],
)
def test_what_a_message_says_of_an_array_must_be_right_too(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(FederationError, match=says) as caught:
        tensors_of(message(RIGHT, **changes), {"head": (N,)}, "fp32", packed=False)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("packed", [False, True])
def test_names_are_those_asked_for_and_a_strange_one_is_not_repeated_raw(packed: bool) -> None:
    name = PACKED if packed else "head"
    right = Array(ZEROS)
    for bad in ({}, {"other": right}, {name: right, "\x1b[2J" + "x" * 10_000: right}):
        with pytest.raises(FederationError) as caught:
            tensors_of(ArrayRecord(bad), {"head": (N,)}, "fp32", packed=packed)
        assert len(str(caught.value)) < 200
        assert "\x1b" not in str(caught.value)
    made = tensors_of(ArrayRecord({name: right}), {"head": (N,)}, "fp32", packed=packed)
    np.testing.assert_array_equal(made["head"], ZEROS)


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(st.sampled_from([np.float32, np.uint16]), hnp.array_shapes(min_dims=0, max_dims=3, max_side=4)))
def test_every_array_comes_back_bit_for_bit(array: npt.NDArray[Any]) -> None:
    made = read_npy(npy(np.asarray(array, order="C")), dtype=array.dtype, shape=array.shape)
    assert made.tobytes() == array.tobytes()


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=300)
    | st.lists(st.tuples(st.integers(0, len(HEADER)), st.integers(0, 255)), min_size=1, max_size=4).map(
        lambda edits: bytes(dict(edits).get(at, byte) for at, byte in enumerate(RIGHT))
    )
    | st.text("({[]})'<f4uV|,:0123456789Lb\\\x00 \n", max_size=80).map(lambda text: forged(text, body=bytes(4 * N)))
)
def test_no_bytes_escape_as_another_error(data: bytes) -> None:
    try:
        made = read_npy(data, dtype=np.float32, shape=(N,))
    except FederationError:
        return
    # What is taken is the array, whatever padding was turned into other padding.
    assert data.endswith(made.tobytes())
    assert made.shape == (N,)
    assert made.dtype == np.float32
