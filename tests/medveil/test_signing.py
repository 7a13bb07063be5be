"""Keys that sign, and statements: what is signed as one thing is nothing else, and what nobody signed is not read."""

from __future__ import annotations

import base64
import json
import pickle
import stat
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from medveil.audit_messages import carried
from medveil.errors import FormatError, SignatureError, StorageError
from medveil.signed_messages import SIGNED, content_digest
from medveil.signing import LONGEST, Signed, SigningKey, fingerprint, is_public, load_signing_key, verified

KEY = SigningKey.from_secret(bytes(range(32)))
FIELDS = {"site": "st-anna", "round": 3}


def reason(signed: Signed, *, public: str = KEY.public, domain: str = "a", newest: int = 1) -> str:
    with pytest.raises(SignatureError) as error:
        verified(signed, public, domain=domain, newest=newest)
    return error.value.reason


def test_a_statement_is_proven_by_another_reading_of_ed25519() -> None:
    signed = KEY.sign("a", 1, FIELDS)
    assert json.loads(signed.statement) == {**FIELDS, "domain": "a", "version": 1}
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(KEY.public))
    public.verify(base64.b64decode(signed.signature), signed.statement.encode())
    assert verified(signed, KEY.public, domain="a", newest=1) == FIELDS


def test_nothing_signed_as_one_thing_is_taken_for_another() -> None:
    signed = KEY.sign("a", 2, FIELDS)
    assert reason(signed, domain="b", newest=2) == "domain"
    assert reason(signed) == "version"
    assert reason(signed, public=SigningKey.generate().public, newest=2) == "forged"
    other = KEY.sign("a", 2, {**FIELDS, "round": 4})
    assert reason(Signed(signed.statement, other.signature), newest=2) == "forged"
    # Fields of a statement never stand for what it is for.
    assert KEY.sign("a", 1, {"domain": "b", "version": 9}) == KEY.sign("a", 1, {})


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "1", None])
def test_an_odd_version_is_none(version: Any) -> None:
    assert reason(KEY.sign("a", version, FIELDS)) == "version"


@pytest.mark.parametrize("statement", ["[]", "1", '"domain"', "{", "", "{}", "[" * 3000])
def test_what_our_key_signed_and_is_no_statement(statement: str) -> None:
    # Whoever holds the key could sign anything.
    private = KEY._key.sign(statement.encode())
    assert reason(Signed(statement, base64.b64encode(private).decode())) == "domain"


SIGNED_ONCE = KEY.sign("a", 1, FIELDS)


@given(st.integers(0, len(SIGNED_ONCE.statement) - 1), st.characters())
def test_one_other_character_of_a_statement_is_seen(place: int, other: str) -> None:
    text = SIGNED_ONCE.statement
    changed = text[:place] + other + text[place + 1 :]
    if changed != text:
        assert reason(Signed(changed, SIGNED_ONCE.signature)) in {"forged", "unsigned"}


@given(st.integers(0, len(SIGNED_ONCE.signature) - 1), st.characters())
def test_one_other_character_of_a_signature_is_seen(place: int, other: str) -> None:
    text = SIGNED_ONCE.signature
    changed = text[:place] + other + text[place + 1 :]
    if changed != text:
        assert reason(Signed(SIGNED_ONCE.statement, changed)) in {"forged", "unsigned"}


@given(st.text(), st.text())
def test_any_text_is_refused_by_our_own_error(statement: str, signature: str) -> None:
    assert reason(Signed(statement, signature)) in {"forged", "unsigned"}


def test_a_statement_is_bounded_before_it_is_read() -> None:
    assert reason(KEY.sign("a", 1, {"long": "x" * LONGEST})) == "unsigned"
    long = "A" * 2**26
    tracemalloc.start()
    try:
        assert reason(Signed("{}", long)) == reason(Signed(long, SIGNED_ONCE.signature)) == "unsigned"
        assert tracemalloc.get_traced_memory()[1] < 2**20, "it was copied to be judged"
    finally:
        tracemalloc.stop()


def test_the_word_for_it_survives_pickling() -> None:
    error = SignatureError("bears no signature", where="a reply", reason="unsigned")
    again = pickle.loads(pickle.dumps(error))
    assert (again.reason, str(again)) == ("unsigned", str(error))


