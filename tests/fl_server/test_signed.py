"""Which replies a server takes: only what the asked site signed as its answer to that very message."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signed_messages_made import RUN, SERVER, roster_of, signed_reply

from fl_server.app import app
from fl_server.audited import AuditedGrid
from fl_server.collect import Collector
from fl_server.config import ServerConfig, ServerSettings
from fl_server.deployment.roster import Roster
from fl_server.signed import ServerSignatures
from medveil.audit import AuditLog, Head
from medveil.audit_messages import AUDIT, carried, digest_of_config, head_in, put_head
from medveil.audit_verify import verify
from medveil.contract import RUN_KEY, SERVER_KEY
from medveil.errors import ConfigError, SignatureError
from medveil.flower import ErrorCode, NodeInfo
from medveil.folded import fold
from medveil.signed_messages import ORDER, SIGNED, order_in, refusal_record, signed_in
from medveil.signing import SigningKey

HEAD = Head("c" * 32, 7, "d" * 64)
ANNA, MERCY = 5, 6
KEYS = {ANNA: SigningKey.generate(), MERCY: SigningKey.generate()}
WORDS = "written by mercy in the name of st-anna"


class TwoSites:
    """As much of Flower's grid as is asked: two nodes, and the replies a test gives."""

    def __init__(self) -> None:
        self.sent: dict[int, Message] = {}
        self.travelled: list[list[str]] = []
        self.replies: list[Message] = []
        self.pulls = 0

    def get_nodes(self) -> list[NodeInfo]:
        return [NodeInfo(node_id=ANNA, name="st-anna"), NodeInfo(node_id=MERCY, name="mercy")]

    def get_node_ids(self) -> list[int]:
        return [ANNA, MERCY]

    def push_messages(self, messages: list[Message]) -> list[str]:
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"id-{len(self.sent)}-{message.metadata.dst_node_id}"
            self.sent[message.metadata.dst_node_id] = message
            self.travelled.append(list(message.content))
        return [message.metadata.message_id for message in messages]

    def pull_messages(self, message_ids: list[str]) -> list[Message]:
        self.pulls += 1
        found = [each for each in self.replies if each.metadata.reply_to_message_id in set(message_ids)]
        self.replies = []
        return found


class Server:
    """A server that has asked both sites to train."""

    def __init__(self, folder: Path) -> None:
        self.roster = roster_of(folder / "sites.json", {ANNA: ("st-anna", KEYS[ANNA]), MERCY: ("mercy", KEYS[MERCY])})
        self.log, self.grid = AuditLog(folder / "audit.jsonl", "server veil"), TwoSites()
        self.signatures = ServerSignatures(SERVER, self.roster, run=RUN, flower_run="1", config="e" * 64)
        self.audited = AuditedGrid(self.grid, self.log, run=RUN, signatures=self.signatures)  # type: ignore[arg-type]
        self.ask()

    def ask(self, kind: str = "train", round_: int = 1) -> None:
        arrays = ArrayRecord({"w": Array(np.ones(3, np.float32))})
        # One content for all, as Flower's strategies make it.
        content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": round_})})
        self.messages = [Message(content, dst_node_id=node, message_type=kind) for node in (ANNA, MERCY)]
        self.audited.push_messages(self.messages)

    def take(self, *replies: Message) -> list[Message]:
        self.grid.replies = list(replies)
        return self.audited.pull_messages([each.metadata.message_id for each in self.messages])

    def events(self, event: str) -> list[dict[str, Any]]:
        found = verify(self.log.path)
        assert found.whole, found.problems
        return [each["details"] for each in found.records if each["event"] == event]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def update() -> RecordDict:
    arrays = ArrayRecord({"w": Array(np.full(3, 2, np.float32))})
    return RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 20, "train-loss": 0.5})})


def good(server: Server, node: int = ANNA, holding: RecordDict | None = None, **changes: Any) -> Message:
    key = changes.pop("key", KEYS[node])
    return signed_reply(server.grid.sent[node], holding or update(), key, head=changes.pop("over", HEAD), **changes)


def test_an_order_is_of_one_site_and_of_its_own_message(server: Server) -> None:
    orders = {node: order_in(signed_in(sent), SERVER.public) for node, sent in server.grid.sent.items()}
    assert [(orders[node].site, orders[node].identity) for node in (ANNA, MERCY)] == [
        ("st-anna", KEYS[ANNA].fingerprint),
        ("mercy", KEYS[MERCY].fingerprint),
    ]
    assert len({each.nonce for each in orders.values()}) == 2
    assert {each.head for each in orders.values()} == {head_in(server.grid.sent[ANNA].content)}
    # The record of both lies before the head that both carry.
    assert orders[ANNA].head == str(server.log.head())
    assert orders[ANNA].expires - orders[ANNA].created == 1000 * server.grid.sent[ANNA].metadata.ttl


