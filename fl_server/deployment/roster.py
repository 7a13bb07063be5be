"""The sites of a consortium: who was admitted, under which keys, and who was revoked.

Flower's SuperLink keeps the node keys it was told; this list is what it is told from. It is there before a server runs,
and outlives its database. A site's replies count only under the identity that is here. Version 1 knew none: its sites
stay admitted, take part in no run, and are admitted once more with the file that names their identity.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from medveil.audit import AuditLog
from medveil.errors import ConfigError, IntegrityError
from medveil.files import locked, write_json
from medveil.node_keys import PublicKey
from medveil.shapes import read_document
from medveil.times import moment

FORMAT = "medveil-roster"
VERSION = 2
ADMITTED, REVOKED = "admitted", "revoked"


@dataclass(frozen=True)
class Member:
    """One site's node key and identity, and what became of them.

    Parameters
    ----------
    name
        The site.
    key
        Its node's public key, base64.
    status
        ``admitted`` or ``revoked``.
    since
        When it came to be that, in UTC.
    node
        Flower's id of the node; 0 until a server has been told.
    identity
        The public key its replies are signed with, base64; empty until it names one.
    """

    name: str
    key: str
    status: str
    since: str
    node: int = 0
    identity: str = ""

    @property
    def public(self) -> PublicKey:
        """Its keys with its name."""
        return PublicKey(self.name, self.key, self.identity)


class Roster:
    """The list in a file; every change is written at once.

    Parameters
    ----------
    path
        The file; none is an empty list.
    log
        Where changes are written down first.
    """

    def __init__(self, path: Path, log: AuditLog | None = None) -> None:
        self._path, self._log = path, log

    def members(self) -> list[Member]:
        """All that were ever admitted, by name and time.

        Raises
        ------
        IntegrityError, FormatError
            The file is not whole, or of a newer version.
        """
        if not self._path.exists():
            return []
        shape = {"sites": [{"name": str, "key": str, "status": str, "since": str, "node?": int}]}
        document = read_document(self._path, shape, name=FORMAT, newest=VERSION)
        try:
            return [Member(**each) for each in document["sites"]]
        except (KeyError, TypeError):
            raise IntegrityError("is not a list of sites", where=self._path, cure="restore it from a copy") from None

    def admitted(self) -> list[Member]:
        """Those that may connect."""
        return [member for member in self.members() if member.status == ADMITTED]

    def admit(self, public: PublicKey) -> Member:
        """Let a site connect, or learn the identity of one that had none.

        Raises
        ------
        ConfigError
            It names no identity, its name or one of its keys is taken, or one of them was revoked.
        """
        if not public.identity:
            cure = "the site runs this MedVeil's 'medveil-site enroll', or 'rejoin' where it is enrolled, and sends it"
            raise ConfigError("its .pub file names no identity to sign with", where=public.name, cure=cure)
        with locked(self._path):
            members = self.members()
            known = next((each for each in members if _is_unidentified(each, public)), None)
            others = [each for each in members if each != known]
            for member in others:
                _refuse_taken(member, public)
            made = Member(public.name, public.encoded, ADMITTED, _now(), 0, public.identity)
            if known is not None:
                made = replace(known, identity=public.identity)
            self._note("site-admitted", made)
            self._write([*others, made])
        return made

    def revoke(self, name: str) -> Member:
        """Let a site connect no more. Its key stays burnt: the site comes back with a new one.

        Raises
        ------
        ConfigError
            No site of this name is admitted.
        """
        with locked(self._path):
            members = self.members()
            found = next((each for each in members if each.name == name and each.status == ADMITTED), None)
            if found is None:
                names = ", ".join(each.name for each in members if each.status == ADMITTED) or "none"
                raise ConfigError(f"no site '{name}' is admitted", where="revoke", cure=f"admitted: {names}")
            gone = replace(found, status=REVOKED, since=_now())
            self._note("site-revoked", gone)
            self._write([gone if each == found else each for each in members])
        return gone

    def registered(self, member: Member, node: int) -> None:
        """Note the id by which Flower knows a site's node."""
        with locked(self._path):
            self._write([replace(each, node=node) if each.key == member.key else each for each in self.members()])

    def _note(self, event: str, member: Member) -> None:
        """Write down what is about to count: what cannot be written down is not done."""
        if self._log is not None:
            self._log.append(event, site=member.name, key=member.public.fingerprint)

    def _write(self, members: list[Member]) -> None:
        ordered = sorted(members, key=lambda member: (member.name, member.since))
        document = {"format": FORMAT, "version": VERSION, "sites": [asdict(each) for each in ordered]}
        write_json(self._path, document, mode=0o600)


def _is_unidentified(member: Member, public: PublicKey) -> bool:
    """Whether this is the same site, admitted by its node key before it named an identity."""
    same = (member.name, member.key) == (public.name, public.encoded)
    return same and member.status == ADMITTED and not member.identity


def _refuse_taken(member: Member, public: PublicKey) -> None:
    same = [
        what
        for what, own, new in (
            ("key", member.key, public.encoded),
            ("identity", member.identity, public.identity),
        )
        if own == new
    ]
    if same and member.status == REVOKED:
        problem = f"this {same[0]} was revoked on {moment(member.since)}, and a revoked {same[0]} never comes back"
        raise ConfigError(problem, where=public.name, cure="the site makes a new one with 'medveil-site enroll'")
    if same:
        raise ConfigError(f"this {same[0]} is admitted already, as '{member.name}'", where=public.name)
    if member.name == public.name and member.status == ADMITTED:
        cure = f"'medveil-server revoke {member.name}' first, if the site lost its key"
        raise ConfigError("a site of this name is admitted already", where=public.name, cure=cure)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
