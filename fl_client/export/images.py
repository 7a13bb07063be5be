"""Images to be asked about: files without labels, plain or hidden, each brought to what a model reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from crypto.base import ImageCipher
from crypto.dicom.kind import DICOM
from crypto.files.header import HiddenHeader
from crypto.files.kinds import FileKind
from crypto.files.recipe import TRAINING
from crypto.files.registry import IMAGE_SUFFIXES, kind_of
from crypto.files.sealing import SealedFile
from crypto.imaging.dicom_pixels import frame_to_bytes
from crypto.imaging.preprocess import to_square
from crypto.keyring import Keyring
from fl_client.data.base import Skipped
from fl_client.data.folders import walk
from fl_client.data.images import image_to_bytes
from fl_client.export.kept import KeptModel
from medveil.errors import DataError, FormatError, MedVeilError

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
_MOST_FRAMES = 2**16


@dataclass(frozen=True)
class Asked:
    """One image as the model reads it: ciphertext (C, H, W), or plain where the model reads plain ones."""

    id: str
    pixels: Pixels


class Reader:
    """Reads files as a kept model was trained to see them.

    Parameters
    ----------
    kept
        The model.
    cipher
        Hides plain images for it.
    keys
        Prove hidden files whole, where they hold their key.
    """

    def __init__(self, kept: KeptModel, cipher: ImageCipher, keys: Keyring | None) -> None:
        self._run, self._facts, self._cipher, self._keys = kept.run, kept.facts, cipher, keys

    def read(self, root: Path) -> Iterator[Asked | Skipped]:
        """Every image of a file or below a folder, in the order of names; what cannot be read, with the reason.

        Raises
        ------
        DataError
            There is nothing of that name, or no file in it.
        """
        if not root.exists():
            raise DataError("no such file or folder", where=root)
        files = [root] if root.is_file() else list(walk(root))
        if not files:
            raise DataError("the folder is empty", where=root)
        for path in files:
            name = path.name if root.is_file() else path.relative_to(root).as_posix()
            # Linux allows names of any bytes, and a CSV is text.
            name = name.encode("utf-8", "backslashreplace").decode()
            yield from self._of_file(path, name)

    def _of_file(self, path: Path, name: str) -> Iterator[Asked | Skipped]:
        try:
            kind = kind_of(path)
            if kind is None:
                yield Skipped(name, "is no image" if path.suffix.lower() in IMAGE_SUFFIXES else "not an image file")
                return
            header = _header(kind, path)
            frames = _frames(kind, path) if header is None else header.frames
            if header is not None:
                self._check_hidden(header)
                if self._keys is not None and header.fingerprint == self._cipher.fingerprint:
                    kind.verify(path, self._keys)
        except MedVeilError as error:
            yield Skipped(name, error.problem)
            return
        for frame in range(frames):
            each = name if frames == 1 else f"{name}#{frame}"
            try:
                if header is not None:
                    yield Asked(each, self._ciphertext(kind, path, frame))
                else:
                    yield Asked(each, self._plain(kind, path, frame if frames > 1 else None))
            except MedVeilError as error:
                yield Skipped(each, error.problem)

    def _plain(self, kind: FileKind, path: Path, frame: int | None) -> Pixels:
        if self._facts["hidden_source"] is not None:
            fingerprint = self._facts["hidden_source"]["fingerprint"]
            raise DataError(f"is a plain image, and the model reads images hidden under {fingerprint}")
        data = self._facts["data"]
        if kind is DICOM:
            pixels = _dicom_pixels(path, frame, data["window"])
        else:
            pixels = image_to_bytes(path, window=data["window"])
        if min(pixels.shape[:2]) < data["min_side"]:
            raise DataError(f"is {pixels.shape[1]}x{pixels.shape[0]} pixels, smaller than {data['min_side']}")
        square = to_square(pixels, size=self._run.image_size, channels=self._run.channels)
        nonce = self._cipher.fresh_nonces(1)[0] if self._cipher.per_image else None
        return self._cipher.encrypt(square, nonce)

    def _ciphertext(self, kind: FileKind, path: Path, frame: int) -> Pixels:
        found: npt.NDArray[Any] = kind.ciphertext(path, frame)
        wanted = (self._run.channels, *self._facts["padded"])
        if found.shape != wanted:
            raise DataError(f"is hidden in the shape {found.shape}, and the model reads {wanted}")
        return found

    def _check_hidden(self, header: HiddenHeader) -> None:
        if header.purpose != TRAINING:
            raise DataError("is hidden as an archive: it must be decrypted first")
        source, cipher = self._facts["hidden_source"], self._run.cipher
        if source is None and self._run.keys == "none":
            raise DataError(f"is hidden under {header.fingerprint}, and the model reads plain images")
        wanted = (
            (source["scheme"], source["block"], source["fingerprint"])
            if source is not None
            else (self._cipher.scheme, int(cipher["block"]), self._facts["fingerprint"])
        )
        found = (header.scheme, header.block, header.fingerprint)
        if found != wanted:
            raise DataError(f"is hidden with {_said(found)}, and the model reads {_said(wanted)}")
        if source is None and header.negate != bool(cipher.get("negate", False)):
            raise DataError("is hidden with another 'negate' than the model reads")


def _header(kind: FileKind, path: Path) -> HiddenHeader | None:
    """The header of a hidden file; None for a plain one.

    A hidden file of a newer version looks plain here, and the readers of plain ones refuse it as hidden.
    """
    try:
        return kind.header(path)
    except FormatError:
        if isinstance(kind, SealedFile):
            raise
        return None


def _frames(kind: FileKind, path: Path) -> int:
    if kind is not DICOM:
        return 1
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Rows", "NumberOfFrames"])
        count = max(1, int(header.get("NumberOfFrames") or 1))
    # A corrupt header can make pydicom raise nearly anything; to a hospital it is one unreadable file.
    except Exception as error:
        raise DataError(f"unreadable DICOM header: {error}") from error
    if "Rows" not in header:
        raise DataError("a DICOM file without an image")
    if count > _MOST_FRAMES:
        raise DataError("claims more frames than can be")
    return count


def _dicom_pixels(path: Path, frame: int | None, window: list[float] | None) -> npt.NDArray[np.uint8]:
    try:
        return frame_to_bytes(path, frame, window=window)
    except DataError:
        raise
    # pydicom and its decoders raise many types for what they cannot decode.
    except Exception as error:
        reason = str(error).replace(str(path), "the file") or type(error).__name__
        raise DataError(f"cannot be decoded: {reason}") from error


def _said(hidden: tuple[str, int, str]) -> str:
    return f"{hidden[0]}, block {hidden[1]}, under {hidden[2]}"
