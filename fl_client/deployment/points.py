"""One line of what `medveil-site check` found: how it is, and the cure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medveil.errors import MedVeilError

OK, WARNING, FAILED = "ok", "warning", "FAILED"


@dataclass(frozen=True)
class Point:
    """One line of the table."""

    what: str
    state: str
    found: str
    cure: str = ""
    exit_code: int = 0


def point_of(what: str, look: Callable[[], Point]) -> Point:
    """What a look found; where it ends in an error of ours, that and its cure."""
    try:
        return look()
    except MedVeilError as error:
        found = error.problem if error.where is None else f"{error.where}: {error.problem}"
        return Point(what, FAILED, found, error.cure or "see the line itself", error.exit_code)
