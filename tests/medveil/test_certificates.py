"""Certificates, judged by OpenSSL and by a TLS handshake."""

from __future__ import annotations

import base64
import socket
import ssl
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from medveil.certificates import (
    Issued,
    days_left,
    expiry_warning,
    fingerprint,
    issue,
    load_certificate,
    load_issued,
    make_authority,
    names_of,
    parse_certificate,
    refuse_open_key,
)
from medveil.errors import ConfigError, FormatError, StorageError


@pytest.fixture(scope="module")
def authority() -> Issued:
    return make_authority("veil")


def saved(issued: Issued, folder: Path, name: str) -> tuple[Path, Path]:
    places = folder / f"{name}.key", folder / f"{name}.crt"
    issued.save(*places)
    return places


def openssl(*words: object) -> str:
    return subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=True).stdout


def test_openssl_verifies_the_chain_strictly(authority: Issued, tmp_path: Path) -> None:
    _, ca = saved(authority, tmp_path, "ca")
    _, server = saved(issue(authority, ["veil.example.org", "192.0.2.7", "::1"]), tmp_path, "server")
    name = ["-verify_hostname", "veil.example.org"]
    assert openssl("verify", "-x509_strict", "-purpose", "sslserver", *name, "-CAfile", ca, server).endswith("OK\n")
    assert openssl("verify", "-verify_ip", "192.0.2.7", "-CAfile", ca, server).endswith("OK\n")
    for wrong in (["-verify_hostname", "other.example.org"], ["-purpose", "sslclient"]):
        with pytest.raises(subprocess.CalledProcessError):
            openssl("verify", *wrong, "-CAfile", ca, server)
    assert names_of(load_certificate(server)) == ["veil.example.org", "192.0.2.7", "::1"]


def test_a_server_certificate_signs_nothing(authority: Issued, tmp_path: Path) -> None:
    _, ca = saved(authority, tmp_path, "ca")
    server = issue(authority, ["a.example"])
    _, middle = saved(server, tmp_path, "middle")
    _, forged = saved(issue(Issued(server.key, server.certificate), ["b.example"]), tmp_path, "forged")
    with pytest.raises(subprocess.CalledProcessError):
        openssl("verify", "-CAfile", ca, "-untrusted", middle, forged)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str:
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as stream:
                stream.send(b"here")
        except (ssl.SSLError, OSError):
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=name) as stream:
            return stream.recv(4).decode()
    finally:
        thread.join()


def test_a_handshake_needs_the_right_authority_name_and_time(authority: Issued, tmp_path: Path) -> None:
    _, ca = saved(authority, tmp_path, "ca")
    _, other = saved(make_authority("veil"), tmp_path, "other")
    contexts = {}
    for name, days in (("good", 397.0), ("expired", -0.01)):
        key, certificate = saved(issue(authority, ["localhost"], days=days), tmp_path, name)
        contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        contexts[name].load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=str(ca))
    assert handshake(contexts["good"], trusting, "localhost") == "here"
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(contexts["expired"], trusting, "localhost")
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(contexts["good"], trusting, "elsewhere")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"signature|unable to get local issuer"):
        handshake(contexts["good"], ssl.create_default_context(cafile=str(other)), "localhost")


def test_private_keys_are_their_owners_alone(authority: Issued, tmp_path: Path) -> None:
    key, certificate = saved(authority, tmp_path, "ca")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    refuse_open_key(key)
    assert load_issued(key, certificate).certificate == authority.certificate
    key.chmod(0o640)
    with pytest.raises(StorageError, match=r"can be read by others.*chmod 600"):
        refuse_open_key(key)
    with pytest.raises(StorageError, match="no such file"):
        refuse_open_key(tmp_path / "none")


def test_what_does_not_belong_together_is_refused(authority: Issued, tmp_path: Path) -> None:
    key, certificate = saved(authority, tmp_path, "ca")
    other, _ = saved(issue(authority, ["a.example"]), tmp_path, "a")
    with pytest.raises(FormatError, match="of another key"):
        load_issued(other, certificate)
    with pytest.raises(FormatError, match="not a private key"):
        load_issued(certificate, certificate)
    with pytest.raises(FormatError, match="not a PEM certificate"):
        load_certificate(key)


@pytest.mark.parametrize("name", ["", "https://a.example", "a b", "host:9092", "zürich"])
def test_names_that_cannot_stand_in_a_certificate(authority: Issued, name: str) -> None:
    with pytest.raises(ConfigError, match="neither a host name nor an IP address"):
        issue(authority, [name])


def test_a_warning_comes_thirty_days_ahead(authority: Issued) -> None:
    def warned(days: float) -> str | None:
        return expiry_warning(issue(authority, ["a"], days=days).certificate, "the certificate", cure="renew it")

    assert warned(30.5) is None
    assert "in 29 days: renew it" in str(warned(29.5))
    assert "expired on" in str(warned(-0.01))


def test_no_server_certificate_outlives_its_authority() -> None:
    short = make_authority("veil", days=20)
    made = issue(short, ["a"], days=397)
    assert days_left(made.certificate) < days_left(short.certificate) < 20
    with pytest.raises(ConfigError, match="authority has expired"):
        issue(make_authority("veil", days=0.5), ["a"])


def test_the_fingerprint_is_openssls(authority: Issued, tmp_path: Path) -> None:
    _, ca = saved(authority, tmp_path, "ca")
    shown = openssl("x509", "-in", ca, "-noout", "-fingerprint", "-sha256").strip().partition("=")[2]
    assert fingerprint(authority.certificate) == shown.replace(":", "").lower()


DER = issue(make_authority("veil"), ["veil.example.org", "192.0.2.7"]).certificate.public_bytes(Encoding.DER)


@given(at=st.integers(0, len(DER) - 1), put=st.binary(max_size=4), cut=st.integers(0, 4))
def test_every_part_of_a_certificate_parses_or_it_is_refused(at: int, put: bytes, cut: int) -> None:
    text = base64.encodebytes(DER[:at] + put + DER[at + cut :])
    pem = b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"
    try:
        found = parse_certificate(pem, where="x.crt")
    except FormatError:
        return
    assert found.public_key() is not None
    assert isinstance(names_of(found), list)
    assert days_left(found) < 1e7
    assert len(fingerprint(found)) == 64
