"""A run folder as a page needs it: everything that is there, however far the run came."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from medveil.errors import FormatError, IntegrityError, MedVeilError
from medveil.evaluating import ALL as ALL_IMAGES
from medveil.evaluating import EVALUATE, EvaluateConfig
from medveil.files import check_format, read_bytes, read_json
from medveil.npz import load_arrays
from medveil.pretraining import MASKED
from simulations.predictions import Predictions, load_predictions

ALL = "all"
"""The site name of lines that average over sites."""

Mapping = dict[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """What a run left behind; what could not be read is named in `problems` and otherwise absent."""

    folder: Path
    manifest: Mapping
    metrics: list[Mapping] = field(default_factory=list)
    summary: Mapping | None = None
    sites: dict[str, Mapping] = field(default_factory=dict)
    predictions: dict[str, Predictions] = field(default_factory=dict)
    examples: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    looked: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """``finished``, ``stopped-early``, ``running``, ``failed`` or ``interrupted``."""
        return str(self.manifest.get("status", "unknown"))

    @property
    def run_config(self) -> Mapping:
        """The run's configuration as server and sites saw it."""
        return section(self.manifest, "run_config")

    @property
    def experiment(self) -> Mapping:
        """The experiment as `medveil-sim` resolved it; empty for a run it did not make."""
        return section(self.manifest, "experiment")

    @property
    def pixels(self) -> bool:
        """Whether the run learned pixels, and no classes."""
        return self.run_config.get("task") == MASKED

    @property
    def evaluated(self) -> EvaluateConfig | None:
        """Which images were measured, of a run that trained nothing; else None."""
        if self.run_config.get("task") != EVALUATE:
            return None
        return EvaluateConfig(str(section(self.run_config, "evaluate").get("images", ALL_IMAGES)))

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the logits."""
        return [str(each) for each in self.run_config.get("classes", [])]

    def curve(self, phase: str, measure: str, site: str) -> list[tuple[int, float]]:
        """(round, value) pairs of one site and phase, in the order of the rounds; undefined values are left out."""
        found = {
            int(line["round"]): float(line[measure])
            for line in self.metrics
            if line["phase"] == phase and line["site"] == site and number(line.get(measure)) is not None
        }
        return sorted(found.items())

    @property
    def curve_sites(self) -> list[str]:
        """Sites that have lines in the metrics, by name."""
        return sorted({str(line["site"]) for line in self.metrics} - {ALL})


def section(document: Mapping | None, key: str) -> Mapping:
    """A nested mapping, empty where there is none."""
    found = (document or {}).get(key)
    return found if isinstance(found, dict) else {}


def number(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def read_run(folder: str | Path) -> RunRecord:
    """Read a run folder.

    Raises
    ------
    StorageError, IntegrityError, FormatError
        There is no manifest, or it is not whole or not one this MedVeil reads. Nothing else stops the reading.
    """
    folder = Path(folder)
    manifest = read_json(folder / "manifest.json")
    check_format(manifest, name="medveil-manifest", newest=1, where=folder / "manifest.json")
    problems: list[str] = []
    return RunRecord(
        folder=folder,
        manifest=manifest,
        metrics=_metrics(folder / "metrics.jsonl", problems),
        summary=_document(folder / "summary.json", problems, name="medveil-summary"),
        sites=_by_parent(folder.glob("sites/*/site.json"), problems),
        predictions=_predictions(folder, problems),
        examples=_arrays(folder / "examples.npz", problems),
        looked=_arrays(folder / "looked.npz", problems),
        problems=problems,
    )


def _metrics(path: Path, problems: list[str]) -> list[Mapping]:
    if not path.is_file():
        return []
    made: list[Mapping] = []
    try:
        lines = read_bytes(path).decode("utf-8", errors="replace").splitlines()
    except MedVeilError as error:
        problems.append(str(error))
        return []
    for place, line in enumerate(lines, start=1):
        try:
            each = json.loads(line)
            made.append({**each, "round": int(each["round"]), "site": str(each["site"]), "phase": str(each["phase"])})
        except (ValueError, KeyError, TypeError):
            problems.append(f"{path.name}: line {place} is not whole and was left out")
    return made


def _document(path: Path, problems: list[str], *, name: str | None = None) -> Mapping | None:
    if not path.is_file():
        return None
    try:
        document = read_json(path)
        if not isinstance(document, dict):
            raise IntegrityError("is not a mapping", where=path)
        if name is not None:
            check_format(document, name=name, newest=1, where=path)
    except MedVeilError as error:
        problems.append(str(error))
        return None
    return document


def _by_parent(files: Any, problems: list[str]) -> dict[str, Mapping]:
    found = {file.parent.name: _document(file, problems) for file in sorted(files)}
    return {site: document for site, document in found.items() if document is not None}


def _predictions(folder: Path, problems: list[str]) -> dict[str, Predictions]:
    try:
        return load_predictions(folder)
    except (IntegrityError, FormatError) as error:
        problems.append(str(error))
        return {}


def _arrays(path: Path, problems: list[str]) -> dict[str, npt.NDArray[Any]]:
    if not path.is_file():
        return {}
    try:
        return load_arrays(path)
    except MedVeilError as error:
        problems.append(f"{path.name}: {error}")
        return {}
