"""Labels of a PACS's images in a CSV: by accession number, or by the UID of the study, the series or the instance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fl_client.data.table import read_table
from fl_client.dicomweb.pulled import Instance
from fl_client.dicomweb.searching import Found, is_uid
from medveil.errors import DataError
from medveil.plain import shown

KEYS = {
    "accession": "AccessionNumber",
    "study": "StudyInstanceUID",
    "series": "SeriesInstanceUID",
    "instance": "SOPInstanceUID",
}
"""Columns, and what of an image they are of."""
STUDY_KEYS = (KEYS["accession"], KEYS["study"])
"""Of which each row is a question of its own: they say what the cohort is."""
_LONGEST_ACCESSION = 16
_SHOWN = 80


class LabelRow(NamedTuple):
    """A label, the line it stands in, and the other cells of its row."""

    label: str
    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class LabelTable:
    """A table of labels.

    Attributes
    ----------
    path : Path
        The file.
    keyword : str
        What its rows are of, an attribute of DICOM.
    columns : tuple of str
        All of its columns.
    rows : dict of str to LabelRow
        By the value of that attribute.
    """

    path: Path
    keyword: str
    columns: tuple[str, ...]
    rows: dict[str, LabelRow]

    @property
    def name(self) -> str:
        """What it is called."""
        return shown(self.path.name, most=_SHOWN)

    def of(self, image: Found | Instance) -> LabelRow | None:
        """The row of an image; None where there is none, or its accession number is not told."""
        if isinstance(image, Found):
            values = {KEYS["accession"]: image.text("AccessionNumber"), KEYS["study"]: image.study}
            values |= {KEYS["series"]: image.series, KEYS["instance"]: image.instance}
        else:
            values = {KEYS["accession"]: image.accession, KEYS["study"]: image.study}
            values |= {KEYS["series"]: image.series, KEYS["instance"]: image.uid}
        return self.rows.get(values[self.keyword])

    def unmatched(self, images: Iterable[Found | Instance]) -> int:
        """How many rows are of none of these images."""
        return len(self.rows) - len({row.line for each in images if (row := self.of(each)) is not None})


def read_labels(path: Path) -> LabelTable:
    """Read a table with a column ``label`` and one of `KEYS`.

    Raises
    ------
    DataError
        As `read_table`; it has none of these columns or several; a value is no accession number or no UID, or stands
        in two rows.
    """
    read = read_table(path, wanted=("label",))
    keyed = [name for name in read.columns if name.casefold() in KEYS]
    if len(keyed) != 1:
        problem = f"has {'several of' if keyed else 'none of'} the columns {', '.join(KEYS)}"
        raise DataError(problem, where=path, cure="one says which image a row is of")
    keyword = KEYS[keyed[0].casefold()]
    rows: dict[str, LabelRow] = {}
    for row in read.rows:
        value, label = row.cells[keyed[0]], row.cells["label"]
        if not value or not label:
            problem = f"line {row.line} has no {keyed[0] if not value else 'label'}"
            raise DataError(problem, where=path, cure="write it, or leave the row out")
        if not _is_right(keyword, value):
            raise DataError(
                f"line {row.line} has no {keyword} that DICOM takes",
                where=path,
                cure=_RIGHT[keyword != KEYS["accession"]],
            )
        if value in rows:
            problem = f"lines {rows[value].line} and {row.line} are of one {keyed[0]}"
            raise DataError(problem, where=path, cure="keep one of them")
        rows[value] = LabelRow(label, row.line, row.cells)
    return LabelTable(path, keyword, read.columns, rows)


_RIGHT = ("at most 16 printable characters, without a backslash, * or ?", "digits and points, at most 64")


def _is_right(keyword: str, value: str) -> bool:
    if keyword != KEYS["accession"]:
        return is_uid(value)
    # A wildcard would ask for other studies than the row's.
    return len(value) <= _LONGEST_ACCESSION and value.isprintable() and not set(value) & set("*?\\")
