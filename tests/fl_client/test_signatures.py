"""What a real site takes for its server's: what is forged, altered, swapped, replayed or unheaded is refused."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signed_messages_made import RUN, SERVER, next_head, order_for, signed_order

from crypto import sealed_file
from crypto.keyfile import rotate_key
from crypto.keys import SimulatedKey
from fl_client import cli as site_cli
from fl_client.app import make_app
from fl_client.cli import main
from fl_client.deployment.enroll import enroll, server_fingerprint
from fl_client.deployment.identity import load_identity
from fl_client.deployment.own_files import OwnFiles, load_site
from fl_client.deployment.own_keys import open_keys
from fl_client.deployment.own_site import OwnHost
from fl_client.deployment.signatures import SiteSignatures
from medveil import node_keys
from medveil.audit import Head
from medveil.audit_heads import load_heads, save_heads
from medveil.audit_messages import AUDIT, carried, head_in, put_head
from medveil.audit_verify import verify
from medveil.certificates import make_authority
from medveil.contract import ARRAYS, CONFIG, RUN_KEY, SITE
from medveil.errors import ConfigError, FormatError, IntegrityError, KeyMaterialError, SignatureError, StorageError
from medveil.flower import be_task
from medveil.folded import fold, unfold
from medveil.installed import installed_hash
from medveil.invitation import Invitation
from medveil.signed_messages import ANSWER, REFUSED, SIGNED, answer_in, content_digest, order_in, refusal_in, signed_in
from medveil.signing import Signed, SigningKey
from medveil.times import SKEW_S

WORD = "seven horses correct the battery"
SETTINGS = ["data.source=dicom", "data.path=/none", "data.labels=own.csv"]
AUTHORITY = make_authority("veil").certificate.public_bytes(Encoding.PEM).decode()


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    monkeypatch.setenv("MEDVEIL_PASSPHRASE", WORD)
    be_task(run_id=1, node_id=2)


def read(named: Path | None) -> str:
    return WORD


def made_at(folder: Path) -> OwnFiles:
    invitation = Invitation("veil", "127.0.0.1:9092", AUTHORITY, SERVER.public)
    enroll("st-anna", folder, invitation=invitation, key=None, passphrase=WORD, overrides=SETTINGS)
    return load_site(folder / "site.yaml")


@pytest.fixture
def files(tmp_path: Path) -> OwnFiles:
    return made_at(tmp_path / "st-anna")


@pytest.fixture
def host(files: OwnFiles, monkeypatch: pytest.MonkeyPatch) -> OwnHost:
    """A site that nothing refused may open."""
    made = OwnHost(files, open_keys(files, read))
    monkeypatch.setattr(made, "site", lambda _: pytest.fail("the site was opened"))
    monkeypatch.setattr(made, "allow", lambda *_: pytest.fail("the message was counted"))
    return made


def context(**changes: Any) -> Context:
    sent = {RUN_KEY: json.dumps({"run": RUN, **changes})}
    return Context(run_id=1, node_id=2, node_config={}, state=RecordDict(), run_config=dict(sent))


def bare(kind: str = "evaluate", round_: int = 1) -> Message:
    """A message as it is before it is signed; with a head."""
    content = RecordDict(
        {
            ARRAYS: ArrayRecord({"w": Array(np.ones(3, np.float32))}),
            CONFIG: ConfigRecord({"server-round": round_}),
            "other": MetricRecord({"x": 1.0}),
        }
    )
    made = Message(content, message_type=kind, dst_node_id=2, group_id="1")
    made.metadata.__dict__.update(_message_id="id", _src_node_id=1)
    put_head(made.content, next_head())
    return made


def identity(files: OwnFiles) -> SigningKey:
    return load_identity(files.path(files.config.identity), WORD, site="st-anna")


def good(files: OwnFiles, message: Message | None = None, **changes: Any) -> Message:
    values = {"site": "st-anna", "identity": identity(files).fingerprint, **changes}
    return signed_order(message or bare(), context(), **values)


def refused(host: OwnHost, message: Message, asked: Context | None = None) -> tuple[str | None, Message]:
    """The word under which a refusal stands in the site's log, and the reply."""
    reply = make_app(host)(message, asked or context())
    found = verify(host._files.audit.path)
    assert found.whole, found.problems
    assert found.records[-1]["event"] == "refused"
    details = found.records[-1]["details"]
    assert details["error"] == "SignatureError", details
    return details["reason"], reply


