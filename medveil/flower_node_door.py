"""The inner door of a site's SuperNode, where its worker takes work. Private interfaces of Flower.

Flower reads a whole request there before it asks whose it is, so that any account of the machine could fill its memory.
The gate of a server's inner door stands before it: nothing of a body is read without the token of a task, or the
signature of the worker that asks for one.
"""

from __future__ import annotations

import importlib
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Any

from medveil.doors import Door
from medveil.flower_control import InnerGate

_NOBODY = "somebody on this machine"


def put_door(port: int, say: Callable[[str], None]) -> None:
    """Have this process's SuperNode serve its inner address behind a door.

    Parameters
    ----------
    port
        Of that address.
    say
        Hears of what was refused.
    """
    main: Any = importlib.import_module("flwr.supernode.main")
    main.create_app = behind_door(main.create_app, port, say)


def behind_door(create: Callable[..., Any], port: int, say: Callable[[str], None]) -> Callable[..., Any]:
    """Flower's `create_app` of a SuperNode, with a door before what it makes."""

    def created(*, state_factory: Any, **settings: Any) -> Door:
        app = create(state_factory=state_factory, **settings)
        # A node has no commands: nobody is told their secret.
        gate = InnerGate(secrets.token_hex(32), state_factory.state, settings.get("superexec_auth_secret"))
        return Door(app, {port: gate}, Seldom(say))

    return created


class Seldom:
    """Says what was refused the first time, the second, the fourth, the eighth: a flood of it fills no disk.

    Parameters
    ----------
    say
        Hears a sentence.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._counts: Counter[str] = Counter()

    def __call__(self, name: str, why: str) -> None:
        """Note one refusal, of few kinds."""
        said = f"{name or _NOBODY} {why}"
        self._counts[said] += 1
        count = self._counts[said]
        if count & (count - 1) == 0:
            self._say(f"refused: {said} ({count} in all)")
