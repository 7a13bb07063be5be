"""Mutated arrays and tables at the training door: images, or errors of our own in words that are not about the program.

`tests/fuzz/fuzz_files.py` goes on from there with atheris.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from labelled_trees import put
from mutants import Edits, edits, mutant

from fl_client.data.config import DataConfig
from fl_client.data.source import Source, open_source
from medveil.errors import MedVeilError

RNG = np.random.default_rng(0)
LABELS = np.arange(6) % 2
ARRAYS: dict[str, dict[str, np.ndarray]] = {
    "bytes": {"images": RNG.integers(0, 256, (6, 8, 8), dtype=np.uint8), "labels": LABELS},
    "fractions": {"images": RNG.random((6, 8, 8)).astype(np.float32), "labels": LABELS.astype(np.uint8)},
    "names": {"images": RNG.random((6, 8, 8)), "labels": LABELS, "classes": np.array(["benign", "malignant"])},
    "patients": {
        "images": RNG.integers(0, 9, (6, 8, 8)),
        "labels": LABELS[:, None],
        "patient": np.array(list("aabbcc")),
    },
}
FOREIGN = ("Error", "Exception", "NoneType", " object at 0x", "EOF")
MUTANTS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ROW = st.lists(st.text(alphabet='ab01.,;|" \\\t\r\n\x00\x1b/é\u0301', max_size=6), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("npz")
    put(home / "tree", *(f"{n}.png" for n in range(6)))
    return home


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def ends_well(config: DataConfig) -> bool:
    """Whether a source opens and gives an image; anything but an error of ours escapes."""
    try:
        source: Source = open_source(config)
        said = (*source.warnings, *source.remarks, *source.said, *(each.reason for each in source.skipped))
        assert all(each.isprintable() for each in said)
        for index in range(len(source)):
            assert source.read(index).shape == (source.channels, source.size, source.size)
    except MedVeilError as error:
        assert str(error).isprintable()
        assert not any(word in str(error) for word in FOREIGN), str(error)
        return False
    return True


@pytest.mark.parametrize("name", ARRAYS)
@MUTANTS
@given(places=edits(), chosen=st.integers(0, 3))
@example(places=[(0.1, 8, b"1L'''")], chosen=0)
def test_a_mutated_array_is_images_or_an_error_of_ours(place: Path, name: str, places: Edits, chosen: int) -> None:
    path, members = place / "x.npz", list(ARRAYS[name])
    with zipfile.ZipFile(path, "w") as archive:
        for each, array in ARRAYS[name].items():
            whole = npy(array)
            mutated = mutant(whole[:128], places) + whole[128:] if len(places) % 2 else mutant(whole, places)
            archive.writestr(f"{each}.npy", mutated if each == members[chosen % len(members)] else whole)
    group = "patient" if name == "patients" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ends_well(DataConfig(source="npz", path=str(path), min_side=1, image_size=8, group_by=group))


@pytest.mark.parametrize("name", ARRAYS)
def test_a_whole_array_is_read(place: Path, name: str) -> None:
    np.savez(place / "whole.npz", **ARRAYS[name])
    assert ends_well(DataConfig(source="npz", path=str(place / "whole.npz"), min_side=1))


@MUTANTS
@given(
    header=st.sampled_from(["path,label", "path;label;split", "label\tpath", '"path","label","patient"', "a,b"]),
    rows=st.lists(ROW, max_size=4),
    coding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
)
def test_any_table_is_labels_or_an_error_of_ours(place: Path, header: str, rows: list[list[str]], coding: str) -> None:
    mark = next((each for each in ",;\t" if each in header), ",")
    lines = [header, *(f"{n}.png{mark}{'ab'[n % 2]}" for n in range(4)), *(mark.join(row) for row in rows)]
    (place / "tree" / "labels.csv").write_bytes("\n".join(lines).encode(coding, "replace"))
    ends_well(DataConfig(source="images", path=str(place / "tree"), labels="labels.csv", image_size=8, min_side=1))
