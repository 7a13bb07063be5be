"""Plain data that others wrote: JSON and YAML, bounded before anything is built of them, and never evaluated.

A few hundred bytes can stand for a great deal: lists in lists, aliases of aliases, interpolations of interpolations. So
a text's length, depth and number of values are counted before it is parsed, and what settings are made of is text,
numbers, lists and sections, without ``${``, aliases and tags. YAML is that of version 1.2 (`medveil.yaml_core`).
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from medveil.errors import ConfigError, FormatError, IntegrityError, MedVeilError
from medveil.plain import shown
from medveil.yaml_core import Typed, Written, composed, meaning, parsers_of

MIB = 2**20
INTERPOLATION = "${"
"""How an interpolation begins in the settings of OmegaConf; escaped or not, it stands in none of ours."""
_MISSING = "???"
_LONGEST_KEY = 128
_LONGEST_TEXT = 4096
_LARGEST = 2**64
_SHOWN = 64
_SHORT = 16 * 1024
# A string that is not closed is taken to the end, so that each character is looked at once.
_STRINGS = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")


@dataclass(frozen=True)
class Bounds:
    """Most that a text may hold: its length in characters or bytes, lists within lists, and values."""

    length: int
    depth: int
    values: int


SETTINGS = Bounds(length=MIB, depth=16, values=10_000)
"""For what one person, or one server, asks for; some hundred values are usual."""
DOCUMENT = Bounds(length=256 * MIB, depth=64, values=10_000_000)
"""For what MedVeil itself keeps: a line or two for every image of a site."""


def parse_json(
    text: str | bytes, *, where: object, bounds: Bounds = SETTINGS, kind: type[MedVeilError] = FormatError
) -> Any:
    """Parse JSON that somebody else wrote.

    Parameters
    ----------
    text
        JSON, in UTF-8 where it is bytes.
    where
        Where it came from, for the error.
    bounds
        Most it may hold; looked at before it is parsed.
    kind
        Class of the error.

    Raises
    ------
    MedVeilError
        Of that class: it is not JSON, holds too much, names a key twice, or has numbers that are none.
    """
    _refuse_beyond(len(text), bounds.length, "is longer than {} bytes", where, kind)
    try:
        plain = text.decode("utf-8") if isinstance(text, bytes) else text
        _measure_json(plain, bounds, where, kind)
        return json.loads(plain, object_pairs_hook=_pairs, parse_constant=_constant)
    except (ValueError, RecursionError):
        if kind is IntegrityError:
            raise kind("is not a whole JSON document", where=_text(where), cure="restore it from a copy") from None
        raise kind("is not JSON", where=_text(where), cure="a whole document, each key once") from None


def parse_yaml(text: str, *, where: object, bounds: Bounds = SETTINGS) -> Any:
    """Parse YAML 1.2 that somebody else may have written: no aliases, no tags, each key once, within bounds.

    Returns
    -------
    Any
        Nested lists and dicts of text; what stood without quotes is `medveil.yaml_core.Written`, for its field to say
        what it is, or `medveil.yaml_core.meant` where no field is known.

    Raises
    ------
    ConfigError
        It is not YAML, or more than that.
    """
    node = _composed(text, where, bounds)
    return None if node is None else _built(node, "", where)


def parse_list(text: str, *, where: object) -> Any:
    """Parse a list as it is typed on a command line: ``[a, "b, c"]``, on one line, as YAML has it.

    Raises
    ------
    ConfigError
        It is none, or something stands behind it.
    """
    cure = "as [a, b]; what holds a comma, a bracket, a colon or ' #' in double quotes"
    if "\n" in text or "\r" in text:
        raise ConfigError("is a list in several lines", where=_text(where), cure=cure)
    try:
        node = _composed(text, where, SETTINGS)
    except ConfigError as error:
        raise ConfigError(f"is no list: {error.problem}", where=_text(where), cure=cure) from None
    if not isinstance(node, yaml.SequenceNode) or node.end_mark.index != len(text):
        raise ConfigError("is no list: something stands behind its bracket", where=_text(where), cure=cure)
    return _built(node, "", where)


def _composed(text: str, where: object, bounds: Bounds) -> yaml.Node | None:
    """The nodes of one document, for reading alone; short ones are kept, as settings are read again and again."""
    _refuse_beyond(len(text), bounds.length, "is longer than {} characters", where, ConfigError)
    return (_parsed if len(text) <= _SHORT else _parsed.__wrapped__)(text, _text(where), bounds)


@functools.lru_cache(maxsize=16)
def _parsed(text: str, where: str | None, bounds: Bounds) -> yaml.Node | None:
    """As `_composed`, measured before any node is made."""
    made: yaml.Node | None
    *quick, parser = parsers_of(text)
    try:
        for each in quick:
            with contextlib.suppress(yaml.YAMLError, ValueError):
                return composed(list(_measured_yaml(text, bounds, where, each)))
        made = composed(list(_measured_yaml(text, bounds, where, parser)))
    except yaml.YAMLError as error:
        problem = word(getattr(error, "problem", None) or type(error).__name__)
        raise _no_yaml(problem, getattr(error, "problem_mark", None), where) from None
    except (ValueError, RecursionError, OverflowError):
        # An escape of a character that is none.
        raise ConfigError("is not valid YAML", where=_text(where), cure="characters that UTF-8 can write") from None
    return made


def _no_yaml(problem: str, mark: Any, where: object, cure: str | None = None) -> ConfigError:
    line = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
    return ConfigError(f"is not valid YAML{line}: {problem}", where=_text(where), cure=cure)


def _built(node: yaml.Node, name: str, where: object) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _section(node, name, where)
    if isinstance(node, yaml.SequenceNode):
        return [_built(inner, f"{name}[{index}]", where) for index, inner in enumerate(node.value)]
    return _scalar(node)


def _scalar(node: Any) -> str:
    """A text; one without quotes is marked so."""
    return node.value if node.style else Written(node.value)


def _section(node: yaml.MappingNode, name: str, where: object) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    lines: dict[Any, int] = {}
    for key_node, inner in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            cure = "keys are names"
            raise _no_yaml("a key is a list or a section", key_node.start_mark, where, cure)
        text, line = _scalar(key_node), key_node.start_mark.line + 1
        key = meaning(text) if isinstance(text, Written) else text
        named = f"{name}.{word(key)}" if name else word(key)
        if key in made:
            cure = "leave one of the two"
            raise ConfigError(
                f"'{named}' stands twice, in lines {lines[key]} and {line}", where=_text(where), cure=cure
            )
        made[key], lines[key] = _built(inner, named, where), line
    return made


def check_settings(values: Any, *, where: object) -> None:
    """Refuse plain data that settings must not hold; neither keys nor values are shown beyond the name of the field.

    Parameters
    ----------
    values
        Nested lists and dicts.
    where
        Where they came from, for the error.

    Raises
    ------
    ConfigError
        There is an interpolation, a key that is no name, something that is neither text, number, list nor section, or
        too much of it.
    """
    count, waiting = 0, [("", values, 1)]
    while waiting:
        name, value, depth = waiting.pop()
        count += 1
        _refuse_beyond(count, SETTINGS.values, "has more than {} values", where, ConfigError)
        _refuse_beyond(depth, SETTINGS.depth, "is nested deeper than {}", where, ConfigError)
        if isinstance(value, dict):
            waiting += [(_joined(name, key, where), inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(f"{name}[{index}]", inner, depth + 1) for index, inner in enumerate(value)]
        else:
            _check_value(name, value, where)


def kind_of_value(value: Any) -> str:
    """What a value is, in words, without it."""
    kinds = {
        str: "text",
        Written: "text",
        Typed: "text",
        bool: "a truth value",
        int: "a whole number",
        float: "a number",
        dict: "a section",
    }
    if value is None:
        return "nothing"
    return kinds.get(type(value), "a list" if isinstance(value, list | tuple) else "of no kind that settings have")


def word(text: object, longest: int = _SHOWN) -> str:
    """A word of somebody else's, fit to stand in an error: on one line, and cut."""
    return shown(text, most=longest)


