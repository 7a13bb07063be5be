"""Images from a PACS: searched, retrieved and sealed, from a server as it should be and from ones that are not."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import ssl
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from dicomweb_server import Handler, Pacs, as_bytes, entry, image, multipart, serving
from pydicom import dcmread

from crypto.keys import SimulatedKey, SiteKey
from crypto.reading.dicom import frame_to_bytes
from fl_client.data.config import DataConfig
from fl_client.data.contents import contents_of
from fl_client.data.dicomweb import pulled_of
from fl_client.data.documents import Documents
from fl_client.data.partition import site_parts
from fl_client.data.source import Source, open_source
from fl_client.dicomweb.cohort import cohort_of
from fl_client.dicomweb.counting import counts_of, table_of
from fl_client.dicomweb.plain import write_plain
from fl_client.dicomweb.pulled import LIST, Instance, Pulled, PulledList
from fl_client.dicomweb.pulling import find, pull
from fl_client.dicomweb.query import QueryConfig
from fl_client.dicomweb.retrieving import one_part
from fl_client.dicomweb.server import MOST, ServerConfig, read_server
from fl_client.dicomweb.session import PacsSession
from medveil.bounded import DOCUMENT
from medveil.certificates import issue, make_authority
from medveil.errors import (
    ConfigError,
    DataError,
    IntegrityError,
    KeyMaterialError,
    MedVeilError,
    PacsError,
    StorageError,
)
from medveil.files import json_text

KIND = 'multipart/related; type="application/dicom"; boundary=a-boundary'
CHEST = QueryConfig(modality="DX", body_part="CHEST")


class Site:
    """A site that asks one server."""

    def __init__(self, folder: Path, pacs: Pacs, **settings: Any) -> None:
        self.folder, self.pacs, self.waited = folder, pacs, list[float]()
        self.file = folder / "pacs.yaml"
        self.server(rate=1000.0, patience=0.0, **settings)
        self.documents = Documents.of(folder / "own", SiteKey.generate("st-anna"))

    def server(self, **settings: Any) -> None:
        self.file.write_text(
            "".join(f"{name}: {value}\n" for name, value in {"url": self.pacs.url, **settings}.items())
        )

    def labels(self, column: str, rows: dict[str, str], **more: str) -> None:
        with (self.folder / "labels.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([[column, "label"], *rows.items()])

    def config(self, **settings: Any) -> DataConfig:
        given = {"query": CHEST, "labels": "labels.csv", "image_size": 16, **settings}
        return DataConfig(source="dicomweb", path=str(self.file), **given)

    def session(self) -> PacsSession:
        return PacsSession(read_server(self.file), sleep=self.waited.append)

    def pull(self, **settings: Any) -> PulledList:
        config = self.config(**settings)
        with self.session() as session:
            return pull(cohort_of(config, read_server(self.file)), self.pulled(), session)

    def pulled(self) -> Pulled:
        return pulled_of(self.config(), self.documents)

    def open(self, **settings: Any) -> Source:
        return open_source(self.config(**settings), kept_in=(self.documents,))

    def on_disk(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted((self.folder / "own").rglob("*")) if path.is_file()]


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    others = [image(90, Modality="CT"), image(91, study=91, BodyPartExamined="ABDOMEN")]
    with serving([*(image(i) for i in range(12)), *others]) as made:
        yield made


@pytest.fixture
def site(tmp_path: Path, pacs: Pacs) -> Site:
    made = Site(tmp_path, pacs, page=5)
    made.labels("accession", {f"A{i}": "ab"[i % 2] for i in range(6)})
    return made


def refused(site: Site, kind: type[MedVeilError], words: str, **settings: Any) -> MedVeilError:
    with pytest.raises(kind, match=words) as raised:
        site.pull(**settings)
    return raised.value


# -- as it should be ---------------------------------------------------------------------------------------------------


def test_images_are_those_of_the_query_and_lie_sealed(site: Site) -> None:
    made = site.pull()
    assert [each.uid for each in made.instances] == sorted(image(i).SOPInstanceUID for i in range(12))
    assert not made.skipped
    source = site.open()
    assert source.classes == ("a", "b")
    for i, item in enumerate(source.items):
        held = site.pacs.held[item.id][1]
        assert source.contents(i) == hashlib.sha256(held).digest()
        plain = site.folder / "one.dcm"
        plain.write_bytes(held)
        assert np.array_equal(source.decoded(i), frame_to_bytes(plain))
        assert source.classes[item.label] == "ab"[int(item.id.split(".")[3]) % 2]
        plain.unlink()
    # Neither pixels nor names lie on the disk.
    texts = [b"Doe^Jane", b"DICM", b"1.2.3.", *(data[-300:-20] for _, data in site.pacs.held.values())]
    assert not [text for text in texts for data in site.on_disk() if text in data]
    names = [path.name for path in (site.folder / "own").rglob("*")]
    assert not [name for name in names if "1.2.3" in name or "A1" in name]
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in (site.folder / "own" / "pulled").rglob("*"))


def test_patients_stay_whole_in_the_split(site: Site) -> None:
    site.pacs.held.clear()
    for i in range(24):
        site.pacs.add(image(i, patient=f"P{i // 4}"))
    site.labels("accession", {f"A{i}": "ab"[i // 2 % 2] for i in range(12)})
    site.pull()
    source = site.open()
    parts = site_parts(source, site.config(), sites=1, index=0, seed=1)
    groups = [{source.items[i].group for i in part.tolist()} for part in (parts.train, parts.validation, parts.test)]
    assert all(groups)
    assert not groups[0] & groups[1]
    assert not (groups[0] | groups[1]) & groups[2]
    assert {item.group for item in site.open(group_by="StudyInstanceUID").items} == {f"1.2.3.{i}" for i in range(12)}
    assert {item.group for item in site.open(group_by="SeriesDescription").items} == {"Chest PA"}


def test_a_page_after_the_other_and_each_accession_number_by_itself(site: Site) -> None:
    site.pacs.most_in_a_page = 3
    assert len(site.pull(labels="none").instances) == 12
    offsets = [int(path.split("offset=")[1].split("&")[0]) for path in site.pacs.asked if "offset=" in path]
    assert offsets == [0, 3, 6, 9, 12]
    site.pacs.asked.clear()
    site.labels("accession", {"A1": "a", "A4": "b", "A77": "b"})
    made = site.pull()
    assert ({each.accession for each in made.instances}, made.unmatched) == ({"A1", "A4"}, 1)
    assert all("AccessionNumber=A" in path for path in site.pacs.asked if "/instances?" in path)
    # What is here already is not asked for again.
    assert not site.pacs.retrieved()
    assert "1 rows of labels.csv are of no image that was pulled" in site.open().remarks


def test_a_server_that_does_not_repeat_the_accession_number(site: Site) -> None:
    real = site.pacs.found
    site.pacs.found = lambda query: [{**each, "AccessionNumber": ""} for each in real(query)]  # type: ignore[method-assign]
    assert len(site.pull().instances) == 12
    assert len(site.open().items) == 12
    # What the images themselves say counts.
    site.labels("accession", {"A0": "a", "A1": "b"})
    site.pacs.found = lambda query: [{**each, "AccessionNumber": ""} for each in real({})]  # type: ignore[method-assign]
    made = site.pull()
    assert {each.accession for each in made.instances} == {"A0", "A1"}
    assert "its AccessionNumber is none of the table's" in {each.reason for each in made.skipped}


@pytest.mark.parametrize("column", ["study", "series", "instance"])
def test_labels_by_uids(site: Site, column: str) -> None:
    keyword = {"study": "StudyInstanceUID", "series": "SeriesInstanceUID", "instance": "SOPInstanceUID"}[column]
    rows = {str(image(i)[keyword].value): "ab"[i // 2 % 2] for i in range(10)}
    site.labels(column, rows)
    made = site.pull()
    assert len(made.instances) == 10
    assert len(site.open().items) == 10
    if column != "study":
        assert {each.reason for each in made.skipped} == {"no row of labels.csv is of it"}


def test_what_was_cut_short_goes_on(site: Site) -> None:
    def cut(handler: Handler) -> bool:
        if len(site.pacs.retrieved()) > 7:
            handler.close_connection = True
            handler.connection.close()
            return True
        return False

    site.pacs.bend = cut
    with pytest.raises((PacsError, DataError)):
        site.pull()
    with pytest.raises(DataError, match="cut short"):
        site.open()
    first = site.pacs.retrieved()[:7]
    site.pacs.bend = None
    site.pacs.asked.clear()
    assert len(site.pull().instances) == 12
    assert not set(first) & set(site.pacs.retrieved())
    assert len(site.open().items) == 12


def test_a_server_that_is_away_for_a_while_is_waited_for(site: Site) -> None:
    site.server(rate=1000.0, patience=100.0)
    failing = iter([503, 429, 500])

    def bend(handler: Handler) -> bool:
        status = next(failing, None)
        if status is not None:
            handler.answer(status, b"", "text/plain", Retry_After="3")
        return status is not None

    site.pacs.bend = bend
    assert len(site.pull().instances) == 12
    assert [pause for pause in site.waited if pause == 3] == [3, 3, 3]


def test_a_pull_ends_where_a_run_may_not_change(site: Site) -> None:
    with pytest.raises(StorageError, match="medveil-site pull"):
        site.open()
    site.pull()
    before = site.open().identity()
    digests = contents_of(site.open(), range(12))
    site.pacs.add(image(12))
    assert site.open().identity() == before
    assert contents_of(site.open(), range(12)) == digests
    with pytest.raises(DataError, match="by another query"):
        site.open(query=QueryConfig(modality="DX"))
    site.pull(query=QueryConfig(modality="DX"))
    assert site.open(query=QueryConfig(modality="DX")).identity() == before


def test_no_key_no_images(site: Site) -> None:
    site.pull()
    plain = Documents.of(site.folder / "own", SimulatedKey(0, "site"))
    for kept in ((), (plain,)):
        with pytest.raises(ConfigError, match="dicomweb"):
            open_source(site.config(), kept_in=kept)


def test_plain_files_where_they_are_asked_for(site: Site) -> None:
    made = site.pull()
    write_plain(site.pulled(), made, site.folder / "plain")
    with (site.folder / "plain" / "instances.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [dcmread(site.folder / "plain" / row["path"]).SOPInstanceUID for row in rows] == [
        r["instance"] for r in rows
    ]


# -- who is let in, and where to ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["token", "login"])
def test_who_is_let_in(site: Site, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, told = {"token": ("s3cret", "Bearer s3cret"), "login": ("u:p", "Basic dTpw")}[setting]
    site.pacs.authorization = told
    assert "401" in str(refused(site, PacsError, "let this site in"))
    (site.folder / "secret").write_text(f"{secret}\n")
    site.server(rate=1000.0, **{setting: "secret"})
    (site.folder / "secret").chmod(0o644)
    refused(site, KeyMaterialError, "others than its owner")
    (site.folder / "secret").chmod(0o600)
    assert len(site.pull().instances) == 12
    # A systemd credential, whose mode is systemd's.
    site.server(rate=1000.0, **{setting: "credential:pacs"})
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    refused(site, ConfigError, "systemd gave this process none")
    (site.folder / "creds").mkdir()
    (site.folder / "secret").rename(site.folder / "creds" / "pacs")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(site.folder / "creds"))
    assert len(site.pull().instances) == 12


def test_a_secret_is_never_shown(site: Site) -> None:
    site.server(token="eyJhbGciOi-the-token-itself")
    assert "the-token" not in str(refused(site, ConfigError, "names no file"))
    site.file.write_text("url: https://me:hunter2@pacs.example/x\n")
    assert "hunter2" not in str(refused(site, ConfigError, "no address"))
    site.file.write_text("url: https://pacs.example/x\npassword: hunter2\n")
    assert "hunter2" not in str(refused(site, ConfigError, "password"))
    site.file.write_text("url: http://pacs.example/x\n")
    refused(site, ConfigError, "in clear")


def test_redirects_take_nothing_elsewhere(site: Site) -> None:
    (site.folder / "secret").write_text("s3cret")
    (site.folder / "secret").chmod(0o600)
    site.server(rate=1000.0, token="secret")
    with serving([image(i) for i in range(12)]) as other:
        site.pacs.bend = lambda handler: bool(
            handler.answer(302, b"", "text/plain", Location=other.url + "/instances") or True
        )
        refused(site, PacsError, "elsewhere")
        assert not other.asked


def pem(path: Path, certificate: x509.Certificate, key: Any = None) -> Path:
    packed = b"" if key is None else key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(packed + certificate.public_bytes(Encoding.PEM))
    path.chmod(0o600)
    return path


def client(path: Path) -> Path:
    """A certificate of a client that signed itself, with its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    return pem(path, made.sign(key, hashes.SHA256()), key)


