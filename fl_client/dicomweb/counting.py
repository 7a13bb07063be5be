"""How much a query finds, in numbers alone; those of few are not shown, nor what they could be computed from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from fl_client.data.base import Skipped
from fl_client.dicomweb.searching import Found
from fl_client.dicomweb.tables import LabelTable
from medveil.tables import plain_table

_UNTOLD = "not told"


def counts_of(
    found: Sequence[Found], skipped: Sequence[Skipped], labels: LabelTable | None, *, smallest: int
) -> dict[str, Any]:
    """Counts of what a server says it has, as plain data; None stands for one below `smallest` that is not shown.

    A part is also not shown where another part alone is hidden, which the whole would give away.
    """
    few = max(1, smallest)
    patients = {each.text("PatientID") for each in found if each.text("PatientID")}
    told = all(each.text("PatientID") for each in found)
    groups: dict[str, Counter[str]] = {
        "modality": Counter(each.text("Modality") or _UNTOLD for each in found),
        "body part": Counter(each.text("BodyPartExamined") or _UNTOLD for each in found),
        "year": Counter(each.text("StudyDate")[:4] or _UNTOLD for each in found),
    }
    if labels is not None:
        groups["label"] = Counter(row.label for each in found if (row := labels.of(each)) is not None)
        matched = {row.line for each in found if (row := labels.of(each)) is not None}
    made: dict[str, Any] = {
        "smallest": few,
        "images": _shown(len(found), few),
        "series": _shown(len({each.series for each in found}), few),
        "studies": _shown(len({each.study for each in found}), few),
        "patients": _shown(len(patients), few) if told else None,
        "left_out": _shown(len(skipped), few),
    }
    if labels is not None:
        made["rows_without_images"] = _shown(len(labels.rows) - len(matched), few)
    made["by"] = {name: _parts(counts, few) for name, counts in groups.items()}
    return made


def table_of(counts: dict[str, Any]) -> str:
    """The same for a terminal."""
    few = counts["smallest"]
    names = ("images", "series", "studies", "patients", "left_out", "rows_without_images")
    rows = [{"what": each.replace("_", " "), "count": _said(counts[each], few)} for each in names if each in counts]
    for name, parts in counts["by"].items():
        rows += [{"what": f"{name} {part}", "count": _said(count, few)} for part, count in parts.items()]
    return plain_table(rows)


def _shown(count: int, few: int) -> int | None:
    return count if count >= few or count == 0 else None


def _parts(counts: Counter[str], few: int) -> dict[str, int | None]:
    made = {name: _shown(count, few) for name, count in sorted(counts.items())}
    hidden = [name for name, count in made.items() if count is None]
    others = sorted((count, name) for name, count in made.items() if count)
    if hidden and sum(counts[name] for name in hidden) < few and others:
        made[others[0][1]] = None
    return made


def _said(count: int | None, few: int) -> str:
    return f"below {few}, or not told" if count is None else str(count)
