"""The page about several arms: ``compare.html``, and the same numbers as JSON, CSV and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medveil.files import make_folder, write_json, write_text
from medveil.versions import medveil_version
from simulations.report import figures, words
from simulations.report.compared import as_data, as_markdown, as_sheet, near_duplicates, seeds_of
from simulations.report.links import links, relative
from simulations.report.measured import ArmResult, Measured, Pair, Score, measure_arms
from simulations.report.page import as_yaml, render
from simulations.report.record import number, read_run, section

__all__ = ["ArmResult", "write_comparison"]
_PANELS = (
    ("accuracy", "Accuracy", "share of images answered right"),
    ("balanced_accuracy", "Balanced accuracy", "mean share over classes"),
    ("auroc", "AUROC", "area under the ROC curve"),
)
_CURVES = (
    ("loss", "Loss", "cross-entropy, nats"),
    ("accuracy", "Accuracy", "share of images"),
    ("auroc", "AUROC", "area"),
)
_SHOWN_FILES = ("compare.json", "compare.csv", "compare.md")
_OF_ARMS = ("name", "keys", "stem", "federation", "cipher", "seed", "compare", "server")
"""Settings in which arms differ by what they are."""


def write_comparison(
    folder: str | Path, rows: list[ArmResult], *, basis: Mapping[str, str] | None = None, command: str | None = None
) -> Path:
    """Write ``compare.html``, ``compare.json``, ``compare.csv`` and ``compare.md`` about arms that were run.

    Parameters
    ----------
    folder
        Where they go.
    rows
        The arms in the order of the tables. Every number is computed from their run folders.
    basis
        Digests of the data that all of them stand on, by part, where they are known.
    command
        What was typed for it.

    Returns
    -------
    Path
        The page: one file, without references to anything outside it.

    Raises
    ------
    DataError
        There is no arm, an arm has no run with predictions, or two runs of one seed.
    StorageError, IntegrityError, FormatError
        A run folder cannot be read, or the folder not be written.
    """
    folder = make_folder(folder)
    # What has to be beaten stands below what has to beat it.
    arms = sorted(measure_arms(rows), key=lambda each: each.arm.baseline)
    title, setting = _setting(arms)
    document = {
        "format": "medveil-comparison",
        "version": 1,
        "name": title,
        "setting": setting,
        "basis": dict(basis or {}),
        "near": near_duplicates(arms),
        "command": command,
        "medveil": medveil_version(),
        "commits": sorted({commit for each in arms for commit in each.costs.commits}),
        "arms": [as_data(each) for each in arms],
    }
    write_json(folder / "compare.json", document)
    write_text(folder / "compare.csv", as_sheet(arms))
    write_text(folder / "compare.md", as_markdown(arms))
    path = folder / "compare.html"
    content = {
        "arms": arms,
        "panels": _panels(arms),
        "pairs": [_pair_words(each) for each in arms if each.pair],
        "seeds_of": seeds_of,
        "beside": [(each, pair) for each in arms for pair in each.beside],
        "wholes": [(each, each.full) for each in arms if each.full and each.full.equivalence],
        "groups": [(name, own) for name, own in _grouped(arms) if own],
        "has_processor_time": any(each.costs.cpu is not None for each in arms),
        "has_baselines": any(each.baseline for each in arms),
        "near": near_duplicates(arms),
        "curves": _curves(arms),
        "has_thief": any(value is not None for each in arms for one in each.thief.values() for value in one.values()),
        "runs": [(each, _run_links(folder, each)) for each in arms],
        "files": links(folder, _SHOWN_FILES),
        "shared": _shared(arms),
        "differing": [(each, _own_settings(each)) for each in arms],
    }
    write_text(path, render("compare.html", title=title, setting=setting, **content))
    return path


def _grouped(arms: Sequence[Measured]) -> list[tuple[str, list[Measured]]]:
    """The arms, and below them the baselines under a heading of their own."""
    told = "Baselines: plain images pooled over sites, on the same split; no federation and no key"
    return [("", [each for each in arms if not each.baseline]), (told, [each for each in arms if each.baseline])]


def _curves(arms: Sequence[Measured]) -> list[tuple[str, Markup]]:
    """Validation over rounds, one line for each arm: the mean of its seeds."""
    made = []
    for measure, heading, title in _CURVES:
        lines = [
            figures.Line(each.arm.name, each.curves[measure], dashed=each.baseline is not None)
            for each in arms
            if each.curves[measure] and not (each.baseline and each.baseline.deterministic)
        ]
        if lines:
            said = "; ".join(figures.described(line.name, line.points) for line in lines)
            label = f"{heading} on validation images over rounds: {said}"
            made.append((heading, figures.curves(lines, name=f"curve-{measure}", label=label, title=title)))
    return made


def _run_links(folder: Path, each: Measured) -> list[tuple[int, str | None]]:
    by_seed = dict(each.folders)
    return [(seed, relative(folder, by_seed[seed] / "report.html")) for seed in each.seeds]


def _shared(arms: Sequence[Measured]) -> str:
    """The settings that all arms share, as YAML."""
    first, *others = [_but_scope(_settings(each)) for each in arms]
    same = {
        key: value
        for key, value in first.items()
        if key not in _OF_ARMS and all(each.get(key) == value for each in others)
    }
    return as_yaml(same) if same else ""


def _but_scope(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without what arms of several scopes differ in."""
    train = {name: value for name, value in section(settings, "train").items() if name != "scope"}
    return {**settings, "train": train} if train else settings


