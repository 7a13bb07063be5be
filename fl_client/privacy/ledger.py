"""What training has cost the images of a site, for as long as it has its state: every noisy round of every run.

A round is written down before it is trained. One that was killed, or that a server asked for again, is written down
again: of each the server may have seen, or may yet see, something else. In a simulation, whose noise follows from its
seed, a round that is made again is the same round, and is written down once.

Nothing in the file tells of an image; whoever runs the site reads it without a key. It goes with the images: to remove
it, or to put an older one back, is to forget what they have cost.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fl_client.privacy.accountant import Charge, epsilon
from medveil.errors import ConfigError, FederationError, IntegrityError
from medveil.files import changing, write_json
from medveil.shapes import read_document

FILE = "privacy.json"
FORMAT = "medveil-privacy-ledger"
VERSION = 1
_ROUND = {"round": int, "noise": float, "rate": float, "steps": int, "at": str}
_RUN = {"run": str, "rounds": [_ROUND]}
_TOLD = {"epsilon": float, "delta": float}
_SHAPE = {"unit": str, "runs": [_RUN], "without": [str], "told": _TOLD, "measured?": {str: str}}


@dataclass(frozen=True)
class Spent:
    """What a site's ledger says, as it was written: what is read without counting anew.

    Attributes
    ----------
    unit
        What epsilon counts.
    epsilon, delta
        What all runs together cost.
    runs
        How many there are.
    without
        How many runs trained on the same images without noise, which no number covers.
    """

    unit: str
    epsilon: float
    delta: float
    runs: int
    without: int


@dataclass
class _Pages:
    unit: str = ""
    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    without: list[str] = field(default_factory=list)
    measured: dict[str, str] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=lambda: {"epsilon": 0.0, "delta": 1.0})

    def charges(self, run: str | None = None) -> list[Charge]:
        """Those of a run, or of all."""
        rounds = [each for name, own in self.runs.items() if run in (None, name) for each in own]
        return [Charge(each["noise"], each["rate"], each["steps"]) for each in rounds]


class Ledger:
    """One site's, on disk. Every change is on disk before the method returns.

    Parameters
    ----------
    path
        The file; where there is none nothing was charged yet. A link to one, so that folders share it, leads to it.
    repeats
        Whether a round that is made again is the same round: a simulation's.
    """

    def __init__(self, path: Path, *, repeats: bool = False) -> None:
        # Written anew where a link leads, or two state folders that share one would part without a word.
        self._linked, self._path, self._repeats = path.is_symlink(), Path(os.path.realpath(path)), repeats

    def begin(self, run: str, *, served: bool) -> None:
        """Write down that a run with noise is served here.

        Parameters
        ----------
        served
            Whether it is known to have been served here before.

        Raises
        ------
        IntegrityError
            It was, and the ledger does not know it: what it cost is lost.
        StorageError, FormatError
            The file cannot be written, or is of a newer version.
        """
        with self._changing() as pages:
            if run in pages.runs:
                return
            if served:
                problem = "the ledger of what training cost does not know this run, which was served here before"
                raise IntegrityError(problem, where=self._path, cure="put the newest ledger back, or start a new run")
            pages.runs[run] = []
            self._write(pages)

    def charge(
        self,
        run: str,
        round_: int,
        *,
        unit: str,
        delta: float,
        plan: Callable[[list[Charge]], Charge],
        allow: Callable[[Callable[[float], float]], None],
    ) -> Charge:
        """Write down what a round costs.

        Parameters
        ----------
        run, round_
            The round.
        unit
            What is counted.
        delta
            At which the total is told.
        plan
            From what the run was charged before, what this round is.
        allow
            Told what all runs together cost then, as a function of delta; raises where that is too much.

        Raises
        ------
        ConfigError
            The ledger counts other units: what an image costs does not say what a patient does, nor the other way.
        StorageError, IntegrityError, FormatError
            The file cannot be written, or is not whole.
        MedVeilError
            As `plan` and `allow`; nothing was written down.
        """
        with self._changing() as pages:
            if pages.unit not in ("", unit):
                problem = f"is {unit}, and this site's ledger counts by {pages.unit}: the two do not add up"
                raise ConfigError(problem, where="privacy.unit", cure=pages.unit)
            if self._repeats:
                pages.runs[run] = [each for each in pages.runs.get(run, []) if each["round"] < round_]
            made = plan(pages.charges(run))
            entry = {"round": round_, "noise": made.noise, "rate": made.rate, "steps": made.steps}
            pages.runs.setdefault(run, []).append({**entry, "at": datetime.now(UTC).isoformat(timespec="seconds")})
            charges = pages.charges()
            allow(lambda at: epsilon(charges, at))
            pages.unit, pages.told = unit, {"epsilon": epsilon(charges, delta), "delta": delta}
            self._write(pages)
        return made

    def without(self, run: str) -> None:
        """Write down that a run trains without noise, once; no number covers what it shows."""
        with self._changing() as pages:
            if run not in pages.without:
                pages.without.append(run)
                self._write(pages)

    def measuring(self, run: str, model: str) -> None:
        """Write down which model a run is measured with: one, as often as it is asked for, and no other.

        Parameters
        ----------
        model
            What names it and no other.

        Raises
        ------
        FederationError
            Another was measured: no noise covers what is told of it, so that each would tell more.
        """
        if self._repeats:
            return
        with self._changing() as pages:
            known = pages.measured.setdefault(run, model)
            if known != model:
                problem = "a run with privacy measures its last model alone, and another was measured before"
                raise FederationError(problem, where="privacy", cure="begin a new run")
            self._write(pages)

    def of(self, run: str) -> list[Charge]:
        """What a run was charged.

        Raises
        ------
        StorageError, IntegrityError, FormatError
            The file is not whole.
        """
        return self._read().charges(run)

    def spent(self) -> Spent | None:
        """What was told last; None where no run had noise."""
        pages = self._read()
        runs = sum(bool(rounds) for rounds in pages.runs.values())
        if not runs:
            return None
        return Spent(pages.unit, pages.told["epsilon"], pages.told["delta"], runs, len(pages.without))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _changing(self) -> AbstractContextManager[_Pages]:
        return changing(self._path, self._read)

    def _read(self) -> _Pages:
        if not self._path.exists():
            if self._linked:
                cure = "put the newest ledger there, or mount the disk that holds it"
                raise IntegrityError("is where a link leads, and not there", where=self._path, cure=cure)
            return _Pages()
        document = read_document(self._path, _SHAPE, name=FORMAT, newest=VERSION)
        runs = {each["run"]: list(each["rounds"]) for each in document["runs"]}
        if len(runs) != len(document["runs"]):
            raise IntegrityError("names a run twice", where=self._path, cure="put the last whole one back")
        without, measured, told = (document.get(name, {}) for name in ("without", "measured", "told"))
        pages = _Pages(document["unit"], runs, list(without), dict(measured), dict(told))
        if any(each.noise < 0 or not 0 < each.rate <= 1 or each.steps < 1 for each in pages.charges()):
            raise IntegrityError("holds a round that cannot be", where=self._path, cure="put the last whole one back")
        return pages

    def _write(self, pages: _Pages) -> None:
        runs = [{"run": run, "rounds": rounds} for run, rounds in pages.runs.items()]
        document = {"unit": pages.unit, "runs": runs, "without": pages.without, "told": pages.told}
        document |= {"measured": pages.measured} if pages.measured else {}
        write_json(self._path, {"format": FORMAT, "version": VERSION, **document}, mode=0o600)
