"""Frames of a DICOM image as they are stored: native words untouched, compressed ones decoded, any of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes, RLELossless

from crypto.reading import dicom_jpeg, dicom_jpeg_ls
from crypto.reading.dicom_codestream import Codestream, codestream_of, has_header
from crypto.reading.dicom_file import OpenFile
from crypto.reading.dicom_fragments import CodedFrames
from crypto.reading.dicom_quiet import as_data_error, quiet
from crypto.reading.dicom_samples import Frame, Samples
from crypto.reading.dicom_values import text, whole_number
from crypto.reading.pydicom_plugin import PLUGIN, join
from medveil.errors import DataError

_PANIC = "PanicException"
_RESTORE = "restore it from a copy, or decompress it with another tool"
_FULL, _PAIRS = "YBR_FULL", "YBR_FULL_422"

join(dicom_jpeg.__name__, JPEGTransferSyntaxes)
join(dicom_jpeg_ls.__name__, JPEGLSTransferSyntaxes)


class StoredFrames:
    """The frames of an open file.

    Native frames are the words of the file, with whatever their unused bits hold; colour stays what it is stored as,
    and of pixels that share their colour both have it. Compressed frames are what their codestream gives: `pixel_array`
    without its change of colours.

    Parameters
    ----------
    opened
        The file; it stays open while frames are read.
    samples
        What `describe_samples` said of it.

    Raises
    ------
    DataError
        It holds more or fewer frames than it says.
    """

    def __init__(self, opened: OpenFile, samples: Samples) -> None:
        self._opened, self._samples = opened, samples
        self._high = whole_number(opened.dataset, "HighBit", default=samples.bits - 1)
        self._coded: CodedFrames | None = None
        if opened.transfer_syntax.is_encapsulated:
            with quiet(), as_data_error(opened.path, "its compressed pixel data"):
                self._coded = CodedFrames(opened, samples.frames)

    def __len__(self) -> int:
        return self._samples.frames

    def __iter__(self) -> Iterator[Frame]:
        for index in range(len(self)):
            yield self.frame(index)

    def frame(self, index: int) -> Frame:
        """One frame: (rows, columns) or (rows, columns, 3), `samples.dtype`.

        Raises
        ------
        DataError
            It cannot be decoded, is of another shape than the header says, or its samples lie in other bits.
        """
        with as_data_error(self._opened.path, f"frame {index + 1}"):
            return self._native(index) if self._coded is None else self._decoded(index)

    def _native(self, index: int) -> Frame:
        samples, pixels = self._samples, self._opened.pixels
        assert pixels is not None
        self._opened.stream.seek(pixels.offset + index * samples.frame_bytes)
        data = self._opened.stream.read(samples.frame_bytes)
        if len(data) < samples.frame_bytes:
            raise DataError(f"frame {index + 1} is cut short", cure="restore it from a copy")
        words = np.frombuffer(self._in_order(data, index), samples.dtype)
        frame = self._shaped(words)
        self._check_unshifted(frame)
        return frame

    def _in_order(self, data: bytes, index: int) -> bytes:
        """The bytes of a frame as they are in a little-endian file."""
        samples, pixels = self._samples, self._opened.pixels
        if self._opened.transfer_syntax.is_little_endian:
            return data
        if samples.allocated == 16:
            return np.frombuffer(data, ">u2").astype("<u2").tobytes()
        assert pixels is not None
        if pixels.vr != "OW":
            return data
        # Bytes in words: a frame may start and end in the middle of one.
        first = index * samples.frame_bytes
        start, end = first - first % 2, first + samples.frame_bytes
        self._opened.stream.seek(pixels.offset + start)
        words = self._opened.stream.read(end + end % 2 - start)
        swapped = np.frombuffer(words[: len(words) // 2 * 2], ">u2").astype("<u2").tobytes()
        return swapped[first - start : first - start + samples.frame_bytes]

    def _shaped(self, words: Frame) -> Frame:
        samples = self._samples
        if samples.channels == 1:
            return words.reshape(samples.rows, samples.columns)
        if samples.paired:
            return _unpaired(words.reshape(samples.rows, samples.columns // 2, 4))
        if samples.planar:
            return words.reshape(3, samples.rows, samples.columns).transpose(1, 2, 0)
        return words.reshape(samples.rows, samples.columns, 3)

    def _check_unshifted(self, frame: Frame) -> None:
        """Refuse samples that really lie where a HighBit of its own says: they would be read from the lowest bits."""
        samples = replace(self._samples, compressed=False)
        if self._high == samples.bits - 1 or samples.holds(frame) or samples.holds_unsigned(frame):
            return
        if not np.array_equal(samples.values(frame), frame):
            problem = f"its samples of {samples.bits} bits end at bit {self._high} of {samples.allocated}-bit words"
            raise DataError(problem, cure=f"shift them down to bit {samples.bits - 1}, or correct HighBit")

    def _decoded(self, index: int) -> Frame:
        assert self._coded is not None
        samples, syntax = self._samples, self._opened.transfer_syntax
        coded = self._coded.frame(index)
        found = codestream_of(syntax, coded) if has_header(syntax) else None
        if has_header(syntax):
            self._check_codestream(found, index)
        # What is wider than BitsStored says comes as it is: an archive keeps it, and showing it judges it.
        narrow = found is not None and found.bits <= self._declared_bits and syntax in JPEGTransferSyntaxes
        frame, colours = self._through_decoder(coded, index, narrow=narrow)
        wanted = (samples.rows, samples.columns) + ((3,) if samples.channels == 3 else ())
        if frame.shape != wanted:
            raise DataError(f"frame {index + 1} is {frame.shape}, not {wanted}")
        if samples.channels == 3 and colours.replace(_PAIRS, _FULL) != samples.photometric:
            problem = f"frame {index + 1} is decoded to {colours[:16]!a}, not to {samples.photometric}"
            raise DataError(problem, cure="correct PhotometricInterpretation")
        self._check_unshifted(frame)
        return np.ascontiguousarray(frame).astype(samples.dtype, copy=False)

    def _check_codestream(self, found: Codestream | None, index: int) -> None:
        """Refuse a codestream that is not of the image of the header, before a decoder builds what it says."""
        samples, frame = self._samples, f"frame {index + 1}"
        if found is None:
            problem = f"{frame} does not start with a header of its compression: it is damaged"
            raise DataError(problem, cure=_RESTORE)
        if found.rows and (found.rows, found.columns) != (samples.rows, samples.columns):
            said = f"{found.columns}x{found.rows} pixels, not {samples.columns}x{samples.rows}"
            raise DataError(f"{frame} is of {said}", cure="correct Rows and Columns")
        if found.channels != samples.channels:
            problem = f"{frame} has {found.channels} samples a pixel, not {samples.channels}"
            raise DataError(problem, cure="correct SamplesPerPixel")
        if found.bits > samples.allocated:
            problem = f"{frame} has samples of {found.bits} bits, not of {samples.allocated}"
            raise DataError(problem, cure="correct BitsAllocated and BitsStored")

    def _through_decoder(self, coded: bytes, index: int, *, narrow: bool) -> tuple[Frame, str]:
        # Each frame is decoded as a file of one frame: pydicom's iterators carry what they learnt of one frame's
        # codestream into the next, and so can differ from `pixel_array`.
        decoder = get_decoder(self._opened.transfer_syntax)
        data, options = encapsulate([coded], has_bot=False), self._options(narrow=narrow)
        try:
            with quiet():
                frame, said = _by_plugins(decoder, data, options, plugins_for(self._opened.transfer_syntax))
        # What Rust decoders raise when they panic is no Exception.
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
                raise
            if isinstance(error, MemoryError):
                raise DataError(f"frame {index + 1} needs more memory than there is") from error
            problem = f"frame {index + 1} can be read by no decoder here: it is damaged, or of a rare kind"
            raise DataError(problem, cure=_RESTORE) from error
        return frame, str(said["photometric_interpretation"])

    def _options(self, *, narrow: bool) -> dict[str, Any]:
        """What the decoder is told, of our own reading of the header: an odd attribute is named there once for all."""
        samples, opened = self._samples, self._opened
        declared = text(opened.dataset, "PhotometricInterpretation")
        # Colours that the codestream mixes are unmixed by its decoder.
        unmixed = samples.photometric == "RGB" and opened.transfer_syntax in JPEG2000TransferSyntaxes
        return {
            "rows": samples.rows,
            "columns": samples.columns,
            "samples_per_pixel": samples.channels,
            "bits_allocated": samples.allocated,
            "bits_stored": self._declared_bits,
            "pixel_representation": int(samples.signed),
            "photometric_interpretation": "RGB" if unmixed else declared,
            "planar_configuration": whole_number(opened.dataset, "PlanarConfiguration", default=0) & 1,
            "number_of_frames": 1,
            "pixel_keyword": "PixelData",
            "pixel_vr": "OB",
            "as_rgb": False,
            # Repeats the sign of samples, and cuts off what lies above them.
            "correct_unused_bits": narrow,
        }

    @property
    def _declared_bits(self) -> int:
        return whole_number(self._opened.dataset, "BitsStored")


def plugins_for(syntax: UID) -> tuple[str, ...]:
    """Which decoders may see codestreams of a syntax, in this order.

    Not all that are installed: over a damaged codestream, GDCM's ends the whole process (it throws what nobody
    catches), pyjpegls comes to no end, and the one of pylibjpeg for RLE panics, and prints that it did.
    """
    there = get_decoder(syntax).available_plugins
    if syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        return (PLUGIN,)
    if syntax == RLELossless:
        return tuple(each for each in there if each == "pydicom")
    return tuple(sorted((each for each in there if each != "gdcm"), reverse=True))


def _by_plugins(
    decoder: Decoder, data: bytes, options: dict[str, Any], plugins: Sequence[str]
) -> tuple[Frame, dict[str, str | int]]:
    """What the first decoder that can do it makes of a frame; the error of the last one where none can."""
    error: Exception = RuntimeError("there is no decoder")
    for plugin in plugins:
        try:
            return decoder.as_array(data, index=0, decoding_plugin=plugin, **options)
        # Decoders raise many types for what they cannot decode.
        except Exception as found:
            error = found
    raise error


def _unpaired(words: Frame) -> Frame:
    """Pairs (H, W/2, 4) of two brightnesses and one colour as pixels (H, W, 3): both have the colour."""
    height, pairs, _ = words.shape
    made = np.empty((height, pairs, 2, 3), words.dtype)
    made[..., 0] = words[..., :2]
    made[..., 1:] = words[..., None, 2:]
    return made.reshape(height, 2 * pairs, 3)


def to_stored(frame: Frame, samples: Samples) -> bytes:
    """The bytes that are stored of a frame (H, W) or (H, W, 3): the reverse of `StoredFrames.frame` of native ones."""
    words = frame.astype(samples.dtype, copy=False)
    if samples.planar:
        return np.ascontiguousarray(words.transpose(2, 0, 1)).tobytes()
    if samples.paired:
        pairs = words.reshape(samples.rows, samples.columns // 2, 2, 3)
        return np.concatenate([pairs[..., 0], pairs[..., 0, 1:]], axis=-1).tobytes()
    return words.tobytes()
