"""Taking what a comparison or an ablation left into ``docs/results``, without what is this machine's alone."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePath
from typing import Any

FILES = ("compare.json", "ablation.json")
_FORMATS = {"medveil-comparison", "medveil-ablation"}
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_ABSOLUTE = re.compile(r"(?<![^\s='\"\[,])/[^\s'\",\]]+")


def take(folder: Path, results: Path, *, name: str | None = None) -> Path:
    """Copy the document of a folder; it is called as the folder unless told otherwise.

    Raises
    ------
    SystemExit
        There is none, or its name is none for a file of results.
    """
    source = next((folder / each for each in FILES if (folder / each).is_file()), None)
    if source is None:
        raise SystemExit(f"{folder}: holds none of {', '.join(FILES)}")
    called = folder.resolve().name.lower() if name is None else name
    if not _NAME.fullmatch(called):
        raise SystemExit(f"{called!r} is no name of a file of results: small letters, digits and single hyphens")
    document = json.loads(source.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or document.get("format") not in _FORMATS:
        raise SystemExit(f"{source}: is neither a comparison nor an ablation")
    target = results / f"{called}.json"
    target.write_text(json.dumps(public(document), indent=2) + "\n", encoding="utf-8")
    return target


def public(document: dict[str, Any]) -> dict[str, Any]:
    """The document with runs named within their folder, and files of its command by their names alone."""
    made = dict(document)
    if made.get("command"):
        made["command"] = _ABSOLUTE.sub(lambda match: PurePath(match[0]).name, made["command"])
    if "arms" in made:
        made["arms"] = [
            {**arm, "runs": ["/".join(PurePath(run).parts[-2:]) for run in arm["runs"]]} for arm in made["arms"]
        ]
    return made
