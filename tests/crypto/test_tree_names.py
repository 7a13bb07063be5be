"""A hidden file is bound to its name: swapped, moved, copied, foreign files are refused, with the manifest or not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crypto.config import CipherConfig
from crypto.files.header import make_place
from crypto.files.recipe import Recipe
from crypto.files.registry import kind_of
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.tree.paths import MANIFEST, REPORT
from crypto.tree.plan import Plan
from crypto.tree.run import NO_MANIFEST, Result, run_tree
from crypto.tree.single import run_file
from crypto.tree.tasks import MOVED
from crypto.tree.verify import verify_tree
from crypto.tree.workers import Alone

KEY = SiteKey(bytes(range(32)), "mercy")
RING = Keyring(KEY)
NAMES = ("sick/a.png", "sick/b.png", "well/a.png")
VERSION_1 = Path(__file__).with_name("fixtures") / "hidden-version-1"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def drawn(folder: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(folder / name)
    return folder


def hidden(plain: Path, target: Path, *, seal: bool) -> Path:
    recipe = Recipe(purpose="archive", cipher=CipherConfig(block=8), seal=seal)
    assert run_tree(Plan(source=plain, target=target, recipe=recipe), RING, crew=Alone).failed == []
    return target


@pytest.fixture(params=[False, True], ids=["hidden", "sealed"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    other = hidden(drawn(tmp_path / "other plain", 2), tmp_path / "other", seal=request.param)
    assert (other / MANIFEST).exists()
    return hidden(drawn(tmp_path / "plain", 1), tmp_path / "tree", seal=request.param)


def show(tree: Path, out: Path, *, renamed: bool = False) -> Result:
    shutil.rmtree(out, ignore_errors=True)
    return run_tree(Plan(source=tree, target=out, renamed=renamed), RING, crew=Alone)


def at(tree: Path, name: str) -> Path:
    return next(path for path in (tree / name, tree / f"{name}.mvseal") if path.exists())


def swap(tree: Path) -> set[str]:
    one, two = at(tree, "sick/a.png"), at(tree, "sick/b.png")
    one.rename(tree / "aside")
    two.rename(one)
    (tree / "aside").rename(two)
    return {"sick/a.png", "sick/b.png"}


def move_to_another_class(tree: Path) -> set[str]:
    found = at(tree, "sick/b.png")
    found.rename(tree / "well" / found.name)
    return {"well/b.png"}


def copy(tree: Path) -> set[str]:
    found = at(tree, "sick/a.png")
    shutil.copy(found, found.with_name(found.name.replace("a.", "c.")))
    return {"sick/c.png"}


def nest(tree: Path) -> set[str]:
    found = at(tree, "sick/a.png")
    (tree / "well" / "sick").mkdir()
    found.rename(tree / "well" / "sick" / found.name)
    return {"well/sick/a.png"}


def lift(tree: Path) -> set[str]:
    found = at(tree, "well/a.png")
    found.rename(tree / found.name)
    return {"a.png"}


ATTACKS = [swap, move_to_another_class, copy, nest, lift]


@pytest.mark.parametrize("with_manifest", [True, False])
@pytest.mark.parametrize("attack", ATTACKS)
def test_files_that_stand_elsewhere_are_refused_by_name(
    tree: Path, tmp_path: Path, attack: Callable[[Path], set[str]], with_manifest: bool
) -> None:
    moved = attack(tree)
    if not with_manifest:
        (tree / MANIFEST).unlink()
    result = show(tree, tmp_path / "out")
    refused = {name.removesuffix(".mvseal"): why for name, why in result.failed if "is missing" not in why}
    assert set(refused) == moved
    wanted = ("manifest",) if with_manifest else (MOVED,)
    assert all(any(said in why for said in wanted) for why in refused.values())
    shown = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")}
    assert not shown & moved
    if with_manifest:
        assert verify_tree(tree, RING, crew=Alone).summary.failed >= len(moved)


def test_the_manifest_says_which_file_it_is(tree: Path, tmp_path: Path) -> None:
    swap(tree)
    said = dict(show(tree, tmp_path / "out").failed)
    first = next(why for name, why in said.items() if name.startswith("sick/a.png"))
    assert "is not the file that the manifest lists under this name, but sick/b.png" in first


def test_a_file_of_another_tree_under_the_same_key_and_name_is_refused(tree: Path, tmp_path: Path) -> None:
    shutil.copy(at(tmp_path / "other", "sick/a.png"), at(tree, "sick/a.png"))
    result = show(tree, tmp_path / "out")
    assert [name.removesuffix(".mvseal") for name, _ in result.failed] == ["sick/a.png"]
    assert not (tmp_path / "out" / "sick" / "a.png").exists()


def test_the_manifest_of_another_tree_is_refused_with_all_files(tree: Path, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "other" / MANIFEST, tree / MANIFEST)
    assert len(show(tree, tmp_path / "out").failed) == len(NAMES)


def test_without_a_manifest_it_is_said_what_cannot_be_told(tree: Path, tmp_path: Path) -> None:
    (tree / MANIFEST).unlink()
    at(tree, "sick/b.png").unlink()
    result = show(tree, tmp_path / "out")
    assert (result.failed, result.summary.done) == ([], 2)
    assert (MANIFEST, NO_MANIFEST) in result.warned


def test_one_removed_is_missing(tree: Path, tmp_path: Path) -> None:
    at(tree, "sick/b.png").unlink()
    ((name, why),) = show(tree, tmp_path / "out").failed
    assert name.startswith("sick/b.png")
    assert "is missing" in why


def test_renamed_takes_them_and_says_each(tree: Path, tmp_path: Path) -> None:
    moved = swap(tree)
    result = show(tree, tmp_path / "out", renamed=True)
    assert result.failed == []
    assert {name.removesuffix(".mvseal") for name, why in result.warned if why == MOVED} == moved


@pytest.mark.parametrize("with_manifest", [True, False])
def test_a_part_of_a_tree_keeps_the_names_of_the_whole(tree: Path, tmp_path: Path, with_manifest: bool) -> None:
    if not with_manifest:
        (tree / MANIFEST).unlink()
    result = show(tree / "sick", tmp_path / "out")
    assert (result.failed, result.summary.done) == ([], 2)


def test_a_tree_that_was_copied_whole_is_shown(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "copy")
    (tmp_path / "copy" / MANIFEST).unlink()
    assert show(tmp_path / "copy", tmp_path / "out").failed == []


def test_one_file_says_that_it_was_renamed(tree: Path, tmp_path: Path) -> None:
    found = at(tree, "sick/a.png")
    _, outcome = run_file(Plan(source=found, target=tmp_path / "x.png"), RING)
    assert outcome.report.warnings == []
    shutil.copy(found, tmp_path / "else.png")
    _, outcome = run_file(Plan(source=tmp_path / "else.png", target=tmp_path / "y.png"), RING)
    assert outcome.report.warnings == [MOVED]


def test_the_place_says_nothing_without_the_key(tree: Path) -> None:
    places = {make_place(key, name) for key in (KEY, SiteKey.generate("mercy")) for name in ("a", "b")}
    assert len(places) == 4
    assert make_place(KEY, "Ärzte/a") == make_place(KEY, "A\u0308rzte/a")


# -- what version 1 hid ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["training", "archive", "sealed"])
@pytest.mark.parametrize("with_manifest", [True, False])
def test_trees_of_version_1_are_still_shown(tmp_path: Path, name: str, with_manifest: bool) -> None:
    shutil.copytree(VERSION_1 / name, tmp_path / "tree")
    assert verify_tree(tmp_path / "tree", RING, crew=Alone).summary.done == 4
    if not with_manifest:
        (tmp_path / "tree" / MANIFEST).unlink()
    result = show(tmp_path / "tree", tmp_path / "out")
    assert (result.failed, result.summary.done) == ([], 4)
    unbound = [why for where, why in result.warned if where == "."]
    assert len(unbound) == (0 if with_manifest else 1)
    for path in (each for each in (tmp_path / "out").rglob("*.png")):
        with Image.open(path) as after, Image.open(VERSION_1 / "plain" / path.relative_to(tmp_path / "out")) as before:
            assert np.array_equal(np.asarray(before), np.asarray(after))


@pytest.mark.parametrize("name", ["sick/a.png", "sick/b.tif", "well/c.dcm"])
def test_headers_of_version_1_mean_derivation_1_and_no_name(name: str) -> None:
    path = VERSION_1 / "orthogonal" / name
    kind = kind_of(path)
    assert kind is not None
    header = kind.header(path)
    assert (header.version, header.derivation, header.place) == (1, 1, b"")
    assert kind.verify(path, RING) == "unsaid"


@pytest.mark.parametrize("name", ["sick/a.png", "sick/b.tif", "well/c.dcm"])
def test_one_key_hides_alike_for_no_two_uses(tmp_path: Path, name: str) -> None:
    source = VERSION_1 / "plain" / name
    kind = kind_of(source)
    assert kind is not None
    found = {}
    for purpose, derivation in (("training", 1), ("training", 2), ("archive", 1), ("archive", 2)):
        cipher = CipherConfig(block=8, derivation=derivation)
        recipe = Recipe(purpose=purpose, cipher=cipher, size=16 if purpose == "training" else None)
        kind.hide(source, tmp_path / "x", recipe, KEY)
        header = kind.header(tmp_path / "x")
        assert (header.version, header.derivation) == (3, derivation)
        cipher_of = header.cipher(KEY)
        ones = np.arange(header.channels * 256).reshape(header.channels, 16, 16) % 2**header.bits
        dtype = np.uint8 if header.bits <= 8 else np.uint16
        found[purpose, derivation] = cipher_of.encrypt(ones.astype(dtype)).tobytes()
        kind.show(tmp_path / "x", tmp_path / "y", RING)
    if len(found["training", 1]) == len(found["archive", 1]):
        assert found["training", 1] == found["archive", 1]
    assert len({found["training", 1], found["training", 2], found["archive", 2]}) == 3
    assert not (tmp_path / REPORT).exists()
