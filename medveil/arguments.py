"""The order of a command line: settings (``key=value``) stand anywhere, and nothing is an option behind ``--``.

argparse takes a command's nameless arguments in one piece: of ``run FILE --out RUN rounds=5`` it would refuse the last.
So the words are put into the order it takes, and nothing else is done to them.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from medveil.errors import ConfigError
from medveil.plain import shown

SETTINGS = "overrides"
"""Where a command keeps its settings: the nameless arguments of that name, or an option's."""
_END = "--"
_SETTING = re.compile(r"[^/\\=]+=")
_NEGATIVE = re.compile(r"-\d+(\.\d*)?|-\.\d+")
_LONGEST = 64


class Ordered(NamedTuple):
    """A command line as argparse takes it, and settings beside it where nothing stands in their CONFIG's place."""

    words: list[str]
    settings: list[str] | None = None


class _Sorted(NamedTuple):
    options: list[str]
    nameless: list[str]
    plain: list[str]


def ordered(
    given: Sequence[str], options: Mapping[str, argparse.Action], nameless: Sequence[str], *, prog: str
) -> Ordered:
    """Put the words of a command into the order argparse takes.

    Parameters
    ----------
    given
        The words behind the command.
    options
        The command's options by their names.
    nameless
        Names of its nameless arguments in their order.
    prog
        The command, for errors.

    Raises
    ------
    ConfigError
        An option is none; the nearest is given.
    """
    end = list(given).index(_END) if _END in given else len(given)
    found = _sorted(given[:end], options, prog)._replace(plain=list(given[end + 1 :]))
    own = next((name for name, action in options.items() if action.dest == SETTINGS), None)
    if own is not None:
        settings, rest = _parted(found.nameless)
        return _line(found.options + ([own, *settings] if settings else []), rest + found.plain)
    if SETTINGS not in nameless:
        return _line(found.options, found.nameless + found.plain)
    return _with_settings(found, alone=nameless[0] == SETTINGS)


def _with_settings(found: _Sorted, *, alone: bool) -> Ordered:
    """What is named by its place goes before the settings; a file called ``a=b`` counts where nothing else is named."""
    settings, named = _parted(found.nameless)
    named, plain = (named + found.plain[:1], found.plain[1:]) if not named else (named, found.plain)
    if alone or named:
        return _line(found.options, [*named, *settings, *plain])
    if settings and os.path.exists(settings[0]):
        return _line(found.options, settings)
    return Ordered(found.options, settings)


def _parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    settings = [word for word in words if _SETTING.match(word)]
    return settings, [word for word in words if not _SETTING.match(word)]


def _line(options: list[str], nameless: list[str]) -> Ordered:
    # An option of several values would take what follows it: nameless words go first where none looks like an option.
    if any(word.startswith("-") for word in nameless):
        return Ordered([*options, _END, *nameless])
    return Ordered([*nameless, *options])


def _sorted(given: Sequence[str], options: Mapping[str, argparse.Action], prog: str) -> _Sorted:
    found, at = _Sorted([], [], []), 0
    while at < len(given):
        word = given[at]
        at += 1
        if not _looks_like_option(word):
            found.nameless.append(word)
            continue
        name, equals, _ = word.partition("=")
        if name not in options:
            near = difflib.get_close_matches(name, options, n=1)
            cure = f"did you mean '{near[0]}'?" if near else f"see '{prog} --help'"
            raise ConfigError(f"there is no option '{shown(name, most=_LONGEST)}'", where=prog, cure=cure)
        taken = 0 if equals else _values_of(options[name], given[at:])
        found.options.extend([word, *given[at : at + taken]])
        at += taken
    return found


def _values_of(action: argparse.Action, rest: Sequence[str]) -> int:
    """How many of the words behind an option are its own."""
    most = action.nargs if isinstance(action.nargs, int) else 1 if action.nargs in (None, "?") else len(rest)
    count = 0
    while count < min(most, len(rest)) and not _looks_like_option(rest[count]):
        if action.dest == SETTINGS and not _SETTING.match(rest[count]):
            break
        count += 1
    return count


def _looks_like_option(word: str) -> bool:
    return word.startswith("-") and word != "-" and not _NEGATIVE.fullmatch(word)
