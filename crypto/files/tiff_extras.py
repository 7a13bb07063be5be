"""What of a TIFF file's tags goes with a hidden one, sealed, and comes back when it is shown."""

from __future__ import annotations

import base64
from typing import Any

from crypto.reading.tiff import Tag
from crypto.reading.tiff_survey import PRIVATE_NAMES, PROFILE, Survey

Listed = tuple[int, int, int, bytes, list[Any]]


def archive_extras(found: Survey) -> dict[str, Any]:
    """What showing an archive needs."""
    layout = found.layout
    how = {"photometric": layout.photometric, "planar": layout.planar, "compress": found.compressed}
    return _tags_of(found, [list(tags) for tags in found.tag_sets]) | how


def training_extras(found: Survey) -> dict[str, Any]:
    """What of the sealed tags is still true of training images, whose pixels are others; empty where there is none."""
    sets = [[tag for tag in tags if tag.code in PRIVATE_NAMES and tag.code != PROFILE] for tags in found.tag_sets]
    return _tags_of(found, sets) if any(sets) else {}


def _tags_of(found: Survey, sets: list[list[Tag]]) -> dict[str, Any]:
    listed = [[_listed(tag) for tag in tags] for tags in sets]
    return {"order": found.order, "big": found.big, "sets": listed, "pages": found.set_of_page}


def _listed(tag: Tag) -> Listed:
    return tag.code, tag.kind, tag.count, tag.data, [_listed(each) for each in tag.inner]


def tag_of(listed: Any) -> Tag:
    """A tag as it comes back from what was sealed."""
    code, kind, count, data, inner = listed
    return Tag(code, kind, count, base64.b64decode(data), tuple(tag_of(each) for each in inner))