def test_tls_by_the_authority_and_the_certificate_that_are_named(tmp_path: Path) -> None:
    authority, other = make_authority("pacs"), make_authority("other")
    for name, issued in (("right", authority), ("other", other)):
        pem(tmp_path / f"{name}.pem", issued.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server = issue(authority, ["127.0.0.1"])
    context.load_cert_chain(pem(tmp_path / "server.pem", server.certificate, server.key))
    own = client(tmp_path / "own.pem")
    with serving([image(i) for i in range(4)], tls=context) as pacs:
        site = Site(tmp_path, pacs)
        site.labels("accession", {"A0": "a", "A1": "b"})
        refused(site, PacsError, "TLS failed")
        site.server(rate=1000.0, ca="other.pem")
        refused(site, PacsError, "TLS failed")
        site.server(rate=1000.0, ca="right.pem")
        assert len(site.pull().instances) == 4
        asked = len(pacs.asked)
        site.server(rate=1000.0, ca="right.pem", patience=0.0)
        site.file.write_text(site.file.read_text().replace("127.0.0.1", "localhost"))
        refused(site, PacsError, "TLS failed")
        # From now on the server wants a certificate.
        context.load_verify_locations(own)
        context.verify_mode = ssl.CERT_REQUIRED
        site.server(rate=1000.0, ca="right.pem", patience=0.0)
        refused(site, PacsError, "TLS failed|out of reach")
        assert len(pacs.asked) == asked
        site.server(rate=1000.0, ca="right.pem", certificate="own.pem")
        assert len(site.pull().instances) == 4


def test_the_body_of_a_redirect_is_not_read(site: Site) -> None:
    def bend(handler: Handler) -> bool:
        handler.answer(302, b"", "text/plain", Location="/elsewhere", Content_Length=str(10**12))
        return True

    site.pacs.bend = bend
    refused(site, PacsError, "elsewhere")


def test_a_private_key_that_others_may_read(site: Site) -> None:
    for name in ("own.pem", "key.pem"):
        (site.folder / name).write_text("no certificate")
        (site.folder / name).chmod(0o640)
    for named in ({"certificate": "own.pem"}, {"certificate": "own.pem", "certificate_key": "key.pem"}):
        site.server(**named)
        refused(site, KeyMaterialError, "others than its owner")
    site.server(certificate="gone.pem")
    refused(site, ConfigError, "no file")
    assert not site.pacs.asked


def test_nothing_is_taken_from_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    (site.folder / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(site.folder / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    site.pull()
    assert not [each for each in site.pacs.headers if "Authorization" in each]


# -- servers that are not as they should be ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"--a-boundary\r\nContent-Type: application/dicom\r\n\r\nDATA", "no whole multipart"),
        (b"", "no whole multipart"),
        (b"--another\r\n\r\nDATA\r\n--another--", "no whole multipart"),
        (b"--a-boundary--", "no whole multipart"),
        (b"--a-boundary\r\nx: " + b"y" * 9000 + b"\r\n\r\nDATA\r\n--a-boundary--", "no whole multipart"),
        (b"--a-boundary\r\nContent-Type: text/html\r\n\r\nDATA\r\n--a-boundary--", "something else than DICOM"),
        (multipart(b"DATA")[:-18] + b"\r\n" + multipart(b"DATA"), "several instances"),
    ],
)
def test_broken_multipart(data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        one_part(KIND, data)


def test_whole_multipart() -> None:
    for data in (b"", b"DATA", b"\r\n\r\n--", bytes(range(256))):
        assert one_part(KIND, multipart(data)) == data
        assert one_part(KIND, b"preamble\r\n" + multipart(data) + b"epilogue") == data
    assert one_part("application/dicom", b"DATA") == b"DATA"
    longer = "x" * 73
    data = multipart(b"DATA").replace(b"a-boundary", longer.encode())
    assert one_part(f"multipart/related; boundary={longer}", data) == b"DATA"
    for kind in ("multipart/related", "text/html; boundary=a-boundary", f"{KIND}{'x' * 300}", "", "\0"):
        with pytest.raises(DataError):
            one_part(kind, multipart(b"DATA"))


def test_one_bad_instance_is_left_out_by_name_and_many_end_it(site: Site) -> None:
    whole = site.pacs.multipart
    bad = site.pacs.held["1.2.3.1.1.3"][1]
    site.pacs.multipart = lambda data: whole(data)[: -30 if data == bad else None]
    made = site.pull()
    assert len(made.instances) == 11
    assert [(each.path, each.reason.split(" is ")[0]) for each in made.skipped] == [
        ("1.2.3.1.1.3", "the server's answer")
    ]
    assert len(site.open().items) == 11
    site.pacs.multipart = lambda data: whole(data)[:-30]
    site.pacs.held = Pacs([image(i) for i in range(20, 32)]).held
    site.labels("accession", {f"A{i}": "a" for i in range(10, 16)})
    refused(site, PacsError, "fails to give 5 instances one after another")


def lie(length: int | None, body: bytes) -> Any:
    def bend(handler: Handler) -> bool:
        if "/series/" not in handler.path:
            return False
        headers = {} if length is None else {"Content_Length": str(length)}
        handler.answer(200, body, KIND, **headers)
        handler.close_connection = True
        return True

    return bend


@pytest.mark.parametrize(("length", "words"), [(10**12, "1000000000000 bytes"), (10**5, "cut short"), (40, "no whole")])
def test_lies_about_sizes(site: Site, length: int, words: str) -> None:
    site.pacs.bend = lie(length, multipart(site.pacs.held["1.2.3.1.1.3"][1]))
    assert words in str(refused(site, PacsError, "one after another"))


def test_a_connection_that_ended_as_it_was_taken_is_made_anew_at_once(site: Site) -> None:
    broken: list[str] = []

    def bend(handler: Handler) -> bool:
        # A connection each time: this one is over before it was answered.
        if broken.count(handler.path) == most:
            return False
        broken.append(handler.path)
        handler.close_connection = True
        return True

    site.pacs.bend, most = bend, 2
    refused(site, PacsError, r"out of reach: .*\(no connection\)")
    assert len(broken) == 2
    broken, most = [], 1
    assert len(site.pull().instances) == 12
    assert len(broken) > 12


def test_an_endless_answer_is_cut(site: Site) -> None:
    site.server(rate=1000.0, most_megabytes=0.01)
    sent = []

    def bend(handler: Handler) -> bool:
        if "/series/" not in handler.path:
            return False
        handler.send_response(200)
        handler.send_header("Content-Type", KIND)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        try:
            for _ in range(10_000):
                handler.wfile.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                sent.append(1)
        except OSError:
            handler.close_connection = True
        return True

    site.pacs.bend = bend
    refused(site, PacsError, "larger than the")
    assert len(sent) < 5_000


def test_packed_answers_are_not_unpacked(site: Site) -> None:
    site.pacs.bend = lambda handler: bool(
        handler.answer(200, b"x", "application/json", Content_Encoding="gzip") or True
    )
    refused(site, PacsError, "packs its answers")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"[" * 500 + b"]" * 500, "nested deeper"),
        (b"{}", "finds no image"),
        (b'"x"', "no list"),
        (b"[1, 2]", "no list"),
        (b"[{", "is not JSON"),
        (b"[]", "finds no image"),
    ],
)
def test_answers_to_a_query_that_are_none(site: Site, answer: bytes, words: str) -> None:
    site.pacs.bend = lambda handler: bool(handler.answer(200, answer, "application/dicom+json") or True)
    refused(site, MedVeilError, words)


