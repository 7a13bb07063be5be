"""Sealed files as a kind of their own, and hiding into one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from numpy.typing import NDArray

from crypto.files.header import UNSAID, HiddenHeader
from crypto.files.kinds import FileKind, FileReport
from crypto.files.recipe import Recipe
from crypto.files.sealing import MAGIC, check_sealed, sealed_fingerprint, sealed_output, unsealed
from crypto.files.streams import Opener, Output, open_file
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from medveil.errors import DataError, FormatError
from medveil.files import new_file

Inside: TypeAlias = "Callable[[BinaryIO], FileKind | None]"
"""Tells the kind of what a sealed file holds, from a stream at its start."""


class SealedFile:
    """A sealed file as a kind of its own: it opens to a hidden file, and says nothing of it without the key.

    Parameters
    ----------
    inside
        Given by the registry of kinds (`crypto.files.registry.SEALED`), which knows this kind too.
    """

    name = "sealed"

    def __init__(self, inside: Inside) -> None:
        self._inside = inside

    def recognises(self, head: bytes) -> bool:
        """Whether the first bytes of a file are of this kind."""
        return head.startswith(MAGIC)

    def hidden_name(self, name: str, recipe: Recipe) -> str:
        """Never asked: a sealed file is not hidden again."""
        return name

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
        """Refuse: it is sealed already.

        Raises
        ------
        DataError
            Always.
        """
        raise DataError("is sealed already", where=source, cure="decrypt it first")

    def show(
        self,
        source: Path,
        target: Path,
        keys: Keyring,
        *,
        names: Sequence[str] = (),
        opened: Opener = open_file,
    ) -> FileReport:
        """Show a hidden file; see `crypto.files.kinds.FileKind`."""
        with unsealed(source, keys) as stream:

            @contextlib.contextmanager
            def from_start(_: Path) -> Iterator[BinaryIO]:
                stream.seek(0)
                yield stream

            kind = self._inside(stream)
            if kind is None:
                raise FormatError("holds no hidden file", where=source)
            return kind.show(source, target, keys, names=names, opened=from_start)

    def header(self, source: Path) -> HiddenHeader:
        """Refuse: what it holds is sealed.

        Raises
        ------
        FormatError
            Always.
        """
        raise self._sealed(source)

    def verify(self, source: Path, keys: Keyring, *, names: Sequence[str] = ()) -> str:
        """Check that a sealed file is whole; errors as `crypto.files.sealing.unsealed`."""
        check_sealed(source, keys)
        return UNSAID

    def ciphertext(self, source: Path, frame: int = 0) -> NDArray[Any]:
        """Refuse, as `header`: nothing can be learned from what is sealed."""
        raise self._sealed(source)

    def _sealed(self, source: Path) -> FormatError:
        problem = f"is sealed under the key {sealed_fingerprint(source)}"
        return FormatError(problem, where=source, cure="decrypt it to see what it holds")


def hide_sealed(
    kind: FileKind, source: Path, target: Path, recipe: Recipe, key: SiteKey, *, name: str = ""
) -> FileReport:
    """Hide a file and seal what that gives; errors as `crypto.files.kinds.FileKind.hide`.

    The hidden file itself never lies on a disk: it would open what is sealed.
    """

    def sealing(path: Path) -> AbstractContextManager[BinaryIO]:
        return sealed_output(path, key)

    return kind.hide(source, target, recipe, key, name=name, output=sealing)
