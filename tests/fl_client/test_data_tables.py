"""Tables of labels in the dialects people write them in: read where one reading fits, else refused with a cure."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from labelled_trees import CASES, classes, here, images, labelled, put, table

from fl_client.data.config import DataConfig
from fl_client.data.source import Source, open_source
from fl_client.data.table import MARKS, read_table
from medveil.errors import DataError

PATHS = [f"{name}/i{i}.png" for name in ("normal", "sick") for i in range(4)]
ROWS = [("path", "label"), *((path, path.split("/")[0]) for path in PATHS)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return classes(tmp_path, "normal", "sick")


def written(tree: Path, data: bytes) -> Source:
    (tree / "labels.csv").write_bytes(data)
    return images(tree, labels="labels.csv")


def text(rows: list[tuple[str, ...]], *, mark: str = ",", end: str = "\n") -> str:
    return "".join(f"{mark.join(row)}{end}" for row in rows)


DIALECTS: dict[str, Callable[[list[tuple[str, ...]]], bytes]] = {
    "plain": lambda rows: text(rows).encode(),
    "spaces": lambda rows: text(rows, mark=" , ").encode(),
    "semicolons": lambda rows: text(rows, mark=";").encode(),
    "tabs": lambda rows: text(rows, mark="\t").encode(),
    "bars": lambda rows: text(rows, mark="|").encode(),
    "sep line": lambda rows: b"sep=;\r\n" + text(rows, mark=";", end="\r\n").encode(),
    "Windows lines": lambda rows: text(rows, end="\r\n").encode(),
    "old Mac lines": lambda rows: text(rows, end="\r").encode(),
    "UTF-8 with a mark": lambda rows: text(rows).encode("utf-8-sig"),
    "UTF-16": lambda rows: text(rows).encode("utf-16"),
    "UTF-16, big end first": lambda rows: b"\xfe\xff" + text(rows).encode("utf-16-be"),
    "UTF-16 without a mark": lambda rows: text(rows).encode("utf-16-le"),
    "UTF-32": lambda rows: text(rows).encode("utf-32"),
    "Excel's Unicode text": lambda rows: text(rows, mark="\t", end="\r\n").encode("utf-16"),
    "quotes after spaces": lambda rows: text([tuple(f'"{cell}"' for cell in row) for row in rows], mark=" , ").encode(),
    "backslashes": lambda rows: text(rows).replace("/", "\\").encode(),
    "dots": lambda rows: text([rows[0], *((f"./{path}", label) for path, label in rows[1:])]).encode(),
    "empty rows": lambda rows: (text(rows) + "\n,\n , \n").encode(),
    "empty rows first": lambda rows: ("\n,\n" + text(rows)).encode(),
    "empty columns": lambda rows: text(rows, end=",,\n").encode(),
    "an index": lambda rows: text([("", *rows[0]), *((str(i), *row) for i, row in enumerate(rows[1:]))]).encode(),
    "capitals": lambda rows: text([("Path", "LABEL"), *rows[1:]]).encode(),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_are_read_alike(tree: Path, dialect: str) -> None:
    source = written(tree, DIALECTS[dialect](ROWS))
    assert [item.id for item in source.items] == PATHS
    assert source.classes == ("normal", "sick")
    assert source.skipped == source.remarks == ()


def test_names_on_disk_are_found_in_the_other_form(tree: Path) -> None:
    put(tree, unicodedata.normalize("NFD", "sick/\xfcber.png"), unicodedata.normalize("NFC", "normal/\xe9.png"))
    added = [(unicodedata.normalize("NFC", "sick/\xfcber.png"), "sick")]
    added += [(unicodedata.normalize("NFD", "normal/\xe9.png"), "normal")]
    source = labelled(tree, [*ROWS, *added])
    assert (len(source), source.skipped) == (10, ())


def test_a_name_that_ends_in_a_space_is_found(tree: Path) -> None:
    put(tree, "sick/x.png ")
    source = open_source(
        DataConfig(source="images", path=str(table(tree, [*ROWS, ("sick/x.png ", "sick")])), labels="labels.csv")
    )
    assert not [each for each in source.skipped if "no such file" in each.reason]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp437", "shift-jis", "mac-roman"])
def test_other_encodings_are_refused_with_line_and_cure(tree: Path, encoding: str) -> None:
    name = "\uff71" if encoding == "shift-jis" else "\xe9"
    with pytest.raises(DataError, match=r"labels\.csv: cannot be read as CSV: line 10 is no UTF-8") as caught:
        written(tree, text([*ROWS, (f"sick/{name}.png", "sick")]).encode(encoding))
    assert "save it as UTF-8" in str(caught.value)


@pytest.mark.parametrize(
    "head", ["path,label,label", "path,label,a,label ", "path,LABEL,label", "Path,path,label", "path,a,label,a"]
)
def test_a_doubled_column_is_refused(tree: Path, head: str) -> None:
    rows = [tuple(head.split(",")), *((path, *("x",) * head.count(",")) for path in PATHS)]
    with pytest.raises(DataError, match="has 2 columns called") as caught:
        labelled(tree, rows)
    assert "keep the one that is meant" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("path,label\nnormal/i0.png,a,b\nsick/i0.png,b\n", r"line 2 has 3 cells, and there are 2 columns; .*quotes"),
        ('path,label\nnormal/i0.png,"a\nsick/i0.png,b\n', "a quote is never closed"),
        ("path,label_x,label_y\nnormal/i0.png,a,a\n", "has no column 'label'; its columns are path, label_x, label_y"),
        ("path label\nnormal/i0.png a\n", "has no column 'path'; its columns are path label"),
        ("path,label,;path;label\n", "can be parted by ',' and by ';'"),
        ('sep="\npath,label\n', "has no column 'path'"),
        ("\n\n", "has no column 'path'; its columns are none"),
        ("path,label\n,,\n", "names no files"),
        ("path,label\nnormal\\..\\..\\x.png,a\n", "leads out of the folder"),
    ],
)
def test_what_has_no_one_reading_is_refused(tree: Path, content: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        written(tree, content.encode())


def test_a_table_that_is_too_large_or_no_file_is_refused_unread(tree: Path) -> None:
    with (tree / "labels.csv").open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(DataError, match="is larger than 256 MB"):
        images(tree, labels="labels.csv")
    with pytest.raises(DataError, match="is no file"):
        images(tree, labels="normal")


def test_two_names_of_one_file_are_two_lines_for_it(tree: Path) -> None:
    (tree / "sick" / "again.png").symlink_to(tree / "sick" / "i0.png")
    with pytest.raises(DataError, match=r"lines 6 and 10 both name 'sick/again\.png'"):
        labelled(tree, [*ROWS, ("sick/again.png", "sick")])
    with pytest.raises(DataError, match="lines 9 and 10 both name"):
        labelled(tree, [*ROWS, ("sick\\i3.png", "sick")])


CELLS = st.text(st.characters(categories=["L", "N"], include_characters=" ,;|\"'-_.\t"), min_size=1, max_size=12).map(
    str.strip
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6),
    dialect=st.tuples(
        st.sampled_from(MARKS), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]), st.sampled_from(["\n", "\r\n"])
    ),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_what_pythons_writer_writes_is_read(
    tmp_path: Path, rows: list[tuple[str, str]], dialect: tuple[str, int, str], encoding: str
) -> None:
    mark, quoting, end = dialect
    made = io.StringIO()
    writer = csv.writer(made, delimiter=mark, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerows([("path", "label"), *rows])
    path = tmp_path / "t.csv"
    path.write_bytes(made.getvalue().encode(encoding))
    expected = [row for row in rows if any(row)]
    try:
        found = [(row.cells["path"], row.cells["label"]) for row in read_table(path).rows]
    except DataError as error:
        assert "names no files" in str(error)
        found = []
    # An apostrophe before what a spreadsheet takes for a formula is the sheet's own: `medveil.sheets`.
    assert [tuple(cell.replace("'", "") for cell in row) for row in found] == [
        tuple(cell.replace("'", "") for cell in row) for row in expected
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    data=st.one_of(
        st.binary(max_size=200), st.text(st.sampled_from('path,label;\t|"\n\r\0= x'), max_size=60).map(str.encode)
    )
)
def test_any_bytes_end_with_rows_or_an_error_of_ours(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    try:
        read = read_table(path)
    except DataError as error:
        assert str(error).isprintable()
        return
    assert read.rows
    assert all(set(row.cells) == set(read.columns) for row in read.rows)


@here
@pytest.mark.parametrize("case", ["csv_spaces", "csv_semicolon", "csv_utf16", "csv_backslash"])
def test_cases_of_dialects_are_read(case: str) -> None:
    source = images(CASES / case, labels="labels.csv")
    assert (source.classes, len(source), source.skipped) == (("normal", "sick"), 16, ())


@here
def test_the_case_in_latin_1_is_refused_with_a_cure() -> None:
    with pytest.raises(DataError, match=r"line 18 is no UTF-8 \(byte 0xe9\); save it as UTF-8"):
        images(CASES / "csv_latin1", labels="labels.csv")
