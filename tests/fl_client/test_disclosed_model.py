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
from fl_client.deployment.own_keys import OwnKeys
from fl_client.disclosure.document import INAPPLICABLE, TELLING, TRIED, UNTRIED
from fl_client.export.held import MODELS, find_kept
from fl_client.export.kept import open_kept
from fl_client.export.write import export_plain
from medveil.shapes import check_shape
from models.config import ModelConfig
from models.vit import build_vit
from simulations.disclosure import disaggregation, own_model


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
    ratio = disaggregation.entry(tmp_path / "model", data, seed=kept.run.seed, missing="")
    check_shape({**disaggregation.told(), **ratio}, TRIED, where="entry")
    assert ratio["verdict"] == "diagnostic"
    figure = ratio["figures"]["d_snr"]
    assert figure["chance"] < figure["target"]
    assert figure["control"] > 10 * figure["target"], "a classifier that fishes is seen"
    absent = own_model.entry(tmp_path, data, seed=0, missing="there is none")
    assert (absent["kind"], absent["reason"]) == (INAPPLICABLE, "there is none")
    check_shape({**own_model.told(), **absent}, UNTRIED, where="entry")
    assert own_model.entry(tmp_path, data, seed=0, missing="")["kind"] == "failed"


def test_an_image_that_outweighs_the_rest_is_told_by_how_far() -> None:
    torch.manual_seed(0)
    model = build_vit(
        ModelConfig(image_size=16, patch=8, channels=1, classes=3, width=24, depth=1, heads=2), seed=0
    ).eval()
    images, labels = torch.randn(6, 1, 16, 16), torch.tensor([0, 0, 0, 0, 1, 2])
    alike = disaggregation.d_snr(model, images[:1].expand(5, -1, -1, -1), labels[:1].expand(5))
    assert alike == pytest.approx(1 / 4), "five that pull alike"
    honest = disaggregation.d_snr(model, images, labels)
    one = disaggregation.d_snr(disaggregation.fishing(model, 1), images, labels)
    assert 1 / 5 <= honest < 1.5
    assert one > 20
    both = disaggregation.fishing(model, 0)
    assert disaggregation.d_snr(both, images, labels) < 1, "four of the class are fished up together"


def test_an_image_that_leaves_nothing_of_the_rest_is_not_lost_from_a_mean() -> None:
    model = build_vit(
        ModelConfig(image_size=16, patch=8, channels=1, classes=2, width=24, depth=1, heads=2), seed=0
    ).eval()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([200.0, 0.0]))
    # Of the first class all are certain, and their gradients are none; one is of the other.
    alone = disaggregation.d_snr(model, torch.randn(4, 1, 16, 16), torch.tensor([0, 0, 0, 1]))
    assert alone == pytest.approx(disaggregation.MOST)
    assert disaggregation._mean([0.5, alone]) == pytest.approx(disaggregation.MOST / 2)
    with torch.no_grad():
        model.head.bias.fill_(float("nan"))
    assert disaggregation._mean([disaggregation.d_snr(model, torch.randn(2, 1, 16, 16), torch.tensor([0, 1]))]) is None
