"""Killed at any file operation, no command leaves on a disk what the key hides."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from killed import every_point, files_with, look_at_every_point
from PIL import Image

from crypto import sealed_file
from crypto.config import CipherConfig
from crypto.files import scratch
from crypto.files.recipe import Recipe
from crypto.files.registry import SEALED, kind_of
from crypto.files.sealed_kind import hide_sealed
from crypto.keyfile import save_keyring
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.tree.plan import Plan
from crypto.tree.run import run_tree
from crypto.tree.single import run_file
from crypto.tree.workers import Alone

SECRET = bytes(range(32))
KEY = SiteKey(SECRET, "mercy")
RING = Keyring(KEY)
RECIPE = Recipe(purpose="archive", cipher=CipherConfig(block=8), seal=True)
PIXELS = np.random.default_rng(3).integers(0, 256, (40, 48), dtype=np.uint8)
SOURCES = ("a.png", "b.tif", "c.dcm")
KILLED = 23
"""One operation in so many is one to die at; all of them are looked at."""


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder of the test's own; nothing waits for the disk, and nothing fits into memory."""
    for name in ("temporary", "out", "in"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(os, "sync", lambda: None)
    monkeypatch.setattr(scratch, "CHUNK_BYTES", 1024)
    monkeypatch.setattr(scratch, "MOST_CHUNKS", 1)


@pytest.fixture
def source(tmp_path: Path, make_dicom: Callable[..., Path]) -> Path:
    """A folder of one image of each kind, all of the same pixels."""
    folder = tmp_path / "in"
    Image.fromarray(PIXELS).save(folder / "a.png", compress_level=0)
    tifffile.imwrite(folder / "b.tif", PIXELS, metadata=None)
    shutil.move(make_dicom(PIXELS), folder / "c.dcm")
    return folder


def needles(source: Path, tmp_path: Path) -> dict[str, bytes]:
    """Pieces of pixels, plain and hidden, marks of the kinds of files, and the secret in its usual clothes."""
    made = {"plain row": PIXELS[7].tobytes(), "header": b'"format":"medveil-hidden"', "name": b"Doe^Jane"}
    made |= {"png": b"\x89PNG", "tiff": b"II*\0", "dicom": b"DICM"}
    for name in SOURCES:
        kind = kind_of(source / name)
        assert kind is not None
        kind.hide(source / name, tmp_path / "hidden", RECIPE, KEY)
        found = kind_of(tmp_path / "hidden")
        assert found is not None
        if name == "c.dcm":
            # The same cipher hides all of them: these are the rows of each.
            data = (tmp_path / "hidden").read_bytes()
            at = data.rindex(b"OB\0\0", 0, len(data) - 1000)
            made["hidden row"] = data[at + 300 : at + 348]
    (tmp_path / "hidden").unlink()
    return made | {"secret": SECRET, "secret in hex": SECRET.hex().encode()}


@pytest.mark.parametrize("name", SOURCES)
def test_sealing_killed_anywhere_leaves_nothing_open(source: Path, tmp_path: Path, name: str) -> None:
    kind, wanted = kind_of(source / name), needles(source, tmp_path)
    assert kind is not None

    def seal() -> None:
        hide_sealed(kind, source / name, tmp_path / "out" / "x", RECIPE, KEY)

    def look(at: int) -> None:
        assert files_with(wanted, tmp_path / "temporary", tmp_path / "out") == [], at

    look_at_every_point(seal, look)
    (tmp_path / "out" / "x").unlink()
    for at in every_point(seal, step=KILLED):
        look(at)
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("name", SOURCES)
def test_showing_killed_anywhere_leaves_nothing_in_the_temporary_folder(
    source: Path, tmp_path: Path, name: str
) -> None:
    kind, wanted = kind_of(source / name), needles(source, tmp_path)
    assert kind is not None
    hide_sealed(kind, source / name, tmp_path / "sealed", RECIPE, KEY)

    def show() -> None:
        SEALED.show(tmp_path / "sealed", tmp_path / "out" / "x", RING)

    def look(at: int) -> None:
        assert files_with(wanted, tmp_path / "temporary") == [], at
        # What is asked for in plain lies where it was asked for, for its owner alone, also while it is half there.
        for left in (tmp_path / "out").iterdir():
            assert left.stat().st_mode & 0o077 == 0, at

    look_at_every_point(show, look)
    (tmp_path / "out" / "x").unlink()
    for at in every_point(show, step=KILLED):
        look(at)


def test_a_tree_killed_anywhere_leaves_nothing_open(source: Path, tmp_path: Path) -> None:
    wanted = needles(source, tmp_path)
    hidden = tmp_path / "out" / "hidden"

    def hide() -> None:
        run_tree(Plan(source=source, target=hidden, recipe=RECIPE), RING, crew=Alone)

    def look_hidden(at: int) -> None:
        assert files_with(wanted, tmp_path / "temporary", tmp_path / "out") == [], at

    look_at_every_point(hide, look_hidden)
    shutil.rmtree(hidden)
    for at in every_point(hide, step=KILLED):
        look_hidden(at)
    plain = tmp_path / "plain"

    def show() -> None:
        run_tree(Plan(source=hidden, target=plain), RING, crew=Alone)

    def look_shown(at: int) -> None:
        assert files_with(wanted, tmp_path / "temporary", hidden) == [], at
        assert not plain.exists() or plain.stat().st_mode & 0o077 == 0

    look_at_every_point(show, look_shown)
    shutil.rmtree(plain)
    for at in every_point(show, step=KILLED):
        look_shown(at)
    holding = {path.relative_to(plain) for path, what in files_with(wanted, plain) if what == "plain row"}
    assert holding == {Path("a.png"), Path("b.tif"), Path("c.dcm")}, "a half of one was left behind"


def test_one_file_killed_is_swept_when_it_is_shown_again(source: Path, tmp_path: Path) -> None:
    run_file(Plan(source=source / "a.png", target=tmp_path / "sealed", recipe=RECIPE), RING)
    shown = tmp_path / "out" / "a.png"

    def show() -> None:
        run_file(Plan(source=tmp_path / "sealed", target=shown, force=True), RING)

    left = 0
    for at in every_point(show, step=3):
        inside = [each for each in (tmp_path / "out").rglob("*") if each.is_file() and each != shown]
        left = max(left, len(inside))
        assert all(each.stat().st_mode & 0o077 == 0 for each in inside), at
    assert left, "no half of a file was ever left: nothing is shown of how it is swept"
    assert list((tmp_path / "out").iterdir()) == [shown]
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_key_file_killed_anywhere_never_holds_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    wanted = {"secret": SECRET, "hex": SECRET.hex().encode(), "passphrase": b"five words of a phrase"}

    def save() -> None:
        (tmp_path / "out" / "a.key").unlink(missing_ok=True)
        save_keyring(tmp_path / "out" / "a.key", RING, "five words of a phrase")

    def look(at: int) -> None:
        assert files_with(wanted, tmp_path) == [], at

    look_at_every_point(save, look)
    for at in every_point(save, step=5):
        look(at)


def test_a_look_sees_what_a_kill_leaves(tmp_path: Path) -> None:
    def careless() -> None:
        (tmp_path / "out" / "x").write_bytes(SECRET)
        (tmp_path / "out" / "x").unlink()

    def holding() -> list[tuple[Path, str]]:
        return files_with({"secret": SECRET}, tmp_path / "out")

    looked: list[int] = []
    look_at_every_point(careless, lambda at: looked.append(at) if holding() else None)
    died = [at for at in every_point(careless) if holding()]
    assert looked == died != []
