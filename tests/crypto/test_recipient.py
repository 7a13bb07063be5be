from __future__ import annotations

import copy
import hashlib
import json
import pickle
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from crypto import recipient
from crypto.documents import checksum, is_site, text_of
from crypto.recipient import (
    Recipient,
    RecipientKey,
    inspect_recipient,
    inspect_recipient_key,
    load_recipient,
    load_recipient_key,
    save_recipient,
)
from medveil.errors import FormatError, IntegrityError, KeyMaterialError, MedVeilError, StorageError

PASSPHRASE = "five words or more: café"

pytestmark = pytest.mark.usefixtures("cheap_scrypt")


@pytest.fixture
def key() -> RecipientKey:
    return RecipientKey.generate("county")


@pytest.fixture
def path(tmp_path: Path, key: RecipientKey) -> Path:
    save_recipient(tmp_path / "county", key, PASSPHRASE)
    return tmp_path / "county"


@pytest.fixture
def public(path: Path) -> Path:
    return path.with_name("county.pub")


def edit(path: Path, **fields: Any) -> None:
    """Change fields (None: remove), and remake the checksum where there is one."""
    document = json.loads(path.read_text()) | fields
    document = {name: value for name, value in document.items() if value is not None}
    if "checksum" in document:
        document["checksum"] = checksum(document)
    path.write_text(json.dumps(document))


def test_both_halves_come_back(path: Path, public: Path, key: RecipientKey) -> None:
    loaded = load_recipient_key(path, PASSPHRASE)
    assert loaded.private_key.private_bytes_raw() == key.private_key.private_bytes_raw()
    assert loaded.public == load_recipient(public) == key.public


def test_the_private_half_is_private_and_the_public_one_is_not(path: Path, public: Path, key: RecipientKey) -> None:
    secret = key.private_key.private_bytes_raw()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644
    for file in (path, public):
        assert secret.hex() not in file.read_text()
        assert text_of(secret) not in file.read_text()


def test_inspection_shows_what_is_open(path: Path, public: Path, key: RecipientKey) -> None:
    shown = inspect_recipient(public)
    assert shown == {
        "format": "medveil-recipient-public",
        "version": 1,
        "name": "county",
        "public_key": text_of(key.public.public_key),
        "fingerprint": key.public.fingerprint,
    }
    private = inspect_recipient_key(path)
    assert private["format"] == "medveil-recipient"
    assert {name: private[name] for name in ("name", "public_key", "fingerprint")} == {
        name: shown[name] for name in ("name", "public_key", "fingerprint")
    }
    assert set(private) == {"format", "version", "name", "public_key", "fingerprint", "created", "kdf"}


def framed(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data) // 256, len(data) % 256]) + data


@given(st.text(max_size=64).filter(is_site), st.binary(min_size=32, max_size=32))
def test_the_fingerprint_is_what_the_design_says(name: str, public_key: bytes) -> None:
    digested = b"".join(map(framed, ["medveil-recipient-fingerprint", "1", name, public_key.hex()]))
    assert Recipient(name, public_key).fingerprint == hashlib.sha256(digested).hexdigest()[:32]


def test_the_fingerprint_covers_the_name_and_the_key() -> None:
    prints = {Recipient(name, bytes([first]) + bytes(31)).fingerprint for name in ("a", "b") for first in (9, 10)}
    assert len(prints) == 4


def test_a_recipient_does_not_print_its_private_half(key: RecipientKey) -> None:
    assert key.public.fingerprint in repr(key)
    assert key.private_key.private_bytes_raw().hex() not in repr(key)


def test_a_recipient_is_neither_pickled_nor_copied(key: RecipientKey) -> None:
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(KeyMaterialError, match="cannot be pickled"):
            leave(key)


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "\u202ea", "x" * 65])
def test_a_name_that_could_not_be_a_site_is_refused(name: str) -> None:
    with pytest.raises(KeyMaterialError, match="cannot name a site"):
        RecipientKey.generate(name)


