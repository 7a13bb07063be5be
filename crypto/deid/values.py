"""Values of elements as text, and the values that take their place."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from pydicom import DataElement, Dataset, Sequence
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.tag import BaseTag

from crypto.deid.pseudonyms import stripped

OLDEST: Final = 89
"""Years. Ages above it are so rare that they identify (45 CFR 164.514(b)(2)(i)(C))."""

_AGE = re.compile(r"\s*0*(\d+)\s*[Yy]?\s*", re.ASCII)

_FORMS: Final = {
    "DS": re.compile(r"\s*(?:[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan|[+-]?inf)?\s*", re.ASCII | re.IGNORECASE),
    "IS": re.compile(r"\s*(?:[+-]?\d+(?:\.0*)?)?\s*", re.ASCII),
    "UI": re.compile(r"[\d.]*[\0 ]*", re.ASCII),
}

_DUMMIES: Final[dict[str, Any]] = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), "ANONYMIZED"),
    **dict.fromkeys(("OB", "OD", "OF", "OL", "OV", "OW", "UN"), bytes(8)),
    **dict.fromkeys(("SL", "SS", "SV", "UL", "US", "UV"), 0),
    **dict.fromkeys(("FD", "FL"), 0.0),
    "AS": "000D",
    "DA": "19000101",
    "DS": "0",
    "DT": "19000101000000",
    "IS": "0",
    "TM": "000000",
    "UR": "urn:anonymized",
}
_CODING_SCHEME_DESIGNATOR: Final = 0x00080102


def dummy(tag: int, vr: str) -> Any:
    """A value that says nothing and is valid for the VR."""
    # PS3.16 8.2: designators that begin with 99 are private, any other would have to be known.
    return "99MEDVEIL" if tag == _CODING_SCHEME_DESIGNATOR else _DUMMIES[vr.split(" or ", maxsplit=1)[0]]


def empty(vr: str) -> Any:
    """The value of an element without one."""
    return Sequence() if vr == "SQ" else None


def texts(value: Any) -> list[str] | None:
    """The values of an element as texts, none for an empty one; None for a sequence with items."""
    if isinstance(value, Sequence):
        return None if value else []
    if isinstance(value, (bytes, bytearray)):
        return [bytes(value).decode("latin-1")] if value else []
    if isinstance(value, Iterable) and not isinstance(value, str) and not hasattr(value, "components"):
        return [str(each) for each in value]
    return [] if value is None or str(value) == "" else [str(value)]


def plausible(element: DataElement) -> bool:
    """Whether numbers and UIDs are such: pydicom hands out any text under their VRs, a name too."""
    form = _FORMS.get(element.VR)
    return form is None or all(form.fullmatch(each) for each in texts(element.value) or [])


def texts_of(dataset: Dataset, keyword: str) -> list[str]:
    """The values of an attribute without padding, none where it is absent, empty or unreadable."""
    try:
        values = texts(dataset[keyword].value) if keyword in dataset else None
        return [stripped(each) for each in values or []]
    except Exception:  # pydicom raises nearly anything
        return []


def replace(dataset: Dataset, tag: BaseTag, vr: str, value: Any) -> None:
    """Put a new element in the place of one, of which nothing stays."""
    dataset[tag] = DataElement(tag, vr.split(" or ", maxsplit=1)[0], value)


def write(dataset: Dataset, keyword: str, value: Any) -> None:
    """Put a standard attribute, whatever stands in its place: assigning would read that first, and keep its VR."""
    dataset.add_new(keyword, dictionary_VR(keyword), value)


def capped_age(value: str) -> str:
    """An AS value, or ``090Y`` where it is above 89 years."""
    match = _AGE.fullmatch(value)
    return f"{OLDEST + 1:03}Y" if match and int(match[1]) > OLDEST else value


@lru_cache(maxsize=16384)
def name_of(tag: BaseTag) -> str:
    """What reports call an attribute: its keyword, or its tag where it is private or unknown."""
    keyword = "" if tag.is_private else keyword_for_tag(tag)
    return keyword or f"({tag.group:04X},{tag.element:04X})"
