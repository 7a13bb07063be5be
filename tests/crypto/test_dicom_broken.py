"""Broken files and bad disks: our errors alone, nothing half written, the source untouched."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from crypto.dicom import hiding
from crypto.dicom.kind import DICOM
from crypto.files.header import HiddenHeader
from crypto.reading import dicom_file as reading
from medveil.errors import DataError, IntegrityError, MedVeilError, StorageError

MakeDicom = Callable[..., Path]
FUZZED = int(os.environ.get("MEDVEIL_FUZZ", "400"))
"""Mutated files given to each parser; MEDVEIL_FUZZ=20000 for a long run."""
PLAIN = np.arange(2 * 16 * 16, dtype=np.uint16).reshape(2, 16, 16)
FUZZ = settings(
    max_examples=FUZZED,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A way to damage a file: bytes overwritten, cut out, put in, or the end cut off; up to four times."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["overwrite", "overwrite", "delete", "insert", "cut"]),
                st.floats(0, 1, exclude_max=True),
                st.one_of(
                    st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0" * 4])
                ),
            ),
            min_size=1,
            max_size=4,
        )
    )

    def mutate(data: bytes) -> bytes:
        for kind, place, chunk in steps:
            at = int(place * len(data))
            if kind == "overwrite":
                data = data[:at] + chunk + data[at + len(chunk) :]
            elif kind == "delete":
                data = data[:at] + data[at + len(chunk) :]
            elif kind == "insert":
                data = data[:at] + chunk + data[at:]
            else:
                data = data[:at]
        return data

    return mutate


class Files(dict[str, bytes]):
    """Files by name, which a failing test need not print."""

    def __repr__(self) -> str:
        return "files"


@pytest.fixture
def files(dicom_of: Callable[..., Dataset], steward: Any) -> dict[str, bytes]:
    """A native file with a sequence, a compressed one, and hidden ones of both purposes."""
    dataset = dicom_of(PLAIN, bits=12)
    item = Dataset()
    item.PatientComments = "inside"
    dataset.ReferencedStudySequence = [item, Dataset()]
    dataset.WindowCenter, dataset.WindowWidth = "200", "400"
    native, coded = steward.home / "native.dcm", steward.home / "coded.dcm"
    dataset.save_as(native, enforce_file_format=True)
    dataset.compress(RLELossless)
    dataset.save_as(coded, enforce_file_format=True)
    archive = steward.hide(native, scheme="aes-ctr", negate=False)
    training = steward.hide(native, "training")
    named = {"native": native, "coded": coded, "archive": archive, "training": training}
    return Files({name: path.read_bytes() for name, path in named.items()})


@FUZZ
@given(mutate=mutations(), name=st.sampled_from(["archive", "training"]))
def test_mutated_hidden_files(files: dict[str, bytes], steward: Any, mutate: Callable, name: str) -> None:
    source, target = steward.home / "mutated.dcm", steward.home / "mutated.shown"
    source.write_bytes(mutate(files[name]))
    for ask in (DICOM.header, lambda path: DICOM.verify(path, steward.ring)):
        try:
            ask(source)
        except MedVeilError as error:
            assert "\n" not in str(error)
    try:
        DICOM.show(source, target, steward.ring)
    except MedVeilError:
        assert not target.exists()
    target.unlink(missing_ok=True)
    assert not list(steward.home.glob(".*"))


@FUZZ
@given(field=st.sampled_from(list(HiddenHeader.__dataclass_fields__)), value=st.data())
def test_forged_headers(files: dict[str, bytes], steward: Any, field: str, value: st.DataObject) -> None:
    """A header that is whole, but says something else: found before anything is made of what it says."""
    data = files["archive"]
    found = re.search(rb'\{"bits".*?\}', data)
    assert found is not None
    header = json.loads(found.group())
    drawn = value.draw(
        st.one_of(
            st.integers(-1, 2**21), st.booleans(), st.text(max_size=8), st.none(), st.sampled_from([header["mac"]])
        )
    )
    header[field] = drawn
    made = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    made += b" " * (len(made) % 2)
    start, end = found.span()
    old = len(found.group()) + len(found.group()) % 2
    length = len(made).to_bytes(4, "little")
    source = steward.home / "forged.dcm"
    source.write_bytes(data[: start - 4] + length + made + data[start + old :])
    unchanged = json.loads(found.group())[field] == drawn and type(json.loads(found.group())[field]) is type(drawn)
    try:
        DICOM.verify(source, steward.ring)
    except MedVeilError:
        assert not unchanged
    else:
        assert unchanged
    assert end > start


@FUZZ
@given(mutate=mutations(), name=st.sampled_from(["native", "coded"]), purpose=st.sampled_from(["archive", "training"]))
def test_mutated_plain_files(files: dict[str, bytes], steward: Any, mutate: Callable, name: str, purpose: str) -> None:
    source, target = steward.home / "mutated.dcm", steward.home / "mutated.hidden"
    target.unlink(missing_ok=True)
    source.write_bytes(mutate(files[name]))
    try:
        DICOM.hide(source, target, steward.recipe(purpose, block=16), steward.key)
    except MedVeilError as error:
        assert not target.exists()
        assert "\n" not in str(error)
        return
    finally:
        assert not list(steward.home.glob(".*"))
    # What hides must open again: a steward may have thrown the original away.
    steward.show(target)


def test_every_cut_of_a_file_is_refused_or_harmless(files: dict[str, bytes], steward: Any) -> None:
    """Whole, or an error: a file cut anywhere before the end of its pixels is never hidden, nor a hidden one shown."""
    source, target = steward.home / "cut.dcm", steward.home / "cut.out"
    for name, ask in (
        ("native", lambda: DICOM.hide(source, target, steward.recipe(), steward.key)),
        ("coded", lambda: DICOM.hide(source, target, steward.recipe(), steward.key)),
        ("archive", lambda: DICOM.show(source, target, steward.ring)),
    ):
        for length in range(0, len(files[name]), 29):
            source.write_bytes(files[name][:length])
            with pytest.raises(MedVeilError):
                ask()
    assert not target.exists()


def test_empty_and_foreign_files(steward: Any, tmp_path: Path) -> None:
    empty, text, short = tmp_path / "empty.dcm", tmp_path / "text.dcm", tmp_path / "short.dcm"
    empty.touch()
    text.write_text("x" * 200)
    short.write_bytes(bytes(128) + b"DICM")
    for path, reason in ((empty, "is empty"), (text, "no DICOM file"), (short, "no transfer syntax")):
        with pytest.raises(DataError, match=reason):
            steward.hide(path)
    with pytest.raises(StorageError, match="no such file"):
        steward.hide(tmp_path / "nowhere.dcm")
    with pytest.raises(StorageError):
        DICOM.header(tmp_path / "nowhere.dcm")
    assert DICOM.recognises(short.read_bytes())
    assert not DICOM.recognises(b"")


def test_values_of_attributes_are_in_no_error(dicom_of: Callable[..., Dataset], steward: Any) -> None:
    """pydicom quotes what it cannot convert; a report of failures must not."""
    dataset = dicom_of(PLAIN)
    source = steward.home / "leak.dcm"
    dataset.save_as(source, enforce_file_format=True)
    data = source.read_bytes()
    for keyword, vr, value in (("NumberOfFrames", b"IS", b"Doe^Mary"), ("PatientName", b"US", b"Doe^Mary!")):
        tag = pydicom.tag.Tag(keyword)
        place = data.index(tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little"))
        length = int.from_bytes(data[place + 6 : place + 8], "little")
        head = data[place : place + 4] + vr + len(value).to_bytes(2, "little")
        source.write_bytes(data[:place] + head + value + data[place + 8 + length :])
        try:
            steward.hide(source)
        except MedVeilError as error:
            assert "Mary" not in str(error)


def test_a_file_that_changes_meanwhile_is_refused(
    make_dicom: MakeDicom, steward: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_dicom(PLAIN)
    honest = hiding.describe_samples

    def slow(opened: reading.OpenFile) -> Any:
        os.utime(source, ns=(1, 1))
        return honest(opened)

    monkeypatch.setattr(hiding, "describe_samples", slow)
    with pytest.raises(DataError, match="changed while it was read"):
        steward.hide(source)


class FullDisk(io.BufferedRandom):
    """A stream that refuses from some byte on."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 500:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_full_disk_leaves_nothing_but_what_was_there(
    make_dicom: MakeDicom, steward: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_dicom(PLAIN)
    hidden = steward.hide(source)
    before = hidden.read_bytes()
    honest = os.fdopen

    def full(handle: int, mode: str = "r", *args: Any, **kwargs: Any) -> BinaryIO:
        opened = honest(handle, mode, *args, **kwargs)
        return FullDisk(opened.detach()) if "+" in mode else opened  # type: ignore[attr-defined,arg-type]

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(StorageError, match="no space left"):
        steward.hide(source)
    with pytest.raises(StorageError, match="no space left"):
        steward.show(hidden)
    assert hidden.read_bytes() == before
    assert sorted(each.name for each in steward.home.iterdir()) == sorted([source.name, hidden.name])


