"""Structured Reports and a PACS: labels taken from them, and our own sent where they were named for."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from dicomweb_server import Pacs, as_bytes, image, serving
from pydicom import Dataset
from pydicom.uid import ComprehensiveSRStorage

from crypto.keys import SiteKey
from fl_client.data.config import DataConfig, PhantomConfig
from fl_client.data.dicomweb import pulled_of
from fl_client.data.documents import Documents
from fl_client.data.phantoms import draw_phantoms
from fl_client.data.source import open_source
from fl_client.dicomweb.cohort import cohort_of
from fl_client.dicomweb.pulling import pull
from fl_client.dicomweb.query import QueryConfig
from fl_client.dicomweb.searching import Found
from fl_client.dicomweb.server import read_server
from fl_client.dicomweb.session import PacsSession
from fl_client.dicomweb.structured import labels_of_report
from fl_client.export.asking import ask
from fl_client.export.ready import from_folder, no_keys
from fl_client.reports.codes import read_classes
from fl_client.reports.writing import Asking
from medveil.errors import ConfigError, DataError, PacsError

CODES = """\
classes:
  none: {code: "17621005", scheme: SCT, meaning: Normal}
  mass: {code: "4147007", scheme: SCT, meaning: Mass}
"""
BY_CODE = {("SCT", "17621005"): "none", ("SCT", "4147007"): "mass"}
KEY = SiteKey.generate("st-anna")
CODE_OF = {name: code for (_, code), name in BY_CODE.items()}
pytestmark = pytest.mark.filterwarnings("ignore")


def code(value: str, scheme: str = "DCM") -> list[Dataset]:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, scheme, "a meaning"
    return [made]


def content(kind: str, name: str, *inside: Dataset, **more: Any) -> Dataset:
    made = Dataset()
    made.ValueType, made.ConceptNameCodeSequence, made.RelationshipType = kind, code(name), "CONTAINS"
    for keyword, value in more.items():
        setattr(made, keyword, value)
    if inside:
        made.ContentSequence = list(inside)
    return made


def seen_in(uid: str) -> Dataset:
    referred = Dataset()
    referred.ReferencedSOPClassUID, referred.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", uid
    return content("IMAGE", "121112", ReferencedSOPSequence=[referred])


def group(label: str, *uids: str, more: tuple[Dataset, ...] = ()) -> Dataset:
    finding = content("CODE", "121071", ConceptCodeSequence=code(CODE_OF.get(label, label), "SCT"))
    return content("CONTAINER", "125007", finding, *map(seen_in, uids), *more)


def report(number: int, study: int, *groups: Dataset, **more: Any) -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = ComprehensiveSRStorage, f"1.2.3.{study}.8.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID = f"1.2.3.{study}", f"1.2.3.{study}.8"
    made.Modality, made.PatientID, made.AccessionNumber, made.StudyDate = "SR", f"P{study}", f"A{study}", "20240115"
    made.CompletionFlag, made.VerificationFlag = "COMPLETE", "VERIFIED"
    made.ValueType, made.ConceptNameCodeSequence = "CONTAINER", code("126000")
    made.ContentSequence = [content("CONTAINER", "126010", *groups)]
    for keyword, value in more.items():
        setattr(made, keyword, value)
    return made


def uid(number: int) -> str:
    return str(image(number).SOPInstanceUID)


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    with serving(image(i) for i in range(12)) as made:
        yield made


def labelled(folder: Path, pacs: Pacs, *, unmatched: int = 0, **query: Any) -> tuple[dict[str, str], dict[str, str]]:
    """The label of each image that was pulled, and why others were left out."""
    (folder / "pacs.yaml").write_text(f"url: {pacs.url}\nrate: 1000\npatience: 0\n")
    (folder / "codes.yaml").write_text(CODES)
    given = QueryConfig(modality="DX", codes="codes.yaml", **query)
    config = DataConfig(source="dicomweb", path=str(folder / "pacs.yaml"), labels="sr", query=given, image_size=16)
    documents = Documents.of(folder / "own", KEY)
    server = read_server(folder / "pacs.yaml")
    with PacsSession(server) as session:
        made = pull(cohort_of(config, server), pulled_of(config, documents), session)
    assert made.unmatched == unmatched
    source = open_source(config, kept_in=(documents,))
    return {item.id: source.classes[item.label] for item in source.items}, {
        each.path: each.reason for each in made.skipped
    }


def test_a_report_labels_the_images_it_refers_to(tmp_path: Path, pacs: Pacs) -> None:
    pacs.add(report(1, 0, group("none", uid(0)), group("mass", uid(1))))
    pacs.add(report(1, 1, group("mass", uid(2), uid(3))))
    # What a model said labels nothing; nor does a finding that is no class.
    probability = content("NUM", "122157")
    pacs.add(report(1, 2, group("mass", uid(4), more=(probability,)), group("73211009", uid(5))))
    pacs.add(report(1, 3, group("mass", uid(6)), VerificationFlag="UNVERIFIED"))
    pacs.add(report(1, 4, group("mass", uid(8)), CompletionFlag="PARTIAL"))
    pacs.add(report(1, 5, group("mass", uid(10))))
    # The last is of no image that the query finds.
    pacs.add(report(2, 5, group("none", uid(10)), group("none", uid(11)), group("mass", uid(99))))
    labels, left = labelled(tmp_path, pacs, unmatched=1)
    assert labels == {uid(0): "none", uid(1): "mass", uid(2): "mass", uid(3): "mass", uid(11): "none"}
    assert left[uid(10)] == "reports give it two classes"
    assert {left[uid(i)] for i in (4, 5, 6, 7, 8, 9)} == {"no report labels it"}
    labels, _ = labelled(tmp_path, pacs, unmatched=1, unverified=True)
    assert labels[uid(6)] == "mass"
    assert uid(8) not in labels


def test_no_report_no_label(tmp_path: Path, pacs: Pacs) -> None:
    with pytest.raises(DataError, match="no report labels any of 12 images"):
        labelled(tmp_path, pacs)
    assert not pacs.retrieved()


def found(number: int = 1, study: int = 0) -> Found:
    return Found(f"1.2.3.{study}", f"1.2.3.{study}.8", f"1.2.3.{study}.8.{number}", {})


def deep(levels: int) -> Dataset:
    made = group("mass", uid(0))
    for _ in range(levels):
        made = content("CONTAINER", "126010", made)
    return made


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"no DICOM", "no DICOM"),
        (as_bytes(report(2, 0, group("mass", uid(0)))), "another report"),
        (as_bytes(report(1, 0, group("mass", uid(0)), SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1")), "no Structured"),
        (as_bytes(report(1, 0, group("mass", uid(0)), group("none", uid(0)))), "two classes"),
        (as_bytes(report(1, 0, deep(40))), "more in it than is read"),
    ],
)
def test_reports_that_are_none(data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        labels_of_report(data, found(), BY_CODE)


def test_a_report_cut_anywhere_is_an_error_of_ours_or_says_less() -> None:
    whole = as_bytes(report(1, 0, group("mass", uid(0)), group("none", uid(1))))
    right = labels_of_report(whole, found(), BY_CODE)
    assert right == {uid(0): "mass", uid(1): "none"}
    for length in range(0, len(whole), 41):
        try:
            made = labels_of_report(whole[:length], found(), BY_CODE)
        except DataError:
            continue
        assert made.items() <= right.items()


def test_codes_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "codes.yaml").write_text(CODES)
    assert read_classes(tmp_path / "codes.yaml") == BY_CODE
    (tmp_path / "one.yaml").write_text(CODES.rsplit("\n", 2)[0] + "\n")
    for name in ("one.yaml", "nowhere.yaml"):
        with pytest.raises(ConfigError):
            read_classes(tmp_path / name)


# -- sent --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    draw_phantoms(folder, PhantomConfig(sites=1, images=3, classes=2, size=32))
    return folder / "hospital-1"


def sent(home: Path, phantoms: Path, pacs: Pacs | None) -> int:
    pytest.importorskip("highdicom", reason="the extra 'sr' is not installed")
    torch.set_num_threads(1)
    home.mkdir(exist_ok=True)
    (home / "codes.yaml").write_text(CODES)
    if pacs is not None:
        (home / "pacs.yaml").write_text(f"url: {pacs.url}\nrate: 1000\npatience: 0\n")
    server = None if pacs is None else home / "pacs.yaml"
    asking = Asking(home / "reports", home / "codes.yaml", "image", server)
    ready = from_folder(Path(__file__).parent / "fixtures" / "exported-v3", no_keys)
    with warnings.catch_warnings():
        return ask(ready, phantoms, home / "p.csv", device=torch.device("cpu"), named="a model", reports=asking)


def test_reports_are_sent_where_a_server_is_named_and_nowhere_else(
    tmp_path: Path, phantoms: Path, pacs: Pacs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sent(tmp_path / "a", phantoms, None) == 0
    assert not pacs.asked
    assert sent(tmp_path / "b", phantoms, pacs) == 0
    written = {path.stem for path in (tmp_path / "b" / "reports").glob("*.dcm")}
    assert {str(each.SOPInstanceUID) for each in pacs.stored} == written
    assert {str(each.SOPClassUID) for each in pacs.stored} == {ComprehensiveSRStorage}
    assert all("json" in each["Accept"] for each in pacs.headers)
    assert "stored 3 reports" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "does not say that it was stored"),
        ({"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [272]}}]}}, "did not store it"),
        ({"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}]}}, "does not say"),
    ],
)
def test_what_a_server_did_not_store_is_told(
    tmp_path: Path, phantoms: Path, pacs: Pacs, answer: dict[str, Any], words: str
) -> None:
    pacs.storing = lambda uids: answer
    assert sent(tmp_path, phantoms, pacs) == 6
    assert (tmp_path / "p.unsent.csv").read_text().count(words) == 3


def test_no_report_is_written_for_a_server_that_is_none(tmp_path: Path, phantoms: Path, pacs: Pacs) -> None:
    pacs.url = "http://pacs.example/x"
    with pytest.raises(ConfigError, match="in clear"):
        sent(tmp_path, phantoms, pacs)
    assert not (tmp_path / "reports").exists()
    assert not (tmp_path / "p.csv").exists()


def test_a_server_that_lets_nobody_in(tmp_path: Path, phantoms: Path, pacs: Pacs) -> None:
    pacs.authorization = "Bearer x"
    with pytest.raises(PacsError, match="401"):
        sent(tmp_path, phantoms, pacs)
    assert len(list((tmp_path / "reports").glob("*.dcm"))) == 3
