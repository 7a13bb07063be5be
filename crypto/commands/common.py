"""What the commands of `medveil-crypto` share: where passphrases come from, and how results are printed."""

from __future__ import annotations

import argparse
from typing import Any, TypeAlias

from crypto.passphrase import CREDENTIAL, VARIABLE, read_passphrase
from medveil.plain import tell, tell_json
from medveil.times import moment

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_passphrase(to: argparse.ArgumentParser) -> None:
    """Let a command be told where the passphrase is; `crypto.passphrase.read_passphrase` reads it."""
    to.add_argument(
        "--passphrase-file",
        metavar="FILE",
        help="read the passphrase from this file; without it, it comes from the systemd credential "
        f"{CREDENTIAL}, from ${VARIABLE} or from the terminal, the first of them that is there",
    )


def new_passphrase(arguments: argparse.Namespace) -> str | None:
    """The passphrase of ``--new-passphrase-file``, or None without one. Errors as `read_passphrase`."""
    file = arguments.new_passphrase_file
    return None if file is None else read_passphrase(file, confirm=True)


def show(values: dict[str, Any], *, as_json: bool) -> None:
    """Print a result on stdout: as JSON, or a line for each value and for each item of a list."""
    if as_json:
        tell_json(values)
        return
    for name, value in values.items():
        said = moment(value) if name == "created" else value
        lines = (said or ["none"]) if isinstance(said, list) else [said]
        for line in lines:
            tell(f"{name if line is lines[0] else '':<12} {line}")


def advise(text: str) -> None:
    """Say what a person should know beside the result, where it is not part of it."""
    tell(text, error=True)
