"""The table: what is in the folders, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medveil.errors import MedVeilError
from simulations.attacks.matrix.targets import Column, in_order
from simulations.attacks.registry import ATTACKS
from simulations.attacks.study.attack import Attack, Knowledge
from simulations.attacks.study.measure import control_name
from simulations.attacks.study.result import Measured, Result, read_result

NOT_MEASURED, FAILED, NOT_SCORED, NEEDS_MORE = "not measured", "failed", "not scored", "needs more images"
_RANK = {each: at for at, each in enumerate(Knowledge)}


@dataclass(frozen=True)
class Cell:
    """One attack on one scheme.

    Attributes
    ----------
    scheme, attack : str
        Column and row.
    result : Result or None
        None where there is none.
    failure : str or None
        Why the attack could not be measured, where it was tried.
    stem : str
        What its files are called, without their endings; empty where there are none.
    """

    scheme: str
    attack: str
    result: Result | None = None
    failure: str | None = None
    stem: str = ""

    @property
    def state(self) -> str:
        """A verdict of `simulations.attacks.study.result`, or one of the four states below.

        They are ``"not measured"``, ``"failed"``, ``"not scored"`` and ``"needs more images"``. Not scored is a result
        whose main figure is not defined for the scheme, as where an attack that finds an order of
        blocks meets a scheme without one: that is no failure of the attack at anything.
        """
        if self.result is not None:
            if not self.result.applicable and self.images_wanted is not None:
                return NEEDS_MORE
            unscored = self.main is not None and self.main.target is None
            return NOT_SCORED if unscored and self.result.kind == "attack" else self.result.verdict
        return NOT_MEASURED if self.failure is None else FAILED

    @property
    def images_wanted(self) -> int | None:
        """How many images under each key the attack would have taken, where it was held to fewer."""
        found = None if self.result is None else self.result.data.get("images_wanted")
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    @property
    def main(self) -> Measured | None:
        """The metric the verdict is taken on; None where there are no figures."""
        return None if self.result is None else self.result.metrics.get(self.result.main)


@dataclass(frozen=True)
class Row:
    """One attack, and its cell in each column."""

    attack: str
    kind: str
    recovers: str
    text: str
    knowledge: tuple[str, ...]
    papers: tuple[str, ...]
    main: str
    main_text: str
    unit: str
    control: str | None
    margin: float
    in_all: bool
    cells: tuple[Cell, ...]

    @property
    def tried(self) -> bool:
        """Whether there is anything of it, be it that it does not apply or failed."""
        return any(each.state != NOT_MEASURED for each in self.cells)

    @property
    def results(self) -> list[Result]:
        """Results where the attack applied and was measured."""
        return [each.result for each in self.cells if each.result is not None and each.result.applicable]


@dataclass(frozen=True)
class Table:
    """All of it: `columns` are schemes; rows are ordered by what the attacker has."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    problems: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def attacks(self) -> tuple[Row, ...]:
        """Rows of attacks."""
        return tuple(row for row in self.rows if row.kind == "attack")

    @property
    def diagnostics(self) -> tuple[Row, ...]:
        """Rows of diagnostics."""
        return tuple(row for row in self.rows if row.kind != "attack")

    @property
    def results(self) -> list[Result]:
        """Every result that has figures."""
        return [each for row in self.rows for each in row.results]