def test_what_the_site_signed_is_taken_and_loses_what_is_ours(server: Server) -> None:
    first, second = good(server), good(server)
    (taken,) = server.take(first)
    assert set(taken.content) == {"arrays", "metrics"}
    assert server.events("answered")[0]["site"] == "st-anna"
    assert server.events("answered")[0]["head"] == str(HEAD)
    # The same reply a second time answers nothing that is open.
    (left,) = server.take(second)
    assert set(left.content) == {"refused"}
    assert [each["reason"] for each in server.events("unsigned-reply")] == ["order"]
    assert len(server.events("answered")) == 1


def test_records_travel_as_one(server: Server) -> None:
    assert server.grid.travelled == [["arrays", "folded"]] * 2
    assert {"arrays", "config", "audit", "signed"} == set(server.messages[0].content)
    reply = good(server)
    fold(reply)
    assert set(reply.content) == {"arrays", "folded"}
    (taken,) = server.take(reply)
    assert set(taken.content) == {"arrays", "metrics"}
    assert server.events("answered")[0]["site"] == "st-anna"


def altered(change: Callable[[RecordDict], object]) -> Callable[[Server], Message]:
    def make(server: Server) -> Message:
        reply = good(server)
        change(reply.content)
        return reply

    return make


def changed(**changes: Any) -> Callable[[Server], Message]:
    return lambda server: good(server, **changes)


def by_another_domain(server: Server) -> Message:
    reply = good(server)
    statement = signed_in(reply).statement
    from medveil.signed_messages import answer_in  # noqa: PLC0415

    fields = vars(answer_in(signed_in(reply), KEYS[ANNA].public))
    made = KEYS[ANNA].sign(ORDER, 1, fields)
    assert made.statement != statement
    reply.content[SIGNED] = ConfigRecord({"statement": made.statement, "signature": made.signature})
    return reply


def to_an_earlier_message(server: Server) -> Message:
    """What the site signed as the answer of the round before, shown again."""
    old = good(server)
    server.ask(round_=2)
    return Message(old.content, reply_to=server.grid.sent[ANNA])


def of_another_site(server: Server) -> Message:
    """Mercy's own whole answer to its own message, shown as st-anna's."""
    return Message(good(server, MERCY).content, reply_to=server.grid.sent[ANNA])


def by_mercy(server: Server) -> Message:
    return good(server, key=KEYS[MERCY])


def unsigned(server: Server) -> Message:
    return Message(update(), reply_to=server.grid.sent[ANNA])


def an_error(server: Server) -> Message:
    return Message(Error(2, WORDS), reply_to=server.grid.sent[ANNA])


def an_unsigned_refusal(server: Server) -> Message:
    return Message(refusal_record(WORDS, 2), reply_to=server.grid.sent[ANNA])


def with_odd_shapes(server: Server) -> Message:
    content = update()
    content["arrays"] = ArrayRecord({"w": Array(np.ones(3, np.float32))})
    reply = good(server, holding=content)
    reply.content.array_records["arrays"]["w"].shape = ("many",)  # type: ignore[assignment]
    return reply


