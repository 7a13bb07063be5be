"""The numbers of a comparison as a document, as a sheet and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medveil.sheets import sheet_of
from simulations.report import words
from simulations.report.measured import Baseline, Measured, Pair, Score
from simulations.report.record import number

_DIFFERENCE_HEADS = ("arm", "less", "seeds", "points", "95 % interval", "images")
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
    "processor time",
    "parameters",
    "sent by sites",
    "a site sends a round",
)
_FULL = "above training all of it"


def as_data(each: Measured) -> dict[str, Any]:
    """One arm as ``compare.json`` has it."""
    costs = each.costs
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
        "cpu_seconds": {"training": costs.training, "all": costs.cpu},
        "parameters": costs.parameters,
        "bytes_a_round_and_site": {"up": costs.up, "down": costs.down},
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
        "interval_95": [number(bound) for bound in test.wide],
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
    row |= {"baseline": each.baseline is not None, "splits": found.splits or None}
    row |= {"cpu_seconds": each.costs.cpu, "cpu_training": each.costs.training, "parameters": each.costs.parameters}
    beside = each.strongest
    test = beside.equivalence if beside else None
    row |= {"best_baseline": beside.twin if beside else "", "above_baseline": test.difference if test else None}
    row |= {"above_baseline_low": test.wide.low if test else None}
    row |= {"above_baseline_high": test.wide.high if test else None}
    for key in ("wrong_key", "public_stem"):
        row |= {f"{key}_{metric}": value for metric, value in each.thief[key].items()}
    row |= {"seconds": each.seconds, "bytes_up": each.bytes_up, "bytes_down": each.bytes_down}
    row |= {"bytes_up_a_round": each.costs.up, "bytes_down_a_round": each.costs.down}
    test = each.full.equivalence if each.full else None
    row |= {"above_full": test.difference if test else None}
    row |= {f"above_full_{name}": getattr(test.wide, name) if test else None for name in ("low", "high")}
    return {name: None if isinstance(value, float) and number(value) is None else value for name, value in row.items()}


def as_sheet(arms: Sequence[Measured]) -> str:
    """CSV: an arm a row."""
    rows = [_flat(each) for each in arms]
    return sheet_of(rows, list(rows[0]))


def as_markdown(arms: Sequence[Measured]) -> str:
    """The tables of a comparison, and what is told below them."""
    beside = any(each.full for each in arms)
    rule = ("---", *["---:"] * 5, "---", "---", "---", *["---:"] * 7)
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
                    words.seconds(each.costs.cpu),
                    _whole(each.costs.parameters),
                    words.size(each.bytes_up),
                    words.size(each.costs.up),
                    *([words.above(each.full)] if beside else []),
                )
            )
        )
    told = [f"{arms[0].note}.", *(f"{each}." for each in near_duplicates(arms))]
    return "\n\n".join(["\n".join(lines), *told, *_differences(arms)]) + "\n"


def _differences(arms: Sequence[Measured]) -> list[str]:
    """The table of each arm beside each baseline; none where nothing is beside one."""
    pairs = [(each, pair) for each in arms for pair in each.beside]
    if not pairs:
        return []
    lines = [_cells(_DIFFERENCE_HEADS), _cells(("---", "---", *["---:"] * 4))]
    for each, pair in pairs:
        test = pair.equivalence
        told = [words.points(test.difference), words.points_between(test.wide), _whole(test.n)] if test else []
        lines.append(_cells((each.arm.name, pair.twin, len(pair.seeds), *(told or [pair.reason, words.NOTHING, ""]))))
    return ["Accuracy of each arm less each baseline's, image by image of the same seeds:", "\n".join(lines)]


def seeds_of(each: Measured) -> str:
    """Over how many seeds, or splits, an arm was run."""
    found = each.baseline or Baseline(None, False, 0)
    return words.seeds(len(each.seeds), deterministic=found.deterministic, splits=found.splits)


def _whole(value: float | None) -> str:
    """A number for a terminal too, which shows no thin spaces."""
    return words.NOTHING if value is None else f"{value:,.0f}"


def _cell(score: Score) -> str:
    """A score with its interval; where not every site counts, what it rests on and the same over all images."""
    said = " ".join(filter(None, (words.score(score.mean), words.interval(score.interval))))
    rests = words.partial(score.rests.as_data())
    return f"{said} ({rests}; over all images {words.score(score.pooled.value)})" if rests else said


def _cells(values: Sequence[object]) -> str:
    return "| " + " | ".join(str(value).replace("|", "\\|").replace("\n", " ") for value in values) + " |"


def near_duplicates(arms: Sequence[Measured]) -> list[str]:
    """What the runs said of test images that look like a training image, once where all seeds say the same."""
    # Of arms that deal images to another number of sites the split may differ: the first arm's is told.
    by_seed = {seed: said for each in reversed(arms) for seed, said in each.near.items()}
    if len(set(by_seed.values())) == 1:
        return [next(iter(by_seed.values()))]
    return [f"seed {seed}: {said}" for seed, said in sorted(by_seed.items())]
