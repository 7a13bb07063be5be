"""What opens hidden images finds nothing in a sealed store, which holds the same images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crypto.keys import SimulatedKey
from simulations.attacks.ciphertext.covariance import Covariance
from simulations.attacks.ciphertext.histogram_linkage import HistogramLinkage
from simulations.attacks.ciphertext.known_plaintext import KnownPlaintext
from simulations.attacks.study.attack import Attack
from simulations.attacks.study.measure import measure
from simulations.attacks.study.stolen import as_it_lies, stolen
from simulations.cli import main

Make = Callable[..., Any]
ATTACKS: dict[str, Callable[[], Attack]] = {
    "covariance": lambda: Covariance(images=(40,)),
    "histogram-linkage": HistogramLinkage,
    "known-plaintext": KnownPlaintext,
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_what_opens_a_store_that_lies_open_does_not_open_a_sealed_one(
    attack_setting: Make, attack: Callable[[], Attack]
) -> None:
    before, after = (
        measure(attack(), attack_setting(kind, keys=3)).result for kind in ("block-pixel", stolen("block-pixel"))
    )
    assert before.verdict == "succeeds"
    assert after.verdict == "at chance"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_lie_as_random_bytes_that_are_never_the_same(dtype: type) -> None:
    hidden = np.zeros((8, 3, 16, 16), dtype=dtype)
    subkey = SimulatedKey(0, "a").subkey("store")
    lying, again = as_it_lies(hidden, subkey), as_it_lies(hidden, subkey)
    assert (lying.shape, lying.dtype) == (hidden.shape, hidden.dtype)
    counts = np.bincount(lying.view(np.uint8).ravel(), minlength=256)
    expected = counts.sum() / 256
    assert ((counts - expected) ** 2 / expected).sum() < 400
    assert (lying == again).mean() < 0.02
    assert len(np.unique(lying.reshape(8, -1), axis=0)) == 8


def test_the_command_says_what_it_attacked(smooth_npz: Make, tmp_path: Path) -> None:
    line = ["attack", "covariance", "--images", str(smooth_npz()), "--cipher", "block-pixel", "--block", "8"]
    line += ["--keys", "2", "--images-per-key", "6", "--stolen", "--out", str(tmp_path)]
    assert main(line) == 0
    result = json.loads((tmp_path / "covariance.json").read_text())
    assert result["verdict"] == "at chance"
    assert any("lies in a sealed store" in note for note in result["notes"])
