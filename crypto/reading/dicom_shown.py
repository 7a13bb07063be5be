"""One frame of a DICOM file as 8-bit grey or RGB, the way a viewer would show it.

Grey: modality LUT or rescale, then a window asked for, else the file's VOI LUT or first window, else its whole range if
it is 8-bit and unscaled, else percentiles 0.5 to 99.5 without padding; inverted where the file says so. Colour:
palettes are looked up, YBR becomes RGB, deeper samples are shortened; no window touches it. (PS3.3 C.7.6.3, C.11.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.uid import RLELossless

from crypto.imaging.preprocess import grey_range, scale_to_bytes, window_to_bytes
from crypto.reading.dicom_luts import Table, palette_of, table_of
from crypto.reading.dicom_samples import Samples
from crypto.reading.dicom_values import has_overlay_bits, items, numbers, tag_of, text
from crypto.reading.dicom_window import Window, window_of
from medveil.errors import DataError

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float64]

_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
SHAPE = "PresentationLUTShape"
_INVERTED = {"INVERSE": True, "IDENTITY": False}
APPLIED_SHAPES = frozenset({"", *_INVERTED})
"""Values of `SHAPE` that showing an image leaves nothing of to be done."""
_TO_RGB = np.array(
    [[1, 1, 1], [0, -0.114 * 1.772 / 0.587, 1.772], [1.402, -0.299 * 1.402 / 0.587, 0]], dtype=np.float32
)
"""Y, Cb, Cr to R, G, B (PS3.3 C.7.6.3.1.2)."""


class Showing:
    """How the frames of one file are shown.

    Parameters
    ----------
    dataset
        The file's data set; it needs no pixels.
    samples
        What its frames are.
    """

    def __init__(self, dataset: Dataset, samples: Samples) -> None:
        self._dataset, self._samples = dataset, samples
        self._palette: tuple[Table, Table, Table] | None = None
        self._shared = _group(dataset, "SharedFunctionalGroupsSequence", 0)
        self._each = items(dataset, "PerFrameFunctionalGroupsSequence")
        self._known: tuple[bool, _Grey] | None = None

    def frame(self, words: npt.NDArray[Any], index: int, window: Sequence[float] | None = None) -> Bytes:
        """Bring one frame to 8 bit.

        Parameters
        ----------
        words
            (H, W) or (H, W, 3): the frame as it is stored.
        index
            Of the frame, for what functional groups say of it.
        window
            Centre and width in the units after the modality LUT.

        Returns
        -------
        uint8 (H, W) or (H, W, 3)

        Raises
        ------
        DataError
            An attribute that it needs is wrong, which is named; or the image would be one even area though its samples
            differ.
        """
        samples, values = self._samples, self._values(words)
        if samples.photometric == "PALETTE COLOR":
            shown = self._looked_up(values)
            return _checked(shown, values, None, "its palette gives all of them one colour")
        if samples.channels == 3:
            shown = _to_8_bit(_as_rgb(values, samples), bits=samples.bits)
            return _checked(shown, values, None, f"they use few of the {samples.bits} bits that BitsStored says")
        grey = self._grey(index, own=window is not None)
        shown, by = grey.shown(values, samples, window)
        return _checked(shown, values, grey.counted(values), f"{by} does not hold them")

    def _values(self, words: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What words mean: bits above BitsStored are none of a value, where overlays are said to lie there.

        RLE stores words as they are; any other codestream knows how many bits its samples have, and contradicts here.
        """
        samples = replace(self._samples, compressed=False)
        told = samples.holds(words) or samples.holds_unsigned(words) or has_overlay_bits(self._dataset)
        if self._samples.compressed and not told and self._dataset.file_meta.TransferSyntaxUID != RLELossless:
            problem = f"its samples are {int(words.min())} to {int(words.max())}, beyond the {samples.bits} bits of"
            raise DataError(f"{problem} BitsStored", cure="correct BitsStored and HighBit")
        return samples.values(words)

    def _looked_up(self, values: npt.NDArray[Any]) -> Bytes:
        self._palette = self._palette or palette_of(self._dataset)
        return np.stack([scale_to_bytes(each.look_up(values), 0, each.top) for each in self._palette], axis=-1)

    def _grey(self, index: int, *, own: bool) -> _Grey:
        """What turns a frame's values to grey; read once where it is the same of all frames."""
        if not self._each and self._known is not None and self._known[0] == own:
            return self._known[1]
        groups = [self._shared, *self._each[index : index + 1]]
        sources = [self._dataset, *(part for group in groups for part in _parts(group))]
        made = _grey_of(sources, self._samples, own=own)
        self._known = (own, made)
        return made


