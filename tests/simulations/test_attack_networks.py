"""inverse-network and gan: they learn on their controls, not on random ciphertexts; and what they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crypto.base import Geometry
from simulations.attacks.ciphertext.gan import Gan
from simulations.attacks.ciphertext.inverse_network import InverseNetwork
from simulations.attacks.networks import training
from simulations.attacks.networks.nets import BlockNet, Critic, Scale, as_numbers, as_pixels
from simulations.attacks.networks.training import Budget, Budgets
from simulations.attacks.registry import ATTACKS, chosen
from simulations.attacks.study.measure import measure
from simulations.attacks.study.result import read_result
from simulations.cli import main

Make = Callable[..., Any]
SMALL: dict[str, Any] = {"keys": 1, "images": 20, "n": 400, "size": 16, "block": 4}
INVERSE = Budget(steps=400, batch_size=32, width=48)
UNPAIRED = Budget(steps=350, batch_size=16, width=48)


@pytest.fixture(scope="module", autouse=True)
def trained_once() -> Iterator[None]:
    """The control is one and the same for every cipher: what is trained on the same images is trained once."""
    invert, made = training.inverted, {}

    def once(*images: np.ndarray, rng: np.random.Generator, **how: Any) -> np.ndarray:
        asked = (*(each.tobytes() for each in images), repr(rng.bit_generator.state), repr(how))
        if asked not in made:
            made[asked] = invert(*images, rng=rng, **how)
        return made[asked].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "inverted", once)
        yield


def test_pairs_under_the_key_open_it_and_pairs_under_another_do_not(attack_setting: Make) -> None:
    result = measure(InverseNetwork(budget=INVERSE), attack_setting(**SMALL)).result
    ssim = result.metrics["ssim"]
    assert result.verdict == "succeeds"
    assert ssim.target > ssim.chance + 0.2
    assert ssim.control > ssim.chance + 0.2
    assert ssim.wrong_key < ssim.chance + 0.1
    assert any("400 steps" in note for note in result.notes)


@pytest.mark.slow
def test_a_keystream_teaches_the_inverse_network_nothing(attack_setting: Make) -> None:
    result = measure(InverseNetwork(budget=INVERSE), attack_setting("aes-ctr", **SMALL)).result
    assert result.verdict == "at chance"
    assert result.metrics["ssim"].target < result.metrics["ssim"].chance + 0.05


@pytest.mark.faults
def test_the_gan_finds_by_itself_that_plain_images_are_plain(attack_setting: Make) -> None:
    result = measure(Gan(budget=UNPAIRED, ciphertexts=200), attack_setting("aes-ctr", **SMALL)).result
    ssim = result.metrics["ssim_or_negative"]
    assert ssim.control > ssim.chance + 0.1
    assert ssim.target < ssim.chance + 0.05
    assert "wrong_key" in result.reasons


def test_the_gan_is_trained_on_all_ciphertexts_and_scored_on_the_first(attack_setting: Make) -> None:
    setting = attack_setting(images=4, n=200)
    attack = Gan(budget=Budget(steps=2, batch_size=8, width=16), ciphertexts=30)
    case = attack.case(setting, 0)
    given = case.seen(attack.knowledge).ciphertexts.images
    assert len(given) == 30
    assert np.array_equal(given[:4], case.hidden.images)
    assert len(case.targets.labels) == 4
    found = attack.recover(case.seen(attack.knowledge), np.random.default_rng(0))
    assert found.shape == given.shape
    again = attack.recover(case.seen(attack.knowledge), np.random.default_rng(0))
    assert np.array_equal(found, again)


def test_all_leaves_both_out_and_the_list_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    in_all = [each.name for each in chosen("all")]
    assert {"inverse-network", "gan"} & set(in_all) == set()
    assert {"inverse-network", "gan"} <= set(ATTACKS)
    assert main(["attacks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in ("inverse-network", "gan"):
        assert "not part of 'all'" in next(line for line in lines if line.startswith(name))


def test_the_net_can_be_the_identity_and_can_move_blocks() -> None:
    """By hand: read each value into a channel of its own, mix as told, write it back."""
    shape = Geometry(channels=3, height=16, width=16, block=4)
    net = BlockNet(shape, shape.block_length)
    images = torch.randn(2, 3, 16, 16)
    order = torch.randperm(16)
    with torch.no_grad():
        net.read.weight.copy_(torch.eye(48).view(48, 3, 4, 4))
        net.read.bias.zero_()
        net.mix.weight.copy_(torch.eye(16)[order])
        net.body[2].weight.zero_()
        net.body[2].bias.zero_()
        net.write[0].weight.copy_(torch.eye(48)[:, :, None, None])
        net.write[0].bias.zero_()
        made = net(images)
    blocks = images.view(2, 3, 4, 4, 4, 4).transpose(3, 4).reshape(2, 3, 16, 4, 4)[:, :, order]
    expected = blocks.reshape(2, 3, 4, 4, 4, 4).transpose(3, 4).reshape(2, 3, 16, 16)
    assert torch.allclose(made, expected, atol=1e-6)


def test_the_critic_scores_patches() -> None:
    assert Critic(3, 8)(torch.zeros(2, 3, 32, 32)).shape == (2, 1, 4, 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_numbers_and_pixels(dtype: type) -> None:
    images = np.array([[[[0, np.iinfo(dtype).max]]]], dtype)
    assert as_numbers(images, torch.device("cpu")).flatten().tolist() == [-1.0, 1.0]
    every = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert np.array_equal(as_pixels(as_numbers(every, torch.device("cpu"))), every)
    assert as_pixels(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
    read = Scale.of(every)(every, torch.device("cpu"))
    assert read.mean().item() == pytest.approx(0, abs=1e-6)
    assert read.std(correction=0).item() == pytest.approx(1, abs=1e-6)


def test_a_budget_goes_by_the_device() -> None:
    budgets = Budgets(cpu=Budget(steps=1, batch_size=2, width=3), cuda=Budget(steps=10, batch_size=20, width=30))
    assert budgets.on("cpu")[1] == budgets.cpu
    assert "1 steps of 2 images" in budgets.text("cpu")


def test_public_images_of_another_source(
    smooth_npz: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attacked, public = smooth_npz(), smooth_npz(60, 48, 3)
    line = ["attack", "chosen-plaintext", "--images", str(attacked), "--cipher", "block-pixel", "--block", "8"]
    line += ["--keys", "2", "--images-per-key", "2", "--out", str(tmp_path)]
    assert main([*line, "--public", str(public)]) == 0
    assert read_result(tmp_path / "chosen-plaintext.json").applicable
    assert main([*line, "--public", str(tmp_path / "absent")]) == 2
    assert "absent" in capsys.readouterr().err


def test_public_images_take_the_shape_of_the_attacked_and_chance_stays_with_these(
    smooth_npz: Callable[..., Path],
) -> None:
    from simulations.attacks.config import AttackConfig, prepare  # noqa: PLC0415

    def setting(public: str | None) -> Any:
        config = AttackConfig(keys=1, images=3, public=public)
        config.data.source, config.data.path, config.cipher.block = "npz", str(smooth_npz()), 8
        return prepare(config).setting

    own, elsewhere = setting(None), setting(str(smooth_npz(60, 48, 3)))
    assert elsewhere.public.pixels.shape == (60, 1, 32, 32)
    assert own.public.pixels.shape[1:] == (1, 32, 32)
    assert len(own.public.labels) == len(own.material.public)
    assert "another source" in elsewhere.public_text
    assert "other half" in own.public_text
    for first, second in zip(own.case(0).guessed, elsewhere.case(0).guessed, strict=True):
        assert np.array_equal(first, second)
