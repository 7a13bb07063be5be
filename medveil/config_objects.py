"""Settings that a program made as an object, where a file or a command line would have told them as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from medveil.config import from_mapping, to_mapping
from medveil.config_keys import refuse_no_settings

T = TypeVar("T")


def own_copy(config: T) -> T:
    """A copy of settings that a program made; a field set by a wrong name would count for nothing, and is refused.

    Raises
    ------
    ConfigError
        They, or a section of them, have an attribute that is no setting (the nearest name is given), or of another
        type.
    """
    refuse_no_settings(config)
    return from_mapping(type(config), as_plain(to_mapping(config)), where="settings")


def as_plain(value: Any) -> Any:
    """Settings as plain data: paths as text, and tuples as lists."""
    if isinstance(value, Mapping):
        return {name: as_plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
