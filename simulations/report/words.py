"""What a page says in words: numbers as text, and verdicts that follow from the numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fl_client.intervals import Interval
from simulations.equivalence import Equivalence
from simulations.report.measured import Pair
from simulations.report.record import Mapping, number

NOTHING = "–"


def score(value: object) -> str:
    """A share or an AUROC with three decimals; a dash where there is none."""
    found = number(value)
    return NOTHING if found is None else f"{found:.3f}"


def interval(bounds: object) -> str:
    """``[0.912, 0.934]``; empty where there is no interval."""
    if not isinstance(bounds, Sequence) or isinstance(bounds, str) or len(bounds) != 2:
        return ""
    low, high = number(bounds[0]), number(bounds[1])
    return "" if low is None or high is None else f"[{low:.3f},\u00a0{high:.3f}]"


def count(value: object) -> str:
    """A whole number with thin spaces between thousands."""
    found = number(value)
    return NOTHING if found is None else f"{found:,.0f}".replace(",", "\u202f")


def seconds(value: object) -> str:
    """A duration: ``8.2 s``, ``3 min 5 s``, ``2 h 14 min``."""
    found = number(value)
    if found is None:
        return NOTHING
    if found < 59.95:
        return f"{found:.1f} s"
    whole = round(found)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(value: object) -> str:
    """A number of bytes: ``21.4 MB``."""
    found = number(value)
    if found is None:
        return NOTHING
    for unit in ("B", "kB", "MB", "GB"):
        if found < 999.5:
            return f"{found:.0f} {unit}" if unit == "B" else f"{found:.1f} {unit}"
        found /= 1000
    return f"{found:.1f} TB"


def rests(found: Mapping) -> str:
    """What a measure rests on: ``3 of 6 sites, 120 images``; empty where it is not known."""
    sites, of_sites, n = (number(found.get(each)) for each in ("sites", "of_sites", "n"))
    if sites is None or of_sites is None or n is None:
        return ""
    return f"{sites:.0f} of {of_sites:.0f} site{'' if of_sites == 1 else 's'}, {count(n)} images"


def partial(found: Mapping) -> str:
    """What `rests` says, where it is not every site; else empty."""
    return rests(found) if number(found.get("sites")) != number(found.get("of_sites")) else ""


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def plain(value: Any) -> str:
    """Any value of a JSON document as short text."""
    found = number(value)
    if found is not None:
        return f"{found:g}" if found == int(found) else f"{found:.4g}"
    if value is None:
        return NOTHING
    if isinstance(value, list):
        return ", ".join(plain(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(each)}" for key, each in value.items())
    return str(value)


def percent(value: object) -> str:
    """A share as a percentage with one decimal that never rounds up to all of it."""
    found = number(value)
    if found is None:
        return NOTHING
    return "100 %" if found == 1 else f"{min(99.9, round(100 * found, 1)):.1f} %"


def p_value(value: float) -> str:
    """``0.012``, ``< 0.001`` or ``> 0.999``."""
    if value < 0.001:
        return "< 0.001"
    return "> 0.999" if value > 0.999 else f"{value:.3f}"


def points(value: object) -> str:
    """A share in points, with its sign: ``−0.32``."""
    found = number(value)
    return NOTHING if found is None else f"{100 * found:+.2f}".replace("-", "\u2212")


def points_between(bounds: Interval) -> str:
    """An interval in points: ``[−0.32, +1.20]``."""
    return f"[{points(bounds.low)},\u00a0{points(bounds.high)}]"


def seeds(count: int, *, deterministic: bool = False, splits: int = 0) -> str:
    """Over how many seeds an arm was run; where nothing is drawn, on how many splits."""
    return f"{splits} split{'' if splits == 1 else 's'}, nothing drawn" if deterministic else str(count)


def above(pair: Pair | None) -> str:
    """By how many points an arm's accuracy is above the best baseline's, with the 95 % interval of the difference."""
    if pair is None or pair.equivalence is None:
        return NOTHING
    told = f"{points(pair.equivalence.difference)} {points_between(pair.equivalence.wide)} points"
    return f"{told} ({pair.twin})"


def equivalence(test: Equivalence) -> str:
    """The verdict of an equivalence test with the numbers it rests on."""
    p = p_value(test.p_value)
    sign = "" if p[0] in "<>" else "= "
    bounds = points_between(test.interval)
    return f"{test.verdict} (p {sign}{p}; difference {points(test.difference)} {bounds} points)"
