"""The apps a site has approved, by the SHA-256 of their bundles. Only a person at the site adds one."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from medveil.audit import AuditLog
from medveil.errors import ConfigError, IntegrityError
from medveil.files import locked, make_folder, write_json
from medveil.shapes import read_document

FORMAT = "medveil-approvals"
VERSION = 1
_HASH = re.compile(r"[0-9a-f]{64}")


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

    def all(self) -> dict[str, str]:
        """Hashes, each with the time it was approved.

        Raises
        ------
        IntegrityError, FormatError
            The file is not whole, or of a newer version.
        """
        if not self._path.exists():
            return {}
        document = read_document(self._path, {}, name=FORMAT, newest=VERSION)
        approved = document.get("approved")
        if not isinstance(approved, dict) or not all(map(_is_approval, approved.items())):
            raise IntegrityError("is not a list of approvals", where=self._path, cure="approve anew, by hand")
        return {str(digest): str(when) for digest, when in approved.items()}

    def approve(self, digest: str) -> None:
        """Let this site run for an app (ConfigError where this is no hash)."""
        _check(digest)
        self._write({**self.all(), digest: datetime.now(UTC).isoformat(timespec="seconds")}, "approved", digest)

    def withdraw(self, digest: str) -> None:
        """Take an approval back (ConfigError where there is none)."""
        _check(digest)
        approved = self.all()
        if digest not in approved:
            raise ConfigError("was not approved here", where=digest, cure="'medveil-site approve' lists what was")
        self._write({each: when for each, when in approved.items() if each != digest}, "withdrawn", digest)

    def _write(self, approved: dict[str, str], event: str, app: str) -> None:
        make_folder(self._path.parent, mode=0o700)
        with locked(self._path):
            if self._log is not None:
                self._log.append(event, app=app)
            document = {"format": FORMAT, "version": VERSION, "approved": dict(sorted(approved.items()))}
            write_json(self._path, document, mode=0o600)


def _is_approval(named: tuple[object, object]) -> bool:
    digest, when = named
    return isinstance(digest, str) and _HASH.fullmatch(digest) is not None and isinstance(when, str)


def _check(digest: str) -> None:
    if not _HASH.fullmatch(digest):
        cure = "the coordinator reads it out; 'medveil-server run --hash' shows it"
        raise ConfigError(f"{digest[:80]!a} is no hash of 64 hex digits", where="approve", cure=cure)
