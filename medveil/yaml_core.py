"""YAML as version 1.2 has it, by its core schema (https://yaml.org/spec/1.2.2/, 10.3): what a plain word means.

PyYAML reads the words of version 1.1: ``no`` is False, ``012`` is 10, ``1_000`` is 1000, ``2026-11-28`` a date. Here a
plain word stays a `Written` text until the field it is for says whether it is text or a number, and what is written out
reads back the same by either version.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import Any, TypeAlias

import yaml
from yaml.composer import Composer

Plain: TypeAlias = str | int | float | bool | None
_NULL = {"", "~", "null", "Null", "NULL"}
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NUMBERS: tuple[tuple[str, str, int], ...] = (
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+", 10),
    ("tag:yaml.org,2002:int", r"0o[0-7]+", 8),
    ("tag:yaml.org,2002:int", r"0x[0-9a-fA-F]+", 16),
)
_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
_ODD = r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_WIDEST = 10**9
_LIBYAML = bool(yaml.__with_libyaml__)
_ALIKE = re.compile(r"(?:(?![!%&*|>?])[ -~\n])*+")


class Written(str):
    """A word that stood plain, without quotes: what it is depends on the field it is for."""

    __slots__ = ()


class Typed(str):
    """What somebody typed behind ``key=``: itself where the field is text, else as a plain word."""

    __slots__ = ()


def meaning(text: str) -> Plain:
    """What a plain word means where nothing else is known of it."""
    if text in _NULL:
        return None
    if text in _TRUTH:
        return _TRUTH[text]
    for _, pattern, base in _NUMBERS:
        if re.fullmatch(pattern, text):
            return int(text[2:] if base != 10 else text, base)
    if re.fullmatch(_FLOAT, text):
        return float(text)
    if re.fullmatch(_ODD, text):
        return float(text.replace(".", "").lower())
    return str(text)


def meant(values: Any) -> Any:
    """Nested data with every plain word turned into what it means."""
    if isinstance(values, dict):
        return {key: meant(value) for key, value in values.items()}
    if isinstance(values, list):
        return [meant(value) for value in values]
    return meaning(values) if isinstance(values, Written | Typed) else values


def composed(events: Sequence[yaml.Event]) -> yaml.Node | None:
    """The nodes of one document that is parsed already, without a tag; None of an empty one.

    Raises
    ------
    yaml.YAMLError
        There are several documents, or two anchors of a name.
    """
    made: yaml.Node | None = _Composer(events).get_single_node()
    return made


def parsers_of(text: str) -> tuple[type, ...]:
    """Which of PyYAML's parsers to ask for the events of a text: the next where one refuses it, the last for its words.

    libyaml's takes a tenth of the time. What both take they take for the same where a text is printable ASCII without
    what begins tags, aliases, directives, blocks and keys; of these, of tabs and of other ends of lines it takes more.
    """
    return (yaml.CSafeLoader, yaml.SafeLoader) if _ALIKE.fullmatch(text) and _LIBYAML else (yaml.SafeLoader,)


class _Composer(Composer):
    """PyYAML's, of events that are parsed already; what a node means is not asked of it."""

    def __init__(self, events: Sequence[yaml.Event]) -> None:
        super().__init__()
        self._events = deque(events)

    def check_event(self, *kinds: type[yaml.Event]) -> bool:
        return bool(self._events) and isinstance(self._events[0], kinds or yaml.Event)

    def peek_event(self) -> yaml.Event:
        return self._events[0]

    def get_event(self) -> yaml.Event:
        return self._events.popleft()

    def resolve(self, *_: object) -> str:
        return ""

    def descend_resolver(self, *_: object) -> None:
        """Nothing goes by where a node stands."""

    def ascend_resolver(self) -> None:
        """Nor when it is left."""


class _Dumper(yaml.SafeDumper):
    """PyYAML's, which quotes also the texts that version 1.2 alone would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """None of ours is written: what reads them refuses them."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Only double quotes keep every character, on one line.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _text)
_Dumper.add_representer(Written, _text)
for _tag, _pattern, _ in _NUMBERS:
    _Dumper.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), None)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"(?:{_FLOAT}|{_ODD})\Z"), None)


def written_yaml(values: Any, *, flow: bool | None = None, width: int = _WIDEST, unicode: bool = False) -> str:
    """Plain data as YAML that reads back as the same.

    Parameters
    ----------
    values
        Nested lists and dicts of text, numbers, truth values and None; the order of keys is kept.
    flow
        In brackets (True), in lines (False), or lines with brackets for what holds no section of its own (None).
    width
        Where lines are broken; by default nowhere.
    unicode
        Write letters beyond ASCII as they are.
    """
    text: str = yaml.dump(
        values, Dumper=_Dumper, default_flow_style=flow, width=width, allow_unicode=unicode, sort_keys=False
    )
    return text
