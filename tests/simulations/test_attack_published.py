"""Attacks as they were published: APRIL at its own size, and gradient matching beside breaching where there is any.

These take minutes and print figures: ``pytest -m faults -s tests/simulations/test_attack_published.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from crypto.base import Geometry, Reading
from fl_client.data.rng import generator
from models.config import ModelConfig
from models.vit import build_vit
from simulations.attacks.situations.setting import UpdateSetting
from simulations.attacks.situations.situation import UpdateConfig
from simulations.attacks.situations.update_attack import as_numbers
from simulations.attacks.updates.april import BIAS, POSITIONS, QKV, WEIGHT, as_published, closed_form
from simulations.attacks.updates.gradient_matching import GradientMatching
from simulations.attacks.updates.matched import Descent, Match, Target

Make = Callable[..., Any]
STEPS = 1200
pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(("dtype", "least", "most"), [(torch.float64, 100.0, 400.0), (torch.float32, -50.0, 30.0)])
def test_april_in_its_own_architecture_at_the_width_of_vit_b(
    dtype: torch.dtype, least: float, most: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lu et al., arXiv 2112.14087: a block without norm and skip before attention, 224 pixels, patches of 16."""
    size, block = 224, 16
    model = build_vit(
        ModelConfig(image_size=size, patch=block, channels=3, classes=10, width=768, depth=2, heads=12), seed=0
    )
    as_published(model)
    model = model.to(dtype)
    rows = np.sin(np.linspace(0, 9, size))[:, None] * np.cos(np.linspace(0, 5, size))[None]
    image = torch.from_numpy(np.stack([rows, rows**2, -rows])[None]).to(dtype)
    torch.nn.functional.cross_entropy(model(image), torch.tensor([3])).backward()
    held = dict(model.named_parameters())
    change = {name: held[name].grad.numpy() for name in (QKV, POSITIONS)}
    before = {name: held[name].detach().numpy() for name in (QKV, POSITIONS, WEIGHT, BIAS)}
    found = closed_form(change, before, Geometry(channels=3, height=size, width=size, block=block))
    squared = float(((found - image.double().numpy()) ** 2).mean()) / 4
    decibels = -10 * np.log10(squared)
    with capsys.disabled():
        print(f"\n{dtype}: MSE {squared:.3g} of a range of 1, {decibels:.1f} dB")
    assert least < decibels < most


class Theirs:
    """Their `invertinggradients` on an update of one step at rate 1 of one image (C, H, W)."""

    def __init__(self, breaching: Any, model: Any, change: dict[str, Any], label: int, shape: tuple[int, ...]) -> None:
        for layer in model.modules():
            if hasattr(layer, "fused_attn"):
                layer.fused_attn = False
        told = [f"optim.max_iterations={STEPS}", "regularization.total_variation.scale=0.01"]
        config = breaching.get_attack_config("invertinggradients", overrides=told)
        self._device, self._model, self._labels = torch.device("cpu"), model, torch.tensor([label])
        setup = {"device": self._device, "dtype": torch.float}
        self._attack = breaching.attacks.prepare_attack(model, torch.nn.CrossEntropyLoss(), config, setup)
        half = [0.5] * shape[0]
        about = SimpleNamespace(shape=shape, modality="vision", classes=model.num_classes, mean=half, std=half)
        self._sent = {"parameters": list(model.parameters()), "buffers": list(model.buffers()), "metadata": about}
        self._gradients = [-torch.from_numpy(change[name]) for name, _ in model.named_parameters()]

    def found(self) -> Any:
        """What they make of it: (1, C, H, W)."""
        shared = {"num_data_points": 1, "labels": self._labels, "local_hyperparams": None}
        torch.manual_seed(0)
        given = {"gradients": self._gradients, "buffers": None, "metadata": shared}
        made, _ = self._attack.reconstruct([self._sent], [given], {})
        return made["data"].double().numpy()

    def objective(self, images: Any) -> float:
        """Theirs: one minus the cosine of the gradients, over all numbers at once."""
        candidate = torch.from_numpy(images).float().requires_grad_()
        return float(self._attack.objective(self._model, self._gradients, candidate, self._labels)[0])


def test_the_same_gradient_gives_both_the_image(attack_setting: Make, capsys: pytest.CaptureFixture[str]) -> None:
    breaching = pytest.importorskip("breaching", reason="pip install breaching, into an environment of its own")
    # In colour: their total variation takes nothing else.
    plain = attack_setting("none", keys=2, images=1, size=16, block=4, channels=3)
    update = UpdateConfig(model=ModelConfig(width=64, depth=1, heads=2, init="mimetic"))
    setting = UpdateSetting(plain.material, plain.config, keys=2, images=1, update=update)
    attack = GradientMatching(descent=Descent(iterations=STEPS), updates=1)
    case = attack.case(setting, 0)
    seen = case.seen(attack.known_in(setting))
    exchange = seen.weights
    ours = attack.recover(seen, generator(setting.seed, "attack", attack.name, "target", 0))
    shape = exchange.geometry
    label = int(case.targets.labels[0])
    theirs = Theirs(breaching, exchange.model(), exchange[0].change, label, (shape.channels, *shape.padded))
    images = {"ours": ours[0].images, "breaching's": theirs.found()}
    images["the original"] = as_numbers(case.targets.pixels, Reading(shape.bits))
    made = {name: attack.score([Match(each, 0.0)], case) for name, each in images.items()}
    objective = {name: theirs.objective(each) for name, each in images.items()}
    target, descent = Target(exchange.model(), exchange[0].change, np.array([label])), Descent()
    own = {name: float(target.loss(torch.from_numpy(each).float(), descent)) for name, each in images.items()}
    chance = max(each["ssim"] for each in attack.guesses(case, np.random.default_rng(0)))
    with capsys.disabled():
        for name, each in made.items():
            losses = f"their objective {objective[name]:.2g}, ours {own[name]:.2g}"
            print(f"\n{name}: SSIM {each['ssim']:.3f}, {each['psnr']:.1f} dB, {losses}")
        print(f"chance: SSIM {chance:.3f}")
    assert max(objective["the original"], own["the original"]) < 1e-3, "it is the same update to both"
    # Each search ends where its own objective is small, and that over all numbers at once is small without the image.
    assert objective["breaching's"] < 0.02
    assert objective["ours"] < 0.1
    assert own["ours"] < own["breaching's"]
    assert made["ours"]["ssim"] > max(chance, made["breaching's"]["ssim"])
