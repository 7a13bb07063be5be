from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crypto.documents import bytes_of, checksum, text_of
from crypto.keyring import KeyDates, Keyring
from crypto.keys import SimulatedKey, SiteKey
from crypto.recipient import RecipientKey, load_recipient_key
from crypto.sharing import inspect_shared, open_shared, share_keyring
from medveil.errors import FormatError, IntegrityError, KeyMaterialError, MedVeilError, StorageError

WHEN = "2026-11-24T10:53:27Z"


@pytest.fixture
def ring() -> Keyring:
    return Keyring(SiteKey.generate("consortium")).rotated(WHEN).rotated(WHEN)


@pytest.fixture
def county() -> RecipientKey:
    return RecipientKey.generate("county")


@pytest.fixture
def path(tmp_path: Path, ring: Keyring, county: RecipientKey) -> Path:
    share_keyring(tmp_path / "county.shared", ring, county.public, county.public.fingerprint, with_retired=True)
    return tmp_path / "county.shared"


def edit(path: Path, **fields: Any) -> None:
    """Change fields (None: remove), and remake the checksum."""
    document = json.loads(path.read_text()) | fields
    document = {name: value for name, value in document.items() if value is not None}
    document["checksum"] = checksum(document)
    path.write_text(json.dumps(document))


def test_all_keys_come_back_under_the_recipients_name(path: Path, ring: Keyring, county: RecipientKey) -> None:
    opened = open_shared(path, county, ring.current.fingerprint)
    assert [key.secret for key in opened] == [key.secret for key in ring]
    assert [opened.dates_of(key) for key in opened] == [ring.dates_of(key) for key in ring]
    assert {key.site for key in opened} == {"county"}


def test_another_site_can_be_named(path: Path, ring: Keyring, county: RecipientKey) -> None:
    opened = open_shared(path, county, ring.current.fingerprint, site="County Hospital, research")
    assert {key.site for key in opened} == {"County Hospital, research"}


def test_without_being_asked_only_the_current_key_is_shared(
    tmp_path: Path, ring: Keyring, county: RecipientKey
) -> None:
    share_keyring(tmp_path / "one", ring, county.public, county.public.fingerprint)
    opened = open_shared(tmp_path / "one", county, ring.current.fingerprint)
    assert [key.secret for key in opened] == [ring.current.secret]
    assert inspect_shared(tmp_path / "one")["retired"] == []


def test_inspection_says_for_whom_and_which_keys(path: Path, ring: Keyring, county: RecipientKey) -> None:
    seen = inspect_shared(path)
    assert seen.pop("shared")
    assert seen == {
        "format": "medveil-shared-key",
        "version": 1,
        "name": "county",
        "recipient": county.public.fingerprint,
        "fingerprint": ring.current.fingerprint,
        "retired": [key.fingerprint for key in ring.retired],
    }


def test_no_secret_is_in_the_clear_and_no_two_wraps_are_alike(
    tmp_path: Path, path: Path, ring: Keyring, county: RecipientKey
) -> None:
    share_keyring(tmp_path / "again", ring, county.public, county.public.fingerprint, with_retired=True)
    texts = [path.read_text(), (tmp_path / "again").read_text()]
    assert len({json.loads(text)["wrapped"][:40] for text in texts}) == 2
    for text in texts:
        wrapped = bytes_of(json.loads(text), "wrapped", None, where=path)
        for key in ring:
            assert key.secret.hex() not in text
            assert text_of(key.secret) not in text
            assert key.secret not in wrapped
            assert text_of(key.secret).encode() not in wrapped
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_shared_key_that_is_there_is_never_replaced(path: Path, ring: Keyring, county: RecipientKey) -> None:
    before = path.read_bytes()
    with pytest.raises(StorageError, match="is there already"):
        share_keyring(path, ring, county.public, county.public.fingerprint)
    assert path.read_bytes() == before


def test_a_recipient_who_was_not_confirmed_gets_nothing(tmp_path: Path, ring: Keyring, county: RecipientKey) -> None:
    mallory = RecipientKey.generate("county")
    for expected in (county.public.fingerprint, "", mallory.public.fingerprint[:8]):
        with pytest.raises(KeyMaterialError, match="somebody may have put another recipient"):
            share_keyring(tmp_path / "new", ring, mallory.public, expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["current", "retired"])
def test_a_simulated_key_is_not_shared(tmp_path: Path, ring: Keyring, county: RecipientKey, place: str) -> None:
    simulated: Any = SimulatedKey(1, "mercy")
    bad = Keyring(simulated) if place == "current" else Keyring(ring.current, (simulated,))
    with pytest.raises(KeyMaterialError, match="a SimulatedKey cannot be shared"):
        share_keyring(tmp_path / "new", bad, county.public, county.public.fingerprint)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_version_1_stays_readable(fixtures: Path) -> None:
    key = load_recipient_key(fixtures / "county-version-1.recipient", "five words or more: café")
    ring = open_shared(fixtures / "county-version-1.shared", key, "38a85691da0d0d80bc619b73413a406d")
    assert [each.secret for each in ring] == [bytes(range(32, 64)), bytes(range(32))]
    assert ring.dates_of(ring.retired[0]) == KeyDates("2026-01-02T03:04:05Z", "2026-06-07T08:09:10Z")


