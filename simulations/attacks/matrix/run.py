"""Run what is missing of the table: a process of `medveil-sim attack` for each scheme, some of them side by side."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medveil.errors import ConfigError
from medveil.files import write_json
from medveil.shapes import read_document
from medveil.tied import end_all, tied
from simulations.attacks.matrix.table import finished
from simulations.attacks.matrix.targets import Column

FORMAT, VERSION = "medveil-attack-matrix", 1
RECORD = "matrix.json"

Failures = dict[str, dict[str, str]]
"""By scheme and attack, why it could not be measured."""


@dataclass(frozen=True)
class Record:
    """What a folder was measured with and on, and what could not be measured; `basis` is empty in older folders."""

    settings: Mapping[str, Any]
    columns: tuple[str, ...]
    failures: Failures
    basis: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write ``matrix.json``."""
        document = {"settings": dict(self.settings), "schemes": list(self.columns), "failed": self.failures}
        document |= {"basis": {name: dict(parts) for name, parts in self.basis.items()}}
        write_json(folder / RECORD, {"format": FORMAT, "version": VERSION, **document})


def read_record(folder: Path) -> Record | None:
    """The record of a folder; None where there is none.

    Raises
    ------
    FormatError, IntegrityError
        It is no such record.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    shape = {"settings": dict, "schemes": [str], "failed": (dict, list), "basis?": {str: {str: str}}}
    document = read_document(path, shape, name=FORMAT, newest=VERSION)
    basis = document.get("basis", {})
    return Record(document["settings"], tuple(document["schemes"]), document["failed"], basis)


def check_settings(folder: Path, settings: Mapping[str, Any]) -> Record | None:
    """The record of a folder, if it was measured with these settings or is new.

    Raises
    ------
    ConfigError
        It was measured with others: its results and new ones could not stand in one table.
    """
    record = read_record(folder)
    if record is None:
        return None
    for name in sorted({*settings, *record.settings}):
        ours, theirs = settings.get(name), record.settings.get(name)
        if ours != theirs:
            raise ConfigError(
                f"was measured with {name} {theirs}, not {ours}",
                where=folder,
                cure="repeat the settings, or name another --out",
            )
    return record


@dataclass(frozen=True)
class Job:
    """The attacks that are missing on one scheme."""

    column: Column
    attacks: tuple[str, ...]

    def command(self, folder: Path, options: Sequence[str]) -> list[str]:
        """The command line that measures them."""
        program = str(Path(sys.executable).parent / "medveil-sim")
        made = [program, "attack", ",".join(self.attacks), "--cipher", self.column.scheme, *options]
        return [*made, *(["--negate"] if self.column.negate else []), "--out", str(folder / self.column.label)]


def missing(folder: Path, columns: Sequence[Column], attacks: Sequence[str]) -> list[Job]:
    """For each scheme the attacks that have no result, if there are any."""
    jobs = [Job(each, tuple(name for name in attacks if not finished(folder, each.label, name))) for each in columns]
    return [job for job in jobs if job.attacks]


def run(
    folder: Path, jobs: Sequence[Job], options: Sequence[str], *, beside: int, said: Callable[[str], None]
) -> Failures:
    """Run jobs, `beside` of them at a time.

    Each attack is written as soon as it is measured, so that an interrupted table goes on where it was.

    Parameters
    ----------
    folder
        Where ``SCHEME/NAME.json`` go.
    options
        Further options of `medveil-sim attack`, the same for all.
    said
        Called with each line a process prints, and its scheme.

    Returns
    -------
    dict
        What failed.
    """
    # Processes that each take all cores would fight over them.
    threads = str(max(1, (os.cpu_count() or 1) // beside))
    environment = {"OMP_NUM_THREADS": threads, **os.environ}
    streams: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}

    def one(job: Job) -> dict[str, str]:
        with tied(job.command(folder, options), env=environment, **streams) as process:
            return _followed(process, job, said)

    with ThreadPoolExecutor(max_workers=beside) as pool:
        waiting = [pool.submit(one, job) for job in jobs]
        try:
            found = [each.result() for each in waiting]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            end_all(waiting)
            raise
    return {job.column.label: failures for job, failures in zip(jobs, found, strict=True)}


def _followed(process: subprocess.Popen[str], job: Job, said: Callable[[str], None]) -> dict[str, str]:
    """Pass on what a process says until it ends; what failed, and why."""
    failures: dict[str, str] = {}
    assert process.stderr is not None
    last = ""
    for line in process.stderr:
        text = line.strip()
        kind, _, rest = text.partition(": ")
        if kind == "failed":
            name, _, reason = rest.partition(": ")
            failures[name] = reason
        said(f"{job.column.label}: {text}")
        last = text or last
    if process.wait() not in {0, 6}:
        reason = last.removeprefix("error: ") or f"exit code {process.returncode}"
        failures |= {name: reason for name in job.attacks if name not in failures}
    return failures


def merged(record: Record | None, jobs: Sequence[Job], failures: Failures) -> Failures:
    """Failures of this run, and earlier ones of what was not tried again."""
    tried = {(job.column.label, name) for job in jobs for name in job.attacks}
    made: Failures = {}
    for scheme, named in {} if record is None else record.failures.items():
        for name, reason in named.items():
            if (scheme, name) not in tried:
                made.setdefault(scheme, {})[name] = reason
    for scheme, named in failures.items():
        made.setdefault(scheme, {}).update(named)
    return {scheme: named for scheme, named in made.items() if named}
