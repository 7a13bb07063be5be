"""Dates moved by a number of days that is a patient's own, so that intervals stay and calendar dates do not.

This is the option "Retain Longitudinal Temporal Information with Modified Dates" (PS3.15 E.3.6). A whole number of days
leaves times of day, and zones in datetimes, as they are: minutes between injection and scan are what analysis needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta

from crypto.deid.pseudonyms import Pseudonyms, stripped

LONGEST = 3650
"""Days that a date can move at most; about ten years."""

_DATE = re.compile(r"(\d{4})(?:(\d{2})(?:(\d{2}))?)?|(\d{4})\.(\d{2})\.(\d{2})", re.ASCII)
_CLOCK = re.compile(r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?", re.ASCII)
_OLD_CLOCK = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d(?::(?:[0-5]\d|60)(?:\.\d{1,6})?)?", re.ASCII)
_DATETIME = re.compile(r"(\d{4}(?:\d{2}(?:\d{2})?)?)(\d{2}[\d.]*)?([+-]\d{4})?", re.ASCII)
_ZONE = re.compile(r"[+-](?:0\d|1[0-4])[0-5]\d", re.ASCII)


def shift_days(pseudonyms: Pseudonyms, patient: str) -> int:
    """Days to add to a patient's dates: -1 to -3650, from the digest labelled ``dates`` of the patient's ID."""
    drawn = int.from_bytes(pseudonyms.digest("dates", stripped(patient))[:8], "big")
    return -1 - drawn % LONGEST


def shifted_date(value: str, days: int) -> str | None:
    """Move a DA value.

    Parameters
    ----------
    value
        ``YYYYMMDD``, ``YYYY.MM.DD`` of the standard's predecessor (answered as the former), ``YYYYMM`` or ``YYYY``
        (moved from the middle of the month or year), or a range of these.
    days
        From `shift_days`.

    Returns
    -------
    str or None
        None where the value is no date, or would fall before the year 1.
    """
    return _each_end(stripped(value), lambda end: _shifted_day(end, days))


def shifted_datetime(value: str, days: int) -> str | None:
    """Move a DT value, as `shifted_date`; it may end at any precision, have a zone (which stays), or be a range."""
    value = stripped(value)
    whole = _shifted_moment(value, days)
    return whole if whole is not None else _each_end(value, lambda end: _shifted_moment(end, days))


def kept_time(value: str) -> str | None:
    """Return a TM value (``HHMMSS.F``, or ``HH:MM:SS.F`` of old), or a range, as it is; None where it is no time."""
    return _each_end(stripped(value), lambda end: end if _CLOCK.fullmatch(end) or _OLD_CLOCK.fullmatch(end) else None)


def _each_end(value: str, moved: Callable[[str], str | None]) -> str | None:
    """A value or, if it has a hyphen, each end of its range, of which one may be open."""
    for place in [index for index, letter in enumerate(value) if letter == "-"]:
        ends = value[:place].strip(), value[place + 1 :].strip()
        done = [moved(end) if end else "" for end in ends]
        if any(ends) and None not in done:
            return "-".join(str(end) for end in done)
    return moved(value)


def _shifted_day(value: str, days: int) -> str | None:
    match = _DATE.fullmatch(value)
    if match is None:
        return None
    year, month, day = (match[1], match[2], match[3]) if match[1] else (match[4], match[5], match[6])
    middle = _day(year, month or "07", day or ("15" if month else "01"))
    if middle is None:
        return None
    try:
        moved = middle + timedelta(days=days)
    except OverflowError:
        return None
    return f"{moved.year:04}{moved.month:02}{moved.day:02}"[: 8 if day else 6 if month else 4]


def _shifted_moment(value: str, days: int) -> str | None:
    match = _DATETIME.fullmatch(value)
    if match is None:
        return None
    day, time, zone = match[1], match[2] or "", match[3] or ""
    if time and (len(day) < 8 or not _CLOCK.fullmatch(time)):
        return None
    if zone and not _ZONE.fullmatch(zone):
        return None
    moved = _shifted_day(day, days)
    return None if moved is None else moved + time + zone


def _day(year: str, month: str, day: str) -> date | None:
    """The day, or None where the calendar has no such day."""
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None
