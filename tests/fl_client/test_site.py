"""What one hospital has in one run, opened and refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from planned_site import MakePlan, setup

from crypto.keys import SimulatedKey
from fl_client.site import Site
from fl_client.workbench import pick_device, workbench
from medveil.errors import (
    ConfigError,
    DataError,
    KeyMaterialError,
    PolicyError,
    StorageError,
)
from simulations.config import ExperimentConfig
from simulations.plan import make_plan

Tiny = Callable[..., ExperimentConfig]


def test_a_store_is_rebuilt_for_another_key_and_says_so(planned: MakePlan, tmp_path: Path) -> None:
    plan = planned("data.views=1")
    own = setup(plan, tmp_path / "a")
    site = Site(plan.run, own)
    other = SimulatedKey(7, "site-1")
    changed = Site(plan.run, replace(own, cipher_key=other))
    assert changed.store.rebuilt == f"the key changed (from {site.cipher.fingerprint} to {other.fingerprint})"


def test_the_wrong_key_for_a_store_that_cannot_be_rebuilt(tiny: Tiny, tmp_path: Path) -> None:
    images = tmp_path / "images"
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 16), dtype=np.uint8)
    for number, image in enumerate(pixels):
        path = images / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    config = tiny("data.source=images", f"data.path={images}", "data.image_size=16", "data.channels=1")
    plan = make_plan(config, tmp_path / "run")
    own = setup(plan, tmp_path / "a")
    site = Site(plan.run, own)
    for path in images.glob("*/*.png"):
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(KeyMaterialError, match=f"made with the key {site.cipher.fingerprint}") as caught:
        Site(plan.run, replace(own, cipher_key=SimulatedKey(7, "site-1")))
    assert caught.value.exit_code == 4
    with pytest.raises(DataError, match="none of"):
        Site(plan.run, own)
    assert list((tmp_path / "a" / "stores").glob("*/train.sealed")), "the old store stays"


def test_classes_that_are_not_the_runs_are_refused(planned: MakePlan, tmp_path: Path) -> None:
    plan = planned()
    run = replace(plan.run, classes=["benign", "malignant"])
    with pytest.raises(ConfigError, match=r"classes \['0', '1'\]; the run expects \['benign', 'malignant'\]"):
        Site(run, setup(plan, tmp_path / "a"))


def test_a_policy_a_server_sends_is_checked_at_the_site_too(planned: MakePlan, tmp_path: Path) -> None:
    plan = planned()
    with pytest.raises(PolicyError):
        Site(replace(plan.run, stem_train="averaged"), setup(plan, tmp_path / "a"))
    with pytest.raises(ConfigError, match="optimizer"):
        Site(replace(plan.run, train=plan.run.train | {"optimizer": "lion"}), setup(plan, tmp_path / "a"))
    with pytest.raises(KeyMaterialError):
        Site(plan.run, setup(plan, tmp_path / "a", cipher_key=None))


def test_a_folder_that_cannot_be_written_is_a_storage_error(planned: MakePlan, tmp_path: Path) -> None:
    plan = planned()
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        Site(plan.run, setup(plan, tmp_path / "file" / "below"))


def test_data_that_went_away(planned: MakePlan, tmp_path: Path) -> None:
    plan = planned()
    gone = replace(plan.sites.data, path=str(tmp_path / "gone.npz"))
    with pytest.raises(DataError):
        Site(plan.run, setup(plan, tmp_path / "a", data=gone))


def test_the_workbench_is_shared_and_comes_back_as_it_was(planned: MakePlan) -> None:
    plan = planned()
    device = pick_device("cpu")
    bench = workbench(plan.run, device)
    assert workbench(replace(plan.run, name="other", rounds=9), device) is bench
    assert workbench(replace(plan.run, seed=1), device) is not bench
    with torch.no_grad():
        for tensor in bench.model.state_dict().values():
            tensor.add_(1.0)
    model = bench.reset()
    assert all(torch.equal(tensor, bench.public[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "says"), [("gpu", "is no device"), ("mps", "not supported"), ("cuda:99", "not on this")]
)
def test_devices_that_are_not_there(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        pick_device(name)
