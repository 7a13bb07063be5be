"""Whether training files were hidden some in grey and some in colour: one model reads one of the two."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

from crypto.files.recipe import TRAINING
from crypto.files.registry import kind_of
from crypto.reading.look import open_image
from crypto.tree.plan import Plan
from medveil.errors import MedVeilError

_MOST_LOOKED_AT = 1000
_NAMES = {1: "grey", 3: "colour"}


class Forms:
    """Counts the forms of training files, where the plan leaves them as the images have them.

    Parameters
    ----------
    plan
        What is asked for.
    """

    def __init__(self, plan: Plan) -> None:
        recipe = plan.recipe
        self._target, self._looked_at = plan.target, 0
        self._counts = recipe is not None and recipe.purpose == TRAINING and recipe.channels is None
        self._now: Counter[int] = Counter()
        self._before: set[int] = set()

    def look(self, path: Path) -> None:
        """Count a file that would be hidden, by its header; nothing of one that cannot be read."""
        if self._counts:
            with contextlib.suppress(MedVeilError):
                self.add(open_image(path).about.channels)

    def add(self, channels: int) -> None:
        """Count a file that was hidden now."""
        if self._counts and channels:
            self._now[channels] += 1

    def recall(self, name: str) -> None:
        """Look at a file that an earlier run hid; at a thousand of them at most, until both forms were met."""
        if not self._counts or len(self._before) == len(_NAMES) or self._looked_at >= _MOST_LOOKED_AT:
            return
        self._looked_at += 1
        try:
            path = Path(self._target, name)
            kind = kind_of(path)
            if kind is not None:
                self._before.add(kind.header(path).channels)
        except MedVeilError:
            # It is gone or damaged: others say so.
            return

    def said(self) -> str:
        """What a person should know; empty where all files have one form."""
        if len({*self._now, *self._before}) < len(_NAMES):
            return ""
        counted = " and ".join(f"{_files(self._now[channels])} in {name}" for channels, name in _NAMES.items())
        before = ", beside those of earlier runs" if self._before else ""
        return (
            f"grey and colour images are mixed, and each is hidden as it is: {counted}{before}; one model reads one "
            "form alone: hide them into an empty folder with --channels 3 (or 1)"
        )


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
