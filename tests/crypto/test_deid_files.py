"""Every readable file of pydicom's wheel, by attribute.

The judge is written from the codes of Table E.1-1 and knows nothing of how MedVeil applies them: it walks original and
result side by side, after the result was written and read again.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as fields
from pydicom import DataElement, Dataset, dcmread
from pydicom.data import get_charset_files, get_testdata_files
from pydicom.datadict import dictionary_has_tag, dictionary_is_retired, dictionary_VR
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from crypto.deid.deidentify import Deidentifier
from crypto.deid.table import BEYOND
from crypto.keys import SiteKey

KEY = SiteKey(bytes(range(32)), "north")
BIRTH_AND_GPS = {0x00100030, 0x00100032, 0x00160077}
WRITTEN = {0x00120062, 0x00120063, 0x00120064, 0x00280303}
BLANKS = " \0"


def readable(path: str) -> bool:
    try:
        return Path(path).is_file() and len(dcmread(path, force=True)) > 0
    except Exception:
        return False


FILES = sorted(path for path in {*get_testdata_files(), *get_charset_files()} if readable(path))


def code_of(tag: int) -> str | None:
    for name, code in CODES.items():
        for entry in getattr(fields, name):
            group, element, *masks = entry
            group_mask, element_mask = (masks[0], masks[1]) if masks else (0xFFFF, 0xFFFF)
            if (tag >> 16) & group_mask == group and tag & 0xFFFF & element_mask == element:
                return code
    return None


CODES = {
    "X_TAGS": "X",
    "Z_TAGS": "Z",
    "D_TAGS": "D",
    "U_TAGS": "U",
    "Z_D_TAGS": "Z/D",
    "X_Z_TAGS": "X/Z",
    "X_D_TAGS": "X/D",
    "X_Z_D_TAGS": "X/Z/D",
    "X_Z_U_STAR_TAGS": "X/Z/U*",
}
cached_code = cache(code_of)


def written_and_read(dataset: Dataset) -> Dataset:
    target = io.BytesIO()
    dataset.save_as(target)
    target.seek(0)
    return dcmread(target, force=True)


@cache
def deidentified(path: str) -> Dataset:
    """A file without identity, made once for all tests that look at it."""
    dataset = dcmread(path, force=True)
    Deidentifier(KEY).apply(dataset)
    return written_and_read(dataset)


class Judge:
    """Collects what is wrong. `days` is learnt from the first shifted date and must hold for all others."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.days: int | None = None
        self.uids: dict[str, str] = {}

    def compare(self, before: Dataset, after: Dataset, where: str = "", *, dummies: bool = False) -> None:
        for tag in before.keys() | after.keys():
            if int(tag) in WRITTEN or tag.element == 0:
                continue
            try:
                old = before.get(tag, None)
            except Exception:
                self.expect(tag not in after, f"{where}{tag} cannot be read and is still there")
                continue
            new = after.get(tag, None)
            self.element(old, new, f"{where}{tag}", dummies=dummies)

    def expect(self, truth: bool, complaint: str) -> None:
        if not truth:
            self.wrong.append(complaint)

    def element(self, old: DataElement | None, new: DataElement | None, where: str, *, dummies: bool) -> None:
        if old is None:
            self.wrong.append(f"{where} was added")
            return
        tag, code = int(old.tag), cached_code(int(old.tag))
        if old.tag.is_private:
            self.expect(new is None, f"{where} is private and still there")
        elif code is not None:
            self.named(old, new, code, where)
        elif tag in BEYOND or not dictionary_has_tag(tag):
            self.expect(new is None or not same(old, new) or blank(old), f"{where} stayed")
        else:
            self.unnamed(old, new, where, dummies=dummies)

    def named(self, old: DataElement, new: DataElement | None, code: str, where: str) -> None:
        if old.VR in {"DA", "DT", "TM"} and int(old.tag) not in BIRTH_AND_GPS:
            self.time(old, new, where)
        elif new is None:
            self.expect("X" in code, f"{where} has code {code} and is gone")
        elif "U" in code and new.VR == "UI":
            self.uid(old, new, where)
        elif new.VR == "SQ":
            self.sequence(old, new, code, where)
        else:
            self.expect(code != "X", f"{where} has code X and is still there")
            self.expect(blank(old) or not same(old, new), f"{where} has code {code} and its old value")
            self.expect("D" not in code or blank(old) or not blank(new), f"{where} has code {code} and is empty")

    def sequence(self, old: DataElement, new: DataElement, code: str, where: str) -> None:
        self.expect(code != "X", f"{where} has code X and is still there")
        if "D" in code or "U*" in code:
            self.items(old, new, where, dummies="D" in code)
        else:
            self.expect(not new.value, f"{where} has code {code} and items")

    def unnamed(self, old: DataElement, new: DataElement | None, where: str, *, dummies: bool) -> None:
        retired = dictionary_is_retired(int(old.tag))
        vr = dictionary_VR(int(old.tag))
        if vr in {"PN", "AE", "UR"} or (retired and vr in {"LO", "LT", "SH", "ST", "OB", "OW", "OB or OW"}):
            self.expect(new is None, f"{where} is a {vr}, nobody names it, and it is still there")
        elif vr in {"DA", "DT", "TM"}:
            self.time(old, new, where)
        elif new is None:
            self.expect(vr in {"DS", "IS"} and not numeric(old), f"{where} should have stayed")
        elif vr == "UI":
            self.uid(old, new, where)
        elif vr == "SQ":
            self.items(old, new, where, dummies=dummies)
        elif dummies and vr in {"LO", "LT", "SH", "ST", "UC", "UT"}:
            self.expect(blank(old) or not same(old, new), f"{where} is text in a sequence of code D and stayed")
        else:
            self.expect(same(old, new), f"{where} should have stayed as it was")

    def items(self, old: DataElement, new: DataElement, where: str, *, dummies: bool) -> None:
        self.expect(len(old.value) == len(new.value), f"{where} has other items")
        for number, (before, after) in enumerate(zip(old.value, new.value, strict=False)):
            self.compare(before, after, f"{where}[{number}]", dummies=dummies)

    def uid(self, old: DataElement, new: DataElement, where: str) -> None:
        for before, after in zip(listed(old), listed(new), strict=True):
            registered, of_a_class = UID(before).name != before, re.search("Class|Transfer|Coding|Context", old.keyword)
            if not before or registered or (of_a_class and cached_code(int(old.tag)) is None):
                self.expect(before == after, f"{where} is registered and changed")
            else:
                self.expect(UID(after).is_valid and after.startswith("2.25."), f"{where} is no UID of ours")
                self.expect(self.uids.setdefault(before, after) == after, f"{where} is not consistent")

    def time(self, old: DataElement, new: DataElement | None, where: str) -> None:
        if new is None or blank(old):
            # Nothing of an unreadable date stays.
            self.expect(new is None or blank(new), f"{where} has grown a date")
            return
        for before, after in zip(listed(old), listed(new), strict=False):
            if old.VR == "TM":
                self.expect(before == after, f"{where}: a time has changed")
            else:
                self.shift(before, after, where)

    def shift(self, before: str, after: str, where: str) -> None:
        first, second = (re.sub(r"\.", "", text) if len(text) == 10 else text for text in (before, after))
        try:
            start = datetime.strptime(first[:8], "%Y%m%d")
        except ValueError:
            self.expect(after in {"19000101", "19000101000000", ""}, f"{where}: no date has become one")
            return
        moved = datetime.strptime(second[:8], "%Y%m%d") - start
        self.days = moved.days if self.days is None else self.days
        self.expect(moved == timedelta(days=self.days), f"{where}: another shift")
        self.expect(first[8:] == second[8:], f"{where}: the time of day has changed")
        self.expect(-3650 <= moved.days <= -1, f"{where}: not shifted back")


