from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crypto import documents, sealed_file
from crypto.keyfile import inspect_key, load_key, load_keyring, save_key, save_keyring
from crypto.keyring import KeyDates, Keyring
from crypto.keys import Key, SimulatedKey, SiteKey
from medveil.errors import FormatError, IntegrityError, KeyMaterialError, MedVeilError, StorageError

FULL_N = sealed_file.SCRYPT_N
PASSPHRASE = "five words or more: café"
DATES = KeyDates(created="2026-01-02T03:04:05Z", retired="2026-06-07T08:09:10Z")

pytestmark = pytest.mark.usefixtures("cheap_scrypt")


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
    monkeypatch.setattr(sealed_file, "SCRYPT_N", FULL_N)
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
    assert (seen["format"], seen["version"], seen["site"]) == ("medveil-key", 2, "mercy")
    assert seen["fingerprint"] == key.fingerprint
    assert seen["retired"] == []
    assert set(seen) == {"format", "version", "site", "fingerprint", "created", "retired", "kdf"}


def test_a_whole_ring_comes_back_with_its_dates(tmp_path: Path) -> None:
    keys = [SiteKey.generate("mercy") for _ in range(3)]
    ring = Keyring(keys[0], tuple(keys[1:]), {keys[1].fingerprint: DATES})
    save_keyring(tmp_path / "ring.key", ring, PASSPHRASE)
    loaded = load_keyring(tmp_path / "ring.key", PASSPHRASE)
    assert [key.secret for key in loaded] == [key.secret for key in keys]
    assert [loaded.dates_of(key) for key in loaded] == [KeyDates(), DATES, KeyDates()]
    assert load_key(tmp_path / "ring.key", PASSPHRASE).secret == keys[0].secret
    assert inspect_key(tmp_path / "ring.key")["retired"] == [key.fingerprint for key in keys[1:]]


def test_a_key_is_dated_when_it_is_saved(path: Path) -> None:
    ring = load_keyring(path, PASSPHRASE)
    assert documents.is_date(inspect_key(path)["created"])
    assert ring.dates_of(ring.current) == KeyDates(created=inspect_key(path)["created"])


def test_no_secret_of_a_ring_is_in_the_clear(tmp_path: Path) -> None:
    keys = [SiteKey.generate("mercy") for _ in range(3)]
    save_keyring(tmp_path / "ring.key", Keyring(keys[0], tuple(keys[1:])), PASSPHRASE)
    text = (tmp_path / "ring.key").read_text()
    for key in keys:
        assert key.secret.hex() not in text
        assert documents.text_of(key.secret) not in text


