"""The page about the settings, from the dataclasses that read them: name, default and help of every field."""

from __future__ import annotations

import dataclasses
import importlib
import json
import typing
from collections.abc import Iterator
from typing import Any

from docsite.tables import code, safe, table

FILES = (
    ("An experiment", "simulations.config", "ExperimentConfig", "`medveil-sim run FILE`, and `KEY=VALUE` behind it."),
    ("A run of a consortium", "fl_server.deployment.plan", "RunFile", "`medveil-server run FILE`."),
    ("A site", "fl_client.deployment.config", "SiteConfig", "`site.yaml`, which `medveil-site enroll` writes."),
    (
        "A consortium",
        "fl_server.deployment.consortium",
        "ConsortiumConfig",
        "`consortium.yaml`, which `medveil-server init` writes.",
    ),
    ("A PACS", "fl_client.dicomweb.server", "ServerConfig", "the server's file, `pacs.yaml`, that `data.path` names."),
    ("An attack", "simulations.attacks.config", "AttackConfig", "`medveil-sim attack ... --set KEY=VALUE`."),
)
"""Heading, module, dataclass, and where the settings are read."""

READ = (
    "Files are YAML 1.2. A setting that is text takes a plain word as it stands: `no`, `012` and `2026-11-28` need no",
    "quotes. A number is one of YAML 1.2, and a truth value `true` or `false`. A key that stands twice is refused.",
    "",
    "Behind `KEY=`, text is taken letter for letter, without quotes of its own. A list is `[a, b]`, on one line;",
    "within it, what holds a comma, a bracket, a colon before a space or a space before `#` goes into double quotes.",
    "`null`, or nothing, takes back what may be null. Behind `--`, no word is an option.",
)
"""How values are read."""


def page() -> str:
    """Every setting of every file."""
    lines = ["# Settings", ""]
    lines += ["Made from the program when this site was built. Names are dotted, as on a command line.", ""]
    lines += [*READ, ""]
    for heading, module, name, read in FILES:
        schema = getattr(importlib.import_module(module), name)
        lines += [f"## {heading}", "", safe((schema.__doc__ or "").strip().splitlines()[0]), "", f"Read by {read}", ""]
        for section, text, rows in sections(schema):
            lines += [f"### {heading}: {code(section)}", "", text, ""] if section else []
            lines += [table(("setting", "default", "what"), rows)]
    return "\n".join(lines)


def sections(schema: type, *, prefix: str = "", text: str = "", values: Any = None) -> Iterator[tuple[str, str, list]]:
    """The settings of a dataclass, section by section.

    Yields
    ------
    tuple of str, str, list
        The section's dotted name, its help, and rows of name, default and help.
    """
    values = schema() if values is None else values
    hints = typing.get_type_hints(schema)
    rows, inner = [], []
    for each in dataclasses.fields(schema):
        value, said = getattr(values, each.name), each.metadata.get("help", "")
        if dataclasses.is_dataclass(hints[each.name]):
            inner.append((hints[each.name], f"{prefix}{each.name}", said, value))
        else:
            rows.append((code(f"{prefix}{each.name}"), code(json.dumps(value)), safe(said)))
    if rows:
        yield prefix.removesuffix("."), safe(text), rows
    for kind, name, said, value in inner:
        yield from sections(kind, prefix=f"{name}.", text=said, values=value)
