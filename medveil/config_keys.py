"""Keys of a configuration dataclass: which there are, what each takes, and which one a wrong name may have meant."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import typing
from typing import Any

from medveil.bounded import word
from medveil.config_values import WrongKindError, fitted, named
from medveil.errors import ConfigError

_GUESSES = 3


@functools.cache
def hints(schema: type) -> dict[str, Any]:
    """The types of a schema's fields: reading them takes a quarter of the time of a configuration."""
    return typing.get_type_hints(schema)


def setting_names(schema: type) -> list[str]:
    """The dotted keys of all settings, in the order of their fields; a section is no setting."""
    found, made = hints(schema), []
    for each in dataclasses.fields(schema):
        inner = found[each.name]
        if dataclasses.is_dataclass(inner):
            made += [f"{each.name}.{name}" for name in setting_names(typing.cast("type", inner))]
        else:
            made.append(each.name)
    return made


def fitted_to(schema: type, values: dict[str, Any], *, where: str) -> dict[str, Any]:
    """Plain data as the fields of a schema take it.

    Raises
    ------
    ConfigError
        A key is no field (the nearest one is named), a section is none, or a value is of the wrong type.
    """
    return _fitted(schema, values, where=where, prefix="", root=schema)


def refuse_no_settings(config: Any) -> None:
    """Refuse a configuration to which a program gave an attribute that is no setting of it (ConfigError)."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        problem = f"is of type {word(type(config).__name__)}, and no experiment"
        raise ConfigError(problem, where="settings", cure="api.experiment(...) makes one")
    _refuse_no_settings(config, prefix="", everywhere=setting_names(type(config)))


def _refuse_no_settings(config: Any, *, prefix: str, everywhere: list[str]) -> None:
    known = [each.name for each in dataclasses.fields(config)]
    for name, value in vars(config).items():
        if name not in known and not hasattr(type(config), name):
            near = _nearest(name, here=[f"{prefix}{each}" for each in known], everywhere=everywhere)
            cure = f"did you mean {near}?" if near else f"valid here: {', '.join(known)}"
            raise ConfigError(f"unknown key '{prefix}{word(name)}'", where="settings", cure=cure)
        if dataclasses.is_dataclass(value):
            _refuse_no_settings(value, prefix=f"{prefix}{name}.", everywhere=everywhere)


def _fitted(schema: type, values: dict[str, Any], *, where: str, prefix: str, root: type) -> dict[str, Any]:
    """Values as the fields they are for take them; a key that is no field is refused by the nearest one."""
    found = hints(schema)
    known = [each.name for each in dataclasses.fields(schema)]
    made: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            near = _nearest(str(key), here=[f"{prefix}{name}" for name in known], everywhere=setting_names(root))
            cure = f"did you mean {near}?" if near else f"valid here: {', '.join(known)}"
            raise ConfigError(f"unknown key '{prefix}{word(key)}'", where=where, cure=cure)
        kind, name = found[key], f"{prefix}{key}"
        if not dataclasses.is_dataclass(kind):
            made[key] = _fitted_value(kind, value, where=where, name=name)
            continue
        if not isinstance(value, dict):
            raise ConfigError(f"'{name}' is a section", where=where, cure="give it keys of its own")
        made[key] = _fitted(typing.cast("type", kind), value, where=where, prefix=f"{name}.", root=root)
    return made


def _fitted_value(kind: Any, value: Any, *, where: str, name: str) -> Any:
    try:
        return fitted(kind, value, where=f"{where}: '{name}'")
    except WrongKindError as error:
        problem = f"'{name}' has a value of the wrong type: {error.found}"
        raise ConfigError(problem, where=where, cure=f"expected {named(kind)}") from None


def _nearest(key: str, *, here: list[str], everywhere: list[str]) -> str:
    """Which settings a name may have meant, quoted: those of its name in any section first, then the nearest one."""
    named = [path for path in everywhere if _last(path) == key]
    scores = {
        path: difflib.SequenceMatcher(None, key, _last(path)).ratio() for path in dict.fromkeys(here + everywhere)
    }
    # A slip of the finger is in the right section more often than not.
    close = max(scores, key=lambda path: scores[path] + 0.1 * (path in here))
    enough = 0.8 if named else 0.5 if close in here else 0.6
    guesses = [*named, close] if scores[close] >= enough else named
    return " or ".join(f"'{path}'" for path in list(dict.fromkeys(guesses))[:_GUESSES])


def _last(path: str) -> str:
    return path.rpartition(".")[2]
