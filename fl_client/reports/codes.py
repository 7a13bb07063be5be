"""What a run's classes are called in a hospital's terminology: a YAML file of coded concepts (PS3.3 8.1 and 8.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medveil.bounded import kind_of_value, word
from medveil.config import from_mapping, load_config
from medveil.errors import ConfigError

_SHOWN = 5
_WRITTEN = "classes: {NAME: {code: '...', scheme: SCT, meaning: ...}}"
_LONGEST = {"code": 16, "scheme": 16, "meaning": 64}
"""Characters of a short string (SH) and of a long one (LO), PS3.5 6.2."""
_SHORT = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]*[!-\[\]-~])?")
"""Printable ASCII that neither begins nor ends with a space; a backslash would begin a second value."""


@dataclass(frozen=True)
class Concept:
    """A coded concept."""

    code: str = field(default="", metadata={"help": "Code value, at most 16 characters: '4147007'."})
    scheme: str = field(default="", metadata={"help": "Scheme designator of PS3.16 8: SCT, DCM; 99... for one's own."})
    meaning: str = field(default="", metadata={"help": "What the code means, in at most 64 characters."})


@dataclass(frozen=True)
class Codes:
    """Coded concepts of a run's classes, in their order, and of the procedure that is reported."""

    classes: tuple[Concept, ...]
    procedure: Concept


@dataclass
class _CodesFile:
    classes: dict[str, Any] = field(default_factory=dict)
    procedure: dict[str, Any] = field(
        default_factory=lambda: {"code": "363679005", "scheme": "SCT", "meaning": "Imaging procedure"}
    )


def read_codes(path: Path, classes: Sequence[str]) -> Codes:
    """Read the coded concepts of every class of a model.

    Parameters
    ----------
    classes
        Names of the model's classes, in its order.

    Raises
    ------
    ConfigError
        There is no such file, or it is none of coded concepts; a class is missing or unknown; two have one code; or a
        text is empty, too long or of letters that a code has not.
    """
    if not path.is_file():
        raise ConfigError("no such file", where=path, cure=f"a YAML file of coded concepts: {_WRITTEN}")
    given = load_config(_CodesFile, path)
    missing = [name for name in classes if name not in given.classes]
    if missing:
        raise ConfigError(f"has no coded concept of {_listed(missing)}", where=path, cure=_WRITTEN)
    other = [name for name in given.classes if name not in classes]
    if other:
        cure = f"the model's classes are {_listed(classes)}"
        raise ConfigError(f"names {_listed(other)}, which is no class of the model", where=path, cure=cure)
    made = tuple(_concept(given.classes[name], where=f"{path}: 'classes.{word(name)}'") for name in classes)
    _refuse_one_code_twice(made, classes, path)
    return Codes(made, _concept(given.procedure, where=f"{path}: 'procedure'"))


def read_classes(path: Path) -> dict[tuple[str, str], str]:
    """The name of each class of a file of coded concepts, by scheme and code; errors as `read_codes`."""
    if not path.is_file():
        raise ConfigError("no such file", where=path, cure=f"a YAML file of coded concepts: {_WRITTEN}")
    names = list(load_config(_CodesFile, path).classes)
    if len(names) < 2:
        raise ConfigError("names fewer than two classes", where=path, cure=_WRITTEN)
    made = read_codes(path, names).classes
    return {(each.scheme, each.code): name for name, each in zip(names, made, strict=True)}


def _concept(given: Any, *, where: str) -> Concept:
    if not isinstance(given, dict):
        raise ConfigError(f"is {kind_of_value(given)}", where=where, cure="a section: code, scheme and meaning")
    lacking = [name for name in _LONGEST if not given.get(name)]
    if lacking:
        raise ConfigError(f"has no {' and no '.join(lacking)}", where=where, cure="give code, scheme and meaning")
    for name in _LONGEST:
        if not isinstance(given[name], str):
            # A number has lost its leading zeros already.
            problem = f"its {name} is {kind_of_value(given[name])}"
            raise ConfigError(problem, where=where, cure="codes are text: put it in quotes")
    made: Concept = from_mapping(Concept, given, where=where)
    for name, longest in _LONGEST.items():
        value = getattr(made, name)
        if len(value) > longest:
            problem = f"its {name} has {len(value)} characters, more than DICOM takes"
            raise ConfigError(problem, where=where, cure=f"at most {longest}")
    if not (_SHORT.fullmatch(made.code) and _SHORT.fullmatch(made.scheme)):
        problem = "its code or scheme has letters that a code has not"
        raise ConfigError(problem, where=where, cure="printable ASCII without a backslash, and no space at either end")
    if not made.meaning.isprintable() or "\\" in made.meaning or made.meaning != made.meaning.strip():
        cure = "one line without a backslash, and no space at either end"
        raise ConfigError("its meaning is no text of one value", where=where, cure=cure)
    return made


def _refuse_one_code_twice(made: Sequence[Concept], classes: Sequence[str], path: Path) -> None:
    """Two classes of one code would be one finding with two probabilities."""
    first: dict[tuple[str, str], str] = {}
    for name, each in zip(classes, made, strict=True):
        other = first.setdefault((each.scheme, each.code), name)
        if other != name:
            problem = f"gives {_listed([other])} and {_listed([name])} one code"
            raise ConfigError(problem, where=path, cure="a code of its own for each class")


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(f"'{word(name)}'" for name in names[:_SHOWN])
    return listed if len(names) <= _SHOWN else f"{listed} and {len(names) - _SHOWN} more"
