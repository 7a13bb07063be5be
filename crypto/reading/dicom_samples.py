"""What the samples of a DICOM image are: read from the header, and checked before anything is built."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEG2000TransferSyntaxes

from crypto.reading.base import MOST_FRAMES, check_size
from crypto.reading.dicom_codestream import codestream_of, most_bytes
from crypto.reading.dicom_file import OpenFile
from crypto.reading.dicom_fragments import first_fragment
from crypto.reading.dicom_quiet import as_data_error
from crypto.reading.dicom_values import text, whole_number
from medveil.errors import DataError

Frame = NDArray[Any]

GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_WAVELET = ("YBR_ICT", "YBR_RCT")
_PAIRS = "YBR_FULL_422"
LARGEST_SIDE = 2**16 - 1
_ITEM_BYTES = 8


@dataclass(frozen=True)
class Samples:
    """What the samples of an image are, after decoding.

    Parameters
    ----------
    rows, columns, channels
        Shape of a frame.
    frames
        How many there are.
    allocated, bits
        Bits a sample takes and bits it uses.
    signed
        Whether samples are two's complement.
    photometric
        ``"RGB"``, ``"YBR_FULL"`` or ``"YBR_FULL_422"`` for images of three channels.
    planar
        Whether the stored bytes of a frame are one channel after the other.
    compressed
        Whether they come from codestreams, which know their own depth.
    """

    rows: int
    columns: int
    channels: int
    frames: int
    allocated: int
    bits: int
    signed: bool
    photometric: str
    planar: bool = False
    compressed: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """Little-endian integers as they are stored."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.allocated // 8}")

    @property
    def paired(self) -> bool:
        """Whether two pixels beside one another share their colour: two samples are stored for each."""
        return self.photometric == _PAIRS

    @property
    def frame_bytes(self) -> int:
        """Bytes of a stored frame."""
        samples = 2 if self.paired else self.channels
        return self.rows * self.columns * samples * self.allocated // 8

    def holds(self, frame: Frame) -> bool:
        """Whether all values of a frame fit `bits`."""
        lowest = -(2 ** (self.bits - 1)) if self.signed else 0
        return lowest <= int(frame.min()) and int(frame.max()) < lowest + 2**self.bits

    def holds_unsigned(self, frame: Frame) -> bool:
        """Whether all bits above those in use are zero, as they are of negative values stored without their signs."""
        return int(frame.min()) >= 0 and int(frame.max()) < 2**self.bits

    def at_full_depth(self) -> Samples:
        """The same samples with all their allocated bits in use."""
        return replace(self, bits=self.allocated)

    def values(self, words: Frame) -> Frame:
        """What words mean: bits above those in use are none of the value, or repeat its sign (PS3.5 8.1.1)."""
        unused = self.allocated - self.bits
        if self.compressed or not unused or self.holds(words):
            return words
        return np.right_shift(np.left_shift(words, unused), unused)


def describe_samples(opened: OpenFile) -> Samples:
    """Read from the header what decoding will give.

    Raises
    ------
    DataError
        An attribute is missing or impossible, the image is larger than any that is read, or the pixel data does not fit
        what the header says.
    """
    with as_data_error(opened.path, "its header"):
        samples, declared = _read(opened)
        _check(samples, opened.path)
        _check_length(opened, samples, declared)
        return samples