def test_a_key_file_is_its_owners_alone_and_of_our_kind(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    KEY.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_signing_key(path).public == KEY.public
    assert load_signing_key(path).fingerprint == fingerprint(KEY.public)
    path.chmod(0o640)
    with pytest.raises(StorageError, match="can be read by others"):
        load_signing_key(path)
    pem = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for data in (b"", b"\0" * 100, pem, path.read_bytes()[:-40]):
        path.write_bytes(data)
        path.chmod(0o600)
        with pytest.raises(FormatError):
            load_signing_key(path)


def test_a_public_key_is_written_in_one_way_only() -> None:
    assert is_public(KEY.public)
    # The last letter of 32 bytes in base64 has bits that no byte takes: other letters would decode to the same key.
    last = KEY.public[42]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = KEY.public[:42] + alphabet[alphabet.index(last) ^ 1] + "="
    assert base64.b64decode(other) == base64.b64decode(KEY.public)
    for text in (other, KEY.public + "\n", " " + KEY.public, KEY.public[:-1], "", None, 7, b"x", "\u00e9" * 44):
        assert not is_public(text)


def test_a_key_under_which_anybody_signs_is_none() -> None:
    """The points of small order, and other ways to write a point: of the first, one signature holds for all texts."""
    prime, curve = 2**255 - 19, -121665 * pow(121666, -1, 2**255 - 19)
    eighth = 2707385501144840649318225287225658788936804267575313519463743609750303402022
    assert (curve * pow(eighth, 4, prime) + 2 * eighth**2 - 1) % prime == 0, "twice it is a point whose y is 0"
    small = [0, 1, prime - 1, eighth, prime - eighth, prime, prime + 1, prime + 5]
    for y in small:
        for sign in (0, 2**255):
            encoded = (y | sign).to_bytes(32, "little")
            assert not is_public(base64.b64encode(encoded).decode()), (y, sign)
    nobody = (1).to_bytes(32, "little")
    Ed25519PublicKey.from_public_bytes(nobody).verify(nobody + bytes(32), b"whatever was said")


# -- the content of a message ------------------------------------------------------------------------------------------


def content(**changes: Any) -> RecordDict:
    """A message with all three kinds of record."""
    import numpy as np  # noqa: PLC0415

    made = RecordDict(
        {
            "arrays": ArrayRecord({"w": Array(np.ones(3, np.float32)), "b": Array(np.zeros(2, np.float32))}),
            "metrics": MetricRecord({"loss": 0.5, "n": 3, "auroc": float("nan"), "many": [1.0, 2.0]}),
            "config": ConfigRecord({"server-round": 1, "yes": True, "text": "é", "raw": b"\0\1", "list": ["a"]}),
        }
    )
    for key, value in changes.items():
        made[key] = value
    return made


def digest(given_: RecordDict) -> str:
    return content_digest(given_, carried(given_))


def test_every_part_of_every_record_counts() -> None:
    import numpy as np  # noqa: PLC0415

    whole = digest(content())
    assert digest(content()) == whole
    config, metrics = dict(content()["config"]), dict(content()["metrics"])
    arrays = dict(content()["arrays"])
    others = [
        content(config=ConfigRecord({**config, "server-round": 2})),
        # One value in three types is three values.
        content(config=ConfigRecord({**config, "server-round": 1.0})),
        content(config=ConfigRecord({**config, "server-round": True})),
        content(config=ConfigRecord({**config, "server-round": "1"})),
        content(config=ConfigRecord({**config, "raw": b"\0\2"})),
        content(config=ConfigRecord({**config, "list": ["a", "b"]})),
        content(config=ConfigRecord({**config, "more": 0})),
        content(config=ConfigRecord({})),
        content(metrics=MetricRecord({**metrics, "loss": 0.5000001})),
        content(metrics=MetricRecord({**metrics, "auroc": float("inf")})),
        content(metrics=MetricRecord({**metrics, "many": [2.0, 1.0]})),
        content(metrics=ConfigRecord(metrics)),
        content(arrays=ArrayRecord({**arrays, "w": Array(np.ones(3, np.float64))})),
        content(arrays=ArrayRecord({**arrays, "w": Array(np.ones((3, 1), np.float32))})),
        content(arrays=ArrayRecord({"w": arrays["b"], "b": arrays["w"]})),
        content(arrays=ArrayRecord({"w": arrays["w"]})),
        content(more=ArrayRecord({"b": arrays["b"]})),
        content(more=ConfigRecord({})),
    ]
    found = [digest(each) for each in others]
    assert whole not in found
    assert len(set(found)) == len(found)
    assert digest(content(**{SIGNED: ConfigRecord({"statement": "x"})})) == whole


def test_two_tensors_of_one_name_in_two_records_cannot_change_places() -> None:
    import numpy as np  # noqa: PLC0415

    one, two = Array(np.ones(2, np.float32)), Array(np.zeros(2, np.float32))
    made = RecordDict({"arrays": ArrayRecord({"a/b": one}), "a": ArrayRecord({"b": two})})
    swapped = RecordDict({"a": ArrayRecord({"b": one}), "arrays": ArrayRecord({"a/b": two})})
    assert digest(made) != digest(swapped)
    assert digest(made) == digest(RecordDict(dict(reversed(list(made.items())))))


def test_a_digest_is_the_same_after_a_journey() -> None:
    from flwr.app import Message  # noqa: PLC0415
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects  # noqa: PLC0415
    from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents  # noqa: PLC0415

    from medveil.flower import be_task  # noqa: PLC0415

    be_task(run_id=1, node_id=1)
    given_ = content(empty=ConfigRecord({"none": [], "big": 2**62, "small": -1.5e-310, "odd": "a\u2028\x1b"}))
    sent = Message(given_, dst_node_id=2, message_type="train")
    contents = {key: each.deflate() for key, each in get_all_nested_objects(sent).items()}
    came = inflate_object_from_contents(sent.object_id, contents)
    assert isinstance(came, Message)
    assert digest(came.content) == digest(given_)
