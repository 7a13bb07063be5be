"""What is taken for a pickle by its first bytes, and what only looks like one."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from medveil.errors import FormatError
from models.unpickled import check_beginning_of


@pytest.mark.parametrize("second", range(2, 6))
def test_a_header_whose_length_looks_like_the_start_of_a_pickle_is_no_pickle(tmp_path: Path, second: int) -> None:
    path = tmp_path / "weights.safetensors"
    told = ""
    while not path.exists() or path.read_bytes()[:2] != bytes([0x80, second]):
        path.write_bytes(save({"a": torch.zeros(1)}, metadata={"told": told}))
        told += " " * 8
    with safe_open(path, "pt") as found:
        assert list(found.keys()) == ["a"]
    check_beginning_of(path)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_under_the_name_of_weights_is_refused(tmp_path: Path, protocol: int) -> None:
    for held in ({}, {"a": 0}, [2**31, {}], torch.Size([1])):
        (tmp_path / "weights.safetensors").write_bytes(pickle.dumps(held, protocol=protocol))
        with pytest.raises(FormatError, match="is a pickle by its first bytes"):
            check_beginning_of(tmp_path / "weights.safetensors")
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(FormatError, match="is a pickle by its first bytes") as refused:
        check_beginning_of(tmp_path / "weights.safetensors")
    # What converts refuses that name, too.
    said = f"call it weights.pth: 'medveil-sim convert-checkpoint {tmp_path / 'weights.pth'} --out weights.safetensors'"
    assert said in str(refused.value)
