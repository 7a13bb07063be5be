"""What a run promised the images it trained on, and what its sites say it came to."""

from __future__ import annotations

from medveil.privacy import UNIT_WORDS
from simulations.report.record import RunRecord, number, section


def promised(run: RunRecord) -> list[tuple[str, str]]:
    """Epsilon as it was agreed, and the most that a site says it came to; nothing of a run without noise."""
    terms, told = section(run.run_config, "privacy"), section(run.summary, "privacy")
    epsilon, delta, unit = number(terms.get("epsilon")), number(terms.get("delta")), terms.get("unit")
    if epsilon is None or delta is None or unit not in UNIT_WORDS:
        return []
    said = [value for each in section(told, "sites").values() if (value := number(each)) is not None]
    came = f"; at most {max(said):.2f} at {len(said)} site{'' if len(said) == 1 else 's'}" if said else ""
    return [("privacy", f"epsilon {epsilon:g} at delta {delta:g} for each {UNIT_WORDS[unit]}{came}")]
