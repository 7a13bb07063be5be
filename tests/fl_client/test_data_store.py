from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from older_store import lay_open, write_open_header
from PIL import Image

from crypto import sealed, sealed_rows
from crypto.base import ImageCipher
from crypto.cipher import SCHEMES, make_cipher
from crypto.config import CipherConfig
from crypto.keys import Key, SimulatedKey, SiteKey
from fl_client.data import store_build, store_files
from fl_client.data.config import DataConfig
from fl_client.data.opened_store import EncryptedStore
from fl_client.data.partition import Parts, site_parts
from fl_client.data.source import Source, open_source, read_many
from fl_client.data.store import open_store, reopen_store, store_place
from fl_client.data.store_files import StoreSeal, read_head, read_header
from fl_client.data.stored import OnTheFlyPart, StoredPart
from medveil.errors import ConfigError, DataError, FormatError, IntegrityError, KeyMaterialError, StorageError

SIZE = 24
OWN = SiteKey(bytes(range(32)), "st-anna")
SEAL = StoreSeal.of(OWN)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in "ab":
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True)
        for i in range(15):
            Image.fromarray(rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)).save(folder / f"{i:02}.png")
    return tmp_path / "images"


def settings(tree: Path, **fields: Any) -> DataConfig:
    return DataConfig(source="images", path=str(tree), image_size=SIZE, **fields)


def cipher_for(
    key: Key | None = None, scheme: str = "block-pixel", block: int = 8, negate: bool = False
) -> ImageCipher:
    config = CipherConfig(scheme=scheme, block=block, negate=negate)
    return make_cipher(config, key or SimulatedKey(0, "a"), channels=1, height=SIZE, width=SIZE)


def opened(config: DataConfig, cipher: ImageCipher | None = None, **extra: Any) -> EncryptedStore:
    source = open_source(config)
    parts = extra.pop("parts", None) or site_parts(source, config, sites=1, index=0, seed=0)
    folder = extra.pop("folder", Path(config.path or "").parent / "state")
    return open_store(source, parts, cipher or cipher_for(), config, folder=folder, **{"seed": 0, "key": OWN, **extra})


def nonces_of(store: EncryptedStore) -> np.ndarray:
    """All nonces of a store, (n, 16)."""
    parts = [part for part in store.parts.values() if isinstance(part, StoredPart)]
    return np.concatenate([p.nonces.view(v) for p in parts if p.nonces for v in range(p.nonces.shape[1])])


def leftovers(tree: Path) -> list[str]:
    return [path.name for path in (tree.parent / "state" / "stores").iterdir() if path.suffix in {".part", ".old"}]


# -- what is in it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("key", [SimulatedKey(0, "a"), SiteKey.generate("b")])
def test_every_image_decrypts_to_what_the_source_reads(tree: Path, scheme: str, key: Key) -> None:
    config, cipher = settings(tree), cipher_for(key, scheme)
    source, store = open_source(config), opened(config, cipher)
    assert store.built
    assert store.rebuilt is None
    seen = []
    for name in ("train", "validation", "test"):
        part = store.part(name)
        assert isinstance(part, StoredPart)
        assert part.images.shape == (len(part), 1, 1, SIZE, SIZE)
        assert part.images.dtype == (np.uint16 if scheme == "orthogonal" else np.uint8)
        assert part.reading == cipher.reading
        assert (part.nonces is not None) == SCHEMES[scheme].per_image
        nonces = None if part.nonces is None else part.nonces.view(0)
        np.testing.assert_array_equal(cipher.decrypt(part.images.view(0), nonces), read_many(source, part.indices))
        assert [source.items[i].label for i in part.indices] == part.labels.tolist()
        assert tuple(source.items[i].id for i in part.indices) == part.ids
        np.testing.assert_array_equal(part.batch([1, 0], epoch=7), part.images.view(0)[[1, 0]])
        seen += part.indices.tolist()
    assert sorted(seen) == list(range(30))
    store.verify()


