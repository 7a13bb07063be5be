"""What happened on the way: sites that were left out of a round, and a run that was taken up again."""

from __future__ import annotations

from typing import Any

from medveil.times import moment
from simulations.report.record import Mapping, RunRecord, number

_MOST_REASONS = 5


def content(run: RunRecord) -> dict[str, Any] | None:
    """Drop-outs by site, and the moments of resumes; None where there were neither."""
    rows = run.manifest.get("left_out")
    left_out = [each for each in rows if isinstance(each, dict)] if isinstance(rows, list) else []
    times = run.manifest.get("resumed")
    resumed = [moment(str(each)) for each in times] if isinstance(times, list) else []
    if not left_out and not resumed:
        return None
    sites = sorted({str(each.get("site", "")) for each in left_out})
    return {
        "sites": [_of_site(site, left_out) for site in sites],
        "rounds": len({each.get("round") for each in left_out if number(each.get("round")) is not None}),
        "rows": left_out,
        "resumed": resumed,
        "went_on": str(run.manifest.get("went_on") or ""),
    }


def _of_site(site: str, left_out: list[Mapping]) -> dict[str, Any]:
    own = [each for each in left_out if str(each.get("site", "")) == site]
    reasons = list(dict.fromkeys(str(each.get("reason", "")) for each in own))
    more = len(reasons) - _MOST_REASONS
    return {
        "site": site,
        "rounds": ranges({int(found) for each in own if (found := number(each.get("round"))) is not None}),
        "times": len(own),
        "reasons": [*reasons[:_MOST_REASONS], *([f"and {more} more"] if more > 0 else [])],
    }


def ranges(rounds: set[int]) -> str:
    """Numbers as people write them: ``1, 3 to 5``."""
    made: list[list[int]] = []
    for each in sorted(rounds):
        if made and each == made[-1][1] + 1:
            made[-1][1] = each
        else:
            made.append([each, each])
    return ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in made)
