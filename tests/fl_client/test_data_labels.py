"""Labels: one rule on which spellings are one class, and which are no class of one image."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_trees import CASES, classes, here, images, labelled, put, said

from fl_client.data.labels import group_name, key, spellings, tidy
from medveil.errors import DataError

ROWS = [f"{name}/i{i}.png" for name in ("normal", "sick") for i in range(4)]
HERE = Path("here")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return classes(tmp_path, "normal", "sick")


def settled(*labels: str, names: list[str] | None = None) -> dict[str, str]:
    counts = Counter(labels)
    return spellings(dict.fromkeys(labels, "line 2"), counts, names, where=HERE).of


def named(tree: Path, labels: list[str], **settings: object) -> tuple[tuple[str, ...], str]:
    source = labelled(tree, [("path", "label"), *zip(ROWS, labels, strict=True)], **settings)
    return source.classes, said(source)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["0"] * 4 + ["1", "1", "1.0", "1.0"], ("0", "1")),
        (["0", "0.0", "00", "+0", "1", "01", "1.", "1.00"], ("0", "1")),
        (["normal", "NORMAL", "Normal", "normal"] + ["sick"] * 4, ("normal", "sick")),
        (["normal"] * 4 + ["caf\xe9", "cafe\u0301", "caf\xe9", "CAFE\u0301"], ("caf\xe9", "normal")),
        (["normal"] * 4 + ["very sick", "very  sick", "very\xa0sick", "very\u200b sick"], ("normal", "very sick")),
        (["normal"] * 4 + ["stra\xdfe", "STRASSE", "strasse", "stra\xdfe"], ("normal", "stra\xdfe")),
    ],
)
def test_spellings_of_one_class_are_joined_and_said(tree: Path, labels: list[str], expected: tuple[str, ...]) -> None:
    found, told = named(tree, labels)
    assert found == expected
    assert "are taken for one class" in told
    assert "data.classes" in told
    assert told.isprintable() or "\n" in told


@pytest.mark.parametrize("labels", [["-1"] * 4 + ["1"] * 4, ["1.5"] * 4 + ["1"] * 4, ["1"] * 4 + ["10"] * 4])
def test_numbers_that_differ_are_two_classes(tree: Path, labels: list[str]) -> None:
    found, told = named(tree, labels)
    assert (len(found), told) == (2, "")


def test_what_data_classes_lists_is_meant_as_it_is_written(tree: Path) -> None:
    found, told = named(tree, ["T1", "t1"] * 4, classes=["T1", "t1"])
    assert (found, told) == (("T1", "t1"), "")
    found, told = named(tree, ["Normal"] * 4 + ["sick"] * 4, classes=["normal", "sick"])
    assert found == ("normal", "sick")
    assert "'Normal', 'normal' are taken for one class, 'normal'" in told
    with pytest.raises(DataError, match=r"unknown label 'sick'.*data\.classes are normal, other"):
        named(tree, ["Normal"] * 4 + ["sick"] * 4, classes=["normal", "other"])


@pytest.mark.parametrize(
    "empty", ["NaN", "nan", "NA", "N/A", "n/a", "null", "NULL", "None", "<NA>", "#N/A", "-nan", "NaT", "\u200b"]
)
def test_a_label_that_says_nothing_is_refused_by_its_line(tree: Path, empty: str) -> None:
    with pytest.raises(DataError, match=r"labels\.csv: 1 image has no label \(line 9 says") as caught:
        named(tree, ["normal"] * 4 + ["sick"] * 3 + [empty])
    assert "data.classes" in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_word_for_nothing_is_a_class_where_it_is_listed(tree: Path) -> None:
    assert named(tree, ["None"] * 4 + ["mild"] * 4, classes=["None", "mild"])[0] == ("None", "mild")
    assert named(tree, ["none"] * 4 + ["mild"] * 4)[0] == ("mild", "none")


@pytest.mark.parametrize(
    "several", ["normal|other", "a|b", "\"['normal', 'sick']\"", "normal;x", '"normal,x"', "sick/x"]
)
def test_several_labels_of_one_image_are_refused(tree: Path, several: str) -> None:
    with pytest.raises(DataError, match=r"2 images have several labels \(line 8 says") as caught:
        named(tree, ["normal"] * 4 + ["sick"] * 2 + [several] * 2)
    assert "data.classes" in str(caught.value)


def test_a_mark_within_a_name_is_no_second_label(tree: Path) -> None:
    found, told = named(tree, ['"Adenocarcinoma, NOS"'] * 4 + ['"Squamous cell carcinoma, NOS"'] * 4)
    assert found == ("Adenocarcinoma, NOS", "Squamous cell carcinoma, NOS")
    assert not told
    assert named(tree, ["normal|other"] * 4 + ["x"] * 4, classes=["normal|other", "x"])[0] == ("normal|other", "x")


@pytest.mark.parametrize("odd", ["a\x1b[31mb", "a\x07", "x" * 300, "a\x7fb"])
def test_a_label_that_cannot_be_printed_is_refused(tree: Path, odd: str) -> None:
    with pytest.raises(DataError, match="which can be no class's name") as caught:
        named(tree, ["normal"] * 4 + ["sick"] * 3 + [odd])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_folders_are_held_to_the_same_rule(tmp_path: Path) -> None:
    root = classes(tmp_path / "a", "sick", "sick ", "SICK", "normal")
    source = images(root)
    assert source.classes == ("normal", "sick")
    assert "taken for one class, 'sick'" in said(source)
    composed, apart = unicodedata.normalize("NFC", "m\xfcde"), unicodedata.normalize("NFD", "m\xfcde")
    source = images(classes(tmp_path / "b", composed, apart, "wach"))
    assert source.classes == ("m\xfcde", "wach")
    assert "'m\\xfcde'" in said(source), "two spellings that look alike are told apart"
    for name, problem in (("nan", "no label"), ("a|b", "several labels"), ("x\x1b[2J", "no class's name")):
        with pytest.raises(DataError, match=problem) as caught:
            images(classes(tmp_path / problem, "normal", name))
        assert "folder '" in str(caught.value)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", [b"si\xffck", b"\x80"])
def test_a_class_folder_whose_name_is_no_text_is_left_out_by_name(tmp_path: Path, name: bytes) -> None:
    root = classes(tmp_path, "a", "b", "c")
    os.rename(os.fsencode(root / "c"), os.fsencode(root) + b"/" + name)
    source = images(root)
    assert source.classes == ("a", "b")
    assert len(source.skipped) == 4
    assert all(each.path.isprintable() and each.reason == "its name is not valid UTF-8" for each in source.skipped)


# -- the rule as it is -------------------------------------------------------------------------------------------------

WORDS = st.text(st.characters(categories=["L", "M", "N", "Zs"]), min_size=1, max_size=12).filter(
    lambda word: (
        tidy(word).isprintable()
        and tidy(word).casefold() not in {"", "nan", "na", "null", "nil", "nat", "none", "undefined"}
    )
)


@settings(deadline=None)
@given(
    WORDS, st.sampled_from(["NFC", "NFD"]), st.sampled_from([str.upper, str.casefold, str]), st.text(" \t\xa0\u3000")
)
def test_every_spelling_has_one_key(word: str, form: str, case: object, space: str) -> None:
    assert callable(case)
    other = f"{space}{unicodedata.normalize(form, case(word))}{space}"
    # Letters whose upper case is another letter's, as of the dotless i, are two spellings also in Unicode's folding.
    if case(word).casefold() == word.casefold():
        assert key(other) == key(word)


@settings(deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=12))
def test_classes_are_told_apart_by_key_alone_and_in_any_order(words: list[str]) -> None:
    found = settled(*words)
    assert set(found) == set(words)
    assert {key(word): found[word] for word in words} == {key(word): found[word] for word in reversed(words)}
    assert len({found[word] for word in words}) == len({key(word) for word in words})
    assert settled(*reversed(words)) == found
    # Named once, a class is named: what comes out goes in again unchanged.
    assert set(settled(*found.values()).values()) == set(found.values())


@settings(deadline=None)
@given(st.integers(0, 10**15), st.integers(0, 3), st.sampled_from(["", ".", ".0", ".000"]))
def test_a_whole_number_is_one_class_however_it_is_written(number: int, zeros: int, end: str) -> None:
    assert key(f"{'0' * zeros}{number}{end}") == str(number)


@settings(deadline=None)
@given(st.lists(WORDS, min_size=2, max_size=6, unique=True))
def test_configured_classes_are_never_renamed(words: list[str]) -> None:
    assert settled(*words, names=words) == {word: word for word in words}


@settings(deadline=None)
@given(st.text(max_size=40), st.text("\0 \t\n\u3000\u200b\ufeff", max_size=5))
def test_a_padded_group_is_the_group(name: str, pad: str) -> None:
    assert group_name(f"{pad}{name}{pad}") == group_name(name)


@pytest.mark.parametrize(
    ("name", "group"), [(" P02", "P02"), ("P02\0", "P02"), ("12.0", "12"), ("12", "12"), ("NaN", None), ("  ", None)]
)
def test_groups_by_their_names(name: str, group: str | None) -> None:
    assert group_name(name) == group


def test_groups_of_a_table_are_one_however_they_are_padded(tree: Path) -> None:
    padded = ["p1", "p1 ", "p1\0", "12", "p2", " p2", "\u200bp2", "12.0"]
    rows = [(path, path.split("/")[0], group) for path, group in zip(ROWS, padded, strict=True)]
    source = labelled(tree, [("path", "label", "patient"), *rows], group_by="patient")
    assert [item.group for item in source.items] == ["p1", "p1", "p1", "12", "p2", "p2", "p2", "12"]


# -- classes that are too small ----------------------------------------------------------------------------------------


def test_small_classes_are_said_in_one_line_each(tmp_path: Path) -> None:
    root = classes(tmp_path, "normal", "sick", images=8)
    put(root, "rare/only.png", "few/a.png", "few/b.png")
    (root / "empty" / "deeper").mkdir(parents=True)
    (root / "notes").mkdir()
    (root / "notes" / "x.txt").write_text("no image")
    source = images(root)
    assert source.classes == ("few", "normal", "rare", "sick")
    assert source.remarks == (
        "classes 'empty', 'notes' have no image that can be used",
        "class 'rare' has one image only: it is never both learned from and tested on",
        "class 'few' has fewer than 3 groups of images: not every part of the split gets one",
    )


def test_a_class_of_one_patient_is_said(tree: Path) -> None:
    rows = [(path, path.split("/")[0], "p1" if "sick" in path else path) for path in ROWS]
    source = labelled(tree, [("path", "label", "patient"), *rows], group_by="patient")
    assert "class 'sick' has one group of images only" in said(source)


def test_many_small_classes_make_one_line(tmp_path: Path) -> None:
    source = images(put(tmp_path, *(f"c{i:03d}/x.png" for i in range(300))))
    assert len(source.remarks) == 1
    assert len(source.remarks[0]) < 300


def test_a_placeholder_that_most_images_bear_is_said(tree: Path) -> None:
    rows = [(path, path.split("/")[0], "ANON" if i < 6 else f"p{i}") for i, path in enumerate(ROWS)]
    source = labelled(tree, [("path", "label", "patient"), *rows], group_by="patient")
    assert "group 'ANON' holds 6 of 8 images" in said(source)
    assert "data.group_by" in said(source)


# -- the cases ---------------------------------------------------------------------------------------------------------


@here
@pytest.mark.parametrize(
    ("case", "classes_", "told"),
    [
        ("csv_int_and_float", ("0", "1"), "taken for one class, '1'"),
        ("csv_case_labels", ("NORMAL", "SICK"), "taken for one class, 'SICK'"),
        ("csv_rare_class", ("normal", "rare", "sick"), "class 'rare' has one image only"),
    ],
)
def test_cases_that_are_read(case: str, classes_: tuple[str, ...], told: str) -> None:
    source = images(CASES / case, labels="labels.csv")
    assert (source.classes, len(source)) == (classes_, 16)
    assert told in said(source)


@here
@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("csv_multilabel", r"6 images have several labels \(line 2 says 'normal\|other'\)"),
        ("csv_nan_label", r"1 image has no label \(line 17 says 'NaN'\)"),
    ],
)
def test_cases_that_are_refused(case: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        images(CASES / case, labels="labels.csv")


@here
def test_the_class_of_one_is_said() -> None:
    assert "class 'rare' has one image only" in said(images(CASES / "class_of_one"))
