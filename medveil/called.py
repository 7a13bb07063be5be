"""What a program hands a public call, held against the call's own signature before anything is done with it.

A type checker says the same while the program is written; in a notebook nobody runs one.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, overload

from medveil.errors import ConfigError, MedVeilError
from medveil.values import shown_value

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)
_NAMED = {type(None): "None", str: "str", bool: "True or False", int: "int", float: "float", Path: "Path"}
_NUMBERS: dict[Any, type] = {int: Integral, float: Real}
_OPTION = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)(?: (?:archive|training)\b)?")
_ARGUMENTS = {"from": "recipe", "for": "purpose", "trunk": "trunks", "scheme": "cipher"}
"""Options whose argument has another name."""
_EXACT = 2**53
"""The largest whole number up to which each is a number with a point, too."""
_NO_LISTS = (str, bytes, Mapping)


class _WrongError(Exception):
    """A value is not of its kind; the text says what it is."""


@overload
def typed(call: C) -> C: ...
@overload
def typed(call: Callable[P, R]) -> Callable[P, R]: ...
def typed(call: Any) -> Any:
    """Refuse arguments of another type than the signature of a public call, or class, says (ConfigError).

    Texts, paths, numbers, lists of them, classes and functions are looked at; a path is not empty, and a number is one.
    Settings are looked at field by field, and the call has a copy of them. Whole numbers and lists of numpy are taken
    for Python's. What else an annotation says is left to the call, and an argument that it does not have to Python.
    """
    if not isinstance(call, type):
        return _typed(call, call.__qualname__)
    call.__init__ = _typed(call.__init__, call.__qualname__)  # type: ignore[misc]
    return call


def _typed(call: Callable[P, R], called: str) -> Callable[P, R]:
    signature = inspect.signature(call)

    @functools.cache
    def kinds() -> dict[str, Any]:
        return {each.name: _kind(call, each) for each in signature.parameters.values()}

    @functools.wraps(call)
    def held(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError:
            # Python's own words for an argument too many or too few.
            return call(*args, **kwargs)
        for name, value in given.arguments.items():
            given.arguments[name] = _held(kinds()[name], value, where=f"{called}({name}=...)")
        try:
            return call(*given.args, **given.kwargs)
        except MedVeilError as error:
            _name_arguments(error, signature.parameters, called)
            raise

    return held


def _name_arguments(error: MedVeilError, own: Iterable[str], called: str) -> None:
    """Name the arguments of a call where an error names the options of the command that does the same."""

    def argument(option: re.Match[str]) -> str:
        name = _ARGUMENTS.get(option[1], option[1].replace("-", "_"))
        return f"{name}=..." if name in own else option[0]

    problem = _OPTION.sub(argument, error.problem)
    where = None if error.where is None else _OPTION.sub(argument, error.where)
    if where != error.where:
        where = f"{called}({where})"
    if (problem, where) != (error.problem, error.where):
        error.reword(problem=problem, where=where)


def _kind(call: Callable[..., Any], of: inspect.Parameter) -> Any:
    if of.annotation is of.empty or of.kind in (of.VAR_POSITIONAL, of.VAR_KEYWORD):
        return Any
    alone = types.SimpleNamespace(__annotations__={of.name: of.annotation})
    try:
        return typing.get_type_hints(alone, call.__globals__)[of.name]
    except NameError:
        # A type that is imported for type checkers alone, as it is slow to import.
        return Any


def _held(kind: Any, value: Any, *, where: str) -> Any:
    try:
        return _fitted(kind, value)
    except _WrongError as error:
        cures = [getattr(each, "_made_by", "") for each in _options(kind)]
        cure = next((each for each in cures if each), f"expected {_named(kind)}")
        raise ConfigError(str(error), where=where, cure=cure) from None


def _fitted(kind: Any, value: Any) -> Any:
    options = _options(kind)
    if str in options and Path in options and isinstance(value, str | Path):
        return _path(value)
    for option in options:
        if _is_of(option, value):
            return _taken(option, value)
    raise _WrongError(f"is {shown_value(value)}")


def _is_of(kind: Any, value: Any) -> bool:
    origin = typing.get_origin(kind) or kind
    if origin in _NUMBERS:
        return isinstance(value, _NUMBERS[origin]) and not isinstance(value, bool)
    if origin in (Sequence, tuple):
        return isinstance(value, Iterable) and not isinstance(value, _NO_LISTS) and getattr(value, "ndim", 1) > 0
    if origin is Callable:
        return callable(value)
    return origin is Any or not isinstance(origin, type) or isinstance(value, origin)


def _taken(kind: Any, value: Any) -> Any:
    """A value of its kind, with what it holds of theirs."""
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin in _NUMBERS:
        return _number(origin, value)
    if _is_settings(origin):
        from medveil.config_objects import own_copy  # noqa: PLC0415 - a door opens fast

        return own_copy(value)
    if origin is Sequence:
        return [_item(inner[0], each, number) for number, each in enumerate(value, start=1)]
    if origin is tuple and Ellipsis not in inner:
        found = tuple(value)
        if len(found) != len(inner):
            raise _WrongError(f"has {len(found)} values")
        return tuple(_item(each, one, number) for number, (each, one) in enumerate(zip(inner, found, strict=True), 1))
    if origin is Mapping:
        for name in value:
            _item(inner[0], name, "a name in it")
    return value


def _is_settings(kind: Any) -> bool:
    """Whether it is a class of settings, each of which says what it is for."""
    return dataclasses.is_dataclass(kind) and all("help" in each.metadata for each in dataclasses.fields(kind))


def _number(kind: type, value: Any) -> int | float:
    if isinstance(value, Integral) and (kind is int or abs(int(value)) <= _EXACT):
        return int(value)
    try:
        found = float(value)
    except OverflowError:
        raise _WrongError("is larger than any number with a point can be") from None
    if math.isnan(found):
        raise _WrongError("is not a number")
    return found


def _item(kind: Any, value: Any, at: int | str) -> Any:
    try:
        return _fitted(kind, value)
    except _WrongError as error:
        raise _WrongError(f"{at if isinstance(at, str) else f'item {at}'} {error}") from None


def _path(value: str | Path) -> str | Path:
    if not str(value) or "\0" in str(value):
        raise _WrongError("is empty" if not str(value) else "has a zero byte, which no path can have")
    return value


def _options(kind: Any) -> tuple[Any, ...]:
    union = typing.get_origin(kind) in (types.UnionType, typing.Union)
    return typing.get_args(kind) if union else (kind,)


def _named(kind: Any) -> str:
    """A kind as a person writes it."""
    *first, last = (_named_alone(each) for each in _options(kind))
    return f"{', '.join(first)} or {last}" if first else last


def _named_alone(kind: Any) -> str:
    origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is Sequence:
        return f"a list of {_named(inner[0])}"
    if origin is tuple:
        return f"({', '.join(map(_named, inner))})"
    if origin is Mapping:
        return "a dict"
    if origin is Callable:
        return "a function"
    return _NAMED.get(origin) or str(getattr(origin, "__name__", "another value"))