@pytest.mark.parametrize(
    "uid", ["../../../etc/passwd", "1.2.3/../../x", "1.2\n3", "", "1" * 65, "1..2", "%2e%2e", "1.2?x=1"]
)
def test_names_that_lead_elsewhere_are_never_asked_for(site: Site, uid: str) -> None:
    odd = [entry({**site.pacs.held["1.2.3.0.1.0"][0], name: uid}) for name in ("StudyInstanceUID", "SOPInstanceUID")]

    def bend(handler: Handler) -> bool:
        if "/instances?" not in handler.path or "offset=0" not in handler.path:
            return False
        handler.json([*odd, *(entry(texts) for texts, _ in site.pacs.held.values())])
        return True

    site.pacs.bend = bend
    made = site.pull(labels="none")
    assert len(made.instances) == 12
    assert sum("is no UID" in each.reason for each in made.skipped) == 2
    assert not [path for path in site.pacs.asked if ".." in path or "passwd" in path]


def test_more_instances_than_are_taken(site: Site) -> None:
    site.server(rate=1000.0, most_instances=11)
    refused(site, DataError, "more than 11 instances")
    assert not site.pacs.retrieved()
    site.server(rate=1000.0, most_gigabytes=0.002)
    site.pacs.held = Pacs([image(i, side=600) for i in range(12)]).held
    refused(site, DataError, "more than 0.002 GB")


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.faults)])
def test_thousands_of_instances_are_counted_page_by_page(site: Site, count: int) -> None:
    texts = site.pacs.held["1.2.3.0.1.0"][0]
    every = [{**texts, "SOPInstanceUID": f"1.2.9.{i}"} for i in range(count)]
    site.pacs.found = lambda query: every  # type: ignore[method-assign]
    site.server(rate=1000.0, page=count // 5)
    with site.session() as session:
        found, _ = find(cohort_of(site.config(labels="none"), read_server(site.file)), session)
    assert len(found) == count
    assert len(site.pacs.asked) == 6


def test_a_server_that_gives_one_page_for_ever(site: Site) -> None:
    texts = list(site.pacs.held.values())[:5]

    def bend(handler: Handler) -> bool:
        handler.json([entry(each) for each, _ in texts])
        return True

    site.pacs.bend = bend
    refused(site, PacsError, "the same instances again", labels="none")


def test_a_server_that_heeds_no_filter_or_sends_others(site: Site) -> None:
    site.pacs.found = lambda query: [texts for texts, _ in site.pacs.held.values()]  # type: ignore[method-assign]
    made = site.pull(labels="none")
    assert len(made.instances) == 12
    assert {each.path for each in made.skipped} == {"1.2.3.45.1.90", "1.2.3.91.1.91"}
    # What its answers leave out, the instances themselves say.
    for texts, _ in site.pacs.held.values():
        texts["Modality"] = texts["BodyPartExamined"] = ""
    site.pulled().drop(made.instances[0])
    made = site.pull(labels="none")
    assert len(made.instances) == 12
    assert sorted(each.reason.split(";")[0] for each in made.skipped) == [
        "its BodyPartExamined is not what the query asks for",
        "its Modality is not what the query asks for",
    ]
    one, two = "1.2.3.0.1.0", "1.2.3.0.1.1"
    site.pacs.held[one] = (site.pacs.held[one][0], site.pacs.held[two][1])
    site.pulled().drop(next(each for each in made.instances if each.uid == one))
    made = site.pull(labels="none")
    assert "is another instance than was asked for" in {each.path: each.reason for each in made.skipped}[one]


def test_what_is_no_image_is_left_out_in_the_words_of_every_door(site: Site) -> None:
    report = image(3, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.22")
    site.pacs.held["1.2.3.1.1.3"] = (site.pacs.held["1.2.3.1.1.3"][0], as_bytes(report))
    site.pacs.held["1.2.3.1.1.2"] = (site.pacs.held["1.2.3.1.1.2"][0], b"no DICOM at all")
    made = site.pull()
    reasons = {each.path: each.reason for each in made.skipped}
    assert set(reasons) == {"1.2.3.1.1.2", "1.2.3.1.1.3"}
    assert "no DICOM" in reasons["1.2.3.1.1.2"]
    assert len(made.instances) == 10


def test_changed_files_are_refused(site: Site) -> None:
    site.pull()
    source = site.open()
    path = next(path for path in (site.folder / "own").rglob("*.dcm.sealed"))
    whole = path.read_bytes()
    data = bytearray(whole)
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DataError):
        for i in range(len(source)):
            source.read(i)
    path.write_bytes(whole)
    pulled = source._pulled
    listed = pulled.read()
    assert listed is not None
    (mine,) = [each for each in listed.instances if pulled.path(each) == path]
    dicom = pulled.data(mine)
    pulled.keep(mine, dicom + b"of before")
    with pytest.raises(IntegrityError, match="is another file than the list names; pull it again"):
        pulled.data(mine)
    path.unlink()
    path.with_suffix("").write_bytes(dicom)
    with pytest.raises(StorageError, match="no such file"):
        pulled.data(mine)
    # A list that anybody can write would say which images there are, and with which labels.
    place = pulled.folder / LIST
    place.write_bytes(pulled._documents.read_bytes(str(place.relative_to(pulled._documents.folder))))
    place.with_name(f"{LIST}.sealed").unlink()
    assert pulled.read() is None


def test_requests_are_paced(site: Site) -> None:
    site.server(rate=4.0)
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with PacsSession(read_server(site.file), sleep=sleep, clock=lambda: now[0]) as session:
        find(cohort_of(site.config(labels="none"), read_server(site.file)), session)
        assert session.requests >= 2
        assert now[0] == pytest.approx((session.requests - 1) / 4)


# -- queries and tables ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"query": QueryConfig(), "labels": "none"}, "everything"),
        ({"query": QueryConfig(modality="dx; x")}, "code string"),
        ({"query": QueryConfig(dates="2024")}, "no dates"),
        ({"query": QueryConfig(dates="20240201-20240101")}, "no dates"),
        ({"query": QueryConfig(dates="-")}, "no dates"),
        ({"query": QueryConfig(series_description="a\\b")}, "no description"),
        ({"labels": None}, "not set"),
        ({"labels": "sr"}, "codes"),
        ({"labels": "nowhere.csv"}, "no such labels file"),
    ],
)
def test_queries_that_are_none(site: Site, settings: dict[str, Any], words: str) -> None:
    refused(site, MedVeilError, words, **settings)
    assert not site.pacs.asked


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("accession,label\nA*,a\n", "no AccessionNumber"),
        ("accession,label\nA1,a\nA1,b\n", "are of one accession"),
        ("accession,label\nA1,\n", "has no label"),
        ("study,label\n../x,a\n", "no StudyInstanceUID"),
        ("study,accession,label\n1.2,A1,a\n", "several of"),
        ("path,label\na.dcm,a\n", "none of"),
        ("accession\nA1\n", "no column 'label'"),
    ],
)
def test_tables_that_are_none(site: Site, text: str, words: str) -> None:
    (site.folder / "labels.csv").write_text(text)
    refused(site, DataError, words)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (QueryConfig(dates="20240101-20240131"), 14),
        (QueryConfig(dates="-20231231"), 0),
        (QueryConfig(series_description="chest*"), 14),
        (QueryConfig(series_description="[c]hest*"), 0),
        (QueryConfig(modality="CT"), 1),
    ],
)
def test_what_fits_a_query(site: Site, query: QueryConfig, found: int) -> None:
    texts = [texts for texts, _ in site.pacs.held.values()]
    assert sum(not query.misses(lambda name, each=each: each.get(name, ""), strict=True) for each in texts) == found