def listed(element: DataElement) -> list[str]:
    value = element.value
    several = isinstance(value, (list, tuple)) or hasattr(value, "append")
    return [str(each).strip(BLANKS) for each in (value if several else [value])]


def numeric(element: DataElement) -> bool:
    try:
        for each in listed(element):
            float(each or 0)
    except ValueError:
        return False
    return True


def blank(element: DataElement) -> bool:
    return (
        element.value is None
        or (hasattr(element.value, "__len__") and len(element.value) == 0)
        or (isinstance(element.value, str) and not element.value.strip(BLANKS))
    )


def same(old: DataElement, new: DataElement) -> bool:
    return old.VR == new.VR and (old.value == new.value or repr(old.value) == repr(new.value))


def names(path: str) -> str:
    return "/".join(Path(path).parts[-3:])


@pytest.mark.parametrize("path", FILES, ids=names)
def test_every_attribute_obeys_its_code(path: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judge = Judge()
        judge.compare(dcmread(path, force=True), deidentified(path))
    assert judge.wrong == []


def test_the_files_are_many() -> None:
    """pydicom's wheel has some 190; a changed layout would leave the tests above without any."""
    assert len(FILES) > 150


def everything(dataset: Dataset) -> Iterator[DataElement]:
    for element in dataset:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from everything(item)


@pytest.mark.parametrize("path", FILES, ids=names)
def test_nothing_private_stays_and_the_method_is_written(path: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        after = deidentified(path)
        assert not [element.tag for element in everything(after) if element.tag.is_private]
    assert after.PatientIdentityRemoved == "YES"
    assert [item.CodeValue for item in after.DeidentificationMethodCodeSequence] == ["113100", "113107"]
    assert after.LongitudinalTemporalInformationModified == "MODIFIED"
    assert not after.preamble or after.preamble == bytes(128)
    assert not {element.keyword for element in after.file_meta} & {"SourceApplicationEntityTitle", "PrivateInformation"}
    if "MediaStorageSOPInstanceUID" in after.file_meta and "SOPInstanceUID" in after:
        assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID


def test_uids_agree_across_files() -> None:
    """What one file refers to has in the other the UID that the reference has become."""
    mapped: dict[str, str] = {}
    met = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in FILES:
            before, after = dcmread(path, force=True), deidentified(path)
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
                old = str(before.get(keyword) or "")
                if old:
                    met += old in mapped
                    assert mapped.setdefault(old, after[keyword].value) == after[keyword].value
    assert met > 100


def test_deflated_files_are_among_them() -> None:
    assert any(
        dcmread(path, force=True).file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian for path in FILES
    )
