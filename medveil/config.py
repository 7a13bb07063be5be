"""Typed configuration: OmegaConf over dataclasses, with errors that name file, key and the nearest valid name.

Every field of a configuration dataclass carries its own help, ``field(default=..., metadata={"help": "..."})``;
`commented_yaml` prints them. A configuration that adds to another is a subclass of it, and `again` says what differs.

Whoever wrote them, settings are never evaluated: OmegaConf would fill in ``${oc.env:NAME}`` from this process's
environment, so ``${`` is refused by the name of its field (`medveil.bounded.check_settings`). No error shows a value.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import typing
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medveil.bounded import check_settings, kind_of_value, parse_yaml, word
from medveil.config_keys import fitted_to, hints
from medveil.errors import ConfigError
from medveil.files import read_bytes
from medveil.yaml_core import Typed, written_yaml

T = TypeVar("T")


@typing.runtime_checkable
class Implies(typing.Protocol):
    """A configuration in which one setting stands for others."""

    def implied(self) -> dict[str, Any]:
        """Values, by section, that hold wherever a file and a command line say nothing; empty where there are none."""


_PLAIN = {type(None), bool, int, float, str}


def again(
    base: type,
    name: str,
    *,
    default: Any = dataclasses.MISSING,
    make: Callable[[], Any] | None = None,
    words: str | None = None,
) -> Any:
    """A field of a base class once more, for a subclass that changes its default or its help; the rest is the base's.

    Parameters
    ----------
    base, name
        The dataclass that says the field, and the field.
    default, make
        Another default, or what makes it.
    words
        Another help.
    """
    said = next(each for each in dataclasses.fields(base) if each.name == name)
    metadata = said.metadata if words is None else {"help": words}
    if make is not None:
        return dataclasses.field(default_factory=make, metadata=metadata)
    if default is dataclasses.MISSING:
        default = said.default
    return dataclasses.field(default=default, metadata=metadata)


def load_config(
    schema: type[T],
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    values: dict[str, Any] | None = None,
) -> T:
    """Read a YAML file and `key=value` overrides into a configuration dataclass.

    Parameters
    ----------
    schema
        A dataclass type; nested dataclasses are sections.
    path
        The YAML file, or None for the defaults.
    overrides
        Dotted assignments, for example ``"data.path=/images"``. A value is taken as it stands where the field is text;
        a list is written ``[a, b]`` (`medveil.bounded.parse_list`), and ``null`` or nothing at all takes back what may
        be null.
    values
        Plain data over the file and below the overrides.

    Raises
    ------
    ConfigError
        A key is unknown (the nearest valid name is given), a value has the wrong type or is an interpolation, the text
        is not YAML, or there is too much of it.
    """
    layers: list[tuple[str, dict[str, Any]]] = []
    if path is not None:
        layers.append((str(path), _read_yaml(path)))
    if values:
        layers.append(("settings", values))
    layers += [(f"command line '{word(each)}'", _parsed_override(each)) for each in overrides]
    where = str(path or "defaults")
    made = _made(schema, layers, where=where)
    below = made.implied() if isinstance(made, Implies) else {}
    return _made(schema, [("recipe", below), *layers], where=where) if below else made


def from_mapping(schema: type[T], values: dict[str, Any], *, where: str) -> T:
    """Fill a configuration dataclass from plain data, with the same checks as `load_config`."""
    check_settings(values, where=where)
    given = _Given(schema, _identity(values), values, where)
    return typing.cast("T", _laid_over(_filled(given), {}))


@dataclasses.dataclass(frozen=True)
class _Given:
    """Plain data for a schema, equal to other data of the same identity, wherever that is from."""

    schema: type
    identity: Hashable
    values: dict[str, Any] = dataclasses.field(compare=False)
    where: str = dataclasses.field(compare=False)


def _identity(value: Any) -> Hashable:
    """What two values share that a configuration takes alike: kinds as well, since 1, 1.0 and true are not one."""
    if isinstance(value, dict):
        return dict, tuple((_identity(key), _identity(each)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return type(value), tuple(map(_identity, value))
    return type(value), repr(value)


@functools.lru_cache(maxsize=32)
def _filled(given: _Given) -> object:
    """What `from_mapping` copies: the same settings come with every message of a run."""
    return _made(given.schema, [(given.where, given.values)], where=given.where)


def assigned_keys(overrides: Sequence[str]) -> set[str]:
    """The dotted keys that `key=value` overrides set."""
    return {override.partition("=")[0] for override in overrides}


def to_mapping(config: Any) -> dict[str, Any]:
    """A configuration dataclass as plain nested data, ready for JSON."""
    made: dict[str, Any] = dataclasses.asdict(config)
    return made


def commented_yaml(schema: type, values: Any = None) -> str:
    """A configuration dataclass as YAML, each key under its help.

    Parameters
    ----------
    schema
        The dataclass type.
    values
        An instance whose values are written; None for the defaults.
    """
    return "\n".join(_commented_lines(schema, schema() if values is None else values, indent="")) + "\n"


def check_setting(right: bool, name: str, value: object, cure: str, where: str | Path) -> None:
    """Refuse a setting whose value is not right (ConfigError), showing no more of it than a line can hold."""
    if not right:
        raise ConfigError(f"'{name}' is {word(repr(value))}", where=where, cure=cure)


def _made(schema: type[T], layers: Sequence[tuple[str, dict[str, Any]]], *, where: str) -> T:
    """The defaults under layers of values, the last one on top; each with where it is from."""
    taken = [(at, _taken(schema, values, where=at)) for at, values in layers]
    at_once: dict[str, Any] = functools.reduce(_over, (values for _, values in taken), {})
    if _is_plain(at_once):
        # What is of the kind of its field already: OmegaConf would look through all settings for each layer.
        return typing.cast("T", _laid_over(_default(typing.cast("type", schema)), at_once))
    return _to_object(schema, _stacked(schema, taken), where=where)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and _is_plain(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return type(value) in _PLAIN


def _laid_over(below: Any, values: dict[str, Any]) -> Any:
    """A copy of a configuration with values in place of some of its own."""
    fields = {}
    for each in dataclasses.fields(below):
        own, given = getattr(below, each.name), values.get(each.name, {})
        if dataclasses.is_dataclass(own):
            fields[each.name] = _laid_over(own, given)
        elif isinstance(own, dict) and isinstance(given, dict):
            fields[each.name] = copy.deepcopy(_over(own, given))
        else:
            fields[each.name] = copy.deepcopy(values.get(each.name, own))
    return type(below)(**fields)


def _stacked(schema: type, taken: Sequence[tuple[str, dict[str, Any]]]) -> DictConfig:
    """What OmegaConf makes of layers of values, or the error of the first that it cannot take."""
    config = _defaults(schema)
    for where, values in taken:
        try:
            config = _merged(config, values)
        except OmegaConfBaseException as error:
            # Its own words hold the value, which may be anybody's.
            key = word(getattr(error, "full_key", None) or "?")
            raise ConfigError(f"'{key}' has no value that can be used", where=where, cure="another one") from None
    return config


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two layers as one."""
    made = dict(below)
    for key, value in above.items():
        inner = made.get(key)
        made[key] = _over(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return made


def _defaults(schema: type) -> DictConfig:
    """A schema's defaults, the caller's own to change."""
    return copy.deepcopy(_structured(schema))


@functools.cache
def _structured(schema: type) -> DictConfig:
    """What `_defaults` copies: a copy takes a quarter of the time that reading a schema does."""
    return typing.cast("DictConfig", OmegaConf.structured(schema))


@functools.cache
def _default(schema: type) -> object:
    """What `_laid_over` copies: a schema's defaults, each of the kind of its field."""
    return _to_object(schema, _structured(schema), where="defaults")


def _read_yaml(path: str | Path) -> dict[str, Any]:
    if not Path(path).exists():
        raise ConfigError("no such file", where=path, cure="'medveil-sim init' prints one")
    try:
        text = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError("is not text", where=path, cure="give a YAML file in UTF-8") from None
    values = parse_yaml(text, where=path)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError("holds no keys", where=path, cure="a configuration is a mapping of 'key: value'")
    return values


def _parsed_override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key or any(not part for part in key.split(".")):
        where = f"'{word(text)}'"
        raise ConfigError("is not 'key=value'", where=where, cure="for example rounds=5 or data.path=/images")
    nested: Any = Typed(value)
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return typing.cast("dict[str, Any]", nested)


def _taken(schema: type, values: dict[str, Any], *, where: str) -> dict[str, Any]:
    check_settings(values, where=where)
    if not isinstance(values, dict):
        raise ConfigError(f"is {kind_of_value(values)}", where=where, cure="settings are a section, keys with values")
    taken = fitted_to(schema, values, where=where)
    # What a word means may be more than the word: a number of a thousand digits.
    check_settings(taken, where=where)
    return taken


def _merged(config: DictConfig, values: dict[str, Any]) -> DictConfig:
    """Values into `config` itself, which is the caller's own and is dropped where this fails: merging copies it."""
    return typing.cast("DictConfig", OmegaConf.unsafe_merge(config, values))


def _to_object(schema: type[T], config: DictConfig, *, where: str) -> T:
    try:
        return typing.cast("T", OmegaConf.to_object(config))
    except OmegaConfBaseException as error:
        key = word(getattr(error, "full_key", None) or "?")
        raise ConfigError(f"'{key}' has no value that can be used", where=where, cure="give it one") from None


def _commented_lines(schema: type, defaults: Any, *, indent: str) -> Iterator[str]:
    found = hints(schema)
    for each in dataclasses.fields(schema):
        value = getattr(defaults, each.name)
        text = each.metadata.get("help")
        if text:
            yield f"{indent}# {text}"
        if dataclasses.is_dataclass(found[each.name]):
            yield f"{indent}{_inside(each.name)}:"
            yield from _commented_lines(typing.cast("type", found[each.name]), value, indent=f"{indent}  ")
        else:
            # Within brackets more letters mean something than alone: what reads back there reads back anywhere.
            yield f"{indent}{_inside(each.name)}: {_inside(value)}"


def _inside(value: Any) -> str:
    """A value, or the name of one, in YAML of either version: ``on`` is a truth value to one of them."""
    return written_yaml([value], flow=True).strip()[1:-1]
