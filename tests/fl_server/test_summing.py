"""The server between offers and a sum: whatever a site answers costs that site its place, and nobody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from secagg_made import CLIP, HEARD, World

from fl_server.collect import Reply
from fl_server.secagg.summing import Summing
from medveil.contract import ARRAYS, CONFIG, RunConfig
from medveil.errors import AggregationError
from medveil.flower import be_task
from medveil.kinds import AGREE, MASK, TRAIN, UNMASK
from medveil.secagg import records
from medveil.secagg.config import SecAggConfig
from medveil.secagg.members import MEMBERS, members_in
from medveil.secagg.rounds import Task
from medveil.secagg.sums import count_of, means_of, summands
from medveil.summed_messages import MASKED

METRICS = {"validation-n": 10.0, "validation-loss": 0.25}
Spoil = Callable[[str, str, RecordDict], RecordDict]


class Sites:
    """The sites of a world behind the messages of a server; `spoil` makes of an answer what it likes."""

    def __init__(self, world: World, spoil: Spoil = lambda kind, name, content: content, **limits: float) -> None:
        be_task(run_id=1, node_id=1)
        self.world, self.spoil = world, spoil
        self.nodes = {name: number for number, name in enumerate(world.names, 2)}
        self.agreed: list[dict[str, Any]] = []
        secagg = SecAggConfig(on=True, clip=CLIP, bits=world.bits, colluding=world.roster.colluding)
        run = RunConfig(run=world.run, kind="delta", secagg=secagg, roster=world.roster.fingerprint)
        self.summing = Summing(
            run,
            world.roster,
            joins=world.joins,
            nodes=self.nodes,
            settings="settings",
            folder=world.folder,
            attempts={},
            note=lambda attempts: None,
            record=lambda event, details: self.agreed.append(details),
            fewest=int(limits.get("fewest", 0)),
            most_share=limits.get("most_share", 1.0),
        )

    def messages(self) -> list[Message]:
        content = {
            ARRAYS: ArrayRecord({"w": Array(np.zeros(3, np.float32))}),
            CONFIG: ConfigRecord({"server-round": 1}),
        }
        return [Message(RecordDict(dict(content)), node, TRAIN) for node in self.nodes.values()]

    def replies(self, messages: list[Message]) -> list[Reply]:
        names = {node: name for name, node in self.nodes.items()}
        made = []
        for message in messages:
            name = names[message.metadata.dst_node_id]
            content = self.spoil(message.metadata.message_type, name, self.honest(name, message))
            reply = Message(content, message.metadata.dst_node_id, message.metadata.message_type)
            made.append(Reply(message.metadata.dst_node_id, name, message=reply))
        return made

    def honest(self, name: str, message: Message) -> RecordDict:
        member, content, kind = self.world.members[name], message.content, message.metadata.message_type
        found: dict[str, Any] = {key: dict(record) for key, record in content.config_records.items()}
        task: Task = records.task_in(found[records.TASK], run=self.world.run, joins=members_in(found[MEMBERS]))
        if kind == TRAIN:
            given = records.offered_records(member.offer(task))
            return RecordDict({key: ConfigRecord(values) for key, values in given.items()})
        offers = records.offers_in(found[records.OFFERS])
        if kind == AGREE:
            signed = member.agree(task, offers, records.left_in(found[records.LEFT])[0])
            return RecordDict({records.AGREED: ConfigRecord(records.agreed_record(signed))})
        sealed = records.sealed_in(found[records.SEALED])
        if kind == UNMASK:
            shares = member.unmask(task, offers, *records.left_in(found[records.LEFT]), sealed)
            return RecordDict({records.SHARES: ConfigRecord(records.shares_record(shares))})
        sums = summands(TRAIN, METRICS, clipped=name == "s0")
        made = member.mask(task, offers, sealed, self.world.updates[name], sums)
        summed = ConfigRecord(records.sums_record(made.sums))
        return RecordDict({ARRAYS: ArrayRecord({MASKED: Array(made.packed)}), records.SUMS: summed})

    def open(self) -> tuple[Any, dict[str, str]]:
        messages, lost = self.messages(), dict[str, str]()
        task = self.summing.begin(1, messages)

        def ask(messages: list[Message], *, step: str, on_reply: Callable[[Reply], None]) -> None:
            for reply in self.replies(messages):
                on_reply(reply)

        size = self.world.size
        return self.summing.opened(
            task,
            self.replies(messages),
            size=size,
            sums=count_of(TRAIN),
            ask=ask,
            lost=lost,
            heard=lambda: HEARD,
        ), lost


def test_a_sum_is_opened_and_taken_down(tmp_path: Path) -> None:
    sites = Sites(World(tmp_path))
    opened, lost = sites.open()
    assert opened.sum.survivors == tuple(sites.world.names)
    assert (opened.sum.residues == sites.world.plain(sites.world.task(), sites.world.names)).all()
    assert means_of(TRAIN, opened.sum.sums).metrics["validation-loss"] == pytest.approx(0.25)
    assert means_of(TRAIN, opened.sum.sums).clipped == 1
    assert not lost
    (agreed,) = sites.agreed
    assert (agreed["round"], agreed["attempt"], agreed["left"]) == (1, 0, sites.world.names)
    assert len(agreed["signatures"]) == 5


def replaced(name: str, record: Any) -> Callable[[RecordDict], RecordDict]:
    def made(content: RecordDict) -> RecordDict:
        content[name] = record
        return content

    return made


def without(name: str) -> Callable[[RecordDict], RecordDict]:
    return lambda content: RecordDict({key: record for key, record in content.items() if key != name})


def arrays(*made: np.ndarray) -> ArrayRecord:
    return ArrayRecord({MASKED if number == 0 else f"more{number}": Array(each) for number, each in enumerate(made)})


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        (TRAIN, without(records.SEALED), "the reply has no record 'sealed'"),
        (TRAIN, replaced(records.OFFER, ConfigRecord({"round": 1})), "its record 'offer' is not what it should be"),
        (TRAIN, replaced(ARRAYS, arrays(np.ones(40, np.float32))), "carries tensors, and an update goes under masks"),
        (TRAIN, replaced(records.SEALED, ConfigRecord(records.sealed_record({}))), "did not seal shares to every site"),
        (MASK, without(ARRAYS), "the reply carries no masked update"),
        (MASK, without(records.SUMS), "the reply has no record 'sums'"),
        (MASK, replaced(ARRAYS, arrays(np.ones(40, np.float32))), "tensor 'masked' has shape"),
        (MASK, replaced(ARRAYS, arrays(np.ones(160, np.int8))), "tensor 'masked' is int8, wanted uint8"),
        (MASK, replaced(ARRAYS, arrays(np.ones(161, np.uint8))), "tensor 'masked' has shape"),
        (MASK, replaced(ARRAYS, arrays(*[np.ones(160, np.uint8)] * 2)), "1 tensors were not asked for"),
        (MASK, replaced(records.SUMS, ConfigRecord({"sums": b"odd"})), "its record 'sums' is not what it should be"),
        (MASK, replaced(records.SUMS, ConfigRecord({"sums": bytes(8)})), f"gives other than {count_of(TRAIN)} sums"),
    ],
)
def test_an_odd_answer_costs_its_site_alone(
    tmp_path: Path, kind: str, change: Callable[[RecordDict], RecordDict], says: str
) -> None:
    sites = Sites(World(tmp_path), lambda of, name, content: change(content) if (of, name) == (kind, "s4") else content)
    opened, lost = sites.open()
    assert opened.sum.survivors == ("s0", "s1", "s2", "s3")
    assert (opened.sum.residues == sites.world.plain(sites.world.task(), opened.sum.survivors)).all()
    assert list(lost) == ["s4"]
    assert says in lost["s4"]


@pytest.mark.parametrize(
    ("limits", "reason"), [({"fewest": 6}, "few"), ({"most_share": 0.5}, "share")], ids=["few", "share"]
)
def test_a_sum_that_no_model_would_be_made_of_is_agreed_on_by_nobody_and_can_be_had_again(
    tmp_path: Path, limits: dict[str, float], reason: str
) -> None:
    world = World(tmp_path, sites=6, examples=[450, 110, 110, 110, 110, 110])
    broken = [True]

    def spoil(kind: str, name: str, content: RecordDict) -> RecordDict:
        return RecordDict() if broken[0] and (kind, name) == (MASK, "s5") else content

    sites = Sites(world, spoil, **limits)
    with pytest.raises(AggregationError) as refused:
        sites.open()
    assert refused.value.reason == reason
    assert sites.agreed == []
    broken[0] = False
    opened, _ = sites.open()
    assert opened.sum.survivors == tuple(world.names)


@pytest.mark.parametrize(("kind", "name"), [(AGREE, records.AGREED), (UNMASK, records.SHARES)])
def test_who_does_not_help_is_in_the_sum_all_the_same(
    tmp_path: Path, kind: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    spoil = replaced(name, ConfigRecord({"signature": bytes(64)}))
    sites = Sites(World(tmp_path), lambda of, site, content: spoil(content) if (of, site) == (kind, "s4") else content)
    opened, lost = sites.open()
    assert (opened.sum.survivors, lost) == (tuple(sites.world.names), {})
    assert "s4 did not help to open the sum" in caplog.text


def test_what_is_left_behind_is_of_the_same_model_alone(tmp_path: Path) -> None:
    sites = Sites(World(tmp_path), lambda of, name, content: RecordDict() if of == UNMASK else content)
    with pytest.raises(AggregationError, match="0 sites helped, and 3 must"):
        sites.open()
    left = sites.summing.left_behind(1, sites.messages())
    assert left is not None
    assert left.agreed.survivors == tuple(sites.world.names)
    assert (left.heard, left.lost) == (HEARD, {})
    other = sites.messages()
    other[0].content[CONFIG] = ConfigRecord({"server-round": 2})
    assert sites.summing.left_behind(1, other) is None
    assert sites.summing.left_behind(2, sites.messages()) is None
    path = next((tmp_path / "sums").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    assert sites.summing.left_behind(1, sites.messages()) is None
    sites.summing.forget(1)
    assert not list((tmp_path / "sums").iterdir())