def read_table(
    folder: Path,
    *,
    columns: Iterable[str] = (),
    failures: Mapping[str, Mapping[str, str]] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Table:
    """Read every ``SCHEME/NAME.json`` of a folder.

    A file that cannot be read is a problem the page tells, and its cell counts as not measured.

    Parameters
    ----------
    folder
        The folder.
    columns
        Schemes that have a column even if there is nothing of them.
    failures
        By scheme and attack, why it could not be measured.
    settings
        For the page.
    """
    found: dict[tuple[str, str], Result] = {}
    problems: list[str] = []
    for path in sorted(folder.glob("*/*.json")):
        result = _read(path, problems)
        if result is not None:
            found[path.parent.name, result.attack] = result
    failed = failures or {}
    labels = in_order({*columns, *failed, *(scheme for scheme, _ in found)})
    names = [*ATTACKS, *sorted({name for _, name in found} - ATTACKS.keys())]
    rows = [_row(name, labels, found, failed) for name in names]
    # The least a row assumes decides its place; sorting keeps the order of the list among equals.
    rows.sort(key=lambda row: _rank(row.knowledge))
    return Table(tuple(labels), tuple(rows), tuple(problems), settings or {})


def read_attacks(folder: Path) -> Table:
    """Read every ``NAME.json`` of one folder, as `medveil-sim attack` leaves them: a column for each target in it.

    A target is called by its scheme, and where there are several of one by what they differ in. Attacks that are not
    there have no row.
    """
    problems: list[str] = []
    read = [(path.stem, each) for path in sorted(folder.glob("*.json")) if (each := _read(path, problems)) is not None]
    columns = labels_of([each for _, each in read])
    found = {(label, each.attack): each for label, (_, each) in zip(columns, read, strict=True)}
    stems = {(label, each.attack): stem for label, (stem, each) in zip(columns, read, strict=True)}
    labels = in_order(set(columns))
    named = {name for _, name in found}
    names = [*(name for name in ATTACKS if name in named), *sorted(named - ATTACKS.keys())]
    rows = [_row(name, labels, found, {}, stems) for name in names]
    rows.sort(key=lambda row: _rank(row.knowledge))
    return Table(tuple(labels), tuple(rows), tuple(problems))


def label_of(result: Result) -> str:
    """The column a result belongs to: its scheme, ``+negate`` where that negates."""
    scheme, negate = str(result.target.get("scheme", "")), result.target.get("negate") is True
    return Column(scheme, negate and scheme != "none").label


def labels_of(results: Sequence[Result]) -> list[str]:
    """The column of each of several results; targets of one scheme are told apart by what they differ in."""
    families: dict[tuple[str, bool], list[Result]] = {}
    for each in results:
        families.setdefault(_family(each), []).append(each)
    return [_told_apart(each, families[_family(each)]) for each in results]


def _family(result: Result) -> tuple[str, bool]:
    return label_of(result), "situation" in result.target


def _told_apart(result: Result, family: Sequence[Result]) -> str:
    own, others = _flat(result), [_flat(each) for each in family]
    differing = [name for name in own if any(each.get(name) != own[name] for each in others)]
    label = label_of(result)
    return f"{label}: {', '.join(f'{name} {own[name]}' for name in differing)}" if differing else label


def _flat(result: Result) -> dict[str, Any]:
    """A target's settings by name, those of its situation and model among them, and where its images are from."""
    made: dict[str, Any] = {}
    for name, value in {**result.target, "images": result.data.get("path")}.items():
        inner = value if isinstance(value, dict) else {name: value}
        for key, each in inner.items():
            made |= {f"model {k}": v for k, v in each.items()} if isinstance(each, dict) else {key: each}
    return made


def _read(path: Path, problems: list[str]) -> Result | None:
    try:
        return read_result(path)
    except MedVeilError as error:
        problems.append(str(error))
        return None


def finished(folder: Path, scheme: str, attack: str) -> bool:
    """Whether a cell has a result that can be read."""
    path = folder / scheme / f"{attack}.json"
    if not path.is_file():
        return False
    try:
        read_result(path)
    except MedVeilError:
        return False
    return True


def _row(
    name: str,
    labels: list[str],
    found: Mapping[tuple[str, str], Result],
    failed: Mapping[str, Mapping[str, str]],
    stems: Mapping[tuple[str, str], str] | None = None,
) -> Row:
    called = stems or {}
    cells = tuple(
        Cell(
            label,
            name,
            result=found.get((label, name)),
            failure=failed.get(label, {}).get(name),
            stem=called.get((label, name), ""),
        )
        for label in labels
    )
    of_file = next((each.result for each in cells if each.result is not None and each.result.applicable), None)
    listed = ATTACKS[name]() if name in ATTACKS else None
    described = _described(listed) if listed is not None else _from_file(cells)
    main = of_file.main if of_file is not None else described["main"]
    if of_file is not None:
        described |= {"main": main, "main_text": of_file.metrics[main].text, "unit": of_file.metrics[main].unit}
    return Row(attack=name, cells=cells, **described)


def _described(attack: Attack) -> dict[str, Any]:
    main = next(each for each in attack.metrics if each.name == attack.main)
    return {
        "kind": attack.kind,
        "recovers": attack.recovers,
        "text": attack.text,
        "knowledge": tuple(map(str, sorted(attack.knowledge, key=_RANK.__getitem__))),
        "papers": attack.papers,
        "main": attack.main,
        "main_text": main.text,
        "unit": main.unit,
        "control": control_name(attack.control),
        "margin": attack.margin,
        "in_all": attack.in_all,
    }


def _from_file(cells: Iterable[Cell]) -> dict[str, Any]:
    """Of an attack this MedVeil does not know, as its result says."""
    result = next(each.result for each in cells if each.result is not None)
    return {
        "kind": result.kind,
        "recovers": "images",
        "text": result.text,
        "knowledge": tuple(result.knowledge),
        "papers": tuple(result.papers),
        "main": result.main,
        "main_text": result.main,
        "unit": "",
        "control": result.control,
        "margin": result.margin,
        "in_all": True,
    }


def _rank(knowledge: Iterable[str]) -> tuple[int, ...]:
    places = {str(each): at for each, at in _RANK.items()}
    return tuple(sorted((places.get(each, len(places)) for each in knowledge), reverse=True))
