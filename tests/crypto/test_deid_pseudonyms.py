"""Pseudonyms and UIDs: a slow reading of their formula, their properties, and that processes agree."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import subprocess
import sys
import unicodedata
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from pydicom.valuerep import STR_VR_REGEXES, VR, validate_value

from crypto.deid.pseudonyms import Pseudonyms, new_uid, pseudonym
from crypto.keys import SiteKey

KEY = SiteKey(bytes(range(32)), "north")
OTHER = SiteKey(bytes(32), "south")
TEXTS = st.text(min_size=1).filter(lambda text: text.strip(" \0\t\r\n"))


def by_hand(key: SiteKey, label: bytes, original: str) -> bytes:
    return hmac.new(key.subkey("deid"), label + b"\0" + original.encode(), hashlib.sha256).digest()


def test_a_uid_is_the_hmac_as_a_uuid() -> None:
    data = bytearray(by_hand(KEY, b"uid", "1.2.840.113619.2.1.2"))
    digits = data[:16].hex()
    digits = f"{digits[:12]}8{digits[13:16]}{(int(digits[16], 16) & 3) + 8:x}{digits[17:]}"
    assert new_uid(KEY, "1.2.840.113619.2.1.2") == f"2.25.{int(digits, 16)}"


def test_a_pseudonym_is_the_hmac_in_base_32() -> None:
    expected = base64.b32encode(by_hand(KEY, b"PatientID", "0815"))[:16].decode()
    assert pseudonym(KEY, "PatientID", "0815") == expected
    assert (
        pseudonym(KEY, "PatientName", "Doe^Jane")
        == "ANON^" + base64.b32encode(by_hand(KEY, b"PatientName", "doe^jane"))[:16].decode()
    )


@given(uid=st.from_regex(r"[0-2](\.(0|[1-9][0-9]{0,9})){1,6}", fullmatch=True))
def test_uids_are_valid_and_of_one_key_alone(uid: str) -> None:
    other = new_uid(KEY, uid)
    assert UID(other).is_valid and len(other) <= 64
    as_uuid = UUID(int=int(other.removeprefix("2.25.")))
    assert as_uuid.version == 8 and as_uuid.variant == RFC_4122
    assert other == new_uid(KEY, f"{uid}\0") == new_uid(KEY, f" {uid} ")
    assert other != new_uid(OTHER, uid)


@pytest.mark.parametrize(
    "uid",
    ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.4.1.1", "1.2.840.10008.2.6.1", ""],
)
def test_registered_uids_stay(uid: str) -> None:
    """A SOP class, a transfer syntax, a well-known frame of reference, a coding scheme."""
    assert new_uid(KEY, uid) == uid


def test_an_instance_uid_under_the_standards_root_does_not_stay() -> None:
    assert new_uid(KEY, "1.2.840.10008.5.1.4.1.1.2.4711.1").startswith("2.25.")


@pytest.mark.parametrize("what", ["PatientName", "PatientID", "AccessionNumber", "StationAETitle", "Modality"])
@given(value=TEXTS)
def test_pseudonyms_are_valid_for_their_vr(what: str, value: str) -> None:
    vr = {"PatientName": "PN", "PatientID": "LO", "AccessionNumber": "SH", "StationAETitle": "AE", "Modality": "CS"}
    made = pseudonym(KEY, what, value)
    ok, problem = validate_value_of(vr[what], made)
    assert ok, problem
    assert re.fullmatch(r"(ANON\^)?[A-Z2-7]{16}|", made)
    assert len(made) <= 16 or what == "PatientName"


def validate_value_of(vr: str, value: str) -> tuple[bool, str]:
    try:
        validate_value(vr, value, 2)
    except ValueError as error:
        return False, str(error)
    return vr not in STR_VR_REGEXES or bool(STR_VR_REGEXES[VR(vr)].match(value)), vr


@given(value=TEXTS)
def test_keys_and_attributes_are_domains_of_their_own(value: str) -> None:
    made = {pseudonym(KEY, "PatientID", value), pseudonym(OTHER, "PatientID", value), pseudonym(KEY, "StudyID", value)}
    assert len(made) == 3
    assert value not in made


@given(first=TEXTS, second=TEXTS)
def test_different_identifiers_differ(first: str, second: str) -> None:
    same = unicodedata.normalize("NFC", first.strip(" \0\t\r\n")) == unicodedata.normalize(
        "NFC", second.strip(" \0\t\r\n")
    )
    assert (pseudonym(KEY, "PatientID", first) == pseudonym(KEY, "PatientID", second)) is same


def test_no_two_of_many_collide() -> None:
    pseudonyms = Pseudonyms(KEY)
    assert len({pseudonyms.of("PatientID", str(n)) for n in range(50_000)}) == 50_000
    assert len({pseudonyms.uid(f"1.2.3.{n}") for n in range(50_000)}) == 50_000


@pytest.mark.parametrize(
    "spelling",
    ["Doe^Jane", "DOE^JANE", " doe ^ jane ", "Doe^Jane^^^", "Doe^Jane=ドゥ^ジェーン", "Ｄｏｅ^Jane", "Doe^Jane\0"],
)
def test_spellings_of_a_name_that_count_as_one(spelling: str) -> None:
    assert pseudonym(KEY, "PatientName", spelling) == pseudonym(KEY, "PatientName", "Doe^Jane")


@pytest.mark.parametrize("other", ["Jane^Doe", "Doe", "Doe^Jane^A", "DoeJane", "^Doe^Jane"])
def test_spellings_of_a_name_that_do_not(other: str) -> None:
    assert pseudonym(KEY, "PatientName", other) != pseudonym(KEY, "PatientName", "Doe^Jane")


def test_of_a_name_without_letters_the_ideographs_count() -> None:
    assert pseudonym(KEY, "PatientName", "=山田^太郎") == pseudonym(KEY, "PatientName", "山田^太郎")


def test_case_counts_in_identifiers_and_padding_does_not() -> None:
    assert pseudonym(KEY, "PatientID", "ab1 ") == pseudonym(KEY, "PatientID", " ab1\0")
    assert pseudonym(KEY, "PatientID", "ab1") != pseudonym(KEY, "PatientID", "AB1")


def test_nothing_stands_for_nothing() -> None:
    assert pseudonym(KEY, "PatientID", "  ") == pseudonym(KEY, "PatientName", "^^^") == ""


@pytest.mark.parametrize("what", ["Rows", "StudyDate", "NoSuchKeyword"])
def test_what_is_no_text_has_no_pseudonym(what: str) -> None:
    with pytest.raises(ValueError, match=what):
        pseudonym(KEY, what, "1")


def test_lone_surrogates_are_no_obstacle() -> None:
    assert pseudonym(KEY, "PatientID", "\udcff") != pseudonym(KEY, "PatientID", "\udcfe")


def test_processes_agree() -> None:
    code = (
        "from crypto.deid.pseudonyms import new_uid, pseudonym\n"
        "from crypto.keys import SiteKey\n"
        "key = SiteKey(bytes(range(32)), 'elsewhere')\n"
        "print(pseudonym(key, 'PatientID', '0815'), new_uid(key, '1.2.3'))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == [pseudonym(KEY, "PatientID", "0815"), new_uid(KEY, "1.2.3")]
