"""The kinds of files that can be hidden: one object a kind, found by looking into the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from crypto.files.header import HiddenHeader
from crypto.files.recipe import Recipe
from crypto.files.streams import Opener, Output, open_file
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from medveil.files import new_file


@dataclass
class FileReport:
    """What was done to one file. Plain data: it crosses from worker processes and goes into reports.

    Parameters
    ----------
    frames
        Images in the file.
    channels
        Of a training file that was hidden: 1 or 3; 0 where nothing was asked.
    seconds
        By stage: read, decode, deidentify, encrypt, write.
    removed, replaced
        Keywords (or tags) of attributes that de-identification removed or replaced; values never.
    warnings
        What a person should look at, one sentence each.
    place
        Of a file that was shown: whether it was hidden under a name asked for (`crypto.files.header.place_of`).
    """

    frames: int = 1
    channels: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    place: str = ""


class FileKind(Protocol):
    """How one kind of image file is hidden and shown again.

    `hide` and `show` write `target` whole or not at all, never touch `source`, and raise errors of `medveil.errors`
    alone, whatever the file holds.
    """

    name: str

    def recognises(self, head: bytes) -> bool:
        """Whether the first bytes of a file are of this kind."""

    def hidden_name(self, name: str, recipe: Recipe) -> str:
        """What the hidden form of a file of this name is called."""

    def hide(
        self,
        source: Path,
        target: Path,
        recipe: Recipe,
        key: SiteKey,
        *,
        name: str = "",
        output: Output = new_file,
    ) -> FileReport:
        """Hide a file, bound to `name` where one is given; `output` makes the target.

        Raises
        ------
        DataError
            The file cannot be read, or is of a sort that is refused by name.
        StorageError
            The disk refused.
        """

    def show(
        self,
        source: Path,
        target: Path,
        keys: Keyring,
        *,
        names: Sequence[str] = (),
        opened: Opener = open_file,
    ) -> FileReport:
        """Show a hidden file again: checked by its MAC, then decrypted; `opened` opens the source.

        The report says as `place` whether it was hidden under one of `names`.

        Raises
        ------
        FormatError
            It is not a hidden file, or of a newer version.
        KeyMaterialError
            It was hidden under a key the ring does not hold.
        IntegrityError
            It is cut short, damaged or was changed.
        """

    def header(self, source: Path) -> HiddenHeader:
        """What a hidden file says of itself; proven by `verify` or `show` alone. Errors as `show`."""

    def verify(self, source: Path, keys: Keyring, *, names: Sequence[str] = ()) -> str:
        """Check a hidden file's MAC without decrypting it; gives its `place`, as `show` does. Errors as there."""

    def ciphertext(self, source: Path, frame: int = 0) -> NDArray[Any]:
        """One frame of a hidden file as it is, for training on it: uint8 or uint16 (C, H, W), nothing proven.

        Raises
        ------
        FormatError, IntegrityError
            As `show`.
        """
