"""Runs of a consortium: submitting, resuming and following them.

A resumed run is a new run of Flower's with the identity of the old one: the server goes on from its newest checkpoint,
and every site from the stem it had then.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fl_server.config import ServerSettings
from fl_server.deployment.consortium import Consortium
from fl_server.deployment.control import Control
from fl_server.manifest import ENDED, read_manifest
from fl_server.metrics import ALL, read_lines
from fl_server.summary import read_summary
from medveil import errors, processes
from medveil.audit_messages import digest_of_config
from medveil.contract import RUN_KEY, SERVER_KEY, RunConfig
from medveil.errors import ConfigError, FederationError, IntegrityError, MedVeilError
from medveil.files import make_folder, write_json
from medveil.paths import run_folder
from medveil.shapes import read_document

FORMAT = "medveil-submission"
VERSION = 1
RUNNING, LOST, SUBMITTED = "running", "lost", "submitted"
_NEWEST = 10
_TOLD = ("status", "stage", "error", "left_out", "resumed", "went_on")
_POLL_S = 0.5
_ASK_FLOWER_S = 20.0
_GRACE_S = 10.0
_RESUME = "'medveil-server resume' goes on from its last round"


@dataclass(frozen=True)
class Submission:
    """A run as it was submitted.

    Parameters
    ----------
    run, name
        Identity and name.
    submitted
        When, in UTC.
    fab
        Hash of the app.
    run_config
        What server and sites were told.
    flower_runs
        Flower's ids of the run, the newest last.
    """

    run: str
    name: str
    submitted: str
    fab: str
    run_config: dict[str, str]
    flower_runs: tuple[int, ...] = ()

    def folder(self, consortium: Consortium) -> Path:
        """The run folder."""
        return consortium.runs / run_folder("", name=self.name, run=self.run).name


def new_submission(run: RunConfig, settings: ServerSettings, fab: str) -> Submission:
    """A run that is about to be submitted."""
    config = {RUN_KEY: run.to_json(), SERVER_KEY: settings.to_json()}
    return Submission(run.run, run.name, datetime.now(UTC).isoformat(timespec="seconds"), fab, config)


def resumed(submission: Submission, consortium: Consortium, fab: str) -> Submission:
    """The same run, going on where its folder says it stopped; from the start where it never began.

    Raises
    ------
    ConfigError
        It has ended, or still runs.
    """
    state = state_of(submission, consortium)
    if state["status"] in ENDED:
        raise ConfigError(f"has already {state['status']}", where=submission.name, cure="submit a new run")
    if state["status"] == RUNNING:
        raise ConfigError("still runs", where=submission.name, cure="'medveil-server stop --run' first")
    server: dict[str, Any] = json.loads(submission.run_config[SERVER_KEY])
    server["resume"] = (submission.folder(consortium) / "manifest.json").exists()
    config = {**submission.run_config, SERVER_KEY: json.dumps(server, sort_keys=True)}
    return replace(submission, run_config=config, fab=fab)


def submit(submission: Submission, consortium: Consortium, control: Control) -> Submission:
    """Hand a run to Flower, and keep what is needed to resume it.

    Raises
    ------
    FederationError
        Flower refuses.
    """
    event = "run-resumed" if submission.flower_runs else "run-submitted"
    about = {"run": submission.run, "name": submission.name, "app": submission.fab}
    consortium.audit.append(event, **about, config=digest_of_config(submission.run_config))
    sent = replace(
        submission, flower_runs=(*submission.flower_runs, control.submit(submission.run_config, submission.fab))
    )
    make_folder(consortium.submissions, mode=0o700)
    document = {"format": FORMAT, "version": VERSION, **vars(sent), "flower_runs": list(sent.flower_runs)}
    write_json(consortium.submissions / f"{sent.run}.json", document, mode=0o600)
    return sent


def submissions(consortium: Consortium) -> list[Submission]:
    """All runs that were ever submitted, oldest first (IntegrityError or FormatError for a file that is none)."""
    found = [_read(path) for path in consortium.submissions.glob("*.json")]
    return sorted(found, key=lambda each: (each.submitted, each.run))


def find(consortium: Consortium, named: str | None) -> Submission:
    """The run of a name, a folder's name or the first digits of an identity; the newest where none is named.

    Raises
    ------
    ConfigError
        There is none, or more than one.
    """
    known = submissions(consortium)
    if not known:
        raise ConfigError("no run was ever submitted", where=consortium.config.name, cure="medveil-server run CONFIG")
    if named is None:
        return known[-1]
    word = Path(named).name
    found = [each for each in known if word in (each.name, each.folder(consortium).name) or each.run.startswith(word)]
    if not found:
        listed = ", ".join(each.folder(consortium).name for each in known[-5:])
        raise ConfigError("no such run", where=named, cure=f"the newest are {listed}")
    if len({each.run for each in found}) > 1 and not all(each.name == word for each in found):
        raise ConfigError("more than one run begins like this", where=named, cure="give more digits")
    return found[-1]


def state_of(submission: Submission, consortium: Consortium) -> dict[str, Any]:
    """Where a run is: its manifest's status, stage, error, left_out, resumed and went_on.

    The status is ``running`` only while its process is there, ``lost`` where it went without a word, and ``submitted``
    before it came.
    """
    path = submission.folder(consortium) / "manifest.json"
    if not path.exists():
        return {"status": SUBMITTED, "stage": "", "error": None, "left_out": [], "resumed": [], "went_on": None}
    manifest, lost = read_manifest(path), False
    while manifest["status"] == RUNNING and not lost:
        process = manifest.get("process") or {}
        if processes.is_still(process, where=path) is not None:
            break
        # It may have ended in words between the two looks, or another process have taken the run up.
        manifest = read_manifest(path)
        lost = manifest["status"] == RUNNING and (manifest.get("process") or {}) == process
    state = {name: manifest.get(name) for name in _TOLD}
    return {**state, "status": LOST} if lost else state


def wait_for_round(consortium: Consortium, control: Control, *, seconds: float) -> list[str]:
    """Wait until the runs of a server that is drained have stopped; the names of those that have not in time.

    Raises
    ------
    FederationError
        Flower does not answer.
    """
    end, going = time.monotonic() + seconds, _going(consortium, control)
    while going and time.monotonic() < end:
        time.sleep(_POLL_S)
        going = _going(consortium, control)
    return going


def _going(consortium: Consortium, control: Control) -> list[str]:
    """Names of the runs whose process is there, or will be: of one that never comes Flower knows that it ended."""
    found = []
    for each in submissions(consortium)[-_NEWEST:]:
        status = state_of(each, consortium)["status"]
        if status == RUNNING or (status == SUBMITTED and not control.run(each.flower_runs[-1]).finished):
            found.append(each.name)
    return found


def end_left_behind(consortium: Consortium) -> list[str]:
    """End the processes of runs whose server is gone, for they can reach no site any more; returns the runs' names.

    A killed SuperLink takes its runs' processes not with it. Call it only while no server runs.

    Raises
    ------
    StorageError
        A process belongs to another user.
    """
    ended = []
    for each in submissions(consortium):
        path = each.folder(consortium) / "manifest.json"
        process = read_manifest(path).get("process") if path.exists() else None
        if process and processes.end(process, where=path):
            ended.append(each.name)
    return ended


def follow(
    submission: Submission, consortium: Consortium, control: Control, say: Callable[[str], None], *, resumed: int = 0
) -> dict[str, Any]:
    """Wait for a run to end, saying where it is; returns its summary.

    Parameters
    ----------
    submission
        The run, as `submit` returned it.
    say
        Hears a sentence for every stage and every round.
    resumed
        How often it has been resumed, this time included: until then its folder tells of the time before.

    Raises
    ------
    MedVeilError
        The run's own error, in its own class.
    FederationError
        It was lost, or Flower ended it.
    """
    folder, told, went_on = submission.folder(consortium), "", ""
    lines, asked = _Lines(folder / "metrics.jsonl"), time.monotonic()
    while True:
        state = state_of(submission, consortium)
        if len(state["resumed"]) >= resumed:
            # A stage may be over before it was looked at; what a run went on from is always told.
            if resumed and state["went_on"] and state["went_on"] != went_on:
                went_on = state["went_on"]
                say(went_on)
            for line in lines.fresh():
                say(line)
            if state["stage"] and state["stage"] != told:
                told = state["stage"]
                say(told)
            if state["status"] in ENDED:
                return read_summary(folder / "summary.json")
            _refuse_failed(state, submission)
        if time.monotonic() - asked > _ASK_FLOWER_S:
            asked = time.monotonic()
            _refuse_dead(submission, consortium, control, resumed)
        time.sleep(_POLL_S)


def remade(text: str) -> MedVeilError:
    """A run's error again, in its own class, so that the exit code is the same here."""
    kind, _, rest = text.partition(": ")
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, MedVeilError):
        return found(rest)
    return FederationError(text)


