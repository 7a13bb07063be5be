"""What a hospital that holds the key does with another's hidden images, and what it cannot where each has its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from simulations.attacks.ciphertext.insider import Insider
from simulations.attacks.registry import chosen
from simulations.attacks.study.measure import measure
from simulations.attacks.study.stolen import stolen


@pytest.mark.parametrize("scheme", ["block-pixel", "per-block", "orthogonal", "aes-ctr"])
def test_a_shared_key_opens_another_hospitals_images_and_an_own_one_does_not(
    attack_setting: Callable[..., Any], scheme: str
) -> None:
    result = measure(Insider(), attack_setting(scheme, keys=3)).result
    ssim = result.metrics["ssim"]
    assert result.verdict == "succeeds"
    assert ssim.target == pytest.approx(1.0, abs=0.01)
    assert ssim.wrong_key is not None and ssim.chance is not None
    assert ssim.wrong_key < ssim.chance, "under per-site keys it knows less than whoever guesses the mean image"


def test_a_store_lies_sealed_under_a_key_that_is_not_shared(attack_setting: Callable[..., Any]) -> None:
    result = measure(Insider(), attack_setting(stolen("block-pixel"), keys=3)).result
    assert result.verdict == "at chance"


def test_the_whole_table_is_of_attackers_without_the_key() -> None:
    assert "insider" not in {each.name for each in chosen("all")}
