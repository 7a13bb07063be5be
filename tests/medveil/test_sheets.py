"""CSV that no spreadsheet runs, and that reads back as it was written."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medveil.plain import shown
from medveil.sheets import read_cell, read_rows, sheet, sheet_of

FORMULAS = [
    '=HYPERLINK("https://evil.example","x")',
    "+1+1",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    " =1+1",
    '"=1+1',
    "'=1+1",
    "''=1+1",
    "\u00a0=1",
    "\uff1d1+1",
    "a.png;=1+1",
    "a.png,-1",
    "a|@x",
    'a.png;"=1+1',
]
SOME = st.text(st.one_of(st.sampled_from("=+-@,;|:'\" \t\r\nab"), st.characters()), max_size=12)


def cells(text: str, delimiter: str) -> list[str]:
    return [each for row in csv.reader(io.StringIO(text), delimiter=delimiter) for each in row]


def runs(cell: str) -> bool:
    return cell.lstrip(' \t\r\n"\u00a0')[:1] in tuple("=+-@\uff1d\uff0b\uff0d\uff20")


@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text: str, delimiter: str) -> None:
    made = sheet([["image", text], [text, "x"], [text]])
    assert not [each for each in cells(made, delimiter) if runs(each)]


@given(st.lists(st.lists(SOME, min_size=1, max_size=3), min_size=1, max_size=4))
def test_what_is_written_is_read(rows: list[list[str]]) -> None:
    made = sheet(rows)
    assert [row for _, row in read_rows(io.StringIO(made, newline=""))] == [list(map(shown, row)) for row in rows]
    for delimiter in ",;|\t":
        assert not [each for each in cells(made, delimiter) if runs(each)]


def test_numbers_and_other_peoples_cells_stay() -> None:
    assert sheet([[-0.5, 3, None, True]]) == "-0.5,3,,True\n"
    assert read_cell("'tis") == "'tis"
    assert read_cell("a-b;c") == "a-b;c"
    assert sheet_of([{"a": 1}, {"b": "=x"}], ["a", "b"]) == "a,b\n1,\n,'=x\n"