def _read(opened: OpenFile) -> tuple[Samples, str]:
    dataset, compressed = opened.dataset, opened.transfer_syntax.is_encapsulated
    try:
        get_decoder(opened.transfer_syntax)
    except NotImplementedError:
        raise DataError(f"is encoded as {opened.transfer_syntax.name}, which this tool does not decode") from None
    channels = whole_number(dataset, "SamplesPerPixel")
    declared = text(dataset, "PhotometricInterpretation")
    known = {1: GREY, 3: COLOUR}.get(channels, ())
    if declared not in known or (declared in _WAVELET and opened.transfer_syntax not in JPEG2000TransferSyntaxes):
        said = f"{channels} samples per pixel and the photometric interpretation {declared[:16]!a}"
        raise DataError(f"has {said}, which this tool does not decode")
    representation = whole_number(dataset, "PixelRepresentation")
    if representation not in {0, 1}:
        raise _contradiction()
    samples = Samples(
        rows=whole_number(dataset, "Rows"),
        columns=whole_number(dataset, "Columns"),
        channels=channels,
        frames=whole_number(dataset, "NumberOfFrames", default=1) or 1,
        allocated=whole_number(dataset, "BitsAllocated"),
        bits=whole_number(dataset, "BitsStored"),
        signed=bool(representation),
        photometric=_decoded_colour(opened, declared) if channels == 3 and compressed else declared,
        planar=channels == 3 and not compressed and whole_number(dataset, "PlanarConfiguration", default=0) == 1,
        compressed=compressed,
    )
    return samples, declared


def _decoded_colour(opened: OpenFile, declared: str) -> str:
    """Which colours decoding gives: those of JPEG 2000 are what its codestream says, whatever the header claims."""
    if declared in _WAVELET or declared == "RGB":
        return "RGB"
    if opened.transfer_syntax in JPEG2000TransferSyntaxes:
        found = codestream_of(opened.transfer_syntax, first_fragment(opened))
        if found is not None and found.mixed:
            return "RGB"
    return "YBR_FULL"


def _check(samples: Samples, path: Path) -> None:
    if samples.allocated not in {8, 16}:
        cure = "MedVeil reads integer samples of up to 16 bits"
        raise DataError(f"has {samples.allocated}-bit samples", where=path, cure=cure)
    possible = (
        1 <= samples.rows <= LARGEST_SIDE
        and 1 <= samples.columns <= LARGEST_SIDE
        and samples.frames >= 1
        and 1 <= samples.bits <= samples.allocated
        and not (samples.signed and samples.channels == 3)
        and not (samples.paired and (samples.columns % 2 or samples.planar))
    )
    if not possible:
        raise _contradiction()
    check_size(width=samples.columns, height=samples.rows, channels=samples.channels, where=path)
    if samples.frames > MOST_FRAMES:
        problem = f"claims {samples.frames} frames, and up to {MOST_FRAMES} are read"
        raise DataError(problem, cure="correct NumberOfFrames, or split it into several files")


def _contradiction() -> DataError:
    return DataError("its image attributes contradict one another")


def _check_length(opened: OpenFile, samples: Samples, declared: str) -> None:
    """Check native pixels against their header, and the frames that compressed ones can hold at all."""
    assert opened.pixels is not None
    length = opened.pixels.length
    if opened.pixels.encapsulated != opened.transfer_syntax.is_encapsulated:
        raise DataError("its pixel data is not encoded as its transfer syntax says")
    if opened.pixels.encapsulated:
        _check_compressed(opened, samples)
        return
    frame = samples.frame_bytes
    expected = frame * samples.frames
    if length < expected:
        problem = f"its pixel data is cut short: {length} of {expected} bytes are there"
        raise DataError(problem, cure="restore it from a copy, or correct Rows, Columns and NumberOfFrames")
    excess = math.ceil(frame / 2) if declared == _PAIRS else frame
    if length - expected >= max(excess, 2):
        problem = f"has {length} bytes of pixel data where its header asks for {expected}"
        raise DataError(problem, cure="correct NumberOfFrames or the photometric interpretation")


def _check_compressed(opened: OpenFile, samples: Samples) -> None:
    assert opened.pixels is not None
    if samples.frames * _ITEM_BYTES > opened.pixels.length:
        raise DataError(f"cannot hold the {samples.frames} frames it says", cure="correct NumberOfFrames")
    most = most_bytes(opened.transfer_syntax, opened.pixels.length)
    needed = samples.rows * samples.columns * samples.channels * samples.allocated // 8 * samples.frames
    if most is not None and most < needed:
        problem = f"its {opened.pixels.length} bytes of compressed pixels cannot hold {needed} bytes of samples"
        raise DataError(problem, cure="restore it from a copy, or correct Rows and Columns")
