"""What a SuperNode says in its log: whether it was let in, and why it ended."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from medveil.times import moment

BEGINS = "Starting Flower SuperNode"
CONNECTED = "SuperNode ID:"
_CONNECTED = CONNECTED.encode()
NOTHING = "it said nothing"
_LONGEST_TAIL = 65536
_PIECE = 2**20
_COLOURS = ("\x1b[91m", "\x1b[92m", "\x1b[93m", "\x1b[94m", "\x1b[0m")
_KNOWN = (
    (
        "[code: 2004]",
        "the server refuses this site's key: not admitted yet, revoked, or still taken by a node that was killed less "
        "than a minute ago, or by another that has a copy of the key",
    ),
    (
        "409 Conflict",
        "another node with this site's key is in session at the server: if this site did not start it, the key was "
        "stolen; have the coordinator revoke it, and enroll anew",
    ),
    ("[code: 2001]", "the server lets in known keys only, and this node has none"),
    ("address already in use", "its port is taken; set 'port' to another"),
)
_VAGUE = (
    (
        "CERTIFICATE_VERIFY_FAILED",
        "the server's certificate does not count here; 'medveil-site check' says more",
    ),
    ("Server disconnected without sending a response", "there is no TLS at that address"),
)
_CUT_OFF = "the server cut it off"
_SILENT = "it ended without a word of why"
_ENDS = ("Finished server process", "Shutting down", "shutdown")
"""What a node says of its end however it came."""


class Follower:
    """Follows what a node says from where its life began, so that nothing of it is missed and little is read.

    A log that shrank was cut by its rotation: what it holds then is read from its beginning, and what was heard before
    still holds.

    Parameters
    ----------
    log
        The node's log; it need not exist yet.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self.begin()

    def begin(self) -> None:
        """A node is about to be started: what the log holds so far was another's."""
        self._offset, self._rest, self._let_in = self._size(), b"", False

    def look(self) -> bool:
        """Whether this node was let in; reads a piece of what it said since the last look, until it was."""
        if self._let_in:
            return True
        size = self._size()
        if size < self._offset:
            self._offset, self._rest = 0, b""
        if size > self._offset:
            self._read()
        return self._let_in

    def _read(self) -> None:
        with suppress(OSError), self._log.open("rb") as stream:
            stream.seek(self._offset)
            piece = stream.read(_PIECE)
            self._offset += len(piece)
            said = self._rest + piece
            self._let_in = _CONNECTED in said
            # The words may have come in part.
            self._rest = said[1 - len(_CONNECTED) :]

    def _size(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:
            return 0


def is_connected(log: Path) -> bool:
    """Whether the node whose words come last was let in, as far as the end of its log still says so."""
    return any(CONNECTED in line for line in _last_life(log))


def why_it_ended(log: Path, *, let_in: bool = False) -> str:
    """Why the last node ended, in our words where they are known, else in its own.

    Parameters
    ----------
    log
        What it said.
    let_in
        Whether it is known to have been let in, which the log's end may no longer say.
    """
    life = _last_life(log)
    text = " ".join(life)
    for mark, meaning in (*_KNOWN, *_VAGUE):
        if mark in text:
            return meaning
    errors = [line for line in life if line.startswith("ERROR")]
    if errors:
        return " ".join(life[life.index(errors[-1]) :][:3])
    if let_in or any(CONNECTED in line for line in life):
        return _CUT_OFF
    said = last_words(log)
    return _SILENT if any(end in said for end in _ENDS) else said


def known_reason(log: Path) -> str | None:
    """Why the last node ended, where its own words say it for sure."""
    text = " ".join(_last_life(log))
    return next((meaning for mark, meaning in _KNOWN if mark in text), None)


def of_others(found: Mapping[str, Any]) -> str:
    """A sentence for what `medveil.flower_session.others` found."""
    return (
        f"the server refused another node with this site's key, {found['count']} times, the last at "
        f"{moment(found['at'])}: if this site did not start it, the key was stolen; have the coordinator revoke it, "
        "and enroll anew"
    )


def last_words(log: Path) -> str:
    """The last line that says something."""
    said = _lines(log)
    return said[-1] if said else NOTHING


def _last_life(log: Path) -> list[str]:
    lines = _lines(log)
    starts = [i for i, line in enumerate(lines) if BEGINS in line]
    return lines[starts[-1] :] if starts else lines


def _lines(log: Path) -> list[str]:
    if not log.exists():
        return []
    with log.open("rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - _LONGEST_TAIL))
        text = stream.read().decode(errors="replace")
    return [plain for line in text.splitlines() if (plain := _plain(line))]


def _plain(line: str) -> str:
    for code in _COLOURS:
        line = line.replace(code, "")
    return " ".join("".join(each if each.isprintable() else " " for each in line).split())
