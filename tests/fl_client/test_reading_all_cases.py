"""Every folder of ../shared/cases/images through every door: training, hiding, the archive and back, and `predict`.

Each file is an image to all of them, with the same pixels, or to none, in the same words. What is right for a folder
(how many images, what is refused or told) stands in `RIGHT`, by the README there; right pixels are compared with
formulas and dcmtk in `test_reading_dicom_cases` and the tests of rasters.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from crypto.config import CipherConfig
from crypto.files.hiding import nonces_of
from crypto.files.recipe import Recipe
from crypto.files.registry import kind_of
from crypto.imaging import preprocess
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.reading.look import look, open_image
from crypto.tree.paths import MANIFEST, REPORT
from crypto.tree.plan import Plan
from crypto.tree.run import run_tree
from crypto.tree.workers import Alone
from fl_client.data.config import DataConfig
from fl_client.data.items import Skipped, said
from fl_client.data.source import Source, open_source
from fl_client.export.images import Reader
from fl_client.export.ready import Ready, from_folder, no_keys
from medveil.errors import DataError

CASES = Path(__file__).parents[3] / "shared" / "cases" / "images"
SIDE = 32
KEY = SiteKey(bytes(range(32)), "mercy")
RING = Keyring(KEY)
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases/images is not here"),
]
Seen = dict[str, np.ndarray | str]
"""By the name of an image, (C, SIDE, SIDE), or the words of its refusal."""


class Right(NamedTuple):
    """What is right for a folder: how many images are read, and how the words begin for how many files that are not.

    `told` are parts of what the source tells before anything is trained; `opens` is how it is refused as a whole.
    `junk` is left by systems and viewers: passed over, and told by `medveil-crypto` alone.
    """

    read: int
    refused: dict[str, int] = {}  # noqa: RUF012 - of a tuple, never changed
    told: tuple[str, ...] = ()
    opens: str = ""
    junk: int = 0


LARGE = "is an image of "
NO_NUMBER = "is no number; write "
HIGH_BITS = "its samples of 12 bits end at bit 15 of 16-bit words; shift them down to bit 11, or correct HighBit"
OTHERS = ("npz_int8", "npz_normalised", "npz_uint16_8bit", "pid_same_for_all", "pid_two")
"""No files of images; and the files of pid_leading_space under other PatientIDs, which no pixel knows of."""
TREES = ("dicomdir", "grey_rgb_mix", "mac_windows_junk", "mixed_objects", "tiff_pages")
TABLE = {"not an image": 1}
JUNK = "is left by a system or a viewer"
RIGHT: dict[str, Right] = {
    **dict.fromkeys(
        [
            *("bits_stored_too_small", "modality_lut_12", "mono2_plut_inverse", "nm_sparse_no_window"),
            *("no_header_implicit", "no_preamble_but_meta", "numberofframes_float", "padding_us_signed", "padding_vm2"),
            *("palette8_padded_words", "photometric_leading_space", "rescale_empty", "rescale_negative"),
            *("rescale_slope_empty", "rescale_zero", "rgb_png_window", "rows_vm2", "tiff16_white_is_zero"),
            *("tiff_palette_8bit_values", "voi_function_unknown", "voilut_8_packed", "voilut_8_us"),
            *("voilut_empty_item", "window_first_empty", "window_sigmoid", "window_width_tiny", "ybr_archive"),
        ],
        Right(1),
    ),
    **dict.fromkeys(["pid_leading_space", "pid_same_for_all", "pid_two", "set_plut_inverse"], Right(16)),
    **dict.fromkeys(["csv_backslash", "csv_semicolon", "csv_spaces", "csv_utf16"], Right(16, TABLE)),
    "bomb": Right(12, {"is an image of 60000 x 60000 pixels": 1}),
    "charset_nul": Right(0, {"its SpecificCharacterSet (0008,0005) is not the name of a character set": 1}),
    "claims_large": Right(0, {LARGE: 2, "its 1212 bytes of compressed pixels cannot hold": 1}),
    "class_empty": Right(16),
    "class_of_one": Right(17, told=("class 'rare' has one image only: it is never both learned from and tested on",)),
    "csv_case_labels": Right(16, TABLE, told=("labels 'NORMAL', 'normal' are taken for one class",)),
    "csv_int_and_float": Right(16, TABLE, told=("labels '1', '1.0' are taken for one class, '1'",)),
    "csv_latin1": Right(16, TABLE, opens="line 18 is no UTF-8 (byte 0xe9); save it as UTF-8"),
    "csv_multilabel": Right(16, TABLE, opens="6 images have several labels (line 2 says 'normal|other'); give each"),
    "csv_nan_label": Right(16, TABLE, opens="1 image has no label (line 17 says 'NaN'); label them or leave them out"),
    "csv_rare_class": Right(16, TABLE, told=("class 'rare' has one image only",)),
    "dicomdir": Right(12, junk=1),
    "grey_rgb_half": Right(16, told=("8 images are grey and 8 in colour: grey ones are repeated in 3 channels",)),
    "grey_rgb_mix": Right(16, told=("15 images are grey and 1 in colour",)),
    "highbit15_left_justified": Right(0, {HIGH_BITS: 1}),
    "kaggle_train_test_folders": Right(24, told=("the data set's own split is kept: 8 train, 8 validation, 8 test",)),
    "mac_windows_junk": Right(16, junk=5),
    "mixed_objects": Right(
        16,
        {
            "not an image": 3,
            "is a segmentation, which is refused": 2,
            "is a structured report, which is refused": 2,
            "is an RT": 2,
            "is a parametric map, which is refused": 1,
            "is a presentation state, which is refused": 1,
            "is a report stored as an image, which is refused": 1,
            "is a waveform or a curve, which is refused": 1,
            "is an encapsulated document (PDF, CDA or 3D model), which is refused": 1,
            "is the LABEL image of a whole slide, which is refused": 1,
        },
        junk=6,
    ),
    "npz_int8": Right(24, {"is of a sort that is not read": 1}),
    "npz_normalised": Right(24, {"is of a sort that is not read": 1}),
    "npz_uint16_8bit": Right(24, {"is of a sort that is not read": 1}),
    "rescale_comma": Right(0, {f"its RescaleSlope {NO_NUMBER}": 1}),
    "set_empty_rescale": Right(20),
    "set_highbit15": Right(0, {HIGH_BITS: 16}),
    "speed_enhanced": Right(600),
    "speed_scaling": Right(150),
    "tiff32u_large": Right(0, {"is a TIFF file of 32-bit samples; save it as": 1}),
    "tiff_pages": Right(60),
    "tree_no_preamble": Right(15),
    "window_comma": Right(0, {f"its WindowCenter {NO_NUMBER}": 1}),
    "window_text": Right(0, {f"its WindowCenter {NO_NUMBER}": 1}),
}
MANY = 100
"""Frames that take seconds at every door: how long is `make bench`'s affair."""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def model() -> Ready:
    """A model that reads plain images, small enough to be nothing but its description here."""
    return from_folder(Path(__file__).parent / "fixtures" / "exported-v3", no_keys)


