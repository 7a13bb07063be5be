"""What runs before this one left in its output: their manifest, and the journal of one that was not finished."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from crypto.keyring import Keyring
from crypto.tree.journal import read_journal
from crypto.tree.manifest import read_manifest
from crypto.tree.paths import MANIFEST
from crypto.tree.plan import Plan
from crypto.tree.records import Heading, Marks, Record, read_heading
from medveil.errors import ConfigError


class Earlier:
    """Journal and manifest of an output, checked to be of the same settings.

    Parameters
    ----------
    plan, keys
        What this run is to do.
    journal
        Where a journal would be.

    Attributes
    ----------
    stale : list of Path
        Files of other settings, which the plan's `force` replaces.

    Raises
    ------
    ConfigError
        The output was begun with other settings, and the plan does not force.
    """

    def __init__(self, plan: Plan, keys: Keyring, journal: Path) -> None:
        self._plan, self._keys = plan, keys
        self._manifest, self._journal = plan.target / MANIFEST, journal
        self.stale: list[Path] = []
        self._good = [path for path in (self._manifest, self._journal) if self._is_good(path)]

    def records(self) -> Iterator[Record]:
        """Of finished runs; errors as `crypto.tree.manifest.read_manifest`."""
        if self._manifest in self._good:
            yield from read_manifest(self._manifest, self._keys)

    def unfinished(self, *, mend: bool = True) -> Iterator[Record]:
        """Of the run that was not finished; parameters and errors as `crypto.tree.journal.read_journal`."""
        if self._journal in self._good:
            yield from read_journal(self._journal, Marks(self._keys.current), mend=mend)

    def _is_good(self, path: Path) -> bool:
        found = read_heading(path)
        if found is None:
            return False
        wanted = self._plan.heading(self._keys.current)
        if found == wanted:
            return True
        if not self._plan.force:
            cure = "choose another folder, or replace what is there (--force; force=True)"
            raise ConfigError(
                f"was begun with another {_differences(wanted, found)}", where=self._plan.target, cure=cure
            )
        self.stale.append(path)
        return False


def _differences(wanted: Heading, found: Heading) -> str:
    mine, theirs = dataclasses.asdict(wanted), dataclasses.asdict(found)
    named = {"action": "command", "fingerprint": "key"}
    differ = [said for name, said in named.items() if mine[name] != theirs[name]]
    recipes = mine["recipe"], theirs["recipe"]
    differ += [name for name in sorted({*recipes[0], *recipes[1]}) if recipes[0].get(name) != recipes[1].get(name)]
    return ", ".join(differ)