def altered(change: Callable[[Message], object]) -> Callable[[OwnFiles], Message]:
    def make(files: OwnFiles) -> Message:
        message = good(files)
        change(message)
        return message

    return make


def changed(**changes: Any) -> Callable[[OwnFiles], Message]:
    """Signed by the server, about something else."""
    return lambda files: good(files, **changes)


def resigned(domain: str, version: int) -> Callable[[OwnFiles], Message]:
    def make(files: OwnFiles) -> Message:
        message = bare()
        order = order_for(message, context(), site="st-anna", identity=identity(files).fingerprint)
        signed = SERVER.sign(domain, version, vars(order))
        message.content[SIGNED] = ConfigRecord({"statement": signed.statement, "signature": signed.signature})
        return message

    return make


def set_record(name: str, value: Any) -> Callable[[Message], None]:
    def change(message: Message) -> None:
        message.content[name] = value

    return change


def swapped(files: OwnFiles) -> Message:
    """The whole signature of another message of the server's for this site."""
    message, other = good(files), good(files, bare(round_=1))
    message.content[SIGNED] = other.content[SIGNED]
    return message


NOW = int(time.time() * 1000)
LATER = 1000 * int(SKEW_S + 3600)
FORGERIES: dict[str, tuple[Callable[[OwnFiles], Message], str]] = {
    "no signature": (lambda files: bare(), "unsigned"),
    "another key, as of a site or an older server": (changed(key=SigningKey.from_secret(b"x" * 32)), "forged"),
    "the site's own key": (lambda files: good(files, key=identity(files)), "forged"),
    "an empty signature": (
        altered(set_record(SIGNED, ConfigRecord({"statement": "", "signature": ""}))),
        "unsigned",
    ),
    "half a signature": (altered(set_record(SIGNED, ConfigRecord({"statement": "{}"}))), "unsigned"),
    "a signature of numbers": (
        altered(set_record(SIGNED, ConfigRecord({"statement": 1, "signature": b"x"}))),
        "unsigned",
    ),
    "a signature with more beside it": (
        altered(lambda message: message.content[SIGNED].update({"more": "x"})),
        "unsigned",
    ),
    "a signature in another kind of record": (altered(set_record(SIGNED, MetricRecord({"x": 1}))), "unsigned"),
    "the signature of another message": (swapped, "unheaded"),
    "an answer shown as an order": (resigned(ANSWER, 1), "domain"),
    "a newer version": (resigned("medveil order", 2), "version"),
    "another consortium": (changed(consortium=SigningKey.generate().fingerprint), "consortium"),
    "another site's name": (changed(site="mercy"), "site"),
    "another site's identity": (changed(identity=SigningKey.generate().fingerprint), "identity"),
    "another run": (changed(run="other"), "run"),
    "a path for a run": (changed(run="../../x"), "run"),
    "another run of Flower's": (changed(flower_run="2"), "flower_run"),
    "another kind": (changed(kind="train"), "kind"),
    "a kind within the kind": (changed(kind="evaluate.x"), "kind"),
    "another round": (changed(round=2), "round"),
    "no round": (changed(round=None), "round"),
    "other settings of the run": (changed(config="0" * 64), "config"),
    "expired": (changed(created=NOW - 2 * LATER, expires=NOW - LATER), "expired"),
    "from the time to come": (changed(created=NOW + LATER, expires=NOW + 2 * LATER), "created"),
    "another content": (changed(content="0" * 64), "content"),
    "a head the server did not sign": (
        altered(lambda message: put_head(message.content, next_head())),
        "unheaded",
    ),
    "no head": (altered(lambda message: message.content.pop(AUDIT)), "unheaded"),
    "a head that is none": (changed(head="none"), "unheaded"),
    "a tensor changed": (
        altered(set_record(ARRAYS, ArrayRecord({"w": Array(np.zeros(3, np.float32))}))),
        "content",
    ),
    "a tensor more": (altered(set_record("more", ArrayRecord({"w": Array(np.zeros(3, np.float32))}))), "content"),
    "all tensors gone": (altered(lambda message: message.content.pop(ARRAYS)), "content"),
    "a setting of the message changed": (
        altered(lambda message: message.content[CONFIG].update({"proximal-mu": 9.0})),
        "content",
    ),
    "a round changed on its way": (
        altered(lambda message: message.content[CONFIG].update({"server-round": 2})),
        "round",
    ),
    "a measure changed": (altered(lambda message: message.content["other"].update({"x": 2.0})), "content"),
    "a record more": (altered(set_record("more", ConfigRecord({}))), "content"),
    "sent as another kind": (
        altered(lambda message: message.metadata.__dict__.update(_message_type="train")),
        "kind",
    ),
    "sent in another run": (altered(lambda message: message.metadata.__dict__.update(_run_id=9)), "flower_run"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_what_the_server_did_not_sign_for_this_is_refused(name: str, host: OwnHost, files: OwnFiles) -> None:
    make, wanted = FORGERIES[name]
    before = set(files.state.rglob("*"))
    reason, reply = refused(host, make(files))
    assert reason == wanted
    # Nothing was made of it: not heard, not counted, no model kept; and its head is no head of the server's.
    new = {path.name for path in set(files.state.rglob("*")) - before if path.is_file()}
    assert new <= {"audit.jsonl", "audit.jsonl.lock"}
    assert not [each for each in verify(files.audit.path).records if each["event"] in {"asked", "answered"}]
    # What it is told is that it was refused, and no more.
    said = reply.error.reason if reply.has_error() else refusal_in(reply)[0]  # type: ignore[index]
    assert said == "SignatureError: see the log of the site"
    if reply.has_content():
        assert set(reply.content) == {REFUSED, AUDIT, SIGNED}


def test_only_an_order_of_the_servers_for_this_site_is_answered_with_a_signature(
    host: OwnHost, files: OwnFiles
) -> None:
    for name, signs in {
        "no signature": False,
        "another key, as of a site or an older server": False,
        "an answer shown as an order": False,
        "another site's name": False,
        "another consortium": False,
        "another run": True,
        "expired": True,
        "a tensor changed": True,
    }.items():
        _, reply = refused(host, FORGERIES[name][0](files))
        assert reply.has_content() == signs, name


def test_a_message_that_is_an_error_is_refused(host: OwnHost) -> None:
    message = Message(Error(2, "odd"), reply_to=bare())
    message.metadata.__dict__["_message_type"] = "evaluate"
    assert refused(host, message)[0] == "unsigned"


def test_an_order_counts_once_and_in_its_turn(files: OwnFiles) -> None:
    log, other = "c" * 32, "d" * 32

    def heard(head: Head, run: str = RUN) -> str:
        # A host anew each time, as after a restart of the worker.
        signatures, message = SiteSignatures(files, identity(files)), bare()
        put_head(message.content, head)
        asked = context()
        asked.run_config[RUN_KEY] = json.dumps({"run": run})
        order = order_for(message, asked, site="st-anna", identity=identity(files).fingerprint, run=run)
        from medveil.signed_messages import sign  # noqa: PLC0415

        sign(message.content, order, SERVER)
        try:
            signatures.check(signatures.authentic(message), message, asked, carried(message.content))
        except SignatureError as error:
            return error.reason
        return "taken"

    def numbered(sequence: int, of: str = log) -> Head:
        return Head(of, sequence, "b" * 64)

    assert [heard(numbered(each)) for each in (5, 5, 4, 6, 9, 8)] == [
        "taken",
        "replayed",
        "replayed",
        "taken",
        "taken",
        "replayed",
    ]
    # Of another run the numbers are another's.
    assert heard(numbered(6), "other-run") == "taken"
    # The server's log was moved away: the new one begins, and the old one's numbers are over.
    assert [heard(numbered(2, other)), heard(numbered(50)), heard(numbered(3, other))] == ["taken", "replayed", "taken"]
    path = files.state / "runs" / RUN / "heard.json"
    path.write_text('{"format": "medveil-heard", "version": 1, "log": 3}')
    with pytest.raises(IntegrityError):
        heard(numbered(9, other))
    path.write_text('{"format": "medveil-heard", "version": 2}')
    with pytest.raises(FormatError):
        heard(numbered(9, other))


def test_a_clock_that_is_off_as_far_as_flower_allows_is_no_forgery(files: OwnFiles) -> None:
    for off in (-SKEW_S + 5, 0.0, SKEW_S - 5):
        signatures = SiteSignatures(files, identity(files), clock=lambda off=off: time.time() + off)  # type: ignore[misc]
        message = good(files, created=int(time.time() * 1000), expires=int(time.time() * 1000) + 1)
        signatures.check(signatures.authentic(message), message, context(), carried(message.content))


def test_a_replay_is_recorded_and_not_answered_a_second_time(host: OwnHost, files: OwnFiles) -> None:
    message = good(files)
    host.asked(message, context())
    reason, reply = refused(host, message)
    assert (reason, reply.has_error()) == ("replayed", True)


def test_what_leaves_is_signed_over_all_of_it_and_names_what_it_answers(files: OwnFiles) -> None:
    host = OwnHost(files, open_keys(files, read))
    message = good(files)
    host.asked(message, context())
    content = RecordDict({SITE: ConfigRecord({"site": "st-anna", "none": []}), "m": MetricRecord({"x": float("nan")})})
    from types import SimpleNamespace  # noqa: PLC0415

    key = SimulatedKey(0, "st-anna")
    site = SimpleNamespace(
        travelling=[],
        bench=None,
        cipher=SimpleNamespace(fingerprint="f" * 32),
        budget=None,
        images=SimpleNamespace(basis=SimpleNamespace(keyed=lambda _: {})),
        setup=SimpleNamespace(key=key),
        run=SimpleNamespace(run="a run", secagg=SimpleNamespace(on=False)),
    )
    host.answering(message, context(), site, content)  # type: ignore[arg-type]
    answer = answer_in(signed_in(Message(content, reply_to=message)), identity(files).public)
    signed = signed_in(message)
    order = order_in(signed, SERVER.public)
    same = ("consortium", "run", "flower_run", "round", "kind", "site", "identity", "nonce")
    assert [getattr(answer, each) for each in same] == [getattr(order, each) for each in same]
    assert answer.order == signed.digest
    assert answer.content == content_digest(content, None)
    assert answer.head == head_in(content) == str(files.audit.head())
    # It is answered, and held no longer: tensors of a message are not kept until the next comes.
    assert host._signatures._heard is None
    with pytest.raises(SignatureError):
        host._signatures.sign(message, content, None, None)


def test_a_process_of_flowers_own_is_handed_what_travelled_and_answers_so(host: OwnHost, files: OwnFiles) -> None:
    asked, folded = good(files, expires=0), good(files, expires=0)
    fold(folded)
    assert set(folded.content) == {ARRAYS, "folded"}
    (word, reply), (same, travels) = refused(host, asked), refused(host, folded)
    assert word == same
    assert set(travels.content) == {"folded"}
    assert unfold(travels)
    assert set(travels.content) == set(reply.content)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_signature_records_end_in_our_own_error(data: st.DataObject, files: OwnFiles) -> None:
    message = good(files)
    record = dict(message.content[SIGNED])
    before = dict(record)
    name = data.draw(st.sampled_from(["statement", "signature", "other"]))
    value = data.draw(
        st.one_of(
            st.text(max_size=40),
            st.binary(max_size=40),
            st.integers(-(2**62), 2**62),
            st.floats(),
            st.booleans(),
            st.lists(st.text(max_size=5), max_size=3),
            st.integers(0, 200).map(lambda cut: str(before["statement"])[:cut]),
            st.integers(0, 200).map(lambda cut: str(before["signature"])[cut:] + "A"),
        )
    )
    record[name] = value
    message.content[SIGNED] = ConfigRecord(record)
    signatures = SiteSignatures(files, identity(files))
    if record == before:
        return
    with pytest.raises(SignatureError):
        signatures.check(signatures.authentic(message), message, context(), carried(message.content))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.dictionaries(
        st.sampled_from(["round", "kind", "site", "created", "expires", "head", "run", "nonce", "more", "domain"]),
        st.one_of(
            st.none(),
            st.integers(),
            st.just(10**3000),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(max_size=20),
            st.booleans(),
        ),
        min_size=1,
    )
)
def test_odd_fields_that_the_server_did_sign_end_in_our_own_error(fields: dict[str, Any], files: OwnFiles) -> None:
    message = bare()
    order = vars(order_for(message, context(), site="st-anna", identity=identity(files).fingerprint))
    signed = SERVER.sign("medveil order", 1, {**order, **fields})
    message.content[SIGNED] = ConfigRecord({"statement": signed.statement, "signature": signed.signature})
    signatures = SiteSignatures(files, identity(files))
    try:
        signatures.check(signatures.authentic(message), message, context(), carried(message.content))
    except SignatureError:
        return
    # What passed differs in nothing that counts.
    taken = order_in(Signed(signed.statement, signed.signature), SERVER.public)
    unlike = {name for name in order if getattr(taken, name) != order[name]}
    assert unlike <= {"nonce", "created", "expires"}


# -- whose keys --------------------------------------------------------------------------------------------------------


def test_a_site_of_an_earlier_medveil_is_told_what_to_do(
    files: OwnFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = yaml.safe_load(files.file.read_text())
    old = {name: each for name, each in values.items() if name not in {"server_key", "identity"}}
    files.file.write_text(yaml.safe_dump(old))
    files.path(files.config.identity).unlink()
    key = node_keys.load_private(files.path(files.config.node_key))
    public = files.file.with_name("st-anna.pub")
    public.write_text(node_keys.public_half(key, "st-anna").line())
    with pytest.raises(ConfigError, match=r"'server_key' is not set.*medveil-site rejoin --invitation FILE"):
        open_keys(load_site(files.file), read)
    assert open_keys(load_site(files.file), read, serving=False).identity is None
    assert main(["approve", installed_hash(), "--site", str(files.file)]) == 0
    assert main(["start", "--site", str(files.file)]) == ConfigError.exit_code
    assert "medveil-site rejoin" in capsys.readouterr().err
    main(["check", "--json", "--site", str(files.file)])
    points = {each["what"]: each for each in json.loads(capsys.readouterr().out)}
    for what in ("identity", "server key"):
        assert points[what]["state"] == "FAILED"
        assert "medveil-site rejoin" in points[what]["cure"]
    # It takes the new invitation, and keeps its keys.
    invitation = tmp_path / "new.invitation"
    made = Invitation("veil", "veil.example.org:9", AUTHORITY, SERVER.public)
    made.save(invitation)
    words = ["rejoin", "--invitation", str(invitation), "--site", str(files.file)]
    before = public.read_text()
    assert main([*words, "--fingerprint", "00" * 32]) == ConfigError.exit_code
    assert public.read_text() == before

    def full(*_: object, **__: object) -> NoReturn:
        raise StorageError("cannot write the file: no space left on device", where=public)

    with monkeypatch.context() as patch:
        patch.setattr("fl_client.deployment.enroll.write_text", full)
        assert main([*words, "--fingerprint", made.fingerprint]) == StorageError.exit_code
    # The identity that was drawn then is the site's, and taken by who types it again.
    assert main([*words, "--fingerprint", made.fingerprint]) == 0
    logging.getLogger("medveil").propagate = True
    again = load_site(files.file)
    assert (again.config.server, again.config.server_key) == ("veil.example.org:9", SERVER.public)
    halves = node_keys.load_public(public)
    assert halves.identity == identity(again).public
    assert halves.encoded == node_keys.public_half(key, "st-anna").encoded
    assert halves.fingerprint in capsys.readouterr().out
    assert yaml.safe_load(again.file.with_name("site.yaml.old").read_text()) == old
    main(["check", "--json", "--site", str(files.file)])
    points = {each["what"]: each for each in json.loads(capsys.readouterr().out)}
    assert (points["identity"]["state"], points["server key"]["state"]) == ("ok", "ok")
    assert made.fingerprint in points["server key"]["found"]
    assert made.fingerprint == server_fingerprint(again)
    # A second time the identity stays.
    assert main(words) == 0
    assert node_keys.load_public(public) == halves


def test_a_server_with_a_new_key_is_taken_by_rejoining_and_its_old_heads_still_count(
    files: OwnFiles, tmp_path: Path
) -> None:
    heads, kept = tmp_path / "heads.json", {"site st-anna": [next_head()]}
    second, third = SigningKey.generate(), SigningKey.generate()
    for number, key in enumerate([second, second, third]):
        invitation = tmp_path / f"{number}.invitation"
        Invitation("veil", "veil.example.org:9", AUTHORITY, key.public).save(invitation)
        assert main(["rejoin", "--invitation", str(invitation), "--site", str(files.file)]) == 0
    again = load_site(files.file)
    assert again.config.server_key == third.public
    assert again.config.former_server_keys == [SERVER.public, second.public]
    known = site_cli._known(argparse.Namespace(site=files.file))
    assert known("site st-anna") == []
    for key in (SERVER, second, third):
        save_heads(heads, kept, kept_by="server veil", key=key)
        assert load_heads(heads, owner="site st-anna", keys_of=known).signed_by == key.fingerprint
    save_heads(heads, kept, kept_by="server veil", key=SigningKey.generate())
    with pytest.raises(SignatureError):
        load_heads(heads, owner="site st-anna", keys_of=known)
    # Of messages the new key's alone count.
    signatures = SiteSignatures(again, identity(again))
    with pytest.raises(SignatureError, match="renewed the server's signing key: stop, medveil-site rejoin"):
        signatures.authentic(good(again))


def test_a_former_key_of_a_server_that_is_none_is_refused(files: OwnFiles) -> None:
    values = yaml.safe_load(files.file.read_text())
    files.file.write_text(yaml.safe_dump({**values, "former_server_keys": ["\x1b[2J"]}))
    with pytest.raises(ConfigError, match="'former_server_keys' is"):
        load_site(files.file)


def test_an_invitation_of_version_1_enrolls_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.invitation"
    Invitation("veil", "a:1", AUTHORITY).save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 1}))
    given_ = ["enroll", "--name", "b", "--out", str(tmp_path / "b"), "--invitation", str(path), *SETTINGS]
    assert main(given_) == ConfigError.exit_code
    assert "version 1, which names no signing key of the server's; the coordinator's" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_an_identity_is_sealed_and_of_one_site(files: OwnFiles) -> None:
    path = files.path(files.config.identity)
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    key = load_identity(path, WORD, site="st-anna")
    assert key.secret.hex() not in text
    assert json.loads(text)["format"] == "medveil-identity"
    with pytest.raises(KeyMaterialError, match="wrong passphrase"):
        load_identity(path, "another", site="st-anna")
    with pytest.raises(KeyMaterialError, match="is the identity of 'st-anna'"):
        load_identity(path, WORD, site="mercy")
    path.write_text(text.replace(key.public, SigningKey.generate().public))
    with pytest.raises(IntegrityError):
        load_identity(path, WORD, site="st-anna")
    path.write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(FormatError, match="upgrade MedVeil"):
        load_identity(path, WORD, site="st-anna")


def test_an_identity_keeps_its_passphrase_when_the_key_gets_another(files: OwnFiles, tmp_path: Path) -> None:
    rotate_key(files.path(files.config.key), WORD, new_passphrase="another five words of it")
    with pytest.raises(KeyMaterialError, match="'identity_passphrase_file' names its file"):
        open_keys(files, lambda named: "another five words of it")
    values = yaml.safe_load(files.file.read_text())
    files.file.write_text(yaml.safe_dump({**values, "identity_passphrase_file": str(tmp_path / "old.txt")}))
    again = load_site(files.file)
    words = {None: "another five words of it", tmp_path / "old.txt": WORD}
    keys = open_keys(again, lambda named: words[named])
    assert keys.identity is not None
    assert keys.identity.public == node_keys.load_public(files.file.with_name("st-anna.pub")).identity


def test_the_passphrase_of_a_key_that_is_there_must_open_it(
    files: OwnFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDVEIL_PASSPHRASE", "not the one of it")
    key = files.path(files.config.key)
    given_ = ["enroll", "--name", "b", "--out", str(tmp_path / "b"), "--key", str(key), *SETTINGS]
    assert main(given_) == KeyMaterialError.exit_code
    assert not (tmp_path / "b").exists()
