"""A picture that is there twice: under two labels, or trained on and tested on, is told of, as a file and as pixels."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from labelled_trees import put
from older_store import lay_open
from PIL import Image

from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keys import SimulatedKey
from fl_client.data.alike import Alike, said_of_data_set
from fl_client.data.config import DataConfig
from fl_client.data.items import Item
from fl_client.data.source import Source, open_source
from fl_client.data.standing import basis_of_source
from fl_client.export.data_card import data_card
from fl_client.leaving import EVERYTHING, Leaving
from fl_client.site_images import SiteImages, open_images
from fl_client.site_setup import SiteSetup
from fl_client.workbench import pick_device
from medveil.contract import RunConfig
from simulations import standing

CIPHER = make_cipher(CipherConfig(scheme="none", block=4), None, channels=1, height=16, width=16)
RUN = RunConfig(
    run="0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab", classes=["a", "b"], channels=1, image_size=16, cipher={"block": 4}
)
NAMES = [f"{'ab'[n % 2]}/{n:02d}.png" for n in range(24)]
SHOWN = "2 images show the very picture of an image of another class: 'a/00.png' of 'a' is 'b/new.png' of 'b'"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "images", *NAMES)
    return tmp_path / "images"


def config(folder: Path) -> DataConfig:
    given: dict[str, Any] = {"image_size": 16, "channels": 1, "classes": ["a", "b"]}
    return DataConfig(source="images", path=str(folder), **given)


def opened(folder: Path, *, sites: int = 1, views: int = 1) -> SiteImages:
    key, data = SimulatedKey(0, "anna"), config(folder)
    data.views = views
    setup = SiteSetup(
        name="anna",
        index=0,
        sites=sites,
        key=key,
        cipher_key=None,
        thief_key=key,
        data=data,
        folder=folder.parent / "state",
        device=pick_device("cpu"),
        leaving=Leaving(EVERYTHING),
    )
    return open_images(RUN, setup, CIPHER, weights="0" * 64)


def said_of(source: Source, folder: Path) -> list[str]:
    basis = basis_of_source(source, config(folder), seed=0, sites=2, weights={})
    return list(said_of_data_set(source.items, source.classes, basis))


def as_a_file(folder: Path) -> None:
    shutil.copyfile(folder / "a/00.png", folder / "b/new.png")


def saved_anew(folder: Path) -> None:
    Image.open(folder / "a/00.png").save(folder / "b/new.png", compress_level=0, dpi=(7, 7))
    assert (folder / "a/00.png").read_bytes() != (folder / "b/new.png").read_bytes()


@pytest.mark.parametrize("views", [0, 1])
@pytest.mark.parametrize("copied", [as_a_file, saved_anew])
def test_a_site_is_told_of_one_picture_in_two_classes(
    folder: Path, copied: Callable[[Path], None], views: int, caplog: pytest.LogCaptureFixture
) -> None:
    copied(folder)
    with caplog.at_level("WARNING", "medveil"):
        images = opened(folder, views=views)
    assert [each.getMessage() for each in caplog.records if "another class" in each.getMessage()] == [
        f"anna: {SHOWN}; keep one of each, under its right label"
    ]
    assert images.store.alike["classes"] == 2
    caplog.clear()
    with caplog.at_level("WARNING", "medveil"):
        assert not opened(folder, views=views).store.built
    assert SHOWN in caplog.text


def test_nothing_is_said_where_nothing_is_twice(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a/black.png", "b/black.png"):
        Image.new("L", (16, 16)).save(folder / name, compress_level=len(name) % 7)
    (folder / "b" / "black.png").write_bytes((folder / "b" / "black.png").read_bytes() + b"\0")
    with caplog.at_level("WARNING", "medveil"):
        images = opened(folder)
    assert images.store.alike == {"classes": 0, "named": []}
    assert "very" not in caplog.text
    assert said_of(images.source, folder) == []


def test_a_picture_saved_anew_on_both_sides_of_the_split(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = opened(folder)
    train, test = images.store.part("train").ids[0], images.store.part("test").ids[0]
    Image.open(folder / train).save(folder / test, compress_level=0)
    shutil.rmtree(folder.parent / "state")
    with caplog.at_level("WARNING", "medveil"):
        images = opened(folder)
    assert images.basis.basis.copies == 0, "as files they differ"
    assert test in {skipped.path for skipped in images.skipped}
    assert "anna: left out 1 validation and test images of which the run trains on a copy" in caplog.text


def test_a_data_set_is_looked_at_as_a_whole(folder: Path) -> None:
    assert said_of(open_source(config(folder)), folder) == []
    as_a_file(folder)
    (told,) = said_of(open_source(config(folder)), folder)
    assert told.startswith(SHOWN)
    for n in range(1, 8):
        shutil.copyfile(folder / f"a/{2 * n:02d}.png", folder / f"b/\x1b{n}.png")
    (told,) = said_of(open_source(config(folder)), folder)
    assert told.startswith("16 images show")
    assert told.count(" of 'b'") == 3
    assert told.isprintable()


def test_files_that_no_disk_gives_are_no_picture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fl_client.data import contents  # noqa: PLC0415

    contents._seen.clear()
    monkeypatch.setattr(contents, "_read", lambda path: contents.UNREADABLE)
    assert said_of(open_source(config(folder)), folder) == []
    contents._seen.clear()


def test_an_npz_file_too(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((8, 16, 16)).astype(np.float32)
    images[3] = images[6]
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(8) % 2)
    source = open_source(DataConfig(source="npz", path=str(tmp_path / "x.npz")))
    (told,) = said_of(source, tmp_path)
    assert "'images/3' of '1' is 'images/6' of '0'" in told


def test_sites_of_one_data_set_do_not_say_again_what_is_said_of_it(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    as_a_file(folder)
    with caplog.at_level("WARNING", "medveil"):
        opened(folder, sites=2)
    assert "another class" not in caplog.text


def test_a_run_says_it_as_it_begins(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    as_a_file(folder)
    source = open_source(config(folder))
    basis = basis_of_source(source, config(folder), seed=0, sites=2, weights={})
    monkeypatch.setattr(standing, "standing", lambda plan: basis)
    monkeypatch.setattr(standing.dataclasses, "replace", lambda plan, **given: plan)
    plan: Any = SimpleNamespace(source=source, out=folder.parent, run=SimpleNamespace(run=RUN.run))
    with caplog.at_level("WARNING", "medveil"):
        standing.begins(plan)
    assert SHOWN in caplog.text


def test_the_data_card_says_how_many_and_no_names(folder: Path) -> None:
    told = {"window": None, "source": "images", "augment": "none", "flip": False, "min_side": 16, "group_by": None}
    facts: dict[str, Any] = {
        "site": "anna",
        "run_config": {"classes": ["a", "b"], "channels": 1, "image_size": 16, "name": "x"},
        "data": {**told, "counts": {"train": [20, 20]}, "skipped": 0, "two_classes": 20},
    }
    line = "- images whose picture also stands under another label: "
    assert f"{line}20\n" in data_card(facts)
    facts["data"]["two_classes"] = 0
    assert f"{line}fewer than " in data_card(facts)
    del facts["data"]["two_classes"]
    assert line not in data_card(facts)


def test_a_store_that_says_nothing_of_it_is_opened(folder: Path) -> None:
    images = opened(folder)
    lay_open(images.store, alike=None)
    again = opened(folder)
    assert not again.store.built
    assert again.store.alike["classes"] == 0


def test_many_of_one_picture_are_counted_once_each() -> None:
    alike, picture = Alike(), np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    for n in range(9):
        assert alike.note(Item(f"i{n}", n % 3), picture, trains=n > 0) == (n > 0)
    for n in range(4):
        assert not alike.note(Item(f"j{n}", 1), picture + 1, trains=False)
    described = alike.described(("x", "y", "z"))
    assert described == {"classes": 9, "named": [["i0", "x", "i1", "y"]]}
    assert os.sep not in str(described)