# --- each failure has its own words ----------------------------------------------------------------------------------


def test_another_key_than_expected_is_refused(path: Path, county: RecipientKey) -> None:
    with pytest.raises(KeyMaterialError, match="not 00000000000000000000000000000000"):
        open_shared(path, county, "0" * 32)


def test_anybody_may_wrap_a_key_to_a_recipient_and_the_expected_fingerprint_tells(
    tmp_path: Path, ring: Keyring, county: RecipientKey
) -> None:
    forged = Keyring(SiteKey.generate("consortium"))
    share_keyring(tmp_path / "forged", forged, county.public, county.public.fingerprint)
    with pytest.raises(KeyMaterialError, match="somebody may have put another in its place"):
        open_shared(tmp_path / "forged", county, ring.current.fingerprint)


def test_another_recipient_is_refused(path: Path, ring: Keyring) -> None:
    with pytest.raises(KeyMaterialError, match="was shared with county"):
        open_shared(path, RecipientKey.generate("county"), ring.current.fingerprint)


def flipped(path: Path, position: int) -> None:
    wrapped = bytearray(bytes_of(json.loads(path.read_text()), "wrapped", None, where=path))
    wrapped[position] ^= 1
    edit(path, wrapped=text_of(bytes(wrapped)))


SPOILED: list[tuple[Callable[[Path], object], type[MedVeilError], str]] = [
    (lambda path: path.unlink(), StorageError, "no such file"),
    (lambda path: path.write_bytes(b""), IntegrityError, "is empty"),
    (lambda path: path.write_bytes(path.read_bytes()[:-30]), IntegrityError, "is cut short or damaged"),
    (lambda path: path.write_bytes(b"\x89PNG" + bytes(100)), FormatError, "is not a medveil-shared-key file"),
    (lambda path: edit(path, format="medveil-key"), FormatError, "is not a medveil-shared-key file"),
    (lambda path: edit(path, version=2), FormatError, "version 2; this MedVeil reads up to 1"),
    (lambda path: edit(path, version=1.0), FormatError, "has no valid medveil-shared-key version"),
    (lambda path: path.write_text(path.read_text().replace("county", "counts")), IntegrityError, "checksum does not"),
    (lambda path: edit(path, name="mercy"), IntegrityError, "was edited after it was shared"),
    (lambda path: edit(path, shared=WHEN), IntegrityError, "was edited after it was shared"),
    (lambda path: edit(path, retired=[]), IntegrityError, "was edited after it was shared"),
    (lambda path: edit(path, retired=["0" * 32]), IntegrityError, "was edited after it was shared"),
    (lambda path: edit(path, recipient="0" * 32), KeyMaterialError, "was shared with county"),
    (lambda path: edit(path, fingerprint="0" * 32), KeyMaterialError, "holds the key 0000"),
    (lambda path: flipped(path, 0), IntegrityError, "was edited after it was shared"),
    (lambda path: flipped(path, 32), IntegrityError, "was edited after it was shared"),
    (lambda path: flipped(path, -1), IntegrityError, "was edited after it was shared"),
    (lambda path: edit(path, wrapped=text_of(bytes(32))), IntegrityError, "was edited after it was shared"),
    (lambda path: edit(path, wrapped=text_of(bytes(200))), IntegrityError, "was edited after it was shared"),
    (lambda path: edit(path, wrapped="AAAA"), IntegrityError, "was edited after it was shared"),
    (lambda path: edit(path, wrapped="%%"), IntegrityError, "field 'wrapped'"),
    (lambda path: edit(path, note="trust me"), IntegrityError, "has fields that no medveil-shared-key file has"),
    (lambda path: edit(path, name="\x1b[2J"), IntegrityError, "has a header"),
    (lambda path: edit(path, recipient="sim-" + "0" * 32), IntegrityError, "has a header"),
    (lambda path: edit(path, shared="today"), IntegrityError, "has a header"),
    (lambda path: edit(path, retired=[7]), IntegrityError, "has a header"),
    (lambda path: edit(path, retired="none"), IntegrityError, "lacks fields"),
    (lambda path: edit(path, wrapped=None), IntegrityError, "lacks fields"),
]


@pytest.mark.parametrize(("spoil", "kind", "words"), SPOILED)
def test_a_spoiled_file_is_refused_in_its_own_words(
    *,
    path: Path,
    ring: Keyring,
    county: RecipientKey,
    spoil: Callable[[Path], object],
    kind: type[MedVeilError],
    words: str,
) -> None:
    spoil(path)
    with pytest.raises(kind) as caught:
        open_shared(path, county, ring.current.fingerprint)
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
