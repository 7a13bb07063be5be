"""Moments as they are shown: in one form, so that they can be compared at a glance. Files keep them as ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime

SKEW_S = 300.0
"""Seconds a node's clock may be behind its SuperLink's before its signature is refused; ahead it may be 5 s."""


def moment(at: datetime | str) -> str:
    """A moment as people are shown it, on terminals and pages: ``2026-11-28 20:43:08 UTC``.

    Parameters
    ----------
    at
        With its time zone; without one it is taken for UTC. A text that is no ISO 8601 moment is given back as it is:
        "now", "never".
    """
    try:
        found = datetime.fromisoformat(at) if isinstance(at, str) else at
    except ValueError:
        return str(at)
    known = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return f"{known.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