def test_reopening_decodes_nothing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(settings(tree))
    monkeypatch.setattr(Source, "read", None)
    again = opened(settings(tree, channels=1))
    assert not again.built
    assert again.rebuilt is None
    np.testing.assert_array_equal(again.part("train").batch([0]), first.part("train").batch([0]))


def test_no_plaintext_and_no_readable_image_reaches_the_disk(tree: Path) -> None:
    config = settings(tree)
    source, store = open_source(config), opened(config, cipher_for(scheme="aes-ctr"))
    written = b"".join(path.read_bytes() for path in store.folder.parent.rglob("*") if path.is_file())
    for image in read_many(source, range(30)):
        assert image.tobytes()[:64] not in written
    assert store.folder.stat().st_mode & 0o077 == 0
    assert "sim-" not in cipher_for(SiteKey.generate("x")).fingerprint


def test_aes_nonces_are_never_used_twice(tree: Path) -> None:
    for key in (SimulatedKey(0, "a"), SiteKey.generate("a")):
        store = opened(settings(tree, views=3, augment="light"), cipher_for(key, "aes-ctr"))
        nonces = nonces_of(store)
        assert len(np.unique(nonces, axis=0)) == len(nonces)


def test_simulated_stores_repeat_and_real_nonces_do_not(tree: Path) -> None:
    def nonces(key: Key, name: str) -> np.ndarray:
        store = opened(settings(tree), cipher_for(key, "aes-ctr"), folder=tree.parent / name)
        return nonces_of(store)

    np.testing.assert_array_equal(nonces(SimulatedKey(3, "a"), "x"), nonces(SimulatedKey(3, "a"), "y"))
    real = SiteKey.generate("a")
    assert (nonces(real, "u") != nonces(real, "v")).any()


# -- views -----------------------------------------------------------------------------------------------------------


def test_views_are_augmented_before_encryption_and_the_first_is_the_image(tree: Path) -> None:
    config, cipher = settings(tree, views=3, augment="standard"), cipher_for()
    source, store = open_source(config), opened(config, cipher)
    train = store.part("train")
    assert isinstance(train, StoredPart)
    plain = [cipher.decrypt(train.images.view(view)) for view in range(3)]
    np.testing.assert_array_equal(plain[0], read_many(source, train.indices))
    assert all((plain[a] != plain[b]).any(axis=(1, 2, 3)).all() for a, b in ((0, 1), (0, 2), (1, 2)))
    for epoch in range(6):
        np.testing.assert_array_equal(train.batch([2, 5], epoch), train.images.view(epoch % 3)[[2, 5]])
    validation = store.part("validation")
    assert isinstance(validation, StoredPart)
    assert validation.images.shape[1] == 1


def test_augmentation_depends_on_seed_and_image_not_on_order(tree: Path) -> None:
    config = settings(tree, views=2, augment="light")
    source = open_source(config)
    everything = np.arange(30)
    some = Parts(everything[:10], everything[10:15], everything[15:])
    other = Parts(everything[5:10], everything[10:15], everything[15:])
    first = opened(config, parts=some).part("train").batch(np.arange(5, 10), 1)
    again = opened(config, parts=other, folder=tree.parent / "other").part("train").batch(np.arange(5), 1)
    np.testing.assert_array_equal(first, again)
    reseeded = opened(config, parts=other, folder=tree.parent / "other", seed=1)
    assert reseeded.rebuilt is not None
    assert "seed=0" in reseeded.rebuilt
    assert (reseeded.part("train").batch(np.arange(5), 1) != again).any()
    assert len(source) == 30


def test_on_the_fly_views_differ_by_epoch_and_repeat(tree: Path) -> None:
    config, cipher = settings(tree, views=0, augment="light"), cipher_for()
    source, store = open_source(config), opened(config, cipher)
    train = store.part("train")
    assert isinstance(train, OnTheFlyPart)
    assert not (store.folder / "train.sealed").exists()
    one, two = train.batch([3, 0], 0), train.batch([3, 0], 1)
    assert one.shape == (2, 1, SIZE, SIZE)
    assert (one != two).any()
    np.testing.assert_array_equal(one, opened(config, cipher).part("train").batch([3, 0], 0))
    plain = settings(tree, views=0)
    batch = opened(plain, cipher).part("train").batch([3, 0], 5)
    np.testing.assert_array_equal(cipher.decrypt(batch), read_many(source, train.indices[[3, 0]]))


