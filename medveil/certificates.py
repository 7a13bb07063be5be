"""The consortium's own certificate authority, and server certificates under it.

A small authority of the consortium's own says exactly whom a site trusts: sites are given its certificate, and no
other. Keys are ECDSA on P-256, which every TLS 1.2 and 1.3 library takes.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from medveil.errors import ConfigError, FormatError, StorageError
from medveil.files import read_bytes, write_bytes

AUTHORITY_DAYS = 1826
SERVER_DAYS = 397
"""As long as browsers accept; a renewal is one command, and the sites need nothing new."""
WARN_DAYS = 30
_EARLIER = timedelta(hours=1)
"""Certificates begin a little in the past: a site's clock may be behind."""


@dataclass(frozen=True)
class Issued:
    """A private key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def save(self, key: Path, certificate: Path) -> None:
        """Write both: the key for its owner only (0600), the certificate for everyone.

        Raises
        ------
        StorageError
            The disk refuses.
        """
        encoded = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_bytes(key, encoded, mode=0o600)
        write_bytes(certificate, self.certificate.public_bytes(serialization.Encoding.PEM))


def make_authority(name: str, *, days: float = AUTHORITY_DAYS) -> Issued:
    """Make a certificate authority that can sign certificates of servers and of nothing below them."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(f"{name} certificate authority")
    builder = (
        _begun(subject, subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Issued(key, builder.sign(key, hashes.SHA256()))


def issue(authority: Issued, names: Sequence[str], *, days: float = SERVER_DAYS) -> Issued:
    """Make a server's key and certificate.

    Parameters
    ----------
    authority
        Who signs.
    names
        Host names and IP addresses the server is reached by; the first is its common name.

    Raises
    ------
    ConfigError
        A name cannot stand in a certificate.
    """
    alternatives = [_general(name) for name in names]
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate.subject
    # A server certificate that outlives its authority would fail without a warning of its own.
    left = (authority.certificate.not_valid_after_utc - datetime.now(UTC)).days
    if left < 1:
        raise ConfigError("the certificate authority has expired", cure="make a new one and hand it to every site")
    known = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _begun(_name(names[0]), issuer, key.public_key(), min(days, left))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known), critical=False)
    )
    return Issued(key, builder.sign(authority.key, hashes.SHA256()))


def load_issued(key: Path, certificate: Path) -> Issued:
    """Read what `Issued.save` wrote.

    Raises
    ------
    StorageError
        A file is missing or unreadable.
    FormatError
        A file is something else, or the two do not belong together.
    """
    try:
        loaded = serialization.load_pem_private_key(read_bytes(key), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise FormatError("is not a private key of ours", where=key) from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise FormatError("is not an ECDSA key", where=key)
    found = load_certificate(certificate)
    if found.public_key() != loaded.public_key():
        raise FormatError("is the certificate of another key", where=certificate, cure="restore both from a copy")
    return Issued(loaded, found)


def load_certificate(path: str | Path) -> x509.Certificate:
    """Read one PEM certificate (StorageError where it is missing, FormatError where it is something else)."""
    return parse_certificate(read_bytes(path), where=path)


def parse_certificate(data: bytes, *, where: str | Path) -> x509.Certificate:
    """One certificate from PEM, all of it parsed.

    ``cryptography`` reads a certificate's parts when they are asked for, and refuses each with an error of its own: all
    are asked for here, so that nobody who uses the certificate meets them.

    Raises
    ------
    FormatError
        It is something else, or a part of it does not parse.
    """
    try:
        found = x509.load_pem_x509_certificate(data)
        found.public_key(), found.extensions, found.version, days_left(found), names_of(found)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension):
        raise FormatError("is not a PEM certificate", where=where) from None
    return found


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate as 64 hex digits: what two people read to each other."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def days_left(certificate: x509.Certificate) -> float:
    """Days until a certificate expires; negative once it has."""
    return (certificate.not_valid_after_utc - datetime.now(UTC)) / timedelta(days=1)


def expiry_warning(certificate: x509.Certificate, what: str, *, cure: str) -> str | None:
    """A sentence when a certificate expires within `WARN_DAYS`, or has; None while there is time."""
    left = days_left(certificate)
    if left > WARN_DAYS:
        return None
    when = certificate.not_valid_after_utc.date().isoformat()
    if left < 0:
        return f"{what} expired on {when}: {cure}"
    return f"{what} expires on {when}, in {int(left)} days: {cure}"


def names_of(certificate: x509.Certificate) -> list[str]:
    """The host names and addresses a certificate is good for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]


def refuse_open_key(path: Path) -> None:
    """Refuse a private key that others may read.

    Raises
    ------
    StorageError
        The file is missing, or its group or others may read it.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        raise StorageError("no such file", where=path) from None
    if mode & 0o077 and os.name == "posix":
        raise StorageError("can be read by others than its owner", where=path, cure=f"chmod 600 {path}")


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    # X.520 allows 64 characters.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not name or not name.isascii() or set(name) & set("/:@ "):
        raise ConfigError(f"{name!r} is neither a host name nor an IP address", where="names")
    return x509.DNSName(name)
