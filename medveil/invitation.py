"""What a coordinator hands to every site: where the server is, and whose certificate and signature to trust.

Nothing in it is secret. Whoever could put another file in its place could pose as the server: one fingerprint over
authority and signing key is compared over another channel. Version 1 had no signing key; it is read, and a site that
has no other is told that it needs one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from medveil.audit import canonical
from medveil.bounded import SETTINGS
from medveil.certificates import fingerprint, parse_certificate
from medveil.errors import FormatError
from medveil.files import check_format, read_json, write_json
from medveil.signing import is_public

FORMAT = "medveil-invitation"
VERSION = 2
_UNSIGNED = 1
_AGAIN = "ask the coordinator for the invitation again"


@dataclass(frozen=True)
class Invitation:
    """A consortium as a site is told of it.

    Parameters
    ----------
    consortium
        Its name.
    address
        Of its server: ``host:port``.
    authority
        Certificate of its authority (PEM).
    server_key
        Its server's signing key, base64; empty in an invitation of version 1.
    """

    consortium: str
    address: str
    authority: str
    server_key: str = ""

    @property
    def fingerprint(self) -> str:
        """What both sides compare: 64 hex digits over authority and signing key."""
        return fingerprint_of(parse_certificate(self.authority.encode(), where="the invitation"), self.server_key)

    def save(self, path: Path) -> None:
        """Write the invitation (StorageError where the disk refuses)."""
        write_json(path, {"format": FORMAT, "version": VERSION, **vars(self)})


def fingerprint_of(authority: x509.Certificate, server_key: str) -> str:
    """The one fingerprint of an authority and a server's signing key; the authority's own where there is no key."""
    own = fingerprint(authority)
    if not server_key:
        return own
    return hashlib.sha256(canonical({"authority": own, "server_key": server_key})).hexdigest()


def load_invitation(path: Path) -> Invitation:
    """Read an invitation.

    Raises
    ------
    StorageError, IntegrityError
        It is missing, or not whole.
    FormatError
        It is something else, or of a newer version.
    """
    document: dict[str, Any] = read_json(path, bounds=SETTINGS)
    version = check_format(document, name=FORMAT, newest=VERSION, where=path)
    wanted = ["consortium", "address", "authority", *([] if version == _UNSIGNED else ["server_key"])]
    values = {name: document.get(name) for name in wanted}
    if not all(isinstance(value, str) and value for value in values.values()):
        raise FormatError("lacks fields of an invitation", where=path, cure=_AGAIN)
    if version != _UNSIGNED and not is_public(values["server_key"]):
        raise FormatError("holds no signing key", where=path, cure=_AGAIN)
    made = Invitation(**{name: str(value) for name, value in values.items()})
    try:
        parse_certificate(made.authority.encode(), where=path)
    except FormatError:
        raise FormatError("holds no certificate", where=path, cure=_AGAIN) from None
    return made
