"""One frame of a DICOM file as 8-bit grey or RGB, the way a viewer would show it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array

from crypto.dicom.private import is_hidden
from crypto.imaging.preprocess import percentiles_to_bytes, scale_to_bytes, window_to_bytes
from medveil.errors import DataError

Bytes = npt.NDArray[np.uint8]

_GREY = ("MONOCHROME1", "MONOCHROME2")
_PIXEL = ("PhotometricInterpretation", "BitsStored", "BitsAllocated", "PixelRepresentation", "HighBit")
_TRANSFORM = ("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "WindowCenter", "WindowWidth")
_VOI = ("VOILUTFunction", "VOILUTSequence", "PixelPaddingValue", "PixelPaddingRangeLimit")


def frame_to_bytes(path: Path, frame: int | None, *, window: Sequence[float] | None = None) -> Bytes:
    """Decode one frame and bring it to 8 bit.

    Grey: modality LUT or rescale, then `window` if given, else the file's VOI LUT or (first) window, else its whole
    range if it is 8-bit and unscaled, else percentiles 0.5 to 99.5 without padding; MONOCHROME1 is inverted. Colour:
    palettes are looked up, YBR becomes RGB, deeper samples are shortened. (DICOM PS3.3 C.7.6.3, C.11.1, C.11.2.)

    Parameters
    ----------
    path
        The file.
    frame
        Index of the frame, of which alone the pixels are read; None for a single-frame file.
    window
        Centre and width in the units after the modality LUT.

    Returns
    -------
    uint8 (H, W) or (H, W, 3)

    Raises
    ------
    DataError
        The file is hidden, its photometric interpretation is unknown, or values are not finite. pydicom's own errors
        pass.
    """
    dataset = dcmread(path, stop_before_pixels=frame is not None)
    if is_hidden(dataset):
        raise DataError("is hidden", cure="read it as it is: set data.source to hidden")
    stored = pixel_array(dataset, index=0) if frame is None else pixel_array(path, index=frame)
    return stored_to_bytes(stored, dataset, frame or 0, window=window)


def stored_to_bytes(
    stored: npt.NDArray[Any], dataset: Dataset, frame: int, *, window: Sequence[float] | None = None
) -> Bytes:
    """Bring one decoded frame to 8 bit, as `frame_to_bytes` does.

    Parameters
    ----------
    stored
        (H, W) or (H, W, 3): the frame as pydicom's `pixel_array` gives it.
    dataset
        The file's data set; it needs no pixels.
    frame
        Index of the frame, for what the functional groups say of it.
    window
        Centre and width in the units after the modality LUT.

    Returns
    -------
    uint8 (H, W) or (H, W, 3)

    Raises
    ------
    DataError
        As `frame_to_bytes`.
    """
    header = _frame_header(dataset, frame)
    photometric = str(header.PhotometricInterpretation)
    if photometric == "PALETTE COLOR":
        coloured = apply_color_lut(stored, dataset)
        return _to_8_bit(coloured[..., :3], bits=8 * coloured.dtype.itemsize)
    if stored.ndim == 3:
        return _to_8_bit(stored, bits=int(header.BitsStored))
    if photometric not in _GREY:
        raise DataError(f"has photometric interpretation '{photometric}' with one sample per pixel")
    shown = _grey_to_bytes(stored, header, window)
    return np.subtract(255, shown, dtype=np.uint8) if photometric == "MONOCHROME1" else shown


def _grey_to_bytes(stored: npt.NDArray[Any], header: Dataset, window: Sequence[float] | None) -> Bytes:
    values = apply_modality_lut(stored, header)
    if window is not None:
        return window_to_bytes(values, window)
    if header.get("VOILUTSequence"):
        bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
        return scale_to_bytes(apply_voi_lut(values, header), 0, 2**bits - 1)
    if _has_window(header):
        return scale_to_bytes(apply_voi_lut(values, header), *_window_range(header))
    bits = int(header.get("BitsStored", 16))
    if bits <= 8 and stored.dtype.kind == "u" and np.array_equal(values, stored):
        return scale_to_bytes(values, 0, 2**bits - 1)
    return percentiles_to_bytes(values, _not_padding(stored, header))


def _has_window(header: Dataset) -> bool:
    """Whether the file says a usable window; some scanners write a width of 0 for none."""
    width = header.get("WindowWidth")
    if width is None or header.get("WindowCenter") is None:
        return False
    first = width[0] if isinstance(width, (list, tuple)) or hasattr(width, "append") else width
    return float(first) >= 1


def _window_range(header: Dataset) -> tuple[float, float]:
    """What pydicom's windowing maps the darkest and the brightest possible value to."""
    with np.errstate(over="ignore"):
        low, high = apply_voi_lut(np.array([-1e15, 1e15]), header, prefer_lut=False)
    return float(low), float(high)


def _not_padding(stored: npt.NDArray[Any], header: Dataset) -> npt.NDArray[np.bool_] | None:
    padding = header.get("PixelPaddingValue")
    if padding is None:
        return None
    limit = header.get("PixelPaddingRangeLimit", padding)
    return np.asarray((stored < min(padding, limit)) | (stored > max(padding, limit)))


def _to_8_bit(colour: npt.NDArray[Any], *, bits: int) -> Bytes:
    if bits == 8 and colour.dtype == np.uint8:
        return np.ascontiguousarray(colour)
    return scale_to_bytes(colour, 0, 2**bits - 1)


def _frame_header(dataset: Dataset, frame: int) -> Dataset:
    """The elements that say how one frame is shown: the file's own, then those of its functional groups."""
    made = Dataset()
    # Lookup tables are stored as bytes, in the file's byte order.
    made.file_meta = dataset.file_meta
    made.set_original_encoding(*dataset.original_encoding)
    for source in (dataset, *_functional_groups(dataset, frame)):
        for keyword in (*_PIXEL, *_TRANSFORM, *_VOI):
            if keyword in source:
                made[keyword] = source[keyword]
    return made


def _functional_groups(dataset: Dataset, frame: int) -> Iterator[Dataset]:
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    each = dataset.get("PerFrameFunctionalGroupsSequence") or []
    for group in (*shared[:1], *each[frame : frame + 1]):
        for keyword in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            yield from (group.get(keyword) or [])[:1]
