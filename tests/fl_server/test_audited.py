"""What the server writes down of a run: every message and every reply, before anything is made of it."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from signed_messages_made import SERVER, roster_of, signed_reply

from fl_server.app import app
from fl_server.audited import AuditedGrid
from fl_server.config import ServerConfig, ServerSettings
from medveil.audit import AuditLog, Head
from medveil.audit_messages import AUDIT, Layout, carried, head_in, put_head
from medveil.audit_verify import verify
from medveil.contract import RUN_KEY, SERVER_KEY
from medveil.errors import StorageError
from medveil.signing import SigningKey

HEAD = f"{'a' * 32}:7:{'b' * 64}"


def records(path, event=None):
    found = verify(path)
    assert found.whole, found.problems
    return [each["details"] for each in found.records if event in (None, each["event"])]


def context(run, settings):
    given = {RUN_KEY: run.to_json(), SERVER_KEY: settings.to_json()}
    return Context(run_id=77, node_id=1, node_config={}, state=RecordDict(), run_config=given)


def settings(out, **server):
    return ServerSettings(out=str(out), sites=2, server=ServerConfig(wait_for_sites=0.3, **server))


@pytest.fixture
def audited(monkeypatch, tmp_path):
    """A consortium's process, as Flower starts it."""
    path = tmp_path / "state" / "audit.jsonl"
    monkeypatch.setenv("MEDVEIL_AUDIT", str(path))
    monkeypatch.setenv("MEDVEIL_AUDIT_OWNER", "server veil")
    return path


def under_flower(monkeypatch, world, folder=None):
    """As a SuperLink's process; with `folder` that of a consortium, whose sites sign."""
    monkeypatch.setattr(type(world.grid), "__module__", "flwr.superlink.grid")
    monkeypatch.setattr("fl_server.app.pull_soon", lambda: None)
    if folder is None:
        monkeypatch.setattr("fl_server.app.is_simulated", lambda grid: True)
        return
    identities = {node: SigningKey.generate() for node in world.grid.sites}
    named = {node: (world.grid.sites[node].name, key) for node, key in identities.items()}
    roster_of(folder / "sites.json", named)
    SERVER.save(folder / "signing.key")
    monkeypatch.setenv("MEDVEIL_SIGNING_KEY", str(folder / "signing.key"))
    monkeypatch.setenv("MEDVEIL_ROSTER", str(folder / "sites.json"))

    def answer(site, message):
        key = identities[message.metadata.dst_node_id]
        return signed_reply(message, site(message), key, head=Head.parse(HEAD))

    monkeypatch.setattr(world.grid, "_answer", answer)


@pytest.mark.parametrize("packed", [False, True])
def test_a_run_is_written_down(make_world, tmp_path, audited, monkeypatch, packed):
    world = make_world(2, rounds=2, packed=packed)
    under_flower(monkeypatch, world, tmp_path)
    app(world.grid, context(world.run, settings(tmp_path / "here")))
    assert json.loads((tmp_path / "here" / "summary.json").read_text())["status"] == "finished"
    asked, answered = records(audited, "asked"), records(audited, "answered")
    order = [("query", None), ("train", 1), ("train", 2), ("evaluate", 2)]
    assert [(each["kind"], each["round"]) for each in asked] == [each for each in order for _ in range(2)]
    assert {each["head"] for each in answered} == {HEAD}
    assert len(answered) == len(asked)
    assert {each["run"] for each in asked + answered} == {world.run.run}
    joined = records(audited, "joined")
    assert [each["node"] for each in joined] == sorted(each["node"] for each in asked[:2])
    layouts = {each["layout"]: each["tensors"] for each in records(audited, "layout")}
    trained = [each for each in answered if each["kind"] == "train"]
    assert all((len(layouts[each["layout"]]) == 1) == packed for each in trained)
    if packed:
        names = {name for name, _, _ in layouts[trained[0]["packed"]]}
        assert "head.weight" in {name.removeprefix("model/") for name in names}
    assert [each["outcome"] for each in records(audited, "run-ended")] == ["ended"]
    began = records(audited, "run-began")[0]
    assert began["config"] == hashlib.sha256(world.run.to_json().encode()).hexdigest()
    # What a site said of its measures, classes and images is in no record.
    assert "accuracy" not in audited.read_text()
    assert not any(name in audited.read_text() for name in world.run.classes)


def test_without_the_variable_and_outside_flower_nothing_is_written(make_world, tmp_path, audited, monkeypatch):
    world = make_world(2, rounds=1)
    app(world.grid, context(world.run, settings(tmp_path / "here")))
    assert not audited.exists()
    under_flower(monkeypatch, world)
    monkeypatch.delenv("MEDVEIL_AUDIT")
    app(world.grid, context(world.run, settings(tmp_path / "there")))
    assert not audited.exists()


def test_a_run_stops_where_the_log_cannot_be_written(make_world, tmp_path, audited, monkeypatch):
    world = make_world(2, rounds=1)
    under_flower(monkeypatch, world)
    audited.mkdir(parents=True)
    with pytest.raises(StorageError):
        app(world.grid, context(world.run, settings(tmp_path / "here")))
    assert not (tmp_path / "here").exists(), "the run began unrecorded"


