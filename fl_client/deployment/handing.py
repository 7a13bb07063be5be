"""What a process of a site reads first from the one that starts it: a pipe that no other account can look into."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from medveil.installed import believe, compared


def handed(passphrases: Mapping[str, str]) -> bytes:
    """Passphrases by key file as a line of JSON, and in a second one what was found of the installed code."""
    return f"{json.dumps(dict(passphrases))}\n{compared()}\n".encode()


def read_handed(stream: Any) -> dict[str, str]:
    """The passphrases; what is said of the code is believed. Who starts a process by hand leaves out that line."""
    sent: dict[str, str] = json.loads(stream.readline() or "{}")
    if said := stream.readline().strip():
        believe(said)
    return sent
