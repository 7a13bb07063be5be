"""Labels of images in DICOM Structured Reports: measurement groups of TID 1500 whose finding is a class.

Of each group (a container of TID 1501 or 1411) counts its finding, (121071, DCM, "Finding"), and the images it
refers to. A group with a probability, (122157, DCM, "Probability"), is what a model said, and labels nothing.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pydicom import Dataset

from crypto.reading.dicom_file import parse_dicom
from crypto.reading.dicom_quiet import as_data_error, quiet
from crypto.reading.dicom_values import texts
from fl_client.dicomweb.searching import Found, is_uid
from medveil.errors import DataError

Labelling = Mapping[str, str]
"""The name of a class by SOP instance UID."""
Codes = Mapping[tuple[str, str], str]
"""The name of a class by scheme and code."""
FINDING = ("DCM", "121071")
PROBABILITY = ("DCM", "122157")
_GROUPS = ("DCM", "125007")
"""Measurement Group."""
_DEEPEST = 16
_MOST_ITEMS = 200_000
_REPORTS = "1.2.840.10008.5.1.4.1.1.88."


def labels_of_report(data: bytes, found: Found, codes: Codes, *, unverified: bool = False) -> Labelling:
    """What one report labels.

    Parameters
    ----------
    data
        The bytes of a report.
    found
        What was asked for.
    codes
        The classes.
    unverified
        Whether a report counts that nobody verified.

    Raises
    ------
    DataError
        It is no report, another one, not complete, not verified, damaged, or labels an image twice.
    """
    where = Path(found.instance)
    with quiet(), as_data_error(where, "the report"):
        dataset = parse_dicom(where, io.BytesIO(data)).dataset
        if _text(dataset, "SOPInstanceUID") != found.instance or _text(dataset, "StudyInstanceUID") != found.study:
            raise DataError("is another report than was asked for")
        if not _text(dataset, "SOPClassUID").startswith(_REPORTS):
            raise DataError("is no Structured Report")
        if _text(dataset, "CompletionFlag") != "COMPLETE":
            raise DataError("is a report that is not complete")
        if not unverified and _text(dataset, "VerificationFlag") != "VERIFIED":
            raise DataError("is a report that nobody verified")
        made, unclear = merged(_group(group, codes) for group in _groups(dataset))
    if unclear:
        raise DataError("is a report that gives one image two classes")
    return made


def merged(labellings: Iterable[Labelling]) -> tuple[dict[str, str], dict[str, str]]:
    """What several reports say together: the label of each image, and why it has none where they contradict."""
    made: dict[str, str] = {}
    unclear: dict[str, str] = {}
    for labelling in labellings:
        for uid, label in labelling.items():
            if made.setdefault(uid, label) != label:
                unclear[uid] = "reports give it two classes"
    return {uid: label for uid, label in made.items() if uid not in unclear}, unclear


def _groups(dataset: Dataset) -> Iterator[Dataset]:
    """Every measurement group, wherever it stands; what is nested too deep or too much is refused."""
    waiting, seen = [(dataset, 0)], 0
    while waiting:
        item, depth = waiting.pop()
        seen += 1
        if depth > _DEEPEST or seen > _MOST_ITEMS:
            raise DataError("is a report with more in it than is read")
        if _code(item, "ConceptNameCodeSequence") == _GROUPS:
            yield item
            continue
        waiting += [(each, depth + 1) for each in _items(item, "ContentSequence")]


def _group(group: Dataset, codes: Codes) -> Labelling:
    label, uids = None, list[str]()
    waiting, seen = [(each, 1) for each in _items(group, "ContentSequence")], 0
    while waiting:
        item, depth = waiting.pop()
        seen += 1
        if depth > _DEEPEST or seen > _MOST_ITEMS:
            raise DataError("is a report with more in it than is read")
        name, kind = _code(item, "ConceptNameCodeSequence"), _text(item, "ValueType")
        if name == PROBABILITY:
            return {}
        if kind == "CODE" and name == FINDING and depth == 1:
            label = codes.get(_code(item, "ConceptCodeSequence"), label)
        if kind == "IMAGE":
            uids += [_text(each, "ReferencedSOPInstanceUID") for each in _items(item, "ReferencedSOPSequence")]
        waiting += [(each, depth + 1) for each in _items(item, "ContentSequence")]
    return {} if label is None else {uid: label for uid in uids if is_uid(uid)}


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    found = dataset.get(keyword)
    return [each for each in found if isinstance(each, Dataset)] if found else []


def _code(dataset: Dataset, keyword: str) -> tuple[str, str]:
    first = next(iter(_items(dataset, keyword)), None)
    return ("", "") if first is None else (_text(first, "CodingSchemeDesignator"), _text(first, "CodeValue"))


def _text(dataset: Dataset, keyword: str) -> str:
    return "\\".join(texts(dataset, keyword)).strip(" \0")
