"""JPEG files that end too early: libjpeg fills up what is missing, and says so to nobody."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crypto.reading.look import open_image
from medveil.errors import DataError

PICTURE = np.clip(np.random.default_rng(0).normal(128, 40, (48, 56, 3)), 0, 255).astype(np.uint8)
SETTINGS: tuple[dict[str, object], ...] = (
    {},
    {"progressive": True},
    {"subsampling": 0, "quality": 98},
    {"restart_marker_blocks": 3},
    {"comment": b"\xff\xd9 \xff\xda"},
)


def written(path: Path, kind: str = "JPEG", **settings: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PICTURE).save(stream, kind, **settings)
    path.write_bytes(stream.getvalue())
    return stream.getvalue()


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_scan_cut_short_is_refused_and_a_whole_one_read(tmp_path: Path, settings: dict[str, object]) -> None:
    path = tmp_path / "x.jpg"
    data = written(path, **settings)
    with Image.open(path) as image:
        right = np.asarray(image)
    np.testing.assert_array_equal(open_image(path).shown(), right)
    path.write_bytes(data + b"behind it \xff\xd9")
    np.testing.assert_array_equal(open_image(path).shown(), right)
    for missing in (20, 100):
        path.write_bytes(data[: -2 - missing] + b"\xff\xd9")
        with pytest.raises(DataError, match=r"pixels end too early; restore|cannot be decoded"):
            open_image(path).shown()


def test_a_file_of_further_pictures_is_its_first(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    written(path, "MPO", save_all=True, append_images=[Image.fromarray(255 - PICTURE)])
    with Image.open(path) as image:
        np.testing.assert_array_equal(open_image(path).shown(), np.asarray(image.convert("RGB")))
