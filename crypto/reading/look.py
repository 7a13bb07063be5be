"""What a file is: an image of a kind, the junk of a system, or something else. Its name and its first bytes decide.

Nothing here reads a pixel, and nothing loads pydicom before a DICOM file is met: it is slow to start.
"""

from __future__ import annotations

import os
import stat
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from crypto.files.streams import decoding, read_error
from crypto.reading.base import ImageKind, Opened
from crypto.reading.dicom_head import is_dicom
from crypto.reading.marks import SEALED_MAGIC
from crypto.reading.raster import BMP, JPEG, PNG, TIFF
from medveil.errors import DataError

HEAD_BYTES = 512
"""As many bytes as tell what a file is: DICOM's preamble, its mark, and the class it starts with."""

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm", ".dicom", ".ima", ".mvseal"})
"""Names that promise an image: such a file that is none is an error, any other is passed over."""

OTHER_IMAGES = frozenset(
    {".gif", ".webp", ".jp2", ".j2k", ".jpx", ".jxl", ".heic", ".heif", ".avif", ".psd", ".exr", ".pgm", ".ppm"}
    | {".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".mnc", ".npy", ".npz", ".svs", ".ndpi", ".vsi", ".czi", ".mp4"}
)
"""Names of images that are not read: to pass over them as if they were none would lose them."""

DICOM = "dicom"
_RASTER: tuple[ImageKind, ...] = (PNG, TIFF, JPEG, BMP)

JUNK_FOLDERS = frozenset(
    {"__macosx", ".appledouble", ".trashes", ".spotlight-v100", ".fseventsd", ".temporaryitems"}
    | {".documentrevisions-v100", "$recycle.bin", "recycler", "system volume information", "@eadir", "#recycle"}
    | {".thumbnails", ".ipynb_checkpoints", ".git", "lost+found"}
)
JUNK_FILES = frozenset(
    {".ds_store", ".localized", "icon\r", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"}
    | {"autorun.inf", "dicomdir", ".directory", ".nomedia", ".picasa.ini", "picasa.ini"}
    | {"medveil-manifest.jsonl", "medveil-report.json"}
)
_APPLE_DOUBLE = (b"\x00\x05\x16\x07", b"\x00\x05\x16\x00")
"""What macOS writes as ``._NAME`` beside a file on disks that know no resource forks: AppleDouble and AppleSingle."""
_DICOM_DIRECTORY = b"\x02\x00\x02\x00UI\x14\x001.2.840.10008.1.3.10"
"""The element of file meta information that says: Media Storage Directory (a DICOMDIR, PS3.10 8.6)."""


class Sort(StrEnum):
    """What becomes of a file."""

    IMAGE = "image"
    JUNK = "junk"
    """Of a system, a viewer or MedVeil itself: passed over."""
    MISSED = "missed"
    """Named like an image, and not one that is read: an error, or it would be lost without a word."""
    OTHER = "other"
    """No image: passed over, and said."""


class Look(NamedTuple):
    """What a file is: the name of its kind where it is an image, and else in words what it is."""

    sort: Sort
    kind: str = ""
    why: str = ""


NOT_AN_IMAGE = "not an image"


def look(path: Path, name: str | None = None) -> Look:
    """Say what a file is by its name and its first bytes.

    Parameters
    ----------
    path
        The file.
    name
        Its name below the folder that was given, with slashes; the last part of `path` where it was given itself.

    Raises
    ------
    DataError
        It is no plain file any more.
    StorageError
        It cannot be read.
    """
    head = read_head(path, HEAD_BYTES)
    return look_at(path.name if name is None else name, head)


def look_at(name: str, head: bytes) -> Look:
    """Say what a file is from its name and its first `HEAD_BYTES` bytes, as `look` does."""
    if is_junk(name, head):
        return Look(Sort.JUNK, why="is left by a system or a viewer")
    kind = kind_of_head(head)
    if kind is not None:
        return Look(Sort.IMAGE, kind)
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    last, last_two = "".join(suffixes[-1:]), "".join(suffixes[-2:])
    if head.startswith(SEALED_MAGIC):
        return Look(Sort.MISSED, why="is sealed; decrypt it first")
    if last in IMAGE_SUFFIXES:
        return Look(Sort.MISSED, why="is named like an image and is none" if head else "is empty")
    if {last, last_two} & OTHER_IMAGES:
        return Look(Sort.MISSED, why="is of a sort that is not read; convert it to DICOM, PNG or TIFF")
    return Look(Sort.OTHER, why=NOT_AN_IMAGE)


def no_image(name: str, head: bytes) -> str:
    """What is said of a file that was asked for as an image and is none."""
    found = look_at(name, head)
    return found.why if found.sort is Sort.MISSED else "is not an image" if head else "is empty"


def is_junk(name: str, head: bytes = b"") -> bool:
    """Whether a file is left by a system, a viewer or MedVeil itself, and no image of anybody's.

    Parameters
    ----------
    name
        Its name below the folder that was given, with slashes.
    head
        Its first bytes, where they were read: ``._NAME`` is junk unless they are those of an image.
    """
    *folders, last = name.lower().split("/")
    if last in JUNK_FILES or not JUNK_FOLDERS.isdisjoint(folders):
        return True
    if last.startswith("._") and kind_of_head(head) is None:
        return True
    return head.startswith(_APPLE_DOUBLE) or (is_dicom(head) and _DICOM_DIRECTORY in head[:HEAD_BYTES])


def kind_of_head(head: bytes) -> str | None:
    """The kind of image that a file starts like, or None. DICOM first: its preamble may be the head of a TIFF."""
    if is_dicom(head):
        return DICOM
    return next((kind.name for kind in _RASTER if kind.recognises(head)), None)


def open_image(path: Path) -> Opened:
    """Open an image by its header, of whatever kind its first bytes say; no pixel is read.

    Raises
    ------
    DataError
        It is none, is damaged, claims more than is opened, or is no image to be trained on, which is named.
    StorageError
        The disk refused.
    """
    head = read_head(path, HEAD_BYTES)
    kind = kind_of_head(head)
    if kind is None:
        raise DataError(no_image(path.name, head), where=path)
    with decoding(path):
        return image_kind(kind).open(path)


def image_kind(name: str) -> ImageKind:
    """The kind of a name that `kind_of_head` gave."""
    if name == DICOM:
        from crypto.reading.dicom import DICOM_IMAGES  # noqa: PLC0415 - pydicom is slow to start

        return DICOM_IMAGES
    return next(kind for kind in _RASTER if kind.name == name)


def read_head(path: Path, n: int = HEAD_BYTES, *, links: bool = True) -> bytes:
    """Read the first bytes of a plain file; whatever took its place since it was found is not opened.

    Parameters
    ----------
    path
        The file.
    n
        So many bytes at most.
    links
        Whether it may be reached by a link.

    Raises
    ------
    DataError
        It is no plain file any more.
    StorageError
        It cannot be read.
    """
    try:
        # A pipe would keep a plain open waiting for its writer for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if links else os.O_NOFOLLOW))
        with os.fdopen(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise DataError("is no plain file any more", where=path)
            return stream.read(n)
    except OSError as error:
        raise read_error(error, path) from error


class LastOpened:
    """Opens images, and keeps the header of the last one: the frames of a file are asked for one after another."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._opened: Opened | None = None

    def open(self, path: Path) -> Opened:
        """Open an image; errors as `open_image`."""
        if self._opened is None or path != self._path:
            self._path, self._opened = path, open_image(path)
        return self._opened
