"""Node keys, judged by ssh-keygen."""

from __future__ import annotations

import base64
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from medveil import node_keys
from medveil.errors import ConfigError, FormatError, StorageError
from medveil.fingerprints import plain_fingerprint
from medveil.signing import SigningKey


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    key = node_keys.generate()
    private, public = tmp_path / "st-anna.node", tmp_path / "st-anna.pub"
    private.write_bytes(node_keys.private_bytes(key))
    private.chmod(0o600)
    public.write_text(node_keys.public_half(key, "st-anna").line())
    return private, public


def test_the_halves_belong_together(pair: tuple[Path, Path]) -> None:
    private, public = pair
    found = node_keys.load_public(public)
    assert found == node_keys.public_half(node_keys.load_private(private), "st-anna")
    assert found.name == "st-anna"


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_ssh_keygen_reads_both_and_shows_the_same_fingerprint(pair: tuple[Path, Path]) -> None:
    private, public = pair
    shown = subprocess.run(["ssh-keygen", "-lf", str(public)], capture_output=True, text=True, check=True).stdout
    bits, theirs, *rest = shown.split()
    assert (bits, rest) == ("384", ["st-anna", "(ECDSA)"])
    assert plain_fingerprint(theirs) == node_keys.load_public(public).fingerprint
    derived = subprocess.run(["ssh-keygen", "-yf", str(private)], capture_output=True, text=True, check=True).stdout
    assert derived.split()[:2] == public.read_text().split()[:2]


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_keys_of_ssh_keygens_are_read(tmp_path: Path) -> None:
    words = ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-C", "mercy", "-f", str(tmp_path / "k")]
    subprocess.run(words, check=True)
    key = node_keys.load_private(tmp_path / "k")
    assert node_keys.public_half(key, "mercy") == node_keys.load_public(tmp_path / "k.pub")


def test_a_private_key_is_never_admitted(pair: tuple[Path, Path]) -> None:
    with pytest.raises(FormatError, match=r"private key, which nobody but the site may hold.*enroll anew"):
        node_keys.load_public(pair[0])


def test_a_key_others_may_read_is_refused(pair: tuple[Path, Path]) -> None:
    pair[0].chmod(0o644)
    with pytest.raises(StorageError, match="can be read by others"):
        node_keys.load_private(pair[0])


def public_line(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey, name: str = "a") -> str:
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    return f"{line} {name}\n"


def test_other_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pub"
    for key in (ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()):
        path.write_text(public_line(key.public_key()))
        with pytest.raises(FormatError, match="not an ECDSA key on P-384"):
            node_keys.load_public(path)
    for text in ("", "ecdsa-sha2-nistp384 AAAA a\n", "\x00" * 9000):
        path.write_text(text)
        with pytest.raises(FormatError, match="not a public node key"):
            node_keys.load_public(path)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_a_key_under_a_passphrase_is_refused(tmp_path: Path) -> None:
    sealed = tmp_path / "sealed"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "word five", "-f", str(sealed)], check=True)
    with pytest.raises(FormatError, match="without a passphrase"):
        node_keys.load_private(sealed)


@pytest.mark.parametrize("name", ["", ".hidden", "-rf", "a/b", "a b", "all", "zürich", "a" * 65, "a\nb", "a$(b)"])
def test_names_that_could_name_no_site(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot name a site"):
        node_keys.check_name(name)


# -- the identity beside it --------------------------------------------------------------------------------------------


@pytest.fixture
def enrolled(tmp_path: Path) -> tuple[Path, node_keys.PublicKey]:
    both, text = node_keys.public_file(node_keys.generate(), SigningKey.generate(), "st-anna")
    path = tmp_path / "both.pub"
    path.write_text(text)
    return path, both


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_the_first_line_is_still_a_key_of_opensshs(enrolled: tuple[Path, node_keys.PublicKey], tmp_path: Path) -> None:
    path, both = enrolled
    assert node_keys.load_public(path) == both
    first = path.read_text().splitlines(keepends=True)[0]
    assert first == both.line()
    (tmp_path / "first.pub").write_text(first)
    words = ["ssh-keygen", "-lf", str(tmp_path / "first.pub")]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert node_keys.load_public(tmp_path / "first.pub").fingerprint == plain_fingerprint(shown.split()[1])


def test_one_fingerprint_covers_both_keys(enrolled: tuple[Path, node_keys.PublicKey]) -> None:
    _, both = enrolled
    others = [replace(both, identity=""), replace(both, identity=SigningKey.generate().public)]
    others.append(replace(both, encoded=node_keys.public_half(node_keys.generate(), "a").encoded))
    assert len({both.fingerprint, *(each.fingerprint for each in others)}) == 4


def test_two_keys_that_are_not_bound_to_each_other_are_refused(
    enrolled: tuple[Path, node_keys.PublicKey], tmp_path: Path
) -> None:
    path, _ = enrolled
    _, text = node_keys.public_file(node_keys.generate(), SigningKey.generate(), "st-anna")
    mine, others = path.read_text().splitlines(), text.splitlines()
    own, by_node = mine[1].split()[2:]
    word, identity = others[1].split()[:2]
    texts = {
        # Another site's identity beside the own node key, with any mixture of signatures.
        "lines of two files": f"{mine[0]}\n{others[1]}\n",
        "another identity": f"{mine[0]}\n{word} {identity} {own} {by_node}\n",
        "signed by the identity alone": f"{mine[0]}\n{word} {identity} {others[1].split()[2]} {by_node}\n",
        "another name": mine[0].replace("st-anna", "mercy") + f"\n{mine[1]}\n",
        "signatures changed about": f"{mine[0]}\n{word} {mine[1].split()[1]} {by_node} {own}\n",
    }
    for what, made in texts.items():
        path.write_text(made)
        with pytest.raises(FormatError, match="not of one site"):
            pytest.fail(f"{what}: {node_keys.load_public(path)}")
    odd = ["x", f"{mine[1]} more", f"{mine[1]}\n{mine[1]}", mine[1].replace("-v1", "-v2"), mine[1].replace(" ", "  A ")]
    for line in odd:
        path.write_text(f"{mine[0]}\n{line}\n")
        with pytest.raises(FormatError):
            node_keys.load_public(path)


@given(data=st.data())
def test_a_mutated_file_ends_in_our_own_error_or_is_the_same(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.pub"
    text = MADE[1].encode()
    kind, encoded, rest = text.split(b" ", 2)
    if data.draw(st.booleans(), "within the encoded key"):
        text = b" ".join([kind, base64.b64encode(_mutated(base64.b64decode(encoded), data)), rest])
    else:
        text = _mutated(text, data)
    path.write_bytes(text)
    try:
        found = node_keys.load_public(path)
    except (FormatError, ConfigError):
        return
    assert found == MADE[0] or not found.identity


def _mutated(whole: bytes, data: st.DataObject) -> bytes:
    cut = data.draw(st.integers(0, len(whole) - 1))
    return whole[:cut] + data.draw(st.binary(max_size=4)) + whole[cut + 1 :]


MADE = node_keys.public_file(node_keys.generate(), SigningKey.generate(), "st-anna")


def test_a_public_key_without_a_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pub"
    path.write_text(public_line(node_keys.generate().public_key(), "").rstrip() + "\n")
    with pytest.raises(ConfigError, match="cannot name a site"):
        node_keys.load_public(path)
