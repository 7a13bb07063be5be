"""Lookup tables of DICOM files: modality and VOI LUTs, palettes plain and in segments (PS3.3 C.7.6.3, C.7.9, C.11).

Descriptors lie often, so they are held against the data: entries of 8 bits stand in bytes or in words, and words may
hold more bits than the descriptor says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from crypto.reading.dicom_values import all_words, data_words, fault, is_empty, items, numbers
from medveil.errors import DataError

_COLOURS = ("Red", "Green", "Blue")
_MOST_ENTRIES = 2**16
_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2


class Table(NamedTuple):
    """A lookup table.

    Parameters
    ----------
    first
        The value that the first entry is for; what lies below and above gets the first and the last entry.
    entries
        uint16 (n,).
    top
        The largest value that an entry can have.
    """

    first: int
    entries: NDArray[np.uint16]
    top: int

    def look_up(self, values: NDArray[np.float64] | NDArray[np.integer]) -> NDArray[np.uint16]:
        """The entries of values of any shape."""
        places = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.intp)
        found: NDArray[np.uint16] = self.entries[places]
        return found


def table_of(dataset: Dataset, keyword: str, *, signed: bool) -> Table | None:
    """The table of a modality or VOI LUT sequence: of the first item that holds one, None where none does.

    Parameters
    ----------
    dataset
        Which the sequence is an element of.
    keyword
        Of the sequence.
    signed
        Whether the table is for values that may be negative.

    Raises
    ------
    DataError
        An item holds half a table.
    """
    for item in items(dataset, keyword):
        if is_empty(item, "LUTDescriptor") and is_empty(item, "LUTData"):
            continue
        try:
            return _table(item, "LUTDescriptor", "LUTData", signed=signed)
        except DataError as error:
            raise DataError(f"{error.problem}, in its {keyword}", cure=f"correct or remove {keyword}") from None
    return None


def palette_of(dataset: Dataset) -> tuple[Table, Table, Table]:
    """The tables for red, green and blue of a palette image.

    Raises
    ------
    DataError
        One is missing or damaged.
    """
    red, green, blue = (_colour_table(dataset, colour) for colour in _COLOURS)
    largest = max(int(table.entries.max()) for table in (red, green, blue))
    tables = (red, green, blue)
    if largest < 256 <= min(table.top for table in tables):
        # Values of 8 bits in words that claim to use more: nobody means a palette that is all but black.
        red, green, blue = (table._replace(top=255) for table in tables)
    return red, green, blue


def _colour_table(dataset: Dataset, colour: str) -> Table:
    stem = f"{colour}PaletteColorLookupTable"
    segmented = f"Segmented{stem}Data"
    if f"{stem}Data" not in dataset and segmented in dataset:
        count, first, bits = _descriptor(dataset, f"{stem}Descriptor", signed=False)
        return _made(first, _expanded(dataset, segmented, count, bits), bits)
    return _table(dataset, f"{stem}Descriptor", f"{stem}Data", signed=False)


def _table(dataset: Dataset, descriptor: str, data: str, *, signed: bool) -> Table:
    count, first, bits = _descriptor(dataset, descriptor, signed=signed)
    return _made(first, data_words(dataset, data, count), bits)


def _made(first: int, entries: NDArray[np.uint16], bits: int) -> Table:
    needed = int(entries.max()).bit_length()
    # Words that hold more than the descriptor says use the bits of the largest one.
    return Table(first, entries, 2 ** max(bits, needed) - 1)


def _descriptor(dataset: Dataset, keyword: str, *, signed: bool) -> tuple[int, int, int]:
    given = numbers(dataset, keyword)
    if len(given) < 3 or None in given[:3]:
        raise fault(keyword, "has not the three values of a lookup table")
    count, first, bits = (int(each or 0) for each in given[:3])
    count = count % _MOST_ENTRIES or _MOST_ENTRIES
    if signed and first >= _MOST_ENTRIES // 2:
        first -= _MOST_ENTRIES
    if not 1 <= bits <= 16:
        raise fault(keyword, f"claims entries of {bits} bits")
    return count, first, bits


def _expanded(dataset: Dataset, keyword: str, count: int, bits: int) -> NDArray[np.uint16]:
    """Entries of a table in segments; of 8 bits, they are bytes or words, whichever make the table."""
    words = all_words(dataset, keyword)
    for codes, width in ((np.frombuffer(words.tobytes(), np.uint8), 1), (words, 2))[0 if bits == 8 else 1 :]:
        found = _from_segments(codes.tolist(), width, count)
        if found is not None:
            return np.asarray(found, np.uint16)
    raise fault(keyword, f"holds no segments that make {count} entries")


def _from_segments(codes: Sequence[int], width: int, count: int) -> list[int] | None:
    """Expand segments (PS3.3 C.7.9.2) to exactly `count` entries, or None; never to more."""
    made: list[int] = []
    at = 0
    try:
        while len(made) < count:
            if codes[at] != _INDIRECT:
                at = _segment(codes, at, made, count)
                continue
            copies, offset = codes[at + 1], _offset(codes[at + 2 : at + 2 + 4 // width], width)
            there = offset // width
            for _ in range(copies):
                if codes[there] == _INDIRECT:
                    return None
                there = _segment(codes, there, made, count)
            at += 2 + 4 // width
    except (IndexError, ValueError):
        return None
    return made if len(made) == count else None


def _segment(codes: Sequence[int], at: int, made: list[int], count: int) -> int:
    """Add the entries of one segment; returns where the next one starts."""
    kind, length = codes[at], codes[at + 1]
    if kind not in {_DISCRETE, _LINEAR} or not length or len(made) + length > count:
        raise ValueError("is no segment")
    if kind == _DISCRETE:
        values = codes[at + 2 : at + 2 + length]
        if len(values) < length:
            raise IndexError
        made.extend(values)
        return at + 2 + length
    start = made[-1]
    step = (codes[at + 2] - start) / length
    made.extend(round(start + step * number) for number in range(1, length + 1))
    return at + 3


def _offset(codes: Sequence[int], width: int) -> int:
    return sum(code << 8 * width * place for place, code in enumerate(codes))
