"""The installed MedVeil as a Flower app: what a server submits, and what a site approves by its hash.

The bundle holds the Python files of five packages, the digests of everything else that lies in them (kits, defaults,
libraries, whatever Flower would leave out), and a project file that says the same everywhere. So two machines with the
same MedVeil make bundles of the same content, and no file that can run lies outside the hash (`medveil.installed` sees
to what Python compiled). Their bytes, and with them the hash, also depend on the zlib that packed them: a site that
finds another hash can still see that no file differs (`differing`).
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import tomli_w

from medveil.bounded import SETTINGS, parse_json
from medveil.contract import RUN_KEY, SERVER_KEY
from medveil.errors import FormatError, IntegrityError
from medveil.files import json_text, sha256_file, storage_error
from medveil.flower_build import build_fab
from medveil.stamps import Stamp, are_settled, stamp
from medveil.versions import medveil_version

PACKAGES = ("medveil", "crypto", "models", "fl_client", "fl_server")
ROOT = Path(__file__).resolve().parents[1]
"""Where the packages are installed."""
_PROJECT = "pyproject.toml"
_INFO = ".info/"
_OTHERS = "others.json"
_OWN = (_PROJECT, _OTHERS)
_CACHE = "__pycache__"
# What Python compiled, also half written; without the tag of an interpreter it could be imported by its name.
_COMPILED = re.compile(r".+\.[a-z]+-[0-9]+(\.opt-[a-z0-9]+)?\.pyc(\.[0-9]+)?")
_LARGEST = 64 * 2**20
_built: dict[tuple[tuple[str, Stamp], ...], bytes] = {}


def stage(folder: Path) -> Path:
    """Lay out the installed MedVeil as a Flower app in a folder of its own, and return it.

    Flower builds from a folder, and takes what else lies there: hence a new one, without checkout, tests or data.

    Raises
    ------
    StorageError
        The disk refuses.
    """
    names = installed()
    bundled = {name: (ROOT / name).read_bytes() for name in names if is_bundled(name)}
    others = {name: _digest(name) for name in names if name not in bundled}
    made = {_OTHERS: json_text(others).encode(), _PROJECT: tomli_w.dumps(_project()).encode()}
    try:
        # Not `medveil.files`: nobody counts on this folder after a crash, and syncing hundreds of files takes seconds.
        for name, data in {**bundled, **made}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    except OSError as error:
        raise storage_error(error, folder, "lay out the app") from error
    return folder


def installed() -> list[str]:
    """Every file of the packages, as paths relative to where they are installed, sorted.

    Not what Python compiled of a source beside it, and no hidden file: neither has a name that can be imported.

    Raises
    ------
    IntegrityError
        A folder of the packages is a link: what lies behind it could change unseen.
    """
    return sorted(name for package in PACKAGES for name in _files(package))


def is_bundled(name: str) -> bool:
    """Whether Flower bundles a file of this name; of the others the bundle holds the digest."""
    *folders, last = name.split("/")
    test = last.startswith("test_") or last.endswith("_test.py")
    return last.endswith(".py") and not test and _CACHE not in folders


def installed_fab() -> bytes:
    """The bundle of the installed MedVeil, as Flower builds it; it is built again once a file changed."""
    stamps = tuple((name, stamp(f"{ROOT}/{name}")) for name in installed())
    if stamps in _built:
        return _built[stamps]
    with tempfile.TemporaryDirectory(prefix="medveil-fab-") as scratch:
        made = build_fab(stage(Path(scratch) / "medveil"))
    _built.clear()
    if are_settled(each for _, each in stamps):
        _built[stamps] = made
    return made


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
    found = {name: digest for name, digest in _digests(fab) if not name.startswith(_INFO)}
    theirs = _others_in(fab, found) | {name: digest for name, digest in found.items() if name not in _OWN}
    ours = {name: _digest(name) for name in installed()}
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


def _others_in(fab: bytes, found: Mapping[str, str]) -> dict[str, str]:
    """Digests of what the bundle does not hold; none in one of an earlier MedVeil."""
    if _OTHERS not in found:
        return {}
    with zipfile.ZipFile(io.BytesIO(fab)) as archive, archive.open(_OTHERS) as stream:
        document = parse_json(stream.read(SETTINGS.length + 1), where="app bundle")
    if not isinstance(document, dict):
        raise FormatError("lists no files", where="app bundle")
    return {name: str(digest) for name, digest in document.items()}


def _files(package: str) -> Iterator[str]:
    """Names below `ROOT`; as text, since each message to a site asks for some hundreds."""
    for folder, folders, names in os.walk(ROOT / package):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if Path(folder, name).is_symlink():
                cure = "install MedVeil anew: pip install --force-reinstall medveil"
                raise IntegrityError("is a link among the installed code", where=Path(folder, name), cure=cure)
        below = Path(folder).relative_to(ROOT).as_posix()
        cached = Path(folder).name == _CACHE
        for name in names:
            if not name.startswith(".") and not (cached and _COMPILED.fullmatch(name)):
                yield f"{below}/{name}"


def _digest(name: str) -> str:
    return sha256_file(ROOT / name)


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
                    "fab-include": [*(f"{package}/**/*.py" for package in PACKAGES), f"/{_OTHERS}"],
                    "components": {"serverapp": "fl_server.app:app", "clientapp": "fl_client.app:app"},
                    # Flower takes only overrides of keys that are here. There is none for simulated sites.
                    "config": {RUN_KEY: "", SERVER_KEY: ""},
                }
            }
        },
    }
