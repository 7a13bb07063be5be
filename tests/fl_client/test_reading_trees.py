"""Whole folders at both doors: the same files are images, junk, refused or missed, and grey and colour may be mixed."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from PIL import Image
from raster_doors import KEY

from crypto.config import CipherConfig
from crypto.files.recipe import Recipe
from crypto.keyring import Keyring
from crypto.reading.look import HEAD_BYTES, LastOpened, Sort, is_junk, look, look_at
from crypto.tree.dry import forecast
from crypto.tree.plan import Plan
from crypto.tree.run import Result, run_tree
from crypto.tree.workers import Alone
from fl_client.data.config import DataConfig
from fl_client.data.source import Source, open_source, read_many
from medveil.errors import DataError, MedVeilError

CASES = Path(__file__).parents[3] / "shared" / "cases" / "images"
CT = Path(pydicom.data.get_testdata_file("CT_small.dcm"))  # type: ignore[arg-type]
SIDE = 32


def case(name: str) -> Path:
    if not (CASES / name).is_dir():
        pytest.skip(f"{CASES} is not there")
    return CASES / name


def picture(path: Path, seed: int = 0, *, mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (SIDE, SIDE) if mode == "L" else (SIDE, SIDE, len(mode))
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), mode).save(path)
    return path


def hide(source: Path, target: Path, *, channels: int | None = None, force: bool = False) -> Result:
    recipe = Recipe(purpose="training", cipher=CipherConfig(block=8), size=SIDE, channels=channels)
    return run_tree(Plan(source=source, target=target, recipe=recipe, force=force), Keyring(KEY), crew=Alone)


def open_images(path: Path, **settings: object) -> Source:
    given = {"source": "images", "image_size": SIDE, **settings}
    return open_source(DataConfig(path=str(path), **given))  # type: ignore[arg-type]


# -- junk ------------------------------------------------------------------------------------------------------------

JUNK = {
    ".DS_Store": b"\0\0\0\1Bud1",
    "__MACOSX/a/._0.png": b"\0\5\x16\7\0\2\0\0Mac OS X",
    "a/._0.png": b"\0\5\x16\7\0\2\0\0Mac OS X",
    "a/._0.dcm": b"",
    "a/Thumbs.db": b"\xd0\xcf\x11\xe0",
    "a/THUMBS.DB": b"\xd0\xcf\x11\xe0",
    "a/desktop.ini": b"[.ShellClassInfo]",
    "a/Icon\r": b"",
    "AUTORUN.INF": b"[autorun]",
    "$RECYCLE.BIN/S-1-5/$R.png": b"\x89PNG\r\n\x1a\n",
    "System Volume Information/x.png": b"x",
    "@eaDir/0.png/SYNOPHOTO_THUMB.jpg": b"\xff\xd8\xff",
    ".Trashes/501/0.png": b"\x89PNG\r\n\x1a\n",
}
OTHERS = {
    "VIEWER.EXE": b"MZ",
    "viewer/help.chm": b"ITSF",
    "viewer/lib.dll": b"MZ",
    "README.TXT": b"about",
    "INDEX.HTM": b"<html>",
    "report.pdf": b"%PDF-1.7",
}


def dicomdir(path: Path) -> None:
    shutil.copy(pydicom.data.get_testdata_file("DICOMDIR"), path)  # type: ignore[arg-type]


def with_junk(root: Path) -> Path:
    for name in ("a", "b"):
        picture(root / name / "0.png", ord(name))
        picture(root / name / "1.png", ord(name) + 1)
    for name, data in (JUNK | OTHERS).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    dicomdir(root / "DICOMDIR")
    dicomdir(root / "a" / "index-of-the-disc")
    return root


def test_what_systems_viewers_and_discs_leave_is_passed_over_at_both_doors(tmp_path: Path) -> None:
    root = with_junk(tmp_path / "in")
    result = hide(root, tmp_path / "out")
    assert (result.summary.done, result.summary.failed) == (4, 0)
    assert result.summary.skipped == len(JUNK) + len(OTHERS) + 2
    source = open_images(root, classes=["a", "b"])
    assert [item.id for item in source.items] == ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]
    assert not {each.path for each in source.skipped} & set(JUNK)
    hidden = open_source(DataConfig(source="hidden", path=str(tmp_path / "out")))
    assert [item.id for item in hidden.items] == [item.id for item in source.items]


def test_a_disc_index_is_junk_by_its_name_and_by_its_content(tmp_path: Path) -> None:
    dicomdir(tmp_path / "x")
    head = (tmp_path / "x").read_bytes()[:HEAD_BYTES]
    assert look_at("any/name.dcm", head).sort is Sort.JUNK
    assert look_at("DICOMDIR", b"").sort is Sort.JUNK
    assert look_at("any/name.dcm", CT.read_bytes()[:HEAD_BYTES]).sort is Sort.IMAGE
    assert look_at("dicomdir/name.dcm", CT.read_bytes()[:HEAD_BYTES]).sort is Sort.IMAGE


@pytest.mark.parametrize("name", ["._x.png", "sub/._x.dcm"])
def test_an_image_that_only_looks_like_a_mac_s_junk_is_none(name: str, tmp_path: Path) -> None:
    head = picture(tmp_path / "x.png").read_bytes()[:HEAD_BYTES]
    assert not is_junk(name, head)
    assert look_at(name, head).kind == "png"
    assert is_junk(name)
    assert is_junk(name, b"\0\5\x16\7")


@pytest.mark.parametrize("name", ["x__macosx/a.png", "Thumbs.db.png", "my desktop.ini.dcm", "dicomdir.dcm", "icon.png"])
def test_names_that_only_resemble_junk_are_none(name: str) -> None:
    assert not is_junk(name)


def test_what_was_hidden_is_shown_whatever_it_is_called(tmp_path: Path) -> None:
    """A file of an older MedVeil may lie where junk lies now: to pass over it would lose it."""
    picture(tmp_path / "in" / "a" / "x.png")
    hide(tmp_path / "in", tmp_path / "out")
    (tmp_path / "moved" / "__MACOSX").mkdir(parents=True)
    shutil.copy(tmp_path / "out" / "a" / "x.png", tmp_path / "moved" / "__MACOSX" / "x.png")
    plan = Plan(source=tmp_path / "moved", target=tmp_path / "back", renamed=True)
    assert run_tree(plan, Keyring(KEY), crew=Alone).summary.done == 1


def test_case_mac_windows_junk(tmp_path: Path) -> None:
    root = case("mac_windows_junk")
    result = hide(root, tmp_path / "out")
    assert (result.summary.done, result.summary.failed) == (16, 0)
    source = open_images(root)
    assert (source.classes, len(source), source.skipped) == (("normal", "sick"), 16, ())


def test_case_dicomdir(tmp_path: Path) -> None:
    root = case("dicomdir")
    result = hide(root, tmp_path / "out")
    assert (result.summary.done, result.summary.failed, result.summary.skipped) == (12, 0, 1)
    source = open_source(DataConfig(source="dicom", path=str(root), group_by="none"))
    assert (source.classes, len(source)) == (("BENIGN", "MALIGN"), 12)


# -- DICOM without a preamble, and one door's files at the other -----------------------------------------------------


def without_preamble(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CT.read_bytes()[132:])


def bare(path: Path) -> None:
    """The data set alone, without file meta information."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = CT.read_bytes()
    # PS3.10 7.1: the first element of file meta information is the length of what follows it.
    path.write_bytes(data[132 + 12 + int.from_bytes(data[140:144], "little") :])


