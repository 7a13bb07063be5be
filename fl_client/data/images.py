"""Trees of PNG, JPEG, BMP and TIFF files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from crypto.files.hiding import KEYWORD
from crypto.files.tiff_survey import HEADER_TAG
from crypto.imaging.preprocess import percentiles_to_bytes, window_to_bytes
from fl_client.data.base import Bytes, Item, Skipped, Source, Stamp, class_names
from fl_client.data.config import DataConfig
from fl_client.data.folders import Labelled, list_files
from medveil.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L")


class ImageSource(Source):
    """Image files, labelled by a CSV or by one folder a class; of a file with several frames, the first.

    Files that are no images are skipped by name. Grey images deeper than 8 bit are windowed like DICOM without a
    window; transparency is dropped; the EXIF orientation is applied.
    """

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        listing = list_files(self.path, config)
        images = [each for each in listing.files if each.path.suffix.lower() in SUFFIXES]
        other = [each for each in listing.files if each.path.suffix.lower() not in SUFFIXES]
        self.skipped = (*listing.skipped, *(Skipped(each.id, f"not an image file ({_kind(each)})") for each in other))
        self.warnings = self._ungrouped(listing.columns)
        self._check_group(listing.columns)
        self.classes = class_names((each.label for each in images), config, where=self.path) if images else ()
        self._paths: list[Path] = [each.path for each in images]
        items = [
            Item(
                each.id,
                self.classes.index(each.label),
                (each.columns[config.group_by] or None) if config.group_by else None,
                None,
                each.columns.get("site") or None,
            )
            for each in images
        ]
        self._finish(items, default_size=224)

    def _check_group(self, columns: tuple[str, ...]) -> None:
        if self._config.group_by and self._config.group_by not in columns:
            raise DataError(
                f"data.group_by: there is no column '{self._config.group_by}'",
                where=self.path / (self._config.labels or ""),
                cure=f"columns are {', '.join(columns)}"
                if columns
                else "class folders have no columns; set data.labels",
            )

    def _ungrouped(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        if self._config.group_by is None and "group" in columns:
            return (
                "the labels have a column 'group' that data.group_by does not use: related images may be separated",
            )
        return ()

    def _keep(self, kept: Sequence[int]) -> None:
        self._paths = [self._paths[i] for i in kept]

    def _decode(self, index: int) -> Bytes:
        try:
            return image_to_bytes(self._paths[index], window=self._config.window)
        except DataError as error:
            raise DataError(error.problem, where=self.items[index].id, cure=error.cure) from error

    def _stamp(self, index: int) -> Stamp:
        try:
            stat = self._paths[index].stat()
        except OSError:
            return Stamp(-1, -1)
        return Stamp(stat.st_size, stat.st_mtime_ns)


def image_to_bytes(path: Path, *, window: Sequence[float] | None = None) -> Bytes:
    """Decode one image file and bring it to 8 bit: uint8 (H, W) or (H, W, 3).

    Raises
    ------
    DataError
        The file is missing, hidden, corrupt or no image.
    """
    try:
        with Image.open(path) as opened:
            _refuse_hidden(opened)
            opened.load()
            image = ImageOps.exif_transpose(opened)
    except FileNotFoundError:
        raise DataError("no such file") from None
    except DataError:
        raise
    # Pillow's decoders raise many types for corrupt files (OSError, SyntaxError, ValueError, struct.error,
    # DecompressionBombError); to a hospital all of them mean one unreadable image.
    except Exception as error:
        raise DataError(f"cannot be decoded: {str(error).replace(str(path), 'the file')}") from error
    if image.mode in _DEEP:
        return _shallow(np.asarray(image), window)
    grey = image.mode in ("1", "L", "LA")
    pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return window_to_bytes(pixels, window) if window else pixels


def _shallow(deep: np.ndarray, window: Sequence[float] | None) -> Bytes:
    return window_to_bytes(deep, window) if window else percentiles_to_bytes(deep)


def _refuse_hidden(opened: Image.Image) -> None:
    """A hidden file would be resized and turned grey without a word: its pixels look like any others."""
    if KEYWORD in opened.info or HEADER_TAG in getattr(opened, "tag_v2", {}):
        raise DataError("is hidden", cure="read it as it is: set data.source to hidden")


def _kind(file: Labelled) -> str:
    return file.path.suffix.lower() or "no suffix"
