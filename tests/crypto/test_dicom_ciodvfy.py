"""Hidden and shown files have no error in dciodvfy's eyes that their source had not, nor would have if decompressed.

A JPEG of YCbCr is shown again in the colours that it holds, which native pixels call YBR_FULL: dciodvfy knows no such
native ultrasound image. What it says of the source as pydicom decompresses it is said of that class, not of our file.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pydicom
import pydicom.data
import pytest

from crypto.config import CipherConfig
from crypto.dicom.kind import DICOM
from crypto.files.recipe import Recipe
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from medveil.errors import DataError

UNPACKED = Path(__file__).resolve().parents[2] / "build/tools/usr/bin/dciodvfy"
DCIODVFY = str(UNPACKED) if UNPACKED.exists() else shutil.which("dciodvfy")
EXTRA = os.environ.get("MEDVEIL_DICOM_FILES")
"""A folder of further DICOM files to ask about."""
KINDS = [
    ("archive", "kept", "block-pixel"),
    ("archive", "removed", "block-pixel"),
    ("archive", "sealed", "aes-ctr"),
    ("training", "removed", "block-pixel"),
]
pytestmark = [
    pytest.mark.skipif(DCIODVFY is None, reason="dciodvfy is not here: make tools unpacks it"),
    pytest.mark.filterwarnings("ignore"),
]


def sources() -> list[Path]:
    home = Path(pydicom.data.__file__).parent
    paths = [path for folder in (home, Path(EXTRA) if EXTRA else home) for path in folder.rglob("*")]
    return sorted({path for path in paths if path.is_file() and DICOM.recognises(path.read_bytes()[:132])})


def errors_of(path: Path) -> Counter[str]:
    """Its errors, with UIDs left out: de-identification changes those that are wrong already."""
    done = subprocess.run([str(DCIODVFY), str(path)], capture_output=True, check=False)
    lines = (done.stdout + done.stderr).decode("latin-1").splitlines()
    return Counter(re.sub(r"<[0-9.]+>", "<UID>", line) for line in lines if line.startswith("Error"))


@functools.cache
def errors_before(path: Path) -> Counter[str]:
    """The errors of a source, asked for once."""
    return errors_of(path)


def errors_decompressed(path: Path, folder: Path) -> Counter[str]:
    """The errors of a compressed source once another has decompressed it, its colours as they are."""
    source = pydicom.dcmread(path)
    if not source.file_meta.TransferSyntaxUID.is_encapsulated:
        return Counter()
    source.decompress(as_rgb=False, generate_instance_uid=False)
    if source.PhotometricInterpretation == "YBR_FULL_422":
        # Its decoder gives every pixel its own colour, which pydicom does not say (C.7.6.3.1.2).
        source.PhotometricInterpretation = "YBR_FULL"
    source.save_as(folder / "decompressed")
    return errors_of(folder / "decompressed")


def usable(path: Path, before: Counter[str]) -> bool:
    """Whether dciodvfy could judge the source at all: it reads it, and finds a SOP class in it."""
    unread = any("dataset read failed" in line for line in before)
    return not unread and "SOPClassUID" in pydicom.dcmread(path, stop_before_pixels=True)


@pytest.mark.parametrize(("purpose", "identity", "scheme"), KINDS)
def test_no_new_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, purpose: str, identity: str, scheme: str
) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    key = SiteKey(bytes(range(32)), "mercy")
    cipher = CipherConfig(scheme=scheme, block=16, negate=scheme == "block-pixel")
    size = 64 if purpose == "training" else None
    recipe = Recipe(purpose=purpose, cipher=cipher, size=size, identity=identity)
    compared = 0
    new: dict[str, Counter[str]] = {}
    of_the_class: set[str] = set()
    for source in sources():
        hidden, shown = tmp_path / "hidden", tmp_path / "shown"
        try:
            DICOM.hide(source, hidden, recipe, key)
        except DataError:
            continue
        before = errors_before(source)
        if not usable(source, before):
            continue
        DICOM.show(hidden, shown, Keyring(key))
        for made in (hidden, shown):
            compared += 1
            found = errors_of(made) - before
            if found and made is shown:
                decompressed = errors_decompressed(source, tmp_path)
                of_the_class |= {source.name} if found & decompressed else set()
                found -= decompressed
            if found:
                new[f"{source.name} {made.name}"] = found
    print(f"dciodvfy: {compared} files compared, {len(new)} with new errors")
    assert compared > 170
    assert not new
    assert EXTRA or of_the_class <= {"examples_ybr_color.dcm"}