class OneReply:
    """A grid with two named nodes and the replies given."""

    def __init__(self, replies):
        self.replies, self.pushed, self.nodes = replies, [], [5, 6]

    def get_node_ids(self):
        return self.nodes

    def get_nodes(self):
        return [SimpleNamespace(node_id=5, name="st-anna"), SimpleNamespace(node_id=6, name="")]

    def push_messages(self, messages):
        self.pushed = list(messages)
        return []

    def pull_messages(self, message_ids):
        return self.replies


def message(content):
    made = Message(content, message_type="train", dst_node_id=5, group_id="1")
    made.metadata.__dict__["_message_id"] = "id"
    return made


def tensors(values):
    record = ArrayRecord({"w": Array(np.asarray(values, np.float32)), "b": Array(np.zeros(2, np.float32))})
    return RecordDict({"arrays": record, "config": ConfigRecord({"server-round": 3})})


def test_who_leaves_and_what_could_not_be_sent(make_world, tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl", "server veil")
    grid = OneReply([])
    audited = AuditedGrid(grid, log, run="r")
    audited.get_node_ids()
    grid.nodes = [6]
    audited.get_node_ids()
    audited.get_node_ids()
    assert [each["site"] for each in records(log.path, "joined")] == ["st-anna", None]
    assert [each["node"] for each in records(log.path, "left")] == ["5"]
    sent = message(tensors([1.0, 2.0]))
    audited.push_messages([sent])
    assert len(records(log.path, "unsent")) == 1
    # The site is told the head that holds this very message.
    assert head_in(sent.content).split(":")[1] == str(verify(log.path).records[-2]["sequence"])


def test_a_reply_loses_its_head_and_an_error_all_but_its_kind(make_world, tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl", "server veil")
    good = message(tensors([1.0, 2.0]))
    good.content[AUDIT] = ConfigRecord({"head": HEAD})
    grid = OneReply([good])
    audited = AuditedGrid(grid, log, run="r")
    (got,) = audited.pull_messages(["id"])
    assert AUDIT not in got.content
    odd = message(tensors([1.0, 2.0]))
    odd.content[AUDIT] = ConfigRecord({"head": "patient 4711"})
    grid.replies = [odd]
    audited.pull_messages(["id"])
    assert [each["head"] for each in records(log.path, "answered")] == [HEAD, None]
    from flwr.app import Error  # noqa: PLC0415

    reasons = {
        "ConfigError: limits.most_rounds: 4 of patient 4711": ("ConfigError", "limits.most_rounds"),
        "<class 'x'>:<'ValueError: patient 4711'>": ("ValueError", None),
        "patient 4711": (None, None),
    }
    for reason in reasons:
        grid.replies = [Message(Error(2, reason), reply_to=message(RecordDict()))]
        audited.pull_messages(["id"])
    assert [(each["error"], each["limit"]) for each in records(log.path, "refused")] == list(reasons.values())
    assert "4711" not in log.path.read_text()


def test_a_digest_is_what_a_slow_reading_makes_and_tells_every_part_apart():
    content = tensors([1.0, 2.0])
    slow = hashlib.sha256()
    for name, size in (("b", 2), ("w", 2)):
        data = content.array_records["arrays"][name].data
        slow.update(f'["{name}","float32",[{size}],{len(data)}]\n'.encode() + data)
    found = carried(content)
    assert found.digest == slow.hexdigest()
    put_head(content, Head.parse(HEAD))
    assert carried(content).digest == found.digest, "the head changed what is said of the tensors"
    assert carried(tensors([1.0, 2.5])).digest != found.digest
    assert carried(tensors([[1.0, 2.0]])).digest != found.digest
    assert carried(RecordDict()) is None


def test_a_flood_of_names_is_counted_and_not_all_kept():
    rows = [(f"{number:06d}" + "x" * 1000, "float32", (1,)) for number in range(5000)]
    kept = Layout(rows).details()
    assert (kept["count"], len(kept["tensors"])) == (5000, 4096)
    assert max(len(name) for name, _, _ in kept["tensors"]) < 500
    assert Layout(rows[:-1]).digest != kept["layout"] == Layout(reversed(rows)).digest


def test_why_a_run_failed_is_said_where_its_end_cannot_be_written_down(
    make_world, tmp_path, audited, monkeypatch, capsys
):
    world = make_world(2, rounds=1)
    under_flower(monkeypatch, world)
    append = AuditLog.append

    def full(log, event, **details):
        if event == "run-ended":
            raise StorageError("the disk is full", where=log.path)
        return append(log, event, **details)

    def fails(federation):
        raise StorageError("the disk is full", where="round-0001.safetensors")

    monkeypatch.setattr(AuditLog, "append", full)
    monkeypatch.setattr("fl_server.federation.Federation.run", fails)
    with pytest.raises(StorageError, match="round-0001"):
        app(world.grid, context(world.run, settings(tmp_path / "here")))
    assert "not in the audit log" in capsys.readouterr().err
