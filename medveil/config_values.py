"""A value as the field it is for wants it: text stays text, numbers are numbers, and nothing is taken for another."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any

from medveil.bounded import kind_of_value, parse_list
from medveil.yaml_core import Typed, Written, meaning, meant

_UNSET = {"", "null"}
"""What takes a setting back on a command line, where it may be null."""
_WORDS = {bool: "bool: true or false", int: "int", float: "float", str: "str"}


class WrongKindError(Exception):
    """A value is not of the kind of its field; `found` says what it is, and nothing of it."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found


def fitted(kind: Any, value: Any, *, where: str) -> Any:
    """A value as a field of this kind takes it.

    Parameters
    ----------
    kind
        The field's type: text, a number, a truth value, a list or mapping of these, any of them or None.
    value
        Plain data; a word that stood without quotes or was typed as `medveil.yaml_core` marks it.
    where
        Where it came from, for the error.

    Raises
    ------
    WrongKindError
        It is of another kind.
    ConfigError
        It was typed as a list, and is none.
    """
    options = _options(kind)
    if isinstance(value, Written | Typed):
        return _fitted_word(options, value, where=where)
    if isinstance(value, bool) and str in options and bool not in options:
        # What stands in JSON for the words of a field such as 'model.pretrained'.
        return str(value).lower()
    for option in options:
        taken = _TAKEN.get(typing.get_origin(option) or option)
        if taken is not None and taken(value):
            return _within(option, value, where=where)
    raise WrongKindError(f"it is {kind_of_value(value)}")


def named(kind: Any) -> str:
    """A kind of field in words."""
    options = _options(kind)
    words = [_WORDS.get(option, _plain_name(option)) for option in options if option is not type(None)]
    if any(typing.get_origin(option) is list for option in options):
        words[-1] += ", as [a, b]"
    return " | ".join([*words, *(["None"] if type(None) in options else [])])


def _plain_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)


def _options(kind: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(kind)
    return typing.get_args(kind) if origin in (types.UnionType, typing.Union) else (kind,)


def _fitted_word(options: tuple[Any, ...], word: Written | Typed, *, where: str) -> Any:
    """A plain word, or what was typed: text for a field of text, before anything else is seen in it."""
    typed = isinstance(word, Typed)
    if type(None) in options and (str(word) in _UNSET if typed else meaning(word) is None):
        return None
    if str in options and (typed or word):
        return str(word)
    if typed and any(typing.get_origin(option) is list for option in options):
        if not word.startswith("["):
            raise WrongKindError("it is no list in brackets")
        return fitted(_of_lists(options), parse_list(word, where=where), where=where)
    found = meaning(word)
    if found is None and type(None) not in options and Any not in options:
        raise WrongKindError("it is nothing")
    for option in options:
        taken = _TAKEN.get(option)
        if taken is not None and option is not str and taken(found):
            return _within(option, found, where=where)
    raise WrongKindError(f"it is {kind_of_value(found)}")


def _of_lists(options: tuple[Any, ...]) -> Any:
    return next(option for option in options if typing.get_origin(option) is list)


def _within(option: Any, value: Any, *, where: str) -> Any:
    """What a value that is of a kind holds, each of its own kind."""
    if option is float:
        return float(value)
    if typing.get_origin(option) is list:
        return _items(typing.get_args(option)[0], value, where=where)
    if typing.get_origin(option) is dict:
        kind = typing.get_args(option)[1]
        return {key: fitted(kind, inner, where=where) for key, inner in value.items()}
    return meant(value)


def _items(kind: Any, values: list[Any], *, where: str) -> list[Any]:
    made = []
    for number, value in enumerate(values, start=1):
        try:
            made.append(fitted(kind, value, where=where))
        except WrongKindError as error:
            raise WrongKindError(f"item {number}: {error.found}") from None
    return made


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_TAKEN: dict[Any, Callable[[Any], bool]] = {
    type(None): lambda value: value is None,
    bool: lambda value: isinstance(value, bool),
    int: _is_whole,
    float: lambda value: _is_whole(value) or isinstance(value, float),
    str: lambda value: isinstance(value, str),
    list: lambda value: isinstance(value, list),
    dict: lambda value: isinstance(value, dict),
    Any: lambda value: True,
}
