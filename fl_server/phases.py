"""One phase of a run: messages out, replies in, each written down as it comes; and whom a phase went on without."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flwr.app import Message

from fl_server.arrays import payload
from fl_server.collect import Collector, Reply, said
from fl_server.manifest import Manifest
from fl_server.recorder import VALIDATE, Recorder
from fl_server.watch import Watcher
from medveil.counting import STATISTICS
from medveil.log import logger

_STAGES = {VALIDATE: "validating the model", "evaluate": "measuring the final model", STATISTICS: "counting images"}
_log = logger("server")


class Phases:
    """Has sites asked, and says where the run is: to whoever watches, and to whoever reads the manifest.

    Parameters
    ----------
    collector
        Sends messages and gathers replies.
    manifest
        The run's.
    watch
        Hears what happens, as it happens.
    rounds
        Rounds of the run.
    seconds
        After so many a phase closes without the late.

    Attributes
    ----------
    left_out
        Every time a site did not count: its round, its name and the reason.
    """

    def __init__(
        self, collector: Collector, manifest: Manifest, watch: Watcher, *, rounds: int, seconds: float
    ) -> None:
        self._collector, self._manifest, self._watch = collector, manifest, watch
        self._rounds, self._seconds = rounds, seconds
        self.left_out: list[dict[str, Any]] = []

    def exchange(self, messages: list[Message], recorder: Recorder, *, kind: str, round_: int) -> list[Reply]:
        """Send the messages of a phase and write down replies as they arrive."""
        down = {message.metadata.dst_node_id: payload(message) for message in messages}
        names = [self._collector.name(node) for node in down]
        self._watch.phase(round_, kind, names)
        of = f"round {round_} of {self._rounds}" if kind == "train" else _STAGES[kind]
        phase = {"kind": kind, "round": round_, "sites": names}
        self._manifest.update(stage=f"{of}: at {', '.join(names)}", phase=phase)
        recorder.open()
        recorder.sent(sum(down.values()))
        replies = self._collector.collect(
            messages,
            seconds=self._seconds,
            on_reply=lambda reply: recorder.took(reply, kind=kind, round_=round_, down=down[reply.node]),
        )
        recorder.took_all()
        return replies

    def ask(
        self,
        messages: list[Message],
        recorder: Recorder,
        *,
        step: str,
        round_: int,
        on_reply: Callable[[Reply], None],
    ) -> None:
        """Send the messages of a step in which nothing is measured, and hand each reply over as it comes."""
        names = [self._collector.name(message.metadata.dst_node_id) for message in messages]
        self._manifest.update(stage=f"round {round_} of {self._rounds}: {step} at {', '.join(names)}")

        def took(reply: Reply) -> None:
            recorder.moved(up=0 if reply.message is None else payload(reply.message))
            on_reply(reply)

        self._collector.collect(messages, seconds=self._seconds, on_reply=took)

    def say(self, text: str) -> None:
        """Say where the run is."""
        self._watch.say(text)
        self._manifest.update(stage=text)

    def say_left_out(self, round_: int, left_out: dict[str, str]) -> None:
        """Say and write down who did not count in a round, and why."""
        for site, reason in sorted(left_out.items()):
            _log.warning("round %d: %s was left out: %s", round_, site, reason)
            self.left_out.append({"round": round_, "site": site, "reason": reason})
            self._watch.left_out(round_, site, reason)
        if left_out:
            self._manifest.update(left_out=self.left_out)


def failed(replies: list[Reply], recorder: Recorder) -> dict[str, str]:
    """Why each site that sent nothing, or what is not possible, does not count."""
    return {each.site: said(each.problem) for each in replies if each.message is None} | recorder.refused


@contextmanager
def seeded(seed: str) -> Iterator[None]:
    """Let Flower's strategies, which sample with the global generator, sample the same in every run."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
