"""Dates that move: a slow reading of the shift, intervals, precision, zones, ranges, and what is no date."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.deid.dates import LONGEST, kept_time, shift_days, shifted_date, shifted_datetime
from crypto.deid.pseudonyms import Pseudonyms
from crypto.keys import SiteKey

KEY = SiteKey(bytes(range(32)), "north")
PSEUDONYMS = Pseudonyms(KEY)
DAYS = st.integers(-LONGEST, -1)
DATES = st.dates(min_value=date(1900, 1, 1), max_value=date(2100, 12, 31))
MOMENTS = st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2100, 12, 31))


def test_the_shift_is_the_hmac_of_the_patient() -> None:
    drawn = hmac.new(KEY.subkey("deid"), b"dates\x000815", hashlib.sha256).digest()
    assert shift_days(PSEUDONYMS, "0815") == -(int.from_bytes(drawn[:8], "big") % 3650) - 1


@given(patient=st.text())
def test_the_shift_is_back_in_time_by_up_to_ten_years(patient: str) -> None:
    assert -3650 <= shift_days(PSEUDONYMS, patient) <= -1
    assert shift_days(PSEUDONYMS, patient) == shift_days(PSEUDONYMS, f" {patient}\0")


def test_patients_differ_and_so_do_keys() -> None:
    shifts = [shift_days(PSEUDONYMS, str(n)) for n in range(2000)]
    assert len(set(shifts)) > 1400, "of 3650 possible"
    other = Pseudonyms(SiteKey(bytes(32), "north"))
    assert sum(shift_days(other, str(n)) == shift for n, shift in enumerate(shifts)) < 10


@given(first=DATES, second=DATES, days=DAYS)
def test_intervals_stay(first: date, second: date, days: int) -> None:
    moved = [datetime.strptime(shifted_date(f"{day:%Y%m%d}", days) or "", "%Y%m%d").date() for day in (first, second)]
    assert moved[1] - moved[0] == second - first
    assert moved[0] - first == timedelta(days=days)


@given(first=MOMENTS, second=MOMENTS, days=DAYS, hours=st.integers(-12, 14))
def test_intervals_of_datetimes_stay_to_the_microsecond_and_across_zones(
    first: datetime, second: datetime, days: int, hours: int
) -> None:
    texts = [f"{first:%Y%m%d%H%M%S.%f}+0000", f"{second:%Y%m%d%H%M%S.%f}{hours:+03}00"]
    before = [datetime.strptime(text, "%Y%m%d%H%M%S.%f%z") for text in texts]
    after = [datetime.strptime(shifted_datetime(text, days) or "", "%Y%m%d%H%M%S.%f%z") for text in texts]
    assert after[1] - after[0] == before[1] - before[0]
    assert after[0] == before[0].astimezone(UTC) + timedelta(days=days)


@given(day=DATES, days=DAYS)
def test_a_date_and_the_datetime_of_that_day_stay_together(day: date, days: int) -> None:
    moved = shifted_date(f"{day:%Y%m%d}", days)
    assert shifted_datetime(f"{day:%Y%m%d}101500", days) == f"{moved}101500"


@pytest.mark.parametrize(
    ("value", "moved"),
    [
        ("20240301", "20240229"),
        ("2024.03.01", "20240229"),
        (" 20240301\0", "20240229"),
        ("202403", "202403"),
        ("2024", "2024"),
        ("20240301-20240401", "20240229-20240331"),
        ("20240301-", "20240229-"),
        ("-20240301", "-20240229"),
        ("09990101", "09981231"),
    ],
)
def test_dates_of_every_form_move_by_a_day(value: str, moved: str) -> None:
    assert shifted_date(value, -1) == moved


@given(year=st.integers(1900, 2100), month=st.integers(1, 12), days=DAYS)
def test_partial_dates_keep_their_precision_and_move_by_the_shift(year: int, month: int, days: int) -> None:
    moved = shifted_date(f"{year}{month:02}", days) or ""
    assert len(moved) == 6
    gone = (year - int(moved[:4])) * 12 + month - int(moved[4:])
    assert abs(gone - -days / 30.44) < 1.1
    assert abs(year - int(shifted_date(f"{year}", days) or 0) - -days / 365.25) < 1


@pytest.mark.parametrize(
    ("value", "moved"),
    [
        ("20240301", "20240229"),
        ("2024", "2024"),
        ("2024030110", "2024022910"),
        ("202403011015", "202402291015"),
        ("20240301101500.1", "20240229101500.1"),
        ("20240301235960", "20240229235960"),
        ("20240301101500+0100", "20240229101500+0100"),
        ("2024-0500", "2024-0500"),
        ("20240301101500-0500", "20240229101500-0500"),
        ("20240301-20240401", "20240229-20240331"),
        ("20240301101500-0500-20240401101500-0500", "20240229101500-0500-20240331101500-0500"),
        ("20240301101500-", "20240229101500-"),
    ],
)
def test_datetimes_of_every_form_move_by_a_day(value: str, moved: str) -> None:
    assert shifted_datetime(value, -1) == moved


@pytest.mark.parametrize(
    "value",
    ["", "20230229", "20241301", "00000101", "00010101", "2024-03-01", "Doe^Jane", "20240301 Doe", "1", "٢٠٢٤٠٣٠١"],
)
def test_what_is_no_date_moves_nowhere(value: str) -> None:
    assert shifted_date(value, -365) is None
    assert shifted_datetime(value, -365) is None


@pytest.mark.parametrize("value", ["2024030125", "20240301101500.1234567", "202403011015Z", "20240301101500+1500"])
def test_what_is_no_datetime_moves_nowhere(value: str) -> None:
    assert shifted_datetime(value, -1) is None


@pytest.mark.parametrize("value", ["10", "1015", "101530", "101530.123456", "10:15:30", "10:15", "1015-1200", "235960"])
def test_times_stay(value: str) -> None:
    assert kept_time(f"{value} ") == value


@pytest.mark.parametrize("value", ["", "Doe", "25", "1060", "101530.", "101530.1234567", "1", "10153", "10:15:30 Doe"])
def test_what_is_no_time_does_not(value: str) -> None:
    assert kept_time(value) is None


@given(value=st.text(max_size=30), days=DAYS)
def test_any_text_is_a_date_or_none(value: str, days: int) -> None:
    for move in (shifted_date, shifted_datetime):
        moved = move(value, days)
        assert moved is None or set(moved) <= set("0123456789.+-")
