"""What of a site's refusals a server may read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from medveil.errors import MedVeilError

_T = TypeVar("_T")


class ToldError(MedVeilError):
    """An error whose text a server may read: it is made of the server's own words and the site's limits."""

    def __init__(self, error: MedVeilError) -> None:
        super().__init__(error.problem, where=error.where, cure=error.cure)
        self.kind = type(error).__name__
        self.reason: str | None = getattr(error, "reason", None)


def tellable(judge: Callable[[], _T], *, only: type[MedVeilError] = MedVeilError) -> _T:
    """What a judgement gives; its error, or one of a kind, as one the server may read."""
    try:
        return judge()
    except only as error:
        raise ToldError(error) from error
