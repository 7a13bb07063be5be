"""The model that may leave is asked whom it remembers, by a process that has no key."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from one_site import CLASSES, SIZE, evaluated

from crypto import sealed_file
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from fl_client.data.config import DataConfig, PhantomConfig
from fl_client.data.phantoms import draw_phantoms
from fl_client.deployment.own_site import OwnKeys
from fl_client.disclosure.document import INAPPLICABLE, TELLING, TRIED, UNTRIED
from fl_client.export.held import MODELS, find_kept
from fl_client.export.kept import open_kept
from fl_client.export.write import export_plain
from medveil.shapes import check_shape
from simulations.disclosure import own_model


def test_an_exported_model_is_asked_and_works_where_it_can_only_remember(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    torch.set_num_threads(1)
    draw_phantoms(tmp_path / "images", PhantomConfig(sites=1, images=240, classes=2, size=SIZE))
    keys = OwnKeys(Keyring(SiteKey.generate("st-anna")))
    evaluated(tmp_path / "site", tmp_path / "images", keys, width=32, depth=1)
    kept = open_kept(find_kept(tmp_path / "site" / MODELS, None), keys.own)
    export_plain(kept, keys, tmp_path / "model")
    labelled = {"labels": "labels.csv", "image_size": SIZE, "classes": CLASSES, "channels": 1}
    data = DataConfig(source="dicom", path=str(tmp_path / "images"), **labelled)
    found = own_model.entry(tmp_path / "model", data, seed=kept.run.seed, missing="")
    check_shape({**own_model.told(), **found}, TRIED, where="entry")
    main = found["figures"]["auroc"]
    assert found["verdict"] in TELLING, "on its control it succeeds, so that its failure here says something"
    assert main["control"] > 0.6
    assert main["ci95"]["target"][0] <= main["target"] <= main["ci95"]["target"][1]
    assert 0 < found["n"] <= 128
    absent = own_model.entry(tmp_path, data, seed=0, missing="there is none")
    assert (absent["kind"], absent["reason"]) == (INAPPLICABLE, "there is none")
    check_shape({**own_model.told(), **absent}, UNTRIED, where="entry")
    assert own_model.entry(tmp_path, data, seed=0, missing="")["kind"] == "failed"
