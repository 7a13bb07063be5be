"""Every kind of file that can be hidden or shown, found by a look at the first bytes of a file."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from crypto.files.kinds import FileKind
from crypto.files.raster import BmpFile, JpegFile, PngFile
from crypto.files.raster_tiff import TiffFile
from crypto.files.recipe import Recipe
from crypto.files.sealed_kind import SealedFile
from crypto.files.streams import decoding
from crypto.reading.look import HEAD_BYTES, kind_of_head

_RASTER: tuple[FileKind, ...] = (PngFile(), TiffFile(), JpegFile(), BmpFile())


@runtime_checkable
class Examines(Protocol):
    """A kind that can tell from a file's header whether it would be refused."""

    def examine(self, source: Path, recipe: Recipe) -> None:
        """Raise what `hide` would raise, as far as the file's header shows it."""


def dicom_kind() -> FileKind:
    """The kind for DICOM, loaded when first asked for: pydicom is slow to start."""
    from crypto.dicom.kind import DICOM  # noqa: PLC0415

    return DICOM


def kind_inside(stream: BinaryIO) -> FileKind | None:
    """The kind of what a sealed file holds, from its first bytes; None where it is no image, or sealed once more."""
    return _open_kind(stream.read(HEAD_BYTES))


SEALED = SealedFile(kind_inside)


def recognise(head: bytes) -> FileKind | None:
    """The kind of a file that starts with `head`, or None where it is no image."""
    return _open_kind(head) or (SEALED if SEALED.recognises(head) else None)


def kind_of(path: Path) -> FileKind | None:
    """The kind of a file; errors as `crypto.files.streams.decoding`."""
    with decoding(path), open(path, "rb") as stream:
        return recognise(stream.read(HEAD_BYTES))


def kind_named(name: str) -> FileKind:
    """The kind of a name that `recognise` gave."""
    found = next((kind for kind in (*_RASTER, SEALED) if kind.name == name), None)
    return found or dicom_kind()


def _open_kind(head: bytes) -> FileKind | None:
    """The kind of a file that is not sealed."""
    name = kind_of_head(head)
    return None if name is None else kind_named(name)
