from __future__ import annotations

import json
import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from crypto.config import CipherConfig
from crypto.files import registry
from crypto.files.kinds import FileReport
from crypto.files.raster import PngFile
from crypto.files.recipe import Recipe
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.reading.look import read_head
from crypto.tree import dry, place
from crypto.tree.paths import MANIFEST, REPORT, WORK
from crypto.tree.plan import Plan
from crypto.tree.run import Result, run_tree
from crypto.tree.verify import verify_tree
from crypto.tree.workers import Alone
from medveil.errors import ConfigError, DataError, IntegrityError, KeyMaterialError, StorageError
from medveil.files import new_file
from medveil.plain import shown

KEY = SiteKey(bytes(range(32)), "mercy")
RING = Keyring(KEY)
ARCHIVE = Recipe(purpose="archive", cipher=CipherConfig(block=8, negate=True))
OURS = {MANIFEST, REPORT}


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (16, 24)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three pictures in two folders, and a text."""
    folder = tmp_path / "source"
    for seed, name in enumerate(("a.png", "sub/b.png", "sub/c.png")):
        picture(folder / name, seed)
    (folder / "sub" / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "hidden"


def hide(source: Path, target: Path, recipe: Recipe = ARCHIVE, keys: Keyring = RING, *, force: bool = False) -> Result:
    return run_tree(Plan(source=source, target=target, recipe=recipe, force=force), keys, crew=Alone)


def show(source: Path, target: Path, keys: Keyring = RING, *, force: bool = False) -> Result:
    return run_tree(Plan(source=source, target=target, force=force), keys, crew=Alone)


def verify(root: Path, keys: Keyring = RING) -> Result:
    return verify_tree(root, keys, crew=Alone)


def names(root: Path) -> set[str]:
    """Every file below a folder, but for what a run leaves in it."""
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}
    return found - OURS


def counts(result: Result) -> tuple[int, int, int, int]:
    summary = result.summary
    return summary.done, summary.already, summary.failed, summary.skipped


# --- the whole way


def test_a_tree_is_hidden_verified_and_shown(source: Path, target: Path, tmp_path: Path) -> None:
    assert counts(hide(source, target)) == (3, 0, 0, 1)
    assert names(target) == {"a.png", "sub/b.png", "sub/c.png"}
    assert not np.array_equal(pixels_of(target / "a.png"), pixels_of(source / "a.png"))
    checked = verify(target)
    assert (counts(checked), checked.failed) == ((3, 0, 0, 0), [])
    assert counts(show(target, tmp_path / "shown")) == (3, 0, 0, 0)
    for name in names(target):
        assert np.array_equal(pixels_of(tmp_path / "shown" / name), pixels_of(source / name))
    assert not (target / WORK).exists()


def test_modes_keep_what_was_shown_to_its_owner(source: Path, target: Path, tmp_path: Path) -> None:
    hide(source, target)
    show(target, tmp_path / "shown")
    assert (target / "a.png").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "shown").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "shown" / "sub").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "shown" / "sub" / "b.png").stat().st_mode & 0o777 == 0o600
    assert (target / REPORT).stat().st_mode & 0o777 == 0o600


def test_a_sealed_tree(source: Path, target: Path, tmp_path: Path) -> None:
    sealed = Recipe(purpose="archive", cipher=CipherConfig(block=8), seal=True)
    hide(source, target, sealed)
    assert names(target) == {"a.png.mvseal", "sub/b.png.mvseal", "sub/c.png.mvseal"}
    assert counts(verify(target)) == (3, 0, 0, 0)
    show(target, tmp_path / "shown")
    for name in ("a.png", "sub/b.png", "sub/c.png"):
        assert np.array_equal(pixels_of(tmp_path / "shown" / name), pixels_of(source / name))


def test_every_kind_keeps_its_name(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "source"
    for name in ("a.png", "b.jpg", "c.bmp"):
        picture(source / name)
    tifffile.imwrite(source / "d.tif", np.zeros((3, 16, 24), np.uint16), photometric="minisblack")
    result = hide(source, target)
    assert names(target) == {"a.png", "b.jpg.png", "c.bmp.png", "d.tif"}
    assert result.summary.kinds == {"png": 1, "jpeg": 1, "bmp": 1, "tiff": 1}
    assert result.summary.frames == 6
    show(target, tmp_path / "shown")
    assert names(tmp_path / "shown") == {"a.png", "b.jpg.png", "c.bmp.png", "d.tif"}


def test_the_report_counts_what_went(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    exif = Image.Exif()
    exif[0x010E] = "Jane"
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(source / name, exif=exif)
    Image.fromarray(np.zeros((16, 16, 4), np.uint8)).save(source / "c.png")
    result = hide(source, target, Recipe(purpose="training", cipher=CipherConfig(block=8), size=16))
    assert result.warned == [("c.png", "its transparency was dropped: what it covered is seen")]
    report = json.loads((target / REPORT).read_text())
    assert (report["format"], report["version"], report["status"]) == ("medveil-report", 1, "finished")
    assert report["removed"] == {"EXIF": 2}
    assert report["warned"] == [{"file": "c.png", "what": "its transparency was dropped: what it covered is seen"}]
    assert report["recipe"]["purpose"] == "training"
    assert {"decode", "encrypt", "write"} <= set(report["summary"]["stage_seconds"])


# --- bad input


def failures(result: Result) -> dict[str, str]:
    return dict(result.failed)


def test_bad_files_are_named_and_the_others_done(source: Path, target: Path) -> None:
    (source / "zero.png").write_bytes(b"")
    (source / "zero.txt").write_bytes(b"")
    (source / "text.dcm").write_text("no image")
    (source / "cut.png").write_bytes((source / "a.png").read_bytes()[:-30])
    (source / "BMI.csv").write_text("BMI,age\n22,50\n")
    picture(source / "small.png", size=(7, 20))
    result = hide(source, target)
    assert counts(result) == (3, 0, 4, 3)
    assert failures(result) == {
        "zero.png": "is empty",
        "text.dcm": "is named like an image and is none",
        "cut.png": "is cut short",
        "small.png": "is an image of 20 x 7 pixels, smaller than a block of 8; choose a smaller block",
    }
    report = json.loads((target / REPORT).read_text())
    assert {row["file"] for row in report["failed"]} == set(failures(result))
    assert {row["file"] for row in report["skipped"]} == {"BMI.csv", "zero.txt", "sub/notes.txt"}
    assert names(target) == {"a.png", "sub/b.png", "sub/c.png"}


@pytest.mark.parametrize("name", ["a.gif", "a.WEBP", "brain.nii.gz", "brain.nii", "x.jp2", "x.npz"])
def test_images_of_other_sorts_are_refused_and_not_passed_over(source: Path, target: Path, name: str) -> None:
    (source / name).write_bytes(b"GIF89a and so on")
    result = hide(source, target)
    assert failures(result) == {name: "is of a sort that is not read; convert it to DICOM, PNG or TIFF"}


def test_links_and_special_files_are_never_opened(source: Path, target: Path, tmp_path: Path) -> None:
    outside = picture(tmp_path / "outside.png")
    (source / "in.png").symlink_to("sub/b.png")
    (source / "in").symlink_to("sub")
    (source / "loop").symlink_to(".")
    (source / "out.png").symlink_to(outside)
    (source / "out").symlink_to(tmp_path)
    (source / "gone.png").symlink_to("nowhere.png")
    (source / "self.png").symlink_to("self.png")
    os.mkfifo(source / "pipe.png")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(source / "s"))
    result = hide(source, target)
    assert counts(result) == (3, 0, 4, 6)
    assert failures(result) == {
        "out.png": "is a link that leads out of the input; links are not followed",
        "out": "is a link that leads out of the input; links are not followed",
        "gone.png": "is a link that leads nowhere",
        "self.png": "is a link that leads nowhere",
    }
    skipped = {row["file"]: row["what"] for row in json.loads((target / REPORT).read_text())["skipped"]}
    assert skipped == {
        "in.png": "is a link to sub/b.png, which is taken as itself",
        "in": "is a link to sub, which is taken as itself",
        "loop": "is a link to ., which is taken as itself",
        "pipe.png": "is a pipe, a socket or a device",
        "s": "is a pipe, a socket or a device",
        "sub/notes.txt": "not an image",
    }
    assert names(target) == {"a.png", "sub/b.png", "sub/c.png"}


@pytest.mark.parametrize(
    "name",
    [
        "two  words.png",
        "line\nbreak.png",
        "Zürich.png",
        "日本.png",
        "bad\udcff.png",
        "\x1b[31mred.png",
        "-r.png",
        "'\".png",
    ],
)
def test_names_of_all_sorts_are_kept(
    tmp_path: Path, target: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    picture(source / "x.png").rename(source / name)
    (source / f"empty {name}").write_bytes(b"")
    result = hide(source, target)
    assert counts(result) == (1, 0, 1, 0)
    assert os.listdir(source)[0] in {name, f"empty {name}"}
    assert (target / name).exists()
    assert counts(verify(target)) == (1, 0, 0, 0)
    show(target, tmp_path / "shown")
    assert np.array_equal(pixels_of(tmp_path / "shown" / name), pixels_of(source / name))
    report = json.loads((target / REPORT).read_text())
    assert [row["file"] for row in report["failed"]] == [f"empty {name}"]
    printed = shown(name)
    assert printed.isprintable()
    printed.encode()


def test_what_takes_the_place_of_a_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    picture(tmp_path / "a.png")
    (tmp_path / "link").symlink_to("a.png")
    assert read_head(tmp_path / "a.png", 8, links=False) == b"\x89PNG\r\n\x1a\n"
    assert read_head(tmp_path / "link", 8) == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(DataError, match="no plain file any more"):
        read_head(tmp_path / "pipe", 8, links=False)
    for name in ("link", "gone"):
        with pytest.raises(StorageError, match="cannot read the file"):
            read_head(tmp_path / name, 8, links=False)


def test_names_as_long_as_a_disk_allows(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "source"
    picture(source / "x.png").rename(source / ("n" * 251 + ".png"))
    picture(source / "x.jpg").rename(source / ("j" * 251 + ".jpg"))
    result = hide(source, target)
    assert names(target) == {"n" * 251 + ".png"}
    assert failures(result) == {"j" * 251 + ".jpg": "cannot write the file: file name too long"}


def test_two_files_of_one_hidden_name(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "source"
    picture(source / "x.jpg", 1)
    picture(source / "x.jpg.png", 2)
    result = hide(source, target)
    assert counts(result) == (1, 0, 1, 0)
    ((name, why),) = result.failed
    other = {"x.jpg": "x.jpg.png", "x.jpg.png": "x.jpg"}[name]
    assert why == f"would be called x.jpg.png, as {other} is; rename one of them"
    # The file that was first stays so, in whatever order a disk lists them next time.
    again = hide(source, target)
    assert (counts(again), again.failed) == ((0, 1, 1, 0), result.failed)


@pytest.mark.parametrize("pair", [("scan.png", "SCAN.png"), ("é.png", "e\u0301.png"), ("sub/x.png", "Sub/x.png")])
def test_names_that_differ_in_case_alone(
    tmp_path: Path, target: Path, pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    for seed, name in enumerate(pair):
        picture(source / name, seed)
    if len(names(source)) == 1:
        pytest.skip("this disk ignores case")
    result = hide(source, target)
    assert counts(result) == (2, 0, 0, 0)
    ((_, why),) = result.warned
    assert "differs in case alone" in why
    # Where the output's disk cannot hold both, one is refused.
    monkeypatch.setattr(place.Workplace, "ignores_case", lambda _: True)
    result = hide(source, tmp_path / "other")
    assert counts(result) == (1, 0, 1, 0)
    assert "rename one of them" in result.failed[0][1]


def test_a_file_that_changes_while_it_is_read(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = PngFile.hide

    def meanwhile(kind: PngFile, path: Path, *rest: Any, **named: Any) -> FileReport:
        report = real(kind, path, *rest, **named)
        if path.name == "b.png":
            with path.open("ab") as stream:
                stream.write(b"more")
        return report

    monkeypatch.setattr(PngFile, "hide", meanwhile)
    result = hide(source, target)
    assert failures(result) == {"sub/b.png": "changed while it was read; run again when nobody writes to it"}
    assert names(target) == {"a.png", "sub/c.png"}


def test_a_file_that_is_replaced_while_it_is_read(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = PngFile.hide

    def meanwhile(kind: PngFile, path: Path, *rest: Any, **named: Any) -> FileReport:
        report = real(kind, path, *rest, **named)
        stamp = path.stat()
        other = path.with_name("other")
        other.write_bytes(path.read_bytes())
        os.utime(other, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        other.replace(path)
        return report

    monkeypatch.setattr(PngFile, "hide", meanwhile)
    assert counts(hide(source, target)) == (0, 0, 3, 1)
    assert names(target) == set()


def test_an_output_that_is_removed_meanwhile_ends_the_run(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PngFile.hide

    def removed(kind: PngFile, path: Path, *rest: Any, **named: Any) -> FileReport:
        shutil.rmtree(target, ignore_errors=True)
        return real(kind, path, *rest, **named)

    monkeypatch.setattr(PngFile, "hide", removed)
    with pytest.raises(StorageError, match="was removed while it was worked on"):
        hide(source, target)


def test_a_defect_of_ours_ends_with_its_file(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "medveil")
    real = PngFile.hide

    def breaks(kind: PngFile, path: Path, *rest: Any, **named: Any) -> FileReport:
        if path.name == "b.png":
            raise ZeroDivisionError
        return real(kind, path, *rest, **named)

    monkeypatch.setattr(PngFile, "hide", breaks)
    result = hide(source, target)
    assert failures(result) == {"sub/b.png": "MedVeil failed over it (ZeroDivisionError); see --log-level debug"}
    assert "raise ZeroDivisionError" in caplog.text
    assert names(target) == {"a.png", "sub/c.png"}


@pytest.mark.parametrize("inside", ["hidden", "sub/hidden", "sub/x/../y"])
def test_an_output_inside_the_input_is_refused(source: Path, inside: str) -> None:
    (source / "sub" / "x").mkdir()
    before = names(source)
    with pytest.raises(ConfigError, match="lies inside the input"):
        hide(source, source / inside)
    assert names(source) == before


def test_an_input_inside_the_output_and_the_same_folder_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds the input"):
        hide(source, tmp_path)
    with pytest.raises(ConfigError, match="is the input itself"):
        hide(source, source)
    (tmp_path / "link").symlink_to(source)
    for other in (tmp_path / "link", tmp_path / "link" / "sub" / ".."):
        with pytest.raises(ConfigError, match="is the input itself"):
            hide(source, other)
    with pytest.raises(ConfigError, match="lies inside the input"):
        hide(source, tmp_path / "link" / "hidden")
    assert not list(tmp_path.rglob(WORK))


def test_a_link_in_the_output_leads_nowhere(source: Path, target: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target.mkdir()
    (target / "sub").symlink_to(tmp_path / "elsewhere")
    result = hide(source, target)
    assert set(failures(result)) == {"sub/b.png", "sub/c.png"}
    assert set(failures(result).values()) == {"is not a folder"}
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (target / "sub").unlink()
    assert counts(hide(source, target)) == (2, 1, 0, 1)


# --- what is there already


def test_nothing_that_is_there_is_overwritten_without_force(source: Path, target: Path) -> None:
    (target / "sub").mkdir(parents=True)
    (target / "sub" / "b.png").write_text("precious")
    result = hide(source, target)
    assert failures(result) == {"sub/b.png": "sub/b.png is there already; --force (force=True) replaces it"}
    assert (target / "sub" / "b.png").read_text() == "precious"
    assert counts(hide(source, target, force=True)) == (1, 2, 0, 1)
    assert counts(verify(target)) == (3, 0, 0, 0)


def test_done_files_are_not_done_again(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(source, target)
    before = {name: (target / name).stat().st_mtime_ns for name in names(target)}
    monkeypatch.setattr(PngFile, "hide", None)
    for force in (False, True):
        assert counts(hide(source, target, force=force)) == (0, 3, 0, 1)
    assert {name: (target / name).stat().st_mtime_ns for name in names(target)} == before


def test_a_source_that_changed_is_done_again_when_forced(source: Path, target: Path, tmp_path: Path) -> None:
    hide(source, target)
    picture(source / "a.png", 99)
    result = hide(source, target)
    assert failures(result) == {"a.png": "is done already, and it was changed since; --force (force=True) replaces it"}
    assert counts(verify(target)) == (3, 0, 0, 0)
    assert counts(hide(source, target, force=True)) == (1, 2, 0, 1)
    show(target, tmp_path / "shown")
    assert np.array_equal(pixels_of(tmp_path / "shown" / "a.png"), pixels_of(source / "a.png"))


def test_a_result_that_is_gone_or_cut_is_not_taken_for_whole(source: Path, target: Path) -> None:
    hide(source, target)
    (target / "a.png").unlink()
    assert counts(hide(source, target)) == (1, 2, 0, 1)
    with (target / "a.png").open("ab") as stream:
        stream.truncate(100)
    result = hide(source, target)
    assert failures(result) == {
        "a.png": "is done already, and its result was changed since; --force (force=True) replaces it"
    }
    assert counts(hide(source, target, force=True)) == (1, 2, 0, 1)
    assert counts(verify(target)) == (3, 0, 0, 0)


def test_new_files_join_a_finished_tree(source: Path, target: Path) -> None:
    hide(source, target)
    picture(source / "new" / "d.png", 7)
    assert counts(hide(source, target)) == (1, 3, 0, 1)
    assert counts(verify(target)) == (4, 0, 0, 0)


def test_what_left_input_and_output_leaves_the_manifest(source: Path, target: Path) -> None:
    hide(source, target)
    (source / "a.png").unlink()
    assert counts(hide(source, target)) == (0, 2, 0, 1)
    assert counts(verify(target)) == (3, 0, 0, 0)
    (target / "a.png").unlink()
    result = hide(source, target)
    assert result.warned == [("a.png", "was done before, and input and output are both gone")]
    assert counts(verify(target)) == (2, 0, 0, 0)


@pytest.mark.parametrize(
    ("recipe", "keys", "says"),
    [
        (Recipe(purpose="archive", cipher=CipherConfig(block=4, negate=True)), RING, "another cipher"),
        (
            Recipe(purpose="archive", cipher=CipherConfig(block=8, negate=True), identity="sealed"),
            RING,
            "another identity",
        ),
        (ARCHIVE, Keyring(SiteKey.generate("other")), "another key"),
        (ARCHIVE, Keyring(SiteKey.generate("mercy"), (KEY,)), "another key"),
    ],
)
def test_an_output_of_other_settings_is_not_mixed(
    source: Path, target: Path, recipe: Recipe, keys: Keyring, says: str
) -> None:
    hide(source, target)
    with pytest.raises(ConfigError, match=says):
        hide(source, target, recipe, keys)
    assert counts(verify(target)) == (3, 0, 0, 0)
    assert counts(hide(source, target, recipe, keys, force=True)) == (3, 0, 0, 1)
    assert counts(verify(target, keys)) == (3, 0, 0, 0)


# --- keys


def test_the_wrong_key_shows_nothing(source: Path, target: Path, tmp_path: Path) -> None:
    hide(source, target)
    other = Keyring(SiteKey.generate("other"))
    for asked in (lambda: show(target, tmp_path / "shown", other), lambda: verify(target, other)):
        with pytest.raises(KeyMaterialError, match=f"was hidden under the key {KEY.fingerprint}"):
            asked()
    (target / MANIFEST).unlink()
    result = show(target, tmp_path / "shown", other)
    assert (counts(result), result.summary.codes) == ((0, 0, 3, 0), {4: 3})
    assert names(tmp_path / "shown") == set()


def test_a_rotated_key_shows_what_the_old_one_hid(source: Path, target: Path, tmp_path: Path) -> None:
    hide(source, target)
    rotated = Keyring(SiteKey.generate("mercy"), (KEY,))
    assert counts(verify(target, rotated)) == (3, 0, 0, 0)
    assert counts(show(target, tmp_path / "shown", rotated)) == (3, 0, 0, 0)


# --- the manifest


def test_what_is_missing_added_changed_and_renamed_is_named(source: Path, target: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(("d.png", "e.png", "f.png"), start=10):
        picture(source / name, seed)
    hide(source, target)
    (target / "a.png").unlink()
    (target / "sub" / "b.png").rename(target / "moved.png")
    picture(target / "extra.png")
    data = bytearray((target / "sub" / "c.png").read_bytes())
    data[-30] ^= 1
    (target / "sub" / "c.png").write_bytes(data)
    (target / "d.png").unlink()
    (target / "d.png").symlink_to("e.png")
    (target / "f.png").write_text("no image")
    result = verify(target)
    assert failures(result) == {
        "a.png": "is missing",
        "moved.png": "is sub/b.png, renamed",
        "extra.png": "is not in the manifest",
        "sub/c.png": "is damaged: the checksum of its chunk IDAT does not fit; restore it from a copy",
        "d.png": "is a link to e.png, which is taken as itself",
        "f.png": "is damaged: it is no hidden file any more",
    }
    assert result.summary.done == 1
    shown = show(target, tmp_path / "shown")
    assert failures(shown)["a.png"] == "is missing: the manifest lists it"


def test_a_file_that_was_saved_anew_is_named_though_its_mac_holds(source: Path, target: Path) -> None:
    hide(source, target)
    text = PngFile().header(target / "a.png").to_json()
    with Image.open(target / "a.png") as image:
        from PIL.PngImagePlugin import PngInfo  # noqa: PLC0415

        kept = PngInfo()
        kept.add_itxt("medveil", text)
        image.save(target / "a.png", pnginfo=kept)
    PngFile().verify(target / "a.png", RING)
    assert failures(verify(target)) == {"a.png": "was written anew: its bytes are not those of the manifest"}


def test_two_hidden_files_that_were_swapped_are_named(source: Path, target: Path) -> None:
    hide(source, target)
    (target / "a.png").rename(target / "x")
    (target / "sub" / "b.png").rename(target / "a.png")
    (target / "x").rename(target / "sub" / "b.png")
    assert set(failures(verify(target))) == {"a.png", "sub/b.png"}


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    "change", ["without a line", "lines swapped", "without the end", "a line changed", "cut", "empty"]
)
def test_a_changed_manifest_is_refused(source: Path, target: Path, change: str, tmp_path: Path) -> None:
    hide(source, target)
    manifest = target / MANIFEST
    head, one, two, three, last = lines(manifest)
    manifest.write_bytes(
        {
            "without a line": head + one + three + last.replace(b"3", b"2", 1),
            "lines swapped": head + two + one + three + last,
            "without the end": head + one + two + three,
            "a line changed": head + one.replace(b"a.png", b"b.png") + two + three + last,
            "cut": (head + one + two + three + last)[:-3],
            "empty": b"",
        }[change]
    )
    for asked in (
        lambda: verify(target),
        lambda: show(target, tmp_path / "shown"),
        lambda: hide(source, target),
    ):
        with pytest.raises(IntegrityError, match=MANIFEST):
            asked()


def test_a_tree_without_manifest_is_not_verified(source: Path, target: Path) -> None:
    hide(source, target)
    (target / MANIFEST).unlink()
    with pytest.raises(IntegrityError, match="there is no manifest"):
        verify(target)


def test_the_manifest_says_nothing_of_sources_but_their_names(source: Path, target: Path) -> None:
    hide(source, target)
    text = (target / MANIFEST).read_text()
    stamp = (source / "a.png").stat()
    assert str(stamp.st_mtime_ns) not in text
    assert str(int(stamp.st_mtime)) not in text
    assert str(source) not in text
    assert KEY.secret.hex() not in text


# --- dry runs


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(source: Path, target: Path) -> None:
    picture(source / "b.jpg")
    picture(source / "small.png", size=(4, 4))
    (source / "zero.png").write_bytes(b"")
    picture(target / "a.png")
    before = names(target)
    found = dry.forecast(Plan(source=source, target=target, recipe=ARCHIVE), RING)
    assert found.files == {"png": 2, "jpeg": 1}
    assert found.sizes["jpeg"] == (source / "b.jpg").stat().st_size
    assert set(dict(found.failed)) == {"small.png", "zero.png", "a.png"}
    assert found.skipped == [("sub/notes.txt", "not an image")]
    assert names(target) == before
    assert not (target / WORK).exists()
    done = hide(source, target)
    assert counts(done) == (3, 0, 3, 1)
    assert set(dict(done.failed)) == set(dict(found.failed))
    found = dry.forecast(Plan(source=source, target=target, recipe=ARCHIVE), RING)
    assert (sum(found.files.values()), found.summary.already) == (0, 3)


def test_a_dry_run_of_decryption(source: Path, target: Path, tmp_path: Path) -> None:
    hide(source, target)
    found = dry.forecast(Plan(source=target, target=tmp_path / "shown"), RING)
    assert found.files == {"png": 3}
    assert not (tmp_path / "shown").exists()


# --- a kind of another sort


@dataclass
class StandIn:
    """A kind that reverses bytes, in place of DICOM."""

    name: str = "dicom"

    def recognises(self, head: bytes) -> bool:
        return head[128:132] == b"DICM"

    def hidden_name(self, name: str, recipe: Recipe) -> str:
        return name

    def hide(self, source: Path, target: Path, recipe: Recipe, key: SiteKey, **named: Any) -> FileReport:
        data = source.read_bytes()
        if b"SR" in data:
            raise DataError("is a structured report, which has no pixels", where=source)
        with new_file(target) as stream:
            stream.write(data[:132] + data[132:][::-1])
        return FileReport(
            frames=5, removed=["PatientName"], replaced=["StudyDate"], warnings=["look at its burned-in text"]
        )

    def show(self, source: Path, target: Path, keys: Keyring, **named: Any) -> FileReport:
        data = source.read_bytes()
        with new_file(target) as stream:
            stream.write(data[:132] + data[132:][::-1])
        return FileReport(frames=5)

    def header(self, source: Path) -> Any:
        raise NotImplementedError

    def verify(self, source: Path, keys: Keyring, **named: Any) -> str:
        return ""

    def ciphertext(self, source: Path, frame: int = 0) -> Any:
        raise NotImplementedError


@pytest.fixture
def dicom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "dicom_kind", StandIn)


def test_files_of_another_kind(source: Path, target: Path, tmp_path: Path, dicom: None) -> None:
    (source / "x").write_bytes(bytes(128) + b"DICM" + b"pixels")
    (source / "y.dcm").write_bytes(b"II*\0" + bytes(124) + b"DICM" + b"more")
    (source / "z.dcm").write_bytes(bytes(128) + b"DICM" + b"SR")
    result = hide(source, target)
    assert counts(result) == (5, 0, 1, 1)
    assert failures(result) == {"z.dcm": "is a structured report, which has no pixels"}
    assert result.warned == [("x", "look at its burned-in text"), ("y.dcm", "look at its burned-in text")]
    assert result.summary.kinds == {"png": 3, "dicom": 2}
    report = json.loads((target / REPORT).read_text())
    assert (report["removed"], report["replaced"]) == ({"PatientName": 2}, {"StudyDate": 2})
    assert counts(verify(target)) == (5, 0, 0, 0)
    show(target, tmp_path / "shown")
    assert (tmp_path / "shown" / "x").read_bytes() == (source / "x").read_bytes()