@pytest.mark.parametrize("taken", ["county", "county.pub"])
def test_neither_half_is_ever_replaced(tmp_path: Path, key: RecipientKey, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    with pytest.raises(StorageError, match="is there already"):
        save_recipient(tmp_path / "county", key, PASSPHRASE)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [(taken, "mine")]


def test_an_empty_passphrase_writes_nothing(tmp_path: Path, key: RecipientKey) -> None:
    with pytest.raises(KeyMaterialError, match="empty"):
        save_recipient(tmp_path / "county", key, "")
    assert list(tmp_path.iterdir()) == []


def test_files_of_version_1_stay_readable(fixtures: Path) -> None:
    key = load_recipient_key(fixtures / "county-version-1.recipient", PASSPHRASE)
    assert key.private_key.private_bytes_raw() == bytes(range(64, 96))
    assert load_recipient(fixtures / "county-version-1.recipient.pub") == key.public
    assert key.public.fingerprint == "f3f793b2d9c11fdf92445e036ab93663"


# --- each failure has its own words ----------------------------------------------------------------------------------

OTHER_KEY = text_of(X25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().public_bytes_raw())
SMALL_ORDER = [
    # The points of order 1, 2, 4 and 8 of Curve25519, little-endian, from RFC 7748 and https://cr.yp.to/ecdh.html.
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]

PUBLIC: list[tuple[Callable[[Path], object], type[MedVeilError], str]] = [
    (lambda path: path.unlink(), StorageError, "no such file"),
    (lambda path: path.write_bytes(b""), IntegrityError, "is empty"),
    (lambda path: path.write_bytes(path.read_bytes()[:-30]), IntegrityError, "is cut short or damaged"),
    (lambda path: path.write_bytes(b"\x89PNG" + bytes(100)), FormatError, "is not a medveil-recipient-public file"),
    (lambda path: edit(path, format="medveil-recipient"), FormatError, "is not a medveil-recipient-public file"),
    (lambda path: edit(path, version=2), FormatError, "version 2; this MedVeil reads up to 1"),
    (lambda path: edit(path, version=0), FormatError, "has no valid medveil-recipient-public version"),
    (lambda path: edit(path, version=True), FormatError, "has no valid medveil-recipient-public version"),
    (lambda path: edit(path, name="mercy"), IntegrityError, "its fingerprint does not fit"),
    (lambda path: edit(path, public_key=OTHER_KEY), IntegrityError, "its fingerprint does not fit"),
    (lambda path: edit(path, fingerprint="0" * 32), IntegrityError, "its fingerprint does not fit"),
    (lambda path: edit(path, fingerprint="F" * 32), IntegrityError, "has a header"),
    (lambda path: edit(path, fingerprint="sim-" + "0" * 32), IntegrityError, "has a header"),
    (lambda path: edit(path, name="\x1b[2J"), IntegrityError, "has a header"),
    (lambda path: edit(path, name=None), IntegrityError, "lacks fields"),
    (lambda path: edit(path, public_key=7), IntegrityError, "lacks fields"),
    (lambda path: edit(path, public_key="AAAA"), IntegrityError, "field 'public_key'"),
    (lambda path: edit(path, note="trust me"), IntegrityError, "has fields that no"),
]


@pytest.mark.parametrize(("spoil", "kind", "words"), PUBLIC)
def test_a_spoiled_public_half_is_refused_in_its_own_words(
    public: Path, spoil: Callable[[Path], object], kind: type[MedVeilError], words: str
) -> None:
    spoil(public)
    for read in (load_recipient, inspect_recipient):
        with pytest.raises(kind) as caught:
            read(public)
        assert type(caught.value) is kind
        assert words in str(caught.value)
        assert str(public) in str(caught.value)


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_public_key_that_would_open_for_anybody_is_refused(public: Path, point: str) -> None:
    bad = Recipient("county", bytes.fromhex(point))
    edit(public, public_key=text_of(bad.public_key), fingerprint=bad.fingerprint)
    with pytest.raises(KeyMaterialError, match="with which anybody could open what is shared"):
        load_recipient(public)


PRIVATE: list[tuple[Callable[[Path], object], type[MedVeilError], str]] = [
    (lambda path: path.write_bytes(b""), IntegrityError, "is empty"),
    (lambda path: path.write_bytes(path.read_bytes()[:-30]), IntegrityError, "is cut short or damaged"),
    (lambda path: path.write_text("{}"), FormatError, "is not a medveil-recipient file"),
    (lambda path: edit(path, format="medveil-key"), FormatError, "is not a medveil-recipient file"),
    (lambda path: edit(path, version=2), FormatError, "version 2; this MedVeil reads up to 1"),
    (lambda path: edit(path, name="mercy"), IntegrityError, "was edited after sealing"),
    (lambda path: edit(path, public_key=OTHER_KEY), IntegrityError, "was edited after sealing"),
    (lambda path: edit(path, fingerprint="0" * 32), IntegrityError, "was edited after sealing"),
    (lambda path: edit(path, created="2026-01-01T00:00:00Z"), IntegrityError, "was edited after sealing"),
    (lambda path: edit(path, note="trust me"), IntegrityError, "was edited after sealing"),
    (lambda path: edit(path, nonce=text_of(bytes(12))), IntegrityError, "was edited after sealing"),
    (lambda path: edit(path, ciphertext=text_of(bytes(48))), IntegrityError, "was edited after sealing"),
    (lambda path: edit(path, check=text_of(bytes(16))), KeyMaterialError, "wrong passphrase"),
    (lambda path: edit(path, public_key="AAAA"), IntegrityError, "field 'public_key'"),
    (lambda path: edit(path, created="today"), IntegrityError, "has a header"),
    (lambda path: edit(path, kdf=None), IntegrityError, "lacks fields"),
]


@pytest.mark.parametrize(("spoil", "kind", "words"), PRIVATE)
def test_a_spoiled_private_half_is_refused_in_its_own_words(
    path: Path, spoil: Callable[[Path], object], kind: type[MedVeilError], words: str
) -> None:
    spoil(path)
    with pytest.raises(kind) as caught:
        load_recipient_key(path, PASSPHRASE)
    assert type(caught.value) is kind
    assert words in str(caught.value)


def test_a_changed_byte_without_a_new_checksum_is_damage(path: Path) -> None:
    path.write_text(path.read_text().replace('"county"', '"counts"'))
    with pytest.raises(IntegrityError, match="its checksum does not fit"):
        load_recipient_key(path, PASSPHRASE)


def test_a_wrong_passphrase_is_called_that(path: Path) -> None:
    with pytest.raises(KeyMaterialError, match="wrong passphrase"):
        load_recipient_key(path, PASSPHRASE + "x")


def test_a_header_that_names_another_public_key_is_refused(
    tmp_path: Path, key: RecipientKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = RecipientKey.generate("county").public
    shown = recipient._shown
    monkeypatch.setattr(recipient, "_shown", lambda _: shown(other))
    save_recipient(tmp_path / "odd", key, PASSPHRASE)
    monkeypatch.undo()
    with pytest.raises(IntegrityError, match="names another public key"):
        load_recipient_key(tmp_path / "odd", PASSPHRASE)


def test_a_key_file_is_no_recipient(fixtures: Path) -> None:
    for read in (inspect_recipient, inspect_recipient_key):
        with pytest.raises(FormatError, match="is not a medveil-recipient"):
            read(fixtures / "mercy-version-2.key")
