"""Making a disclosure: attacks are run by a process of the evaluator's program, and what came out is signed here.

That process (`python -m simulations.disclosure`) is handed where the images are and what the run asks for, and no key,
no passphrase and no identity: attacks on updates take keys of their own. It ends with this one, or with its budget.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.own_weights import makers_unknown
from fl_client.deployment.run_data import data_for
from fl_client.disclosure.document import (
    FAILED,
    JSON,
    MOST,
    OUTSIDE,
    TRIED,
    UNFINISHED,
    UNTRIED,
    Disclosure,
    digest_of,
    now,
    read_disclosure,
    signed_by,
)
from fl_client.disclosure.required import FOLDER
from fl_client.disclosure.subject import Subject
from fl_client.privacy.ledger import Ledger
from medveil.bounded import parse_json
from medveil.config import to_mapping
from medveil.contract import RunConfig
from medveil.environment import needed_environment
from medveil.errors import ConfigError, DataError, MedVeilError
from medveil.files import make_folder, read_bytes, read_head, write_bytes, write_json
from medveil.paths import check_writable
from medveil.plain import shown, tell
from medveil.shapes import check_shape
from medveil.signing import SigningKey
from medveil.tied import tied
from medveil.versions import medveil_version
from models.policy import Policy

REQUEST, PLANNED, DOCUMENT, PAGE = "request.json", "planned.json", "document.json", "report.html"
RESULTS, MODEL = "results", "model"
DISCLOSED = "disclosed"
"""Event of the audit log."""
SHORT_MINUTES = 60.0
"""Below it attacks are run with the effort of a trial."""
_GRACE_S = 30.0
_LONGEST_LINE = 400
_PLANNED = {"situation": str, "attacks": [{"attack": str, "text": str, "has": [str]}]}
_SHAPES = (TRIED, UNTRIED)


@dataclass(frozen=True)
class Effort:
    """How much is spent: minutes by the clock, and keys that each attack is repeated under."""

    minutes: float = 30.0
    keys: int = 3

    @property
    def short(self) -> bool:
        """Whether attacks run with the effort of a trial."""
        return self.minutes < SHORT_MINUTES


def check_out(out: Path) -> None:
    """Refuse names for page and document that could not be written, or are those of something else.

    Raises
    ------
    ConfigError, StorageError
        Nothing is changed, but that the folder is made.
    """
    make_folder(out.parent)
    document = out.with_suffix(JSON)
    for each in (out, document):
        check_writable(each)
    if document.exists() or out.exists():
        try:
            read_disclosure(out)
        except MedVeilError:
            taken = document if document.exists() else out
            problem = "is there already, and is no disclosure"
            raise ConfigError(problem, where=taken, cure="name another file with --out") from None


def disclose(files: OwnFiles, identity: SigningKey, subject: Subject, out: Path, *, effort: Effort) -> Disclosure:
    """Run what applies within the budget, and leave page and document, signed; the audit log is written first.

    Parameters
    ----------
    files
        The site.
    identity
        Signs it.
    subject
        What it is about.
    out
        The page; the document goes beside it, with ``.json``.
    effort
        What may be spent.

    Raises
    ------
    ConfigError
        Of these names there is something already that is no disclosure.
    DataError
        The process that attacks could not begin.
    MedVeilError
        The images cannot be read as the run wants them, or the disk refuses.
    """
    began = time.monotonic()
    check_out(out)
    make_folder(files.state, mode=0o700)
    with tempfile.TemporaryDirectory(prefix="disclosing-", dir=files.state) as scratch:
        folder = Path(scratch)
        missing = _handed(subject, folder / MODEL)
        write_json(folder / REQUEST, _request(files, subject.run, effort) | {"missing": missing}, mode=0o600)
        ended = _started(files, "measure", folder, seconds=60 * effort.minutes + _GRACE_S)
        found = _read(folder / PLANNED, _PLANNED)
        entries = [_entry(folder, each, ended) for each in found["attacks"]]
        document = {
            "site": files.config.name,
            "made": now(),
            "medveil": medveil_version(),
            "about": {
                "run": subject.run.run,
                "name": subject.run.name,
                "settings": subject.settings,
                "model": subject.model,
            },
            "contract": _contract(subject.run),
            "situation": found["situation"],
            "privacy": _privacy(files, subject.run),
            "limits": to_mapping(files.config.limits),
            "effort": {**dataclasses.asdict(effort), "seconds": time.monotonic() - began, "short": effort.short},
            "tried": [each for each in entries if "figures" in each],
            "untried": [*(each for each in entries if "figures" not in each), *OUTSIDE],
        }
        # What is signed is what a file holds, to the last digit.
        document = json.loads(json.dumps(document, allow_nan=False))
        page = _page(files, folder, document)
    made = signed_by(identity, document, page)
    _leave(files, made, page, out)
    return made


def _leave(files: OwnFiles, made: Disclosure, page: bytes, out: Path) -> None:
    # First what is to be signed for, then showing it: what cannot be written down does not count.
    files.audit.append(
        DISCLOSED,
        document=made.digest,
        run=made.document["about"]["run"],
        settings=made.settings,
        model=made.model,
        tried=made.tried,
        succeeded=len(made.succeeded),
        unfinished=len(made.unfinished),
    )
    folder = make_folder(files.state / FOLDER, mode=0o700)
    made.write(folder / f"{made.digest}{JSON}")
    write_bytes(out, page, mode=0o600)
    made.write(out.with_suffix(JSON))


def _request(files: OwnFiles, run: RunConfig, effort: Effort) -> dict[str, Any]:
    return {
        "run": dataclasses.asdict(run),
        "data": to_mapping(data_for(run, files.data)),
        "minutes": effort.minutes,
        "keys": effort.keys,
        "short": effort.short,
        "device": files.config.device,
        "threads": files.config.threads,
        "plugins": list(files.config.plugins),
        "server_weights": makers_unknown(run, files.config.limits),
    }


def _handed(subject: Subject, folder: Path) -> str:
    """Give the evaluator's process the model that may leave, moved to plain images; why not, and empty where it is."""
    if subject.hand is None:
        return "no model is kept of this run yet: disclose again before one leaves"
    try:
        subject.hand(folder)
    except MedVeilError as error:
        return f"the model is not handed to a process without a key: {error.problem}"
    return ""


