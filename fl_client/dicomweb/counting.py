"""How much a query finds, in numbers alone; those of few patients are not shown, nor what would give them away."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fl_client.data.base import Skipped
from fl_client.dicomweb.searching import Found
from fl_client.dicomweb.tables import LabelTable
from medveil.tables import plain_table

_UNTOLD = "not told"


def counts_of(
    found: Sequence[Found], skipped: Sequence[Skipped], labels: LabelTable | None, *, smallest: int
) -> dict[str, Any]:
    """Counts of what a server says it has, as plain data; None stands for one that is not shown.

    Not shown is a number of images of fewer patients than `smallest`, however many images they have, and a part
    without which another such part would follow from the whole. Of whom the server tells no PatientID, each study
    counts as a patient.
    """
    few = max(1, smallest)
    told = all(each.text("PatientID") for each in found)
    groups = {
        "modality": _grouped((each.text("Modality"), each) for each in found),
        "body part": _grouped((each.text("BodyPartExamined"), each) for each in found),
        "year": _grouped((each.text("StudyDate")[:4], each) for each in found),
    }
    made: dict[str, Any] = {
        "smallest": few,
        "images": _shown(found, few),
        "series": _shown(found, few, len({each.series for each in found})),
        "studies": _shown(found, few, len({each.study for each in found})),
        "patients": _shown(found, few, len(_people(found))) if told else None,
        "left_out": _large(len(skipped), few),
    }
    if labels is not None:
        made["rows_without_images"] = _large(labels.unmatched(found), few)
        groups["label"] = _grouped((row.label, each) for each in found if (row := labels.of(each)) is not None)
    made["by"] = {name: _parts(parts, few) for name, parts in groups.items()}
    return made


def table_of(counts: dict[str, Any]) -> str:
    """The same for a terminal."""
    few = counts["smallest"]
    names = ("images", "series", "studies", "patients", "left_out", "rows_without_images")
    rows = [{"what": each.replace("_", " "), "count": _said(counts[each], few)} for each in names if each in counts]
    for name, parts in counts["by"].items():
        rows += [{"what": f"{name} {part}", "count": _said(count, few)} for part, count in parts.items()]
    return plain_table(rows)


def _grouped(named: Iterable[tuple[str, Found]]) -> dict[str, list[Found]]:
    made = defaultdict[str, list[Found]](list)
    for name, each in named:
        made[name or _UNTOLD].append(each)
    return made


def _people(found: Sequence[Found]) -> set[str]:
    return {each.text("PatientID") or each.study for each in found}


def _shown(found: Sequence[Found], few: int, count: int | None = None) -> int | None:
    """A count of some images, by itself their number, where they are of enough patients."""
    return (len(found) if count is None else count) if not found or len(_people(found)) >= few else None


def _large(count: int, few: int) -> int | None:
    return count if count >= few or count == 0 else None


def _parts(parts: Mapping[str, list[Found]], few: int) -> dict[str, int | None]:
    made = {name: _shown(found, few) for name, found in sorted(parts.items())}
    hidden = [each for name, count in made.items() if count is None for each in parts[name]]
    others = sorted((count, name) for name, count in made.items() if count)
    if hidden and len(_people(hidden)) < few and others:
        made[others[0][1]] = None
    return made


def _said(count: int | None, few: int) -> str:
    return f"of fewer than {few}, or not told" if count is None else str(count)
