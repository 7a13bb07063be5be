"""What a shell may complete the words of a command line to (https://kislyuk.github.io/argcomplete/)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

Completer = Callable[..., list[str]]


def completing(action: argparse.Action, completer: Completer) -> None:
    """Have an argument completed; argparse's own class knows no such attribute."""
    with_one: Any = action
    with_one.completer = completer


def settings_of(schema: Callable[[], type]) -> Completer:
    """Completes to the dotted keys of a configuration, each with its equals sign.

    Parameters
    ----------
    schema
        Imports the dataclass and returns it: only for a shell that asks.
    """

    def complete(prefix: str, **_: object) -> list[str]:
        from medveil.config_keys import setting_names  # noqa: PLC0415 - a door opens fast: OmegaConf only for a shell that asks

        return [f"{name}=" for name in setting_names(schema()) if name.startswith(prefix)]

    return complete


def names_of(known: Callable[[], Iterable[str]]) -> Completer:
    """Completes the last of a list of names that commas part.

    Parameters
    ----------
    known
        Imports the names and returns them: only for a shell that asks.
    """

    def complete(prefix: str, **_: object) -> list[str]:
        before, comma, last = prefix.rpartition(",")
        return [f"{before}{comma}{name}" for name in known() if name.startswith(last)]

    return complete
