"""A site with a model of rotary positions: what it trains, sends, seals, keeps and exports."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from one_site import BLOCK, SIZE, evaluated
from planned_site import MakePlan, incoming, setup

from crypto import sealed_file
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from fl_client import work
from fl_client.data.config import PhantomConfig
from fl_client.data.phantoms import draw_phantoms
from fl_client.deployment.own_keys import OwnKeys
from fl_client.export.domain import model_of
from fl_client.export.folder import open_folder
from fl_client.export.held import MODELS, find_kept
from fl_client.export.kept import KeptModel, open_kept
from fl_client.export.predicting import logits_of
from fl_client.export.write import export_hidden, export_plain
from fl_client.site import Site
from medveil.config import to_mapping
from medveil.errors import IntegrityError
from models.config import ModelConfig
from models.rotary import ROWS
from models.vit import normalise

DINOV3, EVA02, LEARNED = "vit_small_patch16_dinov3", "eva02_tiny_patch14_224", "vit_small_patch16_rope_mixed_ape_224"
KEYS = OwnKeys(Keyring(SiteKey.generate("st-anna")))
MORE = ("train.precision=fp64", "train.patch_dropout=0.4", "train.layer_decay=0.8", "train.ema=0.9", "train.mixup=0.2")


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    torch.set_num_threads(1)


def two_rounds(site: Site) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    sent = {name: array.astype(np.float64) for name, array in incoming(site).items()}
    for round_ in (1, 2):
        sent, _ = work.train(site, round_, sent)
    return sent, work.evaluate(site, 2, sent)


@pytest.mark.parametrize("name", [DINOV3, EVA02, LEARNED])
def test_a_site_trains_as_its_twin_on_plain_images(name: str, planned: MakePlan, tmp_path: Path) -> None:
    found = {}
    for arm in ("per-site-adapted", "fedper"):
        plan = planned(f"model.name={name}", *MORE, arm=arm)
        found[arm] = two_rounds(Site(plan.run, setup(plan, tmp_path / arm)))
    (hidden, measured), (plain, wanted) = found.values()
    assert set(hidden) == set(plain)
    assert not any("rows" in each or "pos_embed" in each for each in hidden), "rows stay at home"
    for key, tensor in plain.items():
        # What travels is in single precision.
        np.testing.assert_allclose(hidden[key], tensor, rtol=2e-7, atol=1e-8, err_msg=key)
    for key in ("test-loss", "test-auroc", "public-stem-accuracy"):
        assert measured[key] == pytest.approx(wanted[key], abs=1e-9)
    assert "wrong-key-accuracy" in measured


def test_rows_are_sealed_at_home_and_another_site_of_the_process_has_its_own(planned: MakePlan, tmp_path: Path) -> None:
    plan = planned(f"model.name={DINOV3}", "rounds=1")
    sites = [Site(plan.run, setup(plan, tmp_path / str(index), index=index, seed=index)) for index in (0, 1)]
    for site in sites:
        work.train(site, 1, incoming(site))
    for site in sites:
        (_, stem) = site.vault.load(before=2) or (0, {})
        assert stem[ROWS].tolist() == list(site.cipher.stem_permutation().pi)
        assert ROWS in site.private
        assert all(bytes(stem[ROWS].numpy()) not in file.read_bytes() for file in site.vault.folder.iterdir())
    assert sites[0].bench.reset().rope.rows.tolist() == list(range(len(stem[ROWS])))


@pytest.mark.parametrize(
    ("arm", "follows"), [("shared-public", False), ("per-site-secret", False), ("shared-adapted", True)]
)
def test_public_and_secret_stems_keep_the_public_rows(
    arm: str, follows: bool, planned: MakePlan, tmp_path: Path
) -> None:
    plan = planned(f"model.name={DINOV3}", "stem.warmup=1" if "secret" in arm else "name=tiny", arm=arm)
    site = Site(plan.run, setup(plan, tmp_path / "a"))
    sent, _ = work.train(site, 1, incoming(site))
    assert ROWS not in sent
    assert work.evaluate(site, 1, sent)["test-n"] > 0
    rows = site.bench.model.rope.rows if site.private else torch.arange(49)
    if site.private:
        (_, stem) = site.vault.load(before=2) or (0, {})
        rows = stem[ROWS]
    assert (rows.tolist() == list(range(len(rows)))) is not follows


# -- the model it keeps ------------------------------------------------------------------------------------------------


@dataclass
class Made:
    kept: KeptModel
    cipher: Any
    plain: Path
    hidden: Path


@pytest.fixture(scope="module", params=[DINOV3, LEARNED])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("rotary")
    draw_phantoms(folder / "images", PhantomConfig(sites=1, images=40, classes=2, size=SIZE))
    model = ModelConfig(request.param, SIZE, BLOCK, 1, 2, width=24, depth=1, heads=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed_file, "SCRYPT_N", 2**4)
        site = evaluated(folder / "site", folder / "images", KEYS, model=to_mapping(model))
        kept = open_kept(find_kept(folder / "site" / MODELS, None), KEYS.own)
        export_plain(kept, KEYS, folder / "plain")
        export_hidden(kept, KEYS, folder / "hidden")
    return Made(kept, site.cipher, folder / "plain", folder / "hidden")


def some() -> np.ndarray:
    """Images that brighten from left to right, under noise: where patches lie makes a difference."""
    noise = np.random.default_rng(5).integers(0, 96, (4, 1, SIZE, SIZE))
    return (noise + np.linspace(0, 159, SIZE)).astype(np.uint8)


def own(made: Made) -> torch.Tensor:
    return logits_of(model_of(made.kept), torch.from_numpy(made.cipher.encrypt(some())), made.cipher.reading)


def test_the_plain_export_is_timms_own_and_answers_as_the_site_does(made: Made) -> None:
    import timm  # noqa: PLC0415 - models.vit declares what its torchvision lacks, and must come first

    config = json.loads((made.plain / "config.json").read_text())
    model = timm.create_model(config["architecture"], pretrained=False, **config["model_args"])
    model.load_state_dict(safetensors.torch.load_file(made.plain / "model.safetensors"))
    numbers = normalise(torch.from_numpy(some()))
    with torch.no_grad():
        assert torch.allclose(model.eval()(numbers).double(), own(made), rtol=0, atol=1e-6)
        _, opened = open_folder(made.plain, lambda: KEYS)
        assert torch.allclose(opened(numbers).double(), own(made), rtol=0, atol=1e-6)
    hidden = torch.from_numpy(made.cipher.encrypt(some()))
    unmoved, moved = (
        logits_of(attentive(made), each, made.cipher.reading) for each in (torch.from_numpy(some()), hidden)
    )
    assert (unmoved - moved).abs().max() > 1e-4, "rows that were not moved make a difference"


def attentive(made: Made) -> Any:
    """The site's model, attending sharply: after two rounds all places are nearly alike to it."""
    model = model_of(made.kept)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith(("attn.qkv.weight", "attn.q_proj.weight")):
                tensor.mul_(300)
    return model


def test_the_sealed_export_has_its_rows_and_opens(made: Made) -> None:
    described, model = open_folder(made.hidden, lambda: KEYS)
    assert described.domain == "hidden"
    assert model.rope.rows.tolist() == list(made.cipher.stem_permutation().pi)
    found = logits_of(model, torch.from_numpy(made.cipher.encrypt(some())), made.cipher.reading)
    assert torch.allclose(found, own(made), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "spoil", [lambda rows: rows * 0, lambda rows: rows + 1, lambda rows: rows - 1, lambda rows: rows.float()]
)
def test_rows_that_are_no_order_of_patches_are_refused(
    spoil: Callable[[torch.Tensor], torch.Tensor], made: Made, tmp_path: Path
) -> None:
    from fl_client.export.folder import _fill, _laid_out  # noqa: PLC0415

    described, model = open_folder(made.hidden, lambda: KEYS)
    state = dict(model.state_dict())
    state[ROWS] = spoil(state[ROWS])
    with pytest.raises(IntegrityError, match=r"'rope\.rows' is"):
        _fill(_laid_out(described, tmp_path), state, tmp_path)