@pytest.mark.parametrize("make", [without_preamble, bare])
def test_dicom_without_preamble_and_suffix_is_never_passed_over_as_no_image(tmp_path: Path, make: object) -> None:
    make(tmp_path / "in" / "a" / "IM0001")  # type: ignore[operator]
    assert look(tmp_path / "in" / "a" / "IM0001").kind == "dicom"
    result = hide(tmp_path / "in", tmp_path / "out")
    assert result.summary.skipped == 0
    assert result.summary.done + result.summary.failed == 1
    (tmp_path / "in" / "b").mkdir()
    picture(tmp_path / "in" / "b" / "0.png")
    source = open_images(tmp_path / "in", classes=["a", "b"])
    assert [each.reason for each in source.skipped] == ["is a DICOM file; set data.source to dicom for those"]


def test_case_tree_no_preamble(tmp_path: Path) -> None:
    root = case("tree_no_preamble")
    result = hide(root, tmp_path / "out")
    assert result.summary.skipped == 0
    assert result.summary.done + result.summary.failed == len([path for path in root.rglob("*") if path.is_file()])


def corpus(root: Path) -> Path:
    """One file of every sort that either door may meet, images, refused ones, damaged ones and others."""
    with_junk(root)
    made = root / "a"
    picture(made / "colour.png", 5, mode="RGB")
    picture(made / "no-suffix.png", 6).rename(made / "no-suffix")
    picture(made / "named.txt.png", 7).rename(made / "named.txt")
    picture(made / "x.jpg", 8)
    picture(made / "x.bmp", 9)
    picture(made / "x.tif", 10)
    Image.fromarray(np.zeros((SIDE, SIDE), np.float32)).save(made / "float.tif")
    Image.fromarray(np.zeros((SIDE, SIDE, 4), np.uint8), "CMYK").save(made / "cmyk.jpg")
    (made / "cut.png").write_bytes(picture(made / "cut.png", 11).read_bytes()[:200])
    (made / "empty.png").write_bytes(b"")
    (made / "text.png").write_bytes(b"no image at all")
    (made / "moving.gif").write_bytes(b"GIF89a")
    (made / "brain.nii.gz").write_bytes(b"\x1f\x8b")
    shutil.copy(CT, made / "ct")
    return root