def _refuse_failed(state: Mapping[str, Any], submission: Submission) -> None:
    if state["status"] == LOST:
        raise FederationError("the run's process ended without a word", where=submission.name, cure=_RESUME)
    if state["error"] or state["status"] in {"failed", "interrupted"}:
        raise remade(str(state["error"] or f"FederationError: the run was {state['status']}; {_RESUME}"))


def _refuse_dead(submission: Submission, consortium: Consortium, control: Control, resumed: int) -> None:
    """Raise where Flower has ended the run, or is no longer there; the run's own last word goes first."""
    if processes.running(consortium.record) is None:
        cure = f"'medveil-server start', then {_RESUME}"
        raise FederationError("the server is no longer running", where=submission.name, cure=cure)
    said = control.run(submission.flower_runs[-1])
    if not said.finished:
        return
    end = time.monotonic() + _GRACE_S
    while time.monotonic() < end:
        state = state_of(submission, consortium)
        if len(state["resumed"]) >= resumed and state["status"] not in {RUNNING, SUBMITTED}:
            return
        time.sleep(_POLL_S)
    details = " ".join((said.details or "it said nothing").split())
    raise FederationError(f"Flower ended the run ({said.status}): {details}", where=submission.name, cure=_RESUME)


class _Lines:
    """The rounds a run has finished, as sentences, each once."""

    def __init__(self, path: Path) -> None:
        self._path, self._seen = path, 0

    def fresh(self) -> Iterator[str]:
        lines = read_lines(self._path)
        self._seen = min(self._seen, len(lines))
        for values in lines[self._seen :]:
            if values["site"] == ALL and values["loss"] is not None:
                accuracy = values["accuracy"]
                shown = "" if accuracy is None else f", accuracy {accuracy:.4f}"
                yield f"round {values['round']}: {values['phase']} loss {values['loss']:.4f}{shown}"
        self._seen = len(lines)


_SHAPE = {
    "run": str,
    "name": str,
    "submitted": str,
    "fab": str,
    "run_config": {str: (str, int, float)},
    "flower_runs": [int],
}


def _read(path: Path) -> Submission:
    document = read_document(path, _SHAPE, name=FORMAT, newest=VERSION)
    # Both make the name of a folder.
    RunConfig(run=document["run"], name=document["name"], classes=["0", "1"]).check(where=str(path))
    try:
        values = {name: document[name] for name in Submission.__dataclass_fields__}
        return Submission(**{**values, "flower_runs": tuple(values["flower_runs"])})
    except (KeyError, TypeError):
        raise IntegrityError("is not a whole submission", where=path, cure="restore it from a copy") from None
