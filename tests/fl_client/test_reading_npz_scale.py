"""An npz file has one scale for all its images: each is what it was as uint8, and bright stays brighter than dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fl_client.data import npz_scale
from fl_client.data.config import DataConfig
from fl_client.data.npz_scale import scale_of
from fl_client.data.source import Source, open_source, read_many
from fl_client.export.data_card import data_card
from medveil.errors import DataError

CASES = Path(__file__).parents[3] / "shared" / "cases" / "images"
BYTES = np.random.default_rng(0).integers(3, 220, (12, 16, 16), dtype=np.uint8)
"""Images of 8 bit that do not fill their range."""
LABELS = np.arange(12) % 2


def source_of(folder: Path, images: np.ndarray, **settings: Any) -> Source:
    np.savez(folder / "x.npz", images=images, labels=LABELS)
    return open_source(DataConfig(source="npz", path=str(folder / "x.npz"), **settings))


def seen(source: Source) -> np.ndarray:
    return read_many(source, range(len(source)))


AS_BYTES = {
    "uint16": BYTES.astype(np.uint16),
    "int16": BYTES.astype(np.int16),
    "int64": BYTES.astype(np.int64),
    "uint64": BYTES.astype(np.uint64),
    "big-endian": BYTES.astype(">u2"),
    "float32 of 0 to 255": BYTES.astype(np.float32),
    "float64 of 0 to 1": BYTES / 255,
    "float32 of 0 to 1": BYTES / np.float32(255),
    "float16 of 0 to 1": (BYTES / 255).astype(np.float16),
    "float32 of -1 to 1": (BYTES / np.float32(127.5) - 1).astype(np.float32),
    "float of -1 to 1, a hair beyond": (BYTES / 127.5 - 1) * 1.00000012,
    "int8": (BYTES.astype(int) - 128).astype(np.int8),
    "Fortran's order": np.asfortranarray(BYTES.astype(np.int32)),
}


@pytest.mark.parametrize("name", AS_BYTES)
def test_what_was_made_of_bytes_is_seen_as_these_bytes(tmp_path: Path, name: str) -> None:
    source = source_of(tmp_path, AS_BYTES[name])
    np.testing.assert_array_equal(seen(source)[:, 0], BYTES)
    assert len(source.said) == 1
    assert source.said[0].startswith("one scale for all images: ")
    assert source.warnings == ()


def test_bytes_are_left_alone(tmp_path: Path) -> None:
    source = source_of(tmp_path, BYTES)
    np.testing.assert_array_equal(seen(source)[:, 0], BYTES)
    assert (source.said, source.warnings) == ((), ())


OTHERS = {
    "standardised": (BYTES - BYTES.mean()) / BYTES.std(),
    "Hounsfield": BYTES.astype(np.int16) * 10 - 1000,
    "12 bit": BYTES.astype(np.uint16) * 16,
    "faint": BYTES / 255e4,
    "a measure": BYTES.astype(np.float32) / 6,
}


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_numbers_get_one_scale_too_and_it_is_said(tmp_path: Path, name: str) -> None:
    images = OTHERS[name].copy()
    # Two images that differ in brightness alone: the line they were made of is the same for both.
    images[0], images[1] = images[1], images[1] + (0.1 * np.ptp(images)).astype(images.dtype)
    source = source_of(tmp_path, images)
    low, high = np.percentile(images, (0.5, 99.5))
    right = np.interp(images, (low, high), (0, 255))
    assert np.abs(seen(source)[:, 0] - right).max() < 1
    assert seen(source)[0].mean() < seen(source)[1].mean() - 10
    assert "percentiles 0.5 and 99.5 of all values" in source.said[0]
    assert "set data.window to the same at each" in source.warnings[0]


def test_parts_share_one_scale(tmp_path: Path) -> None:
    parts = {"train": BYTES[:6] / 255, "val": BYTES[6:8] / 2550, "test": BYTES[8:] / 255}
    named = {f"{part}_images": images for part, images in parts.items()}
    named |= {f"{part}_labels": np.arange(len(images)) % 2 for part, images in parts.items()}
    np.savez(tmp_path / "x.npz", **named)
    source = open_source(DataConfig(source="npz", path=str(tmp_path / "x.npz")))
    np.testing.assert_array_equal(seen(source)[:6, 0], BYTES[:6])
    # Alone, the dark part would have been stretched to white.
    assert seen(source)[6:8].max() < 32


def test_a_window_is_for_grey_and_colour_keeps_its_scale(tmp_path: Path) -> None:
    grey = source_of(tmp_path, BYTES.astype(np.uint16), window=[100.0, 50.0])
    right = np.interp(BYTES, (75, 125), (0, 255))
    assert np.abs(seen(grey)[:, 0] - right).max() < 0.51
    assert grey.said == ()
    colour = np.stack([BYTES, BYTES[::-1], BYTES], axis=-1)
    for images in (colour, colour / 255):
        kept = source_of(tmp_path, images, window=[100.0, 50.0])
        np.testing.assert_array_equal(seen(kept), colour.transpose(0, 3, 1, 2))


def test_nearly_black_images_are_said(tmp_path: Path) -> None:
    source = source_of(tmp_path, BYTES.astype(np.int64) // 100)
    assert seen(source).max() == 2
    assert "they are nearly black; set data.window" in source.warnings[0]


def test_numbers_of_two_meanings_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train_images=BYTES, train_labels=LABELS, test_images=BYTES / 255, test_labels=LABELS)
    with pytest.raises(DataError, match=r"x\.npz: holds images of whole numbers and of fractions; give all"):
        open_source(DataConfig(source="npz", path=str(tmp_path / "x.npz")))


@settings(deadline=None)
@given(
    arrays(np.float64, (3, 4, 4), elements=st.floats(-1e12, 1e12)),
    st.sampled_from([np.float64, np.float32, np.int64, np.int16]),
)
def test_order_is_kept_and_the_ends_of_the_scale_are_apart(values: np.ndarray, dtype: Any) -> None:
    images = values.astype(dtype) if dtype is not np.int16 else np.clip(values, -30000, 30000).astype(dtype)
    scale = scale_of([images])
    assert scale is not None
    assert scale.high > scale.low or np.ptp(images) == 0


def test_percentiles_of_a_part_of_the_values_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(1).normal(500, 200, (64, 32, 32))
    whole = scale_of([images])
    # A step that divides the width would take some columns alone, and here each column is another image.
    monkeypatch.setattr(npz_scale, "_MOST_SAMPLED", 2**12)
    images += np.arange(32) * 1000
    part = scale_of([images])
    low, high = np.percentile(images, (0.5, 99.5))
    assert whole is not None
    assert part is not None
    assert abs(part.low - low) < 0.02 * (high - low)
    assert abs(part.high - high) < 0.02 * (high - low)


@pytest.mark.parametrize(
    ("name", "factor", "offset"),
    [("npz_uint16_8bit", 1, 0), ("npz_int8", 1, 128), ("npz_normalised", 127.5, 127.5)],
)
def test_case(name: str, factor: float, offset: float) -> None:
    path = CASES / name / "x.npz"
    if not path.is_file():
        pytest.skip(f"{CASES} is not there")
    with np.load(path) as found:
        right = np.rint(found["images"].astype(np.float64) * factor + offset).astype(np.uint8)
    source = open_source(DataConfig(source="npz", path=str(path)))
    np.testing.assert_array_equal(seen(source)[:, 0], right)
    assert len(source.said) == 1


def test_the_data_card_says_the_scale(tmp_path: Path) -> None:
    source = source_of(tmp_path, BYTES / 255)
    told = {"window": None, "source": "npz", "augment": "none", "flip": False, "min_side": 16, "group_by": None}
    facts = {
        "site": "mercy",
        "run_config": {"classes": ["0", "1"], "channels": 1, "image_size": 16, "name": "x"},
        "data": {**told, "counts": {"train": [20, 20]}, "skipped": 0, "said": list(source.said)},
    }
    card = data_card(facts)
    assert "- grey values and colour: one scale for all images: 0 to 1 become 0 to 255" in card
    assert "percentiles" not in card
    # What an earlier MedVeil kept says nothing of it.
    del facts["data"]["said"]  # type: ignore[attr-defined]
    assert "grey values and colour" not in data_card(facts)
