"""One form of a moment for everybody who reads one, whatever form a file or Flower keeps it in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from medveil.flower_commands import _time
from medveil.tables import plain_table
from medveil.times import moment

SHOWN = "2026-11-28 20:43:08 UTC"
EAST = timezone(timedelta(hours=5, minutes=30))
FORMS = (
    "2026-11-28T20:43:08+00:00",
    "2026-11-28 20:43:08Z",
    "2026-11-28T20:43:08Z",
    "2026-11-28T20:43:08.512+00:00",
    "2026-11-29T02:13:08+05:30",
    "2026-11-28T20:43:08",
)


@pytest.mark.parametrize("kept", [*FORMS, datetime(2026, 11, 28, 20, 43, 8, tzinfo=UTC)])
def test_a_moment_is_shown_in_one_form(kept: str | datetime) -> None:
    assert moment(kept) == SHOWN
    assert moment(moment(kept).replace(" UTC", "Z")) == SHOWN


def test_a_zone_is_turned_into_utc() -> None:
    assert moment(datetime(2026, 11, 29, 2, 13, 8, tzinfo=EAST)) == SHOWN


@pytest.mark.parametrize("text", ["now", "never", "", "soon", "20:43", "\x1b[31m"])
def test_what_is_no_moment_stays(text: str) -> None:
    assert moment(text) == text


@pytest.mark.parametrize("head", ["since", "last seen", "last_seen", "submitted", "kept", "made"])
def test_tables_show_it_so(head: str) -> None:
    rows = [{"site": "2026-11-28T20:43:08Z", head: kept} for kept in (*FORMS, "never")]
    _, *lines = plain_table(rows).splitlines()
    assert [line.partition("  ")[2] for line in lines] == [*[SHOWN] * len(FORMS), "never"]
    # A site may have such a name.
    assert all(line.startswith("2026-11-28T20:43:08Z  ") for line in lines)


@pytest.mark.parametrize("given", FORMS)
def test_what_flower_says_is_kept_as_ours_are(given: str) -> None:
    assert _time(given) == "2026-11-28T20:43:08+00:00"
    assert _time("") == ""


def test_no_sentence_has_a_form_of_its_own() -> None:
    """What is printed goes through `moment`; the ISO form is for files, and Flower's for nobody."""
    root = Path(__file__).parents[2]
    for package in ("medveil", "crypto", "fl_client", "fl_server", "simulations"):
        for path in (root / package).rglob("*.py"):
            text = path.read_text()
            assert path.name == "times.py" or "%H:%M" not in text or path.name == "documents.py", path
            assert "isoformat8601_utc" not in text, path
            assert 'isoformat(sep=" "' not in text, path
