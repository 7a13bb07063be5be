"""Files of arrays made to break who reads them."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fl_client.data.config import DataConfig
from fl_client.data.npz import NpzSource
from medveil import npz
from medveil.errors import DataError
from medveil.npz import load_arrays


def npy(array: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.save(made, array, allow_pickle=True)
    return made.getvalue()


def header(shape: tuple[int, ...], descr: str = "|u1", fortran: bool = False) -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


IMAGES, LABELS = npy(np.zeros((6, 16, 16), np.uint8)), npy(np.arange(6) % 2)


def packed(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def encrypted(path: Path) -> Path:
    packed(path, ("images.npy", IMAGES), ("labels.npy", LABELS))
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = 0
        while (start := data.find(mark, start)) >= 0:
            data[start + at] |= 1
            start += 4
    path.write_bytes(bytes(data))
    return path


def twice(path: Path) -> Path:
    with pytest.warns(UserWarning, match="Duplicate"):
        return packed(path, ("images.npy", IMAGES), ("images.npy", IMAGES), ("labels.npy", LABELS))


def cut(path: Path) -> Path:
    packed(path, ("images.npy", IMAGES), ("labels.npy", LABELS))
    path.write_bytes(path.read_bytes()[:-40])
    return path


def flipped(path: Path) -> Path:
    packed(path, ("images.npy", IMAGES), ("labels.npy", LABELS), method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    path.write_bytes(bytes(data))
    return path


def lying(path: Path) -> Path:
    """The archive's own sizes are changed to a terabyte, as the array claims."""
    packed(path, ("images.npy", header((10**12,)) + b"x" * 50), ("labels.npy", LABELS), method=zipfile.ZIP_STORED)
    return path


def piped(path: Path) -> Path:
    os.mkfifo(path)
    return path


def one(name: str, data: bytes, **options: int) -> Callable[[Path], Path]:
    return lambda path: packed(path, (name, data), ("labels.npy", LABELS), **options)


HOSTILE: dict[str, Callable[[Path], Path]] = {
    "encrypted": encrypted,
    "twice": twice,
    "cut": cut,
    "flipped": flipped,
    "claims a terabyte": lying,
    "a pipe": piped,
    "a folder": lambda path: path.mkdir() or path,  # type: ignore[func-returns-value]
    "empty": lambda path: (path.write_bytes(b"") and path) or path,
    "no zip": lambda path: path.write_bytes(b"x" * 100) and path,
    "an empty zip": packed,
    "objects": one("images.npy", npy(np.array([{}, []], dtype=object))),
    "overflowing shape": one("images.npy", header((2**62, 2**62)) + b"x"),
    "negative shape": one("images.npy", header((-1, 16, 16)) + b"x"),
    "a float shape": one("images.npy", header((1.5,))),  # type: ignore[arg-type]
    "an endless header": one("images.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"x" * 100),
    "a nested header": one("images.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 60000) + b"(" * 60000),
    "version 9": one("images.npy", b"\x93NUMPY\x09\x00" + b"x" * 100),
    "no array": one("images.npy", b"hello"),
    "nothing in it": one("images.npy", b""),
    "bzip2": one("images.npy", IMAGES, method=zipfile.ZIP_BZIP2),
    "lzma": one("images.npy", IMAGES, method=zipfile.ZIP_LZMA),
    "a zip in it": one("images.npy", b"PK\x05\x06" + bytes(18)),
    "a path": one("../images.npy", IMAGES),
    "an absolute path": one("/images.npy", IMAGES),
    "many": lambda path: packed(path, *((f"a{number}.npy", b"") for number in range(1000))),
    "more than it says": one("images.npy", header((2, 16, 16)) + bytes(5000)),
    "less than it says": one("images.npy", header((2, 16, 16)) + bytes(100)),
    "no dimension": one("images.npy", npy(np.array(3))),
    "five dimensions": one("images.npy", npy(np.zeros((6, 1, 1, 1, 1)))),
    "no image": one("images.npy", npy(np.zeros((0, 16, 16), np.uint8))),
    "no pixel": one("images.npy", npy(np.zeros((6, 0, 0), np.uint8))),
    "complex": one("images.npy", npy(np.zeros((6, 16, 16), complex))),
    "a record": one("images.npy", npy(np.zeros((6, 16, 16), [("a", "u1")]))),
    "dates": one("images.npy", npy(np.zeros((6, 16, 16), "M8[s]"))),
    "a huge label": lambda path: packed(path, ("images.npy", IMAGES), ("labels.npy", npy(np.arange(6) * 10**15))),
    "a negative label": lambda path: packed(path, ("images.npy", IMAGES), ("labels.npy", npy(np.arange(6) - 3))),
    "labels of floats": lambda path: packed(path, ("images.npy", IMAGES), ("labels.npy", npy(np.arange(6.0)))),
    "labels of two rows": lambda path: packed(path, ("images.npy", IMAGES), ("labels.npy", npy(np.zeros((2, 6), int)))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_ends_with_an_error_of_ours_and_takes_no_memory(tmp_path: Path, name: str) -> None:
    path = HOSTILE[name](tmp_path / "images.npz")
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            NpzSource(DataConfig(source="npz", path=str(path)))
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 200 * 10**6
    path = packed(tmp_path / "a.npz", ("images.npy", header((size // 256, 16, 16)) + bytes(size // 256 * 256)))
    assert path.stat().st_size < 10**6
    monkeypatch.setattr(npz, "memory", lambda: 10**8)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"holds 0.2 GB of arrays, and this machine has 0.1 GB"):
            load_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_what_is_not_wanted_is_not_read(tmp_path: Path) -> None:
    path = packed(
        tmp_path / "a.npz",
        ("images.npy", IMAGES),
        ("labels.npy", LABELS),
        ("other.npy", npy(np.array([{}], dtype=object))),
        ("README.txt", b"x"),
        ("../../etc/passwd.npy", IMAGES),
    )
    assert len(NpzSource(DataConfig(source="npz", path=str(path)))) == 6


@pytest.mark.parametrize("saved", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path: Path, saved: Callable[..., None]) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.normal(size=(3, 4)),
        "b": np.asfortranarray(rng.integers(0, 9, (3, 4))),
        "c": np.array(["x", "yö"]),
        "d": np.array(5),
        "e": np.zeros((0, 3)),
    }
    saved(tmp_path / "a.npz", **arrays)
    found = load_arrays(tmp_path / "a.npz")
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    size = sum(each.nbytes for each in arrays.values())
    assert set(load_arrays(tmp_path / "a.npz", most=size)) == set(arrays)
    with pytest.raises(DataError, match="of arrays, and at most"):
        load_arrays(tmp_path / "a.npz", most=size - 1)


def test_pixels_that_are_not_finite_are_no_image(tmp_path: Path) -> None:
    images = np.ones((6, 16, 16), np.float32)
    images[2, 3, 3] = np.nan
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(6) % 2)
    source = NpzSource(DataConfig(source="npz", path=str(tmp_path / "a.npz"), channels=1))
    with pytest.raises(DataError, match="not finite"):
        source.read(2)
