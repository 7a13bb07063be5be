"""What opens hidden images finds nothing in a sealed store, which holds the same images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crypto.cipher import Geometry
from crypto.config import CipherConfig, resolve
from crypto.keys import SimulatedKey
from crypto.sealed_rows import new_identity
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
    lying, again = (as_it_lies(hidden, subkey, new_identity()) for _ in range(2))
    assert (lying.shape, lying.dtype) == (hidden.shape, hidden.dtype)
    counts = np.bincount(lying.view(np.uint8).ravel(), minlength=256)
    expected = counts.sum() / 256
    assert ((counts - expected) ** 2 / expected).sum() < 400
    assert (lying == again).mean() < 0.02
    assert len(np.unique(lying.reshape(8, -1), axis=0)) == 8


def test_a_study_of_a_stolen_store_gives_the_same_bytes_again_and_no_two_files_share_a_key() -> None:
    config, geometry = resolve(CipherConfig(block=8)), Geometry(channels=3, height=16, width=16, block=8)
    made = [stolen("block-pixel")(config, SimulatedKey(0, "a"), geometry) for _ in range(2)]
    grey, white = np.zeros((2, 3, 16, 16), np.uint8), np.full((2, 3, 16, 16), 255, np.uint8)
    lying = made[0].encrypt(grey)
    assert np.array_equal(lying, made[1].encrypt(grey))
    # Under one key and nonce, they would differ by what the images differ by.
    assert ((lying ^ made[0].encrypt(white)) == 255).mean() < 0.05


def test_the_command_says_what_it_attacked(smooth_npz: Make, tmp_path: Path) -> None:
    line = ["attack", "covariance", "--images", str(smooth_npz()), "--cipher", "block-pixel", "--block", "8"]
    line += ["--keys", "2", "--images-per-key", "6", "--stolen", "--out", str(tmp_path)]
    assert main(line) == 0
    result = json.loads((tmp_path / "covariance.json").read_text())
    assert result["verdict"] == "at chance"
    assert any("lies in a sealed store" in note for note in result["notes"])
