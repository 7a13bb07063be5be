"""`medveil-crypto`: what a data steward does with keys and hidden files. The commands are in `crypto.commands`."""

from __future__ import annotations

import argparse
import sys

from crypto.commands.bench import add_bench_command
from crypto.commands.files import add_file_commands
from crypto.commands.keys import add_key_commands
from medveil.cli import parser, run_command

_PROG = "medveil-crypto"


def main(argv: list[str] | None = None) -> int:
    """Run a `medveil-crypto` command.

    Returns
    -------
    int
        0 ok, 2 usage or format, 3 data, 4 key, 128 and the signal where one ended it (130 Ctrl-C, 143 SIGTERM).
    """
    return run_command(make_parser, argv)


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = parser(
        _PROG,
        "Hide images and show them again; make, rotate and share the keys they are hidden under.",
        f"{_PROG} keygen --site mercy --out mercy.key",
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    add_key_commands(commands)
    add_file_commands(commands)
    add_bench_command(commands)
    return top


if __name__ == "__main__":
    sys.exit(main())
