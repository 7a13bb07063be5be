"""The apps a site has approved, by the SHA-256 of their bundles. Only a person at the site adds one.

An approval is good for a number of runs (`limits.most_runs`): every run a server begins may ask for as many rounds as
the site allows, so an approval without end would be one without limits. A run is known by its identity; one that is
resumed keeps it and counts once. Version 2 added the runs; an approval of version 1 was used for none.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medveil.audit import AuditLog
from medveil.errors import ConfigError, IntegrityError
from medveil.files import changing, write_json
from medveil.shapes import read_document

FORMAT = "medveil-approvals"
VERSION = 2
_HASH = re.compile(r"[0-9a-f]{64}")
_ANEW = "approve anew, by hand"


@dataclass(frozen=True)
class Approval:
    """When an app was approved, and the runs that used it since."""

    at: str
    runs: tuple[str, ...] = ()


class Approvals:
    """The list in a file; it is read anew whenever it is asked, so that a withdrawal counts at once.

    Parameters
    ----------
    path
        The file; none approves nothing.
    log
        Where changes are written down first: what cannot be written down does not count.
    """

    def __init__(self, path: Path, log: AuditLog | None = None) -> None:
        self._path, self._log = path, log

    def all(self) -> dict[str, Approval]:
        """Approvals by hash.

        Raises
        ------
        IntegrityError, FormatError
            The file is not whole, or of a newer version.
        """
        if not self._path.exists():
            return {}
        document = read_document(self._path, {}, name=FORMAT, newest=VERSION)
        approved = document.get("approved")
        if not isinstance(approved, dict) or not all(map(_HASH.fullmatch, approved)):
            raise IntegrityError("is not a list of approvals", where=self._path, cure=_ANEW)
        return {digest: self._parsed(value) for digest, value in approved.items()}

    def approve(self, digest: str) -> None:
        """Let this site run for an app, anew where it was approved before (ConfigError where this is no hash)."""
        _check(digest)
        with self._changing() as approved:
            approved[digest] = Approval(datetime.now(UTC).isoformat(timespec="seconds"))
            self._write(approved, "approved", digest)

    def withdraw(self, digest: str) -> None:
        """Take an approval back (ConfigError where there is none)."""
        _check(digest)
        with self._changing() as approved:
            if digest not in approved:
                raise ConfigError("was not approved here", where=digest, cure="'medveil-site approve' lists what was")
            del approved[digest]
            self._write(approved, "withdrawn", digest)

    def use(self, digest: str, run: str, *, most: int) -> None:
        """Count a run of an approved app, unless it was counted before.

        Parameters
        ----------
        digest
            The app.
        run
            Identity of the run.
        most
            Runs an approval is good for.

        Raises
        ------
        ConfigError
            The app is not approved, or its approval was used for as many runs already.
        StorageError
            It cannot be counted: then it is none.
        """
        known = self.all().get(digest)
        if known is not None and run in known.runs:
            return
        with self._changing() as approved:
            known = approved.get(digest)
            if known is None:
                raise ConfigError("is not approved at this site", where="app", cure=f"medveil-site approve {digest}")
            if run not in known.runs and len(known.runs) >= most:
                problem = f"the approval of this app was good for {most} runs, and they have been"
                cure = f"a person at the site grants it anew: medveil-site approve {digest}"
                raise ConfigError(problem, where="limits.most_runs", cure=cure)
            approved[digest] = Approval(known.at, tuple(dict.fromkeys([*known.runs, run])))
            self._save(approved)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _changing(self) -> AbstractContextManager[dict[str, Approval]]:
        """What is approved, for one process at a time."""
        return changing(self._path, self.all)

    def _parsed(self, value: Any) -> Approval:
        if isinstance(value, str):
            return Approval(value)
        at, runs = (value.get("at"), value.get("runs")) if isinstance(value, dict) else (None, None)
        if not isinstance(at, str) or not isinstance(runs, list) or not all(isinstance(run, str) for run in runs):
            raise IntegrityError("is not a list of approvals", where=self._path, cure=_ANEW)
        return Approval(at, tuple(runs))

    def _write(self, approved: dict[str, Approval], event: str, app: str) -> None:
        if self._log is not None:
            self._log.append(event, app=app)
        self._save(approved)

    def _save(self, approved: dict[str, Approval]) -> None:
        plain = {digest: {"at": each.at, "runs": list(each.runs)} for digest, each in sorted(approved.items())}
        write_json(self._path, {"format": FORMAT, "version": VERSION, "approved": plain}, mode=0o600)


def _check(digest: str) -> None:
    if not _HASH.fullmatch(digest):
        cure = "the coordinator reads it out; 'medveil-server run --hash' shows it"
        raise ConfigError(f"{digest[:80]!a} is no hash of 64 hex digits", where="approve", cure=cure)
