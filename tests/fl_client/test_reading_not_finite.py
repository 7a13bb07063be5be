"""NaN and infinity in an npz file: told once, with the cure, and refused where a class goes with it."""

from __future__ import annotations

import errno
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_client.data.config import DataConfig
from fl_client.data.items import by_reason
from fl_client.data.source import Source, open_source
from medveil.errors import DataError, StorageError
from medveil.npz import load_arrays

N = 4000
LABELS = np.arange(N) % 2
CURE = "write numbers in their place, with numpy.nan_to_num for one, or leave the image out"


def images(bad: np.ndarray, value: float, dtype: Any = np.float32) -> np.ndarray:
    made = np.linspace(0, 1, N * 64).reshape(N, 8, 8).astype(dtype)
    made[bad, 3, 3] = value
    return made


def source_of(folder: Path, pixels: np.ndarray, **given: Any) -> Source:
    np.savez(folder / "x.npz", images=pixels, labels=LABELS)
    return open_source(DataConfig(source="npz", path=str(folder / "x.npz"), min_side=1, **given))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_some_are_told_of_in_one_line_and_the_others_are_read(tmp_path: Path, value: float, dtype: str) -> None:
    source = source_of(tmp_path, images(np.arange(0, N, 3), value, dtype))
    (told,) = [each for each in source.remarks if "not finite" in each]
    bad = -(-N // 3)
    assert told.startswith(f"{bad} of {N} images hold values that are not finite (NaN or infinity) and are left out: ")
    assert f"'images/0', 'images/3', 'images/6' and {bad - 3} more; {CURE}" in told
    assert source.read(1).max() < 255
    with pytest.raises(DataError, match=r"images/3: holds values that are not finite \(NaN or infinity\); write"):
        source.read(3)


@pytest.mark.parametrize("window", [None, [0.5, 1.0]])
def test_all_or_a_whole_class_are_refused_at_once(tmp_path: Path, window: list[float] | None) -> None:
    with pytest.raises(DataError, match=rf"{N} of {N} images hold values .* with numpy\.nan_to_num") as refused:
        source_of(tmp_path, images(np.arange(N), np.nan), window=window)
    assert len(str(refused.value)) < 400
    with pytest.raises(DataError, match=rf"{N // 2} of {N} images .*: all of class '1'; write"):
        source_of(tmp_path, images(np.flatnonzero(LABELS == 1), np.nan), window=window)


def test_an_image_that_is_not_taken_is_not_told_of(tmp_path: Path) -> None:
    taken = {item.id for item in source_of(tmp_path, images(np.array([], int), 0), limit=10).items}
    left = next(i for i in range(N) if f"images/{i}" not in taken)
    source = source_of(tmp_path, images(np.array([left]), np.nan), limit=10)
    assert {item.id for item in source.items} == taken
    assert not any("not finite" in each for each in source.remarks)


def test_thousands_of_files_left_out_are_a_few_words() -> None:
    assert by_reason([(f"a/{i}\x1b[31m", "is cut\n") for i in range(5000)]) == [
        r"a/0\x1b[31m, a/1\x1b[31m, a/2\x1b[31m and 4997 more (is cut\n)"
    ]
    many = by_reason([(str(i), f"reason {i % 7}") for i in range(21)])
    assert many[0] == "0, 7, 14 (reason 0)"
    assert many[-1] == "6 more for other reasons"
    assert by_reason([]) == []


# -- files made to break what reads them ------------------------------------------------------------------------------


def with_header(path: Path, text: bytes) -> Path:
    body = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", body)
    return path


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4, 4\n",
        b"{'descr': '<f4', 'shape': (1L,\n",
        b"'''",
        b"((((1L",
        b"\\\n1L",
    ],
)
def test_a_header_that_breaks_off_is_an_error_of_ours(tmp_path: Path, header: bytes) -> None:
    """Numpy takes headers apart by Python's tokens, and lets out what that raises."""
    with pytest.raises(DataError, match="cannot be read as npz: ") as refused:
        load_arrays(with_header(tmp_path / "x.npz", header))
    assert "EOF" not in str(refused.value)


def test_packed_data_that_is_damaged_is_said_in_words(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", images=np.arange(4096))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[60:120] = bytes([0x55]) * 60
    (tmp_path / "x.npz").write_bytes(bytes(data))
    with pytest.raises(DataError, match="what is packed in it is damaged; write it anew"):
        load_arrays(tmp_path / "x.npz")


@pytest.mark.parametrize("order", "<>")
def test_letters_that_are_none_are_refused(tmp_path: Path, order: str) -> None:
    names = np.frombuffer(np.array([97, 98, 0x110000, 99], f"{order}u4").tobytes(), dtype=f"{order}U2")
    np.savez(tmp_path / "x.npz", images=images(np.array([], int), 0), labels=LABELS, classes=names)
    with pytest.raises(DataError, match="its 'classes' is no text; write it anew"):
        open_source(DataConfig(source="npz", path=str(tmp_path / "x.npz"), min_side=1))


def test_records_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=np.zeros(3, dtype=[("a", "<U2")]))
    with pytest.raises(DataError, match="its 'images' holds records, which are not read; an array a field"):
        load_arrays(tmp_path / "x.npz")


def test_a_directory_that_points_before_the_file_is_said_in_words(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=np.arange(4096))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    directory, end = data.rindex(b"PK\1\2"), data.rindex(b"PK\5\6")
    # It says that it began later than it does: what was packed then lies before the file.
    data[end + 16 : end + 20] = (directory + 200).to_bytes(4, "little")
    (tmp_path / "x.npz").write_bytes(bytes(data))
    with pytest.raises(DataError, match="cannot be read as npz: its directory is damaged; write it anew"):
        load_arrays(tmp_path / "x.npz")


def test_an_npz_that_the_disk_refuses_is_no_damaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "x.npz", images=np.arange(4))

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(zipfile.ZipFile, "__init__", refuse)
    with pytest.raises(StorageError, match="cannot read the file: input/output error"):
        load_arrays(tmp_path / "x.npz")
