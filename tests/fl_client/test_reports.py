"""DICOM reports of a model's answers: written, read back by two readers, judged by dciodvfy, refused by name."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.data
import pytest
import torch

from crypto.config import CipherConfig
from crypto.deid.method import IMPLEMENTATION_UID
from crypto.dicom.kind import DICOM
from crypto.files.recipe import Recipe
from crypto.keys import SiteKey
from fl_client.data.config import PhantomConfig
from fl_client.data.phantoms import draw_phantoms
from fl_client.export.asking import ask
from fl_client.export.images import Place, stamp_of
from fl_client.export.ready import Ready, from_folder, no_keys
from fl_client.reports import writing
from fl_client.reports.codes import Concept, read_codes
from fl_client.reports.subjects import instance_of
from fl_client.reports.writing import Asking
from medveil.errors import ConfigError, DataError
from models.hashes import model_hash

highdicom = pytest.importorskip("highdicom", reason="the extra 'sr' is not installed")

UNPACKED = Path(__file__).resolve().parents[2] / "build/tools/usr/bin/dciodvfy"
DCIODVFY = str(UNPACKED) if UNPACKED.exists() else shutil.which("dciodvfy")
CODES = """\
classes:
  none: {code: "17621005", scheme: SCT, meaning: Normal}
  mass: {code: "4147007", scheme: SCT, meaning: Mass}
