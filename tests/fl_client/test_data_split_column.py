"""A column ``split`` is the data set's own split or is refused, and parts can be held while seeds vary."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from labelled_trees import classes, images, labelled, parts_of, said
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from fl_client.data.config import DataConfig
from fl_client.data.partition import Parts, site_parts
from fl_client.data.source import Source, open_source
from medveil.config import from_mapping, load_config, to_mapping
from medveil.errors import ConfigError, DataError
from simulations.config import ExperimentConfig
from simulations.plan import make_plan

HEAD = ("path", "label", "split")
THREE = ("train", "validation", "test")


def rows(*cells: str) -> list[tuple[str, str, str]]:
    """Six images of two classes each, their parts in turn."""
    return [(f"{name}/i{i}.png", name, cells[i % len(cells)]) for name in ("normal", "sick") for i in range(6)]


@pytest.mark.parametrize(
    "cells",
    [
        THREE,
        ("Training", "val", "TESTING"),
        (" train ", "dev", "test set"),
        ("trn", "valid", "tst"),
        ("TRAIN", "Validate", "Test-Data"),
    ],
)
def test_the_usual_spellings_are_kept(tmp_path: Path, cells: tuple[str, str, str]) -> None:
    source = labelled(classes(tmp_path, "normal", "sick", images=6), [HEAD, *rows(*cells)])
    parts = parts_of(source)
    for part, ends in zip(THREE, ("03", "14", "25"), strict=True):
        assert {source.items[i].id[-5] for i in getattr(parts, part).tolist()} == set(ends)
    assert "own split is kept: 4 train, 4 validation, 4 test images" in said(source)


@pytest.mark.parametrize("name", ["SPLIT", "Split"])
def test_the_columns_own_name_may_be_in_other_letters(tmp_path: Path, name: str) -> None:
    source = labelled(classes(tmp_path, "normal", "sick", images=6), [("path", "label", name), *rows(*THREE)])
    assert source.split == "official"


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (("train", "test", "holdout"), "the column 'split' says 'holdout' (line 4 and 3 more)"),
        (("0", "1"), "the column 'split' says '0' (line 2 and 5 more)"),
        (("train", "", "test"), "the column 'split' is empty (line 3 and 3 more)"),
        (("train", "test", "test\x1b[2J"), "the column 'split' says 'test\\x1b[2J' (line 4"),
        (("train", "x" * 999, "test"), "the column 'split' says 'xxx"),
        (("validation", "test"), "the column 'split' never says train"),
    ],
)
def test_what_names_no_part_is_refused_by_name_with_a_cure(tmp_path: Path, cells: tuple[str, ...], says: str) -> None:
    root = classes(tmp_path, "normal", "sick", images=6)
    with pytest.raises(DataError) as caught:
        labelled(root, [HEAD, *rows(*cells)])
    told = str(caught.value)
    assert says in told
    assert "labels.csv" in told
    assert "'data.split=drawn'" in told
    assert len(told) < 400
    assert images(root, labels="labels.csv", split="drawn").split == "drawn"


def test_an_empty_column_says_nothing_and_that_is_said(tmp_path: Path) -> None:
    source = labelled(classes(tmp_path, "normal", "sick", images=6), [HEAD, *rows("")])
    assert source.split == "drawn"
    assert "the column 'split' of labels.csv is empty: the images are dealt anew" in said(source)


def dicom_folder(root: Path, patients: int) -> Path:
    """Twelve images of two classes, each patient with as many as there are for it."""
    root.mkdir(exist_ok=True)
    lines = ["path,label,split"]
    for i in range(12):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = SecondaryCaptureImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = generate_uid()
        made = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        made.Rows = made.Columns = 16
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.BitsAllocated = made.BitsStored = 8
        made.HighBit, made.PixelRepresentation = 7, 0
        made.PatientID = f"p{i % patients}"
        made.PixelData = np.full((16, 16), i, np.uint8).tobytes()
        pydicom.dcmwrite(root / f"{i}.dcm", made)
        lines.append(f"{i}.dcm,{'ab'[i % 2]},{THREE[i // 4]}")
    (root / "labels.csv").write_text("\n".join(lines))
    return root


def dicom(root: Path, **settings: str) -> Source:
    return open_source(DataConfig(source="dicom", path=str(root), labels="labels.csv", image_size=16, **settings))


def test_dicom_files_keep_the_split_of_their_table(tmp_path: Path) -> None:
    source = dicom(dicom_folder(tmp_path, patients=12))
    parts = parts_of(source)
    assert {source.items[i].id for i in parts.test.tolist()} == {f"{i}.dcm" for i in range(8, 12)}
    assert {source.items[i].id for i in parts.validation.tolist()} == {f"{i}.dcm" for i in range(4, 8)}


def test_a_patient_on_both_sides_of_a_tables_split_is_refused(tmp_path: Path) -> None:
    source = dicom(dicom_folder(tmp_path, patients=6))
    with pytest.raises(DataError, match="stands in more than one official split"):
        parts_of(source)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """An npz file of 60 images, none of them with an official part."""
    path = tmp_path_factory.mktemp("many") / "a.npz"
    images = np.random.default_rng(0).integers(0, 256, (60, 16, 16), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(60) % 2)
    return open_source(DataConfig(source="npz", path=str(path)))


def parts(source: Source, seed: int, *, split_seed: int | None, index: int = 0, **partition: str) -> Parts:
    config = from_mapping(DataConfig, {"path": "x", "split_seed": split_seed, "partition": partition}, where="here")
    return site_parts(source, config, sites=3, index=index, seed=seed)


@pytest.mark.parametrize("partition", [{"kind": "iid"}, {"kind": "dirichlet"}, {"test": "common"}])
def test_a_split_seed_holds_every_part_while_seeds_vary(many: Source, partition: dict[str, str]) -> None:
    for index in range(3):
        first = parts(many, 0, split_seed=7, index=index, **partition)
        again = parts(many, 1, split_seed=7, index=index, **partition)
        for part in THREE:
            assert np.array_equal(getattr(first, part), getattr(again, part))
    other = parts(many, 0, split_seed=8, **partition)
    assert not np.array_equal(other.test, parts(many, 0, split_seed=7, **partition).test)


def test_without_one_the_parts_follow_the_seed(many: Source) -> None:
    assert np.array_equal(parts(many, 7, split_seed=None).test, parts(many, 0, split_seed=7).test)
    assert not np.array_equal(parts(many, 0, split_seed=None).test, parts(many, 1, split_seed=None).test)


def test_a_split_seed_goes_into_the_manifest_and_to_the_sites(tmp_path: Path, many: Source) -> None:
    given = ["data.source=npz", f"data.path={many.path}", "data.split_seed=5", "model.name=vit_tiny_patch16_224"]
    plan = make_plan(load_config(ExperimentConfig, None, [*given, "cipher.block=4"]), tmp_path / "run")
    assert to_mapping(plan.experiment)["data"]["split_seed"] == 5
    assert plan.sites.data.split_seed == 5
    assert json.loads(plan.sites.to_json())["data"]["split_seed"] == 5
    with pytest.raises(ConfigError, match=r"data\.split_seed: is -1; at least 0"):
        open_source(DataConfig(path="x", split_seed=-1))
