"""What several commands share: which consortium, and whether its server runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from medveil.errors import ConfigError
from medveil.plain import tell, tell_block, tell_json

if TYPE_CHECKING:
    from fl_server.deployment.consortium import Consortium

PROG = "medveil-server"
DEFAULT = Path("consortium.yaml")
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def consortium_of(arguments: argparse.Namespace) -> Consortium:
    """The consortium, set up; what expires soon is said on the way."""
    from fl_server.deployment.provision import check_provisioned, load_consortium, warnings  # noqa: PLC0415

    found = load_consortium(arguments.consortium)
    check_provisioned(found)
    for text in warnings(found):
        tell(f"warning: {text}", error=True)
    return found


def say_new_key(consortium: Consortium, *, aside: bool) -> bool:
    """Make the signing key of a consortium of an earlier MedVeil, and say what its sites need then.

    Parameters
    ----------
    aside
        Whether to say it on stderr, beside a result that is JSON.

    Returns
    -------
    bool
        Whether there was none.
    """
    from fl_server.deployment.provision import begin_signing, server_fingerprint  # noqa: PLC0415

    begun = begin_signing(consortium)
    if begun:
        tell(f"messages are signed from now on; hand every site again: {consortium.invitation}", error=aside)
        tell("each takes it with 'medveil-site rejoin' and sends its .pub, which is admitted once more", error=aside)
        tell(f"read out to each, over another channel: {server_fingerprint(consortium)}", error=aside)
    return begun


def tell_server(consortium: Consortium) -> list[str] | None:
    """Tell a running server what changed; a stopped one learns it when it starts.

    Returns
    -------
    list of str or None
        A line for each change; None where the server is not running.
    """
    from fl_server.deployment.control import Control, sync  # noqa: PLC0415
    from medveil import processes  # noqa: PLC0415

    if processes.running(consortium.record) is None:
        return None
    return sync(consortium, Control(consortium))


def said_of(told: list[str] | None) -> list[str]:
    """What `tell_server` did, in lines."""
    return [f"the server is not running; it learns this at '{PROG} start'"] if told is None else told


def refuse_stopped(consortium: Consortium) -> None:
    """Refuse to go on where the server is not running (ConfigError)."""
    from medveil import processes  # noqa: PLC0415

    if processes.running(consortium.record) is None:
        raise ConfigError("the server is not running", where=consortium.config.name, cure=f"{PROG} start")


def refuse_unready(consortium: Consortium) -> None:
    """Refuse to submit a run where the server is not running, or is being drained (ConfigError)."""
    refuse_stopped(consortium)
    consortium.drain.refuse_new()


def show(rows: list[dict[str, str]], *, as_json: bool, empty: str) -> None:
    """Print rows as a table or as JSON, or the sentence for none."""
    if as_json:
        tell_json(rows)
    elif not rows:
        tell(empty)
    else:
        from medveil.tables import plain_table  # noqa: PLC0415

        tell_block(plain_table(rows))