FORGERIES: dict[str, tuple[Callable[[Server], Message], str]] = {
    "no signature": (unsigned, "unsigned"),
    "an error with words": (an_error, "unsigned"),
    "a refusal nobody signed": (an_unsigned_refusal, "unsigned"),
    "another site's signature": (by_mercy, "forged"),
    "another site's answer": (of_another_site, "forged"),
    "the server's own": (changed(key=SERVER), "forged"),
    "a node key without the identity": (changed(key=SigningKey.generate()), "forged"),
    "an earlier answer": (to_an_earlier_message, "round"),
    "shown as an order": (by_another_domain, "domain"),
    "another consortium": (changed(consortium="x"), "consortium"),
    "another run": (changed(run="x"), "run"),
    "another run of Flower's": (changed(flower_run="2"), "flower_run"),
    "another round": (changed(round=2), "round"),
    "another kind": (changed(kind="evaluate"), "kind"),
    "another name": (changed(site="mercy"), "site"),
    "another identity": (changed(identity=KEYS[MERCY].fingerprint), "identity"),
    "another nonce": (changed(nonce="0" * 32), "nonce"),
    "another order": (changed(order="0" * 64), "order"),
    "another content": (changed(content="0" * 64), "content"),
    "no head": (changed(over=None), "unheaded"),
    "a head that was not signed": (altered(lambda content: put_head(content, Head("e" * 32, 1, "f" * 64))), "unheaded"),
    "its head taken away": (altered(lambda content: content.pop(AUDIT)), "unheaded"),
    "a tensor changed": (
        altered(lambda content: content.update({"arrays": ArrayRecord({"w": Array(np.zeros(3, np.float32))})})),
        "content",
    ),
    "a weight changed": (altered(lambda content: content["metrics"].update({"num-examples": 10**15})), "content"),
    "a measure that is no number": (
        altered(lambda content: content["metrics"].update({"train-loss": float("nan")})),
        "content",
    ),
    "a refusal put in": (altered(lambda content: content.update(refusal_record(WORDS, 2))), "content"),
    "shapes that are no numbers": (with_odd_shapes, "content"),
    "no statement": (
        altered(lambda content: content.update({SIGNED: ConfigRecord({"statement": "", "signature": ""})})),
        "unsigned",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_what_the_asked_site_did_not_sign_is_no_answer(name: str, server: Server) -> None:
    make, wanted = FORGERIES[name]
    (left,) = server.take(make(server))
    (record,) = server.events("unsigned-reply")
    assert (record["reason"], record["site"]) == (wanted, "st-anna")
    assert not server.events("answered")
    assert not server.events("refused")
    # No word, tensor or measure of it goes further, and nobody is blamed for it.
    reply = Collector(Handed([left]))._reply(ANNA, left)  # type: ignore[arg-type]
    assert reply.message is None
    assert reply.problem is not None
    assert reply.problem.startswith("no answer: ")
    assert WORDS not in f"{reply.problem}{server.log.path.read_text()}{left}"
    assert left.has_error() or set(left.content) == {"refused"}


class Handed:
    """A grid that has no nodes to name."""

    def __init__(self, replies: list[Message]) -> None:
        self.replies = replies

    def get_nodes(self) -> list[NodeInfo]:
        return []


def test_a_signed_refusal_is_heard_in_its_own_words(server: Server) -> None:
    told = "ConfigError: limits.most_rounds: this site agrees to at most 2 rounds"
    for head in (HEAD, None):
        server.ask()
        (left,) = server.take(good(server, holding=refusal_record(told, 2), over=head))
        reply = Collector(Handed([left]))._reply(ANNA, left)  # type: ignore[arg-type]
        assert (reply.problem, reply.message) == (told, None)
    assert [(each["error"], each["limit"], each["head"]) for each in server.events("refused")] == [
        ("ConfigError", "limits.most_rounds", str(HEAD)),
        ("ConfigError", "limits.most_rounds", None),
    ]


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5, 6, 7, 8, 99, -1])
def test_an_error_of_flowers_is_told_in_our_words_by_its_code(code: int, server: Server) -> None:
    (left,) = server.take(Message(Error(code, WORDS), reply_to=server.grid.sent[ANNA]))
    assert (left.error.code, WORDS in str(left.error.reason)) == (code, False)
    assert str(left.error.reason).startswith("no answer: ")
    if code == ErrorCode.NODE_UNAVAILABLE:
        assert left.error.reason == "no answer: its node went away"
    assert server.events("unsigned-reply")[0]["code"] == code


def test_a_reply_of_a_site_that_was_revoked_meanwhile_is_none(server: Server) -> None:
    reply = good(server)
    Roster(server.log.path.with_name("sites.json")).revoke("st-anna")
    (left,) = server.take(reply)
    assert server.events("unsigned-reply")[0]["reason"] == "revoked"
    assert server.audited.get_node_ids() == [MERCY]
    assert Collector(Handed([left]))._reply(ANNA, left).problem == "no answer: its site was revoked"  # type: ignore[arg-type]


