"""Mutated raster files at the one reader: errors of our own alone, arrays of the shape the header said, in no time.

`tests/fuzz/fuzz_files.py` goes on from there with atheris.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutants import edits, mutant, with_checksums
from PIL import Image

from crypto.reading import base
from crypto.reading.look import HEAD_BYTES, Sort, look_at, open_image
from medveil.errors import MedVeilError

MUTANTS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
RNG = np.random.default_rng(0)
GREY, COLOUR = (RNG.integers(0, 256, shape, dtype=np.uint8) for shape in ((9, 12), (9, 12, 3)))


def saved(kind: str, pixels: np.ndarray, **how: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **how)
    return stream.getvalue()


def tiff(pixels: np.ndarray, **how: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **how)
    return stream.getvalue()


WHOLE: dict[str, bytes] = {
    "png grey": saved("PNG", GREY),
    "png deep": saved("PNG", GREY.astype(np.uint16) * 257),
    "png palette": saved("PNG", COLOUR[..., 0], bits=4),
    "jpeg": saved("JPEG", COLOUR),
    "jpeg progressive": saved("JPEG", GREY, progressive=True),
    "bmp": saved("BMP", COLOUR),
    "tiff": tiff(np.stack([GREY, GREY]), photometric="minisblack"),
    "tiff signed, big-endian": tiff(GREY.astype(np.int16), byteorder=">", photometric="miniswhite"),
    "tiff palette": tiff(GREY, colormap=RNG.integers(0, 256, (3, 256)).astype(np.uint16)),
    "tiff, LZW": saved("TIFF", GREY, compression="tiff_lzw"),
    "tiff tiles, deflated": tiff(COLOUR, tile=(16, 16), compression="zlib", photometric="rgb"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutants")


@pytest.mark.parametrize("name", WHOLE)
@MUTANTS
@given(places=edits())
def test_a_mutant_is_an_image_or_an_error_of_ours(
    place: Path, name: str, places: list[tuple[float, int, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A mutant that claims a large image, and has it, costs seconds and shows nothing that a small one does not.
    monkeypatch.setattr(base, "LARGEST_VALUES", 2**16)
    path = place / "x"
    data = mutant(WHOLE[name], places)
    path.write_bytes(with_checksums(data) if data.startswith(b"\x89PNG") else data)
    try:
        opened = open_image(path)
        about = opened.about
        assert 1 <= about.width * about.height <= 2**16
        for frame in range(min(about.frames, 3)):
            stored, shown = opened.stored(frame), opened.shown(frame)
            assert stored.shape[1:] == (about.height, about.width)
            assert shown.dtype == np.uint8
            assert sorted(shown.shape[:2]) == sorted((about.height, about.width))
            assert (shown.ndim == 3) == (about.channels == 3)
    except MedVeilError as error:
        assert str(error).isprintable()


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_is_read(place: Path, name: str) -> None:
    """Without this, the mutants above could all be refused for one reason."""
    path = place / "whole"
    path.write_bytes(WHOLE[name])
    opened = open_image(path)
    assert opened.about.frames == (2 if name == "tiff" else 1)
    assert np.ptp(opened.shown()) > 100


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40), st.binary(max_size=HEAD_BYTES))
def test_any_name_and_any_bytes_are_something(name: str, head: bytes) -> None:
    found = look_at(name, head)
    assert (found.sort is Sort.IMAGE) == bool(found.kind)
    assert bool(found.why) == (found.sort is not Sort.IMAGE)
