"""The MAC of a hidden file: it outlives a correct re-encoding, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from crypto.dicom.kind import DICOM
from crypto.files.recipe import Recipe
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from medveil.errors import FormatError, IntegrityError, KeyMaterialError, MedVeilError

MakeDicom = Callable[..., Path]
PLAIN = np.arange(16 * 16, dtype=np.int16).reshape(16, 16) - 100


@pytest.fixture
def hidden(make_dicom: MakeDicom, steward: Any) -> Path:
    """A hidden file with sequences, texts of odd length, an ambiguous VR and private elements."""
    source = make_dicom(PLAIN, bits=12, PatientName="Odd", WindowCenter="40", WindowWidth="400")
    dataset = pydicom.dcmread(source)
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, -2, 16], np.arange(4, dtype="<u2").tobytes()
    table["LUTDescriptor"].VR, table["LUTData"].VR = "SS", "OW"
    dataset.VOILUTSequence = [table]
    inner = Dataset()
    inner.PatientComments = "inside"
    dataset.ReferencedStudySequence = [inner, Dataset()]
    dataset.private_block(0x0099, "OTHER", create=True).add_new(1, "US", 513)
    dataset.save_as(source)
    return Path(steward.hide(source))


def resaved(hidden: Path, syntax: str, change: Callable[[Dataset], object] = lambda dataset: None) -> Path:
    """Write the file again as pydicom does, every element decoded and encoded, after a change."""
    dataset = pydicom.dcmread(hidden)
    dataset.decode()
    change(dataset)
    dataset.file_meta.TransferSyntaxUID = syntax
    target = hidden.with_suffix(".again")
    dataset.save_as(target, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    return target


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_correct_copy_is_proven_and_shown(steward: Any, hidden: Path, syntax: str) -> None:
    def change(dataset: Dataset) -> None:
        dataset.file_meta.SourceApplicationEntityTitle = "PACS"
        for each in (dataset["VOILUTSequence"], dataset["ReferencedStudySequence"]):
            each.is_undefined_length = True
            for item in each.value:
                item.is_undefined_length_sequence_item = True

    again = resaved(hidden, syntax, change)
    assert again.read_bytes() != hidden.read_bytes()
    DICOM.verify(again, steward.ring)
    assert np.array_equal(pydicom.dcmread(steward.show(again)).pixel_array, PLAIN)


def test_an_implicit_copy_and_back_is_proven(steward: Any, make_dicom: MakeDicom) -> None:
    """Private elements have lost their VR by then."""
    source = make_dicom(PLAIN, bits=12, PatientName="Odd", WindowCenter="40")
    dataset = pydicom.dcmread(source)
    dataset.private_block(0x0099, "OTHER", create=True).add_new(1, "US", 513)
    dataset.save_as(source)
    hidden = steward.hide(source)
    implicit = resaved(hidden, ImplicitVRLittleEndian)
    back = resaved(implicit, ExplicitVRLittleEndian)
    assert pydicom.dcmread(back)[0x0099, 0x1001].VR == "UN"
    DICOM.verify(back, steward.ring)
    shown = pydicom.dcmread(steward.show(back))
    assert np.array_equal(shown.pixel_array, PLAIN)
    assert shown[0x0099, 0x1001].value == b"\x01\x02"


SYNTAXES = gdcm.TransferSyntax.ExplicitVRLittleEndian, gdcm.TransferSyntax.ImplicitVRLittleEndian


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_copy_by_another_library_is_proven(steward: Any, hidden: Path, syntax: int) -> None:
    reader, writer = gdcm.Reader(), gdcm.Writer()
    reader.SetFileName(str(hidden))
    assert reader.Read()
    reader.GetFile().GetHeader().SetDataSetTransferSyntax(gdcm.TransferSyntax(syntax))
    target = hidden.with_suffix(".gdcm")
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    assert writer.Write()
    assert target.read_bytes() != hidden.read_bytes()
    DICOM.verify(target, steward.ring)


def test_group_lengths_and_trailing_padding_do_not_count(steward: Any, hidden: Path) -> None:
    data = hidden.read_bytes()
    start = data.index(b"\x08\x00\x08\x00CS")
    length = b"\x08\x00\x00\x00UL\x04\x00\x00\x00\x00\x00"
    padding = b"\xfc\xff\xfc\xffOB\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00"
    hidden.write_bytes(data[:start] + length + data[start:] + padding)
    DICOM.verify(hidden, steward.ring)


CHANGES: dict[str, Callable[[Dataset], object]] = {
    "text": lambda dataset: setattr(dataset, "PatientName", "Odd^"),
    "number": lambda dataset: setattr(dataset, "WindowCenter", "41"),
    "added": lambda dataset: setattr(dataset, "PatientComments", ""),
    "removed": lambda dataset: delattr(dataset, "PatientID"),
    "nested": lambda dataset: setattr(dataset.ReferencedStudySequence[0], "PatientComments", "outside"),
    "item": lambda dataset: dataset.ReferencedStudySequence.pop(),
    "moved": lambda dataset: dataset.ReferencedStudySequence.reverse(),
    "private": lambda dataset: setattr(dataset.private_block(0x0099, "OTHER")[1], "value", 514),
    "creator": lambda dataset: setattr(dataset[0x0099, 0x0010], "value", "OTHERS"),
    "sign": lambda dataset: (
        setattr(dataset.VOILUTSequence[0]["LUTDescriptor"], "VR", "US")
        or setattr(dataset.VOILUTSequence[0], "LUTDescriptor", [4, 65534, 16])
    ),
    "uid": lambda dataset: setattr(dataset, "SOPInstanceUID", "1.2.3"),
    "pixel": lambda dataset: setattr(dataset, "PixelData", bytes([dataset.PixelData[0] ^ 1]) + dataset.PixelData[1:]),
    "unused bits": lambda dataset: setattr(
        dataset, "PixelData", dataset.PixelData[:1] + b"\x70" + dataset.PixelData[2:]
    ),
    "shape": lambda dataset: (setattr(dataset, "Rows", 8), setattr(dataset, "Columns", 32)),
    "depth": lambda dataset: (setattr(dataset, "BitsStored", 16), setattr(dataset, "HighBit", 15)),
}


@pytest.mark.parametrize("name", list(CHANGES))
def test_any_change_is_found(steward: Any, hidden: Path, name: str) -> None:
    DICOM.verify(resaved(hidden, ExplicitVRLittleEndian), steward.ring)
    changed = resaved(hidden, ExplicitVRLittleEndian, CHANGES[name])
    for check in (lambda: DICOM.verify(changed, steward.ring), lambda: steward.show(changed)):
        with pytest.raises(IntegrityError, match="was changed after it was hidden"):
            check()
    assert not changed.with_suffix(".shown").exists()


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_behind_the_file_meta_is_found(steward: Any, hidden: Path, data: st.DataObject) -> None:
    """But in the reserved two bytes of long elements, and the VR of private ones, which say nothing."""
    whole = hidden.read_bytes()
    start = whole.index(b"\x08\x00\x08\x00CS")
    position = data.draw(st.integers(start, len(whole) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = hidden.with_suffix(".flipped")
    changed.write_bytes(whole[:position] + bytes([whole[position] ^ flip]) + whole[position + 1 :])
    try:
        DICOM.verify(changed, steward.ring)
    except MedVeilError:
        return
    before, after = pydicom.dcmread(hidden), pydicom.dcmread(io.BytesIO(changed.read_bytes()))
    for element in before:
        if not element.tag.is_private:
            assert after[element.tag].value == element.value


def test_another_key_is_named(steward: Any, hidden: Path) -> None:
    other = SiteKey(bytes(32), "other")
    with pytest.raises(KeyMaterialError, match=steward.key.fingerprint):
        DICOM.show(hidden, hidden.with_suffix(".no"), Keyring(other))
    shown = hidden.with_suffix(".yes")
    DICOM.show(hidden, shown, Keyring(other, (steward.key,)))
    assert np.array_equal(pydicom.dcmread(shown).pixel_array, PLAIN)


def test_what_is_sealed_belongs_to_its_file(make_dicom: MakeDicom, steward: Any) -> None:
    """The sealed part of one file, put into another of the same key, is no use even with a MAC made for it."""
    from crypto.dicom import private  # noqa: PLC0415
    from crypto.files.header import unseal_private  # noqa: PLC0415

    one = DICOM.header(steward.hide(make_dicom(PLAIN, name="one.dcm")))
    path = steward.hide(make_dicom(PLAIN, name="two.dcm", SOPInstanceUID="1.2.3.4.6"))
    instance = pydicom.dcmread(path).SOPInstanceUID
    two = DICOM.header(path)
    assert unseal_private(steward.key, two.sealed, associated=private.associated(two, instance))
    with pytest.raises(IntegrityError):
        unseal_private(steward.key, one.sealed, associated=private.associated(two, instance))


@pytest.mark.parametrize("syntax", [RLELossless, ExplicitVRBigEndian])
def test_other_encodings_are_refused_by_name(steward: Any, hidden: Path, syntax: str) -> None:
    dataset = pydicom.dcmread(hidden)
    if syntax == RLELossless:
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(hidden)
    else:
        data = hidden.read_bytes()
        hidden.write_bytes(data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0", 1))
    with pytest.raises((FormatError, IntegrityError)) as caught:
        DICOM.verify(hidden, steward.ring)
    if syntax == RLELossless:
        assert "re-encoded as RLE" in str(caught.value)


def test_what_is_not_hidden_is_no_hidden_file(make_dicom: MakeDicom, steward: Any, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no DICOM")
    for path in (make_dicom(PLAIN), text, Path(get_testdata_file("CT_small.dcm"))):
        for ask in (DICOM.header, lambda each: DICOM.verify(each, steward.ring), steward.show):
            if path.name == "CT_small.dcm" and ask == steward.show:
                continue
            with pytest.raises(FormatError, match="not a hidden DICOM file"):
                ask(path)


def test_a_hidden_file_is_not_hidden_twice(steward: Any, hidden: Path) -> None:
    with pytest.raises(MedVeilError, match="hidden already"):
        DICOM.hide(hidden, hidden.with_suffix(".twice"), Recipe(purpose="archive", identity="kept"), steward.key)
