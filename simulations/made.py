"""Which state of this program made a run, where it runs from a checkout."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Any

from fl_server.manifest import read_manifest
from medveil.files import write_json
from simulations.folders import MANIFEST

COMMITS = "commits"
"""What ``manifest.json`` calls them: one, or one more each time the run went on under another."""
_ROOT = Path(__file__).resolve().parent.parent
_GIT_S = 20.0


@functools.cache
def commit() -> str | None:
    """The commit this program was started from, ``+`` behind it where its files differ; None outside a checkout."""
    if not (_ROOT / ".git").exists():
        return None
    named = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no") if named else None
    return None if not named or changed is None else f"{named}{'+' if changed else ''}"


def note_commit(run: Path, made_by: str | None) -> None:
    """Write the commit into a run's manifest; errors as reading and writing it."""
    document: dict[str, Any] = read_manifest(run / MANIFEST)
    known = [each for each in document.get(COMMITS) or [] if isinstance(each, str)]
    if made_by is None or made_by in known:
        return
    document[COMMITS] = [*known, made_by]
    write_json(run / MANIFEST, document)


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True, check=False, timeout=_GIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
