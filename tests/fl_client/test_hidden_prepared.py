"""Images prepared in another way: told of where they are hidden files, named where an older run goes on over them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from older_store import lay_open, write_open_header
from PIL import Image

from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.files.recipe import Recipe
from crypto.files.registry import kind_of
from crypto.imaging import preprocess
from crypto.keys import SimulatedKey, SiteKey
from fl_client.data.config import DataConfig
from fl_client.data.documents import Documents
from fl_client.data.hidden import prepared_otherwise
from fl_client.data.partition import site_parts
from fl_client.data.source import Source, open_source
from fl_client.data.store import open_store, prepared_before
from fl_client.site_basis import SiteBasis
from medveil.basis import SETTINGS, basis_of
from medveil.errors import BasisError
from medveil.files import write_json
from simulations import standing

KEY = SiteKey(bytes(range(32)), "mercy")
OLDER = Path(__file__).parents[1] / "crypto" / "fixtures" / "hidden-version-2" / "training"
UNSAID = "an older MedVeil hid images and did not say in which way it prepared them"
RUN = "0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab"


def hidden_tree(folder: Path) -> Path:
    recipe = Recipe(purpose="training", cipher=CipherConfig(block=8), size=16)
    for label in ("sick", "well"):
        for n in range(2):
            (folder / label).mkdir(parents=True, exist_ok=True)
            plain = folder.parent / f"{label}{n}.png"
            drawn = np.random.default_rng(ord(label[0]) + n).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(drawn).save(plain)
            kind = kind_of(plain)
            assert kind is not None
            kind.hide(plain, folder / label / plain.name, recipe, KEY)
    return folder


def source_of(folder: Path) -> Source:
    return open_source(DataConfig(source="hidden", path=str(folder), group_by="none"))


def test_files_of_one_way_are_said_nothing_of(tmp_path: Path) -> None:
    source = source_of(hidden_tree(tmp_path / "hidden"))
    assert source.prepared == preprocess.VERSION
    assert not any("prepare" in each for each in source.warnings)


def test_files_that_do_not_say_it_are_told_of(tmp_path: Path) -> None:
    folder = hidden_tree(tmp_path / "hidden")
    shutil.copy(OLDER / "sick" / "a.png", folder / "sick" / "older.png")
    source = source_of(folder)
    assert source.skipped == ()
    assert source.prepared == 0
    assert any(UNSAID in each for each in source.warnings)


def test_files_of_another_way_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hidden_tree(tmp_path / "hidden")
    monkeypatch.setattr(preprocess, "VERSION", preprocess.VERSION + 1)
    (told,) = [each for each in source_of(folder).warnings if "prepare" in each]
    assert told.startswith(f"images were prepared in way {preprocess.VERSION - 1} before they were hidden, and this ")
    assert f"in way {preprocess.VERSION}: " in told


def test_files_of_several_ways_are_told_of() -> None:
    now = preprocess.VERSION
    assert list(prepared_otherwise([now, now])) == []
    (told,) = prepared_otherwise([now, 1])
    assert f"in way 1 and way {now} before" in told
    assert len(list(prepared_otherwise([0, 1]))) == 2


# -- an older run ------------------------------------------------------------------------------------------------------


def plain_tree(folder: Path) -> DataConfig:
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for n in range(6):
            drawn = np.random.default_rng(ord(label) + n).integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(drawn).save(folder / label / f"{n}.png")
    return DataConfig(source="images", path=str(folder), image_size=16, channels=1)


CIPHER = make_cipher(CipherConfig(scheme="none", block=4), None, channels=1, height=16, width=16)


@pytest.fixture
def older(tmp_path: Path) -> tuple[DataConfig, Path]:
    """A site's folder as a MedVeil of preparation 1 left it: its store says nothing of it, its run no basis."""
    config, state = plain_tree(tmp_path / "images"), tmp_path / "run" / "sites" / "site-1"
    source = open_source(config)
    parts = site_parts(source, config, sites=1, index=0, seed=0)
    store = open_store(source, parts, CIPHER, config, key=SimulatedKey(0, "a"), folder=state, seed=0)
    lay_open(store, preparation=None, source="0" * 64)
    write_json(state / "site.json", {"format": "medveil-site", "version": 1, "run": RUN, "source": "0" * 64})
    return config, state


def test_an_older_run_of_another_preparation_is_refused_by_its_name(older: tuple[DataConfig, Path]) -> None:
    config, state = older
    basis = basis_of([], classes=["a", "b"], settings={})
    held = SiteBasis(Documents(state), run=RUN, basis=basis, site="site-1")
    with pytest.raises(BasisError, match="site-1: an older MedVeil began this run: its images were prepared") as told:
        held.check(
            served=True, agrees=lambda named: False, otherwise=lambda: prepared_before(config, CIPHER, folder=state)
        )
    assert f"in way 1 of MedVeil's, and this one prepares them in way {preprocess.VERSION}" in str(told.value)
    assert "go on with it by the MedVeil that began it" in str(told.value)
    assert told.value.parts == (SETTINGS,)


def test_an_older_run_of_this_preparation_is_refused_for_its_images(older: tuple[DataConfig, Path]) -> None:
    config, state = older
    (place,) = (state / "stores").glob("[!.]*")
    header = json.loads((place / "header.json").read_text())
    write_open_header(place, {**header, "preparation": preprocess.VERSION})
    assert prepared_before(config, CIPHER, folder=state) == ""
    assert prepared_before(config, CIPHER, folder=state / "nowhere") == ""


def test_a_comparison_names_it_too(older: tuple[DataConfig, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    config, state = older
    run = state.parents[1]
    monkeypatch.setattr(standing, "read_manifest", lambda folder: {})
    monkeypatch.setattr(standing, "resolved", lambda experiment, folder: SimpleNamespace(data=config))
    experiment: Any = None
    with pytest.raises(BasisError, match="an older MedVeil ran it: its images were prepared in way 1"):
        standing.Comparable().check(run, experiment)