def _own_settings(each: Measured) -> str:
    """What makes an arm, in a line."""
    settings = _settings(each)
    parts = {key: settings[key] for key in ("federation", "keys", "stem", "cipher") if settings.get(key) is not None}
    scope = section(settings, "train").get("scope")
    parts |= {"train.scope": scope} if scope else {}
    return "; ".join(f"{key}: {words.plain(value)}" for key, value in parts.items())


def _settings(each: Measured) -> dict[str, Any]:
    record = read_run(each.folders[0][1])
    return record.experiment or record.run_config


def _setting(arms: Sequence[Measured]) -> tuple[str, str]:
    """The comparison's name, and in a line what all arms share."""
    first = arms[0]
    record = read_run(first.arm.runs[0])
    experiment = record.experiment
    data = section(experiment, "data")
    partition = section(data, "partition")
    seeds = sorted({seed for each in arms for seed in each.seeds})
    parts = [
        f"{words.plain(experiment['sites'])} sites" if number(experiment.get("sites")) else "",
        str(data.get("source", "")),
        f"Dirichlet {words.plain(partition.get('alpha'))}" if partition.get("kind") == "dirichlet" else "",
        str(section(record.run_config, "model").get("name", "")),
        f"{words.plain(record.run_config.get('rounds'))} rounds",
        ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds)),
    ]
    name = str(record.manifest.get("name", "comparison")).removesuffix(f" {first.arm.name}")
    return name, ", ".join(part for part in parts if part)


def _panels(arms: Sequence[Measured]) -> list[tuple[str, Markup]]:
    rates = [each.majority_rate for each in arms if each.majority_rate is not None]
    references = {"accuracy": sum(rates) / len(rates) if rates else None, "balanced_accuracy": None, "auroc": 0.5}
    made = []
    for metric, heading, title in _PANELS:
        rows = [
            figures.Dot(each.arm.name, score.mean, *_bounds(score), each=score.each, **_drawn(each))
            for each in arms
            if number((score := each.scores[metric]).mean) is not None
        ]
        if rows:
            label = f"{heading}: " + ", ".join(f"{row.name} {row.value:.3f}" for row in rows)
            drawn = figures.dots(rows, name=f"dots-{metric}", label=label, reference=references[metric], title=title)
            made.append((heading, drawn))
    return made


def _drawn(each: Measured) -> dict[str, bool]:
    return {"hidden": each.hidden, "baseline": each.baseline is not None}


def _bounds(score: Score) -> tuple[float, float]:
    """The ends of the line to draw: of no length where there is no interval."""
    low, high = score.interval
    return (score.mean, score.mean) if number(low) is None else (low, high)


def _pair_words(each: Measured) -> tuple[Measured, Pair, str]:
    pair = each.pair or Pair("")
    return each, pair, words.equivalence(pair.equivalence) if pair.equivalence else pair.reason
