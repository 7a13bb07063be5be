"""Pages about the commands, from their own parsers: what `--help` says, and nothing else."""

from __future__ import annotations

import argparse
import importlib
import os
import re
from collections.abc import Iterator

from docsite.tables import code, safe, table
from docsite.widths import WIDEST

DOORS = {
    "medveil-crypto": "crypto.cli",
    "medveil-sim": "simulations.cli",
    "medveil-server": "fl_server.cli",
    "medveil-site": "fl_client.cli",
}
_WORD = re.compile(r"(?:'[^']*'|\"[^\"]*\"|\S)+")
"""A word of a command, quoted ones whole."""
_WIDTH = "84"
"""Letters that fit beside contents and list of pages."""


def parser_of(door: str) -> argparse.ArgumentParser:
    """The parser of a door's command."""
    module = importlib.import_module(DOORS[door])
    make = getattr(module, "make_parser", None) or module._parser
    made: argparse.ArgumentParser = make()
    return made


def page(door: str) -> str:
    """A door's page: each command with its usage, arguments and example."""
    os.environ["COLUMNS"] = _WIDTH
    parser = parser_of(door)
    example, more = _example(parser)
    lines = [f"# {door}", "", safe(parser.description or ""), "", "```sh", example, "```", "", more, ""]
    for command in _commands(parser):
        level = "##" if command.prog.count(" ") == 1 else "###"
        lines += [f"{level} {command.prog.removeprefix(f'{door} ')}", "", safe(command.description or ""), ""]
        lines += ["```text", _usage(command), "```", ""]
        rows = [_row(each) for each in command._actions if each.help != argparse.SUPPRESS and _shown(each)]
        lines += [table(("argument", "what"), rows)] if rows else []
        example, more = _example(command)
        lines += ["```sh", parted(example), "```", "", more, ""] if example else []
    return "\n".join(lines)


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield each
                yield from _commands(each)


def _shown(action: argparse.Action) -> bool:
    common = {"--help", "--log-level", "--log-file"}
    return not isinstance(action, argparse._SubParsersAction) and not common & set(action.option_strings)


def _row(action: argparse.Action) -> tuple[str, str]:
    name = ", ".join(action.option_strings)
    value = _value(action)
    must = "; must be given" if action.required and action.option_strings else ""
    return code(f"{name} {value}".strip()), safe((action.help or "") % {**vars(action), "prog": ""}) + must


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    shown = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    return " ".join(shown) if isinstance(shown, tuple) else str(shown)


def _example(parser: argparse.ArgumentParser) -> tuple[str, str]:
    """A command's example, and what its help says behind it as a sentence."""
    example, _, more = (parser.epilog or "").removeprefix("example: ").partition("; ")
    text, _, shell = more.partition(": ")
    return example, f"{safe(text[:1].upper() + text[1:])}: {code(shell)}" if shell else safe(more)


def parted(example: str) -> str:
    """A command on as many lines as fit a page, each but the last with the backslash that goes on."""
    lines = [""]
    for word in _WORD.findall(example):
        if lines[-1] and len(f"{lines[-1]} {word}") > WIDEST - len(" \\"):
            lines.append(f"    {word}")
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)


def _usage(command: argparse.ArgumentParser) -> str:
    """Usage as argparse wraps it, without its first word and the room it takes on every line."""
    lead = "usage: "
    return command.format_usage().removeprefix(lead).replace("\n" + " " * len(lead), "\n").rstrip()
