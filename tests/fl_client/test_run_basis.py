"""What a run stands on at a site: whatever changes under it is refused by name, and what does not change is not."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_trees import put
from PIL import Image

from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.imaging import preprocess
from crypto.keys import SimulatedKey
from fl_client.data import contents
from fl_client.data.config import DataConfig
from fl_client.leaving import EVERYTHING, Leaving
from fl_client.site_images import SiteImages, open_images
from fl_client.site_setup import SiteSetup
from fl_client.workbench import pick_device
from medveil.basis import read_basis
from medveil.contract import RunConfig
from medveil.errors import BasisError

RUN = RunConfig(
    run="0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab", classes=["a", "b"], channels=1, image_size=16, cipher={"block": 4}
)
KEY = SimulatedKey(0, "anna")
CIPHER = make_cipher(CipherConfig(scheme="none", block=4), None, channels=1, height=16, width=16)
WEIGHTS = "0" * 64
NAMES = [f"i{n:02d}.png" for n in range(24)]
Rows = list[tuple[str, str, str]]


def rows() -> Rows:
    return [(name, "ab"[n % 2], f"p{n // 2}") for n, name in enumerate(NAMES)]


def write(folder: Path, table: Rows) -> None:
    (folder / "labels.csv").write_text("".join(f"{','.join(row)}\n" for row in [("path", "label", "patient"), *table]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "images", *NAMES)
    write(tmp_path / "images", rows())
    return tmp_path / "images"


def opened(folder: Path, *, run: RunConfig = RUN, weights: str = WEIGHTS, **data: Any) -> SiteImages:
    """A site's images, as a worker that has just started opens them for the run."""
    contents._seen.clear()
    given = {"group_by": "patient", "image_size": 16, "channels": 1, "classes": list(run.classes), **data}
    setup = SiteSetup(
        name="anna",
        index=0,
        sites=1,
        key=KEY,
        cipher_key=None,
        thief_key=KEY,
        data=DataConfig(source="images", path=str(folder), labels="labels.csv", **given),
        folder=folder.parent / "state",
        device=pick_device("cpu"),
        leaving=Leaving(EVERYTHING),
    )
    return open_images(run, setup, CIPHER, weights=weights)


def begun(folder: Path, **data: Any) -> SiteImages:
    """The same, after a first round."""
    images = opened(folder, **data)
    images.basis.hold()
    return images


def relabelled(folder: Path) -> None:
    flipped = {"a": "b", "b": "a"}
    write(folder, [(name, flipped[label] if n < 8 else label, who) for n, (name, label, who) in enumerate(rows())])


def regrouped(folder: Path) -> None:
    write(folder, [(name, label, "q" if n < 6 else who) for n, (name, label, who) in enumerate(rows())])


