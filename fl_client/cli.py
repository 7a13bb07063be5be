"""`medveil-site`: a hospital's part in a consortium, from its keys to its work."""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path

from fl_client.commands import join, model, serve
from fl_client.commands.common import DEFAULT, PROG
from medveil.cli import guarded, parser, start_logging
from medveil.kits import SITE, add_kit

_ADD = (
    join.add_check,
    join.add_approve,
    serve.add_start,
    serve.add_status,
    serve.add_stop,
    model.add_predict,
    model.add_export,
    functools.partial(add_kit, role=SITE, chosen="site"),
)


def main(argv: list[str] | None = None) -> int:
    """Run a `medveil-site` command.

    Returns
    -------
    int
        0 ok, 2 usage or configuration, 3 data or disk, 4 key, 5 network, 6 finished in part, 130 interrupted.
    """
    return guarded(lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    start_logging(arguments)
    code: int = arguments.command(arguments)
    return code


def _parser() -> argparse.ArgumentParser:
    made = parser(PROG, "One hospital of a consortium.", f"{PROG} enroll --name st-anna --out enrol")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    join.add_enroll(commands)
    for add in _ADD:
        add(commands).add_argument(
            "--site", type=Path, default=DEFAULT, metavar="FILE", help=f"the site's file (default: {DEFAULT})"
        )
    return made


if __name__ == "__main__":
    sys.exit(main())
