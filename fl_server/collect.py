"""Sending messages and gathering replies, with a deadline and by the name of the site."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from medveil.bounded import word
from medveil.errors import FederationError
from medveil.flower import ErrorCode
from medveil.flower_grids import is_simulated
from medveil.log import logger
from medveil.pace import Pace
from medveil.signed_messages import refusal_in

_POLL_SECONDS = 0.1
_LONGEST_S = 1.0
_RAISED = re.compile(r"^<class '[^']*'>:<'(.*)'>$", re.DOTALL)
_KIND = re.compile(r"^<class '(?:\w+\.)*(\w+)'>")
_LONGEST_REASON = 400
_log = logger("server")


@dataclass(frozen=True)
class Reply:
    """What came of one message: content, or the reason why there is none."""

    node: int
    site: str
    message: Message | None = None
    problem: str | None = None


def said(problem: str | None) -> str:
    """What a site reported, without Flower's wrapping, control characters and excess length."""
    text = problem or "no reason given"
    raised = _RAISED.match(text)
    text = raised.group(1) if raised else text
    text = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


class Nodes:
    """As much of a grid as a strategy asks: the nodes it may choose from, settled beforehand.

    Asked directly, Flower's strategies wait without limit for a minimum of nodes, and sample from any order.
    """

    def __init__(self, nodes: Iterable[int]) -> None:
        self._nodes = list(nodes)

    def get_node_ids(self) -> list[int]:
        """The nodes, in the order given."""
        return list(self._nodes)


class Collector:
    """Sends messages to sites and waits for what they answer.

    A late reply is never counted for a later round; the site it comes from gets no new message until it has come,
    because a site works through its messages one by one and would stay late for ever.

    Parameters
    ----------
    grid
        Flower's grid.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._names: dict[int, str] = {}
        self._owed: dict[str, int] = {}

    def know(self, names: Mapping[int, str]) -> None:
        """Learn the site name of each node id; from here on only these nodes take part."""
        self._names = dict(names)

    def name(self, node: int) -> str:
        """The site of a node; before the preflight what Flower calls it, or its id."""
        if node in self._names:
            return self._names[node]
        called = next((info.name for info in self._grid.get_nodes() if info.node_id == node), "")
        return called or f"node {node}"

    def registered(self) -> dict[int, str]:
        """The name each node was registered under; none for nodes that were registered without one."""
        return {info.node_id: info.name for info in self._grid.get_nodes() if info.name}

    def online(self) -> list[int]:
        """Node ids that are connected, known (once any are) and owe no reply; in the order of their sites' names."""
        self._forgive()
        busy = set(self._owed.values())
        nodes = [node for node in self._grid.get_node_ids() if node not in busy]
        if self._names:
            nodes = [node for node in nodes if node in self._names]
        return sorted(nodes, key=lambda node: (self._names.get(node, ""), node))

    def wait_until(self, enough: Callable[[int], bool], *, seconds: float) -> list[int]:
        """Wait for enough nodes to be online, `seconds` at most.

        Returns
        -------
        list of int
            The nodes that are online then, enough or not.
        """
        end = time.monotonic() + seconds
        while not enough(len(nodes := self.online())) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        return nodes

    def collect(
        self, messages: Iterable[Message], *, seconds: float, on_reply: Callable[[Reply], None] | None = None
    ) -> list[Reply]:
        """Send messages and gather what comes back within `seconds`.

        Parameters
        ----------
        messages
            One message a node at most.
        on_reply
            Called with each reply as it arrives.

        Returns
        -------
        list of Reply
            One for every message, sorted by site; a missing reply is one with a problem.

        Raises
        ------
        FederationError
            A simulation lost one of its processes.
        """
        outgoing = list(messages)
        sent = set(self._grid.push_messages(outgoing))
        went = [message.metadata.message_id in sent for message in outgoing]
        waiting = {
            message.metadata.message_id: message.metadata.dst_node_id
            for message, did in zip(outgoing, went, strict=True)
            if did
        }
        replies: list[Reply] = []

        def took(reply: Reply) -> None:
            replies.append(reply)
            if on_reply is not None:
                on_reply(reply)

        for message, did in zip(outgoing, went, strict=True):
            if not did:
                took(self._failed(message.metadata.dst_node_id, "the message could not be sent"))
        for reply in self._arrivals(waiting, seconds):
            took(reply)
        for late, node in waiting.items():
            self._owed[late] = node
            took(self._failed(node, f"no reply within {seconds:g} s"))
        return sorted(replies, key=lambda reply: (reply.site, reply.node))

    def _arrivals(self, waiting: dict[str, int], seconds: float) -> Iterable[Reply]:
        """Yield replies as they come, taking each from `waiting`, until none is left or the time is up."""
        end, pace = time.monotonic() + seconds, Pace(_POLL_SECONDS)
        while waiting:
            looked = time.monotonic()
            arrived = list(self._grid.pull_messages(list(waiting)))
            for message in arrived:
                node = waiting.pop(message.metadata.reply_to_message_id, None)
                if node is not None:
                    yield self._reply(node, message)
            # That a node was away shows only until it is back: whoever asks between rounds alone may never learn that a
            # reply it owed was lost with it, and would ask it nothing more in this run.
            self._forgive()
            now = time.monotonic()
            left = end - now
            if left <= 0:
                return
            if waiting and not arrived:
                # A SuperLink that is busy with what is waited for is asked less often.
                time.sleep(min(pace.wait(now - looked), _LONGEST_S, left))

    def _reply(self, node: int, message: Message) -> Reply:
        if message.has_error():
            self._refuse_lost(node, message)
            # A node that went away is reported in the SuperLink's own name: only our record knows whose reply this is.
            return self._failed(node, message.error.reason or f"error code {message.error.code}")
        if message.metadata.src_node_id != node:
            return self._failed(node, f"node {message.metadata.src_node_id} replied in its place")
        refused = refusal_in(message)
        if refused is not None:
            return self._failed(node, refused[0])
        return Reply(node, self.name(node), message=message)

    def _refuse_lost(self, node: int, message: Message) -> None:
        """End a simulation that lost a process: Flower would hand it message after message, each lost at once."""
        if message.error.code != ErrorCode.UNKNOWN or not is_simulated(self._grid):
            return
        kind = _KIND.match(message.error.reason or "")
        problem = f"Ray lost the actor that served it ({word(kind[1]) if kind else 'no reason given'})"
        raise FederationError(problem, where=self.name(node), cure="see Ray's logs; --resume RUN goes on")

    def _failed(self, node: int, problem: str) -> Reply:
        return Reply(node, self.name(node), problem=problem)

    def _forgive(self) -> None:
        """Take in late replies: their rounds are over, but their sites may be asked again."""
        while self._owed and (late := list(self._grid.pull_messages(list(self._owed)))):
            for message in late:
                node = self._owed.pop(message.metadata.reply_to_message_id, None)
                if node is not None:
                    _log.warning("%s: a late reply was left out; its round had closed", self.name(node))
