"""The roster of a consortium: which sites take part, by the identities that sign for them, as every site approved it.

The server makes the file of the sites it admitted, and could make another for each of them. So its *digest* is read out
once, to all, over another channel; a site counts nobody who is not on the roster it approved. Another member is another
roster. Its threshold is that of Bonawitz et al. 2017 (eprint 2017/281) against an active server: 2 t > n + colluding.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medveil.bounded import SETTINGS
from medveil.errors import ConfigError, IntegrityError, MedVeilError
from medveil.files import write_json
from medveil.node_keys import check_name
from medveil.secagg.encoding import digest
from medveil.shapes import check_shape, read_chosen
from medveil.signing import fingerprint, is_public

FORMAT = "medveil-shared-roster"
VERSION = 1
FEWEST, MOST = 3, 1000
"""Sites of a roster: of a sum over two, each site knows the other's part."""
COLLUDING = 1
"""Sites that may side with the server, unless a consortium says otherwise."""
_AGAIN = "ask the coordinator for the roster again"
_SHAPE = {"colluding": int, "sites": {str: str}}


@dataclass(frozen=True)
class Roster:
    """Who takes part.

    Parameters
    ----------
    members
        Identity of each site by its name, base64 as `medveil.signing.SigningKey.public`.
    colluding
        Sites that may side with the server without another being read.

    Raises
    ------
    ConfigError
        It has too few or too many sites, one that has no name or no identity, one identity twice, or more colluding
        ones than a threshold can stand.
    """

    members: Mapping[str, str]
    colluding: int = COLLUDING

    def __post_init__(self) -> None:
        self._check_members()
        if not 0 <= self.colluding <= len(self.members) - 2:
            cure = f"0 to {len(self.members) - 2} of {len(self.members)} sites"
            raise ConfigError("no threshold can stand so many colluding sites", where="roster, colluding", cure=cure)

    @property
    def names(self) -> list[str]:
        """The sites' names, sorted."""
        return sorted(self.members)

    @property
    def digest(self) -> bytes:
        """32 bytes that name this roster and no other."""
        keys = [part for name in self.names for part in (name, base64.b64decode(self.members[name]))]
        return digest("roster", self.colluding, *keys)

    @property
    def fingerprint(self) -> str:
        """The digest in 64 hex digits, as it is read out."""
        return self.digest.hex()

    @property
    def threshold(self) -> int:
        """How many sites must help to open a sum."""
        return (len(self.members) + self.colluding) // 2 + 1

    @property
    def fewest(self) -> int:
        """Fewest sites of a sum: below, those that collude and one other could take the last one's part out of it."""
        return max(FEWEST, self.threshold, self.colluding + 2)

    def index(self, name: str) -> int:
        """A site's number, from 1: the point of its shares."""
        return self.names.index(name) + 1

    def lines(self) -> list[str]:
        """Each site with the fingerprint of its identity."""
        return [f"{name}  {fingerprint(self.members[name])}" for name in self.names]

    def facts(self) -> dict[str, Any]:
        """What a command tells a program of it."""
        return {
            "fingerprint": self.fingerprint,
            "members": dict(self.members),
            "threshold": self.threshold,
            "fewest": self.fewest,
            "colluding": self.colluding,
        }

    def as_data(self) -> dict[str, Any]:
        """The roster as plain data."""
        return {"colluding": self.colluding, "sites": {name: self.members[name] for name in self.names}}

    def save(self, path: Path) -> None:
        """Write the roster; nothing in it is secret (StorageError where the disk refuses)."""
        write_json(path, {"format": FORMAT, "version": VERSION, **self.as_data()})

    def _check_members(self) -> None:
        if not FEWEST <= len(self.members) <= MOST:
            cure = f"{FEWEST} to {MOST}: of a sum over two, each site knows the other's part"
            raise ConfigError(f"has {len(self.members)} sites", where="roster", cure=cure)
        for name, identity in self.members.items():
            check_name(name)
            if not is_public(identity):
                raise ConfigError("has no identity that signs for it", where=f"roster, {name}")
        if len(set(self.members.values())) != len(self.members):
            raise ConfigError("has one identity under two names", where="roster", cure="each site enrolls by itself")


def load_roster(path: Path) -> Roster:
    """Read a roster that somebody handed over; whether it is the right one, its digest says.

    Raises
    ------
    StorageError, FormatError
        It is missing, something else, or of a newer version.
    IntegrityError
        It is not whole, or no roster can be so.
    """
    document = read_chosen(path, name=FORMAT, newest=VERSION, cure=_AGAIN, bounds=SETTINGS)
    return parse_roster(document, where=path, cure=_AGAIN)


def parse_roster(document: Any, *, where: Path, cure: str) -> Roster:
    """A roster from plain data (IntegrityError where it is none)."""
    check_shape(document, _SHAPE, where=where, cure=cure)
    try:
        return Roster(document["sites"], document["colluding"])
    except MedVeilError as error:
        raise IntegrityError(error.problem, where=where, cure=cure) from None
