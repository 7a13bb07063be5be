"""Refusals of tables and npz files that named no cure, or that were none: two classes of one name were one."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fl_client.data.config import DataConfig
from fl_client.data.source import open_source
from medveil.errors import DataError

IMAGES, LABELS = np.arange(4 * 16 * 16, dtype=np.uint8).reshape(4, 16, 16), np.array([0, 1, 0, 1])


def npz(path: Path) -> DataConfig:
    return DataConfig(source="npz", path=str(path))


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, images=IMAGES, labels=LABELS, classes=np.array(["a", "a"]))
    with pytest.raises(DataError, match="names the class 'a' twice; give each class its own name"):
        open_source(npz(path))


def test_numbers_that_are_none_are_refused_with_a_cure(tmp_path: Path) -> None:
    path, images = tmp_path / "x.npz", IMAGES.astype(np.float32)
    images[0, 0, 0] = np.nan
    np.savez(path, images=images, labels=LABELS)
    with pytest.raises(DataError, match=r"values that are not finite \(NaN or infinity\); write numbers"):
        open_source(npz(path)).read(0)


def test_a_header_that_is_code_is_named_and_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    text = "{'descr': '|u1', 'fortran_order': False, 'shape': (__import__('os').getpid(),), }".ljust(117) + "\n"
    head = b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", head + bytes(64))
        archive.writestr("labels.npy", head + bytes(64))
    with pytest.raises(DataError, match="cannot be read as npz: the header of an array is damaged; write it anew"):
        open_source(npz(path))


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("path,label\n0.png,a\n1.png,\n", "line 3 has no label; write it, or leave the row out"),
        ("path,label\n", "names no files; write one row an image"),
        ('path,label\n0.png,"a\n1.png,b\n', "a quote is never closed; close each quote"),
        ("path,label\n" + "x" * 200_000 + ",a\n", "cannot be read as CSV: .*; close each quote, and keep cells short"),
    ],
)
def test_a_table_is_refused_with_a_cure(tmp_path: Path, table: str, says: str) -> None:
    for number in range(2):
        Image.fromarray(IMAGES[number]).save(tmp_path / f"{number}.png")
    (tmp_path / "l.csv").write_text(table)
    with pytest.raises(DataError, match=says):
        open_source(DataConfig(source="images", path=str(tmp_path), labels="l.csv"))
