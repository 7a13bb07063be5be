"""Tensors sent as one: the same run, bit for bit, and the same checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from safetensors.numpy import load_file

from medveil.contract import PACKED
from medveil.errors import FederationError
from medveil.received import tensors_of
from simulations.config import ExperimentConfig
from simulations.engines.inprocess import run_inprocess
from simulations.plan import Plan, make_plan

Tiny = Callable[..., ExperimentConfig]


@pytest.mark.usefixtures("fresh_sites")
@pytest.mark.parametrize(("wire", "kind"), [("fp32", "weights"), ("bf16", "delta")])
def test_a_packed_run_is_the_same_run(tiny: Tiny, tmp_path: Path, wire: str, kind: str) -> None:
    plan = make_plan(tiny(f"wire={wire}", f"kind={kind}", "rounds=2"), tmp_path / "plain")
    run_inprocess(plan)
    packed = dataclasses.replace(plan.run, packed=True)
    sites = dataclasses.replace(plan.sites, out=str(tmp_path / "packed"))
    run_inprocess(Plan(plan.experiment, packed, sites, tmp_path / "packed"))
    left, right = (load_file(tmp_path / name / "checkpoints/round-0002.safetensors") for name in ("plain", "packed"))
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        np.testing.assert_array_equal(right[name], tensor, err_msg=name)


SHAPES = {"a": (2, 3), "b": (4,)}


def record(**arrays: np.ndarray) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def test_a_packed_update_is_taken_apart() -> None:
    tensors = tensors_of(record(packed=np.arange(10, dtype=np.float32)), SHAPES, "fp32", packed=True)
    np.testing.assert_array_equal(tensors["a"], np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(tensors["b"], np.arange(6, 10, dtype=np.float32))


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({PACKED: np.zeros(9, np.float32)}, r"shape \(9,\), wanted \(10,\)"),
        ({PACKED: np.zeros((2, 5), np.float32)}, r"shape \(2, 5\), wanted \(10,\)"),
        ({PACKED: np.zeros(10, np.float64)}, "is float64, wanted float32"),
        ({PACKED: np.zeros(10, np.float32), "more": np.zeros(1, np.float32)}, "'more' first"),
        ({"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.float32)}, "'packed' first"),
    ],
)
def test_a_packed_update_that_is_none_is_refused(arrays: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(FederationError, match=says):
        tensors_of(record(**arrays), SHAPES, "fp32", packed=True)
