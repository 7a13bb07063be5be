"""The hours of the day in which a site begins work, as `limits.hours` says them."""

from __future__ import annotations

import re
from datetime import datetime, time
from pathlib import Path

from medveil.config import check_setting
from medveil.errors import PolicyError

_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")


def parsed_hours(text: str | None, *, where: str | Path) -> tuple[time, time] | None:
    """Beginning and end; None for always (ConfigError where the text is neither)."""
    if text is None:
        return None
    found = _HOURS.fullmatch(text)
    right = found is not None and text[:5] != text[6:]
    check_setting(right, "limits.hours", text[:40], "HH:MM-HH:MM, two different times, for example 19:00-06:30", where)
    assert found is not None  # Refused above.
    return time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))


def check_hours(text: str | None, *, now: datetime | None = None) -> None:
    """Refuse to begin work at another time; a server may read why.

    Parameters
    ----------
    text
        The limit. Hours that end before they begin go over midnight.
    now
        By the clock of this machine; for tests.

    Raises
    ------
    PolicyError
        It is another time.
    """
    hours = parsed_hours(text, where="limits")
    if text is None or hours is None:
        return
    begin, end = hours
    at = (now or datetime.now()).time()
    within = begin <= at < end if begin < end else at >= begin or at < end
    if not within:
        problem = f"this site begins work from {text[:5]} to {text[6:]} by its own clock"
        raise PolicyError(problem, where="limits.hours", cure="the run is begun, or resumed, then")