def replaced(folder: Path) -> None:
    """Other pixels in a file of the same size, its times put back, as an unpacked archive would have them."""
    path = folder / NAMES[3]
    before = path.stat()
    data = bytearray(path.read_bytes())
    drawn = np.random.default_rng(99).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(drawn).save(path, format="PNG")
    made = path.read_bytes()
    path.write_bytes((made + bytes(len(data)))[: len(data)] if len(made) <= len(data) else bytes(data[::-1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def added(folder: Path) -> None:
    put(folder, "z.png")
    write(folder, [*rows(), ("z.png", "a", "p99")])


def removed(folder: Path) -> None:
    write(folder, rows()[1:])


def swapped(folder: Path) -> None:
    one, two = folder / NAMES[0], folder / NAMES[1]
    one.rename(folder / "x")
    two.rename(one)
    (folder / "x").rename(two)


CHANGES: list[tuple[str, Callable[[Path], None], dict[str, Any], list[str]]] = [
    ("labels", relabelled, {}, ["the labels", "labels of 8 images"]),
    ("groups", regrouped, {}, ["the groups", "groups of 6 images"]),
    ("contents", replaced, {}, ["the images changed", "1 image with other contents"]),
    ("names", swapped, {}, ["the images changed", "2 images with other contents"]),
    ("added", added, {}, ["the images", "1 image came"]),
    ("removed", removed, {}, ["the images", "1 image went"]),
    ("test", lambda _: None, {"test": 0.4}, ["the settings", "data.test was 0.15, and is 0.4", "from training to"]),
    ("validation", lambda _: None, {"validation": 0.3}, ["data.validation was 0.15, and is 0.3"]),
    ("group_by", lambda _: None, {"group_by": "none"}, ["data.group_by", "the groups"]),
    ("limit", lambda _: None, {"limit": 20}, ["data.limit was null, and is 20", "images went"]),
    ("views", lambda _: None, {"views": 2, "augment": "light"}, ["data.augment", "data.views was 1, and is 2"]),
    ("window", lambda _: None, {"window": [100.0, 50.0]}, ["data.window was null"]),
    ("weights", lambda _: None, {"weights": "1" * 64}, ["the initial weights changed since the run began"]),
    ("classes", lambda _: None, {"run": replace(RUN, classes=["b", "a"])}, ["class order", "were a, b, and are b, a"]),
    ("seed", lambda _: None, {"run": replace(RUN, seed=1)}, ["seed was 0, and is 1", "the split"]),
]


@pytest.mark.parametrize(("change", "given", "words"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_a_later_start_over_something_else(
    folder: Path, change: Callable[[Path], None], given: dict[str, Any], words: list[str]
) -> None:
    store = begun(folder).store.folder
    before = (store / "header.json").read_bytes()
    change(folder)
    with pytest.raises(BasisError) as refused:
        opened(folder, **given)
    for word in (*words, "anna: ", "put back what it began with"):
        assert word in str(refused.value)
    assert refused.value.parts
    # What is put back finds the store as it was, so that the run goes on.
    assert (store / "header.json").read_bytes() == before


def test_another_preparation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(folder)
    monkeypatch.setattr(preprocess, "VERSION", preprocess.VERSION + 1)
    with pytest.raises(BasisError, match="preparation was 2, and is 3"):
        opened(folder)


def test_whatever_is_restarted_or_built_anew(folder: Path) -> None:
    begun(folder)
    shutil.rmtree(folder.parent / "state" / "stores")
    relabelled(folder)
    with pytest.raises(BasisError, match="labels of 8 images"):
        opened(folder)
    # Another run over the corrected labels leaves another description behind, and the first is refused all the same.
    begun(folder, run=replace(RUN, run="another"))
    with pytest.raises(BasisError, match="labels of 8 images"):
        opened(folder)
    (folder.parent / "state" / "contents.json").unlink()
    write(folder, rows())
    assert opened(folder).store.rebuilt


def test_what_may_change(folder: Path) -> None:
    images = begun(folder)
    write(folder, rows()[::-1])
    for name in NAMES:
        os.utime(folder / name)
    moved = folder.rename(folder.with_name("moved"))
    again = opened(moved)
    again.basis.hold()
    assert again.basis.basis.digest == images.basis.basis.digest
    assert len(again.store.part("test")) == len(images.store.part("test"))


def test_before_its_first_round_a_run_may_still_be_put_right(folder: Path) -> None:
    opened(folder)
    relabelled(folder)
    opened(folder).basis.hold()
    write(folder, rows())
    with pytest.raises(BasisError, match="labels of 8 images"):
        opened(folder)


def test_a_new_run_takes_new_contents_of_the_same_size_and_time(folder: Path) -> None:
    begun(folder)
    replaced(folder)
    found = opened(folder, run=replace(RUN, run="another"))
    assert "the contents of images changed" in str(found.store.rebuilt)


def test_images_read_anew_in_every_epoch_are_looked_at_in_every_round(folder: Path) -> None:
    images = begun(folder, views=0)
    images.basis.hold()
    replaced(folder)
    with pytest.raises(BasisError, match="1 image with other contents"):
        images.basis.hold()


def test_files_that_were_not_touched_are_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    whole = contents._read
    monkeypatch.setattr(contents, "_read", lambda path: read.append(path) or whole(path))
    monkeypatch.setattr(contents, "_SETTLED_NS", 0)
    time.sleep(0.01)
    begun(folder)
    assert len(read) == len(NAMES)
    opened(folder)
    assert len(read) == len(NAMES)
    replaced(folder)
    time.sleep(0.01)
    with pytest.raises(BasisError):
        opened(folder)
    assert read[len(NAMES) :] == [folder / NAMES[3]]


def test_a_copy_of_a_training_image_is_not_tested_on_and_that_is_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = opened(folder)
    train, test = images.store.part("train").ids[0], images.store.part("test").ids[0]
    with Image.open(folder / train) as picture:
        picture.save(folder / test, compress_level=0)
    with caplog.at_level("WARNING", "medveil"):
        images = opened(folder)
    assert test not in images.store.part("test").ids
    assert "left out 1 validation and test images of which the run trains on a copy" in caplog.text
    assert not images.copies_judged


def test_copies_in_a_store_that_an_older_medveil_built_are_told_of(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = opened(folder)
    train, test = images.store.part("train").ids[0], images.store.part("test").ids[0]
    shutil.copy(folder / train, folder / test)
    # It dealt them apart, and kept both.
    monkeypatch.setattr("fl_client.data.copies._alike", lambda source, folder: ())
    monkeypatch.setattr("fl_client.data.opened_store.EncryptedStore.without_copies", False)
    with caplog.at_level("WARNING", "medveil"):
        assert opened(folder).copies_judged
    assert "have the very contents of training images" in caplog.text


# -- runs of an older MedVeil ------------------------------------------------------------------------------------------


def as_older(folder: Path) -> None:
    """What a MedVeil without all this would have left of a run."""
    state = folder.parent / "state"
    shutil.rmtree(state / "basis")
    (state / "contents.json").unlink()
    description = json.loads((state / "site.json").read_text())
    del description["basis"]
    (state / "site.json").write_text(json.dumps(description))


def test_an_older_run_goes_on_where_what_it_wrote_agrees(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    begun(folder)
    as_older(folder)
    with caplog.at_level("WARNING", "medveil"):
        images = opened(folder)
    assert "an older MedVeil began this run" in caplog.text
    assert images.basis.older
    images.basis.hold()
    assert read_basis(folder.parent / "state" / "basis" / f"{RUN.run}.json").older
    regrouped(folder)
    with pytest.raises(BasisError, match="groups of 6 images"):
        opened(folder)


@pytest.mark.parametrize("change", [relabelled, added, removed])
def test_an_older_run_is_refused_where_it_does_not(folder: Path, change: Callable[[Path], None]) -> None:
    begun(folder)
    as_older(folder)
    change(folder)
    with pytest.raises(BasisError, match="changed since the run began"):
        opened(folder)


def test_an_older_run_of_which_nothing_is_left(folder: Path) -> None:
    begun(folder)
    as_older(folder)
    shutil.rmtree(folder.parent / "state" / "stores")
    with pytest.raises(BasisError, match="changed since the run began"):
        opened(folder)
    (folder.parent / "state" / "stems" / RUN.run).mkdir(parents=True)
    (folder.parent / "state" / "site.json").unlink()
    with pytest.raises(BasisError, match="is not known any more"):
        opened(folder)


def test_a_record_that_is_gone_leaves_its_digests(folder: Path) -> None:
    begun(folder)
    shutil.rmtree(folder.parent / "state" / "basis")
    (folder.parent / "state" / "stems" / RUN.run).mkdir(parents=True)
    relabelled(folder)
    with pytest.raises(BasisError, match=r"the labels( and the split)? changed"):
        opened(folder)
