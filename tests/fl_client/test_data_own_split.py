"""A data set's own split, and groups that would be torn apart: kept, said or refused with what to write."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_trees import CASES, classes, here, images, labelled, parts_of, put, said, table

from fl_client.data.config import DataConfig
from fl_client.data.partition import site_parts
from fl_client.data.parts_named import part_named
from fl_client.data.source import Source, open_source
from fl_client.export.data_card import data_card
from medveil.config import load_config
from medveil.errors import ConfigError, DataError


def split(root: Path, *parts: str, names: tuple[str, ...] = ("normal", "sick"), images: int = 4) -> Path:
    """``PART/CLASS/iN.png``."""
    return classes(root, *(f"{part}/{name}" for part in parts for name in names), images=images)


def where(source: Source, **settings: Any) -> dict[str, set[str]]:
    """First parts of the names of the images of each part."""
    found = parts_of(source, **settings)
    return {
        name: {source.items[i].id.split("/")[0] for i in getattr(found, name).tolist()}
        for name in ("train", "validation", "test")
    }


@pytest.mark.parametrize(
    "parts",
    [
        ("train", "val", "test"),
        ("TRAIN", "Validation", "Test"),
        ("Training", "valid", "Testing"),
        ("train_set", "val-set", "test set"),
        ("training data", "dev", "test_images"),
    ],
)
def test_folders_of_a_split_are_its_parts_and_no_classes(tmp_path: Path, parts: tuple[str, str, str]) -> None:
    source = images(split(tmp_path, *parts))
    assert (source.classes, source.split, len(source)) == (("normal", "sick"), "official", 24)
    train, validation, test = parts
    assert where(source) == {"train": {train}, "validation": {validation}, "test": {test}}
    assert "own split is kept: 8 train, 8 validation, 8 test images" in said(source)


def test_a_missing_validation_is_drawn_from_train_by_groups(tmp_path: Path) -> None:
    source = images(split(tmp_path, "train", "test", images=10))
    assert where(source) == {"train": {"train"}, "validation": {"train"}, "test": {"test"}}
    made = parts_of(source)
    assert len(made.validation) == 3
    assert "20 train, 20 test images, validation drawn from train" in said(source)
    assert "validation drawn" not in said(images(split(tmp_path, "train", "test"), validation=0.0))


def test_a_class_that_a_part_lacks_is_said(tmp_path: Path) -> None:
    root = split(tmp_path, "train", "test")
    put(root, *(f"train/rare/{i}.png" for i in range(4)), "test/new/x.png", "test/new/y.png", "test/new/z.png")
    told = said(images(root))
    assert "class 'rare' has no test image" in told
    assert "class 'new' has no train image" in told
    assert "no test image" not in said(images(split(tmp_path / "b", "train", "test")))


def test_train_alone_is_split_as_any_other(tmp_path: Path) -> None:
    source = images(split(tmp_path, "train", images=10))
    assert (source.classes, source.split, said(source)) == (("normal", "sick"), "drawn", "")
    assert all(len(part) for part in (parts_of(source).validation, parts_of(source).test))


def test_parts_within_class_folders_are_parts_too(tmp_path: Path) -> None:
    source = images(classes(tmp_path, *(f"{name}/{part}" for name in ("a", "b") for part in ("Train", "Test"))))
    assert (source.classes, source.split) == (("a", "b"), "official")
    assert {source.items[i].id.split("/")[1] for i in parts_of(source).test.tolist()} == {"Test"}
    put(tmp_path, "a/x.png")
    with pytest.raises(DataError, match=r"some images lie in none of them \('a/x\.png'\)"):
        images(tmp_path)


def written(error: pytest.ExceptionInfo[DataError], key: str) -> list[str]:
    """The setting that an error tells to write, as a shell reads it."""
    text = str(error.value)
    begin = text.index("'" + key) if "'" + key in text else text.index(key)
    return [word for word in shlex.split(text[begin:].partition("; ")[0], comments=False) if word.startswith(key)]


@pytest.mark.parametrize(
    ("folders", "problem"),
    [
        (("train/a", "train/b", "test/a", "other/a"), r"\('test', 'train'\) lie beside others \('other'\)"),
        (("normal", "sick", "test"), r"\('test'\) lie beside others \('normal', 'sick'\)"),
        (("val/a", "test/a"), "none is for training"),
        (("valid", "invalid"), r"\('valid'\) lie beside others \('invalid'\)"),
        (("train", "test"), "hold no class folders"),
    ],
)
def test_what_could_be_either_is_refused_with_what_to_write(
    tmp_path: Path, folders: tuple[str, ...], problem: str
) -> None:
    root = classes(tmp_path, *folders)
    with pytest.raises(DataError, match=problem) as caught:
        images(root)
    (setting,) = written(caught, "data.classes=")
    names = load_config(DataConfig, None, [setting.removeprefix("data.")]).classes
    assert names == sorted({folder.split("/")[0] for folder in folders})
    # What it tells to write makes the folders classes.
    assert images(root, classes=names).classes == tuple(names)


def test_folds_and_hospitals_above_the_classes_are_said(tmp_path: Path) -> None:
    source = images(classes(tmp_path / "a", *(f"fold{i}/{name}" for i in (1, 2) for name in ("normal", "sick"))))
    assert source.classes == ("fold1", "fold2")
    assert "class folders 'fold1', 'fold2' all hold the folders 'normal', 'sick'" in said(source)
    assert "data.labels" in said(source)
    # Patients below classes are each their own.
    assert not said(images(classes(tmp_path / "b", "normal/p1", "normal/p2", "sick/p3", "sick/p4")))
    assert not said(images(classes(tmp_path / "c", "normal/p1", "sick/p1")))


def test_a_folder_above_the_classes_is_named(tmp_path: Path) -> None:
    root = classes(tmp_path / "archive", "chest xray/normal", "chest xray/sick")
    with pytest.raises(DataError, match="has one class only") as caught:
        images(root)
    assert f"'data.path={root}/chest xray'" in str(caught.value)
    above = split(tmp_path / "deep" / "chest", "train", "test").parent
    with pytest.raises(DataError, match="has one class only") as caught:
        images(above)
    assert f"data.path={above}/chest" in str(caught.value)


def test_a_table_beside_a_single_folder_is_named_as_the_cure(tmp_path: Path) -> None:
    """Scans in one folder with their labels in a table: what `medveil-sim run demo` draws, for one."""
    root = classes(tmp_path / "scans", "hospital-1")
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    (root / "notes.csv").write_text("what\nnothing\n")
    rows = [("path", "label", "patient"), *((name, "ab"[i % 2], f"p{i}") for i, name in enumerate(names))]
    table(root, rows, name="truth.csv")
    with pytest.raises(DataError, match="has one class only") as caught:
        images(root)
    assert "data.labels=truth.csv data.group_by=patient; or list all of them in data.classes" in str(caught.value)
    assert len(images(root, labels="truth.csv", group_by="patient").classes) == 2
    with pytest.raises(DataError) as other:
        images(classes(tmp_path / "alone", "hospital-1"))
    assert "data.labels" not in str(other.value)


def test_a_split_can_be_dealt_anew_and_insisted_on(tmp_path: Path) -> None:
    root = split(tmp_path / "a", "train", "val", "test", images=10)
    source = images(root, split="drawn")
    assert (source.classes, source.split, said(source)) == (("normal", "sick"), "drawn", "")
    assert len({item.split for item in source.items}) == 1
    assert where(source, split="drawn")["train"] == {"train", "val", "test"}
    assert images(root, split="official").split == "official"
    with pytest.raises(DataError, match=r"data\.split is official, and the images bring no split"):
        images(classes(tmp_path / "b", "a", "b"), split="official")
    with pytest.raises(ConfigError, match=r"data\.split"):
        images(root, split="kept")


def test_npz_parts_are_dealt_anew_where_that_is_asked(tmp_path: Path) -> None:
    arrays = {f"{part}_images": np.zeros((6, 16, 16), np.uint8) for part in ("train", "val", "test")}
    arrays |= {f"{part}_labels": np.arange(6) % 2 for part in ("train", "val", "test")}
    np.savez(tmp_path / "a.npz", **arrays)
    config = DataConfig(source="npz", path=str(tmp_path / "a.npz"))
    assert open_source(config).split == "official"
    config.split = "drawn"
    assert {item.split for item in open_source(config).items} == {None}


def test_a_column_split_is_kept(tmp_path: Path) -> None:
    root = classes(tmp_path, "normal", "sick", images=6)
    rows = [
        (f"{name}/i{i}.png", name, ("Train", "val", "TEST")[i // 2]) for name in ("normal", "sick") for i in range(6)
    ]
    source = labelled(root, [("path", "label", "split"), *rows])
    assert source.split == "official"
    assert {source.items[i].id[-5] for i in parts_of(source).test.tolist()} == {"4", "5"}
    odd = [(path, label, str(i)) for i, (path, label, _) in enumerate(rows)]
    with pytest.raises(DataError, match=r"the column 'split' says '0' \(line 2\)"):
        labelled(root, [("path", "label", "split"), *odd])
    again = images(root, labels="labels.csv", split="drawn")
    assert (again.split, said(again)) == ("drawn", "")


def test_a_table_over_folders_of_a_split_says_that_it_is_dealt_anew(tmp_path: Path) -> None:
    root = split(tmp_path, "train", "test")
    rows = [(f"{p}/{name}/i{i}.png", name) for p in ("train", "test") for name in ("normal", "sick") for i in range(4)]
    source = labelled(root, [("path", "label"), *rows])
    assert (source.classes, source.split) == (("normal", "sick"), "drawn")
    assert "no column 'split': they are dealt anew" in said(source)


def test_a_link_between_parts_is_no_second_image(tmp_path: Path) -> None:
    root = split(tmp_path, "train", "test")
    (root / "test" / "sick" / "leak.png").symlink_to(root / "train" / "sick" / "i0.png")
    assert "test/sick/leak.png" not in {item.id for item in images(root).items}
    (root / "test" / "sick" / "hard.png").hardlink_to(root / "train" / "sick" / "i0.png")
    with pytest.raises(DataError, match="are one file, and stand in two parts of the split"):
        images(root)


def test_a_group_in_two_official_parts_is_refused_with_a_way_out(tmp_path: Path) -> None:
    root = classes(tmp_path, "normal", "sick", images=6)
    rows = [
        (f"{name}/i{i}.png", name, ("train", "test")[i % 2], f"p{i // 2}{name}")
        for name in ("normal", "sick")
        for i in range(6)
    ]
    source = labelled(root, [("path", "label", "split", "patient"), *rows], group_by="patient")
    with pytest.raises(DataError, match=r"stands in more than one official split; 'data\.split=drawn'"):
        parts_of(source, group_by="patient")
    again = images(root, labels="labels.csv", group_by="patient", split="drawn")
    assert len(parts_of(again, split="drawn").train)


@pytest.mark.parametrize("name", ["trainable", "testis", "contest", "valve", "devic", "untested", "train2", "", "set"])
def test_names_that_only_begin_like_a_part_are_none(name: str) -> None:
    assert part_named(name) is None


@pytest.mark.parametrize(
    ("kind", "official", "told"),
    [
        ("official", ["test", "train", "validation"], "split: the data set's own (test, train, validation)\n"),
        ("official", ["test", "train"], "own (test, train); validation drawn from its training images\n"),
        ("drawn", [], "split: drawn by MedVeil\n"),
    ],
)
def test_the_data_card_says_whose_the_split_is(kind: str, official: list[str], told: str) -> None:
    data: dict[str, Any] = {"source": "images", "window": None, "min_side": 16, "group_by": None, "augment": "none"}
    data |= {"flip": False, "views": 1, "counts": {"train": [20, 20]}, "skipped": 0}
    run = {"classes": ["a", "b"], "channels": 1, "image_size": 16, "name": "x"}
    facts = {"site": "s", "run_config": run, "data": {**data, "split": {"kind": kind, "official": official}}}
    assert told in data_card(facts)
    assert "- split:" not in data_card({**facts, "data": data}), "a model kept by an older MedVeil knows nothing of it"


# -- a table that is not used ------------------------------------------------------------------------------------------

GROUPED = [(f"{name}/i{i}.png", name, f"{name}{i // 2}") for name in ("normal", "sick") for i in range(4)]


@pytest.mark.parametrize("column", ["group", "patient", "Patient ID", "patient_id", "PatientID", "subject", "case_no"])
def test_class_folders_whose_table_names_groups_are_refused_with_what_to_write(tmp_path: Path, column: str) -> None:
    root = table(classes(tmp_path, "normal", "sick"), [("path", "label", column), *GROUPED])
    with pytest.raises(DataError, match=r"8 images in 4 groups\), and without it") as caught:
        images(root)
    text = str(caught.value)
    words = shlex.split(text[text.index("; write ") + len("; write ") : text.index(", or data.group_by=none")])
    config = load_config(DataConfig, None, [word.removeprefix("data.") for word in words])
    assert (config.labels, config.group_by) == ("labels.csv", column)
    used = images(root, labels=config.labels, group_by=config.group_by)
    assert len({item.group for item in used.items}) == 4
    # Used without its groups it would leak just so.
    with pytest.raises(DataError, match="without it one group would stand in training and test"):
        images(root, labels="labels.csv")


def test_groups_may_be_torn_apart_knowingly(tmp_path: Path) -> None:
    root = table(classes(tmp_path, "normal", "sick"), [("path", "label", "group"), *GROUPED])
    for labels in (None, "labels.csv"):
        source = images(root, group_by="none", labels=labels)
        assert {item.group for item in source.items} == {None}
    assert "'labels.csv' lies beside the class folders and is not used" in said(images(root, group_by="none"))


@pytest.mark.parametrize(
    ("head", "rows", "told"),
    [
        (("path", "label"), [row[:2] for row in GROUPED], "to use it: data.labels=labels.csv"),
        (
            ("path", "label", "group"),
            [(*row[:2], row[0]) for row in GROUPED],
            "data.labels=labels.csv data.group_by=group",
        ),
        (("path", "label", "group"), [("x.png", "a", "g"), ("y.png", "a", "g")], "data.group_by=group"),
        (("file", "class"), [row[:2] for row in GROUPED], "as labels it has no column 'path'"),
    ],
)
def test_a_table_that_tears_no_group_apart_is_offered(
    tmp_path: Path, head: tuple[str, ...], rows: list[tuple[str, ...]], told: str
) -> None:
    source = images(table(classes(tmp_path, "normal", "sick"), [head, *rows]))
    assert len(source) == 8
    assert "'labels.csv' lies beside the class folders and is not used" in said(source)
    assert told in said(source)


def test_other_tables_are_offered_by_their_own_names(tmp_path: Path) -> None:
    root = classes(tmp_path, "normal", "sick")
    table(root, [("path", "label", "group"), *GROUPED], name="my patients.csv", mark=";")
    (root / "notes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError) as caught:
        images(root)
    assert "'data.labels=my patients.csv' data.group_by=group" in str(caught.value)
    (root / "my patients.csv").unlink()
    assert not said(images(root))


# -- one patient for all -----------------------------------------------------------------------------------------------


def grouped(root: Path, *groups: str) -> Source:
    rows = [(f"{name}/i{i}.png", name, groups[i % len(groups)]) for name in ("normal", "sick") for i in range(4)]
    return labelled(classes(root, "normal", "sick"), [("path", "label", "patient"), *rows], group_by="patient")


@pytest.mark.parametrize(("groups", "count"), [(("ANON",), "1 group"), (("ANON", "anon2"), "2 groups")])
def test_too_few_groups_are_told_by_what_they_are_grouped_by(
    tmp_path: Path, groups: tuple[str, ...], count: str
) -> None:
    with pytest.raises(DataError, match=f"{count} of images cannot be split into 3 parts") as caught:
        parts_of(grouped(tmp_path, *groups), group_by="patient")
    assert f"8 images bear {len(groups)} different patient" in str(caught.value)
    assert "set data.group_by to what does, or to none" in str(caught.value)


@here
@pytest.mark.parametrize(("case", "count"), [("pid_same_for_all", 1), ("pid_two", 2)])
def test_cases_of_one_patient_name_the_attribute_and_the_setting(case: str, count: int) -> None:
    config = DataConfig(source="dicom", path=str(CASES / case), image_size=16)
    source = open_source(config)
    for sites in (1, 4):
        with pytest.raises(DataError, match=f"16 images bear {count} different PatientID") as caught:
            site_parts(source, config, sites=sites, index=0, seed=0)
        assert "data.group_by" in str(caught.value)
    config.group_by = "none"
    assert len(site_parts(open_source(config), config, sites=1, index=0, seed=0).test)


@here
def test_the_case_of_a_padded_patient_is_one_patient() -> None:
    source = open_source(DataConfig(source="dicom", path=str(CASES / "pid_leading_space"), image_size=16))
    assert {item.group for item in source.items} == {f"P{label}{number}" for label in "01" for number in range(4)}


@here
def test_the_case_of_the_kaggle_layout_keeps_its_split() -> None:
    source = images(CASES / "kaggle_train_test_folders")
    assert source.classes == ("normal", "sick")
    assert where(source) == {"train": {"train"}, "validation": {"val"}, "test": {"test"}}


@here
def test_the_case_of_junk_is_read_without_it() -> None:
    source = images(CASES / "mac_windows_junk")
    assert (source.classes, len(source), source.skipped, said(source)) == (("normal", "sick"), 16, (), "")
