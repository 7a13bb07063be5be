"""A server's status as it changes: one screen drawn anew on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from fl_server.deployment.consortium import Consortium
from fl_server.deployment.progress import ANSWERED, number, numbers
from fl_server.deployment.status import Nodes, as_text, ask_nodes, status
from medveil import plain
from medveil.cli import ToldToEnd
from medveil.errors import MedVeilError
from medveil.times import moment

LOOK_S = 1.0
"""Seconds between two looks at the run's folder."""
ASK_S = 15.0
"""Seconds between two questions to Flower, each of which is a process of its own."""
_ASKING = "asking Flower for its nodes"
Asked = tuple[Nodes, str | None]


def looks(
    consortium: Consortium, *, ask: Callable[[Consortium], Asked] = ask_nodes, seconds: float = LOOK_S
) -> Iterator[dict[str, Any]]:
    """The server's `status` again and again; Flower is asked for its nodes beside it, for that takes seconds.

    Parameters
    ----------
    consortium
        Whose server.
    ask
        Lists its nodes.
    seconds
        Between two looks.
    """
    asked: list[Asked] = [({}, _ASKING)]
    ended = threading.Event()

    def follow() -> None:
        while not ended.is_set():
            try:
                asked[0] = ask(consortium)
            except MedVeilError as error:
                asked[0] = (asked[0][0], str(error))
            ended.wait(ASK_S)

    threading.Thread(target=follow, name="nodes", daemon=True).start()
    try:
        while True:
            yield status(consortium, asked[0])
            time.sleep(seconds)
    finally:
        ended.set()


def watch(found: Iterator[dict[str, Any]], *, as_json: bool = False, console: Console | None = None) -> None:
    """Show what `looks` finds until Ctrl-C: on a terminal as one screen, elsewhere as a line for each change.

    Parameters
    ----------
    found
        What each look finds.
    as_json
        A line of JSON for every look that found something new.
    console
        Where to show it; by default stdout.
    """
    console = console or plain.console()
    try:
        if as_json:
            _print_json(found, console)
        elif console.is_terminal:
            _draw(found, console)
        else:
            _print_changes(found, console)
    except ToldToEnd:
        raise
    except KeyboardInterrupt:
        # It is how one stops watching: what is watched goes on.
        pass


def changes(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """A sentence for each thing that changed between two looks."""
    if before["server"]["answers"] != now["server"]["answers"]:
        yield "the server answers" if now["server"]["answers"] else "the server does not answer"
    known = {site["site"]: site["status"] for site in before["sites"]}
    for site in now["sites"]:
        if known.get(site["site"]) != site["status"]:
            yield f"{site['site']}: {site['status']}"
    if now["run"] is not None:
        same = before["run"] is not None and before["run"]["run"] == now["run"]["run"]
        yield from _changes_of_run(before["run"] if same else None, now["run"])


def _changes_of_run(before: dict[str, Any] | None, now: dict[str, Any]) -> Iterator[str]:
    """What happened first comes first: a round's answers, the round, then where the run is."""
    known = {} if before is None else {site["site"]: site for site in before["sites"]}
    for site in now["sites"]:
        was = known.get(site["site"])
        if site["round"] is not None and (was is None or was["round"] != site["round"]):
            yield f"round {site['round']}: {site['site']} {ANSWERED}{_loss(site)}"
        if site["left_out"] > (0 if was is None else was["left_out"]):
            yield f"{site['site']} was left out: {site['why']}"
    rounds = {} if before is None else {row["round"]: row for row in before["history"]}
    for row in now["history"]:
        was = rounds.get(row["round"])
        if was is None:
            yield f"round {row['round']}{_loss(row)}, {row['seconds']:.1f} s"
        # The validation of a round comes with the training of the next.
        measured = {name: row[f"validation_{name}"] for name in ("loss", "accuracy", "auroc")}
        if measured["loss"] is not None and (was is None or was["validation_loss"] is None):
            yield f"round {row['round']}: validation {numbers(measured)}"
    if now["test"] is not None and (before is None or before["test"] is None):
        yield f"test: {numbers(now['test'])}"
    if before is None or before["status"] != now["status"]:
        yield f"run {now['run']}: {now['status']}"
    if now["stage"] and (before is None or before["stage"] != now["stage"]):
        yield str(now["stage"])


def _loss(row: dict[str, Any]) -> str:
    """The loss of a training round; most hospitals keep it to themselves."""
    return "" if row["train_loss"] is None else f": train loss {number(row['train_loss'])}"


def _draw(found: Iterator[dict[str, Any]], console: Console) -> None:
    with Live(console=console, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        for each in found:
            head = f"{moment(datetime.now(UTC))}  Ctrl-C stops watching"
            said = plain.parted_lines(f"{head}\n\n{as_text(each)}", width=console.width)
            live.update(Text(said, no_wrap=True, overflow="ellipsis"), refresh=True)


def _print_changes(found: Iterator[dict[str, Any]], console: Console) -> None:
    before: dict[str, Any] | None = None
    for each in found:
        if before is None:
            console.print(plain.shown_lines(as_text(each)), markup=False, soft_wrap=True)
        else:
            at = moment(datetime.now(UTC))
            for line in changes(before, each):
                plain.say(console, f"{at} {line}")
        before = each


def _print_json(found: Iterator[dict[str, Any]], console: Console) -> None:
    told = ""
    for each in found:
        line = plain.as_json(each, indent=None)
        if line != told:
            console.file.write(f"{line}\n")
            console.file.flush()
            told = line
