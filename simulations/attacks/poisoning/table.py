"""What trials come to: for each attack and rule what it costs, with a control, chance, an interval, and a verdict.

The honest twin of a trial is the same run under the same rule and seed in which all sites are good. It is chance: what
is lost, or triggered, without any attack. The control is the same attack on the plain mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from simulations.attacks.poisoning.attacks import ATTACKS, Goal, Poisoning
from simulations.attacks.poisoning.rules import CONTROL, RULES, Rule
from simulations.attacks.poisoning.trial import HONEST, Trial
from simulations.attacks.study.bootstrap import cluster_interval
from simulations.attacks.study.result import Measured, bounds, verdict_of
from simulations.config import ExperimentConfig

MARGIN = 0.1
"""How much of accuracy, or of images with the trigger, an attack has to move beyond chance; fixed beforehand."""
REFUSED, STOPPED, NOT_APPLICABLE, NOT_MEASURED = "refused", "stops the run", "not applicable", "not measured"


@dataclass(frozen=True)
class Cell:
    """One attack by so many bad sites on one rule.

    Attributes
    ----------
    attack, rule : str
    bad, sites : int
        Bad sites of all.
    state : str
        A verdict of `simulations.attacks.study.result`, or one of this module's four states.
    reason : str
        Why there is no verdict; empty where there is one.
    measured : Measured or None
        The figure the verdict is taken on: accuracy, of which less is better for the attack, or the trigger's share.
    accuracy : tuple of float, or None
        Accuracy under attack and of the honest twin, means over seeds.
    seeds : int
        Seeds both were run with.
    left_out : float
        Updates the server left out, mean over seeds.
    """

    attack: str
    rule: str
    bad: int
    sites: int
    state: str
    reason: str = ""
    measured: Measured | None = None
    accuracy: tuple[float, float] | None = None
    seeds: int = 0
    left_out: float = 0.0


def not_applicable(attack: Poisoning, rule: Rule, config: ExperimentConfig, bad: int) -> tuple[str, str] | None:
    """The state and the reason of a cell that is not run; None where it is.

    Parameters
    ----------
    config
        The experiment.
    bad
        Bad sites.
    """
    lacks = rule.lacks(config, bad)
    if lacks:
        return REFUSED, lacks
    known = bad if rule.masked else config.sites - bad
    if attack.fewest > known:
        of = "and under masks a bad site knows its fellows' alone" if rule.masked else "and there are fewer good sites"
        return NOT_APPLICABLE, f"needs {attack.fewest} honest updates to begin from, {of}"
    return None


def twin_bad(rule: Rule, config: ExperimentConfig, bad: int) -> int:
    """For how many bad sites the honest twin of a trial is run: 0 where the rule is the same for any number."""
    return bad if rule.server(bad, config.sites) != rule.server(0, config.sites) and _matters(rule) else 0


def _matters(rule: Rule) -> bool:
    return rule.name in {"trimmed-mean", "krum", "multikrum", "bulyan"}


def cells(config: ExperimentConfig, trials: Iterable[Trial], *, bad: Iterable[int]) -> list[Cell]:
    """Every attack on every rule with as many bad sites, from what was measured.

    Parameters
    ----------
    config
        The experiment.
    trials
        What was run.
    bad
        Numbers of bad sites.
    """
    found = {(each.attack, each.rule, each.bad, each.seed): each for each in trials}
    return [
        _cell(attack, rule, config, number, found)
        for attack in ATTACKS.values()
        for number in bad
        for rule in RULES.values()
    ]


Found = dict[tuple[str, str, int, int], Trial]


def _cell(attack: Poisoning, rule: Rule, config: ExperimentConfig, bad: int, found: Found) -> Cell:
    cell = Cell(attack.name, rule.name, bad, config.sites, NOT_MEASURED, reason="was not run")
    without = not_applicable(attack, rule, config, bad)
    if without is not None:
        return replace(cell, state=without[0], reason=without[1])
    pairs = _pairs(attack, rule, config, bad, found)
    stopped = [trial for trial, _ in pairs if trial.ended]
    if stopped:
        return replace(cell, state=STOPPED, reason=stopped[0].ended, seeds=len(pairs))
    if not pairs:
        return cell
    control = _pairs(attack, RULES[CONTROL], config, bad, found)
    measured = _measured(attack, bad, pairs, [trial for trial, _ in control])
    return replace(
        cell,
        reason="",
        state=verdict_of(kind="attack", reason=None, main=measured, margin=MARGIN),
        measured=measured,
        accuracy=(_mean([t.accuracy(bad) for t, _ in pairs]), _mean([twin.accuracy(bad) for _, twin in pairs])),
        seeds=len(pairs),
        left_out=_mean([float(trial.left_out) for trial, _ in pairs]),
    )


def _pairs(
    attack: Poisoning, rule: Rule, config: ExperimentConfig, bad: int, found: Found
) -> list[tuple[Trial, Trial]]:
    """Trials of a cell with their honest twins, by seed."""
    made = []
    for (name, of, number, seed), trial in sorted(found.items()):
        twin = found.get((HONEST, rule.name, twin_bad(rule, config, bad), seed))
        if (name, of, number) == (attack.name, rule.name, bad) and twin is not None:
            made.append((trial, twin))
    return made


def _measured(attack: Poisoning, bad: int, pairs: list[tuple[Trial, Trial]], control: list[Trial]) -> Measured:
    def value(trial: Trial) -> float:
        return trial.accuracy(bad) if attack.goal is Goal.ACCURACY else trial.triggered(bad)

    values = {
        "target": [value(trial) for trial, _ in pairs],
        "chance": [value(twin) for _, twin in pairs],
        # A run that was stopped has no accuracy left.
        "control": [0.0 if each.ended and attack.goal is Goal.ACCURACY else value(each) for each in control],
    }
    lower = attack.goal is Goal.ACCURACY
    return Measured(
        target=_mean(values["target"]),
        control=_mean(values["control"]) if control else None,
        chance=_mean(values["chance"]),
        wrong_key=None,
        ci95={arm: bounds(cluster_interval(each)) if each else None for arm, each in values.items()},
        unit="share",
        direction="lower" if lower else "higher",
        chance_rule="the honest twin: the same run without an attack",
        text="accuracy at good sites" if lower else "good sites' images of other classes moved by the trigger",
        values={arm: [None if math.isnan(v) else v for v in each] for arm, each in values.items()},
    )


def survived(made: Iterable[Cell]) -> dict[tuple[str, str], tuple[int, str]]:
    """By attack and rule: the most bad sites that it held against, and how that is meant.

    A rule holds against a number of bad sites where the attack does not succeed with that many nor with fewer, among
    those that were measured. What was not run, or is refused, ends the count.
    """
    grouped: dict[tuple[str, str], list[Cell]] = {}
    for cell in made:
        grouped.setdefault((cell.attack, cell.rule), []).append(cell)
    return {key: _most(sorted(each, key=lambda cell: cell.bad)) for key, each in grouped.items()}


def _most(found: list[Cell]) -> tuple[int, str]:
    most, why = 0, "all that were tried"
    for cell in found:
        if cell.state in {"above chance", "at chance"}:
            most = cell.bad
        elif cell.state != NOT_APPLICABLE:
            return most, cell.state
    return most, why


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
