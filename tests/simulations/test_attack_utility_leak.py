"""utility-leak and what it reads: classes and sites are learnt through a permutation, not through a keystream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crypto.config import CipherConfig
from fl_client.data.config import DataConfig, PhantomConfig
from fl_client.data.source import open_source
from simulations.attacks.ciphertext.utility_leak import UtilityLeak, by_kernel, by_trees
from simulations.attacks.solvers.signatures import block_tones, tones
from simulations.attacks.study.controls import PixelShuffle
from simulations.attacks.study.material import Material
from simulations.attacks.study.measure import measure
from simulations.attacks.study.setting import Setting

Make = Callable[..., Any]
FEW: dict[str, Any] = {"labelled": 60, "trees": 40}


def test_classes_are_learnt_through_a_permutation(attack_setting: Make) -> None:
    """The kernel does not even notice. Classes differ in brightness, below the middle lest negation fold it away."""
    setting = attack_setting(negate=True, level=70, keys=3, images=30)
    result = measure(UtilityLeak(**FEW, vit_keys=0), setting).result
    metrics = result.metrics
    assert result.verdict == "succeeds"
    values, trees = metrics["class_auroc_values"], metrics["class_auroc_tones"]
    assert values.target == pytest.approx(values.control, abs=1e-3)
    assert values.target > 0.85
    assert trees.target > 0.8
    # It needs no label under the attacked key.
    assert trees.wrong_key == pytest.approx(trees.target, abs=0.02)
    for each in (values, trees):
        assert abs(each.chance - 0.5) < 0.2
    assert metrics["class_auroc_vit"].target is None
    assert metrics["site_auroc_tones"].target is None
    assert any("no sites" in note for note in result.notes)


@pytest.mark.slow
def test_random_ciphertexts_teach_nothing(attack_setting: Make) -> None:
    result = measure(UtilityLeak(**FEW, vit_keys=1), attack_setting("aes-ctr", keys=4, images=30)).result
    assert result.verdict == "at chance"
    for learner in ("tones", "values"):
        assert abs(result.metrics[f"class_auroc_{learner}"].target - 0.5) < 0.12
    assert result.metrics["class_auroc_vit"].values["target"][1:] == [None] * 3


@pytest.mark.slow
def test_the_vit_answers_under_the_first_keys(attack_setting: Make) -> None:
    setting = attack_setting(keys=2, images=30)
    result = measure(UtilityLeak(**FEW, vit_keys=1), setting).result
    first, second = result.metrics["class_auroc_vit"].values["target"]
    assert first is not None and first > 0.7
    assert second is None
    assert any("first 1 keys" in note for note in result.notes)


def test_sites_are_told_apart_by_their_scanners(tmp_path: Path) -> None:
    phantoms = PhantomConfig(sites=2, images=60, size=32, classes=2)
    source = open_source(DataConfig(source="phantoms", path=str(tmp_path / "phantoms"), phantoms=phantoms))
    material = Material(source, seed=0)
    setting = Setting(material, CipherConfig("block-pixel", 8), keys=2, images=20)
    case = setting.case(0, labelled=30)
    assert case.sites is not None and set(case.sites.tolist()) == {0, 1}
    pixels = {material.images([i]).pixels.tobytes(): item.site for i, item in enumerate(material.items)}
    for image, site in zip(case.targets.pixels, case.sites, strict=True):
        assert material.sites[site] == pixels[image.tobytes()]
    metrics = measure(UtilityLeak(**FEW, vit_keys=0), setting).result.metrics
    assert metrics["site_auroc_tones"].target > 0.9
    assert metrics["site_accuracy_tones"].target > metrics["site_accuracy_tones"].chance


def test_labelled_ciphertexts_are_of_other_patients(attack_setting: Make) -> None:
    setting = attack_setting(images=20)
    case = setting.case(1, labelled=1000)
    material = setting.material
    place = {pixels.tobytes(): i for i, pixels in enumerate(material.images(range(len(material.items))).pixels)}
    told = [place[each.tobytes()] for each in case.labelled.pixels]
    targets = [place[each.tobytes()] for each in case.targets.pixels]
    assert not material.groups_of(told) & material.groups_of(targets)
    assert len(told) == len(material.public)
    assert case.labelled.labels.tolist() == [material.items[i].label for i in told]
    # Asking for labels changes no image that is attacked.
    assert np.array_equal(case.targets.pixels, setting.case(1).targets.pixels)
    hidden = case.seen({*UtilityLeak.knowledge}).labelled.hidden
    assert np.array_equal(case.cipher.decrypt(hidden.images, hidden.nonces), case.labelled.pixels)


@pytest.mark.parametrize("negate", [False, True])
def test_signatures_survive_the_key(attack_setting: Make, negate: bool) -> None:
    case = attack_setting(negate=negate, images=6).case(0)
    plain, hidden = case.targets.pixels, case.hidden.images
    assert np.allclose(tones(plain, negate=negate), tones(hidden, negate=negate))
    assert np.allclose(block_tones(plain, 8, negate=negate), block_tones(hidden, 8, negate=negate), atol=1e-6)
    assert not np.allclose(tones(plain, negate=negate)[0], tones(plain, negate=negate)[1])


def test_the_length_of_a_block_survives_a_rotation() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 65536, (2, 1, 8, 8)).astype(np.uint16)
    blocks = 2 * (images / 65535) - 1
    rotation = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    turned = (rotation @ blocks.reshape(2, 64).T).T.reshape(2, 1, 8, 8) / 8
    stored = np.rint((turned + 1) / 2 * 65535).astype(np.uint16)
    lengths = [block_tones(each, 8, negate=False, levels=1)[:, 4] for each in (images, stored)]
    assert lengths[1] * 8 == pytest.approx(lengths[0], rel=1e-3)


def test_learners_learn_and_answer_in_columns_of_the_classes() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 2, 3], 30)
    features = rng.normal(size=(90, 5)) + labels[:, None]
    for scores in (
        by_trees(features, labels, features, seed=0),
        by_kernel(features.astype(np.float32), labels, features.astype(np.float32)),
        by_kernel(features[:60].astype(np.float32), labels[:60], features.astype(np.float32)),
    ):
        assert scores.shape[1] in (3, 4)
        known = labels < scores.shape[1]
        assert (scores.argmax(axis=1)[known] == labels[known]).mean() > 0.8
        assert (scores[:, 1] == scores.min()).all()


def test_one_class_alone_is_answered_as_it_is() -> None:
    values = np.zeros((4, 3), np.float32)
    assert by_kernel(values, np.full(4, 2), values).shape == (4, 3)


def test_a_cipher_that_leaves_blocks_in_place_is_read_too(attack_setting: Make) -> None:
    result = measure(UtilityLeak(**FEW, vit_keys=0), attack_setting(PixelShuffle, keys=2, images=30)).result
    assert result.metrics["class_auroc_values"].target > 0.85
