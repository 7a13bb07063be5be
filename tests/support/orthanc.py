"""Orthanc, a real PACS with DICOMweb, on 127.0.0.1: where it is unpacked (`make orthanc`) or installed."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

UNPACKED = Path(os.environ.get("MEDVEIL_ORTHANC", Path(__file__).resolve().parents[2] / "build" / "orthanc"))
"""Where `make orthanc` unpacks Debian's packages."""
WHY = "Orthanc is not here: 'make orthanc' unpacks it below build/orthanc (Debian, no root)"
_PLUGIN = "libOrthancDicomWeb.so*"
_STARTS_S = 60.0


def program() -> tuple[Path, Path] | None:
    """Orthanc and its plugin for DICOMweb; None where one of them is missing."""
    found = shutil.which("Orthanc")
    programs = [UNPACKED / "usr/sbin/Orthanc", *([Path(found)] if found else [])]
    places = [UNPACKED / "usr/lib/orthanc", Path("/usr/lib/orthanc"), Path("/usr/share/orthanc/plugins")]
    plugins = [each for place in places for each in sorted(place.glob(_PLUGIN)) if each.is_file()]
    return next(((each, plugins[0]) for each in programs if each.is_file() and plugins), None)


def free_port() -> int:
    """A port nobody has right now."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


class Orthanc:
    """An Orthanc whose images lie in a folder; it can be killed and started again.

    Parameters
    ----------
    folder
        Its own.
    settings
        Of its configuration, beyond what it needs.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        found = program()
        assert found is not None, WHY
        self._program, plugin = found
        self.folder, self.port = folder, free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "orthanc.json"
        document = {
            "Name": "test",
            "StorageDirectory": str(folder / "images"),
            "IndexDirectory": str(folder / "images"),
            "Plugins": [str(plugin)],
            "HttpPort": self.port,
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **settings,
        }
        self._config.write_text(json.dumps(document))
        self._scheme = "https" if settings.get("SslEnabled") else "http"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where its DICOMweb begins."""
        return f"{self._scheme}://127.0.0.1:{self.port}/dicom-web"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        libraries = sorted({str(path.parent) for path in UNPACKED.rglob("*.so*")})
        environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries), "LC_ALL": "C.UTF-8"}
        dictionaries = sorted(UNPACKED.glob("usr/share/libdcmtk*/dicom.dic"))
        if dictionaries:
            environment["DCMDICTPATH"] = str(dictionaries[0])
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._program), str(self._config)], stdout=log, stderr=log, env=environment, cwd=self.folder
            )
        end = time.monotonic() + _STARTS_S
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                return
            time.sleep(0.1)
        raise AssertionError(f"Orthanc does not start: {(self.folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(30)
            self._process = None

    def put(self, data: bytes) -> None:
        """Give it an instance, by its own interface and not the one under test."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/instances", data=data, method="POST")
        urllib.request.urlopen(request, timeout=30).close()

    def instances(self) -> list[str]:
        """Its own names of what it holds."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/instances", timeout=30) as answer:
            found: list[str] = json.load(answer)
        return found

    def file(self, name: str) -> bytes:
        """An instance by its own name."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/instances/{name}/file", timeout=30) as answer:
            return bytes(answer.read())


def _serve(folder: Path) -> None:
    """Draw phantoms, give them to an Orthanc, write a site's two files, and serve until interrupted."""
    from pydicom import dcmread  # noqa: PLC0415

    from fl_client.data.config import PhantomConfig  # noqa: PLC0415
    from fl_client.data.phantoms import draw_phantoms  # noqa: PLC0415

    folder.mkdir(parents=True)
    draw_phantoms(folder / "phantoms", PhantomConfig(sites=1, images=60, classes=2))
    with (folder / "phantoms" / "labels.csv").open() as stream:
        rows = [(folder / "phantoms" / row["path"], row["label"]) for row in csv.DictReader(stream)]
    made = Orthanc(folder.resolve() / "orthanc")
    made.start()
    try:
        for path, _ in rows:
            made.put(path.read_bytes())
        uids = [(dcmread(path, stop_before_pixels=True).SOPInstanceUID, label) for path, label in rows]
        with (folder / "labels.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([("instance", "label"), *uids])
        (folder / "pacs.yaml").write_text(f"url: {made.url}\n")
        modality = dcmread(rows[0][0], stop_before_pixels=True).Modality
        print(f"{made.url} holds {len(rows)} images of modality {modality}; Ctrl-C ends it", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        made.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An Orthanc full of phantoms, to try MedVeil with.")
    parser.add_argument("--phantoms", type=Path, required=True, metavar="DIR", help="new folder for all of it")
    _serve(parser.parse_args().phantoms)
