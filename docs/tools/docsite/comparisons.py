"""How ``compare.json`` and ``ablation.json`` are shown: as tables of scores, costs, differences and equivalence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from docsite.tables import code, table

NOTHING = "–"
_SCORES = ("accuracy", "balanced_accuracy", "auroc")


def scores(found: dict[str, Any]) -> str:
    """An arm a row, baselines below; under it what all of them share, and where the figures are from."""
    heads = ("arm", "seeds", "accuracy", "balanced accuracy", "AUROC", "thief: wrong key", "thief: public stem")
    rows = [
        (
            f"{arm['policy']} ({code(arm['name'])})",
            _seeds(arm),
            *(_score(arm["scores"][metric]) for metric in _SCORES[:2]),
            _score(arm["scores"]["auroc"]) + (", at chance" if arm["auroc_at_chance"] else ""),
            *(number(arm["thief"][key]["auroc"]) for key in ("wrong_key", "public_stem")),
        )
        for arm in found["arms"]
    ]
    first = found["arms"][0]
    note = f"Majority rate {number(first['majority_rate'])}. {found['setting']}. {first['intervals_note']}."
    told = [note, *(f"{said[:1].upper()}{said[1:]}." for said in found.get("near", [])), *_measured(found)]
    return f"{table(heads, rows)}\n{' '.join(told)}\n"


def costs(found: dict[str, Any]) -> str:
    """An arm a row: parameters, processor time of a run, and bytes that a site sends and is sent in a round."""
    heads = ("arm", "parameters", "CPU minutes", "of them training", "a site sends a round", "and is sent")
    rows = []
    for arm in found["arms"]:
        spent, moved = arm.get("cpu_seconds") or {}, arm.get("bytes_a_round_and_site") or {}
        count = arm.get("parameters")
        rows.append(
            (
                code(arm["name"]),
                NOTHING if count is None else f"{count:,.0f}",
                *(_minutes(spent.get(name)) for name in ("all", "training")),
                *(size(moved.get(name)) for name in ("up", "down")),
            )
        )
    return table(heads, rows)


def differences(found: dict[str, Any]) -> str:
    """Each arm's accuracy less each baseline's, image by image of the same seeds, in points."""
    heads = ("arm", "less", "points", "95 % interval", "seeds", "images")
    rows = [
        (code(arm["name"]), code(pair["name"]), *_difference(pair))
        for arm in found["arms"]
        for pair in arm.get("beside_baselines") or []
    ]
    return table(heads, rows)


def equivalence(found: dict[str, Any]) -> str:
    """Each arm beside its twin on plaintext: the same answers, and two one-sided tests."""
    heads = ("arm", "twin", "seeds", "same answers", "points", "90 % interval", "p", "verdict")
    rows = [
        (code(arm["name"]), code(arm["twin"]["name"]), *_tested(arm["twin"])) for arm in found["arms"] if arm["twin"]
    ]
    return table(heads, rows)


def comparison(found: dict[str, Any]) -> str:
    """All of it that the file has anything for."""
    arms = found["arms"]
    made = [scores(found)]
    if any((arm.get("cpu_seconds") or {}).get("all") is not None for arm in arms):
        made.append(costs(found))
    if any(arm.get("beside_baselines") for arm in arms):
        made.append(differences(found))
    if any(arm["twin"] and arm["twin"]["equivalence"] for arm in arms):
        made.append(equivalence(found))
    return "\n".join(made)


def ablation(found: dict[str, Any]) -> str:
    """``ablation.json``: a switch a row, measured on validation images."""
    heads = ("switch", "seeds", "validation accuracy", "gained", "AUROC", "gained", "CPU minutes")
    rows = [
        (
            row["switch"],
            str(len(row["seeds"])),
            number(row["accuracy"]),
            _gained(row, "accuracy"),
            number(row["auroc"]),
            _gained(row, "auroc"),
            _minutes(row.get("cpu_seconds")),
        )
        for row in found["rows"]
    ]
    told = [*found.get("told", []), *_measured(found)]
    return f"{table(heads, rows)}\n{' '.join(told)}\n" if told else table(heads, rows)


PARTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "scores": scores,
    "costs": costs,
    "differences": differences,
    "equivalence": equivalence,
}
"""Tables of a comparison that a page may ask for one by one."""


def number(value: float | None, sign: str = "") -> str:
    """With three decimals; a dash where there is none."""
    return NOTHING if value is None else f"{value:{sign}.3f}"


def _measured(found: dict[str, Any]) -> list[str]:
    """Where the figures are from; nothing of a file that does not say it."""
    if not found.get("command"):
        return []
    commits = [f"`{each[:10].rstrip('+')}`{' with changes' if each.endswith('+') else ''}" for each in found["commits"]]
    by = f" at {' and '.join(commits)}" if commits else ""
    return [f"Measured with `{found['command']}`, MedVeil {found['medveil']}{by}."]


def _seeds(arm: dict[str, Any]) -> str:
    told = arm.get("baseline") or {}
    if not told.get("deterministic"):
        return str(len(arm["seeds"]))
    return f"{told['splits']} split{'' if told['splits'] == 1 else 's'}, nothing drawn"


def _difference(pair: dict[str, Any]) -> Sequence[str]:
    test = pair["equivalence"]
    if test is None:
        return pair["reason"], NOTHING, NOTHING, NOTHING
    return _points(test["difference"]), _between(test["interval_95"]), str(len(pair["seeds"])), str(test["n"])


def _tested(pair: dict[str, Any]) -> Sequence[str]:
    test, same = pair["equivalence"], pair["agreement"]
    # As everywhere else, never rounded up to all of them.
    answers = NOTHING if same is None else "100 %" if same == 1 else f"{min(99.9, round(100 * same, 1)):.1f} %"
    seeds = str(len(pair["seeds"]))
    if test is None:
        return seeds, answers, NOTHING, NOTHING, NOTHING, pair["reason"]
    p = "< 0.001" if test["p_value"] < 0.001 else f"{test['p_value']:.3f}"
    return seeds, answers, _points(test["difference"]), _between(test["interval_90"]), p, test["verdict"]


def _score(score: dict[str, Any]) -> str:
    return number(score["mean"]) + _interval(score["interval"], "")


def _gained(row: dict[str, Any], measure: str) -> str:
    return number(row[f"{measure}_gained"], "+") + _interval(row[f"{measure}_interval"], "+")


def _interval(bounds: Sequence[float] | None, sign: str) -> str:
    return f" [{number(bounds[0], sign)}, {number(bounds[1], sign)}]" if bounds else ""


def _points(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:+.2f}"


def _between(bounds: Sequence[float | None]) -> str:
    return f"[{_points(bounds[0])}, {_points(bounds[1])}]"


def _minutes(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{seconds / 60:.1f}"


def size(count: float | None) -> str:
    """A number of bytes: ``50.8 kB``, ``21.36 MB``."""
    if count is None:
        return NOTHING
    if count < 1000:
        return f"{count:.0f} B"
    return f"{count / 1e3:,.1f} kB" if count < 1e6 else f"{count / 1e6:,.2f} MB"