def test_a_key_that_is_there_is_never_replaced(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(StorageError, match="is there already"):
        save_key(path, SiteKey.generate("other"), PASSPHRASE)
    assert path.read_bytes() == before


def test_a_failed_write_leaves_nothing(tmp_path: Path, key: SiteKey, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("cannot write the file: no space left on device")

    monkeypatch.setattr(documents, "write_json", full)
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


@pytest.mark.parametrize("place", ["current", "retired"])
def test_a_ring_with_a_simulated_key_is_not_saved(tmp_path: Path, key: SiteKey, place: str) -> None:
    simulated: Any = SimulatedKey(1, "mercy")
    ring = Keyring(simulated) if place == "current" else Keyring(key, (simulated,))
    with pytest.raises(KeyMaterialError, match="a SimulatedKey cannot be saved"):
        save_keyring(tmp_path / "new.key", ring, PASSPHRASE)
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
    edit(path, lambda document: document.update(version=3), remake_checksum=True)


def older_with_care(path: Path) -> None:
    edit(path, lambda document: document.update(version=1), remake_checksum=True)


def a_key_hidden_with_care(path: Path) -> None:
    edit(path, lambda document: document.update(retired=["0" * 32]), remake_checksum=True)


def without_retired(path: Path) -> None:
    edit(path, lambda document: document.pop("retired"), remake_checksum=True)


def retired_as_text(path: Path) -> None:
    edit(path, lambda document: document.update(retired="0" * 32), remake_checksum=True)


def retired_speaks(path: Path) -> None:
    edit(path, lambda document: document.update(retired=["\x1b[2J"]), remake_checksum=True)


def odd_date(path: Path) -> None:
    edit(path, lambda document: document.update(created="yesterday"), remake_checksum=True)


def simulated_fingerprint(path: Path) -> None:
    edit(path, lambda document: document.update(fingerprint="sim-" + "0" * 32), remake_checksum=True)


def loose_base64(path: Path) -> None:
    # The same bytes by another text: the last letter has four bits that no byte uses.
    edit(path, lambda document: document.update(check=document["check"][:-3] + "B=="), remake_checksum=True)


def list_as_kdf(path: Path) -> None:
    edit(path, lambda document: document.update(kdf=[]), remake_checksum=True)


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
    (newer, FormatError, "is medveil-key version 3; this MedVeil reads up to 2"),
    (renamed, IntegrityError, "its checksum does not fit"),
    (salt_changed, IntegrityError, "its checksum does not fit"),
    (renamed_with_care, IntegrityError, "was edited after sealing"),
    (field_added_with_care, IntegrityError, "was edited after sealing"),
    (older_with_care, IntegrityError, "was edited after sealing"),
    (a_key_hidden_with_care, IntegrityError, "was edited after sealing"),
    (without_retired, IntegrityError, "lacks fields of a medveil-key file"),
    (retired_as_text, IntegrityError, "lacks fields"),
    (list_as_kdf, IntegrityError, "lacks fields"),
    (retired_speaks, IntegrityError, "has a header that no medveil-key file has"),
    (odd_date, IntegrityError, "has a header that no medveil-key file has"),
    (simulated_fingerprint, IntegrityError, "has a header that no medveil-key file has"),
    (loose_base64, IntegrityError, "field 'check'"),
    (without_nonce, IntegrityError, "lacks fields"),
    (text_cost, IntegrityError, "lacks fields"),
    (short_nonce, IntegrityError, "field 'nonce'"),
    (bad_base64, IntegrityError, "field 'ciphertext'"),
    (speaks_to_the_terminal, IntegrityError, "has a header that no medveil-key file has"),
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


def test_a_key_file_needs_memory_and_says_how_much(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Scrypt:
        def __init__(self, **_: object) -> None:
            raise MemoryError

    monkeypatch.setattr(sealed_file, "Scrypt", Scrypt)
    edit(path, lambda document: document["kdf"].update(n=2**20), remake_checksum=True)
    with pytest.raises(StorageError, match="takes 1024 MiB of memory to open"):
        load_key(path, PASSPHRASE)


def test_a_device_does_not_fill_the_memory() -> None:
    with pytest.raises(FormatError, match="is not a medveil-key file"):
        load_key("/dev/zero", PASSPHRASE)


# --- files that earlier code wrote -----------------------------------------------------------------------------------


def test_a_file_of_version_1_stays_readable(fixtures: Path) -> None:
    # Written by the first release, at the full cost.
    ring = load_keyring(fixtures / "mercy-version-1.key", PASSPHRASE)
    assert (ring.current.site, ring.current.secret, ring.retired) == ("mercy", bytes(range(32)), ())
    assert ring.dates_of(ring.current) == KeyDates(created="2026-11-24T10:53:27Z")
    seen = inspect_key(fixtures / "mercy-version-1.key")
    assert (seen["version"], seen["fingerprint"], seen["retired"]) == (1, ring.current.fingerprint, [])


def test_a_file_of_version_1_has_the_old_failures_too(fixtures: Path, tmp_path: Path) -> None:
    text = (fixtures / "mercy-version-1.key").read_text()
    old = tmp_path / "old.key"
    old.write_text(text)
    with pytest.raises(KeyMaterialError, match="wrong passphrase"):
        load_keyring(old, PASSPHRASE + "x")
    edit(old, lambda document: document.update(site="county"), remake_checksum=True)
    with pytest.raises(IntegrityError, match="was edited after sealing"):
        load_keyring(old, PASSPHRASE)


@pytest.mark.parametrize("retired", ["\x1b[2J", ["\x1b[2J"], ["0" * 32]])
def test_a_field_of_version_2_in_a_file_of_version_1_is_not_shown(
    fixtures: Path, tmp_path: Path, retired: object
) -> None:
    old = tmp_path / "old.key"
    old.write_text((fixtures / "mercy-version-1.key").read_text())
    edit(old, lambda document: document.update(retired=retired), remake_checksum=True)
    assert inspect_key(old)["retired"] == []
    with pytest.raises(IntegrityError, match="was edited after sealing"):
        load_keyring(old, PASSPHRASE)


def test_a_file_of_version_2_stays_readable(fixtures: Path) -> None:
    ring = load_keyring(fixtures / "mercy-version-2.key", PASSPHRASE)
    assert [key.secret for key in ring] == [bytes(range(32, 64)), bytes(range(32))]
    assert ring.dates_of(ring.retired[0]) == DATES
