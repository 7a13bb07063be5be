"""Tables on a narrow terminal: no word is broken, and nothing is lost."""

from __future__ import annotations

import pytest

from medveil.plain import parted_lines, tell_lines
from medveil.tables import plain_table

LONG = "1 of 2 sites came within 300 s (mercy); at least 2 are needed: start the others"
ROWS = [{"run": "run-1", "status": "failed", "why": LONG}, {"run": "run-22", "status": "finished", "why": ""}]
KEYS = [{"site": "st-anna", "key": "f" * 64, "since": "2026-11-28T21:55:33+00:00"}]


def words(text: str) -> list[str]:
    return text.replace(";", " ").split()


def test_without_a_limit_a_row_is_a_line() -> None:
    assert plain_table(ROWS).splitlines()[1] == f"run-1   failed    {LONG}"


@pytest.mark.parametrize("width", [48, 60, 80])
def test_the_last_column_goes_on_below_itself(width: int) -> None:
    text = plain_table(ROWS, width=width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0] == "run     status    why"
    assert lines[-1] == "run-22  finished"
    assert all(line.startswith(" " * 18) for line in lines[2:-1])
    assert sorted(words(text)) == sorted(words(plain_table(ROWS)))


@pytest.mark.parametrize("width", [66, 70, 80])
def test_a_row_that_fits_no_table_is_a_sentence(width: int) -> None:
    text = plain_table(KEYS, width=width)
    assert max(map(len, text.splitlines())) <= width + len("key ;")
    assert "f" * 64 in text
    assert text.startswith("site st-anna; key")
    assert words(text) == words(f"site st-anna key {'f' * 64} since 2026-11-28 21:55:33 UTC")


def test_a_word_longer_than_the_terminal_stays_whole() -> None:
    assert "f" * 64 in plain_table(KEYS, width=20)
    assert plain_table([{"only": "f" * 64}], width=30).splitlines() == ["only", "f" * 64]


def test_an_empty_cell_is_not_spoken_of() -> None:
    assert "since" not in plain_table([{**KEYS[0], "since": ""}], width=66)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_sentences_around_a_table_are_parted_and_the_table_is_not(width: int) -> None:
    text = f"{LONG}\n\n{plain_table(ROWS, width=width)}\nshort"
    lines = parted_lines(text, width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert " ".join(" ".join(lines).split()).startswith(LONG)
    table = plain_table(ROWS, width=width).splitlines()
    assert lines[-1 - len(table) : -1] == table


def test_only_a_terminal_gets_them_parted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tell_lines(f"{LONG}\n{LONG}")
    assert capsys.readouterr().out == f"{LONG}\n{LONG}\n"
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    tell_lines(f"{LONG}\n{LONG}")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert " ".join(" ".join(lines).split()) == f"{LONG} {LONG}"
