"""What of a PACS a site's images are: one query, as the server is asked it and as each answer is held against it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from medveil.errors import ConfigError

_TEXT = re.compile(r"[^\\\x00-\x1f\x7f]{1,64}")
_CODE = re.compile(r"[A-Z0-9_]{1,16}")
_DATES = re.compile(r"(\d{8})?(-)?(\d{8})?")
MATCHED = {
    "modality": "Modality",
    "body_part": "BodyPartExamined",
    "dates": "StudyDate",
    "series_description": "SeriesDescription",
}
"""Settings, and the attribute that each asks a server to match."""


@dataclass
class QueryConfig:
    """Which images of a DICOMweb server are a site's. What is not set may be anything."""

    modality: str | None = field(default=None, metadata={"help": "Modality of the series: DX, CT, MR."})
    body_part: str | None = field(default=None, metadata={"help": "BodyPartExamined: CHEST."})
    dates: str | None = field(
        default=None, metadata={"help": "Study dates: 20240131, 20240101-20241231, 20240101- or -20241231."}
    )
    series_description: str | None = field(
        default=None, metadata={"help": "SeriesDescription, upper and lower case alike; * and ? stand for any letters."}
    )
    codes: str | None = field(
        default=None,
        metadata={"help": "For data.labels=sr: YAML of the classes' coded concepts, beside the server's file."},
    )
    unverified: bool = field(
        default=False, metadata={"help": "For data.labels=sr: also believe reports that nobody verified."}
    )

    def check(self) -> None:
        """Refuse what is no query (ConfigError)."""
        for name in ("modality", "body_part"):
            value = getattr(self, name)
            if value is not None and not _CODE.fullmatch(value):
                cure = "at most 16 capitals, digits and underscores, as DICOM has it"
                raise ConfigError("is no code string", where=f"data.query.{name}", cure=cure)
        if self.series_description is not None and not _TEXT.fullmatch(self.series_description):
            cure = "at most 64 printable characters without a backslash"
            raise ConfigError("is no description", where="data.query.series_description", cure=cure)
        if self.dates is not None and _range(self.dates) is None:
            cure = "YYYYMMDD, YYYYMMDD-YYYYMMDD, YYYYMMDD- or -YYYYMMDD"
            raise ConfigError("are no dates", where="data.query.dates", cure=cure)

    @property
    def empty(self) -> bool:
        """Whether it would find everything."""
        return not self.filters()

    def filters(self) -> dict[str, str]:
        """What the server is asked to match, by keyword."""
        return {keyword: value for name, keyword in MATCHED.items() if (value := getattr(self, name))}

    def misses(self, text: Callable[[str], str], *, strict: bool) -> str:
        """The attribute in which an image is none that was asked for; empty where there is none.

        Servers may pass over what they cannot match (PS3.18 8.3.4), so each answer is looked at again.

        Parameters
        ----------
        text
            An attribute of the image as text, empty without one.
        strict
            Whether an attribute without a value misses; in an answer to a query it may only have been left out.
        """
        for name, wanted in self.filters().items():
            found = text(name)
            if (found or strict) and not _fits(name, wanted, found):
                return name
        return ""


def _fits(name: str, wanted: str, found: str) -> bool:
    if name == "StudyDate":
        bounds = _range(wanted)
        return bounds is not None and bounds[0] <= found <= bounds[1] and len(found) == 8
    if name == "SeriesDescription":
        # No brackets: they mean sets of letters to fnmatch, and themselves to DICOM.
        pattern = wanted.replace("[", "[[]")
        return fnmatch.fnmatchcase(found.casefold(), pattern.casefold())
    return found.upper() == wanted


def _range(dates: str) -> tuple[str, str] | None:
    parts = _DATES.fullmatch(dates)
    if parts is None or not (parts[1] or parts[3]) or (parts[1] and parts[3] and not parts[2]):
        return None
    first = parts[1] or "00000000"
    last = parts[3] or ("99999999" if parts[2] else first)
    return (first, last) if first <= last else None