def test_counts_of_few_are_not_shown(site: Site) -> None:
    site.labels("accession", {f"A{i}": "b" if i else "a" for i in range(6)})
    cohort = cohort_of(site.config(), read_server(site.file))
    with site.session() as session:
        found, skipped = find(cohort, session)
    counts = counts_of(found, skipped, cohort.labels, smallest=5)
    assert (counts["images"], counts["studies"], counts["patients"]) == (12, 6, 6)
    # The two of 'a' follow from the whole and the ten of 'b'.
    assert counts["by"]["label"] == {"a": None, "b": None}
    assert counts["by"]["modality"] == {"DX": 12}
    assert counts_of(found[:4], [], None, smallest=5)["images"] is None
    # Many images of one patient are of few all the same, also where the server names none but one study.
    for named in ({"PatientID": "P1"}, {"PatientID": ""}):
        of_one = [each._replace(study="1.2", texts={**each.texts, **named}) for each in found]
        alone = counts_of(of_one, [], cohort.labels, smallest=5)
        assert [alone[name] for name in ("images", "series", "studies", "patients")] == [None] * 4
        assert set(alone["by"]["modality"].values()) == set(alone["by"]["label"].values()) == {None}
    told = table_of(counts) + json.dumps(counts)
    assert not [text for text in ("A1", "P1", "1.2.3", "Doe") if text in told]


