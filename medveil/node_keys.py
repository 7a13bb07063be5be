"""The key by which a site's node is known to the server: ECDSA on P-384, in OpenSSH's formats, as Flower reads them.

The private half is made at the site and stays there; the server is given the public one. Both sides see the same
fingerprint, which is what ``ssh-keygen -l`` shows.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from medveil.certificates import refuse_open_key
from medveil.errors import ConfigError, FormatError
from medveil.files import read_bytes

ALGORITHM = "ecdsa-sha2-nistp384"
LONGEST_NAME = 64
_LARGEST = 4096


@dataclass(frozen=True)
class PublicKey:
    """The public half, as the server keeps it.

    Parameters
    ----------
    name
        Whose node it is.
    encoded
        The key, base64, as in the second word of an OpenSSH public key.
    """

    name: str
    encoded: str

    @property
    def fingerprint(self) -> str:
        """``SHA256:...``, as OpenSSH writes it."""
        digest = hashlib.sha256(base64.b64decode(self.encoded)).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"

    def line(self) -> str:
        """The key as one line of OpenSSH's public format."""
        return f"{ALGORITHM} {self.encoded} {self.name}\n"


def check_name(name: str) -> str:
    """Return the name of a site, or refuse one that could not name a folder, a node and a line of a table.

    Raises
    ------
    ConfigError
        It is empty, longer than 64 characters, or has other characters than letters, digits, dot, dash and underscore.
    """
    good = name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    if not good or len(name) > LONGEST_NAME or name[0] in ".-" or name == "all":
        cure = f"1 to {LONGEST_NAME} letters, digits, '.', '-', '_', no dot or dash in front, and not 'all'"
        raise ConfigError(f"{name!a} cannot name a site", cure=cure)
    return name


def generate() -> ec.EllipticCurvePrivateKey:
    """Draw a fresh node key."""
    return ec.generate_private_key(ec.SECP384R1())


def private_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as OpenSSH keeps it, without a passphrase: Flower asks for none."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )


def public_half(key: ec.EllipticCurvePrivateKey, name: str) -> PublicKey:
    """The public half of a private key."""
    return _public(key.public_key(), name)


def load_private(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a private node key.

    Raises
    ------
    StorageError
        It is missing, or others than its owner may read it.
    FormatError
        It is something else, sealed with a passphrase, or on another curve.
    """
    refuse_open_key(path)
    try:
        key = serialization.load_ssh_private_key(read_bytes(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise FormatError("is not a node key without a passphrase", where=path, cure="medveil-site enroll") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise FormatError("is not an ECDSA key on P-384", where=path, cure="medveil-site enroll")
    return key


def load_public(path: Path) -> PublicKey:
    """Read a public node key; its comment is the site's name.

    Raises
    ------
    StorageError
        It is missing or unreadable.
    FormatError
        It is something else, a private key, or on another curve.
    ConfigError
        Its name cannot name a site.
    """
    data = read_bytes(path)
    if b"PRIVATE KEY" in data:
        cure = "the site keeps it and sends the file that ends in .pub; this one counts as stolen: enroll anew"
        raise FormatError("is a private key, which nobody but the site may hold", where=path, cure=cure)
    try:
        words = data[:_LARGEST].decode("ascii").split()
        key = serialization.load_ssh_public_key(data[:_LARGEST])
    except (ValueError, UnsupportedAlgorithm):
        raise FormatError("is not a public node key", where=path, cure="the file that ends in .pub") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise FormatError("is not an ECDSA key on P-384", where=path, cure="the site enrolls with medveil-site enroll")
    return _public(key, check_name(words[2] if len(words) > 2 else ""))


def _public(key: ec.EllipticCurvePublicKey, name: str) -> PublicKey:
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return PublicKey(name, line.split()[1].decode("ascii"))
