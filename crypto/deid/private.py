"""Private attributes that a site lists as safe (PS3.15 E.3.10), named by creator, group and element in the block."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from pydicom import Dataset
from pydicom.tag import BaseTag, Tag

from crypto.deid.pseudonyms import stripped
from medveil.errors import ConfigError

_FORM = re.compile(r"(?P<creator>[^\\]{1,64}):(?P<group>[0-9A-Fa-f]{4}),(?:xx)?(?P<element>[0-9A-Fa-f]{2})")


class PrivateName(NamedTuple):
    """What a private attribute is called in every file: the block's number differs from file to file."""

    creator: str
    group: int
    element: int


def parse_private(text: str) -> PrivateName:
    """Read ``CREATOR:GGGG,EE``, for example ``SIEMENS MR HEADER:0019,0C``.

    Raises
    ------
    ConfigError
        It has another form, or its group is not private.
    """
    match = _FORM.fullmatch(text.strip())
    cure = "'CREATOR:GGGG,EE', for example 'SIEMENS MR HEADER:0019,0C'"
    if match is None or not stripped(match["creator"]):
        raise ConfigError(f"{text!a} names no private attribute", where="--safe-private", cure=cure)
    group = int(match["group"], 16)
    if group % 2 == 0 or group < 0x0009 or group == 0xFFFF:
        raise ConfigError(f"{text!a} has a group that is not private", where="--safe-private", cure=cure)
    return PrivateName(stripped(match["creator"]), group, int(match["element"], 16))


def safe_tags(dataset: Dataset, safe: Iterable[PrivateName]) -> set[BaseTag]:
    """Tags of the safe private elements that one data set (not its items) holds, and of their creators."""
    wanted: dict[tuple[str, int], list[int]] = {}
    for name in safe:
        wanted.setdefault((name.creator, name.group), []).append(name.element)
    groups = {group for _, group in wanted}
    found: set[BaseTag] = set()
    for tag in list(dataset.keys()) if wanted else []:
        if tag.group not in groups or not tag.is_private_creator:
            continue
        elements = wanted.get((_creator(dataset, tag), tag.group), [])
        held = {held for each in elements if (held := Tag(tag.group, tag.element << 8 | each)) in dataset}
        if held:
            found |= held | {tag}
    return found


def _creator(dataset: Dataset, tag: BaseTag) -> str:
    try:
        return stripped(str(dataset[tag].value))
    except Exception:  # pydicom raises nearly anything; a creator nobody can read owns nothing that is safe
        return ""
