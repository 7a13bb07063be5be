"""The page about several arms: ``compare.html``, and the same numbers as JSON, CSV and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medveil.files import make_folder, write_json, write_text
from medveil.sheets import sheet_of
from simulations.report import figures, words
from simulations.report.links import links, relative
from simulations.report.measured import ArmResult, Baseline, Measured, Pair, Score, measure_arms
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
_HEADS = (
    "arm",
    "seeds",
    "accuracy",
    "balanced accuracy",
    "AUROC",
    "majority",
    "same answers as twin",
    "equivalence",
    "above the best baseline",
    "wrong key AUROC",
    "public stem AUROC",
    "time",
    "sent by sites",
    "a site sends a round",
)
_FULL = "above training all of it"


def write_comparison(folder: str | Path, rows: list[ArmResult], *, basis: Mapping[str, str] | None = None) -> Path:
    """Write ``compare.html``, ``compare.json``, ``compare.csv`` and ``compare.md`` about arms that were run.

    Parameters
    ----------
    folder
        Where they go.
    rows
        The arms in the order of the tables. Every number is computed from their run folders.
    basis
        Digests of the data that all of them stand on, by part, where they are known.

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
        "arms": [_as_data(each) for each in arms],
    }
    flat = [_flat(each) for each in arms]
    write_json(folder / "compare.json", document)
    write_text(folder / "compare.csv", _csv(flat))
    write_text(folder / "compare.md", _markdown(arms))
    path = folder / "compare.html"
    content = {
        "arms": arms,
        "panels": _panels(arms),
        "pairs": [_pair_words(each) for each in arms if each.pair],
        "seeds_of": seeds_of,
        "beside": [(each, each.strongest) for each in arms if each.strongest],
        "wholes": [(each, each.full) for each in arms if each.full and each.full.equivalence],
        "groups": [(name, own) for name, own in _grouped(arms) if own],
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


def near_duplicates(arms: Sequence[Measured]) -> list[str]:
    """What the runs said of test images that look like a training image, once where all seeds say the same."""
    # Of arms that deal images to another number of sites the split may differ: the first arm's is told.
    by_seed = {seed: said for each in reversed(arms) for seed, said in each.near.items()}
    if len(set(by_seed.values())) == 1:
        return [next(iter(by_seed.values()))]
    return [f"seed {seed}: {said}" for seed, said in sorted(by_seed.items())]


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


def _as_data(each: Measured) -> dict[str, Any]:
    return {
        "name": each.arm.name,
        "policy": each.arm.policy,
        "seeds": list(each.seeds),
        "runs": [str(run) for run in each.arm.runs],
        "hidden": each.hidden,
        "scores": {metric: _score_data(score) for metric, score in each.scores.items()},
        "majority_rate": each.majority_rate,
        "auroc_at_chance": each.at_chance,
        "twin": _pair_data(each.pair) if each.pair else None,
        "baseline": each.baseline._asdict() if each.baseline else None,
        "beside_baselines": [_pair_data(pair) for pair in each.beside],
        "thief": each.thief,
        "seconds": each.seconds,
        "bytes_up": each.bytes_up,
        "bytes_down": each.bytes_down,
        "bytes_up_a_round": each.a_round[0],
        "bytes_down_a_round": each.a_round[1],
        "beside_full": _pair_data(each.full) if each.full else None,
        "intervals_note": each.note,
    }


def _score_data(score: Score) -> dict[str, Any]:
    bounds = [number(bound) for bound in score.interval]
    return {
        "mean": number(score.mean),
        "interval": None if None in bounds else bounds,
        "seeds": [number(value) for value in score.each],
        "rests_on": score.rests.as_data(),
        "pooled": score.pooled.as_data(),
    }


def _pair_data(pair: Pair) -> dict[str, Any]:
    test = pair.equivalence
    made: dict[str, Any] = {"name": pair.twin, "seeds": list(pair.seeds), "agreement": pair.agreement}
    if test is None:
        return {**made, "equivalence": None, "reason": pair.reason}
    found = {
        "difference": test.difference,
        "interval_90": [number(bound) for bound in test.interval],
        "p_value": test.p_value,
        "n": test.n,
        "margin": test.margin,
        "equivalent": test.equivalent,
        "verdict": test.verdict,
        "note": test.note,
    }
    return {**made, "equivalence": found, "reason": ""}


def _flat(each: Measured) -> dict[str, Any]:
    row: dict[str, Any] = {"arm": each.arm.name, "policy": each.arm.policy, "seeds": len(each.seeds)}
    for metric, score in each.scores.items():
        row |= {metric: score.mean, f"{metric}_low": score.interval.low, f"{metric}_high": score.interval.high}
        row |= {f"{metric}_sites": score.rests.sites, f"{metric}_pooled": score.pooled.value}
    row |= {"majority_rate": each.majority_rate, "auroc_at_chance": each.at_chance}
    pair = each.pair or Pair("")
    test = pair.equivalence
    row |= {
        "twin": pair.twin,
        "agreement": pair.agreement,
        "difference": test.difference if test else None,
        "equivalence_p": test.p_value if test else None,
        "equivalence": test.verdict if test else pair.reason,
    }
    found = each.baseline or Baseline(None, False, 0)
    row |= {"baseline": each.baseline is not None, "splits": found.splits or None, "cpu_seconds": found.cpu_seconds}
    beside = each.strongest
    test = beside.equivalence if beside else None
    row |= {"best_baseline": beside.twin if beside else "", "above_baseline": test.difference if test else None}
    for key in ("wrong_key", "public_stem"):
        row |= {f"{key}_{metric}": value for metric, value in each.thief[key].items()}
    row |= {"seconds": each.seconds, "bytes_up": each.bytes_up, "bytes_down": each.bytes_down}
    row |= {"bytes_up_a_round": each.a_round[0], "bytes_down_a_round": each.a_round[1]}
    test = each.full.equivalence if each.full else None
    row |= {"above_full": test.difference if test else None}
    row |= {f"above_full_{name}": getattr(test.interval, name) if test else None for name in ("low", "high")}
    return {name: None if isinstance(value, float) and number(value) is None else value for name, value in row.items()}


def _csv(rows: list[dict[str, Any]]) -> str:
    return sheet_of(rows, list(rows[0]))


def _markdown(arms: Sequence[Measured]) -> str:
    beside = any(each.full for each in arms)
    rule = ("---", *["---:"] * 5, "---", "---", "---", *["---:"] * 5)
    lines = [_cells((*_HEADS, _FULL)), _cells((*rule, "---"))] if beside else [_cells(_HEADS), _cells(rule)]
    for each in arms:
        pair = each.pair or Pair("")
        lines.append(
            _cells(
                (
                    each.arm.name,
                    seeds_of(each),
                    *map(_cell, each.scores.values()),
                    words.score(each.majority_rate),
                    words.NOTHING if pair.agreement is None else f"{words.percent(pair.agreement)} of {pair.twin}'s",
                    words.equivalence(pair.equivalence) if pair.equivalence else pair.reason or words.NOTHING,
                    words.above(each.strongest),
                    words.score(each.thief["wrong_key"]["auroc"]),
                    words.score(each.thief["public_stem"]["auroc"]),
                    words.seconds(each.seconds),
                    words.size(each.bytes_up),
                    words.size(each.a_round[0]),
                    *([words.above(each.full)] if beside else []),
                )
            )
        )
    told = [f"{arms[0].note}.", *(f"{each}." for each in near_duplicates(arms))]
    return "\n\n".join(["\n".join(lines), *told]) + "\n"


def seeds_of(each: Measured) -> str:
    """Over how many seeds, or splits, an arm was run."""
    found = each.baseline or Baseline(None, False, 0)
    return words.seeds(len(each.seeds), deterministic=found.deterministic, splits=found.splits)


def _cell(score: Score) -> str:
    """A score with its interval; where not every site counts, what it rests on and the same over all images."""
    said = " ".join(filter(None, (words.score(score.mean), words.interval(score.interval))))
    rests = words.partial(score.rests.as_data())
    return f"{said} ({rests}; over all images {words.score(score.pooled.value)})" if rests else said


def _cells(values: Sequence[object]) -> str:
    return "| " + " | ".join(str(value).replace("|", "\\|").replace("\n", " ") for value in values) + " |"


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