def test_the_list_of_the_most_instances_is_read_again() -> None:
    uids = dict.fromkeys(("uid", "study", "series"), "1." + "2" * 62)
    texts = dict.fromkeys(("name", "patient", "accession", "institution", "sha256", "label"), "x" * 64)
    longest = dataclasses.asdict(Instance(**uids, **texts, size=10**12))
    assert MOST * len(json_text({"instances": [longest]})) < DOCUMENT.length
    assert MOST * len(longest) < DOCUMENT.values


def test_a_server_file_says_what_is_wrong(tmp_path: Path) -> None:
    for settings in (
        {"rate": 0},
        {"page": 0},
        {"most_megabytes": -1},
        {"most_instances": MOST + 1},
        {"login": "a", "token": "b"},
        {"certificate_key": "k"},
    ):
        with pytest.raises(ConfigError):
            dataclasses.replace(ServerConfig(url="https://pacs.example"), **settings).check(where=tmp_path)
    for url in ("", "ftp://x", "https://", "https://x:port", "https://x/?a=b", "https://x/#a", "//x"):
        with pytest.raises(ConfigError, match="no address"):
            ServerConfig(url=url).check(where=tmp_path)


def test_no_link_of_a_dataset_is_followed(site: Site) -> None:
    """A retrieve URL of an answer goes elsewhere: it is passed over."""
    with serving() as other:
        real = site.pacs.found

        def found(query: dict[str, str]) -> list[dict[str, str]]:
            return [{**texts, "RetrieveURL": f"{other.url}/x"} for texts in real(query)]

        site.pacs.found = found  # type: ignore[method-assign]
        assert len(site.pull().instances) == 12
        assert not other.asked
