"""`medveil-sim pack`: the records of finished runs in one file; and the option that takes them up."""

from __future__ import annotations

import argparse
from pathlib import Path

from medveil.cli import add_json, subcommand
from medveil.errors import EXIT_OK
from medveil.plain import shown, tell_result


def add_pack(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `pack`."""
    made = subcommand(
        commands,
        "pack",
        text="Write what tables need of the finished runs of a comparison or an ablation into one small file.",
        example="medveil-sim pack COMPARISON --out results.zip",
    )
    made.add_argument("folder", type=Path, metavar="DIR", help="folder of a comparison or an ablation")
    made.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="file of results; an older one is replaced"
    )
    add_json(made)
    made.set_defaults(command=_do_pack)


def add_results(made: argparse.ArgumentParser) -> None:
    """Let a command be told which finished runs it need not run."""
    made.add_argument(
        "--results",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="take up the finished runs of this file of results ('medveil-sim pack'); may stand several times",
    )


def _do_pack(arguments: argparse.Namespace) -> int:
    from simulations.results import pack  # noqa: PLC0415 - a door opens fast

    made = pack(arguments.folder, arguments.out)
    left = f"; not finished: {', '.join(made.unfinished)}" if made.unfinished else ""
    lines = [f"{arguments.out} holds the records of {len(made.packed)} runs{left}"]
    if made.unnamed:
        names = shown(", ".join(made.unnamed), most=400)
        lines += [f"left out, as a file of results names runs ARM/seed-NUMBER, in letters, digits and hyphens: {names}"]
    lines += ["go on elsewhere with the same command, --results FILE and another --out"]
    tell_result({"file": str(arguments.out), **made._asdict()}, *lines, as_json=arguments.json)
    return EXIT_OK
