"""All directories of a TIFF file, before any pixel is read: whether it can be hidden, and what goes with it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from crypto.reading.marks import FORMAT, HEADER_TAG
from crypto.reading.tiff import POINTERS, Directory, Tag, TiffReader, by_code
from crypto.reading.tiff_pixels import (
    COLOUR_MAP,
    EXTRA_SAMPLES,
    NONE,
    ORIENTATION,
    SAMPLE_FORMAT,
    Layout,
    layout_of,
)
from medveil.errors import DataError

_STORAGE = frozenset({256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 288, 289, 317, 322, 323, 324, 325})
"""How pixels are stored; the writer's own."""

_TECHNICAL = frozenset(
    {254, 255, 263, 264, 265, ORIENTATION, 280, 281, 282, 283, 286, 287, 290, 291, 296, 297, 301, 318, 319}
    | {COLOUR_MAP, EXTRA_SAMPLES, SAMPLE_FORMAT, 340, 341, 532}
)
"""How samples are to be seen."""

PROFILE = 34675
PRIVATE_NAMES = {
    270: "ImageDescription",
    271: "Make",
    272: "Model",
    285: "PageName",
    305: "Software",
    306: "DateTime",
    315: "Artist",
    316: "HostComputer",
    700: "XMP",
    33432: "Copyright",
    33723: "IPTC",
    34377: "Photoshop",
    PROFILE: "ICC",
    **POINTERS,
}
_DIRECTORY_KINDS = frozenset({13, 18})
_OURS = f'"format":"{FORMAT}"'.encode("ascii")
_STACK = re.compile(rb"^images=(\d{1,9})$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a look at all directories found, before any pixel is read."""

    layout: Layout
    offsets: tuple[int, ...]
    order: str
    big: bool
    compressed: bool
    tag_sets: tuple[tuple[Tag, ...], ...]
    set_of_page: tuple[int, ...]
    metadata: tuple[str, ...]
    hidden: bool = False
    """Whether it has a header of ours."""


def survey(reader: TiffReader, *, sealing: bool) -> Survey:
    """Read every directory: what pages have in common, and the tags that are not about storage, each set once.

    Parameters
    ----------
    reader
        The open file.
    sealing
        Whether tags that may say who was seen are wanted too.

    Raises
    ------
    DataError
        It is damaged, or of a sort that is refused.
    """
    offsets = tuple(reader.offsets())
    sets: dict[tuple[Tag, ...], int] = {}
    set_of_page: list[int] = []
    metadata: set[str] = set()
    first: Layout | None = None
    compressed = hidden = False
    for offset in offsets:
        tags = reader.tags(offset)
        page = by_code(tags)
        hidden = hidden or (HEADER_TAG in page and _OURS in page[HEADER_TAG].data)
        layout = layout_of(reader, page)
        if first is None:
            _check_stack(page, len(offsets))
            first = layout
        if layout.alike != first.alike or layout.orientation != first.orientation:
            raise DataError("is a TIFF file whose pages differ in shape or sort", cure="save each as a file")
        compressed = compressed or layout.compression != NONE
        metadata.update(_names(page))
        kept = tuple(tag for tag in tags if _is_kept(tag, sealing=sealing))
        set_of_page.append(sets.setdefault(kept, len(sets)))
    assert first is not None
    return Survey(
        layout=first,
        offsets=offsets,
        order=reader.order,
        big=reader.big,
        compressed=compressed,
        tag_sets=tuple(sets),
        set_of_page=tuple(set_of_page),
        metadata=tuple(sorted(metadata)),
        hidden=hidden,
    )


def _is_kept(tag: Tag, *, sealing: bool) -> bool:
    if tag.code in _STORAGE:
        return False
    # A pointer to a directory nobody knows would point nowhere in the file that is written.
    known = tag.kind not in _DIRECTORY_KINDS or tag.code in POINTERS
    return tag.code in _TECHNICAL or (sealing and known)


def _names(page: Directory) -> set[str]:
    private = (code for code in page if code not in _STORAGE and code not in _TECHNICAL)
    return {PRIVATE_NAMES.get(code, f"tag {code}") for code in private}


def _check_stack(page: Directory, pages: int) -> None:
    """Refuse a stack of ImageJ's whose images have no directories: all but the first would be lost."""
    described = page[270].data if 270 in page else b""
    images = _STACK.search(described) if described.startswith(b"ImageJ=") else None
    if images is not None and int(images[1]) > pages:
        problem = f"is an ImageJ stack of {int(images[1])} images in {pages} pages"
        raise DataError(problem, cure="save it as a TIFF with a page for each image")
