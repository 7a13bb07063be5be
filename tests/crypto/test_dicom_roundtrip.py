"""Every file in pydicom's wheel, the broken ones included: hidden and shown bit for bit, or refused in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.data
import pytest

from crypto.config import CipherConfig
from crypto.dicom.kind import DICOM
from crypto.files.recipe import Recipe
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from medveil.errors import DataError

HOME = Path(pydicom.data.__file__).parent
FILES = sorted(
    path
    for folder in ("test_files", "charset_files", "palettes")
    for path in (HOME / folder).rglob("*")
    if path.is_file() and path.suffix not in {".py", ".pyc"}
)
HIDDEN, REFUSED = 92, 111
"""How many of the 203 files each happens to; a change of pydicom's wheel changes them."""
REFUSALS_OF_GOOD_PIXELS = ("32-bit samples", "a segmentation", "an RT dose")
pytestmark = pytest.mark.filterwarnings("ignore")


def elements(dataset: pydicom.Dataset) -> Iterator[pydicom.DataElement]:
    """Every element that an archive must give back."""
    for element in dataset:
        if element.tag not in {0x7FE00010, 0xFFFCFFFC} and element.tag.element != 0:
            yield element


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path | DataError]:
    """Each file to its shown form, or to why it was refused."""
    home = tmp_path_factory.mktemp("pydicom")
    key = SiteKey(bytes(range(32)), "mercy")
    recipe = Recipe(purpose="archive", cipher=CipherConfig(block=4, negate=True), identity="kept")
    made: dict[Path, Path | DataError] = {}
    for index, path in enumerate(FILES):
        hidden, shown = home / f"{index}.hidden", home / f"{index}.shown"
        try:
            report = DICOM.hide(path, hidden, recipe, key)
        except DataError as error:
            made[path] = error
            assert not hidden.exists()
            continue
        assert set(report.seconds) == {"read", "decode", "deidentify", "encrypt", "authenticate", "write"}
        DICOM.verify(hidden, Keyring(key))
        DICOM.show(hidden, shown, Keyring(key))
        made[path] = shown
    assert not list(home.glob(".*"))
    return made


def test_counts(outcomes: dict[Path, Path | DataError]) -> None:
    refused = [each for each in outcomes.values() if isinstance(each, DataError)]
    assert (len(FILES) - len(refused), len(refused)) == (HIDDEN, REFUSED)


def test_pixels_are_bit_exact(outcomes: dict[Path, Path | DataError]) -> None:
    for path, shown in outcomes.items():
        if isinstance(shown, DataError):
            continue
        before, after = pydicom.dcmread(path).pixel_array, pydicom.dcmread(shown).pixel_array
        assert before.shape == after.shape, path
        assert before.dtype.newbyteorder("=") == after.dtype.newbyteorder("="), path
        assert np.array_equal(before, after), path


def test_attributes_come_back(outcomes: dict[Path, Path | DataError]) -> None:
    decoded = {"PhotometricInterpretation", "PlanarConfiguration", "IconImageSequence"}
    for path, shown in outcomes.items():
        if isinstance(shown, DataError):
            continue
        before, after = pydicom.dcmread(path), pydicom.dcmread(shown)
        for element in elements(before):
            if element.keyword not in decoded:
                assert after[element.tag].value == element.value, (path, element.tag)


def test_refusals_are_one_line_and_only_of_what_cannot_be_hidden(outcomes: dict[Path, Path | DataError]) -> None:
    for path, error in outcomes.items():
        if not isinstance(error, DataError):
            continue
        assert "\n" not in str(error)
        assert error.where == str(path)
        if any(good in error.problem for good in REFUSALS_OF_GOOD_PIXELS):
            continue
        with pytest.raises(Exception):  # noqa: B017 - pydicom raises many types for what it cannot read
            _ = pydicom.dcmread(path).pixel_array


@pytest.mark.parametrize("identity", ["removed", "sealed"])
@pytest.mark.parametrize("purpose", ["archive", "training"])
@pytest.mark.parametrize(
    "name",
    ["CT_small.dcm", "examples_palette.dcm", "MR_small_bigendian.dcm", "SC_rgb_rle_16bit_2frame.dcm", "image_dfl.dcm"],
)
@pytest.mark.usefixtures("stand_in")
def test_identities(steward: Any, identity: str, purpose: str, name: str) -> None:
    path = HOME / "test_files" / name
    hidden = steward.hide(path, purpose, identity=identity)
    original, public = pydicom.dcmread(path), pydicom.dcmread(hidden)
    private = pydicom.dcmread(steward.show(hidden))
    if "PatientID" not in original:
        assert steward.report.replaced == []
        return
    assert steward.report.replaced == ["PatientID"]
    assert public.PatientID == "pseudonym"
    assert "PatientName" not in public
    expected = ("pseudonym", None) if identity == "removed" else (original.PatientID, original.get("PatientName"))
    assert (private.PatientID, private.get("PatientName")) == expected
