"""A store lies sealed: a thief of the folder gets nothing, and what was changed, moved or rolled back is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from older_store import lay_open
from PIL import Image

from crypto.base import ImageCipher
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keys import Key, SiteKey
from crypto.sealed_rows import SealedRows
from fl_client.data.config import DataConfig
from fl_client.data.opened_store import EncryptedStore
from fl_client.data.partition import site_parts
from fl_client.data.sealing import seal_store
from fl_client.data.source import open_source
from fl_client.data.store import open_store, reopen_store
from fl_client.data.store_files import StoreSeal, read_head, read_header
from fl_client.data.stored import StoredPart
from medveil.errors import DataError, IntegrityError, KeyMaterialError, StorageError

SIZE = 16
OWN = SiteKey(bytes(range(32)), "st-anna")
LABELS = ("glioma-of-ward-7", "healthy-volunteer")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in LABELS:
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True)
        for i in range(12):
            image = rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
            Image.fromarray(image).save(folder / f"patient-doe-{i:02}.png")
    (tmp_path / "images" / LABELS[0] / "patient-doe-cut.png").write_bytes(b"\x89PNG\r\n")
    return tmp_path / "images"


def cipher(scheme: str = "block-pixel", key: Key | None = OWN) -> ImageCipher:
    config = CipherConfig(scheme=scheme, block=4)
    return make_cipher(config, None if scheme == "none" else key, channels=1, height=SIZE, width=SIZE)


def opened(
    tree: Path, *, scheme: str = "block-pixel", key: Key = OWN, state: str = "state", **how: Any
) -> EncryptedStore:
    config = DataConfig(source="images", path=str(tree), image_size=SIZE, channels=1, memory=how.pop("memory", 0))
    source = open_source(config)
    parts = site_parts(source, config, sites=1, index=0, seed=0)
    return open_store(source, parts, cipher(scheme), config, key=key, folder=tree.parent / state, seed=0, **how)


def everything(store: EncryptedStore, name: str = "train") -> np.ndarray:
    return np.asarray(store.part(name).batch(np.arange(len(store.part(name)))))


# -- the thief ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["none", "block-pixel", "aes-ctr"])
def test_a_stolen_folder_holds_no_image_hidden_or_plain_and_no_name_or_label(tree: Path, scheme: str) -> None:
    store = opened(tree, scheme=scheme)
    files = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    everywhere = b"".join(files.values())
    rows = [row.tobytes() for name in store.parts for row in everything(store, name)]
    assert len(rows) == 24
    assert not [row for row in rows if row[:16] in everywhere]
    for word in (b"doe", b"ward", b"volunteer", b"glioma", b"cut.png", b"split", b"classes"):
        assert word not in everywhere
    # Sealed bytes are as random ones: of 256 values, each about as often as any other.
    counts = np.bincount(np.frombuffer(files["train.sealed"], np.uint8), minlength=256)
    expected = counts.sum() / 256
    assert ((counts - expected) ** 2 / expected).sum() < 400
    told = json.loads(files["header.json"])
    assert set(told) == {"format", "version", "key", "preparation", "images", "sealed", "identity"}
    assert (told["version"], told["images"], told["sealed"]) == (2, 24, OWN.fingerprint)
    size = store.part("train").images.shape  # type: ignore[attr-defined]
    assert len(files["train.sealed"]) == size[0] * (SIZE * SIZE + 16)
    # The owner reads what was hidden, and the same as where nothing is sealed.
    lay_open(store)
    laid = opened(tree, scheme=scheme)
    assert not laid.built
    assert not laid.sealed
    np.testing.assert_array_equal(everything(laid), everything(store))


def test_two_stores_of_the_same_images_have_nothing_in_common(tree: Path) -> None:
    one, other = opened(tree), opened(tree, state="other")
    np.testing.assert_array_equal(everything(one), everything(other))
    first, second = ((each.folder / "train.sealed").read_bytes() for each in (one, other))
    assert (np.frombuffer(first, np.uint8) == np.frombuffer(second, np.uint8)).mean() < 0.02


# -- keys --------------------------------------------------------------------------------------------------------------


def test_another_key_of_the_site_builds_it_anew_and_says_so(tree: Path) -> None:
    store = opened(tree, scheme="none")
    other = SiteKey.generate("st-anna")
    config = DataConfig(source="images", path=str(tree), image_size=SIZE)
    with pytest.raises(KeyMaterialError, match=f"sealed under the key {OWN.fingerprint}, and this is") as told:
        reopen_store(config, cipher("none"), key=other, folder=tree.parent / "state")
    assert "remove the store: a run builds it anew" in str(told.value)
    again = opened(tree, scheme="none", key=other)
    assert again.rebuilt == f"the key that seals it changed (from {OWN.fingerprint} to {other.fingerprint})"
    np.testing.assert_array_equal(everything(again), everything(store))


def test_another_key_and_no_source_is_an_error_that_leaves_the_store(tree: Path) -> None:
    store = opened(tree, scheme="none")
    config = DataConfig(source="images", path=str(tree), image_size=SIZE, channels=1)
    source = open_source(config)
    parts = site_parts(source, config, sites=1, index=0, seed=0)
    for path in tree.rglob("*.png"):
        path.write_bytes(b"")
    where: dict[str, Any] = {"folder": tree.parent / "state", "seed": 0}
    with pytest.raises(KeyMaterialError, match=r"sealed under the key .*, and it cannot be rebuilt: .*none of"):
        open_store(source, parts, cipher("none"), config, key=SiteKey.generate("x"), **where)
    with pytest.raises(DataError, match="none of"):
        open_store(source, parts, cipher("block-pixel"), config, key=OWN, **{**where, "folder": tree.parent / "new"})
    assert read_head(store.folder).sealed == OWN.fingerprint


def test_a_folder_that_was_moved_is_the_same_store(tree: Path) -> None:
    wanted = everything(opened(tree))
    shutil.move(tree.parent / "state", tree.parent / "moved")
    store = opened(tree, state="moved")
    assert not store.built
    np.testing.assert_array_equal(everything(store), wanted)


# -- the forger --------------------------------------------------------------------------------------------------------


def changed_head(folder: Path, **fields: Any) -> None:
    path = folder / "header.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def swapped(folder: Path) -> None:
    path, row = folder / "train.sealed", SIZE * SIZE + 16
    data = path.read_bytes()
    path.write_bytes(data[row : 2 * row] + data[:row] + data[2 * row :])


def contents_turned(folder: Path) -> None:
    path = folder / "contents.sealed"
    data = bytearray(path.read_bytes())
    data[40] ^= 4
    path.write_bytes(data)


FORGED: dict[str, Callable[[Path], Any]] = {
    "another count": lambda folder: changed_head(folder, images=3),
    "another preparation": lambda folder: changed_head(folder, preparation=1),
    "another hiding key": lambda folder: changed_head(folder, key="0" * 32),
    "another identity": lambda folder: changed_head(folder, identity="0" * 32),
    "contents turned": contents_turned,
    "contents cut": lambda folder: (folder / "contents.sealed").write_bytes(b"MVSEAL\x01"),
    "contents gone": lambda folder: (folder / "contents.sealed").unlink(),
    "rows cut": lambda folder: (folder / "train.sealed").write_bytes((folder / "train.sealed").read_bytes()[:-272]),
    "a part for another": lambda folder: shutil.copy(folder / "test.sealed", folder / "validation.sealed"),
    "rows swapped": swapped,
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_what_was_forged_is_found_where_a_run_looks_and_built_anew(tree: Path, forge: Callable[[Path], Any]) -> None:
    store = opened(tree)
    wanted = everything(store)
    forge(store.folder)
    again = opened(tree, verify=True)
    assert again.rebuilt is not None
    assert again.rebuilt.startswith("it was damaged (")
    np.testing.assert_array_equal(everything(again), wanted)


def test_rows_of_an_earlier_store_are_refused_when_they_are_read(tree: Path) -> None:
    """Rolled back: the same images under the same key, from before it was built anew."""
    earlier = opened(tree)
    kept = (earlier.folder / "train.sealed").read_bytes()
    shutil.rmtree(earlier.folder)
    store = opened(tree)
    (store.folder / "train.sealed").write_bytes(kept)
    rolled = opened(tree)
    assert not rolled.built
    with pytest.raises(
        IntegrityError, match=r"train\.sealed: row \d+ does not open: wrong key or changed file; remove it"
    ):
        everything(rolled)
    assert everything(rolled, "test").size


# -- in memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("memory", "again"), [(512, 0), (0, 24)], ids=["once into memory", "a batch at a time"])
def test_images_are_opened_once_or_each_time(
    tree: Path, memory: int, again: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    real = SealedRows.open_into

    def counted(self: SealedRows, numbers: Any, into: Any) -> None:
        rows.extend(numbers)
        real(self, numbers, into)

    monkeypatch.setattr(SealedRows, "open_into", counted)
    store = opened(tree, memory=memory)
    first = [everything(store, name) for name in store.parts]
    assert len(rows) == 24
    second = [everything(store, name) for name in store.parts]
    assert len(rows) == 24 + again
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_looking_at_all_of_a_store_reads_what_stays_in_memory(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = everything(opened(tree))
    store = opened(tree, memory=512, verify=True)
    monkeypatch.setattr(SealedRows, "open_into", None)
    np.testing.assert_array_equal(everything(store), wanted)


def test_as_many_stay_as_fit(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fl_client.data.store.MIB", 5 * SIZE * SIZE)
    store = opened(tree, memory=1)
    kept = {name: part.images.kept_bytes for name, part in store.parts.items() if isinstance(part, StoredPart)}
    assert kept == {"train": 5 * SIZE * SIZE, "validation": 0, "test": 0}
    np.testing.assert_array_equal(everything(store), everything(store))


def test_threads_read_side_by_side(tree: Path) -> None:
    store = opened(tree, memory=512)
    wanted = everything(opened(tree))
    orders = [np.random.default_rng(seed).permutation(len(wanted)) for seed in range(16)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda order: store.part("train").batch(order), orders))
    for order, batch in zip(orders, found, strict=True):
        np.testing.assert_array_equal(batch, wanted[order])


# -- older stores ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["block-pixel", "aes-ctr", "orthogonal"])
def test_an_older_store_is_sealed_without_its_source(tree: Path, scheme: str) -> None:
    store = opened(tree, scheme=scheme, site="a")
    wanted, header = everything(store), store.header
    place = lay_open(store)
    shutil.rmtree(tree)
    seal_store(place, StoreSeal.of(OWN))
    config = DataConfig(source="images", path=str(tree), image_size=SIZE)
    again = reopen_store(config, cipher(scheme), key=OWN, folder=place.parents[1], site="a")
    assert again.sealed
    again.verify()
    np.testing.assert_array_equal(everything(again), wanted)
    assert not list(place.glob("*.npy"))
    now = read_header(place, StoreSeal.of(OWN))
    assert {**now, "identity": ""} == {**header, "identity": ""}


def test_an_older_store_that_is_damaged_or_in_use_is_left_as_it_is(tree: Path) -> None:
    place = lay_open(opened(tree))
    data = bytearray((place / "train.npy").read_bytes())
    data[-1] ^= 1
    (place / "train.npy").write_bytes(data)
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    with pytest.raises(IntegrityError, match="contents are not what the checksum says"):
        seal_store(place, StoreSeal.of(OWN))
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    assert [path for path in place.parent.iterdir() if path.suffix == ".part"] == []
    with pytest.raises(IntegrityError, match="lies sealed"):
        seal_store(opened(tree, scheme="none").folder, StoreSeal.of(OWN))


def test_an_older_store_that_no_longer_agrees_is_built_anew_and_sealed(tree: Path) -> None:
    lay_open(opened(tree), source="0" * 64)
    again = opened(tree)
    assert "the source changed" in str(again.rebuilt)
    assert again.sealed


def test_a_store_that_lies_open_is_not_taken_where_a_site_seals(tree: Path) -> None:
    store = opened(tree)
    wanted, own = everything(store), tree.parent / "state"
    lay_open(store)
    (own / "predictions.npz.sealed").write_bytes(b"")
    again = opened(tree)
    assert again.rebuilt == "it lies open, and what this site keeps is sealed"
    assert again.sealed
    np.testing.assert_array_equal(everything(again), wanted)
    (own / "predictions.npz.sealed").unlink()
    opened(tree, scheme="none")
    place = lay_open(again)
    config = DataConfig(source="images", path=str(tree), image_size=SIZE, channels=1)
    cured = "this site's own, of an older MedVeil: medveil-site seal; else remove it"
    with pytest.raises(IntegrityError, match=f"lies open, and what this site keeps is sealed; .*{cured}"):
        reopen_store(config, cipher("block-pixel"), key=OWN, folder=own)
    source = open_source(config)
    parts = site_parts(source, config, sites=1, index=0, seed=0)
    for path in tree.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(IntegrityError, match=f"cannot be rebuilt: .*none of.*{cured}"):
        open_store(source, parts, cipher("block-pixel"), config, key=OWN, folder=own, seed=0)
    seal_store(place, StoreSeal.of(OWN))
    assert everything(reopen_store(config, cipher("block-pixel"), key=OWN, folder=own)).shape == wanted.shape


def test_a_disk_that_gives_nothing_is_our_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tree)

    def fails(*_: Any) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("crypto.sealed_rows.os.pread", fails)
    with pytest.raises(StorageError, match="cannot read the file: input/output error"):
        everything(store)