def _started(files: OwnFiles, verb: str, folder: Path, *, seconds: float) -> str:
    """Run the evaluator's process; why it ended early, in words, and empty where it did not."""
    command = [sys.executable, "-m", "simulations.disclosure", verb, str(folder)]
    # No passphrase, no credential: what is not needed by name is not handed on.
    environment = {**needed_environment(), "PATH": os.environ.get("PATH", os.defpath)}
    streams: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    last: list[str] = []
    with tied(command, env=environment, removes=folder, **streams) as process:
        following = threading.Thread(target=_follow, args=(process.stderr, last), daemon=True)
        following.start()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"the budget of {seconds / 60:.0f} minutes was spent"
        following.join()
    if process.returncode == 0:
        return ""
    why = last[-1].removeprefix("error: ") if last else f"exit code {process.returncode}"
    if not (folder / PLANNED).is_file():
        raise DataError(f"no attack could begin: {why}", where=files.config.name, cure="see the line itself")
    return f"the process ended: {why}"


def _follow(stream: IO[str], last: list[str]) -> None:
    """Tell the person who waits what the process says, and keep its last line."""
    # Where its time is up the stream is closed while it is read.
    with contextlib.suppress(ValueError):
        for line in stream:
            text = shown(line.strip(), most=_LONGEST_LINE)
            if text:
                tell(text, error=True)
                last[:] = [text]


def _entry(folder: Path, planned: dict[str, Any], ended: str) -> dict[str, Any]:
    """What became of one attack."""
    path = folder / RESULTS / f"{planned['attack']}{JSON}"
    told = {name: planned[name] for name in ("attack", "text", "has")}
    if not path.is_file():
        return {**told, "kind": UNFINISHED, "reason": ended or "it left no result"}
    try:
        return _read(path, _SHAPES)
    except MedVeilError as error:
        return {**told, "kind": FAILED, "reason": f"its result cannot be read: {error.problem}"}


def _page(files: OwnFiles, folder: Path, document: dict[str, Any]) -> bytes:
    write_json(folder / DOCUMENT, {"digest": digest_of(document), "document": document}, mode=0o600)
    why = _started(files, "page", folder, seconds=10 * _GRACE_S)
    if why:
        raise DataError(f"the page was not written: {why}", where=files.config.name)
    return read_bytes(folder / PAGE)


def _read(path: Path, shape: Any) -> dict[str, Any]:
    found = parse_json(read_head(path, MOST.length + 1), where=path.name, bounds=MOST)
    check_shape(found, shape, where=path.name)
    made: dict[str, Any] = found
    return made


def _contract(run: RunConfig) -> dict[str, Any]:
    """What of a run's settings decides what it gives away, as a reader looks for it."""
    train, cipher = run.train, run.cipher
    return {
        "task": run.task,
        "policy": str(Policy(run.keys, run.stem_init, run.stem_train)),
        "cipher": cipher.get("scheme"),
        "block": cipher.get("block"),
        "image_size": run.image_size,
        "model": run.model.get("name"),
        "scope": train.get("scope"),
        "optimizer": train.get("optimizer"),
        "epochs": train.get("epochs"),
        "batch_size": train.get("batch_size"),
        "rounds": run.rounds,
        "wire": run.wire,
        "kind": run.kind,
        "secure_aggregation": run.secagg.on,
        "least_sites": run.least_sites,
    }


def _privacy(files: OwnFiles, run: RunConfig) -> dict[str, Any]:
    """What the run promises, and what all runs so far have cost, by the site's own ledger."""
    spent = Ledger(files.ledger).spent()
    return {
        "run": None if run.private is None else to_mapping(run.private),
        "spent": None if spent is None else dataclasses.asdict(spent),
    }