@dataclass(frozen=True)
class _Grey:
    slope: float
    intercept: float
    modality: Table | None
    voi: Table | Window | None
    padding: tuple[float, float] | None
    inverted: bool

    def shown(self, values: npt.NDArray[Any], samples: Samples, window: Sequence[float] | None) -> tuple[Bytes, str]:
        """Grey values of a frame, and by what they were made."""
        lowest, highest = int(values.min()), int(values.max())
        if highest - lowest < values.size:
            # Each value once: many pixels share it.
            shown, by = self._of(np.arange(lowest, highest + 1), values, samples, window)
            return shown[values.astype(np.intp) - lowest], by
        shown, by = self._of(values, values, samples, window)
        return shown, by

    def counted(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
        """Which values are the image's and no padding; None for all."""
        if self.padding is None:
            return None
        found = np.asarray((values < self.padding[0]) | (values > self.padding[1]))
        return found if found.any() else None

    def _of(
        self, values: npt.NDArray[Any], frame: npt.NDArray[Any], samples: Samples, window: Sequence[float] | None
    ) -> tuple[Bytes, str]:
        units = self._in_units(values)
        if window is not None:
            shown, by = window_to_bytes(units, window), "the window asked for"
        elif isinstance(self.voi, Table):
            shown, by = scale_to_bytes(self.voi.look_up(units), 0, self.voi.top), "its VOILUTSequence"
        elif self.voi is not None:
            shown, by = scale_to_bytes(self.voi.fraction(units), 0, 1), "its window (WindowCenter, WindowWidth)"
        elif samples.bits <= 8 and not samples.signed and np.array_equal(units, values):
            shown, by = scale_to_bytes(units, 0, 2**samples.bits - 1), "its range"
        else:
            counted = self.counted(frame)
            low, high = grey_range(self._in_units(frame if counted is None else frame[counted]))
            shown, by = scale_to_bytes(units, low, high), self._by_units()
        return (np.subtract(255, shown, dtype=np.uint8) if self.inverted else shown), by

    def _by_units(self) -> str:
        return "its rescaling (RescaleSlope, RescaleIntercept)" if self.modality is None else "its ModalityLUTSequence"

    def _in_units(self, values: npt.NDArray[Any]) -> Numbers:
        if self.modality is not None:
            return self.modality.look_up(values).astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(values * self.slope + self.intercept, dtype=np.float64)


def _grey_of(sources: Sequence[Dataset], samples: Samples, *, own: bool) -> _Grey:
    modality = table_of(_holder(sources, "ModalityLUTSequence"), "ModalityLUTSequence", signed=samples.signed)
    slope, intercept = (1.0, 0.0) if modality else _rescale(sources)
    signed = modality is None and (samples.signed or intercept < 0 or slope < 0)
    voi: Table | Window | None = None
    if not own:
        voi = table_of(_holder(sources, "VOILUTSequence"), "VOILUTSequence", signed=signed)
        voi = voi or window_of(*(_holder(sources, each) for each in ("WindowCenter", "WindowWidth", "VOILUTFunction")))
    shape = text(_holder(sources, SHAPE), SHAPE)
    # A shape that says whether grey is inverted counts before the photometric interpretation, as viewers have it.
    inverted = _INVERTED.get(shape, samples.photometric == "MONOCHROME1")
    return _Grey(slope, intercept, modality, voi, _padding(sources, samples), inverted)


def _rescale(sources: Sequence[Dataset]) -> tuple[float, float]:
    """Slope and intercept; those of a file whose slope is 0 or missing are none, for they would say nothing of it."""
    slope = _first(_holder(sources, "RescaleSlope"), "RescaleSlope")
    intercept = _first(_holder(sources, "RescaleIntercept"), "RescaleIntercept")
    if not slope:
        return 1.0, 0.0
    return slope, intercept or 0.0


def _padding(sources: Sequence[Dataset], samples: Samples) -> tuple[float, float] | None:
    found = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        value = _first(_holder(sources, keyword), keyword, signed=samples.signed)
        if value is None:
            break
        found.append(value + 2**samples.allocated if value < 0 and not samples.signed else value)
    return (min(found), max(found)) if found else None


def _first(dataset: Dataset, keyword: str, *, signed: bool = False) -> float | None:
    return next(iter(numbers(dataset, keyword, signed=signed)), None)


def _holder(sources: Sequence[Dataset], keyword: str) -> Dataset:
    """The last of the sources that has an attribute; what functional groups say counts before the file's own."""
    tag = tag_of(keyword)
    return next((source for source in reversed(sources) if tag in source), sources[0])


def _group(dataset: Dataset, keyword: str, index: int) -> Dataset | None:
    return next(iter(items(dataset, keyword)[index : index + 1]), None)


def _parts(group: Dataset | None) -> list[Dataset]:
    if group is None:
        return []
    return [part for keyword in _GROUPS for part in items(group, keyword)[:1]]


def _as_rgb(values: npt.NDArray[Any], samples: Samples) -> npt.NDArray[Any]:
    if samples.photometric == "RGB":
        return values
    middle = 2 ** (samples.bits - 1)
    mixed = values.astype(np.float32) - np.array([0, middle, middle], np.float32)
    made = np.clip(np.floor(mixed @ _TO_RGB + np.float32(0.5)), 0, 2**samples.bits - 1)
    return np.asarray(made, dtype=values.dtype)


def _to_8_bit(colour: npt.NDArray[Any], *, bits: int) -> Bytes:
    if bits == 8 and colour.dtype == np.uint8:
        return np.ascontiguousarray(colour)
    return scale_to_bytes(colour, 0, 2**bits - 1)


def _checked(shown: Bytes, values: npt.NDArray[Any], counted: npt.NDArray[np.bool_] | None, why: str) -> Bytes:
    """Refuse an image that says nothing any more: even though its samples are not."""
    seen, there = (shown, values) if counted is None else (shown[counted], values[counted])
    if _is_even(seen, colour=shown.ndim == 3) and not _is_even(there, colour=values.ndim == 3):
        span = f"its samples are {int(there.min())} to {int(there.max())}"
        raise DataError(f"would be shown as one even area: {span}, and {why}", cure="correct it, or set another window")
    return shown


def _is_even(pixels: npt.NDArray[Any], *, colour: bool) -> bool:
    flat = pixels.reshape(-1, 3) if colour else pixels.reshape(-1, 1)
    return bool((flat == flat[0]).all())