def test_both_doors_agree_on_every_file(tmp_path: Path) -> None:
    root = corpus(tmp_path / "in")
    reports: dict[str, str] = {}
    result = hide(root, tmp_path / "out")
    failed = dict(result.failed)
    hidden = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    images, dicom = (
        open_source(DataConfig(source=name, path=str(root), classes=["a", "b"], image_size=SIDE, channels=1))
        for name in ("images", "dicom")
    )
    for number, item in enumerate(images.items):
        try:
            images.read(number)
        except DataError as error:
            reports[item.id] = error.problem
    trained = {item.id for item in (*images.items, *dicom.items)} - set(reports)
    assert {name for name in trained if name in hidden or f"{name}.png" in hidden} == trained
    assert len(trained) == result.summary.done
    # What one door fails by name the other does too: while reading, or as a file that is left out.
    left = {each.path: each.reason for each in images.skipped} | reports
    for name, why in failed.items():
        assert name in left, name
        assert why.startswith(left[name]), (name, why, left[name])
    assert set(reports) <= set(failed)


# -- grey and colour -------------------------------------------------------------------------------------------------


def mixed(root: Path) -> Path:
    for number in range(4):
        picture(root / "a" / f"{number}.png", number)
        picture(root / "b" / f"{number}.png", 10 + number, mode="RGB" if number < 3 else "RGBA")
    return root


def test_a_mixture_of_grey_and_colour_is_read_in_colour_whatever_comes_first(tmp_path: Path) -> None:
    source = open_images(mixed(tmp_path / "in"))
    assert source.channels == 3
    assert len(source) == 8
    read = read_many(source, range(8))
    np.testing.assert_array_equal(read[:4, 0], read[:4, 2])
    assert (read[4:, 0] != read[4:, 2]).any(axis=(1, 2)).all()
    said = "4 images are grey and 4 in colour: grey ones are repeated in 3 channels; data.channels=1 makes all grey"
    assert said in source.remarks
    assert source.said == ("grey and colour images are mixed: grey ones are repeated in three channels",)
    grey = open_images(tmp_path / "in", channels=1)
    assert (grey.channels, len(grey), said in grey.remarks) == (1, 8, False)
    assert open_images(tmp_path / "in", channels=1).said == ()


def test_dicom_files_decide_by_all_of_them_too(tmp_path: Path) -> None:
    colour = pydicom.data.get_testdata_file("SC_rgb_small_odd.dcm")
    for name, path in (("a/0", CT), ("a/1", CT), ("b/0", colour), ("b/1", CT)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / name)  # type: ignore[arg-type]
    source = open_source(DataConfig(source="dicom", path=str(tmp_path), group_by="none", min_side=1))
    assert source.channels == 3
    assert any(each.startswith("3 images are grey and 1 in colour") for each in source.remarks)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images_that_are_alike_are_said_nothing_of(tmp_path: Path, mode: str) -> None:
    for name in ("a/0.png", "a/1.png", "b/0.png"):
        picture(tmp_path / "in" / name, mode=mode)
    source = open_images(tmp_path / "in")
    assert (source.channels, source.said) == (len(mode), ())
    assert not hide(tmp_path / "in", tmp_path / "out").warned


