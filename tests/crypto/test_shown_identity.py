"""`medveil-crypto show` says whether the identity in a hidden file was removed, is sealed in it, or was kept."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from crypto.cli import main
from crypto.config import CipherConfig
from crypto.files.recipe import Recipe
from crypto.files.registry import kind_of
from crypto.keyring import Keyring
from crypto.keys import SiteKey

KEY = SiteKey(bytes(range(32)), "mercy")


def hide(source: Path, target: Path, **how: object) -> Path:
    recipe = Recipe(purpose="archive", cipher=CipherConfig(block=8), **how)  # type: ignore[arg-type]
    kind = kind_of(source)
    assert kind is not None
    kind.hide(source, target, recipe, KEY)
    return target


@pytest.fixture(scope="module")
def scan() -> Path:
    found = get_testdata_file("CT_small.dcm")
    assert isinstance(found, str)
    return Path(found)


def shown(file: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str | None]:
    assert main(["show", str(file)]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert main(["show", str(file), "--json"]) == 0
    return lines.get("identity", ""), json.loads(capsys.readouterr().out)["identity"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, "removed for good"),
        ({"identity": "sealed"}, "sealed in the file under its key"),
        ({"identity": "kept"}, "kept in the clear: whoever has the file reads who was imaged"),
        ({"keep": ("PatientSex",)}, "removed for good, but for PatientSex, which --keep left in the clear"),
        (
            {"identity": "sealed", "keep": ("PatientSex", "PatientAge")},
            "sealed in the file under its key, but for PatientAge, PatientSex, which --keep left in the clear",
        ),
    ],
)
def test_a_hidden_dicom_file_says_what_became_of_its_identity(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: dict[str, object], said: str
) -> None:
    hidden, word = hide(scan, tmp_path / "hidden.dcm", **how), str(how.get("identity", "removed"))
    assert shown(hidden, capsys) == (said, word)
    found, original = pydicom.dcmread(hidden), pydicom.dcmread(scan)
    assert (found.PatientID == original.PatientID) == (word == "kept")
    # What is shown again says it of itself only where it holds for it.
    kind = kind_of(hidden)
    assert kind is not None
    kind.show(hidden, tmp_path / "shown.dcm", Keyring(KEY))
    again = pydicom.dcmread(tmp_path / "shown.dcm")
    assert (again.PatientID == original.PatientID) == (word != "removed")
    assert ("sealed in this file" in str(again.get("DeidentificationMethod", ""))) is False


def test_a_hidden_file_of_an_earlier_medveil_is_not_guessed_at(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = hide(scan, tmp_path / "hidden.dcm", identity="sealed")
    found = pydicom.dcmread(hidden)
    found.DeidentificationMethod = list(found.DeidentificationMethod)[:-1]
    found.save_as(hidden)
    said, word = shown(hidden, capsys)
    assert word == "unsaid"
    assert "a file of an earlier MedVeil does not say" in said


def test_a_picture_has_no_attribute_to_speak_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (16, 16), 7).save(tmp_path / "a.png")
    assert shown(hide(tmp_path / "a.png", tmp_path / "h.png"), capsys) == ("", None)
