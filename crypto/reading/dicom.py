"""DICOM images behind the door of `crypto.reading.look`: what they are, their stored samples, and how they look."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
from pydicom.multival import MultiValue

from crypto.dicom.private import find_header, is_hidden
from crypto.files.streams import Opener, open_file
from crypto.reading.base import About, Bytes, Pixels, check_frame
from crypto.reading.dicom_file import OpenFile, open_dicom
from crypto.reading.dicom_frames import StoredFrames
from crypto.reading.dicom_head import is_dicom
from crypto.reading.dicom_objects import refuse
from crypto.reading.dicom_quiet import as_data_error, quiet
from crypto.reading.dicom_samples import Samples, describe_samples
from crypto.reading.dicom_shown import Showing
from crypto.reading.dicom_values import texts
from medveil.errors import DataError

_HIDDEN = "read it as it is: set data.source to hidden"
_PADDING = " \0"
_SETS = "^="
"""What separates parts of a person's name; trailing ones say nothing (PS3.5 6.2.1)."""


class DicomImage:
    """A DICOM image whose header was read; see `crypto.reading.base.Opened`. A frame is read when it is asked for.

    Parameters
    ----------
    path
        The file.
    opener
        Opens what it holds.

    Raises
    ------
    DataError
        It is no image to be hidden or trained on, which is named; or it is damaged.
    StorageError
        The disk refused.
    """

    def __init__(self, path: Path, opener: Opener = open_file) -> None:
        self.path, self._opener = path, opener
        with quiet(), open_dicom(path, opener) as opened:
            self._opened: OpenFile = opened
            self.samples, self.hidden = _described(opened)
            self._stamp = _stamp_of(path)
        self.about = _about(self.samples, hidden=self.hidden)
        self._frames: StoredFrames | None = None
        self._showing: Showing | None = None

    def stored(self, frame: int = 0) -> Pixels:
        """Samples as the file holds them; see `crypto.reading.base.Opened`."""
        words = self._words(frame)
        return words[None] if words.ndim == 2 else words.transpose(2, 0, 1)

    def shown(self, frame: int = 0, *, window: Sequence[float] | None = None) -> Bytes:
        """Pixels as a viewer shows them; see `crypto.reading.base.Opened`."""
        if self.hidden:
            raise self.is_hidden()
        with quiet():
            words = self._words(frame)
            with as_data_error(self.path, f"the window or lookup table of frame {frame + 1}"):
                if self._showing is None:
                    self._showing = Showing(self._opened.dataset, self.samples)
                return self._showing.frame(words, frame, window)

    def is_hidden(self) -> DataError:
        """The error of a hidden file where a plain one is wanted."""
        return DataError("is hidden", where=self.path, cure=_HIDDEN)

    def text(self, keyword: str) -> str:
        """An attribute as text, values beside one another, without what does not count in it; empty without one.

        Padding of either side is left out (PS3.5 6.2: it is not significant), for one patient is written with it by one
        device and without by another; so are parts of a name that are empty and last.
        """
        with quiet():
            found = [value.strip(_PADDING).rstrip(_SETS).strip(_PADDING) for value in self._values(keyword)]
        return "\\".join(found).strip("\\")

    def _values(self, keyword: str) -> list[str]:
        try:
            value = self._opened.dataset[keyword].value if keyword in self._opened.dataset else None
            several = value if isinstance(value, MultiValue) else [] if value is None else [value]
            return [str(each) for each in several]
        # A value that is not as DICOM asks makes pydicom raise nearly anything: its bytes tell patients apart as well.
        except Exception:
            return texts(self._opened.dataset, keyword)

    def _words(self, frame: int) -> npt.NDArray[Any]:
        check_frame(frame, self.about, where=self.path)
        with quiet(), self._open():
            if self._frames is None:
                self._frames = StoredFrames(self._opened, self.samples)
            return self._frames.frame(frame)

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        """Give the header its stream again for the block; what was inflated into memory has it still."""
        if self._opened.inflated:
            yield
            return
        with as_data_error(self.path, "its pixel data"), self._opener(self.path) as stream:
            if _stamp_of(self.path) != self._stamp:
                raise DataError("changed while it was read", cure="run again when nothing writes to it")
            self._opened.stream = stream
            yield


class DicomReader:
    """DICOM as a kind of image; see `crypto.reading.base.ImageKind`."""

    name = "dicom"

    def recognises(self, head: bytes) -> bool:
        """Whether the first 132 bytes of a file are of DICOM, with or without a preamble."""
        return is_dicom(head)

    def open(self, path: Path) -> DicomImage:
        """Open a file by its header; no pixel is read."""
        return DicomImage(path)


DICOM_IMAGES = DicomReader()


def frame_to_bytes(path: Path, frame: int | None = None, *, window: Sequence[float] | None = None) -> Bytes:
    """One frame of a file as a viewer shows it: uint8 (H, W) or (H, W, 3); errors as `DicomImage`."""
    return DicomImage(path).shown(frame or 0, window=window)


def _described(opened: OpenFile) -> tuple[Samples, bool]:
    hidden = is_hidden(opened.dataset)
    if hidden:
        with as_data_error(opened.path, "its header"):
            find_header(opened.dataset, opened.path)
    else:
        with as_data_error(opened.path, "its header"):
            refuse(opened)
    return describe_samples(opened), hidden


def _stamp_of(path: Path) -> tuple[int, int, int]:
    with as_data_error(path, "its pixel data"):
        found = os.stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ino


def _about(samples: Samples, *, hidden: bool) -> About:
    return About(
        kind="dicom",
        frames=samples.frames,
        width=samples.columns,
        height=samples.rows,
        channels=3 if samples.channels == 3 or samples.photometric == "PALETTE COLOR" else 1,
        bits=samples.bits,
        signed=samples.signed,
        hidden=hidden,
    )