"""
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def ready() -> Ready:
    torch.set_num_threads(1)
    return from_folder(Path(__file__).parent / "fixtures" / "exported-v3", no_keys)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    draw_phantoms(folder, PhantomConfig(sites=1, images=3, classes=2, size=32))
    return folder / "hospital-1"


@pytest.fixture
def codes(tmp_path: Path) -> Path:
    path = tmp_path / "codes.yaml"
    path.write_text(CODES)
    return path


def asked(ready: Ready, images: Path, home: Path, *, per: str = "image", codes: str = "codes.yaml") -> int:
    asking = Asking(home / "reports", home / codes, per)
    return ask(ready, images, home / "p.csv", device=torch.device("cpu"), named="a model", reports=asking)


def documents(home: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted((home / "reports").iterdir())]


def copied(phantoms: Path, home: Path, n: int = 1, **changes: Any) -> Path:
    """Some phantoms, the first of them changed; None removes an attribute."""
    folder = home / "images"
    folder.mkdir()
    for number, path in enumerate(sorted(phantoms.rglob("*.dcm"))[:n]):
        found = pydicom.dcmread(path)
        for keyword, value in changes.items() if number == 0 else ():
            if value is None:
                delattr(found, keyword)
            else:
                setattr(found, keyword, value)
        found.save_as(folder / f"{number}.dcm")
    return folder


def items(found: pydicom.Dataset, meaning: str | None = None) -> Iterator[pydicom.Dataset]:
    """Content items anywhere in a tree, or those of a name, by a reader of our own."""
    for item in found.get("ContentSequence", []):
        if meaning is None or item.ConceptNameCodeSequence[0].CodeMeaning == meaning:
            yield item
        yield from items(item, meaning)


def probabilities(home: Path) -> dict[str, list[float]]:
    rows = list(csv.DictReader((home / "p.csv").open()))
    return {row["image"]: [float(value) for name, value in row.items() if name.startswith("p(")] for row in rows}


def test_a_report_says_of_an_image_what_the_table_says(
    tmp_path: Path, ready: Ready, phantoms: Path, codes: Path
) -> None:
    assert asked(ready, phantoms, tmp_path) == 0
    sources = {
        found.SOPInstanceUID: (path, found) for path in phantoms.rglob("*.dcm") for found in [pydicom.dcmread(path)]
    }
    made, table = documents(tmp_path), probabilities(tmp_path)
    assert len(made) == len(table) == len(sources) == 3
    seen = set()
    for path in sorted((tmp_path / "reports").iterdir()):
        report = highdicom.sr.srread(path)
        assert path.name == f"{report.SOPInstanceUID}.dcm"
        assert path.stat().st_mode & 0o077 == 0
        groups = report.content.get_image_measurement_groups()
        assert [group.finding_type.value for group in groups] == ["17621005", "4147007"]
        assert [group.tracking_identifier for group in groups] == list(ready.described.classes)
        (image,) = {group.source_images[0].referenced_sop_instance_uid for group in groups}
        place, source = sources[image]
        said = [group.get_measurements()[0] for group in groups]
        assert [each.name.value for each in said] == ["122157", "122157"]
        assert [each.unit.value for each in said] == ["1", "1"]
        assert [each.value for each in said] == pytest.approx(table[place.relative_to(phantoms).as_posix()], abs=1e-9)
        assert {group.source_images[0].referenced_sop_class_uid for group in groups} == {source.SOPClassUID}
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID"):
            assert report[keyword].value == source[keyword].value
        assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
        assert report.SeriesInstanceUID != source.SeriesInstanceUID
        seen.add(image)
    assert seen == sources.keys()


def test_a_report_names_the_model_and_what_it_is_not(tmp_path: Path, ready: Ready, phantoms: Path, codes: Path) -> None:
    asked(ready, copied(phantoms, tmp_path), tmp_path)
    (report,) = documents(tmp_path)
    given = ready.described
    assert {item.TextValue for item in items(report, "Algorithm Name")} == {given.name}
    assert {item.TextValue for item in items(report, "Algorithm Version")} == {f"run {given.run}, round {given.round}"}
    said = {item.TextValue for item in items(report, "Algorithm Parameters")}
    assert f"model SHA-256: {model_hash(ready.model)}" in said
    (comment,) = items(report, "Comment")
    assert comment.TextValue.startswith("Research use only. Not a medical device")
    assert "RESEARCH USE ONLY" in report.SeriesDescription
    assert report.file_meta.ImplementationClassUID == IMPLEMENTATION_UID
    assert not list(items(report, "Person Observer Name"))


def test_a_name_is_quoted_by_no_warning(tmp_path: Path, ready: Ready, phantoms: Path, codes: Path) -> None:
    folder = copied(phantoms, tmp_path, PatientName="ANNA")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert asked(ready, folder, tmp_path) == 0
    assert [each for each in heard if "ANNA" in str(each.message)] == []
    # And highdicom does warn of such a name, by its value.
    with pytest.warns(UserWarning, match="ANNA"):
        highdicom.valuerep.check_person_name("ANNA")


def test_a_series_is_one_report_of_all_its_images(tmp_path: Path, ready: Ready, phantoms: Path, codes: Path) -> None:
    one = {"SeriesInstanceUID": "2.25.7", "StudyInstanceUID": "2.25.6", "StudyID": "1", "PatientID": "p"}
    folder = copied(phantoms, tmp_path, 3)
    for path in folder.iterdir():
        found = pydicom.dcmread(path)
        for keyword, value in {**one, "PatientName": "A^B"}.items():
            setattr(found, keyword, value)
        found.save_as(path)
    assert asked(ready, folder, tmp_path, per="series") == 0
    (report,) = documents(tmp_path)
    referred = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert len(referred) == 3
    assert len(list(items(report, "Probability"))) == 6
    # And where they name two patients, there is no report of that series.
    shutil.rmtree(tmp_path / "reports")
    found = pydicom.dcmread(folder / "1.dcm")
    found.PatientID = "another"
    found.save_as(folder / "1.dcm")
    with pytest.raises(DataError, match=r"no image got a report; see .*p\.unreported\.csv"):
        asked(ready, folder, tmp_path, per="series")
    assert all("images of its series differ in PatientID; a report" in said for said in unreported(tmp_path).values())
    assert len(unreported(tmp_path)) == 3
    assert not (tmp_path / "reports").exists()


def test_frames_of_a_file_are_findings_of_one_report(tmp_path: Path, ready: Ready, codes: Path, phantoms: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    source = pydicom.dcmread(sorted(phantoms.rglob("*.dcm"))[0])
    source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID = (
        pydicom.uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    )
    source.NumberOfFrames, source.PixelData = 3, source.PixelData * 3
    source.save_as(folder / "three.dcm")
    assert asked(ready, folder, tmp_path) == 0
    (report,) = documents(tmp_path)
    images = [item for item in items(report) if item.ValueType == "IMAGE"]
    frames = [item.ReferencedSOPSequence[0].ReferencedFrameNumber for item in images]
    assert frames == [1, 1, 2, 2, 3, 3]


@pytest.mark.usefixtures("codes")
@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "Müller^Jürgen"), ("ISO 2022 IR 87", "Yamada^Tarou=山田^太郎"), ("ISO_IR 192", "Łoś^Żaneta")],
)
def test_names_keep_their_letters(tmp_path: Path, ready: Ready, phantoms: Path, charset: str, name: str) -> None:
    folder = copied(
        phantoms, tmp_path, SpecificCharacterSet=["", charset] if "2022" in charset else charset, PatientName=name
    )
    assert asked(ready, folder, tmp_path) == 0
    (report,) = documents(tmp_path)
    assert report.SpecificCharacterSet == "ISO_IR 192"
    assert str(report.PatientName) == name


@pytest.mark.skipif(DCIODVFY is None, reason="dciodvfy is not here: make tools unpacks it")
def test_dciodvfy_finds_no_error(tmp_path: Path, ready: Ready, phantoms: Path, codes: Path) -> None:
    named = copied(phantoms, tmp_path, PatientName="Müller^Jürgen", SpecificCharacterSet="ISO_IR 100")
    for folder, per in ((named, "image"), (phantoms, "series")):
        asked(ready, folder, tmp_path, per=per)
        (tmp_path / "reports").rename(tmp_path / per)
    made = [path for per in writing.PER for path in (tmp_path / per).iterdir()]
    assert len(made) >= 2
    for path in made:
        done = subprocess.run([str(DCIODVFY), str(path)], capture_output=True, check=False)
        lines = (done.stdout + done.stderr).decode("latin-1").splitlines()
        assert "ComprehensiveSR" in lines
        assert [line for line in lines if line.startswith(("Error", "Warning"))] == []


# -- what gets none ----------------------------------------------------------------------------------------------------


def unreported(home: Path) -> dict[str, str]:
    return {row["image"]: row["reason"] for row in csv.DictReader((home / "p.unreported.csv").open())}


@pytest.mark.usefixtures("codes")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"StudyInstanceUID": None}, "has no StudyInstanceUID; give the file as the PACS sends it"),
        ({"SOPInstanceUID": None, "SeriesInstanceUID": ""}, "has no SeriesInstanceUID and no SOPInstanceUID"),
        ({"SeriesInstanceUID": "../../etc"}, "its SeriesInstanceUID is not as DICOM asks"),
        ({"StudyInstanceUID": "1." * 40 + "1"}, "its StudyInstanceUID has 81 characters, more than the 64"),
        ({"AccessionNumber": "a" * 17}, "its AccessionNumber has 17 characters, more than the 16"),
        ({"PatientBirthDate": "sometime"}, "its PatientBirthDate is not as DICOM asks"),
        ({"PatientID": "a\nb"}, "its PatientID is not as DICOM asks"),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6"},
            "its SOPClassUID 1.2.840.10008.5.1.4.1.1.6 is none that a report",
        ),
    ],
)
def test_what_is_not_as_dicom_asks_gets_an_answer_and_no_report(
    tmp_path: Path, ready: Ready, phantoms: Path, changes: dict[str, Any], reason: str
) -> None:
    folder = copied(phantoms, tmp_path, 2, **changes)
    assert asked(ready, folder, tmp_path) == 6
    assert len(documents(tmp_path)) == 1
    (said,) = unreported(tmp_path).items()
    assert said[0] == "0.dcm"
    assert reason in said[1]
    assert not re.search(r"sometime|etc|a\\?n?b;", said[1])
    assert probabilities(tmp_path).keys() == {"0.dcm", "1.dcm"}


def test_what_is_no_dicom_or_hidden_or_there_twice_gets_no_report(
    tmp_path: Path, ready: Ready, phantoms: Path, codes: Path
) -> None:
    from PIL import Image  # noqa: PLC0415

    folder = copied(phantoms, tmp_path, 2)
    shutil.copy(folder / "0.dcm", folder / "again.dcm")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "picture.png")
    assert asked(ready, folder, tmp_path) == 6
    assert unreported(tmp_path) == {
        "again.dcm": "is the same instance as another file; remove one of the two",
        "picture.png": "is no DICOM file; a report takes the patient, the study and the instance from the image's own "
        "DICOM file",
    }
    assert len(documents(tmp_path)) == 2


def test_a_hidden_file_gets_no_report_of_who_knows_whom(tmp_path: Path, phantoms: Path) -> None:
    hidden = tmp_path / "hidden.dcm"
    recipe = Recipe(purpose="archive", cipher=CipherConfig(block=8), identity="kept")
    DICOM.hide(next(phantoms.rglob("*.dcm")), hidden, recipe, SiteKey.generate("st-anna"))
    with pytest.raises(DataError, match="is hidden, and names no patient or another one"):
        instance_of(Place(hidden, 0, stamp_of(hidden)))


def test_a_file_that_changed_since_gets_no_report(
    tmp_path: Path, ready: Ready, phantoms: Path, codes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(phantoms, tmp_path, 2)
    written = writing.write_reports

    def swapped(*given: Any, **named: Any) -> Any:
        found = pydicom.dcmread(folder / "0.dcm")
        found.PatientID = "somebody else"
        found.save_as(folder / "0.dcm")
        return written(*given, **named)

    monkeypatch.setattr("fl_client.export.asking.write_reports", swapped)
    assert asked(ready, folder, tmp_path) == 6
    assert "changed since the model was asked about it" in unreported(tmp_path)["0.dcm"]
    assert [report.PatientID for report in documents(tmp_path)] != ["somebody else"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no coded concept of 'none', 'mass'"),
        ("classes: {none: {code: a, scheme: SCT, meaning: b}}", "has no coded concept of 'mass'"),
        (CODES + "  tumour: {code: x, scheme: SCT, meaning: y}", "names 'tumour', which is no class of the model"),
        (CODES.replace("4147007", "1234567890123456x"), "'classes.mass': its code has 17 characters"),
        (
            CODES.replace("Mass", "m" * 65),
            "'classes.mass': its meaning has 65 characters, more than DICOM takes; at most 64",
        ),
        (CODES.replace("Mass", r'"a\\b"'), "'classes.mass': its meaning is no text of one value"),
        (CODES.replace('"4147007"', r'"41\n47"'), "'classes.mass': its code or scheme has letters that a code has not"),
        (CODES.replace("4147007", "17621005"), "gives 'none' and 'mass' one code"),
        (CODES.replace(", meaning: Mass", ""), "'classes.mass': has no meaning"),
        (CODES.replace("meaning: Mass", "means: Mass"), "'classes.mass': has no meaning"),
        (CODES.replace("meaning: Mass", "meaning: Mass, more: 1"), "unknown key 'more'"),
        (
            CODES.replace('"4147007"', "0147007"),
            "'classes.mass': its code is a whole number; codes are text: put it in",
        ),
        ("classes: {none: 1, mass: 2}", "'classes.none': is a whole number"),
        (CODES + "procedures: {}", "unknown key 'procedures'"),
    ],
)
def test_codes_that_are_none_are_refused_before_an_image_is_read(
    tmp_path: Path, ready: Ready, text: str, says: str
) -> None:
    (tmp_path / "codes.yaml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(says)):
        asked(ready, tmp_path / "nowhere", tmp_path)


def test_codes_are_text(tmp_path: Path) -> None:
    path = tmp_path / "codes.yaml"
    path.write_text(
        "classes: {'0': {code: '0017', scheme: SCT, meaning: No}, no: {code: x1, scheme: 99X, meaning: off}}"
    )
    made = read_codes(path, ["0", "no"])
    assert made.classes == (Concept("0017", "SCT", "No"), Concept("x1", "99X", "off"))
    assert made.procedure.code == "363679005"


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, ready: Ready, codes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "NEEDS", ("no_such_module_of_ours",))
    with pytest.raises(ConfigError, match=r"needs no_such_module_of_ours; install the extra: .*medveil\[sr\]"):
        asked(ready, tmp_path, tmp_path)
    monkeypatch.undo()
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "note").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        asked(ready, tmp_path, tmp_path)