@pytest.mark.parametrize(("memory", "again"), [(512, 0), (1, 7), (0, 30)], ids=["all kept", "as many as fit", "none"])
def test_what_is_kept_of_views_made_on_the_fly_is_decoded_once(
    tree: Path, memory: int, again: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One MiB is cut down to what 23 images take: the other 7 are read anew in each epoch.
    monkeypatch.setattr("fl_client.data.store.MIB", 23 * SIZE * SIZE if memory == 1 else 2**20)
    config = settings(tree, views=0, augment="light", memory=memory)
    source = open_source(config)
    read = Counter[int]()

    def counted(index: int, plainly: Any = source.read) -> Any:
        read[index] += 1
        return plainly(index)

    everything = np.arange(30)
    parts = Parts(everything, everything[:0], everything[:0])
    store = open_store(source, parts, cipher_for(), config, key=OWN, folder=tree.parent / "state", seed=0)
    monkeypatch.setattr(source, "read", counted)
    part = store.part("train")
    first = part.batch(everything, 0)
    assert set(read.values()) == {1}
    assert (part.batch(everything, 1) != first).any()
    np.testing.assert_array_equal(part.batch(everything, 0), first)
    assert read.total() == 30 + 2 * again


def test_on_the_fly_aes_repeats_in_simulations_and_never_otherwise(tree: Path) -> None:
    config = settings(tree, views=0)
    for key, same in ((SimulatedKey(0, "a"), True), (SiteKey.generate("a"), False)):
        part = opened(config, cipher_for(key, "aes-ctr")).part("train")
        batches = [part.batch([0, 1], 0), part.batch([0, 1], 0), part.batch([0, 1], 1), part.batch([1, 0], 0)]
        assert np.array_equal(batches[0], batches[1]) == same
        assert np.array_equal(batches[0], batches[3][::-1]) == same
        assert not np.array_equal(batches[0], batches[2])


# -- rebuilding ------------------------------------------------------------------------------------------------------


def test_a_turned_bit_is_found_where_it_is_looked_for(tree: Path) -> None:
    config = settings(tree)
    first = opened(config)
    file = first.folder / "train.sealed"
    data = bytearray(file.read_bytes())
    wanted = first.part("train").batch(np.arange(5))
    data[-1] ^= 1
    file.write_bytes(data)
    assert not opened(config).built, "opening reads no image"
    mended = opened(config, verify=True)
    assert mended.rebuilt is not None
    assert "does not open: wrong key or changed file" in mended.rebuilt
    np.testing.assert_array_equal(mended.part("train").batch(np.arange(5)), wanted)
    assert not opened(config, verify=True).built


def test_a_store_of_another_preparation_is_rebuilt_saying_so(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(tree)
    monkeypatch.setattr("crypto.imaging.preprocess.VERSION", 1)
    opened(config)
    monkeypatch.undo()
    again = opened(config)
    assert again.rebuilt == "images are prepared in another way by this MedVeil (from way 1 to way 2)"
    assert not opened(config).built


def test_rebuilt_saying_why(tree: Path) -> None:
    config = settings(tree)
    opened(config)
    new_key = opened(config, cipher_for(SimulatedKey(1, "a")))
    assert new_key.rebuilt is not None
    assert new_key.rebuilt.startswith("the key changed (from sim-")
    assert new_key.built
    block = opened(config, cipher_for(SimulatedKey(1, "a"), block=4))
    assert block.rebuilt is not None
    assert "block=8" in block.rebuilt
    assert "the cipher changed" in block.rebuilt
    negate = opened(config, cipher_for(SimulatedKey(1, "a"), block=4, negate=True))
    assert "the cipher changed" in str(negate.rebuilt)
    os.utime(tree / "a" / "00.png", (5, 5))
    assert "the source changed" in str(
        opened(config, cipher_for(block=4, negate=True, key=SimulatedKey(1, "a"))).rebuilt
    )
    last = cipher_for(block=4, negate=True, key=SimulatedKey(1, "a"))
    assert "split changed" in str(opened(settings(tree, validation=0.3), last).rebuilt)
    assert opened(settings(tree, validation=0.3), last).rebuilt is None


def test_another_scheme_or_size_has_a_store_of_its_own(tree: Path) -> None:
    config = settings(tree)
    opened(config)
    assert opened(config, cipher_for(scheme="none")).rebuilt is None
    assert not opened(config).built
    assert not opened(config, site="").built
    assert opened(config, site="north").built


def test_damage_is_noticed_and_repaired(tree: Path) -> None:
    config = settings(tree)
    store = opened(config)
    images, header = store.folder / "train.sealed", store.folder / "header.json"
    images.write_bytes(images.read_bytes()[:-10])
    assert "damaged" in str(opened(config).rebuilt)
    images.unlink()
    assert "damaged" in str(opened(config).rebuilt)
    header.write_text(header.read_text().replace('"images": ', '"images": 1', 1))
    assert "damaged" in str(opened(config).rebuilt)
    header.write_text(header.read_text()[:100])
    assert "damaged" in str(opened(config).rebuilt)
    header.unlink()
    assert "damaged" in str(opened(config).rebuilt)
    assert opened(config).rebuilt is None


def test_verify_finds_a_changed_byte_that_opening_does_not_look_for(tree: Path) -> None:
    config = settings(tree)
    store = opened(config, cipher_for(scheme="aes-ctr"))
    for name in ("train.sealed", "test-nonces.sealed"):
        path = store.folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        again = opened(config, cipher_for(scheme="aes-ctr"))
        assert not again.built
        with pytest.raises(IntegrityError, match=name):
            again.verify()
        path.write_bytes(whole)
    opened(config, cipher_for(scheme="aes-ctr")).verify()


def test_all_of_a_store_is_its_owners_alone(tree: Path) -> None:
    before = os.umask(0)
    try:
        folder = opened(settings(tree), cipher_for(scheme="aes-ctr")).folder
    finally:
        os.umask(before)
    modes = {each.name: each.stat().st_mode & 0o777 for each in folder.iterdir()}
    assert len(modes) == 8
    assert set(modes.values()) == {0o600}


ODD: list[Any] = [None, True, -1, 2**64, 0.5, "", "x", [], [1], [None], {}, {"a": 1}]


HEAD = ("key", "preparation", "images", "sealed", "identity")


def odd_ones(whole: dict[str, Any], fields: list[tuple[str, ...]], odd: Any) -> Iterator[dict[str, Any]]:
    for field in fields:
        document = json.loads(json.dumps(whole))
        at = document
        for name in field[:-1]:
            at = at[name]
        at[field[-1]] = odd
        yield document


def fields_of(whole: dict[str, Any]) -> list[tuple[str, ...]]:
    part = ("parts", "train")
    inside = [(*part, name) for name in whole["parts"]["train"]] + [(*part, "images", "rows"), ("image", "shape")]
    return [(name,) for name in whole if name not in HEAD] + inside


def reopened(config: DataConfig, state: Path) -> None:
    with contextlib.suppress(IntegrityError, ConfigError, KeyMaterialError, FormatError):
        reopen_store(config, cipher_for(), key=OWN, folder=state)


@pytest.mark.parametrize("odd", ODD)
def test_contents_of_odd_types_are_damage_whoever_sealed_them(tree: Path, odd: Any) -> None:
    """Opening it rebuilds the store or takes it, and ends."""
    config = settings(tree)
    folder = opened(config).folder
    whole, head = read_header(folder, SEAL), read_head(folder)
    key = sealed_rows.file_key(SEAL.subkey, head.identity, store_files.CONTENTS)
    for document in odd_ones(whole, fields_of(whole), odd):
        inside = {name: value for name, value in document.items() if name not in HEAD}
        packed = sealed.seal(key, json.dumps(inside).encode(), associated=store_files._bound(head))
        (folder / store_files.CONTENTS).write_bytes(packed)
        reopened(config, tree.parent / "state")
    assert opened(config).folder == folder


@pytest.mark.parametrize("odd", ODD)
def test_a_head_of_odd_types_is_damage(tree: Path, odd: Any) -> None:
    config = settings(tree)
    header = opened(config).folder / "header.json"
    whole = json.loads(header.read_text())
    for document in odd_ones(whole, [(name,) for name in whole], odd):
        header.write_text(json.dumps(document))
        reopened(config, tree.parent / "state")
    header.write_text(json.dumps(whole))
    assert not opened(config).built


@pytest.mark.parametrize("odd", ODD)
def test_an_open_header_of_odd_types_is_damage_whoever_wrote_it(tree: Path, odd: Any) -> None:
    config = settings(tree)
    folder = lay_open(opened(config))
    whole = json.loads((folder / "header.json").read_text())
    for document in odd_ones(whole, [*fields_of(whole), ("key",)], odd):
        write_open_header(folder, document)
        reopened(config, tree.parent / "state")
    assert opened(config).folder == folder


def test_a_newer_store_is_refused_and_left_alone(tree: Path) -> None:
    config = settings(tree)
    header = opened(config).folder / "header.json"
    document = json.loads(header.read_text())
    header.write_text(json.dumps({**document, "version": 3}))
    with pytest.raises(FormatError, match="medveil-store version 3"):
        opened(config)
    assert json.loads(header.read_text())["version"] == 3


def test_wrong_key_without_a_source_is_an_error_and_leaves_the_store(tree: Path) -> None:
    config = settings(tree, channels=1)
    first = opened(config).part("train").batch([0])
    source = open_source(config)
    parts = site_parts(source, config, sites=1, index=0, seed=0)
    for path in tree.rglob("*.png"):
        path.unlink()
    wrong = cipher_for(SimulatedKey(9, "a"))
    with pytest.raises(KeyMaterialError, match="made with the key sim-") as raised:
        open_store(source, parts, wrong, config, key=OWN, folder=tree.parent / "state", seed=0)
    assert raised.value.exit_code == 4
    with pytest.raises(KeyMaterialError, match="made with the key sim-"):
        reopen_store(config, wrong, key=OWN, folder=tree.parent / "state")
    store = reopen_store(config, cipher_for(), key=OWN, folder=tree.parent / "state")
    np.testing.assert_array_equal(store.part("train").batch([0]), first)
    assert leftovers(tree) == []


def test_reopening_without_a_source_refuses_what_it_cannot_serve(tree: Path) -> None:
    state = tree.parent / "state"
    with pytest.raises(StorageError, match="there is no store"):
        reopen_store(settings(tree), cipher_for(), key=OWN, folder=state)
    opened(settings(tree, views=0))
    with pytest.raises(ConfigError, match=r"data\.views is 0"):
        reopen_store(settings(tree, views=0), cipher_for(), key=OWN, folder=state)
    with pytest.raises(ConfigError, match="block=8"):
        reopen_store(settings(tree, views=0), cipher_for(block=4), key=OWN, folder=state)


# -- bad input -------------------------------------------------------------------------------------------------------


def test_unreadable_images_are_counted_named_and_left_out(tree: Path) -> None:
    for name in ("a/03.png", "b/07.png"):
        (tree / name).write_bytes((tree / name).read_bytes()[:100])
    for config in (settings(tree), settings(tree, views=0)):
        store = opened(config)
        assert sorted(each.path for each in store.skipped) == ["a/03.png", "b/07.png"]
        assert all("is cut short" in each.reason for each in store.skipped)
        assert sum(len(part) for part in store.parts.values()) == 28
        ids = [i for part in store.parts.values() for i in part.ids]
        assert not {"a/03.png", "b/07.png"} & set(ids)
        assert opened(config).skipped == store.skipped
        cipher, train = cipher_for(), store.part("train")
        source = open_source(config)
        plain = read_many(source, train.indices)
        np.testing.assert_array_equal(cipher.decrypt(train.batch(np.arange(len(train)))), plain)


def test_files_the_source_passed_over_are_named_too(tree: Path) -> None:
    (tree / "a" / "notes.txt").write_text("hello")
    assert opened(settings(tree)).skipped == (("a/notes.txt", "not an image"),)
    assert opened(settings(tree)).skipped == (("a/notes.txt", "not an image"),)


def test_everything_unreadable_is_an_error_that_leaves_nothing(tree: Path) -> None:
    source = open_source(settings(tree))
    parts = site_parts(source, settings(tree), sites=1, index=0, seed=0)
    for path in tree.rglob("*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"none of 2\d training images can be read"):
        open_store(source, parts, cipher_for(), settings(tree), key=OWN, folder=tree.parent / "state", seed=0)
    assert [path.name for path in (tree.parent / "state" / "stores").iterdir()] == []


def test_a_site_without_training_images_is_an_error(tree: Path) -> None:
    none = np.empty(0, dtype=np.int64)
    with pytest.raises(DataError, match="no training images"):
        opened(settings(tree), parts=Parts(none, none, np.arange(30)))


def test_parts_may_be_empty(tree: Path) -> None:
    config = settings(tree, validation=0.0, test=0.0)
    store = opened(config)
    assert len(store.part("train")) == 30
    assert len(store.part("test")) == 0
    assert store.part("test").batch([]).shape == (0, 1, SIZE, SIZE)
    store.verify()
    assert not opened(config).built


def test_cipher_for_other_images_is_refused(tree: Path) -> None:
    other = make_cipher(CipherConfig(block=8), SimulatedKey(0, "a"), channels=3, height=SIZE, width=SIZE)
    with pytest.raises(ConfigError, match="the cipher is for images of"):
        opened(settings(tree), other)


def test_images_smaller_than_a_patch_are_refused(tree: Path) -> None:
    with pytest.raises(ConfigError, match="24x24 pixels are smaller than a block of 32"):
        opened(settings(tree), cipher_for(block=32))


# -- the disk --------------------------------------------------------------------------------------------------------


class _FullDisk(io.FileIO):
    """A file on a disk with room for 2000 bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(memoryview(data).cast("B")) > 2000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_disk_full_leaves_the_old_store_and_no_half_written_one(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(tree)
    first = opened(config).part("train").batch([0])

    def full(path: Path, mode: str, **how: Any) -> Any:
        return _FullDisk(str(path), mode) if mode == "wb" else open(path, mode, **how)

    with monkeypatch.context() as patch:
        patch.setattr(sealed_rows, "open", full, raising=False)
        with pytest.raises(StorageError, match=r"no space left on device; free some space") as raised:
            opened(config, cipher_for(SimulatedKey(1, "a")))
    assert raised.value.exit_code == 3
    assert leftovers(tree) == []
    again = opened(config)
    assert not again.built
    np.testing.assert_array_equal(again.part("train").batch([0]), first)


@pytest.mark.slow
def test_a_real_write_limit_is_an_error_and_not_a_signal(tree: Path) -> None:
    """The kernel refuses to let a file grow past a limit; a memory map would die of SIGBUS on a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    done = _run(tree, preexec_fn=limit)
    assert done.returncode == 3, done.stderr
    assert "StorageError" in done.stdout
    assert [path.name for path in (tree.parent / "state" / "stores").iterdir()] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_error(tree: Path) -> None:
    state = tree.parent / "state"
    state.mkdir(mode=0o500)
    with pytest.raises(StorageError, match="choose a folder you may write to"):
        opened(settings(tree))


def test_a_file_in_the_way_is_an_error(tree: Path) -> None:
    (tree.parent / "state").write_text("a file")
    with pytest.raises(StorageError, match="state"):
        opened(settings(tree))


def test_kill_leaves_nothing_that_is_taken_for_whole_and_is_swept(tree: Path) -> None:
    process = _start(tree, slow=True)
    stores = tree.parent / "state" / "stores"
    deadline = time.monotonic() + 60
    while not list(stores.glob(".*.part/train.sealed")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    assert len(leftovers(tree)) == 1
    store = opened(settings(tree))
    assert store.built
    assert store.rebuilt is None
    assert leftovers(tree) == []
    store.verify()


def test_interrupt_leaves_nothing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(settings(tree), progress=interrupt)
    assert leftovers(tree) == []
    assert opened(settings(tree)).built


def test_two_processes_build_one_store_once(tree: Path) -> None:
    both = [_start(tree), _start(tree)]
    said = [process.communicate(timeout=120) for process in both]
    assert sorted(out.strip() for out, _ in said) == ["False", "True"], said


_SCRIPT = """
    import sys, time
    from pathlib import Path
    from crypto.cipher import SCHEMES, make_cipher
    from crypto.config import CipherConfig
    from crypto.keys import SimulatedKey
    from fl_client.data import store_build, store_files
    from fl_client.data.config import DataConfig
    from fl_client.data.partition import site_parts
    from fl_client.data.source import open_source
    from fl_client.data.store import open_store
    from medveil.errors import MedVeilError

    tree, slow = Path(sys.argv[1]), sys.argv[2] == "True"
    config = DataConfig(source="images", path=str(tree), image_size=24)
    source = open_source(config)
    cipher = make_cipher(CipherConfig(block=8), SimulatedKey(0, "a"), channels=1, height=24, width=24)
    parts = site_parts(source, config, sites=1, index=0, seed=0)
    wait = (lambda done, total: time.sleep(0.2)) if slow else None
    try:
        where = {"key": SimulatedKey(0, "a"), "folder": tree.parent / "state"}
        print(open_store(source, parts, cipher, config, **where, seed=0, progress=wait).built)
    except MedVeilError as error:
        print(type(error).__name__, error)
        raise SystemExit(error.exit_code)
"""


def _start(tree: Path, *, slow: bool = False, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(_SCRIPT), str(tree), str(slow)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def _run(tree: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    process = _start(tree, **options)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


# -- the rest --------------------------------------------------------------------------------------------------------


def test_progress_counts_to_the_end(tree: Path) -> None:
    seen: list[tuple[int, int]] = []
    opened(settings(tree), progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (1, 30)
    assert seen[-1] == (30, 30)


def test_memory_stays_flat_in_the_number_of_images(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_build, "_CHUNK_BYTES", 4 * SIZE * SIZE)
    largest = 0
    cipher = cipher_for()
    real = cipher.encrypt

    def watched(images: Any, nonces: Any = None) -> Any:
        nonlocal largest
        largest = max(largest, len(images))
        return real(images, nonces)

    monkeypatch.setattr(cipher, "encrypt", watched)
    store = opened(settings(tree), cipher)
    assert largest == 4
    store.verify()


def test_places_are_plain_names(tree: Path, tmp_path: Path) -> None:
    place = store_place(settings(tmp_path / "a b" / "ü*"), cipher_for(), folder=tmp_path, site="St. Mary/../x")
    assert place.parent == tmp_path / "stores"
    assert place.name.isascii()
    assert "/" not in place.name
    assert " " not in place.name


def test_sites_that_share_a_simulated_key_share_no_nonce(tree: Path) -> None:
    config = settings(tree)
    source, cipher = open_source(config), cipher_for(SimulatedKey(0, "shared"), "aes-ctr")
    used: list[np.ndarray] = []
    for index in range(2):
        parts = site_parts(source, config, sites=2, index=index, seed=0)
        where = {"key": SimulatedKey(0, f"site-{index}"), "folder": tree.parent / f"site-{index}"}
        used.append(nonces_of(open_store(source, parts, cipher, config, **where, seed=0)))
    together = np.concatenate(used)
    assert len(np.unique(together, axis=0)) == len(together) == len(source.items)
