"""Every kind of file that can be hidden or shown, found by a look at the first bytes of a file."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from crypto.files.header import HiddenHeader
from crypto.files.kinds import FileKind, FileReport
from crypto.files.raster import BmpFile, JpegFile, PngFile
from crypto.files.raster_tiff import TiffFile
from crypto.files.recipe import Recipe
from crypto.files.sealing import SealedFile
from crypto.files.streams import decoding
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from medveil.errors import DataError

HEAD_BYTES = 132
"""As many bytes as tell a kind; DICOM's mark stands at the end of them."""

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm", ".dicom", ".ima", ".mvseal"})
"""Names that promise an image: such a file that is none is an error, any other is passed over."""

_RASTER: tuple[FileKind, ...] = (PngFile(), TiffFile(), JpegFile(), BmpFile(), SealedFile())
_DICOM = "crypto.dicom.kind"
_DICOM_MARK = b"DICM"


@runtime_checkable
class Examines(Protocol):
    """A kind that can tell from a file's header whether it would be refused."""

    def examine(self, source: Path, recipe: Recipe) -> None:
        """Raise what `hide` would raise, as far as the file's header shows it."""


class NoDicom:
    """Stands for DICOM where MedVeil was installed without it: every such file is refused, none passed over."""

    name = "dicom"

    def recognises(self, head: bytes) -> bool:
        """Whether the first 132 bytes of a file bear DICOM's mark."""
        return head[-len(_DICOM_MARK) :] == _DICOM_MARK and len(head) == HEAD_BYTES

    def hidden_name(self, name: str, recipe: Recipe) -> str:
        """What the hidden form of a file of this name would be called."""
        return name

    def hide(self, source: Path, target: Path, recipe: Recipe, key: SiteKey) -> FileReport:
        """Refuse."""
        raise self._refusal(source)

    def show(self, source: Path, target: Path, keys: Keyring) -> FileReport:
        """Refuse."""
        raise self._refusal(source)

    def header(self, source: Path) -> HiddenHeader:
        """Refuse."""
        raise self._refusal(source)

    def verify(self, source: Path, keys: Keyring) -> None:
        """Refuse."""
        raise self._refusal(source)

    def _refusal(self, source: Path) -> DataError:
        return DataError("is DICOM, which this MedVeil was installed without", where=source, cure="install all of it")


@cache
def dicom_kind() -> FileKind:
    """The kind for DICOM, loaded when first asked for: pydicom is slow to start."""
    try:
        kind: FileKind = importlib.import_module(_DICOM).DICOM
    except ModuleNotFoundError as missing:
        if missing.name not in {_DICOM, _DICOM.rpartition(".")[0]}:
            raise
        return NoDicom()
    return kind


def recognise(head: bytes) -> FileKind | None:
    """The kind of a file that starts with `head`, or None where it is no image.

    DICOM's mark comes first: its preamble may be the head of a TIFF.
    """
    if NoDicom().recognises(head):
        return dicom_kind()
    for kind in _RASTER:
        if kind.recognises(head):
            return kind
    return dicom_kind() if head and dicom_kind().recognises(head) else None


def kind_of(path: Path) -> FileKind | None:
    """The kind of a file; errors as `crypto.files.streams.decoding`."""
    with decoding(path), open(path, "rb") as stream:
        return recognise(stream.read(HEAD_BYTES))


def kind_named(name: str) -> FileKind:
    """The kind of a name that `recognise` gave."""
    found = next((kind for kind in _RASTER if kind.name == name), None)
    return found or dicom_kind()
