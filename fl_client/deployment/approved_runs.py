"""The settings of runs that a person at the site approved, for sites whose limits ask for it (`limits.approve_runs`).

An approval is of settings, not of one run: another run of the same settings needs no second one, and the smallest
change of any needs another. The weights file that a run names is this site's own; its contents are part of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.own_weights import weights_of
from fl_client.disclosure.subject import settings_digest
from medveil.audit import AuditLog
from medveil.config import from_mapping
from medveil.contract import RunConfig
from medveil.errors import ConfigError, PolicyError
from medveil.files import changing, write_json
from medveil.shapes import read_document

FORMAT, VERSION = "medveil-approved-runs", 1
FILE = "approved-runs.json"
WHERE = "limits.approve_runs"
_SHAPE = {"approved": [{"digest": str, "at": str, "settings": dict}]}


class ApprovedRun(NamedTuple):
    """Settings that were approved: their digest, when, and what they were."""

    digest: str
    at: str
    settings: dict[str, Any]

    @property
    def run(self) -> RunConfig:
        """The run they were read of (ConfigError where they are none)."""
        return from_mapping(RunConfig, self.settings, where=FILE)


def approval_digest(run: RunConfig) -> str:
    """SHA-256 of a run's settings and of this site's own weights file: 64 hex digits."""
    return hashlib.sha256(f"{settings_digest(run)}/{weights_of(run) or ''}".encode()).hexdigest()


class ApprovedRuns:
    """The list in a site's file; read anew whenever it is asked, so that a withdrawal counts at once.

    Parameters
    ----------
    files
        The site.
    log
        Where changes are written down first.
    """

    def __init__(self, files: OwnFiles, log: AuditLog | None = None) -> None:
        self._path, self._log = files.state / FILE, log

    def all(self) -> list[ApprovedRun]:
        """Oldest first (IntegrityError, FormatError where the file is not whole or newer)."""
        if not self._path.exists():
            return []
        document = read_document(self._path, _SHAPE, name=FORMAT, newest=VERSION)
        return [ApprovedRun(each["digest"], each["at"], each["settings"]) for each in document["approved"]]

    def last(self) -> ApprovedRun | None:
        """The newest; None where none is."""
        found = self.all()
        return found[-1] if found else None

    def approve(self, run: RunConfig) -> str:
        """Approve a run's settings; returns their digest."""
        digest = approval_digest(run)
        made = ApprovedRun(digest, datetime.now(UTC).isoformat(timespec="seconds"), dataclasses.asdict(run))
        with changing(self._path, self.all) as found:
            self._write([*(each for each in found if each.digest != digest), made], "approved-run", digest)
        return digest

    def withdraw(self, run: RunConfig) -> str:
        """Take the approval of a run's settings back (ConfigError where there is none)."""
        digest = approval_digest(run)
        with changing(self._path, self.all) as found:
            kept = [each for each in found if each.digest != digest]
            if len(kept) == len(found):
                raise ConfigError("its settings were not approved here", where=f"run {run.run[:8]}")
            self._write(kept, "withdrawn-run", digest)
        return digest

    def require(self, run: RunConfig) -> None:
        """Refuse a run whose settings nobody here approved (PolicyError, with a text that a server may read)."""
        digest = approval_digest(run)
        if digest not in {each.digest for each in self.all()}:
            cure = f"a person at the site: medveil-site approve --run {run.run}"
            raise PolicyError(
                "a person at this site approves a run's settings first, and has not", where=WHERE, cure=cure
            )

    def _write(self, found: list[ApprovedRun], event: str, digest: str) -> None:
        if self._log is not None:
            self._log.append(event, settings=digest)
        plain = [each._asdict() for each in found]
        write_json(self._path, {"format": FORMAT, "version": VERSION, "approved": plain}, mode=0o600)
