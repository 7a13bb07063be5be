"""What each switch of training brings on validation images: one experiment, run once for each switch and seed.

Every arm is the experiment with one switch more than it has, beside the experiment itself and the whole recipe. Runs of
one seed share data, split and batches, so that differences are paired. Test images are measured by the runs, as ever,
and not read here: what is chosen by this table may still be tested.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medveil import plain
from medveil.claims import claimed
from medveil.config import from_mapping, load_config, to_mapping
from medveil.errors import ConfigError, MedVeilError
from medveil.files import make_folder, write_json, write_text
from medveil.recipes import RECIPES
from medveil.yaml_core import written_yaml
from simulations.baselines.names import BASELINES
from simulations.config import ExperimentConfig, make_plan, refuse_pixels
from simulations.folders import LEFT_S, MANIFEST, read_manifest

if TYPE_CHECKING:
    from simulations.standing import Comparable

FORMAT, VERSION = "medveil-ablation", 1
AS_IT_IS = "as it is"
SWITCHES: dict[str, dict[str, dict[str, Any]]] = {
    "muon": {"train": {"optimizer": "muon"}},
    "ema": {"train": {"ema": 0.99}},
    "mimetic": {"model": {"init": "mimetic"}},
    "patch dropout": {"train": {"patch_dropout": 0.5}},
    "light": {"train": {"augment": "light"}},
    "medium": {"train": {"augment": "medium"}},
    "strong": {"train": {"augment": "strong"}},
    "kept moments": {"train": {"state": "kept"}},
    "bf16": {"train": {"precision": "bf16"}},
    "ten views": {"predict": {"views": 10}},
    "small-data": RECIPES["small-data"],
}
_MEASURES = ("accuracy", "auroc")
_ENDED = {"finished", "stopped-early"}
LOCK = ".ablation"


@dataclass(frozen=True)
class Ablation:
    """The folder of an ablation, and the table in it."""

    folder: Path
    rows: list[dict[str, Any]]

    @property
    def text(self) -> Path:
        """The table as Markdown."""
        return self.folder / "ablation.md"


def ablate(config: ExperimentConfig, out: Path, *, switches: Sequence[str] = tuple(SWITCHES)) -> Ablation:
    """Run the experiment as it is and with each switch, under every seed of its ``compare`` section.

    Runs lie below ``out/SWITCH/seed-N``; those that finished under the same settings are kept, so that an ablation that
    was interrupted goes on.

    Raises
    ------
    BasisError
        A run that would be kept stands on other images, labels or weights than there are now.
    ConfigError
        There is no such switch, no seed, or a switch and the experiment cannot be had together; or it measures nothing
        on validation images.
    StorageError
        Another process works in this folder; which one and since when.
    """
    refuse_pixels(config, "ablate")
    unknown = next((name for name in switches if name not in SWITCHES), None)
    seeds = config.compare.seeds
    if unknown is not None or not seeds or len(set(seeds)) < len(seeds):
        problem = "names no switch or no seed, or one seed twice"
        raise ConfigError(problem, where="ablation", cure=f"switches: {', '.join(SWITCHES)}")
    if config.federation in BASELINES:
        raise ConfigError("is a baseline, which has none of the switches", where=f"federation {config.federation}")
    arms = {AS_IT_IS: config, **{name: with_switch(config, name) for name in switches}}
    out = make_folder(out).resolve()
    with claimed(out / LOCK, seconds=LEFT_S, cure="wait for its end, or end it: kill {pid}; or name another folder"):
        if config.data.source == "phantoms" and config.data.path is None:
            config.data.path = str(out / "phantoms")
        _check(arms, out)
        return _ablated(arms, seeds, out)


def _check(arms: dict[str, ExperimentConfig], out: Path) -> None:
    """Refuse what cannot be before anything is run: hours later it would be refused too."""
    from simulations.run import check_model  # noqa: PLC0415 - torch loads here

    for name, experiment in arms.items():
        try:
            check_model(make_plan(experiment, out / _folder(name)))
        except ConfigError as error:
            told = f"with switch '{name}' {error.problem}"
            raise ConfigError(told, where=error.where, cure=error.cure or "leave the switch out: --switch") from error


def _ablated(arms: dict[str, ExperimentConfig], seeds: Sequence[int], out: Path) -> Ablation:
    from simulations.standing import Comparable  # noqa: PLC0415 - what reads images takes a while to import

    comparable = Comparable()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    for seed in seeds:
        for name, experiment in arms.items():
            found[name].append(_measured(experiment, seed, out / _folder(name) / f"seed-{seed}", comparable))
            made = Ablation(out, _rows(found))
            write_json(out / "ablation.json", {"format": FORMAT, "version": VERSION, "rows": made.rows})
            write_text(made.text, as_markdown(made.rows))
    return made


def _folder(name: str) -> str:
    return name.replace(" ", "-")


def with_switch(config: ExperimentConfig, name: str) -> ExperimentConfig:
    """An experiment with one switch more; `config` is not changed."""
    values = to_mapping(copy.deepcopy(config))
    for section, settings in SWITCHES[name].items():
        values[section] |= settings
    return from_mapping(ExperimentConfig, values, where=f"switch '{name}'")


def _measured(config: ExperimentConfig, seed: int, folder: Path, comparable: Comparable) -> dict[str, Any]:
    from fl_server.metrics import read_lines  # noqa: PLC0415 - a door opens fast
    from simulations.run import run_experiment  # noqa: PLC0415

    experiment, settings = copy.deepcopy(config), folder.with_suffix(".yaml")
    experiment.seed = seed
    if _ended(folder) and _as_written(settings) == experiment:
        comparable.check(folder, experiment)
    else:
        make_folder(folder.parent)
        # Written down once it ended so: whoever is cut off in between runs it again.
        settings.unlink(missing_ok=True)
        run_experiment(experiment, folder, replace=True, progress=False, report=_no_page)
        write_text(settings, written_yaml(to_mapping(experiment), flow=False))
    lines = [line for line in read_lines(folder / "metrics.jsonl") if line["site"] == "all"]
    judged = [line for line in lines if line["phase"] == "validation" and line["accuracy"] is not None]
    if not judged:
        raise ConfigError("measured nothing on validation images", where=folder, cure="data.validation above 0")
    last = judged[-1]
    spent = sum(line["seconds"] or 0.0 for line in lines if line["phase"] == "train")
    plain.tell(f"{folder}: validation accuracy {last['accuracy']:.3f}", error=True)
    return {"seed": seed, "seconds": spent, **{name: last[name] for name in _MEASURES}}


def _no_page(folder: Path) -> Path:
    """In the place of a run's report: a table is made of these runs, and a page each takes longer than a small run."""
    return folder


