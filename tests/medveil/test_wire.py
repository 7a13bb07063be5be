from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medveil.errors import FederationError
from medveil.wire import add_delta, decode, delta, encode, pack, size_in_bytes, unpack

BITS = hnp.arrays(np.uint32, hnp.array_shapes(min_dims=0, max_dims=3), elements=st.integers(0, 2**32 - 1))
# Ties, their neighbours, the largest finite value, infinities, NaNs whose payload rounding would lose, denormals.
EDGES = np.array(
    [
        *(0x00000000, 0x80000000, 0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001, 0x7F7FFFFF, 0x7F7F8000, 0x7F7F7FFF),
        *(0x7F800000, 0xFF800000, 0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000, 0x00000001, 0x00008000, 0x807FFFFF),
    ],
    dtype=np.uint32,
)


def by_torch(bits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(bits.view(np.float32).copy()).to(torch.bfloat16).float().numpy()


@settings(deadline=None)
@given(BITS)
def test_fp32_travels_unchanged(bits: np.ndarray) -> None:
    values = bits.view(np.float32)
    again = decode(encode({"w": values}, "fp32"), "fp32")["w"]
    assert again.dtype == np.float32
    assert again.shape == values.shape
    np.testing.assert_array_equal(again.view(np.uint32), bits)


@settings(deadline=None)
@given(BITS)
def test_bf16_rounds_as_torch_does(bits: np.ndarray) -> None:
    sent = encode({"w": bits.view(np.float32)}, "bf16")["w"]
    assert sent.dtype == np.uint16
    assert sent.shape == bits.shape
    got = decode({"w": sent}, "bf16")["w"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, by_torch(bits))


def test_bf16_at_the_edges() -> None:
    got = decode(encode({"w": EDGES.view(np.float32)}, "bf16"), "bf16")["w"]
    expected = by_torch(EDGES)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got[~np.isnan(got)]), np.signbit(expected[~np.isnan(expected)]))
    assert np.isinf(got[6])
    assert np.isnan(got[11:15]).all()


def test_names_are_sorted_and_arrays_need_not_be_contiguous() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    sent = encode({"b": values.T, "a": values[:, ::2]}, "fp32")
    assert list(sent) == ["a", "b"]
    np.testing.assert_array_equal(decode(sent, "fp32")["b"], values.T)
    assert size_in_bytes(sent) == 4 * 6 + 4 * 12
    assert size_in_bytes(encode({"b": values}, "bf16")) == 24


@pytest.mark.parametrize(
    ("dtype", "wire"),
    [(np.float64, "fp32"), (np.uint16, "fp32"), (np.float32, "bf16"), (np.float16, "bf16"), (np.int64, "bf16")],
)
def test_another_dtype_is_refused_by_name(dtype: type, wire: str) -> None:
    with pytest.raises(FederationError, match=rf"site-3: tensor 'w' travels as {np.dtype(dtype)}.*{wire}"):
        decode({"w": np.zeros(3, dtype)}, wire, where="site-3")


def test_deltas_undo() -> None:
    rng = np.random.default_rng(0)
    base = {"w": rng.normal(size=5).astype(np.float32)}
    moved = {"w": base["w"] + np.float32(0.25)}
    np.testing.assert_allclose(add_delta(base, delta(moved, base))["w"], moved["w"], rtol=1e-6)


SHAPES = st.dictionaries(
    st.text(min_size=1, max_size=5), hnp.array_shapes(min_dims=0, max_dims=3), min_size=1, max_size=6
)


@settings(deadline=None)
@given(SHAPES, st.sampled_from(["fp32", "bf16"]), st.randoms(use_true_random=False))
def test_what_is_packed_comes_out_as_it_went_in(shapes: dict[str, tuple[int, ...]], wire: str, random: object) -> None:
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    arrays = encode(tensors, wire)
    flat = pack(arrays)
    assert flat.ndim == 1
    assert flat.nbytes == size_in_bytes(arrays)
    # The order in which the receiver knows the shapes does not matter.
    names = list(shapes)
    random.shuffle(names)  # type: ignore[attr-defined]
    again = unpack(flat, {name: shapes[name] for name in names})
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype
        np.testing.assert_array_equal(again[name], array)


def test_packed_tensors_of_another_size_are_refused() -> None:
    flat = pack({"a": np.zeros((2, 3), np.float32), "b": np.zeros((), np.float32)})
    assert flat.shape == (7,)
    for shapes in ({"a": (2, 3)}, {"a": (2, 3), "b": (2,)}, {}):
        with pytest.raises(FederationError, match=r"packed tensors are \(7,\); wanted"):
            unpack(flat, shapes, where="there")
    with pytest.raises(FederationError, match="packed tensors are"):
        unpack(flat.reshape(7, 1), {"a": (2, 3), "b": ()})
