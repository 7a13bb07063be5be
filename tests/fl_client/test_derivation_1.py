"""What a site made under derivation 1 is still read: its store, its stems, its model and what it exported."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crypto.cipher import make_cipher
from crypto.config import CipherConfig, config_of_run
from crypto.files.recipe import Recipe
from crypto.files.registry import kind_of
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from fl_client.data.config import DataConfig
from fl_client.data.store import reopen_store, store_place
from fl_client.deployment.own_keys import OwnKeys
from fl_client.export.domain import cipher_of, model_of, restored
from fl_client.export.held import MODELS, find_kept
from fl_client.export.kept import KeptModel, open_kept
from fl_client.export.predicting import logits_of, predict_files
from fl_client.export.ready import from_folder, from_kept
from fl_client.export.write import export_hidden
from fl_client.stems import StemVault
from medveil.errors import ConfigError

SITE = Path(__file__).parent / "fixtures" / "site-v1"
RUN = "0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab"
KEY = SiteKey(bytes(range(32)), "st-anna")
KEYS = OwnKeys(Keyring(KEY))
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def kept() -> KeptModel:
    return open_kept(find_kept(SITE / MODELS, None), KEYS.own)


def of_derivation_2(kept: KeptModel) -> KeptModel:
    """The same model moved by the store's cipher of derivation 2."""
    run = {**kept.facts["run_config"], "cipher": {**kept.run.cipher, "derivation": 2}}
    moved = replace(kept, facts={**kept.facts, "run_config": run})
    plain = restored(kept, cipher_of(kept, KEYS))
    from fl_client.site_model import follow  # noqa: PLC0415 - pulls in training

    follow(plain, cipher_of(moved, KEYS))
    return replace(moved, tensors=dict(plain.state_dict()))


def test_its_model_reads_the_images_of_its_time(kept: KeptModel) -> None:
    asked = np.load(SITE / "asked.npz")
    cipher = cipher_of(kept, KEYS)
    assert cipher.config.derivation == 1
    np.testing.assert_array_equal(cipher.encrypt(asked["plain"]), asked["hidden"])
    own = logits_of(model_of(kept), torch.from_numpy(asked["hidden"]), cipher.reading)
    again = logits_of(restored(kept, cipher), torch.from_numpy(asked["plain"]), cipher.reading)
    assert torch.allclose(own, again, atol=1e-5)


def test_its_stems_open() -> None:
    vault = StemVault(SITE / "stems", run=RUN, subkey=KEY.subkey("state"))
    found = vault.load(before=2)
    assert found is not None
    assert found[0] == 1


def test_its_store_opens_for_a_run_of_derivation_1_alone(tmp_path: Path, kept: KeptModel) -> None:
    config = DataConfig(source="dicom", path=str(tmp_path / "images"), image_size=16, channels=1)
    old = cipher_of(kept, KEYS)
    place = store_place(config, old, folder=tmp_path)
    shutil.copytree(SITE / "stores" / "store", place)
    store = reopen_store(config, old, key=KEY, folder=tmp_path)
    assert not store.sealed
    store.verify()
    assert len(store.part("train").labels) > 0
    newer = make_cipher(replace(old.config, derivation=2), KEY, channels=1, height=16, width=16)
    with pytest.raises(ConfigError, match=r"was hidden with .*derivation=1.*, not .*derivation=2"):
        reopen_store(config, newer, key=KEY, folder=tmp_path)


def test_a_run_that_names_no_derivation_is_one_of_the_first() -> None:
    assert config_of_run({"scheme": "block-pixel", "block": 8}).derivation == 1
    assert config_of_run({"scheme": "block-pixel", "derivation": 2}).derivation == 2
    assert CipherConfig().derivation == 2


def test_an_export_of_version_2_is_read_as_derivation_1() -> None:
    ready = from_folder(SITE.with_name("exported-hidden-v2"), lambda: KEYS)
    assert ready.described.cipher.derivation == 1
    asked = np.load(SITE / "asked.npz")
    assert ready.cipher is not None
    np.testing.assert_array_equal(ready.cipher.encrypt(asked["plain"]), asked["hidden"])


@pytest.mark.parametrize("of_model", [1, 2])
@pytest.mark.parametrize("of_files", [1, 2])
def test_a_model_answers_alike_about_files_hidden_under_either(
    tmp_path: Path, kept: KeptModel, of_model: int, of_files: int
) -> None:
    made = kept if of_model == 1 else of_derivation_2(kept)
    rng = np.random.default_rng(4)
    for folder in ("plain", "hidden"):
        (tmp_path / folder).mkdir()
    recipe = Recipe(purpose="training", cipher=CipherConfig(block=8, negate=True, derivation=of_files), size=16)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(tmp_path / "plain" / name)
        kind = kind_of(tmp_path / "plain" / name)
        assert kind is not None
        kind.hide(tmp_path / "plain" / name, tmp_path / "hidden" / name, recipe, KEY)
    export_hidden(made, KEYS, tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["cipher"]["derivation"] == of_model
    for ready in (from_kept(made, lambda: KEYS), from_folder(tmp_path / "model", lambda: KEYS)):
        plain = predict_files(ready, tmp_path / "plain", device=CPU)
        hidden = predict_files(ready, tmp_path / "hidden", device=CPU)
        assert len(plain.ids) == len(hidden.ids) == 2
        np.testing.assert_allclose(plain.probabilities, hidden.probabilities, atol=1e-6)
        assert np.ptp(plain.probabilities[:, 0]) > 0
