"""Mutated files, whole and hidden: nothing but our own errors comes out, and no changed image is taken for whole.

Each test tries 150 mutants. `tests/fuzz/fuzz_files.py` goes on from there with atheris.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutants import edits, mutant, with_checksums
from PIL import Image

from crypto.config import CipherConfig
from crypto.files.raster import BmpFile, JpegFile, PngFile
from crypto.files.raster_tiff import TiffFile
from crypto.files.recipe import Recipe
from crypto.files.sealing import check_sealed, sealed_output
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.reading.png import read_png, samples_of
from medveil.errors import DataError, MedVeilError, StorageError

KEY = SiteKey(bytes(range(32)), "mercy")
RING = Keyring(KEY)
RECIPE = Recipe(purpose="archive", cipher=CipherConfig(block=4, negate=True))
MUTANTS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where mutants live; nothing of it need outlive a power cut."""
    sync, os.fsync = os.fsync, lambda _: None
    yield tmp_path_factory.mktemp("mutants")
    os.fsync = sync


def pixels(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def read_again(path: Path) -> np.ndarray:
    return samples_of(read_png(path)) if path.suffix == ".png" else tifffile.imread(path)


def judge(kind: PngFile | TiffFile, path: Path, before: np.ndarray) -> None:
    """A mutant of a hidden file is refused, or shows what the file showed."""
    shown = path.with_name(f"shown{path.suffix}")
    shown.unlink(missing_ok=True)
    try:
        kind.header(path)
        kind.verify(path, RING)
    except MedVeilError:
        with pytest.raises(MedVeilError):
            kind.show(path, shown, RING)
        assert not shown.exists()
    else:
        kind.show(path, shown, RING)
        assert np.array_equal(read_again(shown), before)


@pytest.mark.parametrize("checksums", [False, True])
@MUTANTS
@given(places=edits())
def test_mutants_of_hidden_png(folder: Path, checksums: bool, places: list[tuple[float, int, bytes]]) -> None:
    source, hidden = folder / "a.png", folder / "hidden.png"
    if not source.exists():
        Image.fromarray(pixels(9, 10, 3)).save(source)
        PngFile().hide(source, hidden, RECIPE, KEY)
    data = mutant(hidden.read_bytes(), places)
    path = folder / "mutant.png"
    path.write_bytes(with_checksums(data) if checksums else data)
    judge(PngFile(), path, samples_of(read_png(source)))


@MUTANTS
@given(places=edits())
def test_mutants_of_hidden_tiff(folder: Path, places: list[tuple[float, int, bytes]]) -> None:
    source, hidden = folder / "a.tif", folder / "hidden.tif"
    if not source.exists():
        tifffile.imwrite(source, pixels(2, 9, 10, dtype=np.uint16), photometric="minisblack")
        TiffFile().hide(source, hidden, RECIPE, KEY)
    path = folder / "mutant.tif"
    path.write_bytes(mutant(hidden.read_bytes(), places))
    judge(TiffFile(), path, tifffile.imread(source))


@MUTANTS
@given(places=edits())
def test_mutants_of_sealed_files(folder: Path, places: list[tuple[float, int, bytes]]) -> None:
    sealed = folder / "sealed"
    if not sealed.exists():
        with sealed_output(sealed, KEY) as stream:
            stream.write(os.urandom(100))
    whole = sealed.read_bytes()
    path = folder / "mutant.mvseal"
    path.write_bytes(mutant(whole, places))
    if path.read_bytes() == whole:
        check_sealed(path, RING)
        return
    with pytest.raises(MedVeilError):
        check_sealed(path, RING)


def save(folder: Path, sort: str) -> Path:
    path = folder / f"whole-{sort}"
    if path.exists():
        return path
    image = Image.fromarray(pixels(9, 10, 3))
    if sort == "tiff-lzw":
        image.save(path, "TIFF", compression="tiff_lzw", tiffinfo={317: 2})
    elif sort == "tiff-packbits":
        image.save(path, "TIFF", compression="packbits")
    elif sort == "tiff-tiles":
        tifffile.imwrite(path, pixels(33, 20, dtype=np.uint16), tile=(16, 16), compression="zlib", predictor=True)
    elif sort == "palette":
        image.convert("P").save(path, "PNG")
    else:
        image.save(path, sort.upper())
    return path


KINDS = {"png": PngFile(), "palette": PngFile(), "jpeg": JpegFile(), "bmp": BmpFile()}


@pytest.mark.parametrize("sort", ["png", "palette", "jpeg", "bmp", "tiff-lzw", "tiff-packbits", "tiff-tiles"])
@MUTANTS
@given(places=edits(), sealed=st.booleans())
def test_mutants_of_images(folder: Path, sort: str, places: list[tuple[float, int, bytes]], sealed: bool) -> None:
    data = mutant(save(folder, sort).read_bytes(), places)
    path, target = folder / "mutant", folder / "target"
    path.write_bytes(with_checksums(data) if sort in {"png", "palette"} else data)
    target.unlink(missing_ok=True)
    kind = KINDS.get(sort, TiffFile())
    recipe = Recipe(purpose="archive", cipher=RECIPE.cipher, identity="sealed" if sealed else "removed")
    try:
        kind.hide(path, target, recipe, KEY)
    except (DataError, StorageError):
        assert not target.exists()
        return
    hider = TiffFile() if sort.startswith("tiff") else PngFile()
    hider.verify(target, RING)
    hider.show(target, folder / "shown", RING)
