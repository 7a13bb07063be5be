"""Images from a real PACS and reports back to it: Orthanc, killed and restarted in the middle."""

from __future__ import annotations

import csv
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orthanc
import pydicom.data
import pytest
import torch
from enrolled_site import WORD, enrolled
from orthanc import Orthanc
from pydicom import dcmread

from crypto import sealed_file
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keyfile import load_keyring
from crypto.reading.dicom import frame_to_bytes
from fl_client.cli import main
from fl_client.data.config import PhantomConfig
from fl_client.data.documents import Documents
from fl_client.data.partition import site_parts
from fl_client.data.phantoms import draw_phantoms
from fl_client.data.source import open_source
from fl_client.data.store import open_store
from fl_client.deployment.own_files import OwnFiles, load_site
from fl_client.dicomweb.pulled import Pulled
from fl_client.dicomweb.session import PacsSession
from fl_client.export.asking import ask
from fl_client.export.ready import from_folder, no_keys
from fl_client.reports.writing import Asking

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.faults,
    pytest.mark.skipif(orthanc.program() is None, reason=orthanc.WHY),
    pytest.mark.filterwarnings("ignore"),
]
FIXTURES = Path(__file__).resolve().parents[1] / "fl_client" / "fixtures"
CODES = """\
classes:
  none: {code: "17621005", scheme: SCT, meaning: Normal}
  mass: {code: "4147007", scheme: SCT, meaning: Mass}
"""


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    monkeypatch.setenv("MEDVEIL_PASSPHRASE", WORD)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    draw_phantoms(folder, PhantomConfig(sites=1, images=24, classes=2, size=32))
    return folder


@pytest.fixture
def pacs(tmp_path: Path, phantoms: Path) -> Iterator[Orthanc]:
    made = Orthanc(tmp_path / "orthanc")
    try:
        made.start()
        for path in [*sorted(phantoms.rglob("*.dcm")), *_of_pydicom()]:
            made.put(path.read_bytes())
        yield made
    finally:
        made.kill()


def _of_pydicom() -> list[Path]:
    """Images of other modalities and transfer syntaxes, which come with pydicom."""
    names = ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "examples_palette.dcm", "color3d_jpeg_baseline.dcm")
    found = [pydicom.data.get_testdata_file(name, download=False) for name in names]
    return [Path(str(each)) for each in found if each is not None]


def site_of(folder: Path, url: str, phantoms: Path, **server: Any) -> OwnFiles:
    files = enrolled(folder)
    home = files.file.parent
    settings = {"url": url, "page": 7, "rate": 200, "patience": 40, **server}
    (home / "pacs.yaml").write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
    with (phantoms / "labels.csv").open() as stream:
        rows = [(row["path"], row["label"]) for row in csv.DictReader(stream)]
    with (home / "labels.csv").open("w", newline="") as stream:
        uids = [(dcmread(phantoms / path, stop_before_pixels=True).SOPInstanceUID, label) for path, label in rows]
        csv.writer(stream).writerows([("instance", "label"), *uids])
    modality = dcmread(phantoms / rows[0][0], stop_before_pixels=True).Modality
    text = files.file.read_text()
    head = text[: text.index("\ndata:")] + "\n"
    tail = text[text.index("\nlimits:") :]
    data = (
        "data:\n  source: dicomweb\n  path: pacs.yaml\n  labels: labels.csv\n  image_size: 32\n"
        f"  query: {{modality: {modality}}}\n"
    )
    files.file.write_text(head + data + tail)
    return load_site(files.file)


def run(files: OwnFiles, *words: str) -> int:
    return main([*words, "--site", str(files.file)])


def source_of(files: OwnFiles) -> Any:
    ring = load_keyring(files.path(files.config.key), WORD)
    return open_source(files.data, kept_in=(Documents.of(files.own, ring.current),)), ring.current


