"""Sites and a server that aggregate in one process, with a ledger of each on disk, for tests of the protocol.

What passes between them goes through the records it travels in.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord

from fl_client.secagg.ledger import Ledger
from fl_client.secagg.member import Member
from fl_server.secagg.aggregator import Aggregator, Sum
from medveil.secagg import records
from medveil.secagg.fixed import FixedPoint, clipped
from medveil.secagg.members import Join, members_in, members_record
from medveil.secagg.roster import Roster
from medveil.secagg.rounds import Masked, Offer, Offered, Task
from medveil.signing import SigningKey

CLIP = 2.0
MODEL = bytes(range(32))
_LINE = {"round": 1, "site": "s0", "phase": "train", "loss": 0.5, "accuracy": None, "balanced_accuracy": None}
HEARD = {
    "metrics": {"s0": {"train-loss": 0.5, "train-auroc": None}},
    "lines": [{**_LINE, "auroc": None, "n": 8, "seconds": 1.5, "bytes_up": 0, "bytes_down": 4}],
    **{"moved_up": 8, "bytes_up": 12, "bytes_down": 16, "seconds": 2.5},
}
"""What replies said besides, as `fl_server.recorder.Recorder.heard`."""


def sent(record: dict[str, Any]) -> dict[str, Any]:
    """A record as it comes out at the other end."""
    return dict(ConfigRecord(record))


@dataclass
class World:
    """A consortium in one run."""

    folder: Path
    sites: int = 5
    colluding: int = 0
    bits: int = 32
    size: int = 40
    run: str = field(default_factory=lambda: str(uuid.uuid4()))
    examples: list[int] = field(default_factory=list)
    least_sites: int = 2
    most_share: float = 0.5

    def __post_init__(self) -> None:
        self.names = [f"s{i}" for i in range(self.sites)]
        self.keys = {name: SigningKey.from_secret(bytes([i + 1]) * 32) for i, name in enumerate(self.names)}
        self.roster = Roster({name: key.public for name, key in self.keys.items()}, self.colluding)
        self.members = {name: self.member(name) for name in self.names}
        counts = self.examples or [100] * self.sites
        self.joins: tuple[Join, ...] = tuple(
            member.join(count) for member, count in zip(self.members.values(), counts, strict=True)
        )
        drawn = np.random.default_rng(1)
        self.updates = {name: drawn.normal(0, 0.01, self.size).astype(np.float32) for name in self.names}

    def member(self, name: str) -> Member:
        """A site as its process begins: what it knows is on its disk."""
        return Member(
            name=name,
            identity=self.keys[name],
            roster=self.roster,
            run=self.run,
            ledger=self.ledger(name),
            clip=CLIP,
            bits=self.bits,
            least_sites=self.least_sites,
            most_share=self.most_share,
        )

    def ledger(self, name: str) -> Ledger:
        return Ledger(self.folder / name / "ledger.sealed", run=self.run, subkey=name.encode().ljust(32, b"k"))

    def restart(self, name: str) -> Member:
        self.members[name] = self.member(name)
        return self.members[name]

    def task(self, number: int = 1, attempt: int = 0, content: bytes = MODEL) -> Task:
        shown = members_in(sent(members_record(self.joins)))
        return Task(self.run, number, attempt, content, tuple(shown))

    def aggregator(self, task: Task, sums: int = 2) -> Aggregator:
        return Aggregator(task, self.roster, size=self.size, sums=sums, clip=CLIP, bits=self.bits)

    def plain(self, task: Task, names: Iterable[str]) -> np.ndarray:
        """The sum of what these sites would give without masks, modulo 2^bits."""
        fixed = FixedPoint(CLIP, self.bits, len(task.joins))
        total = np.zeros(self.size, np.uint32)
        for name in names:
            total += fixed.encode(clipped(self.updates[name], CLIP)[0], task.weight([name]))
        return total & fixed.mask


@dataclass
class Going:
    """An attempt as far as it has come."""

    world: World
    task: Task
    aggregator: Aggregator
    offered: dict[str, Offered] = field(default_factory=dict)

    @classmethod
    def begin(cls, world: World, task: Task | None = None, *, offering: Iterable[str] | None = None) -> Going:
        task = task or world.task()
        made = cls(world, task, world.aggregator(task))
        for name in world.names if offering is None else offering:
            answer = {key: sent(each) for key, each in records.offered_records(world.members[name].offer(task)).items()}
            made.offered[name] = records.offered_in(answer[records.OFFER], answer[records.SEALED], name)
            made.aggregator.offer(name, made.offered[name])
        return made

    def sealed_for(self, name: str) -> dict[str, bytes]:
        return records.sealed_in(sent(records.sealed_record(self.aggregator.sealed_for(name))))

    def offers(self) -> list[Offer]:
        return records.offers_in(sent(records.offers_record(self.aggregator.offers())))

    def mask(self, name: str, sums: tuple[float, float] = (1.5, -2.0)) -> Masked:
        update = self.world.updates[name]
        return self.world.members[name].mask(self.task, self.offers(), self.sealed_for(name), update, sums)

    def masked(self, names: Iterable[str]) -> tuple[str, ...]:
        """Have these sites mask; who is left."""
        for name in names:
            made = self.mask(name)
            self.aggregator.masked(name, made.packed, records.sums_in(sent(records.sums_record(made.sums))))
        return self.aggregator.survivors()

    def agree(self, name: str, survivors: Collection[str] | None = None) -> bytes:
        wanted = list(self.aggregator.survivors() if survivors is None else survivors)
        return self.world.members[name].agree(self.task, self.offers(), wanted)

    def agreed(self, names: Iterable[str]) -> dict[str, bytes]:
        for name in names:
            self.aggregator.agreed(name, self.agree(name))
        return self.aggregator.signatures()

    def unmask(
        self, name: str, signatures: dict[str, bytes], survivors: Collection[str] | None = None
    ) -> dict[str, bytes]:
        wanted = list(self.aggregator.survivors() if survivors is None else survivors)
        return self.world.members[name].unmask(
            self.task, self.aggregator.offers(), wanted, signatures, self.sealed_for(name)
        )

    def opened(self, names: Iterable[str]) -> Sum:
        """Have these sites help to open what was agreed to."""
        left = sent(records.left_record(self.aggregator.survivors(), self.aggregator.signatures()))
        survivors, signatures = records.left_in(left)
        for name in names:
            shares = self.unmask(name, signatures, survivors)
            self.aggregator.helped(name, records.shares_in(sent(records.shares_record(shares))))
        return self.aggregator.open()
