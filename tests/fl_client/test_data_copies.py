"""Copies of one picture: a site never tests on an image of which the run trains on a copy, whatever it is called."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from labelled_trees import images, labelled, put
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keys import SimulatedKey
from fl_client.data.base import Source
from fl_client.data.config import DataConfig, PartitionConfig
from fl_client.data.copies import copies_in
from fl_client.data.partition import Parts, site_parts
from fl_client.data.source import open_source
from fl_client.data.store import open_store
from fl_client.data.store_build import COPY
from medveil.errors import DataError

CIPHER = make_cipher(CipherConfig(scheme="none", block=4), None, channels=1, height=16, width=16)
NAMES = [f"i{n:02d}.png" for n in range(24)]


def config(source: Source, **settings: object) -> DataConfig:
    return DataConfig(source="images", path=str(source.path), **settings)  # type: ignore[arg-type]


def parts(source: Source, *, sites: int = 1, seed: int = 0, **settings: object) -> list[Parts]:
    made = config(source, **settings)
    return [site_parts(source, made, sites=sites, index=index, seed=seed) for index in range(sites)]


def pictures(source: Source, indices: np.ndarray) -> set[bytes]:
    return {source.read(int(i)).tobytes() for i in indices}


def torn(source: Source, dealt: list[Parts]) -> set[bytes]:
    """Pictures that a run over these parts trains on and judges by."""
    trained = set().union(*(pictures(source, each.train) for each in dealt))
    judged = (pictures(source, part) for each in dealt for part in (each.validation, each.test))
    return trained & set().union(*judged)


def copied(root: Path) -> Path:
    """Twenty-four images of two classes, every other one there three times, once under the other class."""
    put(root, *(f"{'ab'[n % 2]}/{name}" for n, name in enumerate(NAMES)))
    for n, name in enumerate(NAMES):
        if n % 4 < 2:
            shutil.copy(root / "ab"[n % 2] / name, root / "ab"[n % 2] / f"again-{name}")
            shutil.copy(root / "ab"[n % 2] / name, root / "ba"[n % 2] / f"other-{name}")
    return root


@pytest.mark.parametrize(
    ("sites", "partition"),
    [
        (1, {}),
        (3, {"kind": "iid"}),
        (3, {"kind": "dirichlet", "alpha": 1.0}),
        (2, {"kind": "iid", "test": "common"}),
    ],
)
def test_copies_go_together(tmp_path: Path, sites: int, partition: dict[str, object]) -> None:
    source = images(copied(tmp_path))
    for seed in range(5):
        dealt = parts(source, sites=sites, seed=seed, partition=PartitionConfig(**partition))  # type: ignore[arg-type]
        assert not torn(source, dealt)
        assert all(len(each.test) and not each.copies for each in dealt)


def test_patients_who_share_a_picture_go_together(tmp_path: Path) -> None:
    put(tmp_path, *NAMES)
    shutil.copy(tmp_path / NAMES[0], tmp_path / NAMES[23])
    rows = [(name, "ab"[n % 2], f"p{n // 3}") for n, name in enumerate(NAMES)]
    source = labelled(tmp_path, [("path", "label", "patient"), *rows], group_by="patient")
    for seed in range(8):
        (dealt,) = parts(source, seed=seed, group_by="patient", labels="labels.csv")
        part_of = {int(i): name for name in ("train", "validation", "test") for i in getattr(dealt, name)}
        assert len({part_of[i] for i in (0, 1, 2, 21, 22, 23)}) == 1


def test_without_copies_all_is_dealt_as_it_always_was(tmp_path: Path) -> None:
    source = images(put(tmp_path, *(f"{'ab'[n % 2]}/{name}" for n, name in enumerate(NAMES))))
    assert copies_in(source).items is source.items
    assert parts(source)[0].test.tolist() == [0, 6, 12, 19]


def test_a_copy_of_an_official_part_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, *(f"{part}/{name}/{i}.png" for part in ("train", "test") for name in "ab" for i in range(4)))
    shutil.copy(tmp_path / "train" / "a" / "1.png", tmp_path / "test" / "a" / "1.png")
    shutil.copy(tmp_path / "train" / "a" / "2.png", tmp_path / "test" / "b" / "9.png")
    source = images(tmp_path)
    (dealt,) = parts(source, validation=0.0)
    assert (len(dealt.train), len(dealt.test)) == (8, 7)
    assert {source.items[i].id for i in dealt.copies} == {"test/a/1.png", "test/b/9.png"}
    assert not torn(source, [dealt])
    several = parts(source, sites=2, validation=0.0, partition=PartitionConfig(kind="iid"))
    assert not torn(source, several)
    assert sum(len(each.copies) for each in several) == 2


def test_a_copy_at_another_hospital_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, *NAMES)
    for n in (0, 2, 4, 6, 8, 10):
        shutil.copy(tmp_path / NAMES[n], tmp_path / NAMES[n + 1])
    rows = [(name, "ab"[n // 2 % 2], ("anna", "mercy")[n % 2]) for n, name in enumerate(NAMES)]
    source = labelled(tmp_path, [("path", "label", "site"), *rows])
    for seed in range(5):
        dealt = parts(source, sites=2, seed=seed, labels="labels.csv", partition=PartitionConfig(kind="site"))
        assert not torn(source, dealt)
        assert any(each.copies for each in dealt), seed


@pytest.mark.parametrize("views", [0, 1, 2])
def test_the_same_picture_in_another_file_is_left_out_of_the_store(tmp_path: Path, views: int) -> None:
    """Saved again, so that no byte of the file tells."""
    drawn = {"views": views, "flip": views != 1}
    source = images(put(tmp_path, *(f"{'ab'[n % 2]}/{name}" for n, name in enumerate(NAMES))), **drawn)
    (dealt,) = parts(source)
    train, test, validation = (source.items[int(part[0])].id for part in (dealt.train, dealt.test, dealt.validation))
    pixels = Image.open(tmp_path / train)
    for name in (test, validation):
        comment = PngInfo()
        comment.add_text("Comment", f"exported as {name}")
        pixels.save(tmp_path / name, pnginfo=comment)
    source = images(tmp_path, **drawn)
    assert not copies_in(source).alike
    store = open_store(
        source, dealt, CIPHER, config(source, **drawn), key=SimulatedKey(0, "a"), folder=tmp_path / "state", seed=0
    )
    assert [(each.path, each.reason) for each in store.skipped] == [(validation, COPY), (test, COPY)]
    assert test not in store.part("test").ids
    assert train in store.part("train").ids
    assert store.without_copies


def test_where_copies_are_all_there_is_the_refusal_says_so(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png")
    for n in range(2, 9):
        (tmp_path / "b").mkdir(exist_ok=True)
        shutil.copy(tmp_path / "a" / "1.png", tmp_path / "ab"[n % 2] / f"{n}.png")
    with pytest.raises(DataError, match="8 images are copies of 1 pictures, and stay together; else"):
        parts(images(tmp_path))


def test_empty_slices_are_no_copies(tmp_path: Path) -> None:
    """Each patient has one, and the patients stay patients; a class of them keeps its validation and test images."""
    rng = np.random.default_rng(0)
    every = rng.integers(0, 256, (60, 16, 16), dtype=np.uint8)
    every[::3] = 7
    np.savez(tmp_path / "a.npz", images=every, labels=np.arange(60) % 2, patient=np.arange(60) // 3)
    made = DataConfig(source="npz", path=str(tmp_path / "a.npz"), group_by="patient")
    source = open_source(made)
    assert copies_in(source).alike == ()
    assert len({item.group for item in copies_in(source).items}) == 20
    dealt = site_parts(source, made, sites=1, index=0, seed=0)
    store = open_store(source, dealt, CIPHER, made, key=SimulatedKey(0, "a"), folder=tmp_path / "state", seed=0)
    assert store.skipped == ()
    assert len(store.part("test").ids) == len(dealt.test) > 0


def test_pages_of_a_copied_file_are_copies_page_by_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "t" / "x").mkdir(parents=True)
    (tmp_path / "t" / "y").mkdir()
    for n in range(6):
        pages = [Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)) for _ in range(2)]
        pages[0].save(tmp_path / "t" / "xy"[n % 2] / f"{n}.tif", save_all=True, append_images=pages[1:])
    shutil.copy(tmp_path / "t/x/0.tif", tmp_path / "t/x/copy.tif")
    source = open_source(DataConfig(source="images", path=str(tmp_path / "t"), min_side=1, image_size=16, channels=1))
    found = {tuple(sorted(source.items[i].id for i in each)) for each in copies_in(source).alike}
    assert found == {(f"x/0.tif#{page}", f"x/copy.tif#{page}") for page in (0, 1)}


def test_many_copies_of_one_picture_take_no_time(tmp_path: Path) -> None:
    many = np.zeros((6000, 4, 4), dtype=np.uint8)
    many[:, 3, 3] = 9
    many[3000:, 0, 0], many[3000:, 0, 1] = np.divmod(np.arange(1, 3001), 250)
    np.savez(tmp_path / "many.npz", images=many, labels=np.arange(6000) % 2)
    made = DataConfig(source="npz", path=str(tmp_path / "many.npz"), min_side=1, image_size=4, channels=1)
    source = open_source(made)
    (alike,) = copies_in(source).alike
    assert alike == tuple(range(3000))
    dealt = site_parts(source, made, sites=1, index=0, seed=0)
    assert 0 in dealt.train
    assert set(range(3000)) <= set(dealt.train.tolist())
