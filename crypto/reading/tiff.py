"""TIFF and BigTIFF directories as they stand in the file (TIFF 6.0; BigTIFF as libtiff writes it).

Read here and not by tifffile, because what is hidden must be all that is there or be refused: tifffile turns vendors'
formats into what it takes them to mean, inflates without a bound, and has no LZW of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from crypto.files.streams import size_of
from medveil.errors import DataError

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
LARGEST_PAGES = 2**20
LARGEST_VALUES = 2**26
"""Bytes of all values of one directory: more than the largest header of ours."""

MOST_TAGS = 4096
_MOST_EXTENTS = 2**16
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
POINTERS = {34665: "EXIF", 34853: "GPS", 40965: "Interoperability"}
"""Tags that point to a directory of their own."""

_WHOLE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


@dataclass(frozen=True)
class Tag:
    """A tag of a directory, its value as bytes in the file's byte order.

    Parameters
    ----------
    code, kind, count
        As in the file.
    data
        The value.
    inner
        Tags of the directory it points to, for those in `POINTERS`.
    """

    code: int
    kind: int
    count: int
    data: bytes = field(repr=False)
    inner: tuple[Tag, ...] = ()


Directory = dict[int, Tag]


def by_code(tags: list[Tag]) -> Directory:
    """Tags by their codes; of several of one code, which no standard allows, the first."""
    return {tag.code: tag for tag in reversed(tags)}


class TiffReader:
    """Reads the directories of an open TIFF file.

    Parameters
    ----------
    stream
        The file, from its start.
    path
        Its name, for errors.
    follow
        Whether to read the directories that tags in `POINTERS` point to.

    Attributes
    ----------
    order : str
        ``"<"`` or ``">"``.
    big : bool
        Whether it is a BigTIFF.
    size : int
        Bytes of the file.
    passed_over : bool
        Whether a tag was left out because of its type.

    Raises
    ------
    DataError
        It is no TIFF.
    """

    def __init__(self, stream: BinaryIO, path: Path, *, follow: bool = False) -> None:
        self.stream = stream
        self._follow = follow
        self.path = path
        self.size = size_of(stream)
        self.passed_over = False
        self._read = [(0, 8)]
        self._merge_at = _MOST_EXTENTS
        head = stream.read(8)
        if head[:4] not in MAGICS:
            raise DataError("is not a TIFF file", where=path)
        if len(head) < 8:
            raise DataError("is cut short", where=path)
        self.order = "<" if head[:2] == b"II" else ">"
        self.big = b"+" in head[:4]
        if self.big and head[4:] != struct.pack(f"{self.order}HH", 8, 0):
            raise DataError("is a BigTIFF with offsets of another size than 8", where=path)
        self._first = self._whole("Q") if self.big else struct.unpack(f"{self.order}I", head[4:])[0]

    def offsets(self) -> Iterator[int]:
        """Where each page's directory stands.

        Raises
        ------
        DataError
            The chain runs in a circle, out of the file, or on and on.
        """
        seen: set[int] = set()
        here = self._first
        while here:
            if here in seen or len(seen) >= LARGEST_PAGES:
                raise DataError("is damaged: its pages have no end", where=self.path)
            seen.add(here)
            yield here
            self.stream.seek(here)
            tags = self._whole("Q" if self.big else "H")
            self.stream.seek(here + (8 + 20 * tags if self.big else 2 + 12 * tags))
            here = self._whole("Q" if self.big else "I")
        if not seen:
            raise DataError("has no pages", where=self.path)

    def directory(self, offset: int) -> Directory:
        """The tags at an offset by their codes, the first of each; errors as `tags`."""
        return by_code(self.tags(offset))

    def tags(self, offset: int, *, depth: int = 0) -> list[Tag]:
        """Read the tags at an offset; those of unknown types are left out, as the standard asks.

        Raises
        ------
        DataError
            It is damaged.
        """
        self.stream.seek(offset)
        entry = f"{self.order}HHQ8s" if self.big else f"{self.order}HHI4s"
        tags = self._whole("Q" if self.big else "H")
        length = struct.calcsize(entry)
        if not 0 < tags <= MOST_TAGS:
            raise DataError(f"is damaged: a page with {tags} tags", where=self.path)
        raw = self._bytes(tags * length)
        found: list[Tag] = []
        held = 0
        for code, kind, count, inline in struct.iter_unpack(entry, raw):
            size = TYPE_BYTES.get(kind, 0) * count
            held += size
            if held > LARGEST_VALUES:
                raise DataError("has a page with more metadata than is read", where=self.path)
            self.passed_over = self.passed_over or not size
            if size:
                data = inline[:size] if size <= len(inline) else self._at(inline, size)
                found.append(self._tag(code, kind, count, data, depth))
        return found

    def _tag(self, code: int, kind: int, count: int, data: bytes, depth: int) -> Tag:
        made = Tag(code, kind, count, data)
        if not self._follow or code not in POINTERS or depth >= 2:
            return made
        pointed = self.whole(made)
        inner = tuple(self.tags(pointed[0], depth=depth + 1)) if len(pointed) == 1 else ()
        return Tag(code, kind, count, data, inner)

    def whole(self, tag: Tag) -> tuple[int, ...]:
        """The values of a tag of unsigned whole numbers.

        Raises
        ------
        DataError
            It is of another type.
        """
        if tag.kind not in _WHOLE:
            raise DataError(f"is damaged: its tag {tag.code} is no whole number", where=self.path)
        return struct.unpack(f"{self.order}{tag.count}{_WHOLE[tag.kind]}", tag.data)

    def segment(self, offset: int, length: int) -> bytes:
        """Read a strip or tile.

        Raises
        ------
        DataError
            It lies outside the file.
        """
        if offset < 8 or length < 1 or offset + length > self.size:
            raise DataError("is cut short: pixel data lies outside the file", where=self.path)
        self.stream.seek(offset)
        return self._bytes(length)

    def _at(self, inline: bytes, size: int) -> bytes:
        offset = struct.unpack(f"{self.order}{'Q' if self.big else 'I'}", inline)[0]
        self.stream.seek(offset)
        return self._bytes(size)

    def _whole(self, kind: str) -> int:
        found: int = struct.unpack(f"{self.order}{kind}", self._bytes(struct.calcsize(f"<{kind}")))[0]
        return found

    def _bytes(self, length: int) -> bytes:
        here = self.stream.tell()
        if length > self.size - here:
            raise DataError("is cut short", where=self.path)
        self._read.append((here, here + length))
        if len(self._read) > self._merge_at:
            self._read = _merged(self._read)
            self._merge_at = _MOST_EXTENTS + 2 * len(self._read)
        return self.stream.read(length)

    def unread(self) -> list[tuple[int, int]]:
        """The parts of the file that nothing was read from, as (start, end)."""
        ends = [0, *(end for _, end in _merged(self._read))]
        starts = [*(start for start, _ in _merged(self._read)), self.size]
        return [(end, start) for end, start in zip(ends, starts, strict=True) if end < start]


def _merged(extents: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Extents in order, those that touch made one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(extents):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged
