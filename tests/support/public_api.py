"""What is public, as text: each name of the public modules, with its signature or what its type is made of.

``python tests/support/public_api.py > docs/reference/public-api.txt`` writes the list down anew.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

MODULES = ("simulations.api", "crypto.api", "models.api")
SETTINGS = {"ExperimentConfig", "CipherConfig", "ModelConfig"}
"""Their fields are settings, which have a page of their own."""


def listing() -> str:
    """All of it, a line each, what belongs to a type indented below it."""
    return "".join(f"{line}\n" for module in MODULES for line in _of_module(module))


def names(text: str) -> list[str]:
    """The public names of a listing, with their modules."""
    lines = (line for line in text.splitlines() if line and not line.startswith((" ", "#")))
    return [line.removeprefix("class ").partition("(")[0] for line in lines]


def _of_module(module: str) -> Iterator[str]:
    found = importlib.import_module(module)
    for name in sorted(found.__all__):
        thing = getattr(found, name)
        if not inspect.isclass(thing):
            yield f"{module}.{name}{_signature(thing)}"
            continue
        yield f"class {module}.{name}"
        if name not in SETTINGS:
            yield from (f"    {line}" for line in sorted(_of_class(thing)))


def _of_class(kind: type[Any]) -> Iterator[str]:
    if dataclasses.is_dataclass(kind):
        yield from (f".{each.name}: {each.type}" for each in dataclasses.fields(kind) if not each.name.startswith("_"))
    elif hasattr(kind, "_fields"):
        yield from (f".{name}: {_said(kind.__annotations__[name])}" for name in kind._fields)
    for name, member in inspect.getmembers_static(kind):
        if name.startswith("_") or (hasattr(kind, "_fields") and hasattr(tuple, name)):
            continue
        if isinstance(member, property):
            yield f".{name}: {inspect.signature(member.fget).return_annotation}"  # type: ignore[arg-type]
        elif isinstance(member, classmethod | staticmethod) or inspect.isfunction(member):
            yield f".{name}{_signature(getattr(kind, name))}"


class _Bare(str):
    """An annotation, which stands in a signature without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _signature(function: Any) -> inspect.Signature:
    found = inspect.signature(function)
    parameters = [
        each.replace(annotation=_bare(each.annotation)) if each.annotation is not each.empty else each
        for each in found.parameters.values()
    ]
    return found.replace(parameters=parameters, return_annotation=_bare(found.return_annotation))


def _bare(annotation: Any) -> Any:
    return _Bare(annotation) if isinstance(annotation, str) else annotation


def _said(annotation: Any) -> str:
    return str(getattr(annotation, "__forward_arg__", annotation))


if __name__ == "__main__":
    print(listing(), end="")