def test_a_target_that_cannot_be_written(make_dicom: MakeDicom, steward: Any) -> None:
    with pytest.raises(StorageError):
        DICOM.hide(make_dicom(PLAIN), steward.home / "missing" / "target", steward.recipe(), steward.key)


def test_shown_files_are_their_owners_alone(make_dicom: MakeDicom, steward: Any) -> None:
    shown = steward.show(steward.hide(make_dicom(PLAIN)))
    assert shown.stat().st_mode & 0o777 == 0o600


def test_a_deflated_bomb_is_refused(make_dicom: MakeDicom, steward: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_dicom(PLAIN)
    dataset = pydicom.dcmread(source)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(source)
    assert np.array_equal(pydicom.dcmread(steward.show(steward.hide(source))).pixel_array, PLAIN)
    monkeypatch.setattr(reading, "LARGEST_INFLATED", 500)
    with pytest.raises(DataError, match="larger than 500 bytes"):
        steward.hide(source)
    data = source.read_bytes()
    start = next(at for at in range(132, len(data)) if inflates(data[at:]))
    source.write_bytes(data[: start + 20] + b"\xff" * 40)
    with pytest.raises(DataError):
        steward.hide(source)


def inflates(data: bytes) -> bool:
    try:
        return len(zlib.decompress(data, -zlib.MAX_WBITS)) > 100
    except zlib.error:
        return False


def test_names_of_any_kind(make_dicom: MakeDicom, steward: Any) -> None:
    source = make_dicom(PLAIN, name="a b\nç.dcm")
    assert np.array_equal(pydicom.dcmread(steward.show(steward.hide(source))).pixel_array, PLAIN)
    with pytest.raises(IntegrityError) as caught:
        hidden = steward.hide(source)
        hidden.write_bytes(hidden.read_bytes()[:-2])
        DICOM.verify(hidden, steward.ring)
    assert "\n" not in str(caught.value)
