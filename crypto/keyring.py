"""The keys a site holds: the one it hides with, and those it can still open older files with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crypto.keys import SiteKey
from medveil.errors import KeyMaterialError


@dataclass(frozen=True)
class Keyring:
    """A site's keys, newest first.

    Parameters
    ----------
    current
        Hides what is hidden from now on.
    retired
        Keys that rotation replaced, newest first; they open what was hidden under them and hide nothing more.
    """

    current: SiteKey
    retired: tuple[SiteKey, ...] = ()

    def __iter__(self) -> Iterator[SiteKey]:
        yield self.current
        yield from self.retired

    def find(self, fingerprint: str) -> SiteKey:
        """Return the key of a fingerprint.

        Raises
        ------
        KeyMaterialError
            None of the keys has it: the file was hidden under another one.
        """
        for key in self:
            if key.fingerprint == fingerprint:
                return key
        held = ", ".join(key.fingerprint for key in self)
        raise KeyMaterialError(f"was hidden under the key {fingerprint}", cure=f"give that key; this file holds {held}")