def _text(where: object) -> str | None:
    return None if where is None else str(where)


def _refuse_beyond(found: int, most: int, problem: str, where: object, kind: type[MedVeilError]) -> None:
    if found > most:
        raise kind(problem.format(most), where=_text(where), cure="far less is usual")


def _measure_json(text: str, bounds: Bounds, where: object, kind: type[MedVeilError]) -> None:
    bare = _STRINGS.sub('""', text)
    values = bare.count(",") + bare.count("[") + bare.count("{") + 1
    _refuse_beyond(values, bounds.values, "has more than {} values", where, kind)
    depth = 0
    for bracket in _BRACKETS.finditer(bare):
        depth += 1 if bracket.group() in "[{" else -1
        _refuse_beyond(depth, bounds.depth, "is nested deeper than {}", where, kind)


def _measured_yaml(text: str, bounds: Bounds, where: object, parser: type) -> Iterator[yaml.Event]:
    depth = 0
    # libyaml's takes texts of no type of ours.
    for count, event in enumerate(yaml.parse(str(text), Loader=parser)):
        _refuse_beyond(count, 2 * bounds.values, "has more than {} values", where, ConfigError)
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError("has an alias ('*name')", where=_text(where), cure="write the values out")
        if getattr(event, "tag", None) is not None:
            raise _no_yaml("has a tag ('!name')", event.start_mark, where, "the value itself, text in quotes")
        if isinstance(event, yaml.ScalarEvent):
            _refuse_beyond(
                len(event.value), _LONGEST_TEXT, "has a value of more than {} characters", where, ConfigError
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        _refuse_beyond(depth, bounds.depth, "is nested deeper than {}", where, ConfigError)
        yield event


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice")
    return made


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _joined(name: str, key: Any, where: object) -> str:
    within = f"in '{name}'" if name else "at the top"
    if not isinstance(key, str):
        problem = f"a key {within} is {kind_of_value(key)}"
        raise ConfigError(problem, where=_text(where), cure="keys are names; put it in quotes")
    _check_text(f"a key {within}", key, where)
    if not 0 < len(key) <= _LONGEST_KEY:
        raise ConfigError(f"a key {within} has {len(key)} characters", where=_text(where), cure=f"1 to {_LONGEST_KEY}")
    return f"{name}.{word(key)}" if name else word(key)


def _check_value(name: str, value: Any, where: object) -> None:
    named = f"'{name}'" if name else "the whole"
    if isinstance(value, str):
        _check_text(named, value, where)
    elif isinstance(value, int) and abs(value) >= _LARGEST:
        raise ConfigError(f"{named} is a number beyond 64 bits", where=_text(where), cure="a smaller one")
    elif value is not None and not isinstance(value, int | float):
        cure = "text, numbers, true or false, lists and sections"
        raise ConfigError(f"{named} is {kind_of_value(value)}", where=_text(where), cure=cure)


def _check_text(named: str, text: str, where: object) -> None:
    if INTERPOLATION in text:
        cure = "write the value itself: nothing is filled in from elsewhere"
        raise ConfigError(f"{named} has an interpolation ('{INTERPOLATION}')", where=_text(where), cure=cure)
    if text == _MISSING:
        raise ConfigError(f"{named} is '{_MISSING}'", where=_text(where), cure="a value, or leave it out")
    if len(text) > _LONGEST_TEXT:
        raise ConfigError(f"{named} has {len(text)} characters", where=_text(where), cure=f"at most {_LONGEST_TEXT}")
    if any("\ud800" <= each <= "\udfff" for each in _odd(text)):
        raise ConfigError(f"{named} is not text", where=_text(where), cure="characters that UTF-8 can write")


def _odd(text: str) -> Iterator[str]:
    return iter(()) if text.isascii() else iter(text)
