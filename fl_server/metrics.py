"""metrics.jsonl: one line per round, site and phase."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from flwr.app import Message

from fl_server.faults import reading
from medveil.contract import ARRAYS, METRICS, measure_key
from medveil.errors import FederationError, IntegrityError
from medveil.files import read_bytes, storage_error, write_bytes
from medveil.measures import checked_measures
from medveil.shapes import check_shape
from medveil.values import shown_value

ALL = "all"
MEASURES = ("loss", "accuracy", "balanced_accuracy", "auroc")
Line = dict[str, Any]
Weigh = Callable[[Iterable[str]], Mapping[str, float]]
"""Gives the weight of each of some sites that are averaged; none to those that do not count."""
LINE = {
    "round": int,
    "site": str,
    "phase": str,
    **dict.fromkeys((*MEASURES, "seconds"), (float, None)),
    **dict.fromkeys(("n", "bytes_up", "bytes_down"), (int, None)),
}
"""Shape of a line, as `medveil.shapes.check_shape` takes it."""


class MetricsLog:
    """Appends lines to a file; a resumed run cuts it back to what its checkpoint had seen.

    Parameters
    ----------
    path
        The file; made at the first line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.count = 0

    def append(self, line: Line) -> None:
        """Write one line (StorageError if the disk refuses it)."""
        try:
            with open(self._path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(line, allow_nan=False) + "\n")
        except OSError as error:
            raise storage_error(error, self._path, "write the file") from error
        self.count += 1

    def cut(self, count: int) -> None:
        """Keep the first `count` lines, atomically."""
        lines = read_bytes(self._path).splitlines(keepends=True) if os.path.exists(self._path) else []
        kept = [line for line in lines[:count] if line.endswith(b"\n")]
        if lines:
            write_bytes(self._path, b"".join(kept))
        self.count = len(kept)


def read_lines(path: Path) -> list[Line]:
    """The whole lines of a file, whose last one may still be in the writing; none where it is not there yet."""
    text = read_bytes(path) if path.exists() else b""
    return [_line(line, f"{path}, line {number}") for number, line in enumerate(text.split(b"\n")[:-1], start=1)]


def _line(text: bytes, where: str) -> Line:
    try:
        made: Line = json.loads(text)
    except (ValueError, RecursionError):
        raise IntegrityError("is not whole JSON", where=where) from None
    check_shape(made, LINE, where=where)
    return made


def metrics_of(message: Message, *, site: str, tensors: bool) -> dict[str, float | None]:
    """The numbers of a reply; None where undefined (NaN).

    Parameters
    ----------
    message
        The reply.
    site
        Whose it is.
    tensors
        Whether it brings an update.

    Raises
    ------
    FederationError
        It carries other records than such a reply has, or a number that is not possible.
    """
    with reading(site):
        content = message.content
        records, arrays = list(content.metric_records), list(content.array_records)
        if records != [METRICS]:
            raise FederationError(f"the reply carries metric records {shown_value(records)}, wanted '{METRICS}' alone")
        if not tensors and arrays:
            raise FederationError(f"the reply carries array records {shown_value(arrays)}, wanted none")
        if tensors and arrays != [ARRAYS]:
            raise FederationError(f"the reply carries array records {shown_value(arrays)}, wanted '{ARRAYS}' alone")
        return checked_measures(content.metric_records[METRICS])


def has_phase(metrics: Mapping[str, Any], phase: str) -> bool:
    """Whether a reply carries measurements of a phase."""
    return measure_key(phase, "n") in metrics or measure_key(phase, "loss") in metrics


def measures_of(metrics: Mapping[str, float | None], phase: str) -> Line:
    """The measures of one phase, under the names of metrics.jsonl; None where there are none."""
    n = metrics.get(measure_key(phase, "n"))
    found: Line = {name: metrics.get(measure_key(phase, name.replace("_", "-"))) for name in MEASURES}
    return found | {"n": None if n is None else int(n)}


def line(
    *,
    round_: int,
    site: str,
    phase: str,
    measures: Mapping[str, Any],
    seconds: float | None = None,
    bytes_up: int | None = None,
    bytes_down: int | None = None,
) -> Line:
    """One line of metrics.jsonl; bytes are tensors on the wire, up to the server and down to the site."""
    named = {name: measures.get(name) for name in (*MEASURES, "n")}
    traffic = {"seconds": _rounded(seconds), "bytes_up": bytes_up, "bytes_down": bytes_down}
    return {"round": round_, "site": site, "phase": phase, **named, **traffic}


def together(lines: Iterable[Mapping[str, Any]], weigh: Weigh, names: Iterable[str] = MEASURES) -> Line:
    """Means over sites, measures a site does not have left out, and the sum of n.

    Parameters
    ----------
    lines
        One for each site, which it names under ``"site"``.
    weigh
        The weights of the sites that have a measure. A site's own n never weighs.
    names
        The measures.
    """
    lines = list(lines)
    made: Line = {name: _mean(lines, name, weigh) for name in names}
    counts = [each["n"] for each in lines if each["n"] is not None]
    return made | {"n": sum(counts) if counts else None}


def total(lines: Iterable[Mapping[str, Any]], name: str) -> int | None:
    """Sum of a column over lines; None where no line has it."""
    found = [each[name] for each in lines if each[name] is not None]
    return sum(found) if found else None


def _mean(lines: list[Mapping[str, Any]], name: str, weigh: Weigh) -> float | None:
    known = {each["site"]: each[name] for each in lines if each.get(name) is not None}
    weights = weigh(known)
    whole = sum(weights.values())
    return sum(known[site] * weight for site, weight in weights.items()) / whole if whole else None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