def config_of(folder: Path) -> DataConfig:
    given: dict[str, Any] = {"image_size": SIDE, "min_side": 1}
    if (folder / "x.npz").is_file():
        return DataConfig(source="npz", path=str(folder / "x.npz"), **given)
    if (folder / "labels.csv").is_file():
        return DataConfig(source="images", path=str(folder), labels="labels.csv", **given)
    if len([each for each in folder.iterdir() if each.is_dir()]) == 1:
        given["classes"] = ["a", "b"]
    kinds = {look(path).kind for path in folder.rglob("*") if path.is_file()}
    if "dicom" in kinds:
        return DataConfig(source="dicom", path=str(folder), group_by="none", **given)
    return DataConfig(source="images", path=str(folder), **given)


def folder_of(name: str) -> Path:
    return CASES / name / "in150" if name == "speed_scaling" else CASES / name


def by_training(source: Source) -> Seen:
    """What training reads, by the name of a file and of its frame."""
    seen: Seen = {each.path: each.reason for each in source.skipped}
    for index, item in enumerate(source.items):
        try:
            seen[item.id] = source.read(index)
        except DataError as error:
            seen[item.id] = said(error)
    return seen


def by_steward(folder: Path, home: Path, channels: int) -> Seen:
    """What a folder hidden for training holds for who has the key."""
    # Names of patients are another room's affair, and take their time; of TIFF, metadata is never kept.
    identity = "kept" if next(folder.rglob("*.tif"), None) is None else "removed"
    cipher = CipherConfig(block=4)
    recipe = Recipe(purpose="training", cipher=cipher, size=SIDE, channels=channels, identity=identity)
    result = run_tree(Plan(source=folder, target=home / "hidden", recipe=recipe), RING, crew=Alone)
    seen: Seen = dict(result.failed)
    seen |= _passed_over(home / "hidden")
    for path, name in _files(home / "hidden"):
        kind = kind_of(path)
        assert kind is not None
        header = kind.header(path)
        assert header.preparation == preprocess.VERSION
        opener = header.cipher(KEY)
        for frame in range(header.frames):
            each = name if header.frames == 1 else f"{name}#{frame}"
            seen[each] = opener.decrypt(kind.ciphertext(path, frame), nonces_of(header, frame))
    return seen


def by_predict(folder: Path, model: Ready, channels: int) -> Seen:
    """What a model that reads plain images is asked about."""
    made = {"channels": channels, "image_size": SIDE, "padded_size": SIDE, "min_side": 1, "window": None}
    described = replace(model.described, preparation=preprocess.VERSION, **made)
    seen: Seen = {}
    for each in Reader(replace(model, described=described)).read(folder):
        if isinstance(each, Skipped):
            seen[each.path] = each.reason
        else:
            seen[each.id] = each.views[0].astype(np.uint8)
    return seen


