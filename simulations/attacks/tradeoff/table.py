"""The table: what a model is worth at each place, what each attack recovers there, and what follows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fl_client.intervals import NONE, Interval, wilson
from medveil.errors import MedVeilError
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.update_attack import UpdateAttack
from simulations.attacks.study.result import Result, read_result
from simulations.attacks.tradeoff.leakage import read_failure
from simulations.attacks.tradeoff.places import BASELINE, Place, View
from simulations.attacks.tradeoff.study import LeakJob, RunJob, Study
from simulations.attacks.tradeoff.utility import FAILED, MEASURED, REFUSED, Utility, read_utility

NOT_MEASURED, NOT_APPLICABLE, BROKEN = "not measured", "not applicable", "broken attack"
AT_CHANCE, ABOVE, SUCCEEDS = "at chance", "above chance", "succeeds"
LEAKS = (SUCCEEDS, ABOVE)
UNKNOWN = (NOT_MEASURED, FAILED, BROKEN)
"""States in which nothing is known of what would leak."""
MOST_BELOW = 0.5
"""Points of accuracy below plain FedAvg, at most, of a place that a consortium would take."""


@dataclass(frozen=True)
class Worth:
    """What a model is worth at a place.

    Attributes
    ----------
    state, reason : str
        Measured, refused, failed or not measured, and why.
    accuracy, interval : float, Interval
        Mean over seeds, and Wilson's interval for the test images of one seed.
    n, seeds : int
        Test images of a seed, and seeds.
    twin : float or None
        Accuracy on plaintext that it equals in theory; None where there is no such twin.
    below : float or None
        Points below plain FedAvg, the mean over seeds that both were run under.
    """

    state: str
    reason: str = ""
    accuracy: float = math.nan
    interval: Interval = NONE
    n: int = 0
    seeds: int = 0
    twin: float | None = None
    below: float | None = None


@dataclass(frozen=True)
class Cell:
    """One attack at a place under a view."""

    view: str
    attack: str
    state: str
    reason: str = ""
    result: Result | None = None

    @property
    def share(self) -> float | None:
        """How far the figure is from chance to what the attack gets where nothing protects: 0 to 1; None without one.

        It puts figures of several units on one axis, and no verdict rests on it.
        """
        main = None if self.result is None else self.result.metrics.get(self.result.main)
        if main is None or self.state == BROKEN or main.target is None or main.chance is None or main.control is None:
            return None
        whole = main.control - main.chance
        return None if whole == 0 else min(1.0, max(0.0, (main.target - main.chance) / whole))


@dataclass(frozen=True)
class Row:
    """A place: its worth, and a cell for each attack under each view."""

    place: Place
    worth: Worth
    cells: tuple[Cell, ...]

    def cell(self, view: str, attack: str) -> Cell:
        """One cell."""
        return next(each for each in self.cells if (each.view, each.attack) == (view, attack))


@dataclass(frozen=True)
class Attacker:
    """A column.

    Attributes
    ----------
    name, text : str
        The attack.
    malicious : bool
        Whether it takes a server that sends a model of its own making.
    model : str
        The letter of its threat model.
    """

    name: str
    text: str
    malicious: bool
    model: str


@dataclass(frozen=True)
class Table:
    """All of it."""

    name: str
    rows: tuple[Row, ...]
    attackers: tuple[Attacker, ...]
    views: tuple[View, ...]
    baseline: Worth
    missing: int = 0

    @property
    def results(self) -> list[Result]:
        """Every result with figures."""
        cells = (cell for row in self.rows for cell in row.cells)
        return [each.result for each in cells if each.result is not None and each.result.applicable]


def read_table(study: Study, folder: Path, *, missing: int) -> Table:
    """Put together what lies in a folder; a file that cannot be read counts as not measured."""
    found = _Utilities(study, folder)
    rows = tuple(Row(place, found.worth(place), tuple(_cells(study, place, folder))) for place in study.places)
    return Table(
        name=study.config.name,
        rows=rows,
        attackers=tuple(map(_attacker, study.attacks)),
        views=tuple(study.views),
        baseline=found.worth(BASELINE),
        missing=missing,
    )


def _attacker(attack: UpdateAttack) -> Attacker:
    malicious = Capability.MANIPULATION in attack.needs
    return Attacker(attack.name, attack.text, malicious, attack.threat_model)


def _cells(study: Study, place: Place, folder: Path) -> Iterable[Cell]:
    for view in study.views:
        for attack in study.attacks:
            yield _cell(LeakJob(place, view, attack), folder)


def _cell(job: LeakJob, folder: Path) -> Cell:
    empty = Cell(job.view.name, job.attack.name, NOT_MEASURED)
    try:
        if job.path(folder).is_file():
            result = read_result(job.path(folder))
            return Cell(job.view.name, job.attack.name, result.verdict, result.reason or "", result)
        why = read_failure(job.failure(folder))
    except MedVeilError:
        return empty
    return Cell(job.view.name, job.attack.name, FAILED, why) if why else empty


class _Utilities:
    """The runs of a folder."""

    def __init__(self, study: Study, folder: Path) -> None:
        self._seeds, self._folder = study.seeds, folder

    def worth(self, place: Place) -> Worth:
        found = self._found(place)
        if not found:
            return Worth(NOT_MEASURED, "was not run")
        other = next((each for each in found if each.state != MEASURED), None)
        if other is not None:
            return Worth(other.state, other.reason)
        accuracy, n = _mean([each.accuracy for each in found]), min(each.n for each in found)
        interval = wilson(accuracy, n, max(1, n - 1)) if n else NONE
        twin = [] if place.twin is None else [each.accuracy for each in self._found(place.twin)]
        plain = {each.seed: each.accuracy for each in self._found(BASELINE)}
        pairs = [(plain.get(each.seed), each.accuracy) for each in found]
        below = [100 * (high - low) for high, low in pairs if high is not None and low is not None]
        return Worth(
            state=MEASURED,
            accuracy=accuracy,
            interval=interval,
            n=n,
            seeds=len(found),
            twin=_mean(twin) if twin and None not in twin else None,
            below=sum(below) / len(below) if below else None,
        )

    def _found(self, place: Place) -> list[Utility]:
        made = []
        for seed in self._seeds:
            path = RunJob(place, seed).path(self._folder)
            try:
                made.append(read_utility(path))
            except MedVeilError:
                continue
        return made


def _mean(values: Sequence[float | None]) -> float:
    known = [each for each in values if each is not None]
    return sum(known) / len(known) if known else math.nan


# -- what follows ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """What stands between a place and the aim: at chance for all but the malicious server, hardly below plain.

    Attributes
    ----------
    row : Row
        The place.
    leaks, unknown : list of str
        Attacks that recover something there, and those nothing is known of, each with its view.
    """

    row: Row
    leaks: list[str]
    unknown: list[str]

    @property
    def costs_too_much(self) -> bool:
        """Whether its accuracy is further below plain than a consortium would take, or is not known."""
        below = self.row.worth.below
        return below is None or below > MOST_BELOW

    @property
    def holds(self) -> bool:
        """Whether it reaches the aim."""
        return not self.leaks and not self.unknown and not self.costs_too_much

    @property
    def rank(self) -> tuple[int, int, float]:
        """How far it is from it: fewer leaks first, then what is not known, then accuracy."""
        below = self.row.worth.below
        return len(self.leaks), len(self.unknown), math.inf if below is None else below


def findings(table: Table) -> list[Finding]:
    """Every place that can be run, nearest to the aim first."""
    honest = {each.name for each in table.attackers if not each.malicious}
    made = []
    for row in table.rows:
        if row.worth.state == REFUSED:
            continue
        cells = [each for each in row.cells if each.attack in honest]
        leaks = [_named(each, table) for each in cells if each.state in LEAKS]
        unknown = [_named(each, table) for each in cells if each.state in UNKNOWN]
        made.append(Finding(row, leaks, unknown))
    return sorted(made, key=lambda each: each.rank)


def best_against(table: Table, attacker: Attacker) -> Row | None:
    """The place of the highest accuracy at which an attack recovers nothing, under every view; None where none is."""
    held = [row for row in table.rows if _holds(row, attacker) and row.worth.state == MEASURED]
    return max(held, key=lambda row: row.worth.accuracy, default=None)


def held_nowhere(table: Table) -> list[str]:
    """The attacks that recover something at every place where they apply and were measured."""
    made = []
    for attacker in table.attackers:
        states = [cell.state for row in table.rows for cell in row.cells if cell.attack == attacker.name]
        known = [state for state in states if state in (*LEAKS, AT_CHANCE)]
        if known and all(state in LEAKS for state in known):
            made.append(attacker.name)
    return made


def _holds(row: Row, attacker: Attacker) -> bool:
    states = {cell.state for cell in row.cells if cell.attack == attacker.name}
    return bool(states) and states <= {AT_CHANCE, NOT_APPLICABLE}


def _named(cell: Cell, table: Table) -> str:
    return cell.attack if len(table.views) == 1 else f"{cell.attack} ({cell.view})"
