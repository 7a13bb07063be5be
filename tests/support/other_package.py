"""A package of somebody else's, installed beside MedVeil: files of code, and the metadata that pip would leave."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from medveil import plugins


def install(
    folder: Path, entries: Mapping[str, str], *, code: str = "", name: str = "other-package", version: str = "1.2"
) -> str:
    """Lay a package into a folder of a search path; returns the name of its module.

    Parameters
    ----------
    entries
        What it offers, as ``{"medveil.schemes mirror": "Mirror"}``: group, name, and what of its module.
    code
        The module.
    """
    # Its own in every test: what was imported stays imported.
    module = f"code_{hashlib.sha256(f'{folder} {name}'.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups: dict[str, list[str]] = {}
    for said, what in entries.items():
        group, _, own = said.partition(" ")
        groups.setdefault(group, []).append(f"{own} = {module}:{what}")
    text = "".join(f"[{group}]\n" + "\n".join(lines) + "\n" for group, lines in groups.items())
    (info / "entry_points.txt").write_text(text)
    return module


def forget(patch: pytest.MonkeyPatch) -> None:
    """Let this process be one that took nothing yet, until the test ends."""
    patch.setattr(plugins, "_trust", plugins._Trust())
    patch.setattr(plugins, "_used", {})
