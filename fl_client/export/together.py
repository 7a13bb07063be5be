"""What a data card says of images that were kept together, and of look-alikes that were not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fl_client.data.config import SIMILAR
from fl_client.export.cells import count, text


def grouping(data: Mapping[str, Any]) -> str:
    """By what images were kept together."""
    named = data["group_by"] or ""
    alike = named == SIMILAR or named.endswith(f"+{SIMILAR}")
    named = "" if named == SIMILAR else named.removesuffix(f"+{SIMILAR}")
    default = "the patient (PatientID)" if data["source"] in {"dicom", "hidden"} else ""
    kept = "" if named == "none" else f"images of one {text(named)}" if named else default
    return " and ".join(filter(None, (kept, "images that look alike" if alike else ""))) or "nothing"


def told_of_similar(data: Mapping[str, Any], smallest: int) -> list[str]:
    """What joining images that look alike came to, or what leaving them apart did; an older MedVeil told neither."""
    joined, near = data.get("similar"), data.get("near")
    if joined:
        groups, largest = count(joined["groups"], smallest), count(joined["largest"], smallest)
        alike = f"grey 48x48 versions correlate above {joined['threshold']:g}"
        return [f"- look alike where {alike}: {groups} groups of the images read, the largest of {largest}"]
    if not near:
        return []
    if near["skipped"]:
        return [f"- test images that look like a training image: not counted, {text(near['skipped'])}"]
    told = f"{count(near['near'], smallest)} of {count(near['test'], smallest)}"
    return [f"- test images that look like a training image (correlation above {near['threshold']:g}): {told}"]
