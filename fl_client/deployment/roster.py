"""The roster a site approved: who takes part, and under which keys. Only a person at the site changes it.

A server's list of sites is the server's word. What is approved here was compared, by its digest, over another channel.
"""

from __future__ import annotations

import re
from pathlib import Path

from fl_client.deployment.own_files import OwnFiles
from medveil import node_keys
from medveil.audit import AuditLog
from medveil.errors import ConfigError, IntegrityError
from medveil.files import locked, make_folder, write_json
from medveil.fingerprints import plain_fingerprint
from medveil.secagg.roster import Roster, parse_roster
from medveil.shapes import read_document

FORMAT = "medveil-approved-roster"
VERSION = 1
NO_ROSTER = "'limits.least_sites' is the server's promise until one is"
"""What a site without a roster has to know."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ANEW = "approve it anew, by hand"


class ApprovedRoster:
    """The roster in a file; it is read anew whenever it is asked, so that a withdrawal counts at once.

    Parameters
    ----------
    path
        The file; none approves nobody.
    log
        Where changes are written down first: what cannot be written down does not count.
    """

    def __init__(self, path: Path, log: AuditLog | None = None) -> None:
        self._path, self._log = path, log

    def roster(self) -> Roster | None:
        """What is approved; None where nothing is.

        Raises
        ------
        IntegrityError, FormatError
            The file is not whole, of a newer version, or holds another roster than was approved.
        """
        if not self._path.exists():
            return None
        document = read_document(self._path, {"approved": str, "roster": dict}, name=FORMAT, newest=VERSION)
        found = parse_roster(document["roster"], where=self._path, cure=_ANEW)
        if found.fingerprint != document["approved"]:
            raise IntegrityError("holds another roster than was approved", where=self._path, cure=_ANEW)
        return found

    def approve(self, roster: Roster, digest: str, *, site: str, identity: str) -> None:
        """Approve a roster in place of the one before it.

        Parameters
        ----------
        roster
            What was handed over.
        digest
            What was read out, as people write it.
        site, identity
            This site's name and the public half of its identity: nobody approves a roster on which it is not.

        Raises
        ------
        ConfigError
            It is another roster than was read out, or this site is not on it.
        """
        wanted = plain_fingerprint(digest)
        if not _DIGEST.fullmatch(wanted):
            cure = "the coordinator reads it out; 'medveil-server roster' shows it"
            raise ConfigError(f"{digest[:80]!a} is no digest of 64 hex digits", where="approve-roster", cure=cure)
        if roster.fingerprint != wanted:
            cure = "this is not what was read out: do not use it"
            raise ConfigError(f"the roster's digest is {roster.fingerprint}", where="approve-roster", cure=cure)
        if roster.members.get(site) != identity:
            found = "another identity" if site in roster.members else "no site"
            cure = "send the coordinator this site's .pub, and take a new roster"
            raise ConfigError(f"the roster has {found} under this site's name", where=site, cure=cure)
        make_folder(self._path.parent, mode=0o700)
        with locked(self._path):
            self._note("roster-approved", roster)
            document = {"approved": wanted, "roster": roster.as_data()}
            write_json(self._path, {"format": FORMAT, "version": VERSION, **document}, mode=0o600)

    def withdraw(self) -> Roster:
        """Take the approval back (ConfigError where there is none)."""
        make_folder(self._path.parent, mode=0o700)
        with locked(self._path):
            found = self.roster()
            if found is None:
                raise ConfigError("no roster is approved", where="approve-roster --withdraw")
            self._note("roster-withdrawn", found)
            self._path.unlink()
        return found

    def _note(self, event: str, roster: Roster) -> None:
        if self._log is not None:
            self._log.append(event, roster=roster.fingerprint)


def own_identity(files: OwnFiles) -> str:
    """The public half of this site's identity, from what it sent the coordinator; its key stays sealed.

    Raises
    ------
    ConfigError
        The site has no identity.
    StorageError, FormatError
        The file is missing or is none.
    """
    found = node_keys.load_public(files.path(files.config.node_key).with_suffix(".pub"))
    if not found.identity:
        cure = "take the coordinator's new invitation: medveil-site rejoin --invitation FILE"
        raise ConfigError("has no identity that signs its replies", where=files.config.name, cure=cure)
    return found.identity
