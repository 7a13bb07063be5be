"""The sums of one run: what is asked of sites after they trained or measured, until the mean of all is open.

A site that is lost on the way costs nothing while enough are left: its offer tells how to take its masks off the sum.
Where too few are, the attempt is lost, and the run ends in words. What sites agreed to open is on disk before they are
asked for shares, and a run that is taken up opens it before anything else: with other sites it never could.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from flwr.app import ConfigRecord, Message, RecordDict

from fl_server.collect import Reply, said
from fl_server.faults import reading
from fl_server.secagg import kept
from fl_server.secagg.aggregator import Aggregator, Agreed, Sum
from fl_server.secagg.kept import Kept
from medveil.contract import ARRAYS, CONFIG, ROUND, RunConfig
from medveil.errors import AggregationError, FederationError, IntegrityError
from medveil.kinds import AGREE, END, MASK, UNMASK
from medveil.log import logger
from medveil.received import arrays_of
from medveil.secagg import records
from medveil.secagg.fixed import packed_bytes
from medveil.secagg.members import MEMBERS, Join, members_record, share_of
from medveil.secagg.roster import Roster
from medveil.secagg.rounds import Offered, Task, transcript_of
from medveil.secagg.sums import TRAIN
from medveil.summed_messages import MASKED, about, content_of

_FOLDER = "sums"
_log = logger("server")


class Ask(Protocol):
    """Sends messages of one step, and hands each reply over as it comes."""

    def __call__(self, messages: list[Message], *, step: str, on_reply: Callable[[Reply], None]) -> None:
        """Return when all have come that will."""


@dataclass(frozen=True)
class Opened:
    """A sum, and what it took.

    Parameters
    ----------
    sum
        What was opened.
    like
        A reply of a site in it.
    """

    sum: Sum
    like: Message


class Summing:
    """One run's.

    Parameters
    ----------
    run, roster
        What sites must agree with, and who they may be.
    joins
        What the sites that take part signed.
    nodes
        Node id of each site.
    settings
        Digest of the run's settings, as `medveil.audit_messages.digest_of_config`.
    folder
        Of the run.
    attempts
        How often each sum was begun.
    note
        Hears how often, before sites do.
    record
        Takes down what sites agreed to open: an event, and its details.
    fewest
        Fewest updates that a sum is opened of, where the roster asks for no more.
    most_share
        Most that one site may be of a sum of updates.
    """

    def __init__(
        self,
        run: RunConfig,
        roster: Roster,
        *,
        joins: Iterable[Join],
        nodes: Mapping[str, int],
        settings: str,
        folder: Path,
        attempts: Mapping[str, int],
        note: Callable[[dict[str, int]], None],
        record: Callable[[str, dict[str, Any]], None],
        fewest: int = 0,
        most_share: float = 1.0,
    ) -> None:
        self._fewest, self._most_share = fewest, most_share
        self._run, self._roster, self._joins, self._nodes = run, roster, tuple(joins), dict(nodes)
        self._settings, self._folder = settings, folder / _FOLDER
        self._attempts, self._note, self._record = dict(attempts), note, record

    def begin(self, number: int, messages: list[Message]) -> Task:
        """Make a new attempt at a sum of what these messages ask for, and put the task into them."""
        attempt = self._attempts.get(str(number), -1) + 1
        self._attempts[str(number)] = attempt
        self._note(dict(self._attempts))
        task = Task(self._run.run, number, attempt, self._content(messages), self._joins)
        for message in messages:
            for name, record in self._about(task).items():
                message.content[name] = record
        return task

    def opened(
        self,
        task: Task,
        replies: Iterable[Reply],
        *,
        size: int,
        sums: int,
        ask: Ask,
        lost: dict[str, str],
        heard: Callable[[], Mapping[str, Any]],
    ) -> Opened:
        """From the offers in these replies to the sum.

        Parameters
        ----------
        task
            As `begin` gave it.
        replies
            To its messages, those with content.
        size
            Numbers in an update.
        sums
            Numbers that are summed beside it.
        ask
            Asks sites.
        lost
            The reason is added to it for each site that was asked and is not in the sum.
        heard
            Gives what replies said besides, which is kept with what is agreed.

        Raises
        ------
        AggregationError
            Too few are left to open it, or what was opened cannot be; which step and why.
        StorageError
            What was agreed to cannot be written.
        """
        secagg = self._run.secagg
        aggregator = Aggregator(task, self._roster, size=size, sums=sums, clip=secagg.clip, bits=secagg.bits)
        for reply in replies:
            _taking(reply, lost, lambda content, name: aggregator.offer(name, _offered(content, name)))
        offers = records.offers_record(aggregator.offers())

        def masked(content: RecordDict, name: str) -> None:
            sums_ = records.sums_in(_record(content, records.SUMS))
            aggregator.masked(name, _packed(content, packed_bytes(secagg.bits, size)), sums_)
            # All that is wanted of it is in the sum: as many vectors as sites would not fit into memory.
            del content.array_records[ARRAYS]

        asked = [
            self._message(MASK, task, name, {records.OFFERS: offers, records.SEALED: _sealed(aggregator, name)})
            for name in offers["site"]
        ]
        ask(asked, step="masking", on_reply=lambda reply: _taking(reply, lost, masked))
        survivors = aggregator.survivors()
        self._refuse_unwanted(task, survivors)
        left = records.left_record(survivors)
        asked = [self._message(AGREE, task, name, {records.OFFERS: offers, records.LEFT: left}) for name in survivors]

        def agreed(content: RecordDict, name: str) -> None:
            aggregator.agreed(name, records.agreed_in(_record(content, records.AGREED)))

        ask(asked, step="agreeing", on_reply=lambda reply: _taking(reply, None, agreed))
        agreement = aggregator.kept()
        self._record("sum-agreed", self._said(task, aggregator))
        kept.save(self._path(task.number), agreement, heard=heard(), lost=lost)
        return self._unmasked(task, aggregator, ask)

    def left_behind(self, number: int, messages: list[Message]) -> Kept | None:
        """What sites agreed to open for these messages, and was not opened; None where there is nothing of the kind."""
        path = self._path(number)
        if not path.exists():
            return None
        try:
            found = kept.load(path)
        except IntegrityError as error:
            _log.warning("the sum is begun anew, with the sites that agreed to it alone: %s", error)
            return None
        return found if found.agreed.task.content == self._content(messages) else None

    def finished(self, agreed: Agreed, *, ask: Ask) -> Opened:
        """Open what was left behind; errors as `opened`."""
        secagg = self._run.secagg
        aggregator = Aggregator.finishing(agreed, self._roster, clip=secagg.clip, bits=secagg.bits)
        return self._unmasked(agreed.task, aggregator, ask)

    def forget(self, number: int) -> None:
        """Remove what was kept of a sum whose mean is safe elsewhere."""
        kept.remove(self._path(number))

    def leave(self, round_: int, online: Iterable[int]) -> list[Message]:
        """What tells sites that no sum follows those of this round; they erase the key that opens their shares."""
        content = {CONFIG: ConfigRecord({ROUND: round_})}
        return [
            Message(RecordDict({**content}), message_type=END, dst_node_id=node, group_id=str(round_))
            for node in online
            if node in self._nodes.values()
        ]

    # -- inside --------------------------------------------------------------------------------------------------------

    def _unmasked(self, task: Task, aggregator: Aggregator, ask: Ask) -> Opened:
        survivors, helpers = aggregator.survivors(), list[Message]()
        offers = records.offers_record(aggregator.offers())
        left = records.left_record(survivors, aggregator.signatures())
        asked = [
            self._message(
                UNMASK,
                task,
                name,
                {records.OFFERS: offers, records.LEFT: left, records.SEALED: _sealed(aggregator, name)},
            )
            for name in survivors
            if name in self._nodes
        ]

        def helped(content: RecordDict, name: str) -> None:
            aggregator.helped(name, records.shares_in(_record(content, records.SHARES)))

        def took(reply: Reply) -> None:
            helpers.extend([reply.message] if reply.message is not None else [])
            _taking(reply, None, helped)

        ask(asked, step="opening", on_reply=took)
        return Opened(aggregator.open(), helpers[0])

    def _refuse_unwanted(self, task: Task, survivors: Sequence[str]) -> None:
        """Refuse a sum of updates that no model would be made of, before sites agree to it: they do so once a round."""
        kind, round_ = about(task.number)
        if kind != TRAIN:
            return
        if len(survivors) < self._fewest:
            problem = f"{len(survivors)} sites are left, and server.min_updates is {self._fewest}: the attempt is lost"
            raise AggregationError(problem, where=f"round {round_}", reason="few")
        left = [each for each in task.joins if each.name in survivors]
        largest = max(survivors, key=lambda name: share_of(name, left))
        share = share_of(largest, left)
        if share > self._most_share:
            problem = f"'{largest}' has {100 * share:.3g} % of the images of the sites that are left"
            raise AggregationError(f"{problem}: the attempt is lost", where=f"round {round_}", reason="share")

    def _content(self, messages: list[Message]) -> bytes:
        # Strategies send every site the same; one that was sent another would make no offer for it.
        return content_of(messages[0].content, self._settings)

    def _about(self, task: Task) -> RecordDict:
        members = ConfigRecord(members_record(task.joins))
        return RecordDict({MEMBERS: members, records.TASK: ConfigRecord(records.task_record(task))})

    def _message(self, kind: str, task: Task, name: str, more: Mapping[str, Mapping[str, Any]]) -> Message:
        _, round_ = about(task.number)
        content = self._about(task)
        content[CONFIG] = ConfigRecord({ROUND: round_})
        for record, values in more.items():
            content[record] = ConfigRecord(dict(values))
        return Message(content, message_type=kind, dst_node_id=self._nodes[name], group_id=str(round_))

    def _said(self, task: Task, aggregator: Aggregator) -> dict[str, Any]:
        kind, round_ = about(task.number)
        offers = aggregator.offers()
        return {
            "run": task.run,
            "of": kind,
            "round": round_,
            "attempt": task.attempt,
            "roster": self._roster.fingerprint,
            "transcript": transcript_of(task.round, self._roster, offers).hex(),
            "offered": [each.name for each in offers],
            "left": list(aggregator.survivors()),
            "signatures": {name: signed.hex() for name, signed in aggregator.signatures().items()},
        }

    def _path(self, number: int) -> Path:
        kind, round_ = about(number)
        return self._folder / f"{kind}-{round_:04d}.json"


def _taking(reply: Reply, lost: dict[str, str] | None, take: Callable[[RecordDict, str], None]) -> None:
    """Take what a site answered; one that did not, or wrongly, is lost, or where that costs nothing, logged."""
    problem = reply.problem
    if reply.message is not None:
        try:
            with reading(reply.site):
                take(reply.message.content, reply.site)
        except FederationError as error:
            problem = error.problem
        else:
            return
    if lost is None:
        _log.warning("%s did not help to open the sum: %s", reply.site, said(problem))
    else:
        lost[reply.site] = said(problem)


def _record(content: RecordDict, name: str) -> dict[str, Any]:
    found = content.config_records.get(name)
    if found is None:
        raise FederationError(f"the reply has no record '{name}'")
    return dict(found)


def _offered(content: RecordDict, name: str) -> Offered:
    if content.array_records:
        raise FederationError("the reply carries tensors, and an update goes under masks")
    return records.offered_in(_record(content, records.OFFER), _record(content, records.SEALED), name)


def _packed(content: RecordDict, length: int) -> npt.NDArray[np.uint8]:
    if list(content.array_records) != [ARRAYS]:
        raise FederationError("the reply carries no masked update")
    found = arrays_of(content.array_records[ARRAYS], {MASKED: (length,)}, np.dtype(np.uint8))
    return found[MASKED].view(np.uint8)


def _sealed(aggregator: Aggregator, name: str) -> dict[str, Any]:
    return records.sealed_record(aggregator.sealed_for(name))
