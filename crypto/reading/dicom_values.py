"""Values of elements as they stand in a file: whatever is wrong with one, the error names the attribute.

pydicom's own access converts and checks as a whole, and fails over one odd value with whatever Python raised. Here the
bytes are looked at: padding does not count (PS3.5 6.2), an empty value is none, and what is no number is said.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement

from medveil.errors import DataError

_BINARY = {"US": "u2", "SS": "i2", "UL": "u4", "SL": "i4", "FL": "f4", "FD": "f8", "UV": "u8", "SV": "i8"}
_WORDS = frozenset({"OB", "OW", "UN", "US", "SS", "US or SS", "US or OW", "OB or OW", "US or SS or OW"})
_PADDING = b" \0"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MOST_VALUES = 1024
_OVERLAYS = range(0x6000, 0x6020, 2)


def tag_of(keyword: str) -> int:
    """The tag of a keyword."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is no DICOM keyword")
    return tag


def fault(keyword: str, problem: str, cure: str | None = None) -> DataError:
    """The error of an attribute: `problem` follows its name."""
    return DataError(f"its {keyword} {problem}", cure=cure or f"correct or remove {keyword}")


def is_empty(dataset: Dataset, keyword: str) -> bool:
    """Whether an attribute is absent or has no value."""
    value = _stored(dataset, keyword)[0]
    return value is None or (hasattr(value, "__len__") and not len(value))


def texts(dataset: Dataset, keyword: str) -> list[str]:
    """The values of an attribute as text without padding; an empty list where it is absent or has no value at all."""
    value, _, _ = _stored(dataset, keyword)
    if isinstance(value, bytes):
        parts = value.strip(_PADDING).split(b"\\")[:_MOST_VALUES]
        found = [part.strip(_PADDING).decode("latin-1") for part in parts]
    else:
        several = value if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]
        found = [str("" if each is None else each).strip(" \0") for each in several[:_MOST_VALUES]]
    return found if any(found) else []


def text(dataset: Dataset, keyword: str) -> str:
    """The first value of an attribute as text without padding; empty where there is none."""
    return next(iter(texts(dataset, keyword)), "")


def numbers(dataset: Dataset, keyword: str, *, signed: bool = False) -> list[float | None]:
    """The values of an attribute as numbers, None for an empty one; an empty list where it has no value at all.

    Parameters
    ----------
    dataset
        Of which it is an element.
    keyword
        Its name.
    signed
        Whether values whose VR is either of US and SS are signed.

    Raises
    ------
    DataError
        A value is no finite number.
    """
    value, vr, order = _stored(dataset, keyword)
    if isinstance(value, bytes):
        kind = _BINARY.get(vr) or (("i2" if signed else "u2") if vr in _WORDS else None)
        if vr == "US" and signed:
            # Tools write US for either sign: how samples are represented tells which it is (PS3.5 6.2 note on US or SS)
            kind = "i2"
        if kind is not None:
            return [_finite(keyword, float(each)) for each in _words(value, order + kind)[:_MOST_VALUES]]
    return [_number(keyword, each) if each else None for each in texts(dataset, keyword)]


def whole_number(dataset: Dataset, keyword: str, *, default: int | None = None) -> int:
    """The first value of an attribute as an integer; `default`, where there is one, for an attribute without value.

    Raises
    ------
    DataError
        It has none, or one that is no integer.
    """
    try:
        found = next(iter(numbers(dataset, keyword)), None)
    except DataError:
        raise DataError(f"has no valid {keyword}", cure=f"correct {keyword}") from None
    if found is None and default is not None:
        return default
    if found is None or found != int(found):
        raise DataError(f"has no valid {keyword}", cure=f"correct {keyword}")
    return int(found)


def data_words(dataset: Dataset, keyword: str, count: int) -> npt.NDArray[np.uint16]:
    """The first `count` values of a lookup table, whether they take a word each or are packed as bytes: uint16.

    PS3.3 C.7.6.3.1.6 and C.11.1.1: entries of 8 bits may be packed; how long the value is tells, for the descriptor
    says 8 bits of both.

    Raises
    ------
    DataError
        There are fewer.
    """
    value, _, order = _stored(dataset, keyword)
    if isinstance(value, bytes):
        words = _words(value, order + "u2")
        if len(words) < count <= len(value):
            # Bytes packed into words: the first one is the lower half, in either byte order.
            words = np.frombuffer(words.astype("<u2").tobytes() + value[2 * len(words) :], np.uint8).astype(np.uint16)
    else:
        several = value if hasattr(value, "__len__") and not isinstance(value, str) else [value] if value else []
        words = np.asarray([int(each) & 0xFFFF for each in several], np.uint16)
    if len(words) < count:
        raise fault(keyword, f"has {len(words)} entries where its descriptor says {count}")
    return np.asarray(words[:count], dtype=np.uint16)


def all_words(dataset: Dataset, keyword: str) -> npt.NDArray[np.uint16]:
    """Every word of an attribute: uint16; empty where it is absent."""
    value, _, order = _stored(dataset, keyword)
    return _words(value, order + "u2").astype(np.uint16) if isinstance(value, bytes) else np.empty(0, np.uint16)


def has_overlay_bits(dataset: Dataset) -> bool:
    """Whether overlays are said to lie in bits of the pixels (OverlayBitPosition, PS3.3 C.9.2, retired)."""
    found = (dataset.get_item((group, 0x0102)) for group in _OVERLAYS if (group, 0x0102) in dataset)
    values = (element.value for element in found)
    return any(any(value) if isinstance(value, bytes) else bool(value) for value in values)


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; an empty list where it is absent or empty.

    Raises
    ------
    DataError
        It cannot be parsed.
    """
    if keyword not in dataset:
        return []
    try:
        value = dataset[keyword].value
        return [item for item in value or () if isinstance(item, Dataset)]
    # A corrupt sequence makes pydicom raise nearly anything on access.
    except Exception as error:
        raise fault(keyword, "cannot be parsed") from error


def _stored(dataset: Dataset, keyword: str) -> tuple[Any, str, str]:
    """The value (bytes as stored, or what pydicom made of it), its VR and its byte order."""
    tag = tag_of(keyword)
    if tag not in dataset:
        return b"", "", "<"
    # As it was read: an empty value would be converted otherwise, and conversion asks what it is not told.
    element = dataset.get_item(tag, keep_deferred=True)
    vr = str(element.VR) if element.VR and element.VR != "UN" else dictionary_VR(tag)
    little = element.is_little_endian if isinstance(element, RawDataElement) else True
    value = element.value
    return b"" if value is None else value, vr, "<" if little else ">"


def _words(value: bytes, kind: str) -> npt.NDArray[Any]:
    width = np.dtype(kind).itemsize
    return np.frombuffer(value[: len(value) // width * width], kind)


def _number(keyword: str, given: str) -> float:
    if not _NUMBER.fullmatch(given):
        # The value stays unsaid: what stands in a wrong place may name the patient.
        raise fault(keyword, "is no number", f"write {keyword} with digits and a point, or remove it")
    return _finite(keyword, float(given))


def _finite(keyword: str, value: float) -> float:
    if not math.isfinite(value):
        raise fault(keyword, "is no finite number")
    return value
