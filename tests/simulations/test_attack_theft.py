"""stolen-model: what was stolen is worth something where the model reads plain images, and less without the key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from crypto.config import CipherConfig
from fl_client.data.config import DataConfig
from fl_client.data.source import open_source
from models.config import ModelConfig
from simulations.attacks.situations.setting import UpdateSetting
from simulations.attacks.situations.situation import DEPLOYMENT, UpdateConfig
from simulations.attacks.study.material import Material
from simulations.attacks.study.measure import measure
from simulations.attacks.theft.stolen_model import StolenModel

Make = Callable[..., UpdateSetting]


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Noise with a light spot in one corner or the other: nothing that an image's tones tell."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2
    row, column = np.mgrid[:32, :32]
    centre = np.where(labels, 22, 10)[:, None, None]
    spot = np.exp(-((row - centre) ** 2 + (column - centre) ** 2) / 40)
    images = np.clip(110 + 30 * rng.normal(size=(300, 32, 32)) + 60 * spot, 0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("spots") / "spots.npz"
    np.savez(path, images=images, labels=labels)
    material = Material(open_source(DataConfig(source="npz", path=str(path))), seed=0)

    def make(scheme: str = "block-pixel", *, under: int = 1, **told: Any) -> UpdateSetting:
        train = {"images": 48, "rounds": 8, "batch": 8, "lr": 3e-3}
        config = UpdateConfig(model=ModelConfig(width=48, depth=1, heads=2), **train, **told)
        return UpdateSetting(material, CipherConfig(scheme, 8), keys=under, images=4, update=config)

    return make


def thief() -> StolenModel:
    """With a budget of one step."""
    return StolenModel(sites=2, tested=50, public=16, epochs=1)


def test_a_model_is_stolen_whole_where_it_reads_plain_images_and_in_part_where_a_key_is_missing(setting: Make) -> None:
    result = measure(thief(), setting(mode=DEPLOYMENT)).result
    found = {name: each.target for name, each in result.metrics.items()}
    assert result.verdict != "broken attack"
    assert result.metrics["auroc"].control > 0.9 > result.metrics["auroc"].chance
    assert found["auroc_owner"] > 0.9 > found["auroc_wrong_key"]
    assert "16 public images" in " ".join(result.notes)


def test_a_stem_that_follows_a_key_and_trains_no_more_is_the_public_one_to_a_thief(setting: Make) -> None:
    frozen = {"keys": "per-site", "stem_init": "adapted", "stem_train": "frozen"}
    attack, rng = thief(), np.random.default_rng(0)
    case = attack.case(setting(mode=DEPLOYMENT, **frozen), 0)
    found = attack.recover(case.seen(attack.knowledge), rng)
    off = {way: np.abs(each - case.owner).max() for way, each in found.items()}
    assert off["public_stem"] < 1e-5 < off["wrong_key"] / 10


def test_there_is_nothing_to_steal_after_one_step(setting: Make) -> None:
    assert "worth a theft" in str(measure(thief(), setting()).result.reason)


def test_what_medveil_refuses_to_run_is_no_theft(setting: Make) -> None:
    result = measure(thief(), setting("etc", mode=DEPLOYMENT)).result
    assert "MedVeil refuses such a run" in str(result.reason)
    assert result.target["scheme"] == "etc"
