"""The installed MedVeil as a Flower app: what a server submits, and what a site approves by its hash.

The bundle holds the Python files of five packages and a project file that says the same everywhere, so two machines
with the same MedVeil make bundles of the same content. Their bytes, and with them the hash, also depend on the zlib
that packed them: a site that finds another hash can still see that no file differs (`differing`).
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import tomli_w

from medveil.contract import RUN_KEY, SERVER_KEY
from medveil.errors import FormatError
from medveil.files import make_folder, write_bytes, write_text
from medveil.flower import build_fab
from medveil.versions import medveil_version

PACKAGES = ("medveil", "crypto", "models", "fl_client", "fl_server")
_ROOT = Path(__file__).resolve().parents[1]
_PROJECT = "pyproject.toml"
_INFO = ".info/"
_LARGEST = 64 * 2**20


def stage(folder: Path) -> Path:
    """Lay out the installed MedVeil as a Flower app in a folder of its own, and return it.

    Flower builds from a folder, and takes what else lies there: hence a new one, without checkout, tests or data.

    Raises
    ------
    StorageError
        The disk refuses.
    """
    for name in installed():
        make_folder((folder / name).parent)
        write_bytes(folder / name, (_ROOT / name).read_bytes())
    write_text(folder / _PROJECT, tomli_w.dumps(_project()))
    return folder


def installed() -> list[str]:
    """The files of the bundle, as paths relative to where the packages are installed, sorted."""
    return sorted(str(path.relative_to(_ROOT)) for package in PACKAGES for path in _sources(_ROOT / package))


def installed_fab() -> bytes:
    """The bundle of the installed MedVeil, as Flower builds it."""
    with tempfile.TemporaryDirectory(prefix="medveil-fab-") as scratch:
        return build_fab(stage(Path(scratch) / "medveil"))


def hash_of(fab: bytes) -> str:
    """SHA-256 of a bundle as 64 hex digits: what Flower and a site know it by."""
    return hashlib.sha256(fab).hexdigest()


def differing(fab: bytes) -> list[str]:
    """The files in which a bundle differs from the installed MedVeil: changed, missing or added; sorted.

    Nothing of the bundle is written or run.

    Raises
    ------
    FormatError
        It is not a bundle, or unpacks to more than 64 MiB.
    """
    theirs = {name: digest for name, digest in _digests(fab) if not name.startswith(_INFO) and name != _PROJECT}
    ours = {name: hashlib.sha256((_ROOT / name).read_bytes()).hexdigest() for name in installed()}
    return sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))


def _digests(fab: bytes) -> Iterator[tuple[str, str]]:
    try:
        with zipfile.ZipFile(io.BytesIO(fab)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST:
                raise FormatError("unpacks to more than 64 MiB", where="app bundle")
            for entry in archive.infolist():
                # The size an entry claims is checked here, where it is read.
                with archive.open(entry) as stream:
                    yield entry.filename, hashlib.sha256(stream.read(_LARGEST)).hexdigest()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, OSError, EOFError):
        raise FormatError("is not a Flower app bundle", where="app bundle") from None


def _sources(package: Path) -> Iterator[Path]:
    for path in package.rglob("*.py"):
        if "__pycache__" not in path.parts:
            yield path


def _project() -> dict[str, object]:
    version = medveil_version()
    return {
        "project": {
            "name": "medveil",
            "version": version if version != "unknown" else "0",
            "description": "Federated learning on hidden medical images",
            "license": "Apache-2.0",
        },
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "medveil",
                    "fab-include": [f"{package}/**/*.py" for package in PACKAGES],
                    "components": {"serverapp": "fl_server.app:app", "clientapp": "fl_client.app:app"},
                    # Flower takes only overrides of keys that are here. There is none for simulated sites.
                    "config": {RUN_KEY: "", SERVER_KEY: ""},
                }
            }
        },
    }