def _passed_over(tree: Path) -> Seen:
    document = json.loads((tree / REPORT).read_text())
    return {each["file"]: each["what"] for each in document["skipped"]}


def _files(tree: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(tree.rglob("*")):
        name = path.relative_to(tree).as_posix()
        if path.is_file() and name not in {MANIFEST, REPORT}:
            yield path, name


def refusals(seen: Seen) -> dict[str, str]:
    return {name: words for name, words in seen.items() if isinstance(words, str)}


def counted(right: Right, words: dict[str, str]) -> dict[str, int]:
    """How many refusals begin as the right ones do; what begins otherwise stands as it is."""
    found: Counter[str] = Counter()
    for each in words.values():
        found[next((begins for begins in right.refused if each.startswith(begins)), each)] += 1
    return dict(found)


def assert_alike(one: Seen, other: Seen) -> None:
    """The same images, to the pixel, and no word that another door would not say of a file."""
    assert {name for name in one if not isinstance(one[name], str)} == {
        name for name in other if not isinstance(other[name], str)
    }
    for name in one.keys() & other.keys():
        mine, yours = one[name], other[name]
        if isinstance(mine, str):
            # Of a label, which no other door asks for.
            assert mine in (yours, "not inside a class folder"), name
        else:
            np.testing.assert_array_equal(mine, yours, err_msg=name)


def test_every_folder_has_its_right_values() -> None:
    assert {each.name for each in CASES.iterdir() if each.is_dir()} == set(RIGHT)


@pytest.mark.parametrize("name", [name for name in RIGHT if RIGHT[name].read < MANY and name not in OTHERS])
def test_all_doors_see_the_same_and_the_right(name: str, tmp_path: Path, model: Ready) -> None:
    folder, right = folder_of(name), RIGHT[name]
    if right.opens:
        with pytest.raises(DataError, match=re.escape(right.opens)):
            open_source(config_of(folder))
    learned, channels = learned_of(folder)
    asked = by_predict(folder, model, channels)
    assert counted(right, refusals(asked)) == right.refused
    assert len(asked) - len(refusals(asked)) == right.read
    if not right.opens and right.read:
        source = open_source(config_of(folder))
        assert all(any(part in each for each in source.remarks) for part in right.told), source.remarks
        assert_alike(learned, asked)
    hidden = by_steward(folder, tmp_path, channels)
    assert sum(isinstance(seen, str) and seen == JUNK for seen in hidden.values()) == right.junk
    assert_alike({each: seen for each, seen in hidden.items() if not isinstance(seen, str) or seen != JUNK}, asked)


def learned_of(folder: Path) -> tuple[Seen, int]:
    """What training reads, and its channels; nothing of a folder that it refuses."""
    try:
        source = open_source(config_of(folder))
    except DataError:
        return {}, 1
    return by_training(source), source.channels


def test_what_goes_into_an_archive_comes_back(tmp_path: Path) -> None:
    names = [name for name in RIGHT if RIGHT[name].read == 1 or name in TREES]
    for name in names:
        shutil.copytree(folder_of(name), tmp_path / "plain" / name)
    recipe = Recipe(purpose="archive", cipher=CipherConfig(block=4), identity="sealed")
    run_tree(Plan(source=tmp_path / "plain", target=tmp_path / "hidden", recipe=recipe), RING, crew=Alone)
    assert run_tree(Plan(source=tmp_path / "hidden", target=tmp_path / "shown"), RING, crew=Alone).failed == []
    shown = Counter(file.partition("/")[0] for _, file in _files(tmp_path / "shown"))
    assert shown == {name: RIGHT[name].read // (5 if name == "tiff_pages" else 1) for name in names}
    for path, file in _files(tmp_path / "shown"):
        before, after = open_image(tmp_path / "plain" / file), open_image(path)
        for frame in range(before.about.frames):
            np.testing.assert_array_equal(before.stored(frame), after.stored(frame), err_msg=file)


@pytest.mark.parametrize("name", [name for name in RIGHT if name.startswith("npz")])
def test_an_npz_file_is_for_training_and_named_elsewhere(name: str, tmp_path: Path, model: Ready) -> None:
    source = open_source(config_of(folder_of(name)))
    assert len(by_training(source)) == len(source) == RIGHT[name].read
    assert len(source.said) == 1
    hidden, asked = by_steward(folder_of(name), tmp_path, 1), by_predict(folder_of(name), model, 1)
    assert hidden == asked
    assert counted(RIGHT[name], refusals(asked)) == RIGHT[name].refused


@pytest.mark.parametrize("name", [name for name in RIGHT if RIGHT[name].read > MANY])
def test_many_frames_are_images_each(name: str) -> None:
    source = open_source(config_of(folder_of(name)))
    assert len(source) == RIGHT[name].read
    assert np.ptp(source.read(0)) > 0
    assert np.ptp(source.read(len(source) - 1)) > 0
