"""Real images, where they are: MEDVEIL_DATA, or shared/data beside the repository."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keys import SimulatedKey
from fl_client.data.config import DataConfig, PartitionConfig
from fl_client.data.partition import site_parts
from fl_client.data.source import open_source, read_many
from fl_client.data.store import open_store
from medveil.errors import DataError

ROOT = Path(os.environ.get("MEDVEIL_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not ROOT.is_dir(), reason=f"no real images at {ROOT}; set MEDVEIL_DATA"),
]


def test_pneumoniamnist_dealt_to_four_skewed_sites() -> None:
    config = DataConfig(
        source="npz", path=str(ROOT / "pneumoniamnist.npz"), partition=PartitionConfig(kind="dirichlet", test="common")
    )
    source = open_source(config)
    assert (len(source), source.size, source.channels) == (5856, 28, 1)
    parts = [site_parts(source, config, sites=4, index=index, seed=0) for index in range(4)]
    assert sum(len(site.train) for site in parts) == 4708
    # Of 524, 8 are copies of training images; none of the test images is.
    assert sum(len(site.validation) for site in parts) == 516
    labels = np.array([source.items[i].label for i in parts[0].test])
    assert len(labels) == 624
    assert labels.mean() == pytest.approx(0.625)


def test_mednist_has_its_class_names() -> None:
    source = open_source(DataConfig(source="npz", path=str(ROOT / "mednist64.npz"), limit=600))
    assert source.classes == ("AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT")
    assert np.bincount([item.label for item in source.items]).tolist() == [100] * 6


def test_brain_mri_reaches_the_store_and_back(tmp_path: Path) -> None:
    labelled = {"path": str(ROOT / "brain-mri"), "labels": "labels.csv", "group_by": "group"}
    config = DataConfig(source="images", **labelled, image_size=64, channels=1, limit=60)
    source = open_source(config)
    assert source.classes == ("glioma", "meningioma", "no_tumor", "pituitary")
    cipher = make_cipher(CipherConfig(block=16), SimulatedKey(0, "a"), channels=1, height=64, width=64)
    parts = site_parts(source, config, sites=1, index=0, seed=0)
    store = open_store(source, parts, cipher, config, key=SimulatedKey(0, "a"), folder=tmp_path, seed=0)
    assert store.skipped == ()
    test = store.part("test")
    np.testing.assert_array_equal(cipher.decrypt(test.batch(np.arange(len(test)))), read_many(source, test.indices))


def test_lung_histology_is_split_by_tile_group() -> None:
    config = DataConfig(
        source="images", path=str(ROOT / "lung-histology"), labels="labels.csv", group_by="group", channels=3
    )
    source = open_source(config)
    assert len(source) == 3453
    place: dict[str | None, tuple[int, str]] = {}
    for index in range(4):
        parts = site_parts(source, config, sites=4, index=index, seed=0)
        for name in ("train", "validation", "test"):
            for i in getattr(parts, name).tolist():
                assert place.setdefault(source.items[i].group, (index, name)) == (index, name)
    assert len(place) == len({item.group for item in source.items})
    with pytest.raises(DataError, match=r"data\.group_by=group"):
        open_source(DataConfig(source="images", path=config.path, labels="labels.csv", limit=30))


@pytest.mark.slow
def test_brain_mri_that_look_alike_are_the_groups_of_its_table() -> None:
    named = DataConfig(
        source="images", path=str(ROOT / "brain-mri"), labels="labels.csv", image_size=64, channels=1, group_by="group"
    )
    table = {item.id: item.group for item in open_source(named).items}
    source = open_source(dataclasses.replace(named, group_by="none+similar"))
    assert source.similar == (0.93, 1591, 11)
    found = {item.id: item.group or item.id for item in source.items}
    assert len(set(found.values())) == len({(group, table[id_]) for id_, group in found.items()}) == 1591
