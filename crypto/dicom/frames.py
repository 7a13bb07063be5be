"""Frames of a DICOM file, decoded without loss to what pydicom's `pixel_array` gives, one at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import JPEG2000TransferSyntaxes

from crypto.dicom.reading import OpenFile, as_data_error, quiet
from medveil.errors import DataError

Frame = NDArray[Any]

GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_WAVELET = ("YBR_ICT", "YBR_RCT")
LARGEST_SIDE = 2**16 - 1
_ITEM_BYTES = 8
_PANIC = "PanicException"


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
        ``"RGB"`` for every colour image of three channels.
    """

    rows: int
    columns: int
    channels: int
    frames: int
    allocated: int
    bits: int
    signed: bool
    photometric: str

    @property
    def dtype(self) -> np.dtype[Any]:
        """Little-endian integers as they are stored."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.allocated // 8}")

    @property
    def frame_bytes(self) -> int:
        """Bytes of a stored frame."""
        return self.rows * self.columns * self.channels * self.allocated // 8

    def holds(self, frame: Frame) -> bool:
        """Whether all values of a frame fit `bits`."""
        lowest = -(2 ** (self.bits - 1)) if self.signed else 0
        return lowest <= int(frame.min()) and int(frame.max()) < lowest + 2**self.bits

    def at_full_depth(self) -> Samples:
        """The same samples with all their allocated bits in use."""
        return replace(self, bits=self.allocated)


def describe_samples(opened: OpenFile) -> Samples:
    """Read from the header what decoding will give.

    Raises
    ------
    DataError
        An attribute is missing or impossible, or the pixel data does not fit what the header says.
    """
    dataset, path = opened.dataset, opened.path
    try:
        get_decoder(opened.transfer_syntax)
    except NotImplementedError:
        problem = f"is encoded as {opened.transfer_syntax.name}, which this tool does not decode"
        raise DataError(problem, where=path) from None
    channels = whole(dataset, "SamplesPerPixel", path)
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    known = {1: GREY, 3: COLOUR}.get(channels, ())
    if photometric not in known or (photometric in _WAVELET and not _is_wavelet(opened)):
        said = f"{channels} samples per pixel and the photometric interpretation {photometric[:16]!a}"
        raise DataError(f"has {said}, which this tool does not decode", where=path)
    given = dataset.get("NumberOfFrames")
    samples = Samples(
        rows=whole(dataset, "Rows", path),
        columns=whole(dataset, "Columns", path),
        channels=channels,
        frames=1 if given in (None, "", 0) else whole(dataset, "NumberOfFrames", path),
        allocated=whole(dataset, "BitsAllocated", path),
        bits=whole(dataset, "BitsStored", path),
        signed=bool(whole(dataset, "PixelRepresentation", path)),
        photometric="RGB" if channels == 3 else photometric,
    )
    _check(samples, whole(dataset, "PixelRepresentation", path), path)
    _check_length(opened, samples, photometric)
    return samples


def whole(dataset: Dataset, keyword: str, path: Path) -> int:
    """Return an attribute as an integer, or refuse a file that has none."""
    try:
        return int(str(dataset[keyword].value))
    # A corrupt element makes pydicom raise nearly anything on access.
    except Exception:
        raise DataError(f"has no valid {keyword}", where=path) from None


def decoded_frames(opened: OpenFile, samples: Samples) -> Iterator[Frame]:
    """Decode frame after frame.

    Yields
    ------
    ndarray
        (rows, columns) or (rows, columns, 3), `samples.dtype`: the values of `pixel_array`.

    Raises
    ------
    DataError
        A frame cannot be decoded, or there are more or fewer than the header says.
    """
    frames = _natives(opened, samples) if not opened.transfer_syntax.is_encapsulated else _encapsulated(opened, samples)
    wanted = (samples.rows, samples.columns) + ((3,) if samples.channels == 3 else ())
    count = 0
    while True:
        with as_data_error(opened.path, f"frame {count + 1}"):
            frame = _next(frames, count + 1)
        if frame is None:
            break
        count += 1
        if count > samples.frames:
            cure = "correct NumberOfFrames"
            raise DataError(f"holds more than the {samples.frames} frames it says", where=opened.path, cure=cure)
        if frame.shape != wanted:
            raise DataError(f"frame {count} is {frame.shape}, not {wanted}", where=opened.path)
        yield np.ascontiguousarray(frame).astype(samples.dtype, copy=False)
    if count < samples.frames:
        raise DataError(f"holds {count} frames, not the {samples.frames} it says", where=opened.path)


def _next(frames: Iterator[Frame], number: int) -> Frame | None:
    try:
        with quiet():
            return next(frames, None)
    # What Rust decoders raise when they panic is no Exception.
    except BaseException as error:
        if not isinstance(error, RuntimeError) and type(error).__name__ != _PANIC:
            raise
        problem = f"frame {number} can be read by no decoder here: it is damaged, or of a rare kind"
        raise DataError(problem) from error


def _natives(opened: OpenFile, samples: Samples) -> Iterator[Frame]:
    assert opened.pixels is not None
    decoder, options = _decoder(opened)
    high = opened.dataset.get("HighBit")
    shifted = high is not None and str(high) != str(samples.bits - 1)
    for index in range(samples.frames):
        opened.stream.seek(opened.pixels.offset)
        frame, properties = decoder.as_array(opened.stream, index=index, **options)
        _check_colour(properties, samples)
        if shifted:
            words, _ = decoder.as_array(opened.stream, index=index, **(options | {"correct_unused_bits": False}))
            _check_unshifted(words, frame, str(high), samples)
        yield frame


def _encapsulated(opened: OpenFile, samples: Samples) -> Iterator[Frame]:
    # Each frame is decoded as a file of one frame: pydicom's iterators carry what they learnt of one frame's
    # codestream into the next, and so can differ from `pixel_array`.
    assert opened.pixels is not None
    decoder, options = _decoder(opened)
    offsets = options.pop("extended_offsets", None)
    options["number_of_frames"] = 1
    opened.stream.seek(opened.pixels.offset)
    for coded in generate_frames(opened.stream, number_of_frames=samples.frames, extended_offsets=offsets):
        frame, properties = decoder.as_array(encapsulate([coded], has_bot=False), index=0, **options)
        _check_colour(properties, samples)
        yield frame


def _decoder(opened: OpenFile) -> tuple[Decoder, dict[str, Any]]:
    assert opened.pixels is not None
    options = as_pixel_options(opened.dataset)
    options |= {"pixel_keyword": opened.pixels.keyword, "pixel_vr": opened.pixels.vr or "OW"}
    return get_decoder(opened.transfer_syntax), options


def _check_colour(properties: dict[str, Any], samples: Samples) -> None:
    found = properties["photometric_interpretation"]
    if samples.channels == 3 and found != "RGB":
        raise DataError(f"is decoded to {found}, not to RGB")


def _check_unshifted(words: Frame, frame: Frame, high: str, samples: Samples) -> None:
    """Refuse samples that really lie where a HighBit of its own says: pydicom reads the lowest bits."""
    if not np.array_equal(words, frame):
        problem = f"its samples of {samples.bits} bits end at bit {high[:8]!a} of {samples.allocated}-bit words"
        raise DataError(problem, cure=f"shift them down to bit {samples.bits - 1}, or correct HighBit")


def _is_wavelet(opened: OpenFile) -> bool:
    return opened.transfer_syntax in JPEG2000TransferSyntaxes


def _check(samples: Samples, representation: int, path: Path) -> None:
    if samples.allocated not in {8, 16}:
        cure = "this tool hides integer samples of up to 16 bits"
        raise DataError(f"has {samples.allocated}-bit samples", where=path, cure=cure)
    possible = (
        1 <= samples.rows <= LARGEST_SIDE
        and 1 <= samples.columns <= LARGEST_SIDE
        and samples.frames >= 1
        and 1 <= samples.bits <= samples.allocated
        and representation in {0, 1}
        and not (samples.signed and samples.channels == 3)
    )
    if not possible:
        raise DataError("its image attributes contradict one another", where=path)


def _check_length(opened: OpenFile, samples: Samples, photometric: str) -> None:
    """Check native pixels against their header, and the frames that compressed ones can hold at all."""
    assert opened.pixels is not None
    path, length = opened.path, opened.pixels.length
    if opened.pixels.encapsulated != opened.transfer_syntax.is_encapsulated:
        raise DataError("its pixel data is not encoded as its transfer syntax says", where=path)
    if opened.pixels.encapsulated:
        if samples.frames * _ITEM_BYTES > length:
            raise DataError(f"cannot hold the {samples.frames} frames it says", where=path)
        return
    subsampled = photometric == "YBR_FULL_422"
    frame = samples.frame_bytes // 3 * 2 if subsampled else samples.frame_bytes
    expected = frame * samples.frames
    if length < expected:
        problem = f"its pixel data is cut short: {length} of {expected} bytes are there"
        raise DataError(problem, where=path, cure="restore it from a copy")
    excess = math.ceil(frame / 2) if subsampled else frame
    if length - expected >= max(excess, 2):
        problem = f"has {length} bytes of pixel data where its header asks for {expected}"
        raise DataError(problem, where=path, cure="correct NumberOfFrames or the photometric interpretation")
