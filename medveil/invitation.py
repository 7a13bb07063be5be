"""What a coordinator hands to every site: where the server is, and whose certificate to trust. Nothing in it is secret.

Whoever could put another file in its place could pose as the server: the fingerprint of the authority is compared over
another channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from medveil.certificates import fingerprint
from medveil.errors import FormatError
from medveil.files import check_format, read_json, write_json
from medveil.plain import SETTINGS

FORMAT = "medveil-invitation"
VERSION = 1


@dataclass(frozen=True)
class Invitation:
    """A consortium's name, its server's address (``host:port``) and its authority's certificate (PEM)."""

    consortium: str
    address: str
    authority: str

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the authority: 64 hex digits."""
        return fingerprint(x509.load_pem_x509_certificate(self.authority.encode("ascii")))

    def save(self, path: Path) -> None:
        """Write the invitation (StorageError where the disk refuses)."""
        write_json(path, {"format": FORMAT, "version": VERSION, **vars(self)})


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
    check_format(document, name=FORMAT, newest=VERSION, where=path)
    values = {name: document.get(name) for name in ("consortium", "address", "authority")}
    if not all(isinstance(value, str) and value for value in values.values()):
        raise FormatError("lacks fields of an invitation", where=path, cure="ask the coordinator for it again")
    made = Invitation(**{name: str(value) for name, value in values.items()})
    try:
        made.fingerprint  # noqa: B018 - asked for its error
    except ValueError:
        raise FormatError(
            "holds no certificate", where=path, cure="ask the coordinator for the invitation again"
        ) from None
    return made