def test_from_the_pacs_into_the_sealed_store(
    tmp_path: Path, pacs: Orthanc, phantoms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = site_of(tmp_path, pacs.url, phantoms)
    assert run(files, "cohort") == 0
    assert " 24" in capsys.readouterr().out
    assert run(files, "cohort", "--query", "modality=CT") == 0
    assert "fewer than" in capsys.readouterr().out
    assert run(files, "pull") == 0
    assert "24 images" in capsys.readouterr().out
    source, key = source_of(files)
    assert len(source) == 24
    plain = {str(dcmread(path).SOPInstanceUID): path for path in phantoms.rglob("*.dcm")}
    for i, item in enumerate(source.items):
        assert np.array_equal(source.decoded(i), frame_to_bytes(plain[item.id]))
        assert item.group == str(dcmread(plain[item.id]).PatientID)
    parts = site_parts(source, files.data, sites=1, index=0, seed=0)
    cipher = make_cipher(CipherConfig(scheme="block-pixel", block=8), key, channels=1, height=32, width=32)
    store = open_store(source, parts, cipher, files.data, key=key, folder=files.own, seed=0)
    assert sum(len(part) for part in store.parts.values()) == 24
    lying = [path.read_bytes() for path in files.own.rglob("*") if path.is_file()]
    pixels = dcmread(next(iter(plain.values()))).PixelData[100:140]
    assert not [data for data in lying if b"DICM" in data or pixels in data]


def test_every_syntax_comes_as_the_pacs_keeps_it(tmp_path: Path, pacs: Orthanc, phantoms: Path) -> None:
    files = site_of(tmp_path, pacs.url, phantoms)
    home = files.file.parent
    for path in _of_pydicom():
        found = dcmread(path)
        (home / "labels.csv").write_text(f"study,label\n{found.StudyInstanceUID},a\n1.2.3,b\n")
        text = files.file.read_text()
        at = text.index("  query:")
        files.file.write_text(
            text[:at] + f"  query: {{modality: {found.Modality}}}\n" + text[text.index("\n", at) + 1 :]
        )
        own = load_site(files.file)
        assert run(own, "pull") in {0, 6}
        ring = load_keyring(own.path(own.config.key), WORD)
        pulled = Pulled(Documents.of(own.own, ring.current), _name(own))
        made = pulled.read()
        assert made is not None
        (instance,) = [each for each in made.instances if each.uid == str(found.SOPInstanceUID)]
        kept = dcmread(io.BytesIO(pulled.data(instance)))
        assert kept.file_meta.TransferSyntaxUID == found.file_meta.TransferSyntaxUID
        assert kept.PixelData == found.PixelData


def _name(files: OwnFiles) -> str:
    from fl_client.data.named import source_name  # noqa: PLC0415

    return source_name(files.data)


def test_killed_and_restarted_in_the_middle(
    tmp_path: Path, pacs: Orthanc, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = site_of(tmp_path, pacs.url, phantoms)
    fetched: list[str] = []
    real = PacsSession.fetch
    again: list[threading.Thread] = []

    def back() -> None:
        time.sleep(1.5)
        pacs.start()

    def fetch(self: PacsSession, url: str, **given: Any) -> tuple[str, bytes]:
        if len(fetched) == 8 and not again:
            pacs.kill()
            again.append(threading.Thread(target=back))
            again[0].start()
        made = real(self, url, **given)
        fetched.append(url)
        return made

    monkeypatch.setattr(PacsSession, "fetch", fetch)
    assert run(files, "pull") == 0
    again[0].join()
    assert len(fetched) == len(set(fetched)) == 24


def test_killed_for_good_and_gone_on_with_later(
    tmp_path: Path, pacs: Orthanc, phantoms: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = site_of(tmp_path, pacs.url, phantoms, patience=1)
    fetched: list[str] = []
    real = PacsSession.fetch

    def fetch(self: PacsSession, url: str, **given: Any) -> tuple[str, bytes]:
        if len(fetched) == 9:
            pacs.kill()
        made = real(self, url, **given)
        fetched.append(url)
        return made

    monkeypatch.setattr(PacsSession, "fetch", fetch)
    assert run(files, "pull") == 5
    assert "out of reach" in capsys.readouterr().err
    pacs.start()
    first = list(fetched)
    fetched[:] = ["not", "that", "again", "x", "x", "x", "x", "x", "x", "x"]
    assert run(files, "pull") == 0
    assert len(fetched) - 10 == 24 - len(first)
    assert len(source_of(files)[0]) == 24


def test_who_is_let_in(tmp_path: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Over HTTP: Orthanc 1.10.1 of Debian 12 ends at its first request by TLS, which test_dicomweb.py tries without it.
    pacs = Orthanc(tmp_path / "orthanc", AuthenticationEnabled=True, RegisteredUsers={"medveil": "right"})
    pacs.start()
    try:
        for password, code, words in (
            ("wrong", 5, "does not let this site in (401)"),
            ("right", 3, "the query finds no image"),
        ):
            folder = tmp_path / password
            folder.mkdir()
            (folder / "login").write_text(f"medveil:{password}\n")
            (folder / "login").chmod(0o600)
            files = site_of(folder, pacs.url, phantoms, login=folder / "login", patience=2)
            assert run(files, "pull") == code
            told = capsys.readouterr().err
            assert words in told
            assert f"medveil:{password}" not in told
    finally:
        pacs.kill()


def test_reports_go_back_where_they_are_sent(tmp_path: Path, pacs: Orthanc, phantoms: Path) -> None:
    torch.set_num_threads(1)
    before = set(pacs.instances())
    (tmp_path / "codes.yaml").write_text(CODES)
    (tmp_path / "pacs.yaml").write_text(f"url: {pacs.url}\n")
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted(phantoms.rglob("*.dcm"))[:3]:
        (images / path.name).write_bytes(path.read_bytes())
    asking = Asking(tmp_path / "reports", tmp_path / "codes.yaml", "image", tmp_path / "pacs.yaml")
    ready = from_folder(FIXTURES / "exported-v3", no_keys)
    assert ask(ready, images, tmp_path / "p.csv", device=torch.device("cpu"), named="a model", reports=asking) == 0
    new = [dcmread(io.BytesIO(pacs.file(name))) for name in set(pacs.instances()) - before]
    written = {str(dcmread(path).SOPInstanceUID) for path in (tmp_path / "reports").glob("*.dcm")}
    assert {str(each.SOPInstanceUID) for each in new} == written
    assert len(written) == 3
    studies = {str(dcmread(path).StudyInstanceUID) for path in images.iterdir()}
    assert {str(each.StudyInstanceUID) for each in new} == studies
