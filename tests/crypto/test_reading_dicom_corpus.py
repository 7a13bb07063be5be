"""Every file in pydicom's wheel: both doors show the same pixels, or refuse in the same words."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from both_doors import SIDE, both

from crypto.reading.dicom_head import HEAD_BYTES, is_dicom

HOME = Path(pydicom.data.__file__).parent
FILES = sorted(
    path
    for folder in ("test_files", "charset_files", "palettes")
    for path in (HOME / folder).rglob("*")
    if path.is_file() and is_dicom(path.read_bytes()[:HEAD_BYTES]) and path.stat().st_size < 700_000
)
READ, REFUSED = 90, 101
"""How many of the files each happens to; a change of pydicom's wheel changes them."""
OURS = ("Error", "Exception", "Traceback", "NoneType")
pytestmark = pytest.mark.filterwarnings("ignore")


def test_both_doors_agree_on_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    read, refused = 0, 0
    for path in FILES:
        with caplog.at_level(logging.DEBUG):
            seen = both(path, tmp_path)
        assert [each for each in caplog.records if each.name.startswith("pydicom")] == [], "it quotes values"
        if isinstance(seen, str):
            refused += 1
            assert "\n" not in seen
            assert not any(word in seen for word in OURS), (path.name, seen)
        else:
            read += 1
            assert seen.dtype == np.uint8, path.name
            assert seen.shape[1:3] == (SIDE, SIDE), path.name
    assert (read, refused) == (READ, REFUSED)
