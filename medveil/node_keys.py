"""The keys by which a site is known to the server: its node's, and the identity that signs its replies.

The node key is ECDSA on P-384, in OpenSSH's formats, as Flower reads them; it lies unsealed, for Flower asks for no
passphrase. The identity (`medveil.signing`) is sealed. The private halves are made at the site and stay there. The
server is given one ``.pub`` file: its first line is the node key as OpenSSH writes it, its second the identity, with
the signature of each key over both. Both sides compare one fingerprint over the two.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from medveil.audit import canonical
from medveil.certificates import refuse_open_key
from medveil.errors import ConfigError, FormatError, SignatureError
from medveil.files import read_bytes
from medveil.signing import Signed, SigningKey, is_public, verified

ALGORITHM = "ecdsa-sha2-nistp384"
IDENTITY = "medveil-identity-v1"
"""First word of the line that binds an identity to a node key."""
BINDING = "medveil site"
LONGEST_NAME = 64
_LARGEST = 4096
_VERSION = 1


@dataclass(frozen=True)
class PublicKey:
    """The public half, as the server keeps it.

    Parameters
    ----------
    name
        Whose node it is.
    encoded
        The key, base64, as in the second word of an OpenSSH public key.
    identity
        The key that signs the site's replies, base64; empty in a file of an earlier MedVeil.
    """

    name: str
    encoded: str
    identity: str = ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over node key and identity in 64 hex digits; without an identity, over the node key alone."""
        said = base64.b64decode(self.encoded)
        if self.identity:
            said = canonical({"node": self.encoded, "identity": self.identity})
        return hashlib.sha256(said).hexdigest()

    def line(self) -> str:
        """The node key as one line of OpenSSH's public format: as much as Flower is told."""
        return f"{ALGORITHM} {self.encoded} {self.name}\n"


def check_name(name: str, *, where: str | Path | None = None) -> str:
    """Return the name of a site, or refuse one that could not name a folder, a node and a line of a table.

    Raises
    ------
    ConfigError
        It is empty, longer than 64 characters, or has other characters than letters, digits, dot, dash and underscore.
    """
    good = name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    if not good or len(name) > LONGEST_NAME or name[0] in ".-" or name == "all":
        cure = f"1 to {LONGEST_NAME} letters, digits, '.', '-', '_', no dot or dash in front, and not 'all'"
        raise ConfigError(f"{name!a} cannot name a site", where=where, cure=cure)
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


def public_file(key: ec.EllipticCurvePrivateKey, identity: SigningKey, name: str) -> tuple[PublicKey, str]:
    """What the server is given: both public halves, and the file that holds them.

    Each key signs that it belongs to the other, so that nobody can claim another site's node or identity.
    """
    half = _public(key.public_key(), name)
    both = PublicKey(name, half.encoded, identity.public)
    signed = identity.sign(BINDING, _VERSION, _bound(both))
    by_node = key.sign(signed.statement.encode(), ec.ECDSA(hashes.SHA384()))
    words = [IDENTITY, identity.public, signed.signature, base64.b64encode(by_node).decode("ascii")]
    return both, f"{both.line()}{' '.join(words)}\n"


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
    """Read a site's public keys; the comment of the first is the site's name.

    Raises
    ------
    StorageError
        It is missing or unreadable.
    FormatError
        It is something else, a private key, on another curve, or its two keys are not bound to each other.
    ConfigError
        Its name cannot name a site.
    """
    data = read_bytes(path)
    if b"PRIVATE KEY" in data:
        cure = "the site keeps it and sends the file that ends in .pub; this one counts as stolen: enroll anew"
        raise FormatError("is a private key, which nobody but the site may hold", where=path, cure=cure)
    try:
        first, *more = data[:_LARGEST].decode("ascii").splitlines() or [""]
        words = first.split()
        key = serialization.load_ssh_public_key(first.encode())
    except (ValueError, UnsupportedAlgorithm, NotImplementedError):
        raise FormatError("is not a public node key", where=path, cure="the file that ends in .pub") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise FormatError("is not an ECDSA key on P-384", where=path, cure="the site enrolls with medveil-site enroll")
    found = _public(key, check_name(words[2] if len(words) > 2 else ""))
    return _identified(found, key, more, path) if any(line.strip() for line in more) else found


def _identified(found: PublicKey, key: ec.EllipticCurvePublicKey, lines: list[str], path: Path) -> PublicKey:
    """The node key with the identity that is bound to it."""
    words = [line.split() for line in lines if line.strip()]
    if len(words) != 1 or len(words[0]) != 4 or words[0][0] != IDENTITY or not is_public(words[0][1]):
        raise FormatError("has a second line that names no identity", where=path, cure="ask the site for it again")
    _, identity, own, by_node = words[0]
    both = PublicKey(found.name, found.encoded, identity)
    statement = canonical({**_bound(both), "domain": BINDING, "version": _VERSION})
    try:
        verified(Signed(statement.decode("ascii"), own), identity, domain=BINDING, newest=_VERSION)
        key.verify(base64.b64decode(by_node, validate=True), statement, ec.ECDSA(hashes.SHA384()))
    except (SignatureError, InvalidSignature, ValueError):
        cure = "it was put together from two files, or changed on its way: do not admit it"
        raise FormatError("its node key and its identity are not of one site", where=path, cure=cure) from None
    return both


def _bound(both: PublicKey) -> dict[str, str]:
    return {"site": both.name, "node": both.encoded, "identity": both.identity}


def _public(key: ec.EllipticCurvePublicKey, name: str) -> PublicKey:
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return PublicKey(name, line.split()[1].decode("ascii"))