def test_encrypt_says_that_grey_and_colour_are_mixed(tmp_path: Path) -> None:
    result = hide(mixed(tmp_path / "in"), tmp_path / "out")
    said = dict(result.warned)["."]
    assert "4 files in grey and 4 files in colour" in said
    assert "--channels 3" in said
    for channels in (1, 3):
        assert "." not in dict(hide(tmp_path / "in", tmp_path / f"out{channels}", channels=channels).warned)


def test_a_dry_run_says_so_too(tmp_path: Path) -> None:
    recipe = Recipe(purpose="training", cipher=CipherConfig(block=8), size=SIDE)
    plan = Plan(source=mixed(tmp_path / "in"), target=tmp_path / "out", recipe=recipe)
    assert "4 files in grey and 4 files in colour" in forecast(plan, Keyring(KEY)).mixed
    grey = dataclasses.replace(plan, recipe=dataclasses.replace(recipe, channels=1))
    assert forecast(grey, Keyring(KEY)).mixed == ""


def test_encrypt_says_so_of_a_run_that_went_on(tmp_path: Path) -> None:
    root = tmp_path / "in"
    picture(root / "a" / "0.png")
    assert not hide(root, tmp_path / "out").warned
    picture(root / "b" / "0.png", mode="RGB")
    said = dict(hide(root, tmp_path / "out").warned)["."]
    assert "0 files in grey and 1 file in colour, beside those of earlier runs" in said


def test_a_hidden_run_keeps_the_form_that_most_have_and_says_what_is_left_out(tmp_path: Path) -> None:
    root = mixed(tmp_path / "in")
    picture(root / "a" / "9.png", 30, mode="RGB")
    picture(root / "b" / "9.png", 31)
    picture(root / "b" / "8.png", 32)
    hide(root, tmp_path / "out")
    source = open_source(DataConfig(source="hidden", path=str(tmp_path / "out")))
    assert (len(source), source.channels, source.classes) == (6, 1, ("a", "b"))
    said = next(each for each in source.remarks if "hidden otherwise" in each)
    assert said.startswith("5 of 11 files are hidden otherwise than most and left out")
    assert "--channels 3" in said
    assert {each.reason for each in source.skipped} == {"is hidden otherwise than the others"}
    asked = open_source(DataConfig(source="hidden", path=str(tmp_path / "out"), channels=3))
    assert (len(asked), asked.channels) == (5, 3)


def test_a_class_is_not_lost_because_it_was_hidden_otherwise(tmp_path: Path) -> None:
    hide(mixed(tmp_path / "in"), tmp_path / "out")
    with pytest.raises(DataError, match=r"all images of '[ab]' are hidden otherwise than most.*--channels 3"):
        open_source(DataConfig(source="hidden", path=str(tmp_path / "out")))


@pytest.mark.parametrize("name", ["grey_rgb_mix", "grey_rgb_half"])
def test_case_grey_rgb(tmp_path: Path, name: str) -> None:
    source = open_images(case(name))
    assert (source.channels, len(source)) == (3, 16)
    assert any("are grey and" in each for each in source.remarks)
    said = dict(hide(case(name), tmp_path / "out").warned)["."]
    assert "grey and colour images are mixed" in said
    again = hide(case(name), tmp_path / "out3", channels=3)
    assert "." not in dict(again.warned)
    assert len(open_source(DataConfig(source="hidden", path=str(tmp_path / "out3")))) == 16


# -- names -----------------------------------------------------------------------------------------------------------


def test_names_with_escapes_never_leave_this_door_raw(tmp_path: Path) -> None:
    for name in ("a/x\x1b[2J.png", "a/line\nbreak.png", "a/\x9b31m.png"):
        (tmp_path / "in" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"no image")
    picture(tmp_path / "in" / "a" / "0.png")
    picture(tmp_path / "in" / "b" / "0.png", mode="RGB")
    source = open_images(tmp_path / "in")
    for number in range(len(source)):
        try:
            source.read(number)
        except MedVeilError as error:
            assert str(error).isprintable()
    assert all(each.isprintable() for each in (*source.said, *source.warnings))
    result = hide(tmp_path / "in", tmp_path / "out")
    assert all(text.isprintable() for _, text in (*result.failed, *result.warned))


def test_the_last_header_is_kept_and_no_other(tmp_path: Path) -> None:
    one, two = picture(tmp_path / "1.png"), picture(tmp_path / "2.png")
    kept = LastOpened()
    first = kept.open(one)
    assert kept.open(one) is first
    assert kept.open(two) is not first
    assert kept.open(one) is not first