def _ended(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() and read_manifest(folder).get("status") in _ENDED


def _as_written(settings: Path) -> ExperimentConfig | None:
    try:
        return load_config(ExperimentConfig, settings)
    except MedVeilError:
        return None


def _rows(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    base = {each["seed"]: each for each in found[AS_IT_IS]}
    return [_row(name, runs, base) for name, runs in found.items() if runs]


def _row(name: str, runs: list[dict[str, Any]], base: dict[int, dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {"switch": name, "seeds": [each["seed"] for each in runs]}
    for measure in _MEASURES:
        row[measure] = _mean([each[measure] for each in runs])
        gained = [_less(each[measure], base[each["seed"]][measure]) for each in runs]
        row[f"{measure}_gained"] = None if name == AS_IT_IS else _mean(gained)
        row[f"{measure}_interval"] = None if name == AS_IT_IS else _interval(gained)
    return row | {"seconds": _mean([each["seconds"] for each in runs])}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _interval(gained: list[float | None]) -> list[float] | None:
    """Of the mean paired difference, 95 %, Student's t over seeds; None of fewer than three."""
    from scipy import stats  # noqa: PLC0415

    known = [value for value in gained if value is not None]
    if len(known) < 3 or len(known) < len(gained):
        return None
    half = float(stats.t.ppf(0.975, len(known) - 1)) * float(np.std(known, ddof=1)) / math.sqrt(len(known))
    middle = float(np.mean(known))
    return [middle - half, middle + half]


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """The table: validation accuracy and AUROC, what a switch gained beside the experiment as it is, and seconds."""
    names = ("switch", "seeds", "validation accuracy", "gained", "AUROC", "gained", "training, s")
    head = f"| {' | '.join(names)} |\n{'|---' * len(names)}|\n"
    return head + "".join(
        f"| {row['switch']} | {len(row['seeds'])} | {_number(row['accuracy'])} | {_gained(row, 'accuracy')} | "
        f"{_number(row['auroc'])} | {_gained(row, 'auroc')} | {row['seconds']:.0f} |\n"
        for row in rows
    )


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"


def _gained(row: dict[str, Any], measure: str) -> str:
    interval = row[f"{measure}_interval"]
    beside = "" if interval is None else f" [{interval[0]:+.3f}, {interval[1]:+.3f}]"
    return _number(row[f"{measure}_gained"], "+") + beside
