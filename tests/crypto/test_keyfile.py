from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crypto import keyfile
from crypto.keyfile import inspect_key, load_key, save_key
from crypto.keys import Key, SimulatedKey, SiteKey
from medveil.errors import FormatError, IntegrityError, KeyMaterialError, MedVeilError, StorageError

FULL_N = keyfile.SCRYPT_N
PASSPHRASE = "five words or more: café"


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "SCRYPT_N", 2**4)


@pytest.fixture
def key() -> SiteKey:
    return SiteKey.generate("mercy")


@pytest.fixture
def path(tmp_path: Path, key: SiteKey) -> Path:
    save_key(tmp_path / "mercy.key", key, PASSPHRASE)
    return tmp_path / "mercy.key"


def edit(path: Path, change: Callable[[dict[str, Any]], None], *, remake_checksum: bool) -> None:
    document = json.loads(path.read_text())
    change(document)
    if remake_checksum:
        rest = {name: value for name, value in document.items() if name != "checksum"}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
        document["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(document))


def test_a_key_comes_back_the_same(path: Path, key: SiteKey) -> None:
    loaded = load_key(path, PASSPHRASE)
    assert (loaded.site, loaded.fingerprint, loaded.secret) == (key.site, key.fingerprint, key.secret)


def test_a_key_is_sealed_at_the_promised_cost(tmp_path: Path, key: SiteKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "SCRYPT_N", FULL_N)
    save_key(tmp_path / "full.key", key, PASSPHRASE)
    assert inspect_key(tmp_path / "full.key")["kdf"] == {"name": "scrypt", "n": 2**17, "r": 8, "p": 1}
    assert load_key(tmp_path / "full.key", PASSPHRASE).secret == key.secret


def test_a_passphrase_counts_by_its_letters_not_by_how_accents_are_composed(path: Path, key: SiteKey) -> None:
    assert load_key(path, PASSPHRASE.replace("é", "e\u0301")).secret == key.secret


def test_the_file_is_private_and_holds_no_secret(path: Path, key: SiteKey) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key.secret.hex() not in path.read_text()
    assert sorted(os.listdir(path.parent)) == ["mercy.key"]


def test_two_seals_of_a_key_share_nothing(tmp_path: Path, key: SiteKey) -> None:
    documents = []
    for name in ("a", "b"):
        save_key(tmp_path / name, key, PASSPHRASE)
        documents.append(json.loads((tmp_path / name).read_text()))
    first, second = documents
    assert first["kdf"]["salt"] != second["kdf"]["salt"]
    for name in ("nonce", "check", "ciphertext"):
        assert first[name] != second[name]


def test_inspection_needs_no_passphrase(path: Path, key: SiteKey) -> None:
    seen = inspect_key(path)
    assert (seen["format"], seen["version"], seen["site"]) == ("medveil-key", 1, "mercy")
    assert seen["fingerprint"] == key.fingerprint
    assert set(seen) == {"format", "version", "site", "fingerprint", "created", "kdf"}


def test_a_key_that_is_there_is_never_replaced(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(StorageError, match="is there already"):
        save_key(path, SiteKey.generate("other"), PASSPHRASE)
    assert path.read_bytes() == before


def test_a_failed_write_leaves_nothing(tmp_path: Path, key: SiteKey, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("cannot write the file: no space left on device")

    monkeypatch.setattr(keyfile, "write_json", full)
    with pytest.raises(StorageError, match="no space left"):
        save_key(tmp_path / "new.key", key, PASSPHRASE)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, key: SiteKey) -> None:
    with pytest.raises(StorageError, match="its folder does not exist"):
        save_key(tmp_path / "no" / "new.key", key, PASSPHRASE)


@pytest.mark.parametrize("simulated", [SimulatedKey(1, "site-1"), Key(bytes(32), "site-1")])
def test_only_a_site_key_is_saved(tmp_path: Path, simulated: Key) -> None:
    with pytest.raises(KeyMaterialError, match="cannot be saved"):
        save_key(tmp_path / "new.key", simulated, PASSPHRASE)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_passphrase_is_refused_both_ways(tmp_path: Path, path: Path, key: SiteKey) -> None:
    with pytest.raises(KeyMaterialError, match="empty"):
        save_key(tmp_path / "new.key", key, "")
    with pytest.raises(KeyMaterialError, match="empty"):
        load_key(path, "")


# --- each failure has its own words ----------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def foreign(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))


def other_json(path: Path) -> None:
    path.write_text('{"name": "package", "version": "1.0"}')


def json_list(path: Path) -> None:
    path.write_text("[1, 2]")


def huge(path: Path) -> None:
    path.write_text('{"format": "medveil-key", "padding": "' + "x" * 2**17 + '"}')


def nested(path: Path) -> None:
    path.write_text("[" * 50_000)


def newer(path: Path) -> None:
    edit(path, lambda document: document.update(version=2), remake_checksum=True)


def renamed(path: Path) -> None:
    edit(path, lambda document: document.update(site="county"), remake_checksum=False)


def renamed_with_care(path: Path) -> None:
    edit(path, lambda document: document.update(site="county"), remake_checksum=True)


def field_added_with_care(path: Path) -> None:
    edit(path, lambda document: document.update(note="trust me"), remake_checksum=True)


def salt_changed(path: Path) -> None:
    edit(path, lambda document: document["kdf"].update(salt="AAAAAAAAAAAAAAAAAAAAAA=="), remake_checksum=False)


def without_nonce(path: Path) -> None:
    edit(path, lambda document: document.pop("nonce"), remake_checksum=True)


def short_nonce(path: Path) -> None:
    edit(path, lambda document: document.update(nonce="AAAA"), remake_checksum=True)


def speaks_to_the_terminal(path: Path) -> None:
    edit(path, lambda document: document.update(site="\x1b[2Jcounty"), remake_checksum=True)


def bad_base64(path: Path) -> None:
    edit(path, lambda document: document.update(ciphertext="%%%"), remake_checksum=True)


def other_kdf(path: Path) -> None:
    edit(path, lambda document: document["kdf"].update(name="argon2id"), remake_checksum=True)


def costly(path: Path) -> None:
    edit(path, lambda document: document["kdf"].update(n=2**21), remake_checksum=True)


def odd_cost(path: Path) -> None:
    edit(path, lambda document: document["kdf"].update(n=1000), remake_checksum=True)


def huge_r(path: Path) -> None:
    edit(path, lambda document: document["kdf"].update(r=2**20), remake_checksum=True)


def huge_p(path: Path) -> None:
    edit(path, lambda document: document["kdf"].update(p=10**6), remake_checksum=True)


def text_cost(path: Path) -> None:
    edit(path, lambda document: document["kdf"].update(n="131072"), remake_checksum=True)


FAILURES: list[tuple[Callable[[Path], object], type[MedVeilError], str]] = [
    (lambda path: path.unlink(), StorageError, "no such file"),
    (lambda path: path.write_bytes(b""), IntegrityError, "is empty"),
    (cut, IntegrityError, "is cut short or damaged"),
    (foreign, FormatError, "is not a medveil-key file"),
    (other_json, FormatError, "is not a medveil-key file"),
    (json_list, FormatError, "is not a medveil-key file"),
    (huge, FormatError, "is not a medveil-key file"),
    (nested, FormatError, "is not a medveil-key file"),
    (newer, FormatError, "is medveil-key version 2; this MedVeil reads up to 1"),
    (renamed, IntegrityError, "its checksum does not fit"),
    (salt_changed, IntegrityError, "its checksum does not fit"),
    (renamed_with_care, IntegrityError, "was edited after sealing"),
    (field_added_with_care, IntegrityError, "was edited after sealing"),
    (without_nonce, IntegrityError, "lacks fields"),
    (text_cost, IntegrityError, "lacks fields"),
    (short_nonce, IntegrityError, "field 'nonce'"),
    (bad_base64, IntegrityError, "field 'ciphertext'"),
    (speaks_to_the_terminal, IntegrityError, "has a header that no key file has"),
    (other_kdf, FormatError, "sealed with 'argon2id'"),
    (costly, FormatError, "asks for scrypt with n=2097152"),
    (odd_cost, FormatError, "asks for scrypt with n=1000"),
    (huge_r, FormatError, "asks for scrypt with"),
    (huge_p, FormatError, "asks for scrypt with"),
]


@pytest.mark.parametrize(("spoil", "kind", "words"), FAILURES)
def test_a_spoiled_file_is_refused_in_its_own_words(
    path: Path, spoil: Callable[[Path], object], kind: type[MedVeilError], words: str
) -> None:
    spoil(path)
    with pytest.raises(kind) as caught:
        load_key(path, PASSPHRASE)
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_wrong_passphrase_is_called_that(path: Path) -> None:
    with pytest.raises(KeyMaterialError, match="wrong passphrase") as caught:
        load_key(path, PASSPHRASE + "x")
    assert PASSPHRASE not in str(caught.value)


def test_every_cut_of_a_file_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(len(whole) - 2):
        path.write_bytes(whole[:length])
        with pytest.raises((IntegrityError, FormatError)):
            inspect_key(path)


def test_a_key_under_another_fingerprint_is_refused(tmp_path: Path, key: SiteKey) -> None:
    key.fingerprint = "0" * 32
    save_key(tmp_path / "odd.key", key, PASSPHRASE)
    with pytest.raises(IntegrityError, match="names another fingerprint"):
        load_key(tmp_path / "odd.key", PASSPHRASE)


def test_a_file_of_version_1_stays_readable(tmp_path: Path) -> None:
    # Written by the first release; a later one must go on reading it.
    (tmp_path / "v1.key").write_text(VERSION_1)
    loaded = load_key(tmp_path / "v1.key", PASSPHRASE)
    assert (loaded.site, loaded.secret) == ("mercy", bytes(range(32)))


VERSION_1 = """\
{
  "format": "medveil-key",
  "version": 1,
  "site": "mercy",
  "fingerprint": "4afe90568c169867276000a58b0307d2",
  "created": "2026-11-23T23:34:10Z",
  "kdf": {
    "name": "scrypt",
    "n": 16,
    "r": 8,
    "p": 1,
    "salt": "DxH/iEgcAQov6Y9QIebiTg=="
  },
  "nonce": "cdYb/7jaodS5J1v9",
  "check": "8Br8a+AEXVvu7YEOUIPm2w==",
  "ciphertext": "TKH8sxH1PcPDgbOHu/T4z2LOEUd5EE6mdlcP8HgmTThanoHsqZeaqFI7YV7+gUPj",
  "checksum": "130c132af181de0dfcc1ef512cf071209c17b635c811950385b7c05ed976f103"
}
"""
