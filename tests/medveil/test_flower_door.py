"""What a site may ask at the sites' door: its own messages, in its own name, once, and no larger than they may be.

Each of these speaks to a real SuperLink of Flower's behind our doors. When one fails after an upgrade of Flower, read
the docstrings of `medveil.flower_door` and `medveil.flower_fleet`.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from importlib import import_module
from typing import Any

import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.message_pb2 import ObjectTree
from raw_node import SERVER, Pulled, RawNode, answer
from superlink_here import SuperLinkHere, superlink

from medveil import door_replies, flower_fleet, patience
from medveil.audit_verify import verify
from medveil.door_notes import refusals
from medveil.door_sessions import SECOND_SESSION
from medveil.doors import FLEET
from medveil.flower_door import FLEET_ASKED


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuperLinkHere]:
    with superlink(tmp_path_factory.mktemp("superlink")) as made:
        yield made


@pytest.fixture
def pair(link: SuperLinkHere, request: pytest.FixtureRequest) -> Iterator[tuple[RawNode, RawNode]]:
    """Two sites in session, mercy and st-anna; both their own in every test."""
    nodes = tuple(link.admit(f"{name}-{len(request.node.name)}") for name in ("mercy", "st-anna"))
    for node in nodes:
        node.activate()
    yield nodes
    for node in nodes:
        node.close()


def content(size: int = 16, *, seed: int = 0) -> RecordDict:
    """A tensor of so many floats."""
    made = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    return RecordDict({"arrays": ArrayRecord({"w": Array(made)})})


def handed(
    link: SuperLinkHere, node: RawNode, *, run: int | None = None, size: int = 16, confirm: bool = True
) -> tuple[int, Pulled]:
    """A node with a message that it has whole."""
    run = link.run() if run is None else run
    link.send(run, node.node.node_id, content(size))
    pulled = node.pull()
    assert pulled is not None
    objects = node.pull_all(pulled)
    if confirm:
        node.confirm(run, pulled.id)
        assert all(len(each) for each in objects.values())
    return run, pulled


def refused(ask: Callable[[], Any], *, status: int = 403) -> None:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        ask()
    assert caught.value.response.status_code == status
    said = caught.value.response.text
    assert len(said) < 100, said


def why(link: SuperLinkHere) -> str:
    link.notes.flush()
    return "\n".join(link.said)


def test_a_message_goes_to_a_site_and_its_answer_comes_back(link: SuperLinkHere, pair: tuple[RawNode, RawNode]) -> None:
    mercy, _ = pair
    run, pulled = handed(link, mercy)
    before = len(link.said)
    asked = mercy.push(answer(pulled.message, source=mercy.node.node_id, content=content(seed=1)))
    assert len(asked) >= 3
    mercy.confirm(run, pulled.id)
    (reply,) = link.answers(run, pulled.id)
    assert reply.metadata.src_node_id == mercy.node.node_id
    assert mercy.beat()
    assert mercy.get_run(run).run.run_id == run
    assert link.said[before:] == []


def test_a_message_that_was_lost_on_its_way_is_handed_out_again_and_only_then(
    link: SuperLinkHere, pair: tuple[RawNode, RawNode]
) -> None:
    mercy, anna = pair
    run = link.run()
    sent = link.send(run, mercy.node.node_id, content())
    first = mercy.pull()
    assert anna.pull() is None
    # Its line was cut before that came, or it would have asked for what is in the message.
    again = mercy.pull()
    assert first is not None and again is not None
    assert first.id == again.id == sent
    mercy.pull_all(again)
    assert mercy.pull() is None
    mercy.confirm(run, sent)
    assert mercy.push(answer(again.message, source=mercy.node.node_id, content=content(seed=1)))
    assert mercy.pull() is None
    assert len(link.answers(run, sent)) == 1


def test_nothing_is_taken_in_another_sites_name(link: SuperLinkHere, pair: tuple[RawNode, RawNode]) -> None:
    mercy, anna = pair
    run, pulled = handed(link, anna)
    refused(lambda: mercy.push(answer(pulled.message, source=anna.node.node_id)))
    refused(lambda: mercy.push(answer(pulled.message, source=SERVER)))
    refused(lambda: mercy.push(answer(pulled.message, source=0)))
    assert link.answers(run, pulled.id) == []
    assert "pushed a message in another's name" in why(link)


def test_no_instruction_is_taken_from_a_site(link: SuperLinkHere, pair: tuple[RawNode, RawNode]) -> None:
    mercy, anna = pair
    _, pulled = handed(link, mercy)
    own, other = mercy.node.node_id, anna.node.node_id
    for source in (own, SERVER):
        refused(
            lambda source=source: mercy.push(  # type: ignore[misc]
                answer(pulled.message, source=source, reply_to_message_id="", dst_node_id=other, content=content())
            )
        )
    refused(lambda: mercy.push(answer(pulled.message, source=own, dst_node_id=other)))
    assert anna.pull() is None
    assert "pushed an instruction" in why(link)


def test_an_answer_is_to_a_message_that_this_site_was_handed_in_that_run(
    link: SuperLinkHere, pair: tuple[RawNode, RawNode]
) -> None:
    mercy, anna = pair
    run, pulled = handed(link, anna)
    other_run, own = handed(link, mercy)
    for message in (
        # Another site's message, guessed; one that nobody was sent; another run, another kind, another round.
        answer(own.message, source=mercy.node.node_id, reply_to_message_id=pulled.id, run_id=run),
        answer(own.message, source=mercy.node.node_id, reply_to_message_id="0" * 64),
        answer(own.message, source=mercy.node.node_id, run_id=run),
        answer(own.message, source=mercy.node.node_id, message_type="evaluate"),
        answer(own.message, source=mercy.node.node_id, group_id="2"),
    ):
        refused(lambda message=message: mercy.push(message))  # type: ignore[misc]
    assert link.answers(run, pulled.id) == []
    assert link.answers(other_run, own.id) == []
    # A message that waits for it, but was not handed out yet, is no message of its own either.
    waiting = link.send(other_run, mercy.node.node_id, content())
    refused(lambda: mercy.push(answer(own.message, source=mercy.node.node_id, reply_to_message_id=waiting)))


def test_a_message_is_answered_once_and_the_same_answer_may_come_again(
    link: SuperLinkHere, pair: tuple[RawNode, RawNode]
) -> None:
    mercy, _ = pair
    run, pulled = handed(link, mercy)
    first = answer(pulled.message, source=mercy.node.node_id, content=content(seed=1))
    assert mercy.push(first, objects=False)
    assert mercy.push(first), "a node whose connection broke could not go on"
    refused(lambda: mercy.push(answer(pulled.message, source=mercy.node.node_id, content=content(seed=2))))
    assert len(link.answers(run, pulled.id)) == 1


def test_what_was_never_handed_to_a_site_cannot_be_pulled_confirmed_or_asked_about(
    link: SuperLinkHere, pair: tuple[RawNode, RawNode]
) -> None:
    mercy, anna = pair
    run, pulled = handed(link, anna, confirm=False)
    for name in {pulled.id, *(child.object_id for child in pulled.tree.children)}:
        refused(lambda name=name: mercy.pull_object(run, name))  # type: ignore[misc]
    refused(lambda: mercy.confirm(run, pulled.id))
    assert anna.pull_object(run, pulled.id), "another site deleted it"
    refused(lambda: mercy.get_run(run))
    fab = GetFabRequest(node=anna.node, run_id=run, hash_str="\x1b[2J forged line")
    refused(lambda: anna.client.GetFab(fab))
    # Nor what st-anna answers.
    reply = answer(pulled.message, source=anna.node.node_id, content=content(seed=5))
    anna.push(reply)
    refused(lambda: mercy.pull_object(run, reply.metadata.message_id))
    refused(lambda: mercy.confirm(run, reply.metadata.message_id))
    assert len(link.answers(run, pulled.id)) == 1


def test_objects_are_taken_that_an_answer_of_ones_own_announced(
    link: SuperLinkHere, pair: tuple[RawNode, RawNode]
) -> None:
    mercy, anna = pair
    run, pulled = handed(link, anna)
    _, own = handed(link, mercy, run=run)
    reply = answer(pulled.message, source=anna.node.node_id, content=content(seed=7))
    names = anna.push(reply, objects=False)
    assert names
    data = b"x" * 100
    for node, session in ((mercy, ""), (anna, ""), (mercy, "0" * 36)):
        refused(lambda node=node, session=session: node.push_object(run, session, names[0], data))  # type: ignore[misc]
    mine = mercy.push(answer(own.message, source=mercy.node.node_id, content=content(seed=8)), objects=False)
    refused(lambda: mercy.push_object(run, "", mine[0], data))
    refused(lambda: mercy.push_object(run, "", hashlib.sha256(data).hexdigest(), data))


@pytest.mark.parametrize(
    "changes",
    [
        {"created_at": float("nan")},
        {"ttl": float("inf")},
        {"message_type": "t" * 300},
        {"group_id": "g" * 300},
        {"message_id": "0" * 64},
    ],
)
def test_a_head_that_is_none_is_refused(
    link: SuperLinkHere, pair: tuple[RawNode, RawNode], changes: dict[str, Any]
) -> None:
    mercy, _ = pair
    _, pulled = handed(link, mercy)
    refused(lambda: mercy.push(answer(pulled.message, source=mercy.node.node_id), **changes))


def test_trees_of_objects_are_bounded() -> None:
    def chain(deep: int) -> ObjectTree:
        tree = ObjectTree(object_id="0" * 64)
        for level in range(1, deep):
            tree = ObjectTree(object_id=f"{level:064x}", children=[tree])
        return tree

    assert door_replies.malformed_tree(chain(door_replies.DEEPEST)) is None
    assert "too deep" in str(door_replies.malformed_tree(chain(door_replies.DEEPEST + 1)))
    twice = ObjectTree(object_id="0" * 64, children=[ObjectTree(object_id="1" * 64)] * 2)
    for tree in (twice, ObjectTree(object_id="x" * 64), ObjectTree(object_id="../" * 10), ObjectTree()):
        assert "none" in str(door_replies.malformed_tree(tree))


def test_an_answer_has_no_more_objects_than_it_needs(link: SuperLinkHere, pair: tuple[RawNode, RawNode]) -> None:
    mercy, _ = pair
    _, pulled = handed(link, mercy)
    many = RecordDict({f"c{number}": ConfigRecord({"x": number}) for number in range(200)})
    refused(lambda: mercy.push(answer(pulled.message, source=mercy.node.node_id, content=many)))


def test_an_answer_is_no_larger_than_its_message_allows(link: SuperLinkHere, pair: tuple[RawNode, RawNode]) -> None:
    mercy, _ = pair
    run, pulled = handed(link, mercy, size=1000)
    # 4 MB for a message of 4 kB: refused by its length alone, before it is read.
    reply = answer(pulled.message, source=mercy.node.node_id, content=content(10**6))
    refused(lambda: mercy.push(reply), status=413)
    assert "sent more than it may" in why(link)
    assert mercy.push(answer(handed(link, mercy, run=run)[1].message, source=mercy.node.node_id, content=content(2000)))


def test_what_a_site_may_send_grows_with_what_it_is_sent(link: SuperLinkHere, pair: tuple[RawNode, RawNode]) -> None:
    mercy, _ = pair
    size = 3 * 10**6
    run, pulled = handed(link, mercy, size=size)
    assert mercy.push(answer(pulled.message, source=mercy.node.node_id, content=content(size, seed=1)))
    assert len(link.answers(run, pulled.id)) == 1


def test_what_a_site_already_had_counts_as_sent_to_it(link: SuperLinkHere, pair: tuple[RawNode, RawNode]) -> None:
    """A SuperNode does not pull again what it has of an earlier message: the same model, sent a second time."""
    mercy, _ = pair
    run, size = link.run(), 10**6
    link.send(run, mercy.node.node_id, content(size))
    pulled = mercy.pull()
    assert pulled is not None
    mercy.confirm(run, pulled.id)
    assert mercy.push(answer(pulled.message, source=mercy.node.node_id, content=content(size, seed=1)))


def test_an_update_under_masks_is_measured_by_the_model_it_was_trained_from(
    link: SuperLinkHere, pair: tuple[RawNode, RawNode]
) -> None:
    """The message that asks for it holds keys alone."""
    mercy, _ = pair
    size = 10**6
    trained, _ = handed(link, mercy, size=size)

    def asked(run: int, kind: str) -> Any:
        link.send(run, mercy.node.node_id, content(100, seed=2), kind=kind)
        pulled = mercy.pull()
        assert pulled is not None
        mercy.pull_all(pulled)
        mercy.confirm(run, pulled.id)
        return answer(pulled.message, source=mercy.node.node_id, content=content(size, seed=3))

    for run, kind in ((trained, "query.agree"), (link.run(), "train.mask")):
        reply = asked(run, kind)
        refused(lambda reply=reply: mercy.push(reply), status=413)
    assert mercy.push(asked(trained, "train.mask"))


def test_many_small_objects_come_to_the_same_bound(link: SuperLinkHere, pair: tuple[RawNode, RawNode]) -> None:
    mercy, _ = pair
    _, pulled = handed(link, mercy)
    arrays = ArrayRecord({str(each): Array(np.full(75_000, each, np.float32)) for each in range(10)})
    with pytest.raises(httpx.HTTPStatusError):
        mercy.push(answer(pulled.message, source=mercy.node.node_id, content=RecordDict({"arrays": arrays})))


def test_a_site_that_guesses_waits_and_the_log_stays_short(link: SuperLinkHere, pair: tuple[RawNode, RawNode]) -> None:
    mercy, anna = pair
    run, pulled = handed(link, anna)
    own = handed(link, mercy, run=run)[1]
    link.notes.flush()
    before = len(link.said)
    codes = []
    for number in range(120):
        guess = answer(own.message, source=mercy.node.node_id, reply_to_message_id=f"{number:064x}")
        with pytest.raises(httpx.HTTPStatusError) as caught:
            mercy.push(guess)
        codes.append(caught.value.response.status_code)
    assert codes[0] == 403
    assert codes[-1] == 429
    assert codes.count(403) == patience.TIMES
    link.notes.flush()
    said = link.said[before:]
    assert len(said) <= 4, said
    name = link.state.get_node_info(node_ids=[mercy.node.node_id])[0].name
    assert all(name in line for line in said)
    # The other site goes on undisturbed.
    assert anna.push(answer(pulled.message, source=anna.node.node_id, content=content(seed=3)))


def test_a_greeting_is_answered_without_a_word_in_any_log(link: SuperLinkHere) -> None:
    link.notes.flush()
    before = refusals(link.folder / "door.json")
    with closing(HTTPConnection("127.0.0.1", link.fleet)) as connection:
        connection.request("GET", "/")
        assert connection.getresponse().status == 404
    link.notes.flush()
    assert refusals(link.folder / "door.json") == before


def test_what_is_refused_stands_in_the_audit_log_and_the_status_with_the_sites_name(
    link: SuperLinkHere, pair: tuple[RawNode, RawNode]
) -> None:
    mercy, _ = pair
    evil = "\x1b[2J<script>"
    refused(lambda: mercy.pull_object(1, evil))
    link.notes.flush()
    name = link.state.get_node_info(node_ids=[mercy.node.node_id])[0].name
    rows = [row for row in refusals(link.folder / "door.json") if row["site"] == name]
    assert [row["why"] for row in rows] == ["asked for an object of no message of its own"]
    records = [json.loads(line) for line in link.audit.path.read_text().splitlines()]
    told = [each["details"] for each in records if each["event"] == "door-refused" and each["details"]["site"] == name]
    assert told[0]["count"] == 1
    assert evil not in link.audit.path.read_text() + (link.folder / "door.json").read_text() + "".join(link.said)
    verify(link.audit.path)


# -- heads of requests -------------------------------------------------------------------------------------------------


def raw(link: SuperLinkHere, path: str, *, method: str = "POST", **headers: str) -> int:
    """The answer to the head of a request; its body never comes."""
    connection = HTTPConnection("127.0.0.1", link.fleet, timeout=20)
    with closing(connection):
        connection.putrequest(method, path)
        for name, value in {"content_type": "application/protobuf", **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        return connection.getresponse().status


def test_without_a_login_nothing_is_read(link: SuperLinkHere) -> None:
    assert raw(link, "/v1/fleet/push-object", content_length="100000000000") == 401
    assert raw(link, "/v1/fleet/push-object", content_length="1" * 18) == 411
    assert raw(link, "/v1/fleet/push-object", content_length="-1") == 400
    for asked in sorted(FLEET_ASKED - {"activate-node"}):
        assert raw(link, FLEET + asked, content_length="0") == 401, asked
    # These two say in a node's log why it is refused.
    assert raw(link, "/v1/fleet/activate-node", content_length="0") == 412
    assert raw(link, "/v1/fleet/register-node", content_length="0") == 412
    stranger = RawNode(f"127.0.0.1:{link.fleet}", ec.generate_private_key(ec.SECP384R1()))
    refused(stranger.activate, status=412)
    # A key that is admitted, and a signature of another's.
    stranger.key = link.admit("kosmas").key
    public = base64.b64encode(stranger.public).decode()
    head = {"flwr_public_key": public, "flwr_signature": public, "flwr_timestamp": "2026-01-01T00:00:00+00:00"}
    assert raw(link, "/v1/fleet/pull-messages", content_length="0", **head) == 401


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/fleet/unregister-node", "/v1/fleet/x", "/v1/fleet", "/", "/docs", "/health"),
        *("//v1/fleet/pull-messages", "/v1/fleet/../control/start-run", "/v1/control/start-run", "/openapi.json"),
        *("/v1/runtime/acquire-task", "/v1/fleet/pull-messages/", "/V1/fleet/pull-messages"),
    ],
)
def test_from_outside_only_what_a_node_asks_is_served(link: SuperLinkHere, path: str) -> None:
    assert raw(link, path, content_length="0") == 404
    assert raw(link, "/v1/fleet/pull-messages", method="GET") == 404


def test_bodies_say_how_long_they_are_and_are_not_packed(link: SuperLinkHere) -> None:
    path = "/v1/fleet/push-object"
    assert raw(link, path, transfer_encoding="chunked") == 415
    assert raw(link, path) == 411
    assert raw(link, path, content_length="5", content_encoding="gzip") == 415
    assert raw(link, path, content_length="0", content_type="application/json") == 415


def test_flowers_fleet_serves_what_the_door_knows_and_no_more() -> None:
    """What a new Flower serves beside it stays shut until somebody has read what it does."""
    router = import_module("flwr.superlink.routers.fleet.router")
    served = {route.path.removeprefix(FLEET) for route in router.router.routes}
    assert served == FLEET_ASKED | {"register-node", "unregister-node"}
    used = {
        line.split("fleet_handlers.")[1].split("(")[0]
        for line in inspect.getsource(router).splitlines()
        if "return fleet_handlers." in line
    }
    assert used == {name for name in vars(flower_fleet.Fleet) if not name.startswith("_")} - {
        "largest",
        "is_impatient",
        "unready",
        "has_answer",
    }
    chunk = import_module("flwr.common.constant").FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
    assert chunk * 1.5 < door_replies.LARGEST_OBJECT, "Flower sends larger pieces than pass"


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_a_copy_of_a_key_works_not_beside_the_node_that_is_in_session(
    link: SuperLinkHere, pair: tuple[RawNode, RawNode]
) -> None:
    mercy, _ = pair
    run, pulled = handed(link, mercy)
    for sessions in (True, False):
        thief = RawNode(mercy.address, mercy.key, sessions=sessions)
        refused(thief.activate, status=412)
        thief.node = mercy.node
        for ask in (
            thief.pull,
            thief.beat,
            thief.deactivate,
            lambda thief=thief: thief.pull_object(run, pulled.id),
            lambda thief=thief: thief.push(answer(pulled.message, source=mercy.node.node_id)),
        ):
            refused(ask, status=409)  # type: ignore[arg-type]
        thief.close()
    assert mercy.beat()
    assert mercy.push(answer(pulled.message, source=mercy.node.node_id, content=content(seed=1)))
    assert mercy.others, "the site was not told"
    assert mercy.others[-1] >= 10
    name = link.state.get_node_info(node_ids=[mercy.node.node_id])[0].name
    assert f"{name} {SECOND_SESSION}" in why(link)


def test_a_second_activation_is_said_once_the_first_node_is_heard_again(link: SuperLinkHere) -> None:
    own = link.admit("lazarus")
    own.activate()
    again = RawNode(own.address, own.key)
    refused(again.activate, status=412)
    # A node that was killed is not heard again: no alarm for its own next life.
    assert f"lazarus {SECOND_SESSION}" not in why(link)
    own.beat()
    assert f"lazarus {SECOND_SESSION}" in why(link)
    own.beat()
    assert own.others == [1]


def test_a_node_that_took_its_leave_gives_way_to_its_next_life(link: SuperLinkHere) -> None:
    own = link.admit("phoenix")
    own.activate()
    own.deactivate()
    again = RawNode(own.address, own.key)
    again.activate()
    assert again.beat()
    refused(own.beat, status=409)


def test_a_stock_node_works_without_a_session(link: SuperLinkHere) -> None:
    key = link.admit("stock").key
    stock = RawNode(f"127.0.0.1:{link.fleet}", key, sessions=False)
    stock.activate()
    assert stock.beat()
    assert handed(link, stock)[1].id
