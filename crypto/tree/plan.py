"""What one run over a tree is asked to do."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crypto.files.kinds import FileKind
from crypto.files.recipe import Recipe
from crypto.files.sealing import SUFFIX
from crypto.keys import Key
from crypto.tree.records import HIDE, SHOW, Heading, heading_of


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run over a file or a tree.

    Parameters
    ----------
    source, target
        The two roots.
    recipe
        How to hide; None to show what is hidden.
    force
        Whether files that are there may be replaced.
    jobs
        Processes that work side by side.
    renamed
        To show what is hidden, wherever it stands now: a file that was hidden under another name is said, not refused.
    """

    source: Path
    target: Path
    recipe: Recipe | None = None
    force: bool = False
    jobs: int = 1
    renamed: bool = False

    @property
    def action(self) -> str:
        """``"encrypt"`` or ``"decrypt"``."""
        return SHOW if self.recipe is None else HIDE

    @property
    def folder_mode(self) -> int:
        """Of the folders that are made: what was shown is for its owner alone."""
        return 0o700 if self.recipe is None else 0o755

    def result_name(self, name: str, kind: FileKind) -> str:
        """What a file is called when it was hidden or shown; folders stay."""
        folder, slash, last = name.rpartition("/")
        if self.recipe is None:
            return folder + slash + last.removesuffix(SUFFIX)
        return folder + slash + kind.hidden_name(last, self.recipe) + (SUFFIX if self.recipe.seal else "")

    def heading(self, key: Key) -> Heading:
        """The first line of the run's journal and manifest."""
        return heading_of(self.action, key, self.recipe)

    def as_json(self) -> dict[str, Any]:
        """As plain data, for reports."""
        recipe = None if self.recipe is None else dataclasses.asdict(self.recipe)
        return {"action": self.action, "recipe": recipe, "force": self.force}
