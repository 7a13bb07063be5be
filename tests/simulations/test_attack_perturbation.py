"""perturbation: the damage is what it says, a permutation bears it as no cipher does, and models answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulations.attacks.diagnostics.perturbation import Perturbation, add_noise, flip_bits
from simulations.attacks.networks.small_vit import Recipe, fit
from simulations.attacks.study.attack import Chance
from simulations.attacks.study.measure import measure
from simulations.attacks.study.result import read_result

Make = Callable[..., Any]
TINY: dict[str, Any] = {"flips": (0.01, 0.1), "sigmas": (0.05, 0.2), "looked_at": 3}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bits_flip_at_the_rate_and_in_every_place(dtype: type) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 1, 100, 100)).astype(dtype)
    flipped = flip_bits(images, 0.1, np.random.default_rng(1)) ^ images
    bits = 8 * np.dtype(dtype).itemsize
    for bit in range(bits):
        assert ((flipped >> bit) & 1).mean() == pytest.approx(0.1, abs=0.01)
    assert flip_bits(images, 0.0, np.random.default_rng(1)).tobytes() == images.tobytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_noise_has_its_deviation_and_stays_in_range(dtype: type) -> None:
    largest = np.iinfo(dtype).max
    middle = np.full((4, 1, 100, 100), largest // 2, dtype)
    noise = add_noise(middle, 0.05, np.random.default_rng(0)).astype(float) - middle
    assert noise.std() == pytest.approx(0.05 * largest, rel=0.03)
    edge = add_noise(np.full((1, 1, 50, 50), largest, dtype), 0.2, np.random.default_rng(0))
    assert edge.dtype == dtype
    # A value that wrapped round would be dark.
    assert edge.min() > largest // 10


def test_a_permutation_bears_damage_as_no_cipher_does_and_a_keystream_does_not(attack_setting: Make) -> None:
    moved = measure(Perturbation(**TINY, classified=0), attack_setting(keys=3, images=6)).result
    assert moved.verdict == "diagnostic"
    for name, each in moved.metrics.items():
        if name.startswith("psnr"):
            assert each.target == pytest.approx(each.control, abs=0.7)
            assert each.target > each.chance or name == "psnr_noise_0_2"
    assert moved.metrics["accuracy_undamaged"].target is None
    stream = measure(Perturbation(**TINY, classified=0), attack_setting("aes-ctr", keys=3, images=6)).result
    # Flipped bits pass through a keystream; noise does not.
    assert stream.metrics["psnr_bit_flip_0_01"].target == pytest.approx(
        stream.metrics["psnr_bit_flip_0_01"].control, abs=1
    )
    assert stream.metrics["psnr_noise_0_05"].target < stream.metrics["psnr_noise_0_05"].control - 5


def test_more_damage_leaves_less(attack_setting: Make) -> None:
    metrics = measure(Perturbation(**TINY, classified=0), attack_setting(keys=2)).result.metrics
    assert metrics["psnr_bit_flip_0_01"].target > metrics["psnr_bit_flip_0_1"].target
    assert metrics["ssim_noise_0_05"].target > metrics["ssim_noise_0_2"].target
    assert metrics["psnr_noise_0_05"].series == metrics["psnr_noise_0_2"].series == "psnr_noise"


def test_a_classifier_answers_for_the_first_keys(attack_setting: Make) -> None:
    """The two classes differ in brightness, which no permutation hides; a keystream leaves nothing."""
    setting = attack_setting(keys=3, images=20)
    metrics = measure(Perturbation(**TINY, classified=2, labelled=40), setting).result.metrics
    accuracy = metrics["accuracy_undamaged"]
    assert accuracy.values["target"][2] is None
    assert accuracy.target > accuracy.chance + 0.1
    assert accuracy.chance_rule == str(Chance.MAJORITY)
    random = measure(
        Perturbation(**TINY, classified=2, labelled=40), attack_setting("aes-ctr", keys=2, images=30)
    ).result.metrics
    assert abs(random["accuracy_undamaged"].target - 0.5) < 0.25


def test_the_small_vit_learns_what_there_is_and_repeats_itself() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = (rng.integers(0, 60, (60, 1, 16, 16)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    recipe = Recipe(width=16, depth=1, heads=2, epochs=6, batch_size=10)
    made = [
        fit(images, labels, classes=3, block=8, rng=np.random.default_rng(3), recipe=recipe).predict(images)
        for _ in range(2)
    ]
    assert np.array_equal(made[0], made[1])
    assert made[0].shape == (60, 3)
    assert np.allclose(made[0].sum(axis=1), 1)
    assert (made[0].argmax(axis=1) == labels).mean() > 0.9


def test_a_run_answers_with_its_own_models(
    tiny: Callable, tmp_path: Path, fresh_sites: None, capsys: pytest.CaptureFixture[str]
) -> None:
    from simulations.cli import main  # noqa: PLC0415
    from simulations.predictions import load_predictions  # noqa: PLC0415
    from simulations.run import run_experiment  # noqa: PLC0415

    run = tmp_path / "run"
    run_experiment(tiny("rounds=1"), run, progress=False)
    line = ["attack", "perturbation", "--run", str(run), "--keys", "3", "--images-per-key", "3"]
    assert main(line) == 0
    result = read_result(run / "attacks" / "perturbation.json")
    accuracy = result.metrics["accuracy_undamaged"]
    found = load_predictions(run)
    # Key k stands for site k: undamaged, its model answers as it did when the run ended.
    expected = [float((each.probabilities.argmax(1) == each.labels).mean()) for each in found.values()][:3]
    assert [each for each in accuracy.values["target"] if each is not None] == pytest.approx(expected)
    assert accuracy.values["control"] == [None] * 3
    assert "decrypt" in result.text
