"""What de-identification did to many files: each attribute and how many files lost or changed it. Values never."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts over files.

    Parameters
    ----------
    removed, replaced
        Attribute -> files.
    warnings
        Warning -> files.
    """

    removed: Counter[str] = field(default_factory=Counter)
    replaced: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)

    def add(self, *, removed: Iterable[str], replaced: Iterable[str], warnings: Iterable[str]) -> None:
        """Count one file, from its `DeidReport` or from the report of the file it is in."""
        self.removed.update(set(removed))
        self.replaced.update(set(replaced))
        self.warnings.update(set(warnings))

    def rows(self) -> list[tuple[str, int, int]]:
        """(attribute, files that lost it, files where it was replaced), by name; private and unknown tags last."""
        names = sorted({*self.removed, *self.replaced}, key=lambda name: (name.startswith("("), name))
        return [(name, self.removed[name], self.replaced[name]) for name in names]