def test_a_node_whose_site_has_no_identity_is_not_asked(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    from dataclasses import replace  # noqa: PLC0415

    server.roster._write(
        [replace(each, identity="") if each.node == ANNA else each for each in server.roster.members()]
    )
    server.grid.sent.clear()
    with caplog.at_level("WARNING", logger="medveil.server"):
        assert [server.audited.get_node_ids() for _ in range(3)] == [[MERCY]] * 3
    assert caplog.text.count("st-anna takes no part: it named no identity") == 1
    # Asked all the same, its message is not sent, and that is known by name.
    collector = Collector(server.audited)  # type: ignore[arg-type]
    content = RecordDict({"config": ConfigRecord({"server-round": 1})})
    asked = [Message(content, dst_node_id=node, message_type="query") for node in (ANNA, 9, MERCY)]
    replies = collector.collect(asked, seconds=0.05)
    assert [(each.node, each.problem) for each in sorted(replies, key=lambda each: each.node)] == [
        (ANNA, "the message could not be sent"),
        (MERCY, "no reply within 0.05 s"),
        (9, "the message could not be sent"),
    ]
    assert set(server.grid.sent) == {MERCY}
    assert len(server.events("unsent")) == 2


def test_a_server_without_a_key_asks_nothing_of_real_sites(
    make_world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(2)
    monkeypatch.setattr(type(world.grid), "__module__", "flwr.superlink.grid")
    monkeypatch.setattr("fl_server.app.pull_soon", lambda: None)
    settings_ = ServerSettings(out=str(tmp_path / "run"), sites=2, server=ServerConfig(wait_for_sites=0.3))
    sent: dict[str, Any] = {RUN_KEY: world.run.to_json(), SERVER_KEY: settings_.to_json()}
    context = Context(run_id=7, node_id=1, node_config={}, state=RecordDict(), run_config=sent)

    def refused(match: str) -> None:
        with pytest.raises(ConfigError, match=match):
            app(world.grid, context)
        assert not world.grid.sent
        assert not (tmp_path / "run").exists()

    for name in ("MEDVEIL_SIGNING_KEY", "MEDVEIL_ROSTER", "MEDVEIL_AUDIT"):
        monkeypatch.delenv(name, raising=False)
    refused("started without a key to sign with; start the server anew")
    SERVER.save(tmp_path / "signing.key")
    monkeypatch.setenv("MEDVEIL_SIGNING_KEY", str(tmp_path / "signing.key"))
    refused("started without a key to sign with")
    monkeypatch.setenv("MEDVEIL_ROSTER", str(tmp_path / "sites.json"))
    refused("a run of real sites is written down")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_signatures_of_replies_end_in_our_own_error(data: st.DataObject, tmp_path: Path) -> None:
    server = Server(tmp_path)
    reply = good(server)
    record = dict(reply.content[SIGNED])
    before = dict(record)
    name = data.draw(st.sampled_from(["statement", "signature", "other"]))
    texts = st.text(max_size=40) | st.binary(min_size=64, max_size=64).map(lambda raw: base64.b64encode(raw).decode())
    cuts = st.integers(0, 300).map(lambda cut: str(before["statement"])[:cut] + "}")
    record[name] = data.draw(texts | cuts | st.integers(-9, 9) | st.binary(max_size=9) | st.floats())
    if record == before:
        return
    reply.content[SIGNED] = ConfigRecord(record)
    asked = server.audited._asked[reply.metadata.reply_to_message_id]
    with pytest.raises(SignatureError):
        server.signatures.check(asked, reply)


def test_what_signing_takes_is_little(server: Server) -> None:
    """Bytes a message and time, for the notes; the bounds are far above what was measured."""
    message = server.grid.sent[ANNA]
    record = message.content[SIGNED]
    size = sum(len(str(each)) for each in record.values())
    content, tensors = message.content, carried(message.content)
    began = time.perf_counter()
    for _ in range(100):
        fresh = Message(RecordDict(dict(content)), dst_node_id=ANNA, message_type="train")
        asked = server.signatures.sign(fresh, tensors, HEAD)
    sign_s = (time.perf_counter() - began) / 100
    assert asked is not None
    reply = good(server)
    asked = server.audited._asked[reply.metadata.reply_to_message_id]
    began = time.perf_counter()
    for _ in range(100):
        server.signatures.check(asked, reply)
    check_s = (time.perf_counter() - began) / 100
    print(f"signature record {size} bytes, sign {sign_s * 1e6:.0f} us, check {check_s * 1e6:.0f} us")
    assert size < 1200
    assert max(sign_s, check_s) < 0.02


def test_the_digest_of_the_settings_is_that_of_the_run(server: Server) -> None:
    order = order_in(signed_in(server.grid.sent[ANNA]), SERVER.public)
    assert order.config == "e" * 64
    assert digest_of_config({RUN_KEY: "a"}) != digest_of_config({RUN_KEY: "b"})


def test_what_a_site_says_of_its_tensors_fills_no_log(server: Server) -> None:
    """A shape of a million sizes costs its site two bytes a size, and would stand in the log for good."""
    array = Array(np.full(3, 2, np.float32))
    array.shape, array.dtype = (0,) * 300_000, "f" * 1_000_000
    before = server.log.path.stat().st_size
    server.take(good(server, MERCY, RecordDict({"arrays": ArrayRecord({"w": array})})))
    (layout,) = [each for each in server.events("layout") if each["count"] == 1 and len(each["tensors"][0][2]) > 1]
    assert len(layout["tensors"][0][2]) == 16
    assert server.log.path.stat().st_size - before < 10_000
