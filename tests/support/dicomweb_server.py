"""A DICOMweb server in this process, on 127.0.0.1: as the standard has it, and as badly as a test asks for."""

from __future__ import annotations

import io
import json
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

ROOT = "/dicom-web"
BOUNDARY = "a-boundary"
KEYS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID", "AccessionNumber", "StudyDate")
KEYS += ("Modality", "BodyPartExamined", "SeriesDescription")


def image(number: int, *, patient: str | None = None, study: int | None = None, side: int = 24, **more: Any) -> Dataset:
    """A digital radiograph of random pixels; two of a study unless `study` says which."""
    made = Dataset()
    study = number // 2 if study is None else study
    made.SOPClassUID = DigitalXRayImageStorageForPresentation
    made.SOPInstanceUID, made.SeriesInstanceUID = f"1.2.3.{study}.1.{number}", f"1.2.3.{study}.1"
    made.StudyInstanceUID, made.AccessionNumber = f"1.2.3.{study}", f"A{study}"
    made.PatientID = f"P{study}" if patient is None else patient
    made.PatientName, made.StudyDate, made.InstitutionName = "Doe^Jane", "20240115", "St Anna"
    made.Modality, made.BodyPartExamined, made.SeriesDescription = "DX", "CHEST", "Chest PA"
    made.Rows = made.Columns = side
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation, made.SamplesPerPixel = 7, 0, 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.PixelData = np.random.default_rng(number).integers(0, 256, side * side, dtype=np.uint8).tobytes()
    for name, value in more.items():
        setattr(made, name, value)
    return made


def as_bytes(dataset: Dataset) -> bytes:
    """A data set as a file of PS3.10."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


class Pacs:
    """What the server holds, what it was asked, and how it answers.

    Attributes
    ----------
    held : dict of str to (dict of str to str, bytes)
        What it says of an instance, and the instance, by its UID.
    asked : list of str
        Paths with queries, in order.
    authorization : str or None
        What it wants in that header; None lets everybody in.
    bend : callable or None
        Called with the handler before anything else; True where it answered.
    multipart : callable
        Makes the body of an instance.
    stored : list of Dataset
        What was sent to it.
    storing : callable
        Makes the answer to that, of the UIDs of all that it was sent.
    """

    def __init__(self, datasets: Iterable[Dataset]) -> None:
        self.held: dict[str, tuple[dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.authorization: str | None = None
        self.bend: Callable[[Handler], bool] | None = None
        self.multipart: Callable[[bytes], bytes] = multipart
        self.most_in_a_page = 10**6
        self.stored: list[Dataset] = []
        self.storing: Callable[[list[str]], Any] = _all_stored
        self.url = ""
        for each in datasets:
            self.add(each)

    def add(self, dataset: Dataset) -> None:
        """Hold an instance."""
        self.held[str(dataset.SOPInstanceUID)] = ({k: str(dataset.get(k, "")) for k in KEYS}, as_bytes(dataset))

    def retrieved(self) -> list[str]:
        """UIDs of the instances it was asked for, in order."""
        return [path.rsplit("/", 1)[1] for path in self.asked if "/series/" in path]

    def found(self, query: dict[str, str]) -> list[dict[str, str]]:
        """What it has of a query."""
        wanted = {name: value for name, value in query.items() if name in KEYS}
        return [
            texts
            for texts, _ in self.held.values()
            if all(texts[name] == value or _fits(value, texts[name], name) for name, value in wanted.items())
        ]


def multipart(data: bytes) -> bytes:
    """A message of one part."""
    return b"--a-boundary\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n--a-boundary--\r\n"


def entry(texts: dict[str, str]) -> dict[str, Any]:
    """An instance in DICOM JSON."""
    return {f"{tag_for_keyword(k):08X}": {"vr": "LO", "Value": [v]} for k, v in texts.items() if v}


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    pacs: Pacs

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        pacs, parts = self.pacs, urlsplit(self.path)
        pacs.asked.append(self.path)
        pacs.headers.append(dict(self.headers))
        if self._refused() or (pacs.bend is not None and pacs.bend(self)):
            return
        names = parts.path.removeprefix(ROOT).strip("/").split("/")
        if names == ["instances"]:
            query = {name: values[0] for name, values in parse_qs(parts.query).items() if name != "includefield"}
            first, most = int(query.get("offset", 0)), min(int(query.get("limit", 10**6)), pacs.most_in_a_page)
            self.json([entry(texts) for texts in pacs.found(query)[first : first + most]])
        elif len(names) == 6 and names[5] in pacs.held:
            body = pacs.multipart(pacs.held[names[5]][1])
            self.answer(200, body, f'multipart/related; type="application/dicom"; boundary="{BOUNDARY}"')
        else:
            self.answer(404, b"", "text/plain")

    def do_POST(self) -> None:
        self.pacs.asked.append(self.path)
        self.pacs.headers.append(dict(self.headers))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._refused() or (self.pacs.bend is not None and self.pacs.bend(self)):
            return
        mark = self.headers["Content-Type"].split('boundary="')[1].split('"')[0].encode()
        for part in body.split(b"--" + mark)[1:-1]:
            self.pacs.stored.append(dcmread(io.BytesIO(part.split(b"\r\n\r\n", 1)[1])))
        self.json(self.pacs.storing([str(each.SOPInstanceUID) for each in self.pacs.stored]))

    def json(self, document: Any) -> None:
        """Answer with DICOM JSON."""
        self.answer(200, json.dumps(document).encode(), "application/dicom+json")

    def answer(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        """Answer as it should be, but for what headers say."""
        self.send_response(status)
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _refused(self) -> bool:
        wanted = self.pacs.authorization
        if wanted is None or self.headers.get("Authorization") == wanted:
            return False
        self.answer(401, b"", "text/plain")
        return True


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Say nothing of a client that goes away, or that TLS refuses."""


@contextmanager
def serving(datasets: Iterable[Dataset] = (), *, tls: ssl.SSLContext | None = None) -> Iterator[Pacs]:
    """A server of these, for the block; over TLS where its side of it is given."""
    pacs = Pacs(datasets)
    server = _Quiet(("127.0.0.1", 0), type("Own", (Handler,), {"pacs": pacs}))
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    pacs.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}{ROOT}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield pacs
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _all_stored(uids: list[str]) -> Any:
    done = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in uids]
    return {"00081199": {"vr": "SQ", "Value": done}}


def _fits(wanted: str, found: str, name: str) -> bool:
    if name == "StudyDate" and "-" in wanted:
        first, last = wanted.split("-")
        return (first or "0") <= found <= (last or "9")
    return fnmatchcase(found.lower(), wanted.lower())
